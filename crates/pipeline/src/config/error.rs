//! What can be wrong with a configuration, in words that name the place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use arable_core::Hint;

use super::keys::{KeyPath, listed, nearest};

/// A configuration that cannot be used. Always the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no file.
    #[error("find the configuration `{}`", path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// A folder stands where a file is wanted.
    #[error("read the configuration `{}`: it is a folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file is there and cannot be read as text.
    #[error("read the configuration `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{at}: {message}")]
    Syntax {
        /// Where the parser gave up.
        at: At,
        /// What the parser says.
        message: String,
    },
    /// A text without quotes, which is not TOML either and much the commonest slip.
    #[error("{at}: `{text}` is not in quotes")]
    Unquoted {
        /// Where the text starts.
        at: At,
        /// The text.
        text: String,
    },
    /// A `--set` that is not `key.path=value`.
    #[error("{at}: {message}")]
    BadSet {
        /// The setting.
        at: At,
        /// What is wrong with it.
        message: &'static str,
    },
    /// A key or a value that the configuration does not take.
    #[error("{at}: {}", problem.at_key(key))]
    Refused {
        /// Where it is written.
        at: At,
        /// The key of the value, or of the table that holds an unknown key.
        key: KeyPath,
        /// What is wrong.
        problem: Box<Problem>,
    },
    /// Values that are legal alone but not together, or a setting that could not take effect.
    #[error("{at}: {message}")]
    Rule {
        /// Where the key is written.
        at: At,
        /// The rule that does not hold, with the keys it is about.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// Where something was written, as an error names it. Reads after "failed to".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// In the file. Line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: usize,
        /// The character in the line.
        column: usize,
    },
    /// The file as a whole: what is wrong is written nowhere.
    Whole {
        /// The file.
        path: PathBuf,
    },
    /// In a `--set`.
    Set {
        /// Its text.
        text: String,
    },
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "read {}:{line}:{column}", path.display()),
            Self::Whole { path } => write!(f, "read {}", path.display()),
            Self::Set { text } => write!(f, "apply `--set {text}`"),
        }
    }
}

/// What is wrong with a key or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The table has no such key.
    UnknownKey {
        /// The key as written.
        key: String,
        /// The keys that the table has.
        known: Vec<String>,
        /// Where else in the configuration a key of this name exists.
        elsewhere: Vec<String>,
    },
    /// The value is not among those that can be chosen.
    UnknownChoice {
        /// The value as written.
        choice: String,
        /// What can be chosen.
        known: Vec<String>,
    },
    /// The array has no such element.
    UnknownElement {
        /// The name or index as written.
        element: String,
        /// The names (or indices) of the elements there are.
        known: Vec<String>,
    },
    /// The value has the wrong type, or its type cannot hold it.
    Unfit {
        /// What would fit.
        expected: String,
        /// What was written.
        got: String,
    },
    /// The table lacks a key that has no default.
    MissingKey {
        /// The key.
        key: String,
    },
    /// The value is of the right type and still not legal, as a number outside its range.
    Illegal {
        /// Why.
        message: String,
    },
}

impl Problem {
    fn at_key(&self, key: &KeyPath) -> String {
        match self {
            Self::UnknownKey { key: unknown, .. } if key.is_root() => format!("unknown key `{unknown}`"),
            Self::UnknownKey { key: unknown, .. } => format!("unknown key `{unknown}` in `{key}`"),
            Self::UnknownChoice { choice, .. } => format!("unknown value `{choice}` for `{key}`"),
            Self::UnknownElement { element, .. } => format!("`{key}` has no element `{element}`"),
            Self::Unfit { expected, got } if key.is_root() => format!("expected {expected}, got {got}"),
            Self::Unfit { expected, got } => format!("`{key}` takes {expected}, not {got}"),
            Self::MissingKey { key: missing } if key.is_root() => format!("the key `{missing}` is missing"),
            Self::MissingKey { key: missing } => format!("the key `{missing}` of `{key}` is missing"),
            Self::Illegal { message } if key.is_root() => message.clone(),
            Self::Illegal { message } => format!("`{key}`: {message}"),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { key, known, elsewhere } => Some(key_hint(key, known, elsewhere)),
            Self::UnknownChoice { choice, known } => Some(choice_hint(choice, known, "one of")),
            Self::UnknownElement { known, .. } if known.is_empty() => {
                Some("write the element in the file first, or set the whole array with `--set key=[...]`".to_owned())
            }
            Self::UnknownElement { element, known } => Some(choice_hint(element, known, "one of")),
            Self::Unfit { expected, got } => unquote_hint(expected, got),
            Self::MissingKey { key } => Some(format!("add a line `{key} = ...`")),
            Self::Illegal { .. } => Some("`arable config schema` says what each setting may hold".to_owned()),
        }
    }
}

fn key_hint(key: &str, known: &[String], elsewhere: &[String]) -> String {
    let near = nearest(key, known.iter().map(String::as_str));
    match (near, elsewhere) {
        (Some(near), _) => format!("did you mean `{near}`? {}", known_keys(known)),
        (None, [only]) => format!("did you mean `{only}`? {}", known_keys(known)),
        (None, _) => known_keys(known).replacen("Known", "known", 1),
    }
}

fn known_keys(known: &[String]) -> String {
    if known.is_empty() {
        "remove it: no key is known here".to_owned()
    } else {
        format!("Known here: {}", listed(known))
    }
}

fn choice_hint(choice: &str, known: &[String], lead: &str) -> String {
    match nearest(choice, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? Choose {lead} {}", listed(known)),
        None => format!("choose {lead} {}", listed(known)),
    }
}

/// The commonest slip: a number or a flag in quotes.
fn unquote_hint(expected: &str, got: &str) -> Option<String> {
    let inner = got.strip_prefix("the text \"")?.strip_suffix('"')?;
    let is_bare = inner.parse::<f64>().is_ok() && expected.contains("number") || matches!(inner, "true" | "false");
    (is_bare && !expected.contains("text")).then(|| format!("write {inner} without quotes"))
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => {
                Some("run `arable init` to write one, or name another file with `--config <file>`".to_owned())
            }
            Self::Folder { path } => Some(folder_hint(path)),
            Self::Unreadable { .. } | Self::Syntax { .. } => None,
            Self::Unquoted { text, .. } => Some(format!("write texts in quotes: {text:?}")),
            Self::BadSet { .. } => Some("write `--set key.path=value`, for example `--set a.b=3`".to_owned()),
            Self::Refused { problem, .. } => problem.hint(),
            Self::Rule { hint, .. } => hint.clone(),
        }
    }
}

fn folder_hint(folder: &Path) -> String {
    let inside = folder.join("arable.toml");
    format!("name the file with `--config {}`, or run `arable init {}` to write it", inside.display(), folder.display())
}
