//! From shards to batches: documents are cut into sequences, shuffled each epoch, and packed up to a token budget.

use std::ops::Range;

use arable_core::{Seed, Stream};
use arable_tokenize::{Shards, starts_word, token_id};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::ramp::Ramp;

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
pub struct Sequence {
    stored: Vec<u32>,
    /// The number of the source that it is from.
    pub source: usize,
}

impl Sequence {
    /// From tokens as shards pack them.
    pub fn new(stored: Vec<u32>) -> Self {
        Self { stored, source: 0 }
    }

    /// The tokens in order.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.stored.iter().map(|&stored| Token { id: token_id(stored), starts_word: starts_word(stored) })
    }

    /// How many tokens.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }
}

/// A place in the data: everything that the loader remembers between batches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// A place in each source, in the order of [`Source`]s.
    pub sources: Vec<Place>,
}

impl Cursor {
    /// Tokens read, special ones included.
    pub fn num_tokens(&self) -> u64 {
        self.sources.iter().map(|place| place.num_tokens).sum()
    }

    /// Passes that are done over every source that was read at all.
    pub fn epoch(&self) -> u64 {
        self.sources.iter().filter(|place| place.num_tokens > 0).map(|place| place.epoch).min().unwrap_or(0)
    }
}

/// A place in one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Passes over the source that are done.
    pub epoch: u64,
    /// Chapters of this pass that are done.
    pub chapter: u64,
    /// Pieces of this chapter that were used.
    pub next_piece: usize,
    /// Tokens read, special ones included.
    pub num_tokens: u64,
    /// Tokens that the mixture asked for so far.
    pub num_asked: f64,
}

/// Text that a mixture takes a share of.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its tokens.
    pub shards: Shards,
    /// Its share of the tokens, as the mixture weighs it; the sum over sources need not be 1.
    pub weight: Ramp<f64>,
    /// The place of each document in the order in which they are read, from 0 to below 1; without it they are shuffled.
    pub places: Option<Vec<f32>>,
}

/// Tokens of a chapter, about, over all sources.
///
/// A pass over a source is read in chapters: each document is in one of them, by chance, and only the places of the
/// pieces of one chapter are in memory, some ten megabytes, however large the corpus is.
const CHAPTER_TOKENS: u64 = 1 << 26;

/// A piece's place among all tokens of its source.
#[derive(Clone, Copy)]
struct Piece {
    start: u64,
    len: u32,
}

/// Reads one source in an order that depends on the stream and the pass alone.
struct Reader<'a> {
    shards: &'a Shards,
    width: u64,
    order: Option<Stream>,
    curriculum: Option<Curriculum<'a>>,
    chapter_tokens: u64,
    place: Place,
    pieces: Vec<Piece>,
}

/// Documents in an order.
#[derive(Clone, Copy)]
struct Curriculum<'a> {
    /// The place of each, from 0 to below 1.
    places: &'a [f32],
    /// The part of them that a pass reads, drawn by chance.
    part: f64,
}

/// How batches are cut, along a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Tokens in a sequence, at most, special ones included.
    pub max_length: Ramp<usize>,
    /// Tokens in a batch, at most.
    pub tokens_per_batch: Ramp<usize>,
    /// Tokens of the stage.
    pub num_tokens: u64,
    /// Special tokens that each sequence gets.
    pub num_specials: usize,
}

/// Reads batches of sequences from several sources, in shares that a mixture asks for.
///
/// The next piece comes from the source that lags behind most, so that after every batch the shares reached are those asked
/// for, to the length of a piece. No share is left to chance.
pub struct Loader<'a> {
    cut: Cut,
    weights: Vec<Ramp<f64>>,
    readers: Vec<Reader<'a>>,
}

impl<'a> Loader<'a> {
    /// A loader that goes on from `cursor`. With `order`, each pass cuts the documents at other places and shuffles the
    /// pieces; without it, both are fixed.
    ///
    /// # Errors
    /// When no source with a share holds a token, or shards cannot be read.
    pub fn new(sources: &'a [Source], cut: Cut, order: Option<Seed>, cursor: &Cursor) -> Result<Self, TrainError> {
        Self::in_chapters(sources, cut, order, cursor, CHAPTER_TOKENS / sources.len().max(1) as u64)
    }

