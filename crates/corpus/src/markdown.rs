//! What a Markdown file says about itself, and its text.
//!
//! Markup stays: headings, lists, tables and code say what a text is made of, and a model that reads them learns to write
//! them. What is cut off is front matter, the block between `---` lines (YAML) or `+++` lines (TOML) at the very start,
//! whose plain entries become fields: `key: value`, `key = value`, lists in brackets, and lists of `- value` lines. Other
//! entries, such as those inside others, are passed over.

use serde_json::Value;

use crate::rows::Fields;

/// The fields of a file: `text`, `title` (of the front matter, else the first heading), and each entry of the front matter
/// by its name.
pub(crate) fn front_matter(file: &str) -> Fields {
    let (entries, text) = split(file);
    let mut fields = Fields::new();
    // A key without a value: what its list holds follows.
    let mut open = None;
    for line in entries.lines() {
        if let (Some(key), Some(value)) = (&open, line.trim_start().strip_prefix("- ")) {
            match fields.get_mut(key) {
                Some(Value::Array(values)) => values.push(scalar(value)),
                _ => drop(fields.insert(String::clone(key), vec![scalar(value)].into())),
            }
            continue;
        }
        match entry(line) {
            Some((key, "")) => open = Some(key.to_owned()),
            Some((key, value)) => (open, _) = (None, fields.insert(key.to_owned(), parsed(value))),
            None => {}
        }
    }
    let heading = text.lines().find_map(|line| line.strip_prefix("# ")).map(|title| title.trim_end_matches(['#', ' ']));
    if let (Some(title), false) = (heading, fields.contains_key("title")) {
        fields.insert("title".to_owned(), title.trim().into());
    }
    fields.insert("text".to_owned(), text.trim_start_matches('\n').into());
    fields
}

/// Front matter, if it is closed, and what follows it.
fn split(file: &str) -> (&str, &str) {
    let inside = |mark: &str| {
        let (first, rest) = file.split_once('\n')?;
        let rest = Some(rest).filter(|_| first.trim_end() == mark)?;
        let mut at = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim_end() == mark {
                return Some((&rest[..at], &rest[at + line.len()..]));
            }
            at += line.len();
        }
        None
    };
    inside("---").or_else(|| inside("+++")).unwrap_or(("", file))
}

/// Key and value of a line that is an entry of its own.
fn entry(line: &str) -> Option<(&str, &str)> {
    let is_plain = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "-_. ".contains(c));
    let (key, value) = line.split_at(line.find([':', '='])?);
    let is_own = !line.starts_with([' ', '\t', '-', '#']) && is_plain(key.trim_end());
    // In YAML a colon without a space is part of a word.
    let (value, is_spaced) = (&value[1..], value.len() == 1 || value[1..].starts_with(' ') || value.starts_with('='));
    (is_own && is_spaced).then(|| (key.trim_end(), value.trim()))
}

fn parsed(value: &str) -> Value {
    match value.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.split(',').filter(|part| !part.trim().is_empty()).map(scalar).collect(),
        None => scalar(value),
    }
}

fn scalar(value: &str) -> Value {
    let value = value.trim();
    let unquoted =
        ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote)));
    unquoted.unwrap_or(value).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(file: &str, expected: Value) {
        assert_eq!(Value::Object(front_matter(file)), expected, "{file}");
    }

    #[test]
    fn front_matter_becomes_fields_and_markup_stays() {
        check(
            "---\ntitle: \"A: b\"\ndate: 2024-05-01\ntags: [x, 'y z']\nauthors:\n  - Ann\n  - Bo\nnested:\n  key: v\nurl: http://x.y\n---\n\n# Head #\n\n*Text* with `code`.\n",
            json!({
                "title": "A: b", "date": "2024-05-01", "tags": ["x", "y z"], "authors": ["Ann", "Bo"],
                "url": "http://x.y", "text": "# Head #\n\n*Text* with `code`.\n",
            }),
        );
        check("+++\ntitle = 'T'\n+++\nText\n", json!({ "title": "T", "text": "Text\n" }));
        check("## Sub\n# The title #\nText", json!({ "title": "The title", "text": "## Sub\n# The title #\nText" }));
    }

    #[test]
    fn a_rule_is_no_front_matter() {
        check("---\nkey: never closed\nText", json!({ "text": "---\nkey: never closed\nText" }));
        check("Text\n---\na: b\n---\n", json!({ "text": "Text\n---\na: b\n---\n" }));
        check("---\n---\nText", json!({ "text": "Text" }));
    }
}
