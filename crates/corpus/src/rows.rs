//! Records with named fields: lines of JSON, rows of a table.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::vec;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::Format;
use crate::files::{FileError, FoundFile, reading_failed};
use crate::lines::{Line, Lines};
use crate::read::ReadError;
use crate::reject::RejectReason;

pub(crate) type Fields = Map<String, Value>;

/// What a line holds, or why it holds nothing.
pub(crate) struct Row {
    /// Counted from 1; in a JSON array, the number of the object.
    pub(crate) line: u64,
    pub(crate) fields: Result<Fields, RejectReason>,
}

/// Records, one after the other.
pub(crate) trait RowReader {
    /// The next record, or `None` after the last.
    fn next_row(&mut self) -> Result<Option<Row>, FileError>;
}

/// The records of one file of lines.
pub(crate) struct Rows {
    lines: Lines,
    file: FoundFile,
    table: Option<Table>,
}

struct Table {
    delimiter: u8,
    columns: Vec<String>,
}

impl RowReader for Rows {
    /// Blank lines are skipped.
    fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        let Some(line) = self.next_line()? else { return Ok(None) };
        let number = line.number;
        let fields = if line.too_long {
            Err(RejectReason::TooLong { max_bytes: self.lines.max_bytes() })
        } else if self.table.is_some() {
            self.table_fields(line)?
        } else {
            json_fields(&line.bytes)
        };
        Ok(Some(Row { line: number, fields }))
    }
}

impl Rows {
    /// Reads a file that is open and, of a table, the column names.
    pub(crate) fn of(reader: Box<dyn BufRead>, file: &FoundFile, format: Format) -> Result<Self, FileError> {
        let lines = Lines::new(reader);
        let mut rows = Self { lines, file: file.clone(), table: None };
        match format {
            Format::Csv => rows.read_header(b',')?,
            Format::Tsv => rows.read_header(b'\t')?,
            _ => {}
        }
        Ok(rows)
    }

    fn next_line(&mut self) -> Result<Option<Line>, FileError> {
        loop {
            let line = self.lines.next_line().map_err(|error| reading_failed(&self.file.path, error))?;
            match line {
                Some(line) if line.is_blank() => {}
                line => return Ok(line),
            }
        }
    }

    fn read_header(&mut self, delimiter: u8) -> Result<(), FileError> {
        let wrong = |file: &FoundFile, problem| FileError::Header { path: file.path.clone(), problem };
        let columns = match self.next_line()? {
            None => Vec::new(),
            Some(line) if line.too_long => return Err(wrong(&self.file, "the line is too long")),
            Some(line) => match self.record(line, delimiter)?.and_then(|bytes| cells(&bytes, delimiter)) {
                Ok(cells) => cells,
                Err(RejectReason::InvalidUtf8) => return Err(wrong(&self.file, "they are not UTF-8")),
                Err(_) => return Err(wrong(&self.file, "a quote is never closed")),
            },
        };
        let columns: Vec<String> = columns.into_iter().map(|name| name.trim().to_owned()).collect();
        if columns.iter().collect::<BTreeSet<_>>().len() < columns.len() {
            return Err(wrong(&self.file, "a name occurs twice"));
        }
        self.table = Some(Table { delimiter, columns });
        Ok(())
    }

    fn table_fields(&mut self, line: Line) -> Result<Result<Fields, RejectReason>, FileError> {
        let delimiter = self.table.as_ref().map_or(b',', |table| table.delimiter);
        let record = self.record(line, delimiter)?;
        let columns = self.table.as_ref().map_or(&[][..], |table| &table.columns);
        Ok(record.and_then(|bytes| cells(&bytes, delimiter)).and_then(|cells| {
            if cells.len() != columns.len() {
                return Err(RejectReason::WrongColumnCount { expected: columns.len(), got: cells.len() });
            }
            Ok(columns.iter().cloned().zip(cells.into_iter().map(Value::String)).collect())
        }))
    }

