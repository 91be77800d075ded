//! What counts as a word, and as the same text, whatever the spacing and punctuation.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use unicode_normalization::UnicodeNormalization;

/// A map by 64-bit hashes.
pub(crate) type HashedMap<V> = HashMap<u64, V, BuildHasherDefault<Same>>;
/// A set of 64-bit hashes.
pub(crate) type HashedSet = HashSet<u64, BuildHasherDefault<Same>>;

/// A hasher of keys that are hashes already.
#[derive(Default)]
pub(crate) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers of 64 bits");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// The words of a text, joined by single spaces: NFKC, lower case, cut at every character that is neither a letter nor
/// a digit. Characters of scripts written without spaces are words of their own. Differently tokenised copies of a
/// text (`2 ' - deoxyuridine`, `2'-deoxyuridine`) become equal.
pub fn normalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // White space in ASCII is inert under NFKC, so pieces between it can be normalised alone, most of them cheaply.
    for piece in text.split(|c: char| c.is_ascii_whitespace()) {
        let mut words = Words { out: &mut out, inside: false };
        if piece.is_ascii() {
            piece.chars().for_each(|c| words.push(c.to_ascii_lowercase()));
        } else {
            piece.nfkc().flat_map(char::to_lowercase).for_each(|c| words.push(c));
        }
    }
    out
}

struct Words<'a> {
    out: &'a mut String,
    inside: bool,
}

impl Words<'_> {
    fn push(&mut self, c: char) {
        if !c.is_alphanumeric() {
            self.inside = false;
            return;
        }
        let alone = is_unspaced(c);
        if (!self.inside || alone) && !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push(c);
        self.inside = !alone;
    }
}

/// Whether `c` belongs to a script written without spaces (Han, Kana, Thai, Lao, Myanmar, Khmer).
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{3040}'..='\u{30FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// Words separated by white space.
pub(crate) fn num_words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// A 64-bit hash of each word of a normalised text. It only ever lives in memory.
pub(crate) fn word_hashes(normalized: &str) -> Vec<u64> {
    normalized.split_ascii_whitespace().map(hash_word).collect()
}

/// FNV-1a (Fowler, Noll, Vo), finished with a mixing step.
pub(crate) fn hash_word(word: &str) -> u64 {
    let hash = word
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(hash)
}

pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

/// A hash of every word and of every pair of neighbours.
pub(crate) fn grams(words: &[u64]) -> impl Iterator<Item = u64> {
    words.iter().copied().chain(ngram_hashes(words, 2))
}

/// A 64-bit hash of every run of `n` words, in order: a polynomial that rolls along the text (Karp and Rabin, 1987).
pub(crate) fn ngram_hashes(words: &[u64], n: usize) -> impl Iterator<Item = u64> {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let oldest = (0..n).fold(1_u64, |power, _| power.wrapping_mul(FACTOR));
    let length = mix(n as u64);
    let mut hash = 0_u64;
    words.iter().enumerate().filter_map(move |(i, word)| {
        hash = hash.wrapping_mul(FACTOR).wrapping_add(*word);
        if i >= n {
            hash = hash.wrapping_sub(words[i - n].wrapping_mul(oldest));
        }
        (n > 0 && i + 1 >= n).then(|| mix(hash ^ length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_case_and_width_do_not_count() {
        let expected = "5 bromo 2 deoxyuridine";
        for text in
            ["5-Bromo-2'-deoxyuridine", "5 - bromo - 2 ' - deoxyuridine", " 5\u{2010}BROMO\n2\u{2032}-deoxyuridine."]
        {
            assert_eq!(normalize(text), expected);
        }
        assert_eq!(normalize("ﬁne　１２ Å"), "fine 12 å");
        assert_eq!(normalize("日本 x"), "日 本 x");
        assert_eq!(normalize("?!"), "");
    }

    #[test]
    fn normalising_pieces_equals_normalising_the_whole() {
        let text = "Na\u{308}ive  e\u{301}\u{328}tude ＡＢ Ⅳ\t½ x\u{300} \u{300}y";
        let whole: String = text.nfkc().flat_map(char::to_lowercase).collect();
        assert_eq!(normalize(text), normalize(&whole));
    }

    #[test]
    fn rolling_equals_starting_anew() {
        let words: Vec<u64> = (0..40).map(|i| hash_word(&format!("w{}", i % 7))).collect();
        for n in [1, 5, 13, 40] {
            let anew: Vec<u64> = words.windows(n).flat_map(|window| ngram_hashes(window, n)).collect();
            assert_eq!(ngram_hashes(&words, n).collect::<Vec<_>>(), anew);
        }
        assert_eq!(ngram_hashes(&words, 41).count(), 0);
    }
}
