//! How much of a text is there more than once (Rae et al. 2021, table A1).

use crate::words::{HashedMap, HashedSet, hash_word, mix};

/// Runs of 5 to 10 words.
const REPEATED: std::ops::RangeInclusive<usize> = 5..=10;

/// What occurs more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repetition {
    pub(crate) lines: Pieces,
    pub(crate) paragraphs: Pieces,
    /// Characters in the most frequent run of 2, 3 and 4 words, over all its places.
    pub(crate) top_chars: [usize; 3],
    /// Characters in runs of 5 to 10 words that occurred before; runs do not overlap.
    pub(crate) repeated_chars: [usize; 6],
}

/// Lines or paragraphs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub(crate) num: usize,
    /// Those that occurred before.
    pub(crate) num_repeated: usize,
    /// The characters in them.
    pub(crate) chars: usize,
}

/// Finds repetition in `text`, whose words are `words`.
pub(crate) fn repeated(text: &str, words: &[&str]) -> Repetition {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let runs = Runs::new(words);
    let mut found = Repetition { lines: pieces(lines), ..Repetition::default() };
    // Without an empty line there is but one paragraph.
    if found.lines.num > 1 {
        found.paragraphs = pieces(paragraphs(text));
    }
    for (chars, n) in found.top_chars.iter_mut().zip(2..) {
        *chars = runs.top_chars(n);
    }
    let mut seen = HashedSet::default();
    for (chars, n) in found.repeated_chars.iter_mut().zip(REPEATED) {
        *chars = runs.repeated_chars(n, &mut seen);
        // A run of n + 1 words that occurred before holds one of n words that did.
        if *chars == 0 {
            break;
        }
    }
    found
}

/// Lines between empty lines.
fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty())
}

fn pieces<'a>(all: impl Iterator<Item = &'a str>) -> Pieces {
    let (mut seen, mut pieces) = (HashedSet::default(), Pieces::default());
    for piece in all {
        pieces.num += 1;
        if !seen.insert(hash_word(piece)) {
            pieces.num_repeated += 1;
            pieces.chars += piece.chars().count();
        }
    }
    pieces
}

/// Words as hashes, with their lengths.
struct Runs {
    hashes: Vec<u64>,
    /// Characters in all words before each.
    starts: Vec<usize>,
}

impl Runs {
    fn new(words: &[&str]) -> Self {
        let mut starts = vec![0];
        for word in words {
            starts.push(starts[starts.len() - 1] + word.chars().count());
        }
        Self { hashes: words.iter().map(|word| hash_word(word)).collect(), starts }
    }

    fn chars(&self, at: usize, n: usize) -> usize {
        self.starts[at + n] - self.starts[at]
    }

    /// The characters, with a space between words, of the most frequent run of `n` words over all its places; of several
    /// equally frequent ones, of the longest. 0 where none occurs twice.
    fn top_chars(&self, n: usize) -> usize {
        let mut counts: HashedMap<(u32, u32)> = HashedMap::default();
        let mut best = (1, 0);
        for (at, key) in crate::words::ngram_hashes(&self.hashes, n).enumerate() {
            let (count, chars) = counts.entry(key).or_insert_with(|| (0, (self.chars(at, n) + n - 1) as u32));
            *count += 1;
            if *count > 1 {
                best = best.max((*count, *chars));
            }
        }
        if best.0 > 1 { best.0 as usize * best.1 as usize } else { 0 }
    }

    /// The characters in runs of `n` words that occurred before; after such a run, the next begins behind it.
    fn repeated_chars(&self, n: usize, seen: &mut HashedSet) -> usize {
        seen.clear();
        let (mut chars, mut next) = (0, 0);
        for (at, key) in crate::words::ngram_hashes(&self.hashes, n).enumerate() {
            if at < next {
                continue;
            }
            if !seen.insert(mix(key)) {
                chars += self.chars(at, n);
                next = at + n;
            }
        }
        chars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Repetition {
        repeated(text, &text.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn lines_and_paragraphs() {
        let found = of("one line\ntwo\n\nthree\none line\n\ntwo\n\ntwo");
        assert_eq!(found.lines, Pieces { num: 6, num_repeated: 3, chars: 14 });
        assert_eq!(found.paragraphs, Pieces { num: 4, num_repeated: 1, chars: 3 });
        assert_eq!(of("one line").paragraphs, Pieces::default());
    }

    #[test]
    fn runs_of_words() {
        let found = of("a b c a b d a b e");
        assert_eq!(found.top_chars, [9, 0, 0]);
        let line = "alpha beta gamma delta epsilon";
        let found = of(&format!("{line} x {line} y {line}"));
        assert_eq!(found.top_chars, [3 * 13, 3 * 19, 3 * 24]);
        // Twice 26 letters; no run of six words occurs again.
        assert_eq!(found.repeated_chars, [52, 0, 0, 0, 0, 0]);
        assert_eq!(of("all words are here but once").repeated_chars, [0; 6]);
    }
}
