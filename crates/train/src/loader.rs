//! From shards to batches: documents are cut into sequences, shuffled each epoch, and packed up to a token budget.

use std::ops::Range;

use arable_core::Stream;
use arable_tokenize::{Shards, starts_word, token_id};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// A token as the objectives see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The id.
    pub id: u32,
    /// Whether it begins a word.
    pub starts_word: bool,
}

/// A piece of a document, without special tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence(Vec<u32>);

impl Sequence {
    /// From tokens as shards pack them.
    pub fn new(stored: Vec<u32>) -> Self {
        Self(stored)
    }

    /// The tokens in order.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.0.iter().map(|&stored| Token { id: token_id(stored), starts_word: starts_word(stored) })
    }

    /// How many tokens.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A place in the data: everything that the loader remembers between batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes over the corpus that are done.
    pub epoch: u64,
    /// Chapters of this epoch that are done.
    pub chapter: u64,
    /// Sequences of this chapter that were used.
    pub next_sequence: usize,
}

/// Tokens of a chapter, about.
///
/// An epoch is read in chapters: each document is in one of them, by chance, and only the places of the sequences of one
/// chapter are in memory, some ten megabytes, however large the corpus is.
const CHAPTER_TOKENS: u64 = 1 << 26;

/// A sequence's place among all tokens.
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    len: u32,
}

/// Reads batches in an order that depends on the stream and the epoch alone.
pub struct Loader<'a> {
    shards: &'a Shards,
    max_length: usize,
    tokens_per_batch: usize,
    order: Option<Stream>,
    chapter_tokens: u64,
    cursor: Cursor,
    pieces: Vec<Piece>,
}

impl<'a> Loader<'a> {
    /// Sequences of at most `max_length` tokens, two special ones included, in batches of at most `tokens_per_batch`.
    /// With `order`, each epoch cuts the documents at other places and shuffles the pieces; without it, both are fixed.
    ///
    /// # Errors
    /// When the shards hold no token or cannot be read.
    pub fn new(
        shards: &'a Shards,
        max_length: usize,
        tokens_per_batch: usize,
        order: Option<Stream>,
        cursor: Cursor,
    ) -> Result<Self, TrainError> {
        if shards.num_tokens() == 0 {
            return Err(TrainError::NoSequences);
        }
        let loader = Self {
            shards,
            max_length,
            tokens_per_batch,
            order,
            chapter_tokens: CHAPTER_TOKENS,
            cursor,
            pieces: Vec::new(),
        };
        loader.opened()
    }

    fn opened(self) -> Result<Self, TrainError> {
        Ok(Self { pieces: self.pieces()?, ..self })
    }

    fn num_chapters(&self) -> u64 {
        self.shards.num_tokens().div_ceil(self.chapter_tokens)
    }

    /// The place after the last batch.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next batch: at least one sequence. Begins a new epoch when the last one is used up.
    ///
    /// # Errors
    /// When the shards cannot be read.
    pub fn next_batch(&mut self) -> Result<Vec<Sequence>, TrainError> {
        while self.cursor.next_sequence == self.pieces.len() {
            self.turn()?;
        }
        let (mut batch, mut num_tokens) = (Vec::new(), 0);
        while let Some(&piece) = self.pieces.get(self.cursor.next_sequence) {
            num_tokens += piece.len as usize + 2;
            if num_tokens > self.tokens_per_batch && !batch.is_empty() {
                break;
            }
            batch.push(self.read(piece)?);
            self.cursor.next_sequence += 1;
        }
        Ok(batch)
    }

    /// Goes to the next chapter.
    fn turn(&mut self) -> Result<(), TrainError> {
        let Cursor { epoch, chapter, .. } = self.cursor;
        let last = chapter + 1 == self.num_chapters();
        self.cursor =
            Cursor { epoch: epoch + u64::from(last), chapter: if last { 0 } else { chapter + 1 }, next_sequence: 0 };
        self.pieces = self.pieces()?;
        Ok(())
    }

    fn read(&self, piece: Piece) -> Result<Sequence, TrainError> {
        let mut stored = Vec::with_capacity(piece.len as usize);
        self.shards.read(piece.start..piece.start + u64::from(piece.len), &mut stored)?;
        Ok(Sequence(stored))
    }

