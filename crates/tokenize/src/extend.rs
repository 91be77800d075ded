//! More tokens for a vocabulary that others made: the pieces of words that the domain repeats.
//!
//! Byte-pair encoding (Sennrich, Haddow, Birch 2016) goes on where the vocabulary ends: the most frequent pair of tokens
//! within words becomes a token, again and again, as long as that makes text of the domain shorter (as in AVocaDo, Hong et
//! al. 2021, "AVocaDo: Strategy for adapting vocabulary to downstream domain"). Tokens that there are keep their ids.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use arable_core::{Fraction, Hint};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vocabulary::{Vocabulary, VocabularyError};

/// How far a vocabulary is extended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExtendConfig {
    /// Tokens to add, at most.
    pub max_tokens: usize,
    /// By what part every 128 tokens more must lower the tokens per word of held-out text.
    pub min_gain: Fraction,
    /// How often a pair must occur to become a token.
    pub min_frequency: u64,
}

impl Default for ExtendConfig {
    fn default() -> Self {
        Self { max_tokens: 8192, min_gain: Fraction::new(0.002).expect("a literal in range"), min_frequency: 20 }
    }
}

/// Tokens that are added before it is seen what they are worth.
const AT_ONCE: usize = 128;
/// Texts that are encoded side by side.
const TEXTS_AT_ONCE: usize = 1024;

/// A vocabulary that holds too little of a domain and cannot be extended.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// No pair of tokens occurs often enough within words.
    #[error("extend the vocabulary: no pair of tokens occurs {min_frequency} times in the corpus")]
    NothingToAdd {
        /// The frequency that was asked for.
        min_frequency: u64,
    },
    /// The vocabulary takes no more tokens.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
}

impl Hint for ExtendError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NothingToAdd { .. } => {
                Some("lower `tokenizer.extend.min_frequency`, or leave `tokenizer.extend` out".to_owned())
            }
            Self::Vocabulary(error) => error.hint(),
        }
    }
}

/// An extended vocabulary, and how it came about.
#[derive(Clone, Debug)]
pub struct Extended {
    /// The tokens that there were, and more behind them.
    pub vocabulary: Vocabulary,
    /// Tokens per word of held-out text after so many tokens were added, from none on. The last round is not among the
    /// tokens where it gained too little.
    pub curve: Vec<(usize, f64)>,
}

/// Extends `vocabulary` by pieces of the words of `texts`, until `held_out` gets no shorter. The result depends on what the
/// texts are, not on their order or on the number of threads: ties between pairs go to the pair with the smaller ids.
///
/// # Errors
/// When nothing occurs often enough.
pub fn extend<S: AsRef<str> + Sync>(
    config: &ExtendConfig,
    vocabulary: &Vocabulary,
    texts: impl IntoIterator<Item = S>,
    held_out: impl IntoIterator<Item = S>,
) -> Result<Extended, ExtendError> {
    let mut learner = Learner::new(vocabulary, texts, held_out);
    let num_words = learner.num_words.max(1) as f64;
    let mut curve = vec![(0, learner.num_held_out as f64 / num_words)];
    let mut kept = 0;
    while kept < config.max_tokens {
        let wanted = (kept + AT_ONCE).min(config.max_tokens);
        while learner.merges.len() < wanted && learner.merge(config.min_frequency) {}
        let (num, before) = (learner.merges.len(), curve[curve.len() - 1].1);
        if num == kept {
            break;
        }
        let after = learner.num_held_out as f64 / num_words;
        curve.push((num, after));
        let asked = config.min_gain.get() * (num - kept) as f64 / AT_ONCE as f64;
        if before - after < asked * before {
            break;
        }
        kept = num;
    }
    if learner.merges.is_empty() {
        return Err(ExtendError::NothingToAdd { min_frequency: config.min_frequency });
    }
    learner.merges.truncate(kept);
    Ok(Extended { vocabulary: vocabulary.with_merges(&learner.merges)?, curve })
}

/// A pair of tokens that became one, as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    pub left: String,
    pub right: String,
    pub token: String,
}

/// A distinct word: its tokens, and how often it occurs in the texts and in those held out.
struct Word {
    ids: Vec<u32>,
    counts: [u64; 2],
}

type Pair = (u32, u32);

struct Learner {
    words: Vec<Word>,
    /// Occurrences of each pair in the texts.
    counts: HashMap<Pair, u64>,
    /// The words in which a pair may be.
    places: HashMap<Pair, BTreeSet<usize>>,
    /// Pairs by their counts, some of which are out of date.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    /// Tokens by id, those that were made included.
    tokens: Vec<String>,
    known: BTreeSet<String>,
    /// What tokens inside of a word begin with, in a vocabulary of WordPiece.
    continuing: Option<String>,
    /// Tokens that never merge.
    special: BTreeSet<u32>,
    merges: Vec<Merge>,
    /// Tokens and words of what is held out.
    num_held_out: u64,
    num_words: u64,
}

