//! Which states of a batch are read.

use std::ops::Range;

use arable_tensor::{RowIndex, Tape, Var};

use crate::batch::Batch;
use crate::config::Pooling;

/// Which states of a batch are read.
#[derive(Clone, Debug)]
pub struct Reading(Read);

#[derive(Clone, Debug)]
enum Read {
    /// The mean of each sequence: `[num_sequences, hidden]`.
    Means,
    /// The first or last row of each sequence, `[num_sequences, hidden]`.
    Ends(Pooling, RowIndex),
    Rows(Rows),
}

/// Rows, so many side by side: `[rows / so many, so many * hidden]`.
#[derive(Clone, Debug)]
struct Rows {
    rows: Vec<usize>,
    per_output: usize,
    /// Each once, in ascending order.
    kept: RowIndex,
    /// Which of those each row is; `None` where that is what is read.
    places: Option<RowIndex>,
}

impl Reading {
    /// One vector of each sequence: `[num_sequences, hidden]`.
    pub fn pooled(pooling: Pooling, batch: &Batch) -> Self {
        let rows = |row: fn(Range<usize>) -> usize| {
            Read::Ends(pooling, RowIndex::new(batch.sequences().iter().map(row).collect(), batch.blocks()))
        };
        Self(match pooling {
            Pooling::Mean => Read::Means,
            Pooling::Cls => rows(|rows| rows.start),
            Pooling::Last => rows(|rows| rows.end - 1),
        })
    }

    /// Rows, `per_output` of them side by side: `[rows / per_output, per_output * hidden]`. Those of a sequence stand together,
    /// sequences in order.
    pub fn rows(rows: Vec<usize>, per_output: usize, batch: &Batch) -> Self {
        let mut kept = rows.clone();
        kept.sort_unstable();
        kept.dedup();
        let place = |row: &usize| kept.binary_search(row).expect("every row is kept");
        let places: Option<Vec<usize>> = (per_output > 1 || kept != rows).then(|| rows.iter().map(place).collect());
        let kept = RowIndex::new(kept, batch.blocks());
        let places = places.map(|places| RowIndex::new(places, &kept.blocks()));
        Self(Read::Rows(Rows { rows, per_output, kept, places }))
    }

    /// What is read of `part`, the sequences that lie in the rows `rows` of the batch.
    #[must_use]
    pub fn some(&self, rows: &Range<usize>, part: &Batch) -> Self {
        match &self.0 {
            Read::Means => Self::pooled(Pooling::Mean, part),
            Read::Ends(pooling, _) => Self::pooled(*pooling, part),
            Read::Rows(Rows { rows: all, per_output, .. }) => {
                let inside = all.iter().filter(|row| rows.contains(row)).map(|row| row - rows.start);
                Self::rows(inside.collect(), *per_output, part)
            }
        }
    }

    /// Reads from the states that `states(tape, kept)` computes: those of the rows `kept`, in ascending order, or of all rows.
    pub(crate) fn read(
        &self,
        tape: &mut Tape<'_>,
        batch: &Batch,
        states: impl FnOnce(&mut Tape<'_>, Option<&RowIndex>) -> Var,
    ) -> Var {
        match &self.0 {
            Read::Means => {
                let states = states(tape, None);
                tape.segment_mean(states, batch.sequences())
            }
            Read::Ends(_, rows) => states(tape, Some(rows)),
            Read::Rows(Rows { per_output, kept, places, .. }) => {
                let states = states(tape, Some(kept));
                places.as_ref().map_or(states, |places| tape.gather_rows(states, places, *per_output))
            }
        }
    }
}
