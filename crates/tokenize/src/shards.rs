//! Packed tokens on the disk.
//!
//! `tokens.bin` holds all tokens of all documents, one after the other, as little-endian 32-bit words: the id, and in the
//! top bit whether the token begins a word. `offsets.bin` holds where each document starts, counted in tokens, as
//! little-endian 64-bit words, and at its end the number of all tokens. `counts.bin` holds how often each token of the
//! vocabulary occurs, as little-endian 64-bit words.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arable_core::Hint;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::vocabulary::{Encoded, Vocabulary};

/// The name of the file with the tokens.
pub const TOKENS: &str = "tokens.bin";
/// The name of the file with the starts of the documents.
pub const OFFSETS: &str = "offsets.bin";
/// The name of the file with the counts of the tokens.
const COUNTS: &str = "counts.bin";

const WORD_START: u32 = 1 << 31;
const TOKEN_BYTES: u64 = size_of::<u32>() as u64;
const OFFSET_BYTES: u64 = size_of::<u64>() as u64;

/// Bytes of text that are encoded together: enough to keep all threads busy, little enough to hold in memory.
const BATCH_BYTES: usize = 1 << 20;

/// The id of a packed token.
#[inline]
pub fn token_id(packed: u32) -> u32 {
    packed & !WORD_START
}

/// Whether a packed token begins a word.
#[inline]
pub fn starts_word(packed: u32) -> bool {
    packed & WORD_START != 0
}

fn packed(encoded: &Encoded) -> impl Iterator<Item = u32> {
    encoded.ids.iter().zip(&encoded.word_starts).map(|(id, start)| id | if *start { WORD_START } else { 0 })
}

/// Why shards could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The two files do not fit each other: one was cut or is of other shards.
    #[error("use the shards in `{}`: `{file}` has {got} bytes instead of {expected}", folder.display())]
    Size {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
        /// Bytes there should be.
        expected: u64,
        /// Bytes there are.
        got: u64,
    },
    /// The starts of the documents are not in order.
    #[error("use the shards in `{}`: document {document_idx} ends before it starts", folder.display())]
    Order {
        /// The folder.
        folder: PathBuf,
        /// The first document that is wrong.
        document_idx: usize,
    },
    /// Reading or writing failed; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hint for ShardError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Size { folder, .. } | Self::Order { folder, .. } => {
                Some(format!("delete the folder to have the shards packed again: {}", folder.display()))
            }
            Self::Io(_) => None,
        }
    }
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFacts {
    /// Documents, empty ones included.
    pub num_documents: u64,
    /// Tokens, without special ones.
    pub num_tokens: u64,
    /// Words, separated by whitespace.
    pub num_words: u64,
    /// Bytes of text.
    pub num_bytes: u64,
    /// The length of the longest document in tokens.
    pub longest_tokens: u64,
}

/// Encodes `documents` and writes them into `folder`, in order. Documents are encoded in parallel, about a megabyte of text
/// at a time, so memory does not grow with the corpus. Files of earlier shards are replaced. `end` is a token that each
/// document ends with, where there is one: what generates text has to learn where it ends.
///
/// # Errors
/// When writing fails.
pub fn pack<S: AsRef<str> + Sync>(
    vocabulary: &Vocabulary,
    documents: impl IntoIterator<Item = S>,
    end: Option<u32>,
    folder: &Path,
) -> Result<ShardFacts, ShardError> {
    let mut writer = Writer::create(folder, end, vocabulary.size())?;
    let (mut batch, mut batch_bytes) = (vec![], 0);
    for document in documents {
        batch_bytes += document.as_ref().len();
        batch.push(document);
        if batch_bytes >= BATCH_BYTES {
            writer.write(vocabulary, &batch)?;
            batch.clear();
            batch_bytes = 0;
        }
    }
    writer.write(vocabulary, &batch)?;
    writer.finish()
}

struct Writer {
    tokens: BufWriter<fs::File>,
    offsets: BufWriter<fs::File>,
    counts: BufWriter<fs::File>,
    count_of: Vec<u64>,
    facts: ShardFacts,
    end: Option<u32>,
}