impl Learner {
    fn new<S: AsRef<str> + Sync>(
        vocabulary: &Vocabulary,
        texts: impl IntoIterator<Item = S>,
        held_out: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut all: BTreeMap<Vec<u32>, [u64; 2]> = BTreeMap::new();
        count_words(vocabulary, texts, &mut |word, count| all.entry(word).or_default()[0] += count);
        let num_words = count_words(vocabulary, held_out, &mut |word, count| all.entry(word).or_default()[1] += count);
        let words: Vec<Word> = all.into_iter().map(|(ids, counts)| Word { ids, counts }).collect();
        let num_held_out = words.iter().map(|word| word.ids.len() as u64 * word.counts[1]).sum();
        let tokens: Vec<String> =
            (0..vocabulary.size()).map(|id| vocabulary.token(id as u32).unwrap_or_default()).collect();
        let mut learner = Self {
            counts: HashMap::new(),
            places: HashMap::new(),
            queue: BinaryHeap::new(),
            known: tokens.iter().cloned().collect(),
            tokens,
            continuing: vocabulary.continuing_prefix(),
            special: vocabulary.special_ids().into_iter().collect(),
            merges: Vec::new(),
            num_held_out,
            num_words,
            words,
        };
        for idx in 0..learner.words.len() {
            learner.add(idx);
        }
        learner.queue = learner.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        learner
    }

    /// Counts the pairs of a word.
    fn add(&mut self, idx: usize) {
        let Word { ids, counts } = &self.words[idx];
        for pair in ids.windows(2).map(|pair| (pair[0], pair[1])) {
            *self.counts.entry(pair).or_default() += counts[0];
            self.places.entry(pair).or_default().insert(idx);
        }
    }

    /// Makes a token of the most frequent pair, if one occurs often enough.
    fn merge(&mut self, min_frequency: u64) -> bool {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.counts.get(&pair).copied().unwrap_or_default();
            if count < min_frequency.max(1) {
                return false;
            }
            if now != count {
                // It is in the queue again, or its words are gone.
                continue;
            }
            let Some(merge) = self.merge_of(pair) else { continue };
            let id = self.tokens.len() as u32;
            self.known.insert(merge.token.clone());
            self.tokens.push(merge.token.clone());
            self.merges.push(merge);
            self.replace(pair, id);
            return true;
        }
        false
    }

    /// What a pair becomes; none where there is such a token already, or where it must not be.
    fn merge_of(&self, (a, b): Pair) -> Option<Merge> {
        if self.special.contains(&a) || self.special.contains(&b) {
            return None;
        }
        let (left, right) = (self.tokens[a as usize].clone(), self.tokens[b as usize].clone());
        let inside = self.continuing.as_deref().and_then(|prefix| right.strip_prefix(prefix)).unwrap_or(&right);
        let token = format!("{left}{inside}");
        (!self.known.contains(&token)).then_some(Merge { left, right, token })
    }

    /// Puts a token in the place of a pair, wherever it occurs.
    fn replace(&mut self, pair: Pair, id: u32) {
        let mut changed: BTreeSet<Pair> = BTreeSet::new();
        for idx in self.places.remove(&pair).unwrap_or_default() {
            let Word { ids, counts } = &mut self.words[idx];
            let merged = merged(ids, pair, id);
            if merged.len() == ids.len() {
                continue;
            }
            self.num_held_out -= (ids.len() - merged.len()) as u64 * counts[1];
            for old in ids.windows(2).map(|pair| (pair[0], pair[1])) {
                *self.counts.get_mut(&old).expect("every pair of a word is counted") -= counts[0];
                changed.insert(old);
            }
            *ids = merged;
            changed.extend(ids.windows(2).map(|pair| (pair[0], pair[1])));
            self.add(idx);
        }
        let now = changed.into_iter().map(|pair| (self.counts.get(&pair).copied().unwrap_or_default(), Reverse(pair)));
        self.queue.extend(now.filter(|(count, _)| *count > 0));
    }
}

/// Gives `each` the tokens of every word of the texts, some of them several times, with how often. Returns the number of words
/// between white space.
fn count_words<S: AsRef<str> + Sync>(
    vocabulary: &Vocabulary,
    texts: impl IntoIterator<Item = S>,
    each: &mut impl FnMut(Vec<u32>, u64),
) -> u64 {
    let (mut texts, mut num_words) = (texts.into_iter(), 0);
    loop {
        let some: Vec<S> = texts.by_ref().take(TEXTS_AT_ONCE).collect();
        if some.is_empty() {
            return num_words;
        }
        let counted = |text: &S| {
            let mut own: HashMap<Vec<u32>, u64> = HashMap::new();
            vocabulary.words(text.as_ref()).into_iter().for_each(|word| *own.entry(word).or_default() += 1);
            (own, text.as_ref().split_whitespace().count() as u64)
        };
        for (own, num) in some.par_iter().map(counted).collect::<Vec<_>>() {
            num_words += num;
            own.into_iter().for_each(|(word, count)| each(word, count));
        }
    }
}

