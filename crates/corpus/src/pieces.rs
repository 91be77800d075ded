//! What a file of a source is cut into, before it has a name.

use std::io::{BufRead, Read};

use crate::archive;
use crate::batches::Batches;
use crate::config::{Format, SourceConfig};
use crate::encoding::{Decoded, Utf8Reader};
use crate::files::{FileError, FoundFile, open, open_plain, reading_failed};
use crate::html::page_fields;
use crate::lines::{Lines, MAX_BYTES};
use crate::markdown::front_matter;
use crate::pdf::pdf_text;
use crate::read::ReadError;
use crate::reject::RejectReason;
use crate::rows::{Fields, Items, RowReader, Rows, labels_of, name_of, text_of};
use crate::xml::Records;

/// A document before it has a name; `line` is `None` for a whole file.
#[derive(Default)]
pub(crate) struct Piece {
    pub(crate) line: Option<u64>,
    pub(crate) text: String,
    pub(crate) id: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) origin: Option<String>,
    pub(crate) licence: Option<String>,
    pub(crate) labels: Vec<String>,
}

pub(crate) type PieceResult = Result<Piece, (u64, RejectReason)>;

/// A file being read.
pub(crate) enum Reading {
    /// Records with fields.
    Rows(Box<dyn RowReader>),
    Paragraphs(Lines),
    Lines(Lines),
    /// One document, or why there is none.
    Whole(Option<PieceResult>),
    /// One document with fields.
    Page(Option<Fields>),
}

impl Reading {
    /// Begins a file of a known format; `member` is what it holds where it lies in an archive.
    pub(crate) fn begin(
        config: &SourceConfig,
        file: &FoundFile,
        member: Option<Vec<u8>>,
        decoded: Decoded,
    ) -> Result<Self, ReadError> {
        let format = format_of(config, file).expect("only files of a known format are opened");
        match format {
            Format::Parquet | Format::Arrow => return batches(file, member, format),
            Format::Pdf => return Ok(Self::Whole(Some(pdf(unpacked(file, member)?, file)?))),
            _ => {}
        }
        let may_declare = matches!(format, Format::Xml | Format::Html);
        let reader = Utf8Reader::new(unpacked(file, member)?, config.encoding, may_declare, decoded);
        let reader = Box::new(reader.map_err(|error| reading_failed(&file.path, error))?);
        Ok(match format {
            Format::Text if config.paragraphs => Self::Paragraphs(Lines::new(reader)),
            Format::Text if config.lines => Self::Lines(Lines::new(reader)),
            Format::Text => Self::Whole(Some(whole(reader, file)?)),
            Format::Xml => {
                let record = config.record.as_deref().ok_or_else(|| ReadError::no_record(&config.name))?;
                Self::Rows(Box::new(Records::open(reader, file, record)))
            }
            Format::Json => match bytes(reader, file)? {
                Ok(bytes) => Self::Rows(Box::new(Items::of(&bytes))),
                Err(reason) => Self::unusable(reason),
            },
            Format::Html => match text_of_file(reader, file)? {
                Ok(html) => Self::Page(Some(page_fields(&html))),
                Err(reason) => Self::Whole(Some(Err(reason))),
            },
            Format::Markdown => match text_of_file(reader, file)? {
                Ok(text) => Self::Page(Some(front_matter(&text.replace("\r\n", "\n")))),
                Err(reason) => Self::Whole(Some(Err(reason))),
            },
            _ => Self::Rows(Box::new(Rows::of(reader, file, format)?)),
        })
    }

    /// A file that cannot be used.
    pub(crate) fn unusable(reason: RejectReason) -> Self {
        Self::Whole(Some(Err((1, reason))))
    }
}

/// What a file or a member holds, unpacked where it is packed.
fn unpacked(file: &FoundFile, member: Option<Vec<u8>>) -> Result<Box<dyn BufRead>, FileError> {
    match member {
        Some(bytes) => archive::unpacked(file, bytes),
        None => open(&file.path),
    }
}

/// Parquet and Arrow are read where they lie; out of packed files they come whole, as members of archives do.
fn batches(file: &FoundFile, member: Option<Vec<u8>>, format: Format) -> Result<Reading, ReadError> {
    let plain = if member.is_none() { open_plain(&file.path)? } else { None };
    let batches = match plain {
        Some(content) => Batches::of_file(content, file, format)?,
        None => match bytes(unpacked(file, member)?, file)? {
            Ok(bytes) => Batches::of_bytes(bytes, file, format)?,
            Err(reason) => return Ok(Reading::unusable(reason)),
        },
    };
    Ok(Reading::Rows(Box::new(batches)))
}

/// The format that is set, or that the name tells.
pub(crate) fn format_of(config: &SourceConfig, file: &FoundFile) -> Option<Format> {
    config.format.or_else(|| Format::of_name(&file.name))
}

