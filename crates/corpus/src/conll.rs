//! Sentences of tagged words: a word and its tag per line, a blank line between sentences.

use crate::files::{FileError, FoundFile, open, reading_failed};
use crate::lines::Lines;
use crate::reject::RejectReason;

/// Words and IOB2 tags of a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub(crate) words: Vec<String>,
    pub(crate) tags: Vec<String>,
}

/// A sentence, or why there is none.
pub(crate) struct Sentence {
    /// The first line, or the line with the mistake; counted from 1.
    pub(crate) line: u64,
    /// Which document of the file it belongs to, where `-DOCSTART-` lines tell.
    pub(crate) document: Option<usize>,
    pub(crate) tagged: Result<Tagged, RejectReason>,
}

/// The sentences of one file. Columns are separated by tabs, or by spaces in lines without a tab; the first is the
/// word, the last its tag.
pub(crate) struct Sentences {
    lines: Lines,
    file: FoundFile,
    document: Option<usize>,
}

impl Sentences {
    pub(crate) fn open(file: &FoundFile) -> Result<Self, FileError> {
        Ok(Self { lines: Lines::new(open(&file.path)?), file: file.clone(), document: None })
    }

    /// The next sentence, or `None` after the last.
    pub(crate) fn next_sentence(&mut self) -> Result<Option<Sentence>, FileError> {
        let mut first = None;
        let mut wrong = None;
        let mut tagged = Tagged::default();
        while let Some(line) = self.lines.next_line().map_err(|error| reading_failed(&self.file.path, error))? {
            let starts_document = line.bytes.starts_with(b"-DOCSTART-");
            if starts_document {
                self.document = Some(self.document.map_or(0, |document| document + 1));
            }
            match (line.is_blank() || starts_document, first) {
                (true, None) => continue,
                (true, Some(_)) => break,
                (false, _) => first = first.or(Some(line.number)),
            }
            let columns = if line.too_long {
                Err(RejectReason::TooLong { max_bytes: self.lines.max_bytes() })
            } else {
                word_and_tag(&line.bytes)
            };
            match columns {
                Ok((word, tag)) => {
                    tagged.words.push(word);
                    tagged.tags.push(tag);
                }
                Err(reason) => wrong = wrong.or(Some((line.number, reason))),
            }
        }
        Ok(first.map(|first| {
            let (line, tagged) = wrong.map_or((first, Ok(tagged)), |(line, reason)| (line, Err(reason)));
            Sentence { line, document: self.document, tagged }
        }))
    }
}

fn word_and_tag(line: &[u8]) -> Result<(String, String), RejectReason> {
    let line = std::str::from_utf8(line).map_err(|_| RejectReason::InvalidUtf8)?;
    let columns: Vec<&str> = if line.contains('\t') {
        line.split('\t').map(str::trim).collect()
    } else {
        line.split(' ').filter(|column| !column.is_empty()).collect()
    };
    match columns[..] {
        [word, .., tag] if word.is_empty() || tag.is_empty() => Err(RejectReason::EmptyText),
        [word, .., tag] => Ok((word.to_owned(), tag.to_owned())),
        _ => Err(RejectReason::WrongColumnCount { expected: 2, got: columns.len() }),
    }
}

/// Checks tags and turns an `I-` that continues nothing into a `B-`; returns how many were turned.
pub(crate) fn repair_tags(tags: &mut [String]) -> Result<usize, RejectReason> {
    let mut num_repaired = 0;
    let mut inside: Option<String> = None;
    for tag in tags {
        let (begins, kind) = match tag.split_once('-') {
            Some(("B", kind)) if !kind.is_empty() => (true, Some(kind.to_owned())),
            Some(("I", kind)) if !kind.is_empty() => (false, Some(kind.to_owned())),
            None if tag == "O" => (false, None),
            _ => return Err(RejectReason::InvalidTag { tag: tag.clone() }),
        };
        if let Some(kind) = &kind
            && !begins
            && inside.as_ref() != Some(kind)
        {
            *tag = format!("B-{kind}");
            num_repaired += 1;
        }
        inside = kind;
    }
    Ok(num_repaired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_and_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conll");
        let bytes =
            b"-DOCSTART- -X- O\n\na\tO\r\nb b\tB-x\r\n\r\n\nc NN O\nd\n\n-DOCSTART-\ne\tO\nf\xff\tO\n\n\tO\n\ng O";
        fs_err::write(&path, bytes).unwrap();
        let file = FoundFile { path, name: "a.conll".into(), shown: "a.conll".into() };
        let mut sentences = Sentences::open(&file).unwrap();
        let mut got = Vec::new();
        while let Some(sentence) = sentences.next_sentence().unwrap() {
            let text = sentence.tagged.map(|t| format!("{} {}", t.words.join("|"), t.tags.join("|")));
            let text = text.unwrap_or_else(|reason| reason.name().to_owned());
            got.push((sentence.line, sentence.document.unwrap(), text));
        }
        let expected = [
            (3, 0, "a|b b O|B-x"),
            (8, 0, "wrong_column_count"),
            (12, 1, "invalid_utf8"),
            (14, 1, "empty_text"),
            (16, 1, "g O"),
        ];
        assert_eq!(got, expected.map(|(line, document, text)| (line, document, text.to_owned())));
    }

    #[test]
    fn tags_become_iob2() {
        let check = |tags: &[&str], expected: Result<(usize, &[&str]), ()>| {
            let mut tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let got = repair_tags(&mut tags).map_err(|_| ());
            assert_eq!(
                got.map(|num| (num, tags)),
                expected.map(|(n, t)| (n, t.iter().map(|t| (*t).to_owned()).collect()))
            );
        };
        check(&["O", "B-x", "I-x", "B-x"], Ok((0, &["O", "B-x", "I-x", "B-x"])));
        check(&["I-x", "I-x", "I-y", "O", "I-y"], Ok((3, &["B-x", "I-x", "B-y", "O", "B-y"])));
        check(&["S-x"], Err(()));
        check(&["B-"], Err(()));
        check(&["o"], Err(()));
    }
}