impl Writer {
    fn create(folder: &Path, end: Option<u32>, vocab_size: usize) -> io::Result<Self> {
        let create = |name| fs::File::create(folder.join(name)).map(BufWriter::new);
        let mut offsets = create(OFFSETS)?;
        offsets.write_all(&0u64.to_le_bytes())?;
        let (tokens, counts, count_of) = (create(TOKENS)?, create(COUNTS)?, vec![0; vocab_size]);
        Ok(Self { tokens, offsets, counts, count_of, facts: ShardFacts::default(), end })
    }

    fn write<S: AsRef<str> + Sync>(&mut self, vocabulary: &Vocabulary, batch: &[S]) -> io::Result<()> {
        for (text, mut encoded) in batch.iter().zip(vocabulary.encode_batch(batch)) {
            encoded.ids.extend(self.end);
            encoded.word_starts.extend(self.end.map(|_| true));
            self.write_document(&encoded)?;
            self.facts.num_words += text.as_ref().split_whitespace().count() as u64;
            self.facts.num_bytes += text.as_ref().len() as u64;
        }
        Ok(())
    }

    fn write_document(&mut self, encoded: &Encoded) -> io::Result<()> {
        let words: Vec<u32> = packed(encoded).map(u32::to_le).collect();
        self.tokens.write_all(bytemuck::cast_slice(&words))?;
        encoded.ids.iter().for_each(|&id| self.count_of[id as usize] += 1);
        let num_tokens = words.len() as u64;
        self.facts.num_documents += 1;
        self.facts.num_tokens += num_tokens;
        self.facts.longest_tokens = self.facts.longest_tokens.max(num_tokens);
        self.offsets.write_all(&self.facts.num_tokens.to_le_bytes())
    }

    fn finish(mut self) -> Result<ShardFacts, ShardError> {
        self.tokens.flush()?;
        self.offsets.flush()?;
        self.count_of.iter().try_for_each(|count| self.counts.write_all(&count.to_le_bytes()))?;
        self.counts.flush()?;
        Ok(self.facts)
    }
}

/// Packed documents, read from the disk as they are asked for: none of it stays in memory. May be read from several
/// threads at once.
#[derive(Debug)]
pub struct Shards {
    tokens: fs::File,
    offsets: PathBuf,
    counts: PathBuf,
    num_tokens: u64,
}

impl Shards {
    /// Opens the shards in `folder`.
    ///
    /// # Errors
    /// When a file is missing, cut, or does not fit the other.
    pub fn open(folder: &Path) -> Result<Self, ShardError> {
        let size = |file, expected, got| ShardError::Size { folder: folder.to_owned(), file, expected, got };
        let offsets = folder.join(OFFSETS);
        let got = fs::metadata(&offsets)?.len();
        if got == 0 || got % OFFSET_BYTES != 0 {
            return Err(size(OFFSETS, got.next_multiple_of(OFFSET_BYTES).max(OFFSET_BYTES), got));
        }
        let (mut end, mut document_idx) = (None, 0);
        for offset in read_offsets(&offsets)? {
            let offset = offset?;
            if end.map_or(offset > 0, |end| offset < end) {
                return Err(ShardError::Order { folder: folder.to_owned(), document_idx });
            }
            document_idx += usize::from(end.is_some());
            end = Some(offset);
        }
        let num_tokens = end.unwrap_or(0);
        let tokens = fs::File::open(folder.join(TOKENS))?;
        let (expected, got) = (num_tokens.saturating_mul(TOKEN_BYTES), tokens.metadata()?.len());
        if expected != got {
            return Err(size(TOKENS, expected, got));
        }
        Ok(Self { tokens, offsets, counts: folder.join(COUNTS), num_tokens })
    }

