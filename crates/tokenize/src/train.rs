//! Training a byte-level BPE vocabulary.
//!
//! Method: byte-pair encoding (Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units",
//! 2016) over bytes, after the splitting rule of GPT-2 (Radford et al., "Language models are unsupervised multitask
//! learners", 2019), so that any text has an encoding and decodes to itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arable_core::Hint;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer, TokenizerImpl,
};

use crate::extend::ExtendConfig;
use crate::vocabulary::{Role, Vocabulary, VocabularyError};

/// The number of byte symbols, which every vocabulary holds.
const NUM_BYTES: usize = 256;

/// What a vocabulary is to be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// How many tokens it has at most, special ones and the 256 bytes included. Little text gives fewer.
    pub vocab_size: usize,
    /// How often a pair of tokens must occur to become a token of its own.
    pub min_frequency: u64,
    /// Whether to encode everything in lower case. Decoding then gives lower case.
    pub lowercase: bool,
    /// Special tokens besides `[PAD] [UNK] [CLS] [SEP] [MASK]`, such as the markers of a task.
    pub special_tokens: Vec<String>,
    /// Tokens for the domain behind those of the model to go on from (`model.from`). `extend = {}` takes the defaults; without
    /// it, its vocabulary stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend: Option<ExtendConfig>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { vocab_size: 8192, min_frequency: 2, lowercase: false, special_tokens: vec![], extend: None }
    }
}

/// Why a vocabulary could not be trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The special tokens and the bytes leave no room for learned tokens.
    #[error("fit a vocabulary into {vocab_size} tokens, of which {fixed} are special tokens and bytes")]
    TooSmall {
        /// The size that was asked for.
        vocab_size: usize,
        /// Special tokens and bytes.
        fixed: usize,
    },
    /// A special token that cannot be told from text.
    #[error("use `{0}` as a special token")]
    SpecialToken(String),
    /// No pair of bytes occurs often enough: there is no text, or next to none.
    #[error("find a pair of characters that occurs {min_frequency} times in {num_texts} texts")]
    TooLittleText {
        /// The frequency that was asked for.
        min_frequency: u64,
        /// How many texts there were.
        num_texts: usize,
    },
    /// The trainer failed.
    #[error("train a byte-level BPE")]
    Trainer(#[source] tokenizers::Error),
    /// The trained vocabulary cannot be used.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
}

impl Hint for TrainError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::TooSmall { fixed, .. } => Some(format!("set vocab_size above {fixed}; 4096 to 32768 is usual")),
            Self::SpecialToken(_) => Some("give it two or more characters, such as `<<` or `[DRUG]`".to_owned()),
            Self::TooLittleText { .. } => Some("check that the corpus is not empty, or lower min_frequency".to_owned()),
            Self::Vocabulary(error) => error.hint(),
            Self::Trainer(_) => None,
        }
    }
}

type Trained = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Trains a vocabulary on `texts`. Its ids are in this order: `[PAD] [UNK] [CLS] [SEP] [MASK]`, the special tokens of the
/// configuration, those in `extra_special`, the 256 bytes, the learned tokens. The result depends on what the texts are,
/// not on their order or on the number of threads: ties between pairs go to the pair with the smaller ids.
///
/// Pairs are counted in 32 bits, which holds for some 50 GB of text; train on a sample beyond that.
///
/// # Errors
/// When the size leaves no room, a special token has fewer than two characters, or there is too little text.
pub fn train<I, S>(config: &TokenizerConfig, texts: I, extra_special: &[String]) -> Result<Vocabulary, TrainError>
where
    I: IntoIterator<Item = S, IntoIter: Send>,
    S: AsRef<str> + Send,
{
    let special = special_tokens(config, extra_special)?;
    let fixed = special.len() + NUM_BYTES;
    if config.vocab_size <= fixed {
        return Err(TrainError::TooSmall { vocab_size: config.vocab_size, fixed });
    }
    let mut num_texts = 0;
    let learned = learn(config, special.len(), texts.into_iter().inspect(|_| num_texts += 1))?;
    if learned.merges.is_empty() {
        return Err(TrainError::TooLittleText { min_frequency: config.min_frequency, num_texts });
    }
    let (tokens, merges) = without_special(&learned, &special, config.vocab_size - fixed);
    Ok(Vocabulary::new(assemble(config, &special, tokens, merges)?)?)
}