    /// The sequences of the cursor's chapter.
    fn pieces(&self) -> Result<Vec<Piece>, TrainError> {
        let width = self.max_length.saturating_sub(2).max(1) as u64;
        let Cursor { epoch, chapter, .. } = self.cursor;
        let mut pieces = Vec::new();
        for (idx, document) in self.shards.documents()?.enumerate() {
            let Range { mut start, end } = document?;
            let (first, its_chapter) = match self.order {
                Some(stream) => {
                    let mut draws = stream.at(epoch, idx as u64);
                    let first = if end - start > width { 1 + draws.below(width as usize) as u64 } else { width };
                    (first, draws.below(self.num_chapters() as usize) as u64)
                }
                None => (width, start / self.chapter_tokens),
            };
            if its_chapter != chapter {
                continue;
            }
            let mut piece_end = end.min(start + first);
            while start < end {
                let len = u32::try_from(piece_end - start).expect("a sequence has fewer than 4 billion tokens");
                pieces.push(Piece { start, len });
                (start, piece_end) = (piece_end, end.min(piece_end + width));
            }
        }
        if let Some(stream) = self.order {
            stream.at(epoch, u64::MAX - chapter).shuffle(&mut pieces);
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arable_core::Seed;
    use arable_tokenize::{TokenizerConfig, pack, train};

    use super::*;

    /// Shards of two hundred documents of different lengths, an empty one among them.
    fn shards(folder: &Path) -> Shards {
        let text = |idx: usize| (0..idx % 40).map(|word| format!("{idx} {word} ")).collect::<String>();
        let documents: Vec<String> = (0..200).map(text).collect();
        let config = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
        let vocabulary = train(&config, documents.iter().map(String::as_str), &[]).unwrap();
        pack(&vocabulary, &documents, folder).unwrap();
        Shards::open(folder).unwrap()
    }

    fn loader(shards: &Shards, order: Option<Stream>, chapter_tokens: u64, cursor: Cursor) -> Loader<'_> {
        let loader = Loader::new(shards, 34, 100, order, cursor).unwrap();
        Loader { chapter_tokens, ..loader }.opened().unwrap()
    }

    /// The batches of the first epochs, each with the place after it.
    fn batches(mut loader: Loader<'_>, num_epochs: u64) -> Vec<(Vec<Sequence>, Cursor)> {
        let next = || loader.next_batch().map(|batch| (batch, loader.cursor())).unwrap();
        std::iter::repeat_with(next).take_while(|(_, cursor)| cursor.epoch < num_epochs).collect()
    }

    fn sorted_tokens(batches: &[(Vec<Sequence>, Cursor)]) -> Vec<u32> {
        let mut tokens: Vec<u32> = batches.iter().flat_map(|(batch, _)| batch).flat_map(|s| s.0.clone()).collect();
        tokens.sort_unstable();
        tokens
    }

    #[test]
    fn an_epoch_has_every_token_once_whatever_the_chapters() {
        let dir = tempfile::tempdir().unwrap();
        let shards = shards(dir.path());
        let mut all = Vec::new();
        shards.read(0..shards.num_tokens(), &mut all).unwrap();
        all.sort_unstable();
        for order in [None, Some(Seed(3).stream("order"))] {
            for chapter_tokens in [1 << 26, 5_000, 900] {
                let batches = batches(loader(&shards, order, chapter_tokens, Cursor::default()), 1);
                assert_eq!(sorted_tokens(&batches), all, "{chapter_tokens} tokens a chapter");
                let longest = batches.iter().flat_map(|(batch, _)| batch).map(Sequence::len).max();
                assert_eq!(longest, Some(32));
            }
        }
    }

    #[test]
    fn a_chapter_holds_documents_from_everywhere_and_little_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let shards = shards(dir.path());
        let loader = loader(&shards, Some(Seed(3).stream("order")), 2_000, Cursor::default());
        let num_chapters = loader.num_chapters();
        assert!(num_chapters > 5);
        let (num_tokens, share) = (shards.num_tokens(), shards.num_tokens() / num_chapters);
        let held: u64 = loader.pieces.iter().map(|piece| u64::from(piece.len)).sum();
        assert!(held > share / 2 && held < share * 2, "{held} of {num_tokens} tokens in {num_chapters} chapters");
        assert!(loader.pieces.iter().any(|piece| piece.start < num_tokens / 4));
        assert!(loader.pieces.iter().any(|piece| piece.start > num_tokens / 4 * 3));
    }

    #[test]
    fn a_loader_goes_on_from_any_place() {
        let dir = tempfile::tempdir().unwrap();
        let shards = shards(dir.path());
        let order = Some(Seed(3).stream("order"));
        let whole = batches(loader(&shards, order, 900, Cursor::default()), 2);
        for at in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
            let rest = batches(loader(&shards, order, 900, whole[at].1), 2);
            assert_eq!(rest, whole[at + 1..], "after batch {at}");
        }
    }
}