/// The document in a record.
pub(crate) fn row_piece(config: &SourceConfig, line: u64, fields: &Fields) -> Result<Piece, RejectReason> {
    let named = |field: &Option<String>| field.as_ref().map_or(Ok(None), |field| name_of(fields, field));
    Ok(Piece {
        line: Some(line),
        text: whole_text(text_of(fields, &config.text)?)?,
        id: name_of(fields, config.id.as_deref().unwrap_or("id"))?,
        group: name_of(fields, config.group.as_deref().unwrap_or("group"))?,
        time: name_of(fields, config.time.as_deref().unwrap_or("time"))?,
        origin: named(&config.origin)?,
        licence: named(&config.licence)?,
        labels: config.labels.as_ref().map_or(Ok(Vec::new()), |field| labels_of(fields, field))?,
    })
}

/// All that a reader holds, or that it is too much.
fn bytes(reader: impl BufRead, file: &FoundFile) -> Result<Result<Vec<u8>, RejectReason>, FileError> {
    let mut bytes = Vec::new();
    let result = reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
    result.map_err(|error| reading_failed(&file.path, error))?;
    Ok(if bytes.len() > MAX_BYTES { Err(RejectReason::TooLong { max_bytes: MAX_BYTES }) } else { Ok(bytes) })
}

fn whole(reader: impl BufRead, file: &FoundFile) -> Result<PieceResult, FileError> {
    Ok(text_of_file(reader, file)?.and_then(|text| text_piece(None, 1, text.replace("\r\n", "\n"))))
}

fn pdf(reader: impl BufRead, file: &FoundFile) -> Result<PieceResult, FileError> {
    let text = bytes(reader, file)?.and_then(pdf_text);
    Ok(text.map_err(|reason| (1, reason)).and_then(|text| text_piece(None, 1, text)))
}

/// The text that a file holds, or what is wrong with it and in which line.
fn text_of_file(reader: impl BufRead, file: &FoundFile) -> Result<Result<String, (u64, RejectReason)>, FileError> {
    let bytes = match bytes(reader, file)? {
        Ok(bytes) => bytes,
        Err(reason) => return Ok(Err((1, reason))),
    };
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Ok(text.trim_start_matches('\u{feff}').to_owned()),
        Err(error) => {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            Err((1 + good.iter().filter(|byte| **byte == b'\n').count() as u64, RejectReason::InvalidUtf8))
        }
    })
}

fn text_piece(line: Option<u64>, first_line: u64, text: String) -> PieceResult {
    if text.trim().is_empty() {
        return Err((first_line, RejectReason::EmptyText));
    }
    let text = whole_text(text).map_err(|reason| (first_line, reason))?;
    Ok(Piece { line, text, ..Piece::default() })
}

/// A text that is one: NUL characters come from files that were cut off or are something else.
fn whole_text(text: String) -> Result<String, RejectReason> {
    if text.contains('\0') { Err(RejectReason::NulCharacters) } else { Ok(text) }
}

/// The next line that is not blank.
pub(crate) fn line_piece(lines: &mut Lines, file: &FoundFile) -> Result<Option<PieceResult>, FileError> {
    while let Some(line) = lines.next_line().map_err(|error| reading_failed(&file.path, error))? {
        if line.is_blank() {
            continue;
        }
        let number = line.number;
        return Ok(Some(match String::from_utf8(line.bytes) {
            _ if line.too_long => Err((number, RejectReason::TooLong { max_bytes: MAX_BYTES })),
            Ok(text) => text_piece(Some(number), number, text),
            Err(_) => Err((number, RejectReason::InvalidUtf8)),
        }));
    }
    Ok(None)
}

/// The next run of lines that are not blank; a bad line spoils its paragraph.
pub(crate) fn paragraph(lines: &mut Lines, file: &FoundFile) -> Result<Option<PieceResult>, FileError> {
    let mut first = None;
    let mut bad = None;
    let mut text = String::new();
    while let Some(line) = lines.next_line().map_err(|error| reading_failed(&file.path, error))? {
        if line.is_blank() && first.is_none() {
            continue;
        }
        if line.is_blank() {
            break;
        }
        if first.is_some() {
            text.push('\n');
        }
        first = first.or(Some(line.number));
        match std::str::from_utf8(&line.bytes) {
            _ if line.too_long || text.len() + line.bytes.len() > MAX_BYTES => {
                bad = bad.or(Some((line.number, RejectReason::TooLong { max_bytes: MAX_BYTES })));
            }
            Ok(part) => text.push_str(part),
            Err(_) => bad = bad.or(Some((line.number, RejectReason::InvalidUtf8))),
        }
    }
    Ok(first.map(|number| bad.map_or_else(|| text_piece(Some(number), number, text), Err)))
}
