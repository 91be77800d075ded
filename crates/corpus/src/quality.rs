//! Quality learned from examples: how probable it is that a text is of the good ones.
//!
//! A logistic model over words and pairs of words, hashed into 2^18 buckets, each counted by its share of the text. This is
//! what fastText (Joulin et al. 2017), the usual choice of such filters (Brown et al. 2020, Li et al. 2024), learns where
//! there are two classes: the mean of embeddings times the difference of two output vectors is a mean of one number for
//! each n-gram. So no dimension, no random start, and one table instead of two. The crate `fasttext` learns from
//! files, and with several threads never the same twice.
//!
//! A part of the examples is held out and never learned from: what the model is worth is measured there.

use std::collections::HashSet;

use arable_core::{Digest, Document, Fraction, Seed};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text_field;
use crate::dedup::digest_of_words;
use crate::scorers::ScorersError;
use crate::split::{Keys, hold_out};
use crate::words::{grams, normalize, word_hashes};

/// Texts that quality is learned from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    /// Texts as they should be: a file, folder or glob, relative to the data root.
    pub good: String,
    /// Texts as they should not be. Take some of your sources: against texts from elsewhere, the subject is learned.
    pub bad: String,
    /// The field that holds the text.
    #[serde(default = "text_field")]
    pub text: String,
}

/// What the model says of examples that it never saw.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOutQuality {
    /// Good examples, each text once.
    pub num_good: usize,
    /// Bad examples, each text once.
    pub num_bad: usize,
    /// Texts that are good and bad; they are not learned from.
    pub num_contradictory: usize,
    /// For each held-out example, its quality and whether it is good.
    pub predictions: Vec<(f64, bool)>,
}

const BUCKET_BITS: u32 = 18;
const HELD_OUT: f64 = 0.2;
/// With fewer examples of a kind, the held-out part says nothing.
const MIN_EXAMPLES: usize = 20;
const NUM_EPOCHS: u64 = 5;
const LEARNING_RATE: f32 = 1.0;

/// A model that has learned.
#[derive(Clone, Debug)]
pub(crate) struct Quality {
    weights: Vec<f32>,
    bias: f32,
}

/// A text as the shares of its buckets.
type Shares = Vec<(u32, f32)>;

impl Quality {
    /// Learns from all but a part of the examples, and says what it says of that part. The result does not depend on the
    /// number of threads.
    pub(crate) fn learn(
        good: Vec<Document>,
        bad: Vec<Document>,
        seed: Seed,
    ) -> Result<(Self, HeldOutQuality), ScorersError> {
        let digests = |documents: &[Document]| -> Vec<Digest> {
            documents.par_iter().map(|document| digest_of_words(&document.text)).collect()
        };
        let (good_digests, bad_digests) = (digests(&good), digests(&bad));
        let (in_good, in_bad): (HashSet<_>, HashSet<_>) = (good_digests.iter().collect(), bad_digests.iter().collect());
        let num_contradictory = in_good.intersection(&in_bad).count();
        let good = once(good, &good_digests, &in_bad);
        let bad = once(bad, &bad_digests, &in_good);
        let (num_good, num_bad) = (good.len(), bad.len());
        let (good, bad) = (cut("good", good, seed)?, cut("bad", bad, seed)?);

        let labelled = |good: &[Document], bad: &[Document]| -> Vec<(Shares, bool)> {
            let side = |documents: &[Document], is_good| {
                documents.par_iter().map(|document| (shares(&document.text), is_good)).collect::<Vec<_>>()
            };
            [side(good, true), side(bad, false)].concat()
        };
        let quality = Self::fit(&labelled(&good.train, &bad.train), seed);
        let predict = |documents: &[Document], is_good| {
            let score = |document: &Document| (quality.score(&word_hashes(&normalize(&document.text))), is_good);
            documents.par_iter().map(score).collect::<Vec<_>>()
        };
        let predictions = [predict(&good.held_out, true), predict(&bad.held_out, false)].concat();
        Ok((quality, HeldOutQuality { num_good, num_bad, num_contradictory, predictions }))
    }

    /// Stochastic gradient descent, one example after the other, with steps that shrink for each bucket by what it has
    /// moved so far (AdaGrad: Duchi et al. 2011).
    fn fit(examples: &[(Shares, bool)], seed: Seed) -> Self {
        let stream = seed.stream("quality order");
        let mut quality = Self { weights: vec![0.0; 1 << BUCKET_BITS], bias: 0.0 };
        let (mut moved, mut bias_moved) = (vec![0.0_f32; 1 << BUCKET_BITS], 0.0_f32);
        let step = |weight: &mut f32, moved: &mut f32, slope: f32| {
            if slope != 0.0 {
                *moved += slope * slope;
                *weight -= LEARNING_RATE * slope / moved.sqrt();
            }
        };
        for epoch in 0..NUM_EPOCHS {
            let mut order: Vec<usize> = (0..examples.len()).collect();
            stream.at(epoch, 0).shuffle(&mut order);
            for idx in order {
                let (shares, is_good) = &examples[idx];
                let logit: f32 = shares.iter().map(|&(bucket, share)| quality.weights[bucket as usize] * share).sum();
                let slope = sigmoid(quality.bias + logit) - f32::from(u8::from(*is_good));
                step(&mut quality.bias, &mut bias_moved, slope);
                for &(bucket, share) in shares {
                    let bucket = bucket as usize;
                    step(&mut quality.weights[bucket], &mut moved[bucket], slope * share);
                }
            }
        }
        quality
    }

