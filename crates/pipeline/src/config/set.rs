//! `--set key.path=value`: one value over what the file says.

use serde_json::Value as Schema;
use toml::de::DeValue;

use super::de::value_words;
use super::error::Problem;
use super::keys::KeyPath;
use super::schema::wants_array;
use super::tree::{Entry, Node, Place, Value, element_idx, element_name};

/// What was typed, turned into what it means.
pub(super) struct Setting {
    key: KeyPath,
    node: Node,
    at: Place,
}

/// A setting whose key cannot be followed: the path up to the fault, and the fault.
pub(super) type Astray = (KeyPath, Problem);

impl Setting {
    /// Reads `key.path=value`, the `idx`-th of its kind.
    pub fn parse(text: &str, idx: usize) -> Result<Self, &'static str> {
        let (key, value) = split(text).ok_or("there is no `=` after the key")?;
        let key = KeyPath::parse(key.trim()).ok_or("its key is not a path of keys")?;
        Ok(Self { key, node: read_value(value.trim(), idx), at: Place::Set { idx } })
    }

    /// Puts the value into the tree. Tables on the way are made where the file has none; a key that the
    /// configuration does not know is found when the tree is read.
    pub fn apply(self, root: &mut Node, schema: &Schema) -> Result<(), Astray> {
        let mut node = root;
        let mut path = KeyPath::default();
        for segment in self.key.segments() {
            make_container(node, segment, self.at, schema, &path).map_err(|problem| (path.clone(), problem))?;
            node = step(node, segment, self.at).map_err(|problem| (path.clone(), problem))?;
            path = path.join(segment);
        }
        *node = self.node;
        Ok(())
    }
}

/// Cuts at the first `=` outside of quotes.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (idx, c) in text.char_indices() {
        match (quote, c) {
            (None, '=') => return Some((&text[..idx], &text[idx + 1..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// The value as TOML where it is TOML, else as a text: the shell has eaten the quotes.
fn read_value(text: &str, idx: usize) -> Node {
    let at = Place::Set { idx };
    let parsed = DeValue::parse(text).ok().and_then(|value| Node::setting(&value, idx).ok());
    let value = match parsed.map(|node| node.value) {
        None => Value::Text(text.to_owned()),
        Some(value @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_))) => {
            Value::Bare { value: Box::new(value), raw: text.to_owned() }
        }
        Some(value) => value,
    };
    Node { value, at }
}

/// Makes a node fit to hold the key `segment`: a variant that was written by its name alone becomes a table, an array
/// that was not written stays unwritten, for then no element can be meant.
fn make_container(node: &mut Node, segment: &str, at: Place, schema: &Schema, path: &KeyPath) -> Result<(), Problem> {
    match &node.value {
        Value::Table(entries) if entries.is_empty() && wants_array(schema, path) => {
            Err(Problem::UnknownElement { element: segment.to_owned(), known: Vec::new() })
        }
        Value::Table(_) | Value::Array(_) => Ok(()),
        Value::Text(variant) if variant == segment => {
            *node = Node::empty_table(at);
            Ok(())
        }
        other => Err(Problem::Unfit { expected: "a table".to_owned(), got: value_words(other) }),
    }
}

fn step<'a>(node: &'a mut Node, segment: &str, at: Place) -> Result<&'a mut Node, Problem> {
    match &mut node.value {
        Value::Array(elements) => match element_idx(elements, segment) {
            Some(idx) => Ok(&mut elements[idx]),
            None => {
                let known = (0..elements.len()).map(|idx| element_name(elements, idx)).collect();
                Err(Problem::UnknownElement { element: segment.to_owned(), known })
            }
        },
        Value::Table(entries) => Ok(entry(entries, segment, at)),
        _ => unreachable!("only containers are stepped into"),
    }
}

fn entry<'a>(entries: &'a mut Vec<Entry>, key: &str, at: Place) -> &'a mut Node {
    let idx = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
        entries.push(Entry { key: key.to_owned(), key_at: at, node: Node::empty_table(at) });
        entries.len() - 1
    });
    &mut entries[idx].node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Setting::parse(&format!("a={text}"), 0).unwrap().node.value
    }

    #[test]
    fn values_are_toml_or_else_text() {
        assert!(matches!(value("1e-4"), Value::Bare { value, .. } if matches!(*value, Value::Float(x) if x == 1e-4)));
        assert!(matches!(value("[1, 2]"), Value::Array(elements) if elements.len() == 2));
        assert!(matches!(value("{ b = 1 }"), Value::Table(_)));
        for (typed, text) in
            [("data/x.jsonl", "data/x.jsonl"), ("\"7\"", "7"), ("a=b", "a=b"), ("", ""), ("007", "007")]
        {
            assert!(matches!(value(typed), Value::Text(read) if read == text), "{typed}");
        }
        // A comment would swallow what was typed.
        assert!(!matches!(value("3 # three"), Value::Bare { .. }));
    }

    #[test]
    fn keys_may_hold_an_equals_sign_in_quotes() {
        let setting = Setting::parse("tasks.\"a=b\".weight = 2", 0).unwrap();
        assert_eq!(setting.key.to_string(), "tasks.\"a=b\".weight");
    }
}
