//! How well letters follow each other: text that no language has (keys hit at random, remains of binary files, codes)
//! surprises a model of pairs of letters learned from the documents themselves.

use rayon::prelude::*;

use crate::store::{Documents, StoreError};

/// Kinds of letters: `a` to `z`, digits, all that is no letter, and others by their numbers.
const NUM_KINDS: usize = 64;
const DIGIT: usize = 26;
const BETWEEN: usize = 27;
const FIRST_OTHER: usize = 28;
/// Blocks of documents that the model is learned from, spread evenly: about so many mebibytes.
const MAX_BLOCKS: usize = 64;

/// For each letter, how surprising each next one is, in bits.
#[derive(Clone, Debug)]
pub(crate) struct Letters(Vec<f64>);

fn kind(c: char) -> usize {
    match c {
        'a'..='z' => c as usize - 'a' as usize,
        'A'..='Z' => c as usize - 'A' as usize,
        '0'..='9' => DIGIT,
        _ if c.is_ascii() || !c.is_alphabetic() => BETWEEN,
        _ => FIRST_OTHER + c as usize % (NUM_KINDS - FIRST_OTHER),
    }
}

/// Pairs of which one at least is a letter: what lies between words says nothing about them.
fn pairs(text: &str) -> impl Iterator<Item = usize> {
    let is_letter = |kind: usize| kind != DIGIT && kind != BETWEEN;
    let kinds = std::iter::once(BETWEEN).chain(text.chars().map(kind));
    let next = text.chars().map(kind);
    kinds.zip(next).filter(move |&(a, b)| is_letter(a) || is_letter(b)).map(|(a, b)| a * NUM_KINDS + b)
}

impl Letters {
    /// Learns from documents.
    pub fn learn(documents: &Documents) -> Result<Self, StoreError> {
        let num_blocks = documents.block_sizes().len();
        let chosen: Vec<usize> = (0..num_blocks).step_by(num_blocks.div_ceil(MAX_BLOCKS).max(1)).collect();
        let count = |&number: &usize| {
            let mut counts = vec![0_u64; NUM_KINDS * NUM_KINDS];
            for document in documents.block(number)?.documents {
                pairs(&document.text).for_each(|pair| counts[pair] += 1);
            }
            Ok::<_, StoreError>(counts)
        };
        let add = |mut own: Vec<u64>, other: Vec<u64>| {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
            Ok(own)
        };
        let counts = chosen.par_iter().map(count).try_reduce(|| vec![0; NUM_KINDS * NUM_KINDS], add)?;
        let surprise = |row: &[u64]| {
            // One more of each, so that none is impossible.
            let total = (row.iter().sum::<u64>() + NUM_KINDS as u64) as f64;
            row.iter().map(|&count| -((count + 1) as f64 / total).log2()).collect::<Vec<_>>()
        };
        Ok(Self(counts.chunks(NUM_KINDS).flat_map(surprise).collect()))
    }

    /// Bits for a pair of letters, on average; of nothing, 0.
    pub fn surprise(&self, text: &str) -> f64 {
        let (mut sum, mut num) = (0.0, 0_usize);
        for pair in pairs(text) {
            sum += self.0[pair];
            num += 1;
        }
        sum / num.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use arable_core::Document;

    use super::*;
    use crate::store::write_documents;

    #[test]
    fn what_no_language_has_surprises() {
        let words = ["patient", "kidney", "failure", "morning", "treated", "without", "effect", "was", "in", "the"];
        let text = |i: usize| (0..60).map(|k| words[(i * 7 + k * k) % words.len()]).collect::<Vec<_>>().join(" ");
        let document = |i| Document {
            id: format!("s/{i}"),
            source: "s".into(),
            text: if i == 3 { "xq zvkj wqqx jjzk".repeat(20) } else { text(i) },
            ..Document::default()
        };
        let folder = tempfile::tempdir().unwrap();
        write_documents(&folder.path().join("documents"), &(0..200).map(document).collect::<Vec<_>>()).unwrap();
        let letters = Letters::learn(&Documents::open(&folder.path().join("documents")).unwrap()).unwrap();
        let (fine, odd) = (letters.surprise(&text(5)), letters.surprise("xq zvkj wqqx jjzk"));
        assert!(odd > fine + 2.0, "{fine} {odd}: one text of gibberish among many does not teach it");
        assert!(letters.surprise("").abs() < 1e-12 && letters.surprise("12 34").abs() < 1e-12);
        assert!((letters.surprise("The PATIENT") - letters.surprise("the patient")).abs() < 1e-12);
    }
}
