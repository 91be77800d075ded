//! Documents and their attributes as Arrow columns, and attributes on disk as Parquet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arable_core::{Document, Hint};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::error::ArrowError;
use fs_err as fs;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::attributes::{Attributes, measure};
use crate::scorers::Scorers;
use crate::store::{Block, Documents, StoreError};

/// The columns of text, with what they mean. They come first.
pub(crate) const TEXTS: [(&str, &str); 9] = [
    ("id", "The document's id, after its source and `/`."),
    ("source", "The source it comes from."),
    ("group", "What must stay on one side of a split; in double quotes, because SQL has a word `group`."),
    ("time", "When it was written, as it is given."),
    ("origin", "Where inside its source it comes from (a site, a journal)."),
    ("licence", "The licence that it may be used under."),
    ("labels", "The labels that it came with, joined by `;`."),
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
    #[error("find the attributes of the documents in `{}`", path.display())]
    Other {
        /// The file.
        path: PathBuf,
    },
    /// The documents cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hint for ColumnsError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Store(error) => return error.hint(),
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
    let joined = |document: &Document| Some(document.labels.join(";")).filter(|labels| !labels.is_empty());
    let labels: Vec<Option<String>> = documents.clone().map(joined).collect();
    let mut columns = vec![
        texts(documents.clone().map(|document| Some(document.id.as_str()))),
        texts(documents.clone().map(|document| Some(document.source.as_str()))),
        texts(documents.clone().map(|document| document.group.as_deref())),
        texts(documents.clone().map(|document| document.time.as_deref())),
        texts(documents.clone().map(|document| document.origin.as_deref())),
        texts(documents.clone().map(|document| document.licence.as_deref())),
        texts(labels.iter().map(Option::as_deref)),
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

/// Measures every document, against `scorers` too, and writes the attributes, without the texts, as Parquet packed with zstd: a row group for
/// each block of documents. Returns how many documents there are in each language.
///
/// # Errors
/// When the documents cannot be read or the file cannot be written.
pub fn measure_all(
    documents: &Documents,
    scorers: &Scorers,
    path: &Path,
) -> Result<BTreeMap<String, usize>, ColumnsError> {
    let packed = |source| ColumnsError::Parquet { path: path.to_owned(), source };
    let file = fs::File::create(path).map_err(|source| ColumnsError::Open { path: path.to_owned(), source })?;
    // Statistics of each column of each block would outgrow what they are of.
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .build();
    let mut writer = ArrowWriter::try_new(file, Arc::new(schema()), Some(properties)).map_err(packed)?;
    let mut languages = BTreeMap::new();
    let work = |Block { documents, .. }: Block| {
        let attributes: Vec<Attributes> = documents.iter().map(|document| measure(&document.text, scorers)).collect();
        Ok((table(&documents, &attributes, false), attributes))
    };
    documents.each(work, |(rows, attributes)| {
        attributes.into_iter().for_each(|attributes| *languages.entry(attributes.language).or_default() += 1);
        writer.write(&rows).and_then(|()| writer.flush()).map_err(packed)
    })?;
    writer.close().map_err(packed)?;
    Ok(languages)
}

/// Attributes on disk, read as they are asked for.
#[derive(Clone, Debug)]
pub struct AttributeTable {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl AttributeTable {
    /// Opens what [`measure_all`] wrote of `documents`.
    ///
    /// # Errors
    /// When the file cannot be read, or is that of other documents.
    pub fn open(path: &Path, documents: &Documents) -> Result<Self, ColumnsError> {
        let file = fs::File::open(path).map_err(|source| ColumnsError::Open { path: path.to_owned(), source })?;
        let metadata = ArrowReaderMetadata::load(&file.into_parts().0, ArrowReaderOptions::default());
        let metadata = metadata.map_err(|source| ColumnsError::Parquet { path: path.to_owned(), source })?;
        let sizes = metadata.metadata().row_groups().iter().map(|group| group.num_rows());
        let is_same = metadata.schema().fields() == schema().fields()
            && sizes.eq(documents.block_sizes().map(|num| i64::try_from(num).unwrap_or(i64::MAX)));
        if is_same { Ok(Self { path: path.to_owned(), metadata }) } else { Err(Self::other(path)) }
    }

    fn other(path: &Path) -> ColumnsError {
        ColumnsError::Other { path: path.to_owned() }
    }

    fn reader(&self) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>, ColumnsError> {
        let file = fs::File::open(&self.path);
        let file = file.map_err(|source| ColumnsError::Open { path: self.path.clone(), source })?;
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(file.into_parts().0, self.metadata.clone()))
    }

    fn batches(
        &self,
        reader: ParquetRecordBatchReaderBuilder<std::fs::File>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ColumnsError>>, ColumnsError> {
        let reader = reader.build().map_err(|source| ColumnsError::Parquet { path: self.path.clone(), source })?;
        Ok(reader.map(|batch| batch.map_err(|source| ColumnsError::Rows { path: self.path.clone(), source })))
    }

    /// The attributes of a block of documents.
    ///
    /// # Errors
    /// When the file cannot be read, or holds attributes of other documents.
    pub fn block(&self, block: &Block) -> Result<Vec<Attributes>, ColumnsError> {
        let reader = self.reader()?.with_row_groups(vec![block.number]);
        let (mut attributes, mut ids) = (Vec::with_capacity(block.documents.len()), Vec::new());
        for batch in self.batches(reader)? {
            rows(&batch?, &mut ids, &mut attributes);
        }
        let is_same = ids.iter().eq(block.documents.iter().map(|document| &document.id));
        if is_same { Ok(attributes) } else { Err(Self::other(&self.path)) }
    }

    /// Document `idx` and its attributes.
    ///
    /// # Errors
    /// When one of the files cannot be read.
    pub fn with_document(&self, idx: usize, documents: &Documents) -> Result<(Document, Attributes), ColumnsError> {
        let (number, place) = documents.place(idx);
        let mut block = documents.block(number)?;
        let mut attributes = self.block(&block)?;
        Ok((block.documents.swap_remove(place), attributes.swap_remove(place)))
    }

    /// Gives the number of each document and its value of one attribute, by its place in [`Attributes::NUMBERS`], to
    /// `take`, in order; none where it was not measured.
    pub(crate) fn each_value(&self, number: usize, mut take: impl FnMut(usize, f64)) -> Result<(), ColumnsError> {
        let mut first = 0;
        self.each_of([TEXTS.len() + number], |rows| {
            let values = rows.column(0).as_primitive::<Float64Type>().iter().enumerate();
            values.for_each(|(at, value)| value.into_iter().for_each(|value| take(first + at, value)));
            first += rows.num_rows();
        })
    }

    /// Gives each document's number, id, source, time and language to `take`, in order.
    pub(crate) fn each_origin(&self, mut take: impl FnMut(usize, [&str; 4])) -> Result<(), ColumnsError> {
        const WANTED: [&str; 4] = ["id", "source", "time", "language"];
        let mut first = 0;
        let place = |name| TEXTS.iter().position(|(own, _)| *own == name).expect("a column of text");
        self.each_of(WANTED.map(place), |rows| {
            let columns: [&StringArray; 4] = std::array::from_fn(|at| rows.column(at).as_string::<i32>());
            let text = |at, row| {
                let column: &StringArray = columns[at];
                if column.is_null(row) { "" } else { column.value(row) }
            };
            (0..rows.num_rows()).for_each(|row| take(first + row, std::array::from_fn(|at| text(at, row))));
            first += rows.num_rows();
        })
    }

    /// Gives each document's number, source and values to `take`, in order.
    pub(crate) fn each_row(&self, mut take: impl FnMut(usize, &str, &[Option<f64>])) -> Result<(), ColumnsError> {
        let mut first = 0;
        let columns = std::iter::once(1).chain((0..Attributes::NUMBERS.len()).map(|at| TEXTS.len() + at));
        self.each_of(columns, |rows| {
            let sources = rows.column(0).as_string::<i32>();
            let numbers: Vec<&Float64Array> =
                rows.columns()[1..].iter().map(|column| column.as_primitive::<Float64Type>()).collect();
            for row in 0..rows.num_rows() {
                let values: Vec<Option<f64>> =
                    numbers.iter().map(|column| column.is_valid(row).then(|| column.value(row))).collect();
                take(first + row, sources.value(row), &values);
            }
            first += rows.num_rows();
        })
    }

    /// Gives the parts of some columns, which rise, to `take`, in order.
    fn each_of(
        &self,
        columns: impl IntoIterator<Item = usize>,
        mut take: impl FnMut(&RecordBatch),
    ) -> Result<(), ColumnsError> {
        let reader = self.reader()?;
        let only = ProjectionMask::roots(reader.parquet_schema(), columns);
        self.batches(reader.with_projection(only))?.try_for_each(|batch| {
            take(&batch?);
            Ok(())
        })
    }
}

/// The rows of a table that [`table`] made.
fn rows(batch: &RecordBatch, ids: &mut Vec<String>, attributes: &mut Vec<Attributes>) {
    let languages = batch.column(TEXTS.len() - 1).as_string::<i32>();
    let numbers: Vec<&Float64Array> =
        batch.columns()[TEXTS.len()..].iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    ids.extend(batch.column(0).as_string::<i32>().iter().map(|id| id.unwrap_or_default().to_owned()));
    let number = |at: usize, i| numbers[at].is_valid(i).then(|| numbers[at].value(i));
    let row = |i| Attributes::of(languages.value(i).to_owned(), std::array::from_fn(|at| number(at, i)));
    attributes.extend((0..batch.num_rows()).map(row));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::write_documents;

    fn document(id: &str, text: &str) -> Document {
        let (time, labels) = (Some("2020".into()), vec!["a".into(), "b".into()]);
        Document { id: id.into(), source: "s".into(), time, labels, text: text.into(), ..Document::default() }
    }

    #[test]
    fn attributes_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, stored) = (folder.path().join("attributes.parquet"), folder.path().join("documents.jsonl.zst"));
        let store = |documents: &[Document]| {
            write_documents(&stored, documents).unwrap();
            Documents::open(&stored).unwrap()
        };
        let words = |idx: usize| format!("{} Zweiter Text, {idx} Zahlen", "The text of the first one. ".repeat(idx));
        let all: Vec<_> = (0..500).map(|idx| document(&format!("s/{idx}"), &words(idx))).collect();
        let documents = store(&all);
        assert!(documents.block_sizes().len() > 2);
        let languages = measure_all(&documents, &Scorers::default(), &path).unwrap();
        assert!(languages.values().sum::<usize>() == 500 && languages["eng"] > 480, "{languages:?}");
        let table = AttributeTable::open(&path, &documents).unwrap();
        let mut found = Vec::new();
        let take = |some| {
            found.extend(some);
            Ok(())
        };
        documents.each(|block| table.block(&block), take).unwrap();
        assert_eq!(found, all.iter().map(|document| measure(&document.text, &Scorers::default())).collect::<Vec<_>>());
        let num_words: Vec<f64> = found.iter().map(|attributes| attributes.num_words).collect();
        let mut column = Vec::new();
        table.each_value(1, |_, value| column.push(value)).unwrap();
        assert_eq!(column, num_words);
        let mut rows = Vec::new();
        table.each_row(|number, source, values| rows.push((number, source == "s", values[1].unwrap()))).unwrap();
        assert!(rows.iter().enumerate().all(|(at, row)| *row == (at, true, num_words[at])) && rows.len() == 500);

        let mut languages = Vec::new();
        table
            .each_origin(|_, [id, _, time, own]| languages.push((id.to_owned(), time == "2020", own.to_owned())))
            .unwrap();
        let expected = all.iter().zip(&found).map(|(own, measured)| (own.id.clone(), true, measured.language.clone()));
        assert_eq!(languages, expected.collect::<Vec<_>>());

        let bytes = fs::read(&path).unwrap();
        measure_all(&documents, &Scorers::default(), &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert!(matches!(AttributeTable::open(&path, &store(&all[1..])), Err(ColumnsError::Other { .. })));
        let mut other = all.clone();
        other[3].id = "s/x".into();
        let documents = store(&other);
        let table = AttributeTable::open(&path, &documents).unwrap();
        let block = documents.each(|block| table.block(&block), |_| Ok(()));
        assert!(matches!(block, Err(ColumnsError::Other { .. })), "{block:?}");
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(AttributeTable::open(&path, &documents), Err(ColumnsError::Parquet { .. })));
        let none = folder.path().join("none");
        assert!(matches!(AttributeTable::open(&none, &documents), Err(ColumnsError::Open { .. })));
    }
}
