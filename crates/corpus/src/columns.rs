//! Documents and their attributes as Arrow columns, and attributes on disk as Parquet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arable_core::{Document, Hint};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::error::ArrowError;
use fs_err as fs;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::attributes::Attributes;

/// The columns of text, with what they mean. They come first.
pub(crate) const TEXTS: [(&str, &str); 6] = [
    ("id", "The document's id, after its source and `/`."),
    ("source", "The source it comes from."),
    ("group", "What must stay on one side of a split; in double quotes, because SQL has a word `group`."),
    ("time", "When it was written, as it is given."),
    ("text", "The text."),
    ("language", "The language, as ISO 639-3 has it (`eng`); empty where it cannot be told."),
];

/// Attributes that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    /// The file cannot be opened.
    #[error("open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It cannot be written or read as Parquet.
    #[error("write or read `{}` as Parquet", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: ParquetError,
    },
    /// Its rows cannot be read.
    #[error("read the rows of `{}`", path.display())]
    Rows {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: ArrowError,
    },
    /// Its columns are not those of attributes, or its rows not those of the documents.
    #[error("find the attributes of `{document}` in `{}`", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// The first document whose attributes are not where they should be.
        document: String,
    },
}

impl Hint for ColumnsError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Open { .. } => "check that the folder exists, may be written to and has room".to_owned(),
            _ => "the file was changed after it was written; make it anew".to_owned(),
        })
    }
}

pub(crate) fn schema() -> Schema {
    let texts = TEXTS.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true));
    let is_relative = |name: &str| Attributes::RELATIVE.iter().any(|(relative, _)| *relative == name);
    let numbers = Attributes::NUMBERS.iter().map(|(name, _)| Field::new(*name, DataType::Float64, is_relative(name)));
    Schema::new(texts.chain(numbers).collect::<Vec<_>>())
}

/// Documents as rows; without their texts, these are null.
pub(crate) fn table(documents: &[Document], attributes: &[Attributes], with_text: bool) -> RecordBatch {
    let documents = documents.iter();
    let mut columns = vec![
        texts(documents.clone().map(|document| Some(document.id.as_str()))),
        texts(documents.clone().map(|document| Some(document.source.as_str()))),
        texts(documents.clone().map(|document| document.group.as_deref())),
        texts(documents.clone().map(|document| document.time.as_deref())),
        texts(documents.map(|document| with_text.then_some(document.text.as_str()))),
        texts(attributes.iter().map(|attributes| Some(attributes.language.as_str()))),
    ];
    let rows: Vec<_> = attributes.iter().map(Attributes::numbers).collect();
    for at in 0..Attributes::NUMBERS.len() {
        columns.push(Arc::new(rows.iter().map(|row| row[at]).collect::<Float64Array>()));
    }
    RecordBatch::try_new(Arc::new(schema()), columns).expect("a column for each field")
}

fn texts<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(texts.collect::<StringArray>())
}

/// Writes the attributes of documents, without their texts, as Parquet packed with zstd.
///
/// # Errors
/// When the file cannot be written.
pub fn write_attributes(path: &Path, documents: &[Document], attributes: &[Attributes]) -> Result<(), ColumnsError> {
    const ROWS: usize = 1 << 16;
    let packed = |source| ColumnsError::Parquet { path: path.to_owned(), source };
    let file = fs::File::create(path).map_err(|source| ColumnsError::Open { path: path.to_owned(), source })?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(file, Arc::new(schema()), Some(properties)).map_err(packed)?;
    for (documents, attributes) in documents.chunks(ROWS).zip(attributes.chunks(ROWS)) {
        writer.write(&table(documents, attributes, false)).map_err(packed)?;
    }
    writer.close().map_err(packed)?;
    Ok(())
}

/// Reads the attributes of `documents`, which are those that were written, in their order.
///
/// # Errors
/// When the file cannot be read, or holds attributes of other documents.
pub fn read_attributes(path: &Path, documents: &[Document]) -> Result<Vec<Attributes>, ColumnsError> {
    let packed = |source| ColumnsError::Parquet { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(|source| ColumnsError::Open { path: path.to_owned(), source })?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.into_parts().0).map_err(packed)?;
    let reader = reader.build().map_err(packed)?;
    let mut attributes = Vec::with_capacity(documents.len());
    for batch in reader {
        let batch = batch.map_err(|source| ColumnsError::Rows { path: path.to_owned(), source })?;
        let rest = &documents[attributes.len().min(documents.len())..];
        let other = |document: &str| ColumnsError::Other { path: path.to_owned(), document: document.to_owned() };
        attributes.extend(rows(&batch, rest).map_err(|document| other(&document))?);
    }
    match documents.get(attributes.len()) {
        None => Ok(attributes),
        Some(document) => Err(ColumnsError::Other { path: path.to_owned(), document: document.id.clone() }),
    }
}

/// The rows of a table that [`table`] made of the first of `documents`, or the first document that has no such row.
fn rows(batch: &RecordBatch, documents: &[Document]) -> Result<Vec<Attributes>, String> {
    let first = || documents.first().map_or_else(String::new, |document| document.id.clone());
    if batch.schema().fields() != schema().fields() {
        return Err(first());
    }
    let (ids, languages) = (batch.column(0).as_string::<i32>(), batch.column(TEXTS.len() - 1).as_string::<i32>());
    let numbers: Vec<&Float64Array> =
        batch.columns()[TEXTS.len()..].iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    let row = |i: usize| {
        let document = documents.get(i).ok_or_else(|| ids.value(i).to_owned())?;
        if ids.value(i) != document.id {
            return Err(document.id.clone());
        }
        let number = |at: usize| numbers[at].is_valid(i).then(|| numbers[at].value(i));
        Ok(Attributes::of(languages.value(i).to_owned(), std::array::from_fn(number)))
    };
    (0..batch.num_rows()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::measure;
    use crate::scorers::Scorers;

    fn document(id: &str, text: &str) -> Document {
        Document { id: id.into(), source: "s".into(), group: None, time: Some("2020".into()), text: text.into() }
    }

    #[test]
    fn attributes_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attributes.parquet");
        let documents = [document("s/a", "The text of the first one."), document("s/b", "Zweiter Text, 2 Zahlen")];
        let mut attributes: Vec<_> =
            documents.iter().map(|document| measure(&document.text, &Scorers::default())).collect();
        attributes[1].quality = Some(0.25);
        write_attributes(&path, &documents, &attributes).unwrap();
        assert_eq!(read_attributes(&path, &documents).unwrap(), attributes);
        let bytes = fs::read(&path).unwrap();
        write_attributes(&path, &documents, &attributes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let [a, b] = documents;
        for other in [vec![b.clone(), a.clone()], vec![a.clone()], vec![a.clone(), b, a.clone()]] {
            let error = read_attributes(&path, &other).unwrap_err();
            assert!(matches!(error, ColumnsError::Other { .. }), "{error}");
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(read_attributes(&path, &[a]).unwrap_err(), ColumnsError::Parquet { .. }));
        assert!(matches!(read_attributes(&folder.path().join("none"), &[]).unwrap_err(), ColumnsError::Open { .. }));
    }
}
