//! Marked text to words, the small disorders of hurried writing, and back to text.

use std::collections::BTreeMap;

use arable_core::Draws;

use super::grammar::{CLOSE, opened};
use super::ontology::Label;

/// A word or a mark of punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Whether white space stands before it.
    pub spaced: bool,
    /// The mention that it belongs to, and whether it begins it.
    pub mention: Option<(Label, bool)>,
}

/// How a grower types.
#[derive(Clone, Copy, Debug)]
pub struct Hand {
    /// Chance of a slip in a word.
    pub slip: f64,
    /// Chance that a word with an abbreviation is abbreviated.
    pub abbreviate: f64,
    /// Chance that an article is left out.
    pub drop_article: f64,
    /// Whether sentences begin with a capital.
    pub capitals: bool,
}

/// Cuts marked text into words.
pub fn words(marked: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let (mut label, mut begins, mut spaced) = (None, false, false);
    for chunk in marked.split_inclusive(|c: char| c.is_whitespace() || c == CLOSE || opened(c).is_some()) {
        let last = chunk.chars().next_back().expect("chunks are not empty");
        let is_text = !(last.is_whitespace() || last == CLOSE || opened(last).is_some());
        let text = if is_text { chunk } else { &chunk[..chunk.len() - last.len_utf8()] };
        for (piece, glued) in pieces(text) {
            words.push(Word {
                text: piece.to_owned(),
                spaced: spaced && !glued,
                mention: label.map(|label| (label, begins)),
            });
            (begins, spaced) = (false, false);
        }
        match opened(last) {
            Some(opened) => (label, begins) = (Some(opened), true),
            None if last == CLOSE => label = None,
            None => spaced |= last.is_whitespace(),
        }
    }
    words
}

/// Splits trailing punctuation off; `true` for what sticks to the piece before it.
fn pieces(text: &str) -> Vec<(&str, bool)> {
    let stem = text.trim_end_matches(['.', ',', ':', ';', '!', '?', ')']);
    let stem = if stem.is_empty() { "" } else { stem };
    let (open, core) = match stem.strip_prefix('(') {
        Some(core) => ("(", core),
        None => ("", stem),
    };
    let mut pieces = Vec::new();
    for piece in [open, core].into_iter().filter(|piece| !piece.is_empty()) {
        pieces.push((piece, !pieces.is_empty()));
    }
    for (idx, c) in text[stem.len()..].char_indices() {
        let at = stem.len() + idx;
        pieces.push((&text[at..at + c.len_utf8()], !pieces.is_empty()));
    }
    pieces
}

/// Types the words of one sentence.
pub fn type_sentence(
    mut words: Vec<Word>,
    hand: Hand,
    short: &BTreeMap<String, String>,
    draws: &mut Draws,
) -> Vec<Word> {
    words.retain(|word| {
        let is_article = matches!(word.text.as_str(), "the" | "a" | "an") && word.mention.is_none();
        !(is_article && draws.uniform() < hand.drop_article)
    });
    for word in &mut words {
        if let Some(abbreviation) = short.get(&word.text).filter(|_| draws.uniform() < hand.abbreviate) {
            word.text.clone_from(abbreviation);
        } else if draws.uniform() < hand.slip {
            word.text = slip(&word.text, draws);
        }
    }
    if let Some(first) = words.first_mut() {
        first.spaced = true;
        if hand.capitals {
            first.text = capitalized(&first.text);
        }
    }
    words
}

/// Swaps, drops or doubles a letter inside a word of five letters or more.
fn slip(word: &str, draws: &mut Draws) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 5 || !letters.iter().all(char::is_ascii_alphabetic) {
        return word.to_owned();
    }
    let at = 1 + draws.below(letters.len() - 2);
    match draws.below(3) {
        0 => letters.swap(at, at + 1),
        1 => drop(letters.remove(at)),
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// The words as running text.
pub fn text(words: &[Word]) -> String {
    let mut out = String::new();
    for word in words {
        if word.spaced && !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&word.text);
    }
    out
}

/// The word's tag, such as `B-PEST` or `O`.
pub fn tag(word: &Word) -> String {
    match word.mention {
        Some((label, begins)) => format!("{}-{}", if begins { 'B' } else { 'I' }, label.name()),
        None => "O".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::glasshouse::grammar::open;

    #[test]
    fn marks_become_tags_and_text_survives() {
        let marked = format!("It is {}spider mite{CLOSE}, (again) 3.5 %.", open(Label::Pest));
        let words = words(&marked);
        let tags: Vec<String> = words.iter().map(|word| format!("{}/{}", word.text, tag(word))).collect();
        let expected = "It/O is/O spider/B-PEST mite/I-PEST ,/O (/O again/O )/O 3.5/O %/O ./O";
        assert_eq!(tags.join(" "), expected);
        assert_eq!(text(&words), "It is spider mite, (again) 3.5 %.");
    }
}
