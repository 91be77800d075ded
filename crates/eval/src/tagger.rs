//! Words as sparse features of themselves and their neighbours, for the tagging baseline.

use std::collections::HashMap;

use crate::sparse::Rows;

/// Longest prefix and suffix, in letters.
const AFFIX_LEN: usize = 4;
/// Neighbours on each side.
const REACH: isize = 2;

/// Which word features are known, learnt from training sentences.
///
/// The usual ones of linear taggers (as in Ratnaparkhi 1996 and CRFsuite's examples): the word as is and in lower case,
/// its prefixes and suffixes of up to four letters, its shape, and the neighbours within two words. A feature is the
/// 64-bit FNV-1a hash of its name; a dictionary keeps those seen, so distinct features practically never share a
/// column.
pub struct TagFeatures {
    columns: HashMap<u64, u32>,
}

/// What is looked at of a word, computed once.
struct Word<'a> {
    text: &'a str,
    lower: String,
    /// Letters become `X` and `x`, digits `d`; `shape` keeps every character, `outline` joins equal neighbours.
    shape: String,
    outline: String,
}

impl<'a> Word<'a> {
    fn new(text: &'a str) -> Self {
        let shape: String = text.chars().map(shape_of).collect();
        let mut outline: Vec<char> = shape.chars().collect();
        outline.dedup();
        Self { text, lower: text.to_lowercase(), shape, outline: outline.into_iter().collect() }
    }
}

fn shape_of(c: char) -> char {
    match c {
        _ if c.is_numeric() => 'd',
        _ if c.is_uppercase() => 'X',
        _ if c.is_alphabetic() => 'x',
        _ => c,
    }
}

impl TagFeatures {
    /// Learns the features that occur on at least `min_count` words.
    pub fn fit<'a>(sentences: impl IntoIterator<Item = &'a [String]>, min_count: usize) -> Self {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for features in sentences.into_iter().flat_map(sentence_features).flatten() {
            *counts.entry(features).or_default() += 1;
        }
        let mut kept: Vec<u64> = counts.into_iter().filter(|(_, count)| *count >= min_count).map(|(f, _)| f).collect();
        kept.sort_unstable();
        Self { columns: kept.into_iter().enumerate().map(|(column, feature)| (feature, column as u32)).collect() }
    }

    /// Features.
    pub fn num_features(&self) -> usize {
        self.columns.len()
    }

    /// One row of length at most 1 for each word of each sentence; unknown features count for nothing.
    pub fn transform<'a>(&self, sentences: impl IntoIterator<Item = &'a [String]>) -> Rows {
        let mut rows = Rows::new(self.num_features());
        for features in sentences.into_iter().flat_map(sentence_features) {
            let value = 1.0 / (features.len() as f32).sqrt();
            rows.push(features.iter().filter_map(|feature| Some((*self.columns.get(feature)?, value))));
        }
        rows
    }
}

/// The features of each word.
fn sentence_features(words: &[String]) -> Vec<Vec<u64>> {
    let words: Vec<Word<'_>> = words.iter().map(|word| Word::new(word)).collect();
    (0..words.len()).map(|i| word_features(&words, i)).collect()
}

fn word_features(words: &[Word<'_>], i: usize) -> Vec<u64> {
    let word = &words[i];
    let at = |offset: isize| i.checked_add_signed(offset).and_then(|place| words.get(place));
    let mut features = vec![
        hash("word", &[word.text]),
        hash("lower", &[&word.lower]),
        hash("shape", &[&word.shape]),
        hash("outline", &[&word.outline]),
    ];
    let marks = [
        ("number", word.shape.chars().all(|c| c == 'd')),
        ("digit", word.shape.contains('d')),
        ("capitals", word.outline == "X"),
        ("capital", word.shape.contains('X')),
        ("dash", word.text.contains('-')),
        ("first", i == 0),
    ];
    features.extend(marks.iter().filter(|(_, holds)| *holds).map(|(name, _)| hash(name, &[])));
    features.extend(prefixes(&word.lower).map(|prefix| hash("prefix", &[prefix])));
    features.extend(suffixes(&word.lower).map(|suffix| hash("suffix", &[suffix])));
    for offset in (-REACH..=REACH).filter(|&offset| offset != 0) {
        features.extend(neighbour_features(at(offset), offset));
    }
    for (offset, name) in [(-1, "pair before"), (1, "pair after")] {
        features.push(hash(name, &[&word.lower, at(offset).map_or("", |near| &near.lower)]));
    }
    features
}

fn neighbour_features(near: Option<&Word<'_>>, offset: isize) -> Vec<u64> {
    let place = [offset.unsigned_abs() as u8, u8::from(offset < 0)];
    let Some(near) = near else { return vec![fnv(fnv(OFFSET, b"edge"), &place)] };
    let mut features = vec![fnv(hash("lower", &[&near.lower]), &place), fnv(hash("outline", &[&near.outline]), &place)];
    if offset.abs() == 1 {
        features.extend(suffixes(&near.lower).skip(2).map(|suffix| fnv(hash("suffix", &[suffix]), &place)));
    }
    features
}

/// The first 1, 2, ... letters, the whole word left out.
fn prefixes(word: &str) -> impl Iterator<Item = &str> {
    word.char_indices().skip(1).take(AFFIX_LEN).map(|(end, _)| &word[..end])
}

/// The last 1, 2, ... letters, the whole word left out.
fn suffixes(word: &str) -> impl Iterator<Item = &str> {
    word.char_indices().rev().take(AFFIX_LEN).map(|(start, _)| &word[start..]).filter(|s| s.len() < word.len())
}

const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;

fn hash(name: &str, parts: &[&str]) -> u64 {
    parts.iter().fold(fnv(OFFSET, name.as_bytes()), |hash, part| fnv(fnv(hash, &[0]), part.as_bytes()))
}

/// FNV-1a (Fowler, Noll, Vo), continued from `hash`.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affixes_are_letters_not_bytes() {
        assert_eq!(prefixes("über").collect::<Vec<_>>(), ["ü", "üb", "übe"]);
        assert_eq!(suffixes("naïve").collect::<Vec<_>>(), ["e", "ve", "ïve", "aïve"]);
        assert_eq!(suffixes("a").count(), 0);
    }

    #[test]
    fn shapes_tell_letters_from_digits() {
        let word = Word::new("TGF-b12");
        assert_eq!((word.shape.as_str(), word.outline.as_str()), ("XXX-xdd", "X-xd"));
    }

    #[test]
    fn neighbours_count_by_side_and_distance() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let [left, right, far] =
            ["x y a a", "a y x a", "a y a x"].map(|text| sentence_features(&words(text)).remove(1));
        let x_near = |features: &[u64], other: &[u64]| features.iter().filter(|f| !other.contains(f)).count();
        assert!(x_near(&left, &right) > 0 && x_near(&right, &far) > 0);
    }

    #[test]
    fn rare_features_are_left_out() {
        let sentences = [vec!["aspirin".to_owned()], vec!["aspirin".to_owned()], vec!["Zyx".to_owned()]];
        let all = TagFeatures::fit(sentences.iter().map(Vec::as_slice), 1);
        let often = TagFeatures::fit(sentences.iter().map(Vec::as_slice), 2);
        assert!(often.num_features() < all.num_features());
        let rows = often.transform(sentences.iter().map(Vec::as_slice));
        assert_eq!(rows.num_rows(), 3);
        assert!(rows.row(0).count() > rows.row(2).count());
    }
}
