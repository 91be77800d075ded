//! Rows of Parquet and Arrow files, batch by batch, as the same fields that lines of JSON have.

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::vec;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

use crate::config::Format;
use crate::files::{FileError, FoundFile, check_expansion, reading_failed};
use crate::rows::{Fields, Row, RowReader};

/// Rows that are turned into fields at once.
const ROWS_AT_ONCE: usize = 128;

/// What an Arrow file begins with; a stream does not.
const ARROW_FILE: &[u8] = b"ARROW1";

type Batch = Result<RecordBatch, ArrowError>;
type Opened = Result<Box<dyn Iterator<Item = Batch>>, Box<dyn Error + Send + Sync>>;

/// The rows of one Parquet or Arrow file.
pub(crate) struct Batches {
    batches: Box<dyn Iterator<Item = Batch>>,
    file: FoundFile,
    format: Format,
    /// The rest of the batch that is being read.
    batch: Option<RecordBatch>,
    rows: vec::IntoIter<Fields>,
    num_rows: u64,
    num_packed: u64,
    num_bytes: u64,
}

impl Batches {
    /// Reads a file on the disk, as it lies there.
    pub(crate) fn of_file(content: File, file: &FoundFile, format: Format) -> Result<Self, FileError> {
        let num_packed = content.metadata().map_err(|error| reading_failed(&file.path, error))?.len();
        let batches = if format == Format::Parquet { parquet(content) } else { arrow(content) };
        Self::of(batches, num_packed, file, format)
    }

    /// Reads what was unpacked.
    pub(crate) fn of_bytes(bytes: Vec<u8>, file: &FoundFile, format: Format) -> Result<Self, FileError> {
        let num_packed = bytes.len() as u64;
        let batches = if format == Format::Parquet { parquet(Bytes::from(bytes)) } else { arrow(Cursor::new(bytes)) };
        Self::of(batches, num_packed, file, format)
    }

    fn of(opened: Opened, num_packed: u64, file: &FoundFile, format: Format) -> Result<Self, FileError> {
        let batches = opened.map_err(|source| unreadable(file, format, source))?;
        let rows = Vec::new().into_iter();
        let file = file.clone();
        Ok(Self { batches, file, format, batch: None, rows, num_rows: 0, num_packed, num_bytes: 0 })
    }

    /// Turns the next few rows into fields. Returns whether there are any.
    fn advance(&mut self) -> Result<bool, FileError> {
        let failed = |source| unreadable(&self.file, self.format, source);
        let batch = match self.batch.take() {
            Some(batch) => batch,
            None => match self.batches.next() {
                Some(batch) => batch.map_err(failed)?,
                None => return Ok(false),
            },
        };
        let len = batch.num_rows().min(ROWS_AT_ONCE);
        let bytes = json_lines(&batch.slice(0, len)).map_err(failed)?;
        self.num_bytes += bytes.len() as u64;
        check_expansion(self.num_packed, self.num_bytes).map_err(|error| reading_failed(&self.file.path, error))?;
        let rows: Result<Vec<Fields>, _> = serde_json::Deserializer::from_slice(&bytes).into_iter().collect();
        self.rows = rows.map_err(|error| unreadable(&self.file, self.format, error))?.into_iter();
        self.batch = Some(batch.slice(len, batch.num_rows() - len)).filter(|rest| rest.num_rows() > 0);
        Ok(true)
    }
}

