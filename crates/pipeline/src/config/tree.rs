//! What was written, as a tree in which every value and key knows where it stands.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Where a value or a key was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At a byte offset of the file.
    File { offset: usize },
    /// In a `--set`, by its position on the command line from 0.
    Set { idx: usize },
}

/// A written value and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub at: Place,
}

/// A written value. Tables keep the order of the file, so that the first fault found is the first one to be read.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// `raw` is the text of a `--set`, whose quotes the shell has eaten: where a text is wanted, `7` is one.
    Bare {
        value: Box<Value>,
        raw: String,
    },
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_at: Place,
    pub node: Node,
}

/// A number that no computation here can hold, at a byte span of the text.
pub(super) struct TooLarge(pub Range<usize>);

impl Node {
    /// Reads a whole file.
    pub fn document(table: &Spanned<DeTable<'_>>) -> Result<Self, TooLarge> {
        let at = &|span: Range<usize>| Place::File { offset: span.start };
        Ok(Self { value: read_table(table.get_ref(), at)?, at: at(table.span()) })
    }

    /// Reads the value of a `--set`.
    pub fn setting(value: &Spanned<DeValue<'_>>, idx: usize) -> Result<Self, TooLarge> {
        read(value, &|_| Place::Set { idx })
    }

    /// A table without keys.
    pub fn empty_table(at: Place) -> Self {
        Self { value: Value::Table(Vec::new()), at }
    }

    /// The value of `key`, when this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Table(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The text, when this is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The value below one segment of a key path: a key of a table, or the name or index of an array's element.
    pub fn child(&self, segment: &str) -> Option<&Self> {
        match &self.value {
            Value::Array(elements) => elements.get(element_idx(elements, segment)?),
            _ => self.get(segment),
        }
    }
}

/// The index of the element that `segment` names: by its `name` first, then by position.
pub(super) fn element_idx(elements: &[Node], segment: &str) -> Option<usize> {
    let named = |node: &Node| node.get("name").and_then(Node::as_text) == Some(segment);
    let by_idx = || segment.parse::<usize>().ok().filter(|&idx| idx < elements.len());
    elements.iter().position(named).or_else(by_idx)
}

/// What an element is called: its `name` when no other element before it has the same, else its index.
pub(super) fn element_name(elements: &[Node], idx: usize) -> String {
    let name = elements[idx].get("name").and_then(Node::as_text).filter(|name| !name.is_empty());
    match name {
        Some(name) if element_idx(elements, name) == Some(idx) => name.to_owned(),
        _ => idx.to_string(),
    }
}

type Locate<'a> = &'a dyn Fn(Range<usize>) -> Place;

fn read(node: &Spanned<DeValue<'_>>, at: Locate<'_>) -> Result<Node, TooLarge> {
    let value = match node.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            Value::Integer(parsed.map_err(|_| TooLarge(node.span()))?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().map_err(|_| TooLarge(node.span()))?),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(elements) => read_array(elements, at)?,
        DeValue::Table(table) => read_table(table, at)?,
    };
    Ok(Node { value, at: at(node.span()) })
}

fn read_array(elements: &DeArray<'_>, at: Locate<'_>) -> Result<Value, TooLarge> {
    Ok(Value::Array(elements.iter().map(|element| read(element, at)).collect::<Result<_, _>>()?))
}

fn read_table(table: &DeTable<'_>, at: Locate<'_>) -> Result<Value, TooLarge> {
    let mut in_order: Vec<_> = table.iter().collect();
    in_order.sort_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::with_capacity(in_order.len());
    for (key, value) in in_order {
        entries.push(Entry { key: key.get_ref().to_string(), key_at: at(key.span()), node: read(value, at)? });
    }
    Ok(Value::Table(entries))
}