fn special_tokens(config: &TokenizerConfig, extra: &[String]) -> Result<Vec<String>, TrainError> {
    let mut seen = BTreeSet::new();
    let roles = Role::ALL.iter().map(|role| role.default_token().to_owned());
    let all = roles.chain(config.special_tokens.iter().chain(extra).cloned());
    let special: Vec<String> = all.filter(|token| seen.insert(token.clone())).collect();
    // A token of one character would be the same string as one of the bytes.
    match special.iter().find(|token| token.chars().count() < 2) {
        Some(token) => Err(TrainError::SpecialToken(token.clone())),
        None => Ok(special),
    }
}

/// What the trainer found: the pairs it merged in order of preference, and its ids.
struct Learned {
    merges: Vec<(String, String)>,
    ids: BTreeMap<String, u32>,
}

fn learn<S: AsRef<str> + Send>(
    config: &TokenizerConfig,
    num_special: usize,
    texts: impl Iterator<Item = S> + Send,
) -> Result<Learned, TrainError> {
    // The trainer knows nothing of the special tokens, or it would learn to merge `<` and `<` into the marker `<<`. A few
    // tokens more than needed make up for those that are taken out afterwards.
    let spare = 8 * num_special;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(config.vocab_size - num_special + spare)
        .min_frequency(config.min_frequency.max(1))
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .build();
    let mut tokenizer: Trained = TokenizerImpl::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(splitter()));
    tokenizer.with_normalizer(normalizer(config)).map_err(TrainError::Trainer)?;
    tokenizer.train(&mut trainer, texts).map_err(TrainError::Trainer)?;
    let model = tokenizer.get_model();
    let written = serde_json::to_value(model).expect("a BPE model has a JSON form");
    let merges = serde_json::from_value(written["merges"].clone()).expect("merges are pairs of tokens");
    Ok(Learned { merges, ids: model.get_vocab().into_iter().collect() })
}

/// The first `num_tokens` learned tokens, less those that read like a special token and all that grow from them only; and
/// the merges among what is left.
fn without_special(learned: &Learned, special: &[String], num_tokens: usize) -> (Vec<String>, Vec<(String, String)>) {
    let mut known: HashSet<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    let mut by_age: Vec<_> = learned.merges.iter().map(|(a, b)| (a, b, format!("{a}{b}"))).collect();
    by_age.sort_by_key(|(_, _, token)| learned.ids[token]);
    let mut tokens = vec![];
    for (a, b, token) in by_age {
        let allowed = !special.contains(&token) && known.contains(a) && known.contains(b);
        if tokens.len() < num_tokens && allowed && known.insert(token.clone()) {
            tokens.push(token);
        }
    }
    let is_left =
        |(a, b): &&(String, String)| known.contains(a) && known.contains(b) && known.contains(&format!("{a}{b}"));
    (tokens, learned.merges.iter().filter(is_left).cloned().collect())
}

fn splitter() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

fn normalizer(config: &TokenizerConfig) -> Option<NormalizerWrapper> {
    config.lowercase.then_some(NormalizerWrapper::Lowercase(Lowercase))
}