    /// The bytes of the record that begins at `first`, which goes on over line ends inside quotes. Where a quote is
    /// never closed, only the first line is lost: the lines after it are given back.
    fn record(&mut self, first: Line, delimiter: u8) -> Result<Result<Vec<u8>, RejectReason>, FileError> {
        let mut cursor = Cursor::FieldStart.after(&first.bytes, delimiter);
        let mut bytes = first.bytes;
        let mut taken = Vec::new();
        while cursor == Cursor::Quoted {
            let next = self.lines.next_line().map_err(|error| reading_failed(&self.file.path, error))?;
            let fits = |line: &Line| !line.too_long && bytes.len() + line.bytes.len() < self.lines.max_bytes();
            match next {
                Some(line) if fits(&line) => {
                    bytes.push(b'\n');
                    bytes.extend_from_slice(&line.bytes);
                    cursor = cursor.after(&line.bytes, delimiter);
                    taken.push(line);
                }
                end => {
                    taken.extend(end);
                    self.lines.give_back(taken);
                    return Ok(Err(RejectReason::UnclosedQuote));
                }
            }
        }
        Ok(Ok(bytes))
    }
}

/// Where in a row of a table one is (RFC 4180, and as the `csv` crate reads what RFC 4180 leaves open).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cursor {
    FieldStart,
    Plain,
    Quoted,
    QuoteInQuoted,
}

impl Cursor {
    fn after(self, bytes: &[u8], delimiter: u8) -> Self {
        bytes.iter().fold(self, |cursor, byte| match (cursor, *byte) {
            (Self::Quoted, b'"') => Self::QuoteInQuoted,
            (Self::Quoted, _) | (Self::FieldStart | Self::QuoteInQuoted, b'"') => Self::Quoted,
            (_, byte) if byte == delimiter => Self::FieldStart,
            _ => Self::Plain,
        })
    }
}

fn cells(bytes: &[u8], delimiter: u8) -> Result<Vec<String>, RejectReason> {
    let mut record = csv::ByteRecord::new();
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        // A lone carriage return inside a cell must not end the record; the line's own end is already gone.
        .terminator(csv::Terminator::Any(b'\n'))
        .buffer_capacity(bytes.len().max(1))
        .from_reader(bytes)
        .read_byte_record(&mut record)
        .map_err(|_| RejectReason::UnclosedQuote)?;
    let decode = |cell: &[u8]| String::from_utf8(cell.to_vec()).map_err(|_| RejectReason::InvalidUtf8);
    record.iter().map(decode).collect()
}

fn json_fields(bytes: &[u8]) -> Result<Fields, RejectReason> {
    object(json(bytes)?)
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RejectReason> {
    let text = std::str::from_utf8(bytes).map_err(|_| RejectReason::InvalidUtf8)?;
    serde_json::from_str(text).map_err(|error| RejectReason::InvalidJson { problem: error.to_string() })
}

fn object(value: Value) -> Result<Fields, RejectReason> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(RejectReason::InvalidJson { problem: "another kind of value".to_owned() }),
    }
}

/// What an object of a JSON object of objects is called.
const KEY: &str = "@key";

/// The objects of a JSON array, or of an object of objects, counted from 1; one reject where the file is neither.
pub(crate) struct Items(vec::IntoIter<Row>);

impl Items {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let fields: Vec<_> = match json(bytes) {
            Ok(Value::Array(values)) => values.into_iter().map(object).collect(),
            Ok(Value::Object(values)) => values.into_iter().map(|(key, value)| keyed(key, value)).collect(),
            Ok(_) => vec![Err(RejectReason::InvalidJson { problem: "neither a list nor an object".to_owned() })],
            Err(reason) => vec![Err(reason)],
        };
        let rows: Vec<Row> = (1..).zip(fields).map(|(line, fields)| Row { line, fields }).collect();
        Self(rows.into_iter())
    }
}

fn keyed(key: String, value: Value) -> Result<Fields, RejectReason> {
    let mut fields = object(value)?;
    fields.entry(KEY).or_insert(Value::String(key));
    Ok(fields)
}

