//! From shards to batches: documents are cut into sequences, shuffled each epoch, and packed up to a token budget.

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
    /// Sequences of this epoch that were used.
    pub next_sequence: usize,
}

/// Twelve bytes for each sequence, which is all that stays in memory of a corpus on disk.
#[derive(Clone, Copy)]
struct Piece {
    document: u32,
    start: u32,
    len: u32,
}

/// Reads batches in an order that depends on the stream and the epoch alone.
pub struct Loader<'a> {
    shards: &'a Shards,
    max_length: usize,
    tokens_per_batch: usize,
    order: Option<Stream>,
    cursor: Cursor,
    pieces: Vec<Piece>,
}

impl<'a> Loader<'a> {
    /// Sequences of at most `max_length` tokens, two special ones included, in batches of at most `tokens_per_batch`.
    /// With `order`, each epoch cuts the documents at other places and shuffles the pieces; without it, both are fixed.
    ///
    /// # Errors
    /// When the shards hold no token.
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
        let mut loader = Self { shards, max_length, tokens_per_batch, order, cursor, pieces: Vec::new() };
        loader.pieces = loader.pieces_of(cursor.epoch);
        Ok(loader)
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
        if self.cursor.next_sequence == self.pieces.len() {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, next_sequence: 0 };
            self.pieces = self.pieces_of(self.cursor.epoch);
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

    fn read(&self, piece: Piece) -> Result<Sequence, TrainError> {
        let (document, start, len) = (piece.document as usize, piece.start as usize, piece.len as usize);
        let mut stored = Vec::with_capacity(len);
        self.shards.read(document, start..start + len, &mut stored)?;
        Ok(Sequence(stored))
    }

    fn pieces_of(&self, epoch: u64) -> Vec<Piece> {
        let width = self.max_length.saturating_sub(2).max(1);
        let mut pieces = Vec::new();
        for document in 0..self.shards.num_documents() {
            let len = self.shards.document_len(document);
            let first = match self.order {
                Some(stream) if len > width => 1 + stream.at(epoch, document as u64).below(width),
                _ => width,
            };
            let mut start = 0;
            while start < len {
                let end = if start == 0 { first.min(len) } else { (start + width).min(len) };
                let [document, start_at, len] = [document, start, end - start]
                    .map(|number| u32::try_from(number).expect("fewer than 4 billion documents, and tokens in each"));
                pieces.push(Piece { document, start: start_at, len });
                start = end;
            }
        }
        if let Some(stream) = self.order {
            stream.at(epoch, u64::MAX).shuffle(&mut pieces);
        }
        pieces
    }
}
