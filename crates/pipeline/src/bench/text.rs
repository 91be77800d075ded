//! From text to batches.

use anyhow::Result;
use arable_core::Seed;
use arable_tokenize::{Shards, TokenizerConfig, Vocabulary, pack, train};
use arable_train::loader::{Cursor, Cut, Loader, Source};
use arable_train::objective::mlm::{MlmConfig, Terms, mask};
use arable_train::pretrain::PretrainConfig;
use arable_train::ramp::Ramp;

use super::Bench;
use crate::advice::Advise;
use crate::stages::pretrain::specials;

/// Documents of words whose frequencies fall as those of a language do, the same every time.
fn documents() -> Vec<String> {
    const SYLLABLES: [&str; 12] = ["ka", "tor", "mi", "nol", "se", "pra", "du", "lin", "ve", "ost", "ra", "chem"];
    let word = |rank: usize| {
        let mut draws = Seed(2).stream("words").at(rank as u64, 0);
        (0..1 + rank.ilog2() as usize / 3).map(|_| SYLLABLES[draws.below(SYLLABLES.len())]).collect::<String>()
    };
    let words: Vec<String> = (1..5000).map(word).collect();
    let document = |idx: u64| {
        let mut draws = Seed(2).stream("documents").at(idx, 0);
        // Zipf's law by inversion: ranks are uniform in their logarithm.
        let mut pick = || (words.len() as f64).powf(draws.uniform()) as usize - 1;
        (0..150).map(|_| words[pick()].as_str()).collect::<Vec<_>>().join(" ")
    };
    (0..2000).map(document).collect()
}

fn vocabulary(documents: &[String], vocab_size: usize) -> Result<Vocabulary> {
    let config = TokenizerConfig { vocab_size: vocab_size.max(300), ..TokenizerConfig::default() };
    train(&config, documents, &[]).advise()
}

impl Bench<'_> {
    /// Training a vocabulary and encoding with it.
    pub(super) fn tokenizer(&mut self) -> Result<()> {
        let documents = documents();
        let vocabulary = vocabulary(&documents, self.shape.vocab)?;
        let folder = tempfile::tempdir()?;
        let num_tokens = pack(&vocabulary, &documents, None, folder.path()).advise()?.num_tokens as f64;
        let mut packed = Ok(());
        self.time("tokenizer", "encode and pack", num_tokens, "token", || {
            packed = pack(&vocabulary, &documents, None, folder.path()).map(|_| ());
        });
        packed.advise()
    }

    /// Reading shards, masking, packing a batch.
    pub(super) fn loader(&mut self) -> Result<()> {
        let documents = documents();
        let vocabulary = vocabulary(&documents, self.shape.vocab)?;
        let folder = tempfile::tempdir()?;
        pack(&vocabulary, &documents, None, folder.path()).advise()?;
        let shards = Shards::open(folder.path()).advise()?;
        let (length, tokens) = (self.shape.length, self.shape.tokens);
        let source = [Source { name: "documents".into(), shards, weight: Ramp::constant(1.0), places: None }];
        let (max_length, tokens_per_batch) = (Ramp::constant(length), Ramp::constant(tokens));
        let specials = specials(&PretrainConfig::default(), &vocabulary)?;
        let num_specials = specials.num_tokens();
        let cut = Cut { max_length, tokens_per_batch, num_tokens: u64::MAX, num_specials };
        let mut loader = Loader::new(&source, cut, Some(Seed(1)), &Cursor::default()).advise()?;
        let config = MlmConfig::default();
        let hiding = (config.unit, config.mask_prob.from);
        let (stream, mut step, mut result) = (Seed(1).stream("masks"), 0, Ok(()));
        self.time("loader", "batch with masks", tokens as f64, "token", || {
            match loader.next_batch() {
                Ok(batch) => drop(mask(hiding, &specials, &Terms::default(), &batch, stream, step)),
                Err(error) => result = Err(error),
            }
            step += 1;
        });
        result.advise()
    }
}
