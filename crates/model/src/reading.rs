//! Which states of a batch are read.

use std::ops::Range;

use arable_tensor::{Sequences, Tape, Var};

use crate::config::Pooling;

/// Which states of a batch are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// One vector of each sequence: `[num_sequences, hidden]`.
    Pooled(Pooling),
    /// Rows, so many side by side: `[rows / so many, so many * hidden]`. Those of a sequence stand together, sequences in order.
    Rows(Vec<usize>, usize),
}

impl Reading {
    /// What is read of the rows `rows` of the batch, whole sequences; rows count from the first of them.
    #[must_use]
    pub fn some(&self, rows: &Range<usize>) -> Self {
        match self {
            Self::Pooled(pooling) => Self::Pooled(*pooling),
            Self::Rows(all, per_output) => {
                let inside = all.iter().filter(|row| rows.contains(row)).map(|row| row - rows.start);
                Self::Rows(inside.collect(), *per_output)
            }
        }
    }

    /// Reads from the states that `states(tape, kept)` computes: those of the rows `kept`, in ascending order, or of all rows.
    pub(crate) fn read(
        &self,
        tape: &mut Tape<'_>,
        sequences: &Sequences,
        states: impl FnOnce(&mut Tape<'_>, Option<&[usize]>) -> Var,
    ) -> Var {
        let (rows, per_output) = match self {
            Self::Pooled(Pooling::Mean) => {
                let states = states(tape, None);
                return tape.segment_mean(states, sequences);
            }
            Self::Pooled(Pooling::Cls) => (sequences.iter().map(|rows| rows.start).collect(), 1),
            Self::Pooled(Pooling::Last) => (sequences.iter().map(|rows| rows.end - 1).collect(), 1),
            Self::Rows(rows, per_output) => (rows.clone(), *per_output),
        };
        let mut kept = rows.clone();
        kept.sort_unstable();
        kept.dedup();
        let states = states(tape, Some(&kept));
        if per_output == 1 && kept == rows {
            return states;
        }
        let place = |row: &usize| kept.binary_search(row).expect("every row is kept");
        tape.gather_rows(states, rows.iter().map(place).collect::<Vec<_>>(), per_output)
    }
}
