//! Records out of XML: one for each element of a name, its fields named by their paths below it.
//!
//! A field is the whole text below an element (`Abstract/AbstractText`) or an attribute (`@id`); attributes of the elements
//! around the record have their full path (`/Document/@id`). Where a path occurs several times, its texts are joined by
//! line ends. Entities that a document declares itself are not expanded, so that none can grow without bounds.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use serde_json::Value;

use crate::files::{FileError, FoundFile, reading_failed};
use crate::lines::MAX_BYTES;
use crate::reject::RejectReason;
use crate::rows::{Fields, Row, RowReader};

/// Elements inside each other, at most.
const MAX_DEPTH: usize = 256;

/// The records of one XML file.
pub(crate) struct Records {
    reader: Reader<CountedLines>,
    num_lines: Rc<Cell<u64>>,
    file: FoundFile,
    /// The end of the path of a record's element, as names.
    record: Vec<String>,
    /// Names of the elements that are open.
    path: Vec<String>,
    /// Attributes of the elements around records, by full path.
    around: Vec<(String, String)>,
    is_done: bool,
}

/// A record while it is read.
struct Partial {
    line: u64,
    /// Open elements when it began, itself included.
    depth: usize,
    fields: Fields,
    /// The text of each open element of the record.
    texts: Vec<String>,
    num_bytes: usize,
}

impl RowReader for Records {
    /// What is not XML is one reject, and the rest of the file is passed over.
    fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        if self.is_done {
            return Ok(None);
        }
        let (mut partial, mut buffer) = (None, Vec::new());
        loop {
            buffer.clear();
            let event = match self.reader.read_event_into(&mut buffer) {
                Ok(event) => event.into_owned(),
                Err(quick_xml::Error::Io(error)) => {
                    let error = io::Error::new(error.kind(), error);
                    return Err(reading_failed(&self.file.path, error));
                }
                Err(error) => return Ok(self.broken(error.to_string())),
            };
            match event {
                Event::Start(start) if self.path.len() == MAX_DEPTH => {
                    let name = start.local_name().into_inner().to_owned();
                    return Ok(self.broken(format!("<{name}> lies more than {MAX_DEPTH} elements deep")));
                }
                Event::Start(start) => {
                    if let Err(problem) = self.start(&start, &mut partial) {
                        return Ok(self.broken(problem));
                    }
                }
                Event::End(_) => {
                    if let Some(row) = self.end(&mut partial) {
                        return Ok(Some(row));
                    }
                }
                Event::Text(text) => put(&mut partial, &text.xml10_content()),
                Event::CData(text) => put(&mut partial, &text.xml10_content()),
                Event::GeneralRef(name) => match name.resolve_char_ref() {
                    Ok(Some(char)) => put(&mut partial, char.encode_utf8(&mut [0; 4])),
                    _ => match resolve_predefined_entity(&name) {
                        Some(text) => put(&mut partial, text),
                        None => put(&mut partial, &format!("&{};", &*name)),
                    },
                },
                Event::Eof if !self.path.is_empty() => {
                    let name = self.path.last().cloned().unwrap_or_default();
                    return Ok(self.broken(format!("the file ends inside <{name}>")));
                }
                Event::Eof => {
                    self.is_done = true;
                    return Ok(None);
                }
                _ => {}
            }
        }
    }
}

impl Records {
    /// `record` is the name of a record's element, or the end of its path (`Set/Item`).
    pub(crate) fn open(reader: Box<dyn BufRead>, file: &FoundFile, record: &str) -> Self {
        let num_lines = Rc::new(Cell::new(1));
        let mut reader = Reader::from_reader(CountedLines { reader, num_lines: Rc::clone(&num_lines) });
        reader.config_mut().expand_empty_elements = true;
        Self {
            reader,
            num_lines,
            file: file.clone(),
            record: record.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            path: Vec::new(),
            around: Vec::new(),
            is_done: false,
        }
    }

    fn broken(&mut self, problem: String) -> Option<Row> {
        self.is_done = true;
        Some(Row { line: self.num_lines.get(), fields: Err(RejectReason::InvalidXml { problem }) })
    }

    fn start(&mut self, start: &BytesStart<'_>, partial: &mut Option<Partial>) -> Result<(), String> {
        self.path.push(start.local_name().into_inner().to_owned());
        if partial.is_none() && self.path.ends_with(&self.record) {
            let fields = self.around.iter().map(|(path, value)| (path.clone(), Value::String(value.clone()))).collect();
            let (line, depth) = (self.num_lines.get(), self.path.len());
            *partial = Some(Partial { line, depth, fields, texts: Vec::new(), num_bytes: 0 });
        }
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
            let name = format!("@{}", attribute.key.local_name().into_inner());
            match partial {
                Some(partial) => partial.add(field(&self.path[partial.depth..], &name), &value),
                None => self.around.push((format!("/{}/{name}", self.path.join("/")), value.into_owned())),
            }
        }
        if let Some(partial) = partial {
            partial.texts.push(String::new());
        }
        Ok(())
    }

    fn end(&mut self, partial: &mut Option<Partial>) -> Option<Row> {
        let is_record = partial.as_ref().is_some_and(|partial| partial.depth == self.path.len());
        match partial {
            Some(partial) => {
                let text = partial.texts.pop().unwrap_or_default();
                if let Some(around) = partial.texts.last_mut() {
                    around.push_str(&text);
                }
                partial.add(field(&self.path[partial.depth..], ""), &text);
            }
            None => {
                let prefix = format!("/{}/@", self.path.join("/"));
                self.around.retain(|(path, _)| !path.starts_with(&prefix));
            }
        }
        self.path.pop();
        let Partial { line, fields, num_bytes, .. } = partial.take_if(|_| is_record)?;
        let too_long = num_bytes > MAX_BYTES;
        let fields = if too_long { Err(RejectReason::TooLong { max_bytes: MAX_BYTES }) } else { Ok(fields) };
        Some(Row { line, fields })
    }
}