impl RowReader for Batches {
    /// The number of a row stands for its line.
    fn next_row(&mut self) -> Result<Option<Row>, FileError> {
        loop {
            if let Some(fields) = self.rows.next() {
                self.num_rows += 1;
                return Ok(Some(Row { line: self.num_rows, fields: Ok(fields) }));
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }
}

fn parquet(content: impl ChunkReader + 'static) -> Opened {
    let builder = ParquetRecordBatchReaderBuilder::try_new(content)?;
    Ok(Box::new(builder.with_batch_size(ROWS_AT_ONCE).build()?))
}

fn arrow(mut content: impl Read + Seek + 'static) -> Opened {
    let mut start = Vec::new();
    content.by_ref().take(ARROW_FILE.len() as u64).read_to_end(&mut start)?;
    content.rewind()?;
    let content = BufReader::new(content);
    Ok(if start == ARROW_FILE {
        Box::new(FileReader::try_new(content, None)?)
    } else {
        Box::new(StreamReader::try_new(content, None)?)
    })
}

/// A line of JSON for each row, with all columns, so that one that is empty here counts as there.
fn json_lines(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

fn unreadable(file: &FoundFile, format: Format, source: impl Into<Box<dyn Error + Send + Sync>>) -> FileError {
    let format = if format == Format::Parquet { "Parquet" } else { "Arrow" };
    FileError::Unreadable { path: file.path.clone(), format, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arable_core::{Document, Hint};
    use arrow::array::{ArrayRef, Int64Array, ListBuilder, StringArray, StringBuilder, StructArray};
    use arrow::datatypes::{DataType, Field};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    use fs_err as fs;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, GzipLevel, ZstdLevel};
    use parquet::file::properties::WriterProperties;

    use super::*;
    use crate::config::{SourceConfig, TaskConfig, TaskKind};
    use crate::read::{ReadError, read_source};
    use crate::reject::Reject;

    /// Rows `0..num_rows`; the second has no text, and each has a list and a structure beside it.
    fn rows(num_rows: i64) -> RecordBatch {
        let text = (0..num_rows).map(|row| (row != 1).then(|| format!("text of row {row}\nends")));
        let mut tags = ListBuilder::new(StringBuilder::new());
        (0..num_rows).for_each(|row| tags.append_value([Some(format!("t{row}")), None]));
        let year: ArrayRef = Arc::new(Int64Array::from_iter_values(1900..1900 + num_rows));
        let about = StructArray::from(vec![(Arc::new(Field::new("year", DataType::Int64, false)), Arc::clone(&year))]);
        let columns: [(&str, ArrayRef); 5] = [
            ("text", Arc::new(text.collect::<StringArray>())),
            ("time", year),
            ("tags", Arc::new(tags.finish())),
            ("about", Arc::new(about)),
            ("id", Arc::new(Int64Array::from_iter((0..num_rows).map(|_| None)))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn parquet_bytes(batch: &RecordBatch, compression: Compression) -> Vec<u8> {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn arrow_bytes(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn stream_bytes(batch: &RecordBatch) -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn read(name: &str, bytes: &[u8], text: &str) -> Result<Vec<Result<Document, Reject>>, ReadError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        read_source(&SourceConfig { text: text.to_owned(), ..SourceConfig::new("s", name) }, folder.path())?.collect()
    }

    #[test]
    fn every_layout_and_compression_gives_the_same_rows() {
        let batch = rows(1_000);
        let snappy = parquet_bytes(&batch, Compression::SNAPPY);
        let files = [
            ("a.parquet", snappy.clone()),
            ("b.parquet", parquet_bytes(&batch, Compression::ZSTD(ZstdLevel::default()))),
            ("c.parquet", parquet_bytes(&batch, Compression::GZIP(GzipLevel::default()))),
            ("d.parquet", parquet_bytes(&batch, Compression::LZ4_RAW)),
            ("e.parquet.zst", zstd::encode_all(&snappy[..], 1).unwrap()),
            ("f.feather", arrow_bytes(&batch, Some(CompressionType::LZ4_FRAME))),
            ("g.arrow", arrow_bytes(&batch, None)),
            ("h.arrow", stream_bytes(&batch)),
        ];
        for (name, bytes) in files {
            let records = read(name, &bytes, "text").unwrap();
            assert_eq!(records.len(), 1_000, "{name}");
            let reject = records[1].as_ref().unwrap_err();
            assert_eq!((reject.line, reject.reason.name()), (2, "missing_field"), "{name}");
            let last = records[999].as_ref().unwrap();
            assert_eq!(last.id, format!("s/{name}#1000"));
            assert_eq!((&*last.text, last.time.as_deref()), ("text of row 999\nends", Some("2899")), "{name}");
        }
    }

    #[test]
    fn nested_values_are_those_of_json() {
        let lines = String::from_utf8(json_lines(&rows(1)).unwrap()).unwrap();
        let row = r#"{"text":"text of row 0\nends","time":1900,"tags":["t0",null],"about":{"year":1900},"id":null}"#;
        assert_eq!(lines.trim(), row);
    }

    #[test]
    fn wrong_columns_and_damage_have_a_hint() {
        let bytes = parquet_bytes(&rows(300), Compression::SNAPPY);
        let error = read("a.parquet", &bytes, "txt").unwrap_err();
        assert!(error.hint().unwrap().contains("did you mean `text = \"text\"`"), "{error}");
        let mut flipped = bytes.clone();
        flipped[40..300].iter_mut().for_each(|byte| *byte ^= 0x5a);
        let arrow = arrow_bytes(&rows(300), None);
        for (name, bytes) in [
            ("cut.parquet", &bytes[..bytes.len() / 2]),
            ("flipped.parquet", &flipped),
            ("cut.arrow", &arrow[..arrow.len() / 2]),
            ("empty.arrow", b""),
            ("text.parquet", b"no table at all"),
        ] {
            let error = read(name, bytes, "text").unwrap_err();
            assert!(matches!(error, ReadError::File(FileError::Unreadable { .. })), "{name}: {error:?}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn tasks_are_read_from_parquet() {
        let labels: ArrayRef = Arc::new(StringArray::from_iter_values((0..300).map(|row| ["a", "b"][row % 2])));
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..300).map(|row| format!("text {row}"))));
        let batch = RecordBatch::try_from_iter([("text", text), ("label", labels)]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t.parquet"), parquet_bytes(&batch, Compression::SNAPPY)).unwrap();
        let config = TaskConfig::new(TaskKind::Classification, "t.parquet");
        let task = crate::read_task("t", &config, folder.path(), arable_core::Seed(1)).unwrap();
        assert_eq!(task.train.len() + task.dev.len() + task.test.len(), 300);
    }
}