    /// How many tokens there are in all documents.
    pub fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    /// Where each document lies among all tokens, in order.
    ///
    /// # Errors
    /// When reading fails.
    pub fn documents(&self) -> Result<impl Iterator<Item = Result<Range<u64>, ShardError>>, ShardError> {
        let (mut offsets, mut start) = (read_offsets(&self.offsets)?, 0);
        offsets.next().transpose()?;
        Ok(offsets.map(move |end| {
            let end = end?;
            Ok(std::mem::replace(&mut start, end)..end)
        }))
    }

    /// Puts `tokens`, counted from the first of all, into `buffer`, in place of what is there: packed, see [`token_id`]
    /// and [`starts_word`].
    ///
    /// # Errors
    /// When reading fails.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn read(&self, tokens: Range<u64>, buffer: &mut Vec<u32>) -> Result<(), ShardError> {
        assert!(
            tokens.start <= tokens.end && tokens.end <= self.num_tokens,
            "{tokens:?} of {} tokens",
            self.num_tokens
        );
        buffer.resize(usize::try_from(tokens.end - tokens.start).expect("what is read fits in memory"), 0);
        read_at(&self.tokens, bytemuck::cast_slice_mut(buffer), tokens.start * TOKEN_BYTES)?;
        buffer.iter_mut().for_each(|word| *word = u32::from_le(*word));
        Ok(())
    }

    /// How often each of `vocab_size` tokens occurs: as was counted when they were packed, or counted now, where that is not
    /// known or does not fit.
    ///
    /// # Errors
    /// When reading fails.
    ///
    /// # Panics
    /// When a token is not among them.
    pub fn counts(&self, vocab_size: usize) -> Result<Vec<u64>, ShardError> {
        let bytes = fs::read(&self.counts).unwrap_or_default();
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        let known: Option<Vec<u64>> = bytes.chunks(OFFSET_BYTES as usize).map(word).collect();
        let fits = |known: &Vec<u64>| {
            let total = known.iter().try_fold(0u64, |total, count| total.checked_add(*count));
            known.len() == vocab_size && total == Some(self.num_tokens)
        };
        known.filter(fits).map_or_else(|| self.counted(vocab_size), Ok)
    }

    fn counted(&self, vocab_size: usize) -> Result<Vec<u64>, ShardError> {
        let (mut counts, mut buffer) = (vec![0; vocab_size], Vec::new());
        for start in (0..self.num_tokens).step_by(BLOCK_TOKENS) {
            self.read(start..self.num_tokens.min(start + BLOCK_TOKENS as u64), &mut buffer)?;
            buffer.iter().for_each(|&stored| counts[token_id(stored) as usize] += 1);
        }
        Ok(counts)
    }
}

/// Tokens that are read at a time where all are read.
const BLOCK_TOKENS: usize = 1 << 18;

fn read_offsets(path: &Path) -> io::Result<impl Iterator<Item = io::Result<u64>> + use<>> {
    let mut file = BufReader::new(fs::File::open(path)?);
    let num_offsets = file.get_ref().metadata()?.len() / OFFSET_BYTES;
    Ok((0..num_offsets).map(move |_| {
        let mut word = [0; OFFSET_BYTES as usize];
        file.read_exact(&mut word)?;
        Ok(u64::from_le_bytes(word))
    }))
}

#[cfg(unix)]
fn read_at(file: &fs::File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.file().read_exact_at(bytes, at)
}

