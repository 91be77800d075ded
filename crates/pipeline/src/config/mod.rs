//! Reading a configuration: the file, the settings over it, and where each value comes from.
//!
//! This module knows no setting. It reads any serde tree whose parts carry `deny_unknown_fields`, and its work is to say
//! what is wrong in the place where it is wrong. What a run makes of the values, defaults that follow from other values
//! and rules across them, is the caller's; [`Written`] lets it answer in the same terms.

mod de;
mod error;
mod keys;
mod origin;
mod schema;
mod set;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::DeTable;

pub use error::{At, ConfigError, Problem};
pub use keys::KeyPath;
pub use origin::{Derived, Origin, Setting, render};
pub use schema::schema;

use self::de::Fault;
use self::set::Setting as Set;
use self::tree::{Node, Place};

/// A configuration as written, with its value.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The value, with serde's defaults filled in.
    pub value: T,
    /// Each value and its origin, in the order of the type's fields.
    pub origins: Vec<Setting>,
    /// What was written where.
    pub written: Written,
}

/// What was written, and where: the file with the settings over it.
#[derive(Clone, Debug)]
pub struct Written {
    path: PathBuf,
    text: String,
    sets: Vec<String>,
    root: Node,
}

/// Reads a configuration file and applies settings of the form `key.path=value`, later ones over earlier ones.
///
/// # Errors
/// When the file cannot be read, is not TOML, or says something that `T` does not take.
pub fn load<T>(path: &Path, sets: &[String]) -> Result<Loaded<T>, ConfigError>
where
    T: DeserializeOwned + Serialize + JsonSchema,
{
    parse(path, read(path)?, sets)
}

/// As [`load`], from a text that is already at hand. `path` is what errors call it.
///
/// # Errors
/// When the text is not TOML or says something that `T` does not take.
pub fn parse<T>(path: &Path, text: String, sets: &[String]) -> Result<Loaded<T>, ConfigError>
where
    T: DeserializeOwned + Serialize + JsonSchema,
{
    let schema = schema::<T>();
    let written = Written::new(path, text, sets, &schema)?;
    let value: T = de::from_tree(&written.root).map_err(|fault| written.refuse(fault, &schema))?;
    let origins = written.settings(&value, &[]);
    Ok(Loaded { value, origins, written })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    if path.is_dir() {
        return Err(ConfigError::Folder { path: path.to_owned() });
    }
    fs_err::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
        _ => ConfigError::Unreadable { path: path.to_owned(), source },
    })
}

/// The text of `resolved.toml`: every value, in the order of the type's fields, the same text for the same value. It
/// reads back as the same value, unless an optional one that is absent has a default: TOML cannot write absence.
///
/// # Panics
/// When the value has no TOML form (it is not a table, or a map's keys are not texts): a programmer's mistake.
pub fn to_toml<T: Serialize>(value: &T) -> String {
    toml::to_string(value).expect("a configuration has a TOML form")
}

impl Written {
    fn new(path: &Path, text: String, sets: &[String], schema: &serde_json::Value) -> Result<Self, ConfigError> {
        let root = Node::empty_table(Place::File { offset: 0 });
        let mut written = Self { path: path.to_owned(), text, sets: sets.to_vec(), root };
        written.root = written.read_file()?;
        for (idx, text) in sets.iter().enumerate() {
            written.apply(text, idx, schema)?;
        }
        Ok(written)
    }

    fn read_file(&self) -> Result<Node, ConfigError> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            self.broken(offset, error.message())
        })?;
        Node::document(&table).map_err(|tree::TooLarge(span)| self.broken(span.start, "the number is too large"))
    }

    fn broken(&self, offset: usize, message: &str) -> ConfigError {
        let at = self.at(Place::File { offset });
        match unquoted(&self.text, offset) {
            Some(text) => ConfigError::Unquoted { at, text: text.to_owned() },
            None => ConfigError::Syntax { at, message: message.to_owned() },
        }
    }

    fn apply(&mut self, text: &str, idx: usize, schema: &serde_json::Value) -> Result<(), ConfigError> {
        let at = self.at(Place::Set { idx });
        let set = Set::parse(text, idx).map_err(|message| ConfigError::BadSet { at: at.clone(), message })?;
        set.apply(&mut self.root, schema).map_err(|(key, problem)| ConfigError::Refused {
            at,
            key,
            problem: problem.into(),
        })
    }

    fn refuse(&self, fault: Fault, schema: &serde_json::Value) -> ConfigError {
        let Fault { mut problem, key, at } = fault;
        if let Problem::UnknownKey { key, elsewhere, .. } = &mut problem {
            *elsewhere = schema::places_of(schema, key);
        }
        ConfigError::Refused { at: self.at(at.unwrap_or(self.root.at)), key, problem: problem.into() }
    }

    fn at(&self, place: Place) -> At {
        match place {
            Place::Set { idx } => At::Set { text: self.sets[idx].clone() },
            Place::File { offset } => {
                let (line, column) = position(&self.text, offset);
                At::File { path: self.path.clone(), line, column }
            }
        }
    }

    fn find(&self, key: &str) -> Option<Place> {
        let key = KeyPath::parse(key)?;
        key.segments().iter().try_fold(&self.root, |node, segment| node.child(segment)).map(|node| node.at)
    }

    /// Whether the file or a `--set` gives a value for `key`, for example `corpus.source.medquad.path`.
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Each value of `resolved` with its origin, in the order of the type's fields. `derived` names what `resolve`
    /// computed; a value that is written keeps its place in the file whatever `derived` says.
    pub fn settings<R: Serialize>(&self, resolved: &R, derived: &[Derived]) -> Vec<Setting> {
        origin::settings(resolved, &self.root, &|offset| position(&self.text, offset).0, derived)
    }

    /// Whether `key` comes from a setting over the file.
    pub fn is_set(&self, key: &str) -> bool {
        matches!(self.find(key), Some(Place::Set { .. }))
    }

    /// A rule across values that does not hold, or a setting that cannot take effect, at the place where `key` is
    /// written. `message` names the keys it is about.
    pub fn rule(&self, key: &str, message: impl Into<String>, hint: Option<&str>) -> ConfigError {
        let at = self.find(key).map_or_else(|| At::Whole { path: self.path.clone() }, |place| self.at(place));
        ConfigError::Rule { at, message: message.into(), hint: hint.map(str::to_owned) }
    }
}

/// The bare word that stands at `offset` where a value should: after an `=`, and neither a number nor a quote.
fn unquoted(text: &str, offset: usize) -> Option<&str> {
    let (before, rest) = text.split_at_checked(offset)?;
    let word = rest.split([' ', '\t', '\r', '\n', ',', ']', '}', '#']).next()?;
    let is_value = before.trim_end_matches([' ', '\t']).ends_with('=');
    (is_value && word.starts_with(|c: char| c.is_alphabetic() || "./~_".contains(c))).then_some(word)
}

/// The line and the column of a byte offset, both from 1, columns in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |idx| idx + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