impl RowReader for Items {
    fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        Ok(self.0.next())
    }
}

/// The value of a field; where there is none of the name, of a field inside a field (`article/body`).
fn find<'a>(fields: &'a Fields, field: &str) -> Option<&'a Value> {
    let inside = || {
        let (outer, inner) = field.split_once('/')?;
        find(fields.get(outer)?.as_object()?, inner)
    };
    fields.get(field).or_else(inside)
}

/// The text in a field, or the texts in a list, joined by line ends.
pub(crate) fn text_of(fields: &Fields, field: &str) -> Result<String, RejectReason> {
    let wrong = || RejectReason::WrongType { field: field.to_owned(), expected: "text" };
    let text = match find(fields, field) {
        None | Some(Value::Null) => return Err(RejectReason::MissingField { field: field.to_owned() }),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(texts)) => {
            let texts: Option<Vec<&str>> = texts.iter().map(Value::as_str).collect();
            texts.ok_or_else(wrong)?.join("\n")
        }
        Some(_) => return Err(wrong()),
    };
    if text.trim().is_empty() { Err(RejectReason::EmptyText) } else { Ok(text) }
}

/// A name in a field: text, a number or a truth value; `None` when the field is absent or empty.
pub(crate) fn name_of(fields: &Fields, field: &str) -> Result<Option<String>, RejectReason> {
    match find(fields, field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match plain_name(value) {
            Some(name) => Ok(Some(name).filter(|name| !name.is_empty())),
            None => Err(RejectReason::WrongType { field: field.to_owned(), expected: "text or a number" }),
        },
    }
}

/// The names in a field: a list of them, or one text cut at `;`.
pub(crate) fn names_of(fields: &Fields, field: &str) -> Result<Vec<String>, RejectReason> {
    let wrong = || RejectReason::WrongType { field: field.to_owned(), expected: "a list of text" };
    match find(fields, field) {
        None | Some(Value::Null) => Err(RejectReason::MissingField { field: field.to_owned() }),
        Some(Value::Array(values)) => values.iter().map(|value| plain_name(value).ok_or_else(wrong)).collect(),
        Some(Value::String(text)) => {
            Ok(text.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
        }
        Some(_) => Err(wrong()),
    }
}

/// The labels in a field: as [`names_of`], or a single one; none where the field is absent.
pub(crate) fn labels_of(fields: &Fields, field: &str) -> Result<Vec<String>, RejectReason> {
    match find(fields, field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(_) | Value::String(_)) => names_of(fields, field),
        Some(_) => Ok(name_of(fields, field)?.into_iter().collect()),
    }
}

/// The words in a field: a list that is not empty.
pub(crate) fn words_of(fields: &Fields, field: &str) -> Result<Vec<String>, RejectReason> {
    let words = match find(fields, field) {
        Some(Value::String(_)) => {
            return Err(RejectReason::WrongType { field: field.to_owned(), expected: "a list of text" });
        }
        _ => names_of(fields, field)?,
    };
    if words.is_empty() { Err(RejectReason::EmptyText) } else { Ok(words) }
}

fn plain_name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Looks out for fields that the configuration names and no record has: a wrong name, not dirty data.
pub(crate) struct FieldWatch {
    /// (setting, field, whether a record has it); the first is checked early.
    wanted: Vec<(&'static str, String, bool)>,
    fields: BTreeSet<String>,
    num_rows: usize,
}

impl FieldWatch {
    /// After so many records without the first field, the rest of the data is not read.
    const EARLY: usize = 1000;
    /// More names than a person reads.
    const MAX_FIELDS: usize = 50;

    /// Watches for (setting, field) pairs.
    pub(crate) fn new(wanted: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let wanted = wanted.into_iter().map(|(setting, field)| (setting, field, false)).collect();
        Self { wanted, fields: BTreeSet::new(), num_rows: 0 }
    }