/// The name of a field: the path below the record; `.` for the record's own text.
fn field(path: &[String], attribute: &str) -> String {
    match (path, attribute) {
        ([], "") => ".".to_owned(),
        ([], attribute) => attribute.to_owned(),
        (path, "") => path.join("/"),
        (path, attribute) => format!("{}/{attribute}", path.join("/")),
    }
}

fn put(partial: &mut Option<Partial>, text: &str) {
    if let Some(partial) = partial {
        partial.num_bytes += text.len();
        // What is too long is rejected in the end; it need not be held.
        if let Some(open) = partial.texts.last_mut().filter(|_| partial.num_bytes <= MAX_BYTES) {
            open.push_str(text);
        }
    }
}

impl Partial {
    fn add(&mut self, field: String, text: &str) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        match self.fields.get_mut(&field) {
            Some(Value::String(before)) => {
                before.push('\n');
                before.push_str(text);
            }
            _ => drop(self.fields.insert(field, Value::String(text.to_owned()))),
        }
    }
}

/// A reader that counts the line ends that were read.
struct CountedLines {
    reader: Box<dyn BufRead>,
    num_lines: Rc<Cell<u64>>,
}

impl Read for CountedLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let len = available.len().min(buffer.len());
        buffer[..len].copy_from_slice(&available[..len]);
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for CountedLines {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, len: usize) {
        if let Ok(available) = self.reader.fill_buf() {
            let num_ends = available[..len].iter().filter(|byte| **byte == b'\n').count() as u64;
            self.num_lines.set(self.num_lines.get() + num_ends);
        }
        self.reader.consume(len);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    type Shown = (u64, Result<Vec<(String, String)>, String>);

    fn read(text: &'static str, record: &str) -> Vec<Shown> {
        let file = FoundFile { path: PathBuf::new(), name: String::new(), shown: String::new() };
        let mut records = Records::open(Box::new(text.as_bytes()), &file, record);
        let show = |row: Row| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let fields =
                row.fields.map(|fields| fields.iter().map(|(name, value)| (name.clone(), text(value))).collect());
            (row.line, fields.map_err(|reason| reason.to_string()))
        };
        std::iter::from_fn(|| records.next_row().unwrap().map(show)).collect()
    }

    fn check(text: &'static str, record: &str, expected: &[(u64, &[(&str, &str)])]) {
        let expected: Vec<Shown> = expected
            .iter()
            .map(|(line, fields)| {
                (*line, Ok(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
            })
            .collect();
        assert_eq!(read(text, record), expected, "{text}");
    }

    #[test]
    fn fields_are_paths_and_attributes() {
        let text = "<?xml version=\"1.0\"?>\n<Doc id='d&amp;1'>\n<Pair pid=\"7\"><Q>Why?</Q>\n<A>It <i>drips</i> &lt;1 &#x3bc;l&alpha;</A>\
                    <A><![CDATA[a<b]]></A><empty k='v'/></Pair>\n<Pair/>\n<other>x</other></Doc>";
        let first: &[(&str, &str)] = &[
            ("/Doc/@id", "d&1"),
            ("@pid", "7"),
            ("Q", "Why?"),
            ("A/i", "drips"),
            ("A", "It drips <1 \u{3bc}l&alpha;\na<b"),
            ("empty/@k", "v"),
            (".", "Why?\nIt drips <1 \u{3bc}l&alpha;a<b"),
        ];
        check(text, "Pair", &[(3, first), (5, &[("/Doc/@id", "d&1")])]);
        check(text, "Doc/Pair/Q", &[(3, &[("/Doc/@id", "d&1"), ("/Doc/Pair/@pid", "7"), (".", "Why?")])]);
        check(text, "Nothing", &[]);
        check("<n:a xmlns:n='x'><n:b>1</n:b></n:a>", "b", &[(1, &[("/a/@n", "x"), (".", "1")])]);
    }

    #[test]
    fn what_surrounds_one_record_does_not_reach_the_next() {
        let text = "<s><d id='1' x='y'><r>a</r></d>\n<d id='2'><r>b</r></d></s>";
        check(
            text,
            "r",
            &[(1, &[("/s/d/@id", "1"), ("/s/d/@x", "y"), (".", "a")]), (2, &[("/s/d/@id", "2"), (".", "b")])],
        );
    }

    #[test]
    fn what_is_not_xml_costs_the_rest_of_the_file() {
        let broken = |text: &'static str| {
            let rows = read(text, "r");
            let (line, fields) = rows.last().unwrap().clone();
            (rows.len(), line, fields.unwrap_err())
        };
        let (num, line, problem) = broken("<s><r>a</r>\n<r>b</s>");
        assert_eq!((num, line), (2, 2));
        assert!(problem.contains("not XML"), "{problem}");
        assert!(broken("<s><r>a</r>").2.contains("ends inside <s>"));
        let deep: &'static str = Box::leak("<d>".repeat(300).into_boxed_str());
        assert!(broken(deep).2.contains("256 elements deep"));
        // Declared entities are left as they are: a billion laughs are one.
        let laughs = "<!DOCTYPE s [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]><s><r>&b;</r></s>";
        check(laughs, "r", &[(1, &[(".", "&b;")])]);
    }
}
