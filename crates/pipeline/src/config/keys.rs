//! Paths of keys, as people read and write them: `corpus.source.medquad.path`.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// A path of keys from the root of the configuration. An element of an array is named by its `name`, or else by its
/// index from 0. Written as TOML writes dotted keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// Reads a dotted key by the rules of TOML; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(['\n', '=', '#', '[']) && !text.contains(['"', '\'']) {
            return None;
        }
        let document = format!("{text} = 0");
        let table = DeTable::parse(&document).ok()?.into_inner();
        let mut path = Self::default();
        path.descend(&table).then_some(path)
    }

    /// Follows tables of one key each down to the value; false where a table holds more or less than one key.
    fn descend(&mut self, table: &DeTable<'_>) -> bool {
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else { return false };
        self.0.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => self.descend(inner),
            _ => true,
        }
    }

    /// The keys, outermost first.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path and one key more.
    pub(super) fn join(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(key.to_owned());
        path
    }

    /// Puts a key in front: an error learns its path on the way up.
    pub(super) fn prepend(&mut self, key: &str) {
        self.0.insert(0, key.to_owned());
    }
}

impl<'a> FromIterator<&'a str> for KeyPath {
    fn from_iter<I: IntoIterator<Item = &'a str>>(keys: I) -> Self {
        Self(keys.into_iter().map(str::to_owned).collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, key) in self.0.iter().enumerate() {
            if idx > 0 {
                f.write_str(".")?;
            }
            write_key(f, key)?;
        }
        Ok(())
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_bare) { f.write_str(key) } else { write!(f, "{}", toml_string(key)) }
}

/// A text in the quotes of TOML.
pub(super) fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The known word most like `word`, where one is alike enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.8;
    let mut best = None;
    for candidate in known {
        let likeness = strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase());
        if likeness >= ALIKE && best.is_none_or(|(_, highest)| likeness > highest) {
            best = Some((candidate, likeness));
        }
    }
    best.map(|(candidate, _)| candidate)
}

/// Words in back quotes with commas between.
pub(super) fn listed<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_they_are_written() {
        for text in ["steps", "corpus.source.0.path", "tasks.\"a.b c\".name"] {
            assert_eq!(KeyPath::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(KeyPath::parse("tasks.\"a.b\".name").unwrap().segments()[1], "a.b");
        for text in ["", "a..b", "a b", "a = 1\nb", "a.", "[a]", "a={x=1}#"] {
            assert_eq!(KeyPath::parse(text), None, "{text}");
        }
    }

    #[test]
    fn nearest_is_alike_or_nothing() {
        let known = ["path", "format", "mask_prob"];
        assert_eq!(nearest("pth", known), Some("path"));
        assert_eq!(nearest("Mask-Prob", known), Some("mask_prob"));
        assert_eq!(nearest("zebra", known), None);
    }
}