/// `ids` with `id` in the place of each pair, from the left.
fn merged(ids: &[u32], (a, b): Pair, id: u32) -> Vec<u32> {
    let (mut merged, mut at) = (Vec::with_capacity(ids.len()), 0);
    while at < ids.len() {
        let is_pair = ids[at] == a && ids.get(at + 1) == Some(&b);
        merged.push(if is_pair { id } else { ids[at] });
        at += 1 + usize::from(is_pair);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::tests::texts;
    use crate::{TokenizerConfig, fertility, train};

    /// A vocabulary of other words than those of [`domain`].
    fn general() -> Vocabulary {
        let words = ["the pump leaks ", "and the rotor hums ", "at night "];
        let texts: Vec<String> = (0..60).map(|i| words.repeat(1 + i % 3).concat()).collect();
        train(&TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() }, texts, &["<<".into()]).unwrap()
    }

    fn config(max_tokens: usize, min_gain: f64) -> ExtendConfig {
        ExtendConfig { max_tokens, min_gain: Fraction::new(min_gain).unwrap(), min_frequency: 3 }
    }

    #[test]
    fn words_of_the_domain_become_tokens() {
        let (vocabulary, own) = (general(), texts(200));
        let found = extend(&config(200, 1e-3), &vocabulary, &own[..150], &own[150..]).unwrap();
        let new = &found.vocabulary;
        let (before, after) = (fertility(&vocabulary, &own[150..]), fertility(new, &own[150..]));
        assert!(before > 4.0 && after < 1.2, "{before} {after}");
        assert!((found.curve[0].1 - before).abs() < 1e-12 && found.curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 >= b.1));
        // What there was has its id; what is new stands behind it and means what stood for it.
        for id in 0..vocabulary.size() as u32 {
            assert_eq!(vocabulary.token(id), new.token(id));
        }
        let aspirin = new.encode(" aspirin").ids;
        assert_eq!(aspirin.len(), 1);
        assert!(aspirin[0] as usize >= vocabulary.size());
        assert_eq!(vocabulary.pieces(new, aspirin[0]), vocabulary.encode(" aspirin").ids);
        assert!(own.iter().all(|text| new.decode(&new.encode(text).ids) == *text));
        assert!(new.special_id("<<").is_some() && !new.encode("<< <<").ids.contains(&new.special_id("<<").unwrap()));
    }

    #[test]
    fn it_ends_where_it_gains_too_little_or_nothing_is_left() {
        let (vocabulary, own) = (general(), texts(200));
        let all = extend(&config(200, 1e-6), &vocabulary, &own[..150], &own[150..]).unwrap();
        let few = extend(&config(7, 1e-6), &vocabulary, &own[..150], &own[150..]).unwrap();
        let sizes = [&all, &few].map(|found| found.vocabulary.size() - vocabulary.size());
        assert!(sizes[0] < 100 && sizes[1] == 7, "{sizes:?}: eleven words have some sixty pairs");
        // Held-out text of other words gains nothing: the first round is seen, and not kept.
        let none = extend(&config(200, 0.5), &vocabulary, &own[..150], &["hums".to_owned()]).unwrap();
        assert_eq!((none.vocabulary.size(), none.curve.len()), (vocabulary.size(), 2));
        let error = extend(&config(200, 0.5), &vocabulary, &["a b"], &["c"]).unwrap_err();
        assert!(matches!(error, ExtendError::NothingToAdd { min_frequency: 3 }) && error.hint().is_some());
    }

    #[test]
    fn neither_order_nor_threads_show() {
        let (vocabulary, mut own) = (general(), texts(300));
        let extended = |own: &[String], num_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
            pool.install(|| extend(&config(60, 1e-3), &vocabulary, own, &own[..9]).unwrap().vocabulary.to_json())
        };
        let expected = extended(&own, 1);
        own[9..].reverse();
        assert!([1, 2, 3].into_iter().all(|num_threads| extended(&own, num_threads) == expected));
    }

    #[test]
    fn pieces_of_word_piece_continue() {
        let dir = tempfile::tempdir().unwrap();
        let words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\npump\nover\nun\n##he\n##at\n##s\n";
        std::fs::write(dir.path().join("vocab.txt"), words).unwrap();
        let vocabulary = Vocabulary::load(dir.path()).unwrap();
        let own = vec!["the pump overheats unheats pumpheats overheats \u{e9}"; 40];
        let found = extend(&config(2, 1e-3), &vocabulary, &own, &own[..1]).unwrap();
        let new = found.vocabulary;
        assert_eq!(new.size(), 14);
        assert_eq!([12, 13].map(|id| new.token(id).unwrap()), ["##heat", "##heats"]);
        assert_eq!(new.encode("overheats").ids, [7, 13]);
        assert_eq!([12, 13].map(|id| vocabulary.pieces(&new, id)), [vec![9, 10], vec![9, 10, 11]]);
    }
}
