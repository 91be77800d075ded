//! Documents and quarantine on disk: JSON lines packed with zstd, the same bytes for the same lines.
//!
//! Lines lie in chunks of about a mebibyte, each a zstd frame of its own, so that chunks are packed and read side by side
//! and a corpus need not fit into memory. The last frame is one that readers of zstd pass over: of each chunk, its packed
//! bytes and its lines.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arable_core::{Document, Hint};
use fs_err as fs;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::files::{FileError, open, reading_failed};
use crate::near::RefusedPair;
use crate::reject::{Dropped, Reject};

/// A file of documents that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be written.
    #[error("write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Runs of words cannot be kept in a file.
    #[error("keep the runs of words of near-duplicates in `{}`", folder.display())]
    Runs {
        /// The folder of the file.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// A line that is no document.
    #[error("read line {line} of `{}` as a document", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Write { .. } | Self::Runs { .. } => {
                Some("check that the folder exists, may be written to and has room".to_owned())
            }
            Self::Read(error) => error.hint(),
            Self::Document { .. } => Some("the file was changed after it was written; make it anew".to_owned()),
        }
    }
}

/// Lines that make a chunk, in bytes; the last line may go beyond.
const CHUNK_BYTES: usize = 1 << 20;
/// The first bytes of a frame that readers pass over (RFC 8878, section 3.1.2).
const SKIPPABLE: u32 = 0x184D_2A50;
/// Bytes that the index has for each chunk, beside its head and its own length at the end.
const ENTRY: usize = 8;

/// Writes lines. Nothing is whole before [`Writer::finish`].
pub(crate) struct Writer {
    file: BufWriter<fs::File>,
    path: PathBuf,
    lines: Vec<u8>,
    num_lines: u32,
    /// Chunks that wait to be packed together.
    full: Vec<(Vec<u8>, u32)>,
    /// Packed bytes and lines of each chunk.
    index: Vec<[u32; 2]>,
}

impl Writer {
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let file = fs::File::create(path).map_err(|source| StoreError::Write { path: path.to_owned(), source })?;
        let (lines, full, index) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { file: BufWriter::new(file), path: path.to_owned(), lines, num_lines: 0, full, index })
    }

    /// Adds an item as a line of JSON.
    pub(crate) fn item(&mut self, item: &impl Serialize) -> Result<(), StoreError> {
        self.line(&line_of(item))
    }

    /// Adds a line that is JSON already, without its end.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), StoreError> {
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        self.num_lines += 1;
        if self.lines.len() >= CHUNK_BYTES {
            self.cut()?;
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), StoreError> {
        self.full.push((std::mem::take(&mut self.lines), std::mem::take(&mut self.num_lines)));
        if self.full.len() >= at_once() { self.pack() } else { Ok(()) }
    }

    fn pack(&mut self) -> Result<(), StoreError> {
        let full = std::mem::take(&mut self.full);
        let packed: io::Result<Vec<_>> = full.par_iter().map(|(lines, _)| pack(lines)).collect();
        let failed = |source| StoreError::Write { path: self.path.clone(), source };
        for (packed, (_, num_lines)) in packed.map_err(failed)?.into_iter().zip(full) {
            let num_packed = u32::try_from(packed.len()).expect("a chunk has less than 4 GiB");
            self.index.push([num_packed, num_lines]);
            self.file.write_all(&packed).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        if self.num_lines > 0 {
            self.cut()?;
        }
        self.pack()?;
        let num_chunks = u32::try_from(self.index.len()).expect("fewer than four billion chunks");
        let num_bytes = u32::try_from(self.index.len() * ENTRY + 4).expect("an index of less than 4 GiB");
        let words = [SKIPPABLE, num_bytes].into_iter().chain(self.index.iter().flatten().copied()).chain([num_chunks]);
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let written = self.file.write_all(&bytes).and_then(|()| self.file.flush());
        written.map_err(|source| StoreError::Write { path: self.path, source })
    }
}

/// Chunks that are in memory at a time.
fn at_once() -> usize {
    2 * rayon::current_num_threads().max(1)
}

fn pack(lines: &[u8]) -> io::Result<Vec<u8>> {
    const LEVEL: i32 = 4;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(lines)
}

pub(crate) fn line_of(item: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(item).expect("an item has a JSON form")
}

/// Documents on disk, read chunk by chunk: none of them stays in memory.
#[derive(Clone, Debug)]
pub struct Documents {
    path: PathBuf,
    chunks: Vec<Chunk>,
}

/// Where a chunk lies, and which documents it holds.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    at: u64,
    num_packed: u32,
    first: usize,
    num_documents: usize,
}

/// Some documents that follow each other.
#[derive(Debug)]
pub struct Block {
    /// The number of the block.
    pub number: usize,
    /// The number of its first document.
    pub first: usize,
    /// The documents.
    pub documents: Vec<Document>,
}

