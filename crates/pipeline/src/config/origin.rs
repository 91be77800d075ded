//! Where each value of the resolved configuration comes from.

use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use super::keys::{KeyPath, toml_string};
use super::tree::{Node, Place, Value};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was not written: the value is the program's.
    Default,
    /// It is written in the file.
    File {
        /// The line, from 1.
        line: usize,
    },
    /// A `--set` gave it.
    Set,
    /// It follows from another value.
    Derived {
        /// What it follows from, for example `model.size = "mini"`.
        from: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { line } => write!(f, "line {line}"),
            Self::Set => write!(f, "--set"),
            Self::Derived { from } => write!(f, "from {from}"),
        }
    }
}

/// One value of the resolved configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key path; an element of an array goes by its `name`, or else by its index.
    pub key: String,
    /// The value as TOML writes it, or `unset` for one that is optional and absent.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// A value that `resolve` computed from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The key of the value, or of the table that holds it.
    pub key: String,
    /// What it follows from, for example `model.size = "mini"`.
    pub from: String,
}

/// A segment of a key path: an element of an array answers to two names.
struct Segment {
    text: String,
    idx: Option<usize>,
}

impl Segment {
    fn answers_to(&self, name: &str) -> bool {
        self.text == name || self.idx.is_some_and(|idx| idx.to_string() == name)
    }
}

/// Lists every value of `resolved` with its origin: what is written wins over what is derived.
pub(super) fn settings<T: Serialize>(
    resolved: &T,
    written: &Node,
    line_of: &dyn Fn(usize) -> usize,
    derived: &[Derived],
) -> Vec<Setting> {
    let mut list = Vec::new();
    flatten(&to_json(resolved), &mut Vec::new(), &mut |path, value| {
        let origin = match lookup(written, path) {
            Some(Place::File { offset }) => Origin::File { line: line_of(offset) },
            Some(Place::Set { .. }) => Origin::Set,
            None => derivation(path, derived),
        };
        let key: KeyPath = path.iter().map(|segment| segment.text.as_str()).collect();
        list.push(Setting { key: key.to_string(), value: to_toml_value(value), origin });
    });
    list
}

// By way of the text, so that an f32 keeps its short form.
fn to_json<T: Serialize>(value: &T) -> Json {
    let text = serde_json::to_string(value).expect("a configuration has a JSON form");
    serde_json::from_str(&text).expect("JSON that was just written")
}

fn flatten(value: &Json, path: &mut Vec<Segment>, visit: &mut dyn FnMut(&[Segment], &Json)) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                path.push(Segment { text: key.clone(), idx: None });
                flatten(field, path, visit);
                path.pop();
            }
        }
        Json::Array(elements) if elements.iter().any(Json::is_object) => {
            for (idx, element) in elements.iter().enumerate() {
                path.push(Segment { text: element_name(elements, idx), idx: Some(idx) });
                flatten(element, path, visit);
                path.pop();
            }
        }
        leaf => visit(path, leaf),
    }
}

/// As for written arrays: the `name` of the element, unless it is shared with one before or looks like an index.
fn element_name(elements: &[Json], idx: usize) -> String {
    let name_of = |element: &Json| element["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let is_first = |name: &String| !elements[..idx].iter().any(|other| name_of(other).as_ref() == Some(name));
    name_of(&elements[idx]).filter(is_first).unwrap_or_else(|| idx.to_string())
}

/// Where the value at `path` was written. A text that stands for a whole table gives its place to what the table
/// holds, except the name of a variant, whose fields are then all left to their defaults.
fn lookup(root: &Node, path: &[Segment]) -> Option<Place> {
    let mut node = root;
    for segment in path {
        node = match &node.value {
            Value::Table(_) => node.get(&segment.text)?,
            Value::Array(elements) => elements.get(segment.idx?)?,
            Value::Text(variant) if *variant == segment.text => return None,
            _ => return Some(node.at),
        };
    }
    Some(node.at)
}

fn derivation(path: &[Segment], derived: &[Derived]) -> Origin {
    let covers = |entry: &&Derived| {
        let Some(key) = KeyPath::parse(&entry.key) else { return false };
        let names = key.segments();
        names.len() <= path.len() && names.iter().zip(path).all(|(name, segment)| segment.answers_to(name))
    };
    match derived.iter().find(covers) {
        Some(entry) => Origin::Derived { from: entry.from.clone() },
        None => Origin::Default,
    }
}

fn to_toml_value(value: &Json) -> String {
    match value {
        Json::Null => "unset".to_owned(),
        Json::Bool(flag) => flag.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => toml_string(text),
        Json::Array(elements) => {
            format!("[{}]", elements.iter().map(to_toml_value).collect::<Vec<_>>().join(", "))
        }
        Json::Object(fields) => {
            let pairs: Vec<_> =
                fields.iter().map(|(key, value)| format!(" {key} = {}", to_toml_value(value))).collect();
            format!("{{{} }}", pairs.join(",")).replace("{ }", "{}")
        }
    }
}

/// One line for each value, `key = value  # origin`, the origins in one column that leaves the lines within 80
/// characters where keys and values allow.
pub fn render(settings: &[Setting]) -> String {
    const WIDTH: usize = 80;
    let left: Vec<String> = settings.iter().map(|setting| format!("{} = {}", setting.key, setting.value)).collect();
    let right: Vec<String> = settings.iter().map(|setting| format!("# {}", setting.origin)).collect();
    let fits = |idx: &usize| left[*idx].chars().count() + 2 + right[*idx].chars().count() <= WIDTH;
    let widest = |texts: &[String]| (0..texts.len()).filter(fits).map(|idx| texts[idx].chars().count()).max();
    let column = widest(&left).unwrap_or(0).min(WIDTH - 2 - widest(&right).unwrap_or(0));
    left.iter().zip(&right).map(|(left, right)| format!("{left:column$}  {right}\n")).collect()
}