    fn in_chapters(
        sources: &'a [Source],
        cut: Cut,
        order: Option<Seed>,
        cursor: &Cursor,
        chapter_tokens: u64,
    ) -> Result<Self, TrainError> {
        let has_share = |source: &&Source| source.weight.ends().iter().any(|&weight| weight > 0.0);
        if let Some(empty) = sources.iter().filter(has_share).find(|source| source.shards.num_tokens() == 0) {
            return Err(TrainError::EmptySource { name: empty.name.clone() });
        }
        let total = |end: usize| sources.iter().map(|source| source.weight.ends()[end]).sum::<f64>();
        if !(total(0) > 0.0 && total(1) > 0.0) {
            return Err(TrainError::NoSequences);
        }
        let width = cut.max_length.most().saturating_sub(cut.num_specials).max(1) as u64;
        let readers = sources.iter().enumerate().map(|(idx, source)| {
            let place = cursor.sources.get(idx).copied().unwrap_or_default();
            let order = order.map(|seed| seed.child(&source.name).stream("order"));
            let curriculum = order.and(source.places.as_deref()).map(|places| {
                let share = (0..2).map(|end| source.weight.ends()[end] / total(end)).sum::<f64>() / 2.0;
                let part = share * cut.num_tokens as f64 / source.shards.num_tokens().max(1) as f64;
                Curriculum { places, part: part.min(1.0) }
            });
            let shards = &source.shards;
            let reader = Reader { shards, width, order, curriculum, chapter_tokens, place, pieces: Vec::new() };
            if has_share(&source) { reader.opened() } else { Ok(reader) }
        });
        let weights = sources.iter().map(|source| source.weight).collect();
        Ok(Self { cut, weights, readers: readers.collect::<Result<_, _>>()? })
    }

    /// The place after the last batch.
    pub fn cursor(&self) -> Cursor {
        Cursor { sources: self.readers.iter().map(|reader| reader.place).collect() }
    }

    /// How far the stage has come, from 0 to 1.
    pub fn progress(&self) -> f64 {
        let num_tokens: u64 = self.readers.iter().map(|reader| reader.place.num_tokens).sum();
        (num_tokens as f64 / self.cut.num_tokens.max(1) as f64).min(1.0)
    }

    /// The next batch: at least one piece. Begins a source anew when it is used up.
    ///
    /// # Errors
    /// When the shards cannot be read.
    pub fn next_batch(&mut self) -> Result<Vec<Sequence>, TrainError> {
        let progress = self.progress();
        let width = self.cut.max_length.at(progress).saturating_sub(self.cut.num_specials).max(1);
        let tokens_per_batch = self.cut.tokens_per_batch.at(progress);
        let total: f64 = self.weights.iter().map(|weight| weight.at(progress)).sum();
        let shares: Vec<f64> = self.weights.iter().map(|weight| weight.at(progress) / total).collect();
        let (mut batch, mut num_tokens) = (Vec::new(), 0);
        loop {
            let next = lagging(&self.readers, &shares);
            let reader = &mut self.readers[next];
            if reader.order.is_none() && reader.is_used_up() && !batch.is_empty() {
                return Ok(batch);
            }
            let piece = reader.peek()?;
            let cost = piece.len as usize + self.cut.num_specials * (piece.len as usize).div_ceil(width);
            num_tokens += cost;
            if num_tokens > tokens_per_batch && !batch.is_empty() {
                return Ok(batch);
            }
            let taken = reader.take(piece, width, cost)?;
            batch.extend(taken.into_iter().map(|sequence| Sequence { source: next, ..sequence }));
            for (reader, share) in self.readers.iter_mut().zip(&shares) {
                reader.place.num_asked += cost as f64 * share;
            }
        }
    }
}