/// A handle of its own for each read, because handles that are cloned share their position.
#[cfg(not(unix))]
fn read_at(file: &fs::File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    let mut file = fs::File::open(file.path())?;
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::tests::texts;
    use crate::{TokenizerConfig, train};

    fn vocabulary() -> Vocabulary {
        train(&TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() }, texts(50), &[]).unwrap()
    }

    fn read(shards: &Shards, tokens: Range<u64>) -> Vec<u32> {
        let mut buffer = vec![7; 3];
        shards.read(tokens, &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn what_was_packed_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let vocabulary = vocabulary();
        let mut documents = texts(30);
        documents.insert(3, String::new());
        documents.push(texts(3_000).join("\n"));
        documents.push("last".into());
        let facts = pack(&vocabulary, &documents, None, dir.path()).unwrap();
        let shards = Shards::open(dir.path()).unwrap();
        let ranges: Vec<Range<u64>> = shards.documents().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!((ranges.len() as u64, shards.num_tokens()), (facts.num_documents, facts.num_tokens));
        for (range, text) in ranges.iter().zip(&documents) {
            let expected = vocabulary.encode(text);
            let len = range.end - range.start;
            let got = read(&shards, range.clone());
            assert_eq!(got.iter().copied().map(token_id).collect::<Vec<_>>(), expected.ids);
            assert_eq!(got.iter().copied().map(starts_word).collect::<Vec<_>>(), expected.word_starts);
            let part = read(&shards, range.start + len / 3..range.start + len / 2);
            assert_eq!(part, got[(len / 3) as usize..(len / 2) as usize]);
        }
        let counts = shards.counts(vocabulary.size()).unwrap();
        assert_eq!(counts.iter().sum::<u64>(), facts.num_tokens);
        assert_eq!(counts, shards.counted(vocabulary.size()).unwrap());
        let kept = dir.path().join(COUNTS);
        assert_eq!(fs::read(&kept).unwrap().len(), 8 * vocabulary.size());
        for damaged in [vec![], vec![1; 11], vec![0xff; 8 * vocabulary.size()]] {
            fs::write(&kept, damaged).unwrap();
            assert_eq!(shards.counts(vocabulary.size()).unwrap(), counts);
        }
        fs::remove_file(&kept).unwrap();
        assert_eq!(shards.counts(vocabulary.size()).unwrap(), counts);
        let of_last = read(&shards, ranges.last().unwrap().clone())[0];
        let encoded = documents.iter().flat_map(|text| vocabulary.encode(text).ids);
        assert_eq!(counts[token_id(of_last) as usize], encoded.filter(|&id| id == token_id(of_last)).count() as u64);
        assert_eq!(facts.num_words, documents.iter().map(|text| text.split_whitespace().count() as u64).sum::<u64>());
        assert_eq!(facts.num_bytes, documents.iter().map(|text| text.len() as u64).sum::<u64>());
        let ended = pack(&vocabulary, &documents, Some(3), dir.path()).unwrap();
        assert_eq!(ended.num_tokens, facts.num_tokens + facts.num_documents);
        let shards = Shards::open(dir.path()).unwrap();
        let last = |range: Range<u64>| token_id(read(&shards, range.end - 1..range.end)[0]);
        assert!(shards.documents().unwrap().all(|range| last(range.unwrap()) == 3));
    }

    #[test]
    fn nothing_packs_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(pack::<&str>(&vocabulary(), [], None, dir.path()).unwrap(), ShardFacts::default());
        assert_eq!(Shards::open(dir.path()).unwrap().documents().unwrap().count(), 0);
    }

    #[test]
    fn files_that_were_cut_or_mixed_up_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (tokens, offsets) = (dir.path().join(TOKENS), dir.path().join(OFFSETS));
        pack(&vocabulary(), texts(3), None, dir.path()).unwrap();
        let whole = (fs::read(&tokens).unwrap(), fs::read(&offsets).unwrap());
        let refused = |token_bytes: &[u8], offset_bytes: &[u8]| {
            fs::write(&tokens, token_bytes).unwrap();
            fs::write(&offsets, offset_bytes).unwrap();
            Shards::open(dir.path()).unwrap_err()
        };
        let cut = refused(&whole.0[..whole.0.len() - 1], &whole.1);
        assert!(matches!(cut, ShardError::Size { file: TOKENS, .. }) && cut.hint().is_some());
        assert!(matches!(refused(&whole.0, &whole.1[..11]), ShardError::Size { file: OFFSETS, .. }));
        assert!(matches!(refused(&whole.0, &[]), ShardError::Size { file: OFFSETS, expected: 8, .. }));
        assert!(matches!(refused(&whole.0, &whole.1[..16]), ShardError::Size { file: TOKENS, .. }));
        let mut swapped = whole.1.clone();
        swapped[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(refused(&whole.0, &swapped), ShardError::Order { document_idx: 1, .. }));
    }
}