    /// Takes note of a record; an error when it is time to give up. `name` is the source or task.
    pub(crate) fn see(&mut self, fields: &Fields, name: &str) -> Result<(), ReadError> {
        self.num_rows += 1;
        self.wanted.iter_mut().for_each(|(_, field, seen)| *seen |= find(fields, field).is_some());
        for field in fields.keys().filter(|field| !field.is_empty()) {
            if self.fields.len() < Self::MAX_FIELDS && !self.fields.contains(field) {
                self.fields.insert(field.clone());
            }
        }
        if self.num_rows == Self::EARLY { self.check(&self.wanted[..self.wanted.len().min(1)], name) } else { Ok(()) }
    }

    /// An error when records were seen and a field was in none of them.
    pub(crate) fn finish(&self, name: &str) -> Result<(), ReadError> {
        if self.num_rows == 0 { Ok(()) } else { self.check(&self.wanted, name) }
    }

    fn check(&self, wanted: &[(&'static str, String, bool)], name: &str) -> Result<(), ReadError> {
        match wanted.iter().find(|(_, _, seen)| !seen) {
            None => Ok(()),
            Some((setting, field, _)) => {
                Err(ReadError::wrong_field(name, setting, field, self.fields.iter().cloned().collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(name: &str, format: Format, bytes: &[u8], expected: &[(u64, Result<&[&str], &str>)]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::File::create(&path).unwrap().write_all(bytes).unwrap();
        let file = FoundFile { path, name: name.into(), shown: name.into() };
        let mut rows = Rows::of(crate::files::open(&file.path).unwrap(), &file, format).unwrap();
        let mut got = Vec::new();
        while let Some(row) = rows.next_row().unwrap() {
            let fields =
                row.fields.map(|fields| fields.values().map(|v| v.as_str().unwrap_or("?").to_owned()).collect());
            got.push((row.line, fields.map_err(|reason| reason.name().to_owned())));
        }
        let expected: Vec<(u64, Result<Vec<String>, String>)> = expected
            .iter()
            .map(|(line, row)| (*line, row.map(|v| v.iter().map(|s| (*s).to_owned()).collect()).map_err(str::to_owned)))
            .collect();
        assert_eq!(got, expected, "{}", String::from_utf8_lossy(bytes));
    }

    #[test]
    fn tables() {
        let csv = Format::Csv;
        check("a.csv", csv, b"", &[]);
        check(
            "a.csv",
            csv,
            b"\xef\xbb\xbfid,text\r\n1,a\r\n\r\n2,\"b, \"\"c\"\"\r\nd\"\r\n3,x\ry\r\n",
            &[(2, Ok(&["1", "a"])), (4, Ok(&["2", "b, \"c\"\nd"])), (6, Ok(&["3", "x\ry"]))],
        );
        check(
            "a.csv",
            csv,
            b"id,text\n1\n2,a,b\n3,\xff\n4,ok\n",
            &[
                (2, Err("wrong_column_count")),
                (3, Err("wrong_column_count")),
                (4, Err("invalid_utf8")),
                (5, Ok(&["4", "ok"])),
            ],
        );
        check("a.tsv", Format::Tsv, b"id\ttext\n1\ta, 5\" b\n", &[(2, Ok(&["1", "a, 5\" b"]))]);
    }

    #[test]
    fn a_quote_never_closed_costs_one_line() {
        check(
            "a.csv",
            Format::Csv,
            b"id,text\n1,\"a\n2,b\n3,c\n",
            &[(2, Err("unclosed_quote")), (3, Ok(&["2", "b"])), (4, Ok(&["3", "c"]))],
        );
    }

    #[test]
    fn json_lines() {
        check(
            "a.jsonl",
            Format::Jsonl,
            b"{\"a\":\"x\"}\n\n[1]\n{\"a\"\n\"\xff\"\n{\"a\":\"y\"}",
            &[
                (1, Ok(&["x"])),
                (3, Err("invalid_json")),
                (4, Err("invalid_json")),
                (5, Err("invalid_utf8")),
                (6, Ok(&["y"])),
            ],
        );
    }
}