/// The source that lags behind its share most; of several, the first.
fn lagging(readers: &[Reader<'_>], shares: &[f64]) -> usize {
    let lag = |idx: usize| {
        let Place { num_asked, num_tokens, .. } = readers[idx].place;
        num_asked - num_tokens as f64 + shares[idx]
    };
    let with_share = (0..readers.len()).filter(|&idx| shares[idx] > 0.0);
    with_share.min_by(|&a, &b| lag(b).total_cmp(&lag(a))).expect("some source has a share")
}

/// Reads what is held out, each source once, from its first document on and in order.
///
/// # Errors
/// When the shards cannot be read.
pub fn in_order(
    source: &Source,
    cut: Cut,
) -> Result<impl Iterator<Item = Result<Vec<Sequence>, TrainError>>, TrainError> {
    let alone = std::slice::from_ref(source);
    let mut loader = Loader::new(alone, cut, None, &Cursor::default())?;
    Ok(std::iter::from_fn(move || {
        let batch = loader.next_batch();
        (loader.cursor().epoch() == 0).then_some(batch)
    }))
}

impl Reader<'_> {
    fn opened(self) -> Result<Self, TrainError> {
        Ok(Self { pieces: self.pieces()?, ..self })
    }

    fn num_chapters(&self) -> u64 {
        self.shards.num_tokens().div_ceil(self.chapter_tokens)
    }

    fn is_used_up(&self) -> bool {
        self.place.next_piece == self.pieces.len()
    }

    /// The next piece, which stays where it is.
    fn peek(&mut self) -> Result<Piece, TrainError> {
        while self.is_used_up() {
            self.turn()?;
        }
        Ok(self.pieces[self.place.next_piece])
    }

    /// Reads the next piece, in sequences of at most `width` tokens.
    fn take(&mut self, piece: Piece, width: usize, cost: usize) -> Result<Vec<Sequence>, TrainError> {
        let mut stored = Vec::with_capacity(piece.len as usize);
        self.shards.read(piece.start..piece.start + u64::from(piece.len), &mut stored)?;
        self.place.next_piece += 1;
        self.place.num_tokens += cost as u64;
        Ok(stored.chunks(width).map(|part| Sequence::new(part.to_vec())).collect())
    }

    /// Goes to the next chapter.
    fn turn(&mut self) -> Result<(), TrainError> {
        let Place { epoch, chapter, .. } = self.place;
        let last = chapter + 1 == self.num_chapters();
        self.place.epoch = epoch + u64::from(last);
        self.place.chapter = if last { 0 } else { chapter + 1 };
        self.place.next_piece = 0;
        self.pieces = self.pieces()?;
        Ok(())
    }

    /// The pieces of the present chapter.
    fn pieces(&self) -> Result<Vec<Piece>, TrainError> {
        let width = self.width;
        let Place { epoch, chapter, .. } = self.place;
        let (mut pieces, mut places) = (Vec::new(), Vec::new());
        for (idx, document) in self.shards.documents()?.enumerate() {
            let Range { mut start, end } = document?;
            let (first, its_chapter) = match self.order {
                Some(stream) => {
                    let mut draws = stream.at(epoch, idx as u64);
                    let first = if end - start > width { 1 + draws.below(width as usize) as u64 } else { width };
                    let by_chance = draws.below(self.num_chapters() as usize) as u64;
                    match self.curriculum {
                        None => (first, by_chance),
                        Some(Curriculum { part, .. }) if draws.uniform() >= part => continue,
                        Some(Curriculum { places, .. }) => {
                            (first, (f64::from(places[idx]) * self.num_chapters() as f64) as u64)
                        }
                    }
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
                places.extend(self.curriculum.map(|curriculum| curriculum.places[idx]));
                (start, piece_end) = (piece_end, end.min(piece_end + width));
            }
        }
        if let Some(stream) = self.order {
            let mut draws = stream.at(epoch, u64::MAX - chapter);
            if self.curriculum.is_none() {
                draws.shuffle(&mut pieces);
            } else {
                // Pieces of one document stand together, in order.
                let mut order: Vec<usize> = (0..pieces.len()).collect();
                order.sort_by(|&a, &b| places[a].total_cmp(&places[b]));
                pieces = order.into_iter().map(|at| pieces[at]).collect();
            }
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arable_tokenize::{TokenizerConfig, pack, train};

    use super::*;
    use crate::curriculum::{Order, places};

    /// Shards of two hundred documents of different lengths, an empty one among them.
    fn shards(folder: &Path) -> Shards {
        let text = |idx: usize| (0..idx % 40).map(|word| format!("{idx} {word} ")).collect::<String>();
        let documents: Vec<String> = (0..200).map(text).collect();
        let config = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
        let vocabulary = train(&config, documents.iter().map(String::as_str), &[]).unwrap();
        pack(&vocabulary, &documents, None, folder).unwrap();
        Shards::open(folder).unwrap()
    }

    fn source(name: &str, shards: Shards, weight: Ramp<f64>) -> Source {
        Source { name: name.to_owned(), shards, weight, places: None }
    }

    const CUT: Cut = Cut {
        max_length: Ramp { from: 34, to: 34 },
        tokens_per_batch: Ramp { from: 100, to: 100 },
        num_tokens: 20_000,
        num_specials: 2,
    };

    fn loader<'a>(sources: &'a [Source], order: Option<Seed>, chapter_tokens: u64, cursor: &Cursor) -> Loader<'a> {
        Loader::in_chapters(sources, CUT, order, cursor, chapter_tokens).unwrap()
    }

    type Batches = Vec<(Vec<Sequence>, Cursor)>;

    /// Batches, each with the place after it.
    fn batches(mut loader: Loader<'_>, num_batches: usize) -> Batches {
        (0..num_batches).map(|_| (loader.next_batch().unwrap(), loader.cursor())).collect()
    }

    fn sorted_tokens<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Vec<u32> {
        let mut tokens: Vec<u32> = sequences.into_iter().flat_map(|sequence| sequence.stored.clone()).collect();
        tokens.sort_unstable();
        tokens
    }

    fn all(shards: &Shards) -> Vec<u32> {
        let mut all = Vec::new();
        shards.read(0..shards.num_tokens(), &mut all).unwrap();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_pass_has_every_token_once_whatever_the_chapters() {
        let dir = tempfile::tempdir().unwrap();
        let sources = [source("a", shards(dir.path()), Ramp::constant(1.0))];
        let all = all(&sources[0].shards);
        for chapter_tokens in [1 << 26, 5_000, 900] {
            let mut loader = loader(&sources, Some(Seed(3)), chapter_tokens, &Cursor::default());
            let mut read: Vec<Sequence> = Vec::new();
            while read.iter().map(Sequence::len).sum::<usize>() < all.len() {
                let (piece, width) = (loader.readers[0].peek().unwrap(), 32);
                read.extend(loader.readers[0].take(piece, width, 0).unwrap());
            }
            assert_eq!(sorted_tokens(&read), all, "{chapter_tokens} tokens a chapter");
            assert_eq!(read.iter().map(Sequence::len).max(), Some(32));
        }
        let held_out = in_order(&sources[0], CUT).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(sorted_tokens(held_out.iter().flatten()), all);
    }

    #[test]
    fn a_chapter_holds_documents_from_everywhere_and_little_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let sources = [source("a", shards(dir.path()), Ramp::constant(1.0))];
        let loader = loader(&sources, Some(Seed(3)), 2_000, &Cursor::default());
        let (reader, num_tokens) = (&loader.readers[0], sources[0].shards.num_tokens());
        let num_chapters = reader.num_chapters();
        assert!(num_chapters > 5);
        let share = num_tokens / num_chapters;
        let held: u64 = reader.pieces.iter().map(|piece| u64::from(piece.len)).sum();
        assert!(held > share / 2 && held < share * 2, "{held} of {num_tokens} tokens in {num_chapters} chapters");
        assert!(reader.pieces.iter().any(|piece| piece.start < num_tokens / 4));
        assert!(reader.pieces.iter().any(|piece| piece.start > num_tokens / 4 * 3));
    }

    #[test]
    fn a_curriculum_reads_in_order_and_no_other_documents_than_its_control() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = [source("a", shards(dir.path()), Ramp::constant(1.0))];
        let num_tokens = sources[0].shards.num_tokens();
        // The documents of 0 to 39 words: the last digits of the numbers in them say how long they are.
        let starts: Vec<u64> = sources[0].shards.documents().unwrap().map(|range| range.unwrap().start).collect();
        let keys: Vec<f64> = (0..200).map(|idx| f64::from(idx % 40)).collect();
        let mut read = |order: Order, num_wanted: u64, chapter_tokens| {
            sources[0].places = Some(places(order, &keys, Seed(1).stream("places")));
            let cut = Cut { num_tokens: num_wanted, ..CUT };
            let mut loader =
                Loader::in_chapters(&sources, cut, Some(Seed(3)), &Cursor::default(), chapter_tokens).unwrap();
            let mut found: Vec<usize> = Vec::new();
            loop {
                let piece = loader.readers[0].peek().unwrap();
                if loader.readers[0].place.epoch > 0 {
                    return found;
                }
                loader.readers[0].take(piece, 32, 0).unwrap();
                found.push(starts.partition_point(|start| *start <= piece.start) - 1);
            }
        };
        for chapter_tokens in [1 << 26, 900] {
            let [rising, falling, shuffled] =
                [Order::Rising, Order::Falling, Order::Shuffled].map(|order| read(order, num_tokens, chapter_tokens));
            assert!(rising.is_sorted_by_key(|&idx| keys[idx] as usize) && rising.len() > 200);
            assert!(falling.is_sorted_by(|&a, &b| keys[a] >= keys[b]));
            assert!(!shuffled.is_sorted_by_key(|&idx| keys[idx] as usize));
            // A third of the tokens: documents of all lengths, the same for each order.
            let few = [Order::Rising, Order::Shuffled].map(|order| read(order, num_tokens / 3, chapter_tokens));
            let sets = few.each_ref().map(|found| found.iter().copied().collect::<std::collections::BTreeSet<_>>());
            assert_eq!(sets[0], sets[1]);
            assert!((40..95).contains(&sets[0].len()) && few[0].is_sorted_by_key(|&idx| keys[idx] as usize));
            assert!(keys[few[0][0]] < 6.0 && keys[*few[0].last().unwrap()] > 33.0);
        }
    }

    /// Two sources whose shares change while sequences and batches grow.
    fn changing(dirs: &[tempfile::TempDir; 2]) -> ([Source; 2], Cut) {
        let [a, b] = dirs.each_ref().map(|dir| shards(dir.path()));
        let sources = [source("a", a, Ramp { from: 1.0, to: 0.0 }), source("b", b, Ramp { from: 1.0, to: 3.0 })];
        let cut = Cut {
            max_length: Ramp { from: 10, to: 34 },
            tokens_per_batch: Ramp { from: 60, to: 200 },
            num_tokens: 40_000,
            num_specials: 2,
        };
        (sources, cut)
    }

    #[test]
    fn a_loader_goes_on_from_any_place() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (sources, cut) = changing(&dirs);
        let open = |cursor: &Cursor| Loader::in_chapters(&sources, cut, Some(Seed(3)), cursor, 900).unwrap();
        let whole = batches(open(&Cursor::default()), 300);
        for at in [0, 1, 100, 150, 298] {
            let rest = batches(open(&whole[at].1), whole.len() - at - 1);
            assert_eq!(rest, whole[at + 1..], "after batch {at}");
        }
    }

    #[test]
    fn shares_are_those_asked_for_and_ramps_are_followed() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (sources, cut) = changing(&dirs);
        let mut loader = Loader::new(&sources, cut, Some(Seed(3)), &Cursor::default()).unwrap();
        let (mut first, mut last) = (None, None);
        while loader.progress() < 1.0 {
            last = Some(loader.next_batch().unwrap());
            first = first.or(last.clone());
            for Place { num_tokens, num_asked, .. } in loader.cursor().sources {
                assert!((num_tokens as f64 - num_asked).abs() <= 2.0 * 34.0, "{num_tokens} of {num_asked}");
            }
        }
        let longest = |batch: Option<Vec<Sequence>>| batch.unwrap().iter().map(Sequence::len).max().unwrap();
        assert_eq!((longest(first), longest(last)), (8, 32));
        // The share of `a` falls from 1/2 to 0 in a curve: (1 - p) / (2 + p), of which the mean is 3 ln(3/2) - 1.
        let share = loader.cursor().sources[0].num_tokens as f64 / loader.cursor().num_tokens() as f64;
        assert!((share - (3.0 * 1.5f64.ln() - 1.0)).abs() < 0.01, "{share}");
    }

    #[test]
    fn a_mixture_that_asks_for_nothing_or_for_what_is_not_there_is_refused() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (mut sources, cut) = changing(&dirs);
        let open = |sources: &[Source]| Loader::new(sources, cut, None, &Cursor::default()).err();
        sources[1].weight = Ramp { from: 1.0, to: 0.0 };
        assert!(matches!(open(&sources), Some(TrainError::NoSequences)));
        let vocabulary = train(
            &TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() },
            ["word word word", "word word"],
            &[],
        )
        .unwrap();
        pack::<&str>(&vocabulary, [], None, dirs[1].path()).unwrap();
        sources[1] = source("b", Shards::open(dirs[1].path()).unwrap(), Ramp::constant(1.0));
        assert!(matches!(open(&sources), Some(TrainError::EmptySource { name }) if name == "b"));
    }
}