impl Documents {
    /// Opens what [`write_documents`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or does not end with the index of its chunks.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let index = read_index(path).map_err(|error| reading_failed(path, error))?;
        let (mut at, mut first) = (0, 0);
        let mut chunk = |[num_packed, num_documents]: [u32; 2]| {
            let chunk = Chunk { at, num_packed, first, num_documents: num_documents as usize };
            (at, first) = (at + u64::from(num_packed), first + chunk.num_documents);
            chunk
        };
        Ok(Self { path: path.to_owned(), chunks: index.into_iter().map(&mut chunk).collect() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| last.first + last.num_documents)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The documents of each block.
    pub(crate) fn block_sizes(&self) -> impl ExactSizeIterator<Item = usize> {
        self.chunks.iter().map(|chunk| chunk.num_documents)
    }

    /// The number of the block that holds document `idx`, and its place there.
    pub(crate) fn place(&self, idx: usize) -> (usize, usize) {
        let number = self.chunks.partition_point(|chunk| chunk.first <= idx) - 1;
        (number, idx - self.chunks[number].first)
    }

    /// One document.
    ///
    /// # Errors
    /// When the file cannot be read.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn get(&self, idx: usize) -> Result<Document, StoreError> {
        let (number, place) = self.place(idx);
        Ok(self.block(number)?.documents.swap_remove(place))
    }

    /// Gives every block to `work`, some of them side by side, and what it makes of them to `take`, in order.
    ///
    /// # Errors
    /// When the file cannot be read, and the first error of `work` or of `take`.
    pub fn each<T: Send, E: From<StoreError> + Send>(
        &self,
        work: impl Fn(Block) -> Result<T, E> + Sync,
        mut take: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let numbers: Vec<usize> = (0..self.chunks.len()).collect();
        for some in numbers.chunks(at_once()) {
            let done: Vec<Result<T, E>> =
                some.par_iter().map(|&number| self.block(number).map_err(E::from).and_then(&work)).collect();
            done.into_iter().try_for_each(|part| take(part?))?;
        }
        Ok(())
    }

    /// The documents one by one, in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Document, StoreError>> + Send + '_ {
        let (mut number, mut ready) = (0, VecDeque::new());
        std::iter::from_fn(move || {
            while ready.is_empty() && number < self.chunks.len() {
                match self.block(number) {
                    Ok(block) => ready.extend(block.documents),
                    Err(error) => return Some(Err(error)),
                }
                number += 1;
            }
            ready.pop_front().map(Ok)
        })
    }

    pub(crate) fn block(&self, number: usize) -> Result<Block, StoreError> {
        let chunk = self.chunks[number];
        let read = || -> io::Result<Vec<u8>> {
            let mut file = fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(chunk.at))?;
            let packed = BufReader::new(file.take(u64::from(chunk.num_packed)));
            zstd::decode_all(packed)
        };
        let bytes = read().map_err(|error| reading_failed(&self.path, error))?;
        let lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        let parse = |(at, line): (usize, &[u8])| {
            let (path, line_number) = (self.path.clone(), chunk.first + at + 1);
            serde_json::from_slice(line).map_err(|source| StoreError::Document { path, line: line_number, source })
        };
        let documents = lines.map(parse).collect::<Result<Vec<Document>, _>>()?;
        if documents.len() == chunk.num_documents {
            return Ok(Block { number, first: chunk.first, documents });
        }
        Err(reading_failed(&self.path, not_indexed()).into())
    }
}

fn not_indexed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it does not end with an index of what it holds")
}

/// Packed bytes and lines of each chunk.
fn read_index(path: &Path) -> io::Result<Vec<[u32; 2]>> {
    let mut file = fs::File::open(path)?;
    let num_bytes = file.metadata()?.len();
    let mut words = |from_end: u64, num_words: usize| -> io::Result<Vec<u32>> {
        let at = num_bytes.checked_sub(from_end).ok_or_else(not_indexed)?;
        let mut bytes = vec![0; 4 * num_words];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
    };
    let num_chunks = words(4, 1)?[0] as usize;
    let num_index = (num_chunks * ENTRY + 12) as u64;
    if num_index > num_bytes {
        return Err(not_indexed());
    }
    let all = words(num_index, 2 + 2 * num_chunks)?;
    let chunks: Vec<[u32; 2]> = all[2..].chunks_exact(2).map(|entry| [entry[0], entry[1]]).collect();
    let num_packed: u64 = chunks.iter().map(|[num_packed, _]| u64::from(*num_packed)).sum();
    let is_whole = all[0] == SKIPPABLE && u64::from(all[1]) == num_index - 8 && num_packed + num_index == num_bytes;
    if is_whole { Ok(chunks) } else { Err(not_indexed()) }
}

/// Writes documents as one JSON object per line, packed with zstd; `path` should end in `.jsonl.zst`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_documents(path: &Path, documents: &[Document]) -> Result<(), StoreError> {
    let mut writer = Writer::create(path)?;
    documents.iter().try_for_each(|document| writer.item(document))?;
    writer.finish()
}