    /// The quality of a text, given as the hashes of its words.
    pub(crate) fn score(&self, words: &[u64]) -> f64 {
        let (mut sum, mut num) = (0.0, 0_usize);
        for gram in grams(words) {
            sum += f64::from(self.weights[bucket(gram) as usize]);
            num += 1;
        }
        f64::from(sigmoid((f64::from(self.bias) + sum / num.max(1) as f64) as f32))
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

fn bucket(gram: u64) -> u32 {
    (gram >> (u64::BITS - BUCKET_BITS)) as u32
}

fn shares(text: &str) -> Shares {
    let mut buckets: Vec<u32> = grams(&word_hashes(&normalize(text))).map(bucket).collect();
    buckets.sort_unstable();
    let num = buckets.len() as f32;
    buckets.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as f32 / num)).collect()
}

/// Documents with each text once, without those whose text is among `others`.
fn once(documents: Vec<Document>, digests: &[Digest], others: &HashSet<&Digest>) -> Vec<Document> {
    let mut seen = HashSet::new();
    let is_new = |digest: &Digest| !others.contains(digest) && seen.insert(*digest);
    let mut keeps = digests.iter().map(is_new).collect::<Vec<_>>().into_iter();
    documents.into_iter().filter(|_| keeps.next().unwrap_or(false)).collect()
}

/// Examples in two parts.
struct Cut {
    train: Vec<Document>,
    held_out: Vec<Document>,
}

/// Holds examples out, whole groups at a time.
fn cut(side: &'static str, documents: Vec<Document>, seed: Seed) -> Result<Cut, ScorersError> {
    let (setting, num) = (format!("corpus.quality.{side}"), documents.len());
    if num < MIN_EXAMPLES {
        return Err(ScorersError::TooFew { setting, num, least: MIN_EXAMPLES });
    }
    let keys = |document: &Document| Keys::new(document.group.as_deref(), digest_of_words(&document.text));
    let keys: Vec<Keys> = documents.iter().map(keys).collect();
    let share = Fraction::new(HELD_OUT).expect("a constant in range");
    let mut parts = Cut { train: Vec::new(), held_out: Vec::new() };
    for (document, is_held_out) in documents.into_iter().zip(hold_out(&keys, share, seed.child("quality"))) {
        if is_held_out { parts.held_out.push(document) } else { parts.train.push(document) }
    }
    if parts.held_out.is_empty() { Err(ScorersError::OneGroup { setting, num }) } else { Ok(parts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(source: &str, texts: impl IntoIterator<Item = String>) -> Vec<Document> {
        let document =
            |(i, text)| Document { id: format!("{source}/{i}"), source: source.into(), text, ..Document::default() };
        texts.into_iter().enumerate().map(document).collect()
    }

    fn good(num: usize) -> Vec<Document> {
        documents("good", (0..num).map(|i| format!("The pump {i} was checked and runs without a fault.")))
    }

    fn bad(num: usize) -> Vec<Document> {
        documents("bad", (0..num).map(|i| format!("Click here {i} to win a pump now, best price.")))
    }

    #[test]
    fn what_is_good_is_learned_from_texts_that_are_on_one_side_once() {
        let (mut first, mut second) = (good(60), bad(80));
        let both = second[3].clone();
        first.extend([first[7].clone(), first[7].clone(), both]);
        second[9].text = second[8].text.to_uppercase();
        let (quality, held_out) = Quality::learn(first, second, Seed(1)).unwrap();
        let HeldOutQuality { num_good, num_bad, num_contradictory, predictions } = &held_out;
        assert_eq!((*num_good, *num_bad, *num_contradictory), (60, 78, 1));
        assert_eq!(predictions.len(), 12 + 16);
        assert!(predictions.iter().all(|(quality, is_good)| (*quality > 0.5) == *is_good), "{predictions:?}");
        let score = |text: &str| quality.score(&word_hashes(&normalize(text)));
        assert!(score("it runs without a fault") > 0.9 && score("best price, click here") < 0.1);
        assert!((0.2..0.8).contains(&score("")), "of nothing, little is known: {}", score(""));
    }

    #[test]
    fn threads_change_nothing() {
        let learned = |num_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
            pool.install(|| Quality::learn(good(50), bad(50), Seed(3)).unwrap().1)
        };
        assert_eq!(learned(1), learned(4));
    }

    #[test]
    fn too_little_to_learn_from_is_an_error() {
        let Err(ScorersError::TooFew { setting, num, .. }) = Quality::learn(good(19), bad(50), Seed(1)) else {
            panic!("19 are enough");
        };
        assert_eq!((setting.as_str(), num), ("corpus.quality.good", 19));
        let book = |mut document: Document| {
            document.group = Some("book".into());
            document
        };
        let one_group = bad(50).into_iter().map(book).collect();
        assert!(matches!(Quality::learn(good(30), one_group, Seed(1)), Err(ScorersError::OneGroup { .. })));
    }
}