fn assemble(
    config: &TokenizerConfig,
    special: &[String],
    tokens: Vec<String>,
    merges: Vec<(String, String)>,
) -> Result<Tokenizer, TrainError> {
    let bytes: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    let all = special.iter().cloned().chain(bytes.into_iter().map(String::from)).chain(tokens);
    let ids: BTreeMap<String, usize> = all.enumerate().map(|(id, token)| (token, id)).collect();
    // Through text, because the library's parser wants to borrow.
    let written = json!({ "type": "BPE", "vocab": ids, "merges": merges }).to_string();
    let model: BPE = serde_json::from_str(&written).map_err(|error| TrainError::Trainer(error.into()))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(splitter()));
    tokenizer.with_decoder(Some(splitter()));
    tokenizer.with_normalizer(normalizer(config)).map_err(TrainError::Trainer)?;
    let added = special.iter().map(|token| AddedToken::from(token.as_str(), true));
    tokenizer.add_special_tokens(added).map_err(TrainError::Trainer)?;
    tokenizer.with_post_processor(Some(template(&ids)));
    Ok(tokenizer)
}

/// `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]`, for those who load the vocabulary elsewhere.
fn template(ids: &BTreeMap<String, usize>) -> TemplateProcessing {
    let placed = [Role::Cls, Role::Sep].map(|role| {
        let token = role.default_token();
        (token.to_owned(), u32::try_from(ids[token]).expect("special tokens have the first ids"))
    });
    TemplateProcessing::builder()
        .try_single("[CLS] $A [SEP]")
        .expect("a fixed template")
        .try_pair("[CLS] $A [SEP] $B:1 [SEP]:1")
        .expect("a fixed template")
        .special_tokens(placed.to_vec())
        .build()
        .expect("both tokens are given")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const WORDS: [&str; 12] = [
        "aspirin",
        "inhibits",
        "cyclooxygenase",
        "<<",
        ">>",
        "in",
        "platelets",
        "[[",
        "gefitinib",
        "]]",
        "EGFR,",
        "2.5",
    ];

    /// Text with structure and without end, the same each time.
    pub(crate) fn texts(count: usize) -> Vec<String> {
        let mut draws = arable_core::Seed(1).stream("texts").at(0, 0);
        let mut word = move || WORDS[draws.below(WORDS.len()).min(draws.below(WORDS.len()))];
        (0..count).map(|_| (0..40).map(|_| word()).collect::<Vec<_>>().join(" ")).collect()
    }

    pub(crate) fn markers() -> Vec<String> {
        ["<<", ">>", "[[", "]]"].map(String::from).to_vec()
    }

    fn config() -> TokenizerConfig {
        TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() }
    }

    #[test]
    fn ids_are_in_the_promised_order_and_number() {
        let vocabulary = train(&config(), texts(200), &markers()).unwrap();
        let order = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<<", ">>", "[[", "]]", "!"];
        for (id, token) in order.iter().enumerate() {
            assert_eq!(vocabulary.token(id as u32).unwrap(), *token);
        }
        assert_eq!(vocabulary.size(), 300);
    }

    #[test]
    fn training_depends_on_neither_threads_nor_order_nor_hashing() {
        let mut texts = texts(300);
        let bytes = |texts: &[String], num_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
            pool.install(|| train(&config(), texts, &markers()).unwrap().to_json())
        };
        let expected = bytes(&texts, 1);
        for num_threads in [1, 2, 5] {
            assert_eq!(bytes(&texts, num_threads), expected);
        }
        texts.reverse();
        assert_eq!(bytes(&texts, 3), expected);
    }

    #[test]
    fn what_cannot_work_is_refused_with_advice() {
        let refused = |config: TokenizerConfig, texts: &[&str]| train(&config, texts, &[]).map(|_| ()).unwrap_err();
        let small = refused(TokenizerConfig { vocab_size: 261, ..config() }, &["aa aa"]);
        assert!(matches!(small, TrainError::TooSmall { fixed: 261, .. }) && small.hint().is_some());
        let special = refused(TokenizerConfig { special_tokens: vec!["$".into()], ..config() }, &["aa aa"]);
        assert!(matches!(special, TrainError::SpecialToken(_)));
        assert!(matches!(refused(config(), &[]), TrainError::TooLittleText { num_texts: 0, .. }));
    }
}