/// A line of the quarantine.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quarantined<'a> {
    Reject(&'a Reject),
    Drop(&'a Dropped),
    Refused(&'a RefusedPair),
}

/// Writes records that could not be read as `{"reject": {source, file, line, reason}}`, one JSON object per line, packed
/// with zstd.
///
/// # Errors
/// When the file cannot be written.
pub fn write_rejects(path: &Path, rejects: &[Reject]) -> Result<(), StoreError> {
    let mut writer = Writer::create(path)?;
    rejects.iter().try_for_each(|reject| writer.item(&Quarantined::Reject(reject)))?;
    writer.finish()
}

/// Gives every document left out to `take`, from the quarantine that [`crate::curate`] wrote.
///
/// # Errors
/// When the file cannot be read.
pub fn each_dropped(path: &Path, mut take: impl FnMut(Dropped)) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Line {
        drop: Option<Dropped>,
    }
    let mut number = 0;
    each_line(path, |line| {
        number += 1;
        let failed = |source| StoreError::Document { path: path.to_owned(), line: number, source };
        let Line { drop } = serde_json::from_slice(line).map_err(failed)?;
        drop.into_iter().for_each(&mut take);
        Ok(())
    })
}

/// Writes the lines of a file without their packing.
///
/// # Errors
/// When the file cannot be read, or `out` not be written.
pub fn unpack(path: &Path, out: &mut impl Write) -> Result<(), StoreError> {
    each_line(path, |line| {
        let written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
        written.map_err(|source| StoreError::Write { path: path.to_owned(), source })
    })
}

/// Gives each line of a file to `take`, without its end.
pub(crate) fn each_line(path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), StoreError>) -> Result<(), StoreError> {
    for line in open(path)?.split(b'\n') {
        take(&line.map_err(|error| reading_failed(path, error))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::{DropReason, RejectReason};

    fn document(id: &str) -> Document {
        let (group, licence) = (Some("g".into()), Some("CC0-1.0".into()));
        let text = "a\n\"b\" ü".into();
        Document { id: id.into(), source: "s".into(), group, licence, text, ..Document::default() }
    }

    #[test]
    fn documents_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents.jsonl.zst");
        let documents: Vec<_> = (0..3000).map(|idx| document(&format!("{idx}{}", "x".repeat(idx)))).collect();
        let write = || {
            write_documents(&path, &documents).unwrap();
            fs::read(&path).unwrap()
        };
        let bytes = write();
        let stored = Documents::open(&path).unwrap();
        assert!(stored.block_sizes().len() > 3 && stored.block_sizes().sum::<usize>() == stored.len());
        assert_eq!(stored.iter().collect::<Result<Vec<_>, _>>().unwrap(), documents);
        assert_eq!(stored.get(2345).unwrap(), documents[2345]);
        let mut seen = Vec::new();
        let work = |block: Block| Ok::<_, StoreError>((block.first, block.documents));
        let take = |(first, some): (usize, Vec<Document>)| {
            assert_eq!(first, seen.len());
            seen.extend(some);
            Ok(())
        };
        stored.each(work, take).unwrap();
        assert_eq!(seen, documents);
        // Any reader of zstd reads the same lines.
        assert_eq!(zstd::decode_all(&bytes[..]).unwrap().split(|byte| *byte == b'\n').count(), 3001);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(write), bytes);
        }
    }

    #[test]
    fn what_was_changed_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents.jsonl.zst");
        let damaged = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let read = Documents::open(&path).and_then(|stored| stored.iter().collect::<Result<Vec<_>, _>>());
            assert!(matches!(read, Err(StoreError::Read(FileError::Damaged { .. }))), "{read:?}");
        };
        write_documents(&path, &[document("1"), document("2")]).unwrap();
        let bytes = fs::read(&path).unwrap();
        for len in [0, 3, bytes.len() / 2, bytes.len() - 5] {
            damaged(&bytes[..len]);
        }
        let mut flipped = bytes.clone();
        flipped[20] ^= 1;
        damaged(&flipped);
        let mut writer = Writer::create(&path).unwrap();
        writer.line(b"{}").unwrap();
        writer.finish().unwrap();
        let error = Documents::open(&path).unwrap().get(0).unwrap_err();
        assert!(matches!(error, StoreError::Document { line: 1, .. }), "{error}");
        write_documents(&path, &[]).unwrap();
        assert!(Documents::open(&path).unwrap().is_empty());
    }

    #[test]
    fn quarantine_gives_reason_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quarantine.jsonl.zst");
        let reason = RejectReason::WrongColumnCount { expected: 2, got: 3 };
        let reject = Reject { source: "s".into(), file: "a.csv".into(), line: 7, reason };
        let dropped = Dropped { document: document("1"), reason: DropReason::ExactDuplicate { of: "s/0".into() } };
        let mut writer = Writer::create(&path).unwrap();
        writer.item(&Quarantined::Reject(&reject)).unwrap();
        writer.item(&Quarantined::Drop(&dropped)).unwrap();
        writer.finish().unwrap();
        let mut lines = Vec::new();
        each_line(&path, |line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(
            lines[0],
            r#"{"reject":{"source":"s","file":"a.csv","line":7,"reason":{"wrong_column_count":{"expected":2,"got":3}}}}"#
        );
        assert!(lines.len() == 2 && lines[1].ends_with(r#""reason":{"exact_duplicate":{"of":"s/0"}}}}"#));
    }
}
