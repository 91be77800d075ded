//! What a model reads.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arable_tensor::{RowIndex, Sequences};

/// Tokens in a block of sequences, at most: enough for products to run at full speed, and few enough for a part of a
/// batch that is one block to need little memory.
const TOKENS_PER_BLOCK: usize = 2048;

/// The tokens of a batch, each once in a block of rows.
#[derive(Clone, Debug)]
pub(crate) struct Distinct {
    /// Ids, block after block.
    pub ids: Arc<[u32]>,
    /// How many of them each block has.
    pub blocks: Sequences,
    /// Which of them each row of the batch is.
    pub rows: RowIndex,
}

/// Packed sequences of token ids, special ones included. Copies share what they know.
#[derive(Clone, Debug)]
pub struct Batch {
    ids: Arc<[u32]>,
    types: Arc<[u32]>,
    sequences: Sequences,
    blocks: Sequences,
    distinct: Arc<OnceLock<Option<Distinct>>>,
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        (&self.ids, &self.types, &self.sequences) == (&other.ids, &other.types, &other.sequences)
    }
}

impl Eq for Batch {}

impl Batch {
    /// A batch of token ids, sequence after sequence: `[num_tokens]`.
    ///
    /// # Panics
    /// When the sequences do not cover the ids.
    pub fn new(ids: impl Into<Arc<[u32]>>, sequences: Sequences) -> Self {
        let (ids, blocks) = (ids.into(), sequences.in_blocks(TOKENS_PER_BLOCK));
        assert_eq!(ids.len(), sequences.num_rows(), "sequences cover the tokens");
        Self { ids, types: Arc::default(), sequences, blocks, distinct: Arc::default() }
    }

    /// The same with the text of a pair that each token is of, 0 or 1: `[num_tokens]`, or empty where there are no pairs.
    ///
    /// # Panics
    /// When there is not one for each token.
    #[must_use]
    pub fn with_types(self, types: impl Into<Arc<[u32]>>) -> Self {
        let types = types.into();
        assert!(types.is_empty() || types.len() == self.ids.len(), "a type for each token");
        Self { types, ..self }
    }

    /// Packs sequences.
    pub fn pack<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        for sequence in sequences {
            ids.extend_from_slice(sequence);
            lengths.push(sequence.len());
        }
        Self::new(ids, Sequences::of_lengths(lengths))
    }

    /// Token ids, sequence after sequence: `[num_tokens]`.
    pub fn ids(&self) -> &Arc<[u32]> {
        &self.ids
    }

    /// Which text of a pair each token is of, 0 or 1: `[num_tokens]`, or empty where there are no pairs.
    pub fn types(&self) -> &[u32] {
        &self.types
    }

    /// Where each sequence begins.
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// The sequences that lie in `rows`.
    pub fn some(&self, rows: Range<usize>) -> Self {
        let inside = self.sequences.iter().filter(|sequence| rows.start <= sequence.start && sequence.end <= rows.end);
        let sequences = Sequences::of_lengths(inside.map(|sequence| sequence.len()));
        Self::new(&self.ids[rows.clone()], sequences).with_types(self.types.get(rows).unwrap_or_default())
    }

    /// Stretches of at most `num_tokens` rows, about, that end where blocks of sequences end.
    pub fn parts(&self, num_tokens: usize) -> Vec<Range<usize>> {
        let mut parts: Vec<Range<usize>> = Vec::new();
        for block in self.blocks().iter() {
            match parts.last_mut() {
                Some(part) if block.end - part.start <= num_tokens => part.end = block.end,
                _ => parts.push(block),
            }
        }
        parts
    }

    /// The blocks of sequences whose gradients are summed one after the other. They depend on the sequences alone, and
    /// parts of a batch that end where blocks end have the blocks of the whole.
    pub fn blocks(&self) -> &Sequences {
        &self.blocks
    }

    /// The distinct tokens of each block, or its rows as they are where that saves little; `None` where it is so in all blocks.
    pub(crate) fn distinct(&self) -> Option<&Distinct> {
        self.distinct.get_or_init(|| self.find_distinct()).as_ref()
    }

    fn find_distinct(&self) -> Option<Distinct> {
        let (mut ids, mut rows, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for block in self.blocks().iter() {
            let (first, block) = (ids.len(), &self.ids[block]);
            let mut own = block.to_vec();
            own.sort_unstable();
            own.dedup();
            if 4 * own.len() <= 3 * block.len() {
                rows.extend(block.iter().map(|id| first + own.partition_point(|other| other < id)));
                ids.extend(own);
            } else {
                rows.extend(first..first + block.len());
                ids.extend(block);
            }
            lengths.push(ids.len() - first);
        }
        let (blocks, rows) = (Sequences::of_lengths(lengths), RowIndex::in_blocks(rows, self.blocks.clone()));
        (ids.len() < self.ids.len()).then(|| Distinct { ids: ids.into(), blocks, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_has_its_tokens_once_where_that_saves_a_quarter() {
        let rare: Vec<u32> = (0..2000).collect();
        let (often, seldom): (Vec<u32>, Vec<u32>) = (0..2000).map(|at| (7 + at % 30, at % 1501)).unzip();
        let batch = Batch::pack([&often, &rare, &seldom, &often, &often[..3]]);
        let Distinct { ids, blocks, rows } = batch.distinct().unwrap();
        let lengths: Vec<usize> = blocks.iter().map(|block| block.len()).collect();
        assert_eq!(lengths, [30, 2000, 2000, 30]);
        assert_eq!(rows.iter().map(|&row| ids[row]).collect::<Vec<u32>>(), **batch.ids());
        for (distinct, block) in blocks.iter().zip(batch.blocks().iter()) {
            assert!(rows[block].iter().all(|row| distinct.contains(row)), "no block reads from another");
        }
        assert!(Batch::pack([&rare[..], &seldom]).distinct().is_none());
        assert!(Batch::pack([]).distinct().is_none());
    }
}
