//! A trained vocabulary: text to ids and back.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arable_core::Hint;
use fs_err as fs;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

/// The file that holds a vocabulary.
const TOKENIZER: &str = "tokenizer.json";
/// The files beside it in which `transformers` looks for the names of the special tokens.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// What a special token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Fills up batches elsewhere; never occurs here.
    Pad,
    /// Stands for what has no token; never occurs with a byte-level vocabulary.
    Unk,
    /// Begins a sequence.
    Cls,
    /// Ends a sequence or a part of one.
    Sep,
    /// Hides a token.
    Mask,
}

impl Role {
    /// Every role, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::Pad, Self::Unk, Self::Cls, Self::Sep, Self::Mask];

    /// The token for this role in vocabularies trained here.
    pub fn default_token(self) -> &'static str {
        match self {
            Self::Pad => "[PAD]",
            Self::Unk => "[UNK]",
            Self::Cls => "[CLS]",
            Self::Sep => "[SEP]",
            Self::Mask => "[MASK]",
        }
    }

    /// The key that `transformers` uses for this role.
    fn key(self) -> &'static str {
        match self {
            Self::Pad => "pad_token",
            Self::Unk => "unk_token",
            Self::Cls => "cls_token",
            Self::Sep => "sep_token",
            Self::Mask => "mask_token",
        }
    }
}

/// Why a vocabulary could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// `tokenizer.json` is not one, or cannot encode text.
    #[error("read `{}` as a vocabulary", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: tokenizers::Error,
    },
    /// The vocabulary has no token for a role.
    #[error("find `{token}` ({role:?}) in the vocabulary")]
    NoToken {
        /// The role.
        role: Role,
        /// The name that was looked for.
        token: String,
    },
    /// Reading or writing failed; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hint for VocabularyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("use a `tokenizer.json` as the `tokenizers` library writes it".to_owned()),
            Self::NoToken { role, .. } => {
                Some(format!("name the token in `{SPECIAL_TOKENS_MAP}` under `{}`", role.key()))
            }
            Self::Io(_) => None,
        }
    }
}

/// Tokens of a text, without special ones at its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The token ids.
    pub ids: Vec<u32>,
    /// Whether the token begins a word: a run of characters without whitespace, with the whitespace in front of it. True
    /// for the first token; whitespace at the end of the text counts as a word.
    pub word_starts: Vec<bool>,
}

/// A vocabulary. Cheap to share between threads by reference.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    tokenizer: Tokenizer,
    /// Ids by role.
    roles: [u32; 5],
    /// Other special tokens with their ids, the longest first.
    markers: Vec<(String, u32)>,
}

impl Vocabulary {
    /// Wraps a tokenizer whose special tokens have their default names.
    pub(crate) fn new(tokenizer: Tokenizer) -> Result<Self, VocabularyError> {
        Self::with_names(tokenizer, Role::ALL.map(|role| role.default_token().to_owned()))
    }

    fn with_names(mut tokenizer: Tokenizer, names: [String; 5]) -> Result<Self, VocabularyError> {
        // Special tokens in text are text. This switch is not saved.
        tokenizer.set_encode_special_tokens(true);
        let mut roles = [0; 5];
        for ((role, name), id) in Role::ALL.into_iter().zip(&names).zip(&mut roles) {
            let token = || name.clone();
            *id = tokenizer.token_to_id(name).ok_or_else(|| VocabularyError::NoToken { role, token: token() })?;
        }
        let added = tokenizer.get_added_tokens_decoder();
        let is_marker = |(id, token): &(u32, tokenizers::AddedToken)| token.special && !roles.contains(id);
        let mut markers: Vec<_> = added.into_iter().filter(is_marker).map(|(id, token)| (token.content, id)).collect();
        markers.sort_by_key(|(token, id)| (std::cmp::Reverse(token.len()), *id));
        Ok(Self { tokenizer, roles, markers })
    }

    /// Loads `tokenizer.json` from `folder`, with the names of the special tokens from `tokenizer_config.json` or
    /// `special_tokens_map.json` where they exist. Truncation and padding set in the file have no effect.
    ///
    /// # Errors
    /// When the file cannot be read, cannot encode text, or lacks one of the special tokens.
    pub fn load(folder: &Path) -> Result<Self, VocabularyError> {
        let path = folder.join(TOKENIZER);
        let unreadable = |source| VocabularyError::Unreadable { path: path.clone(), source };
        let mut tokenizer = Tokenizer::from_bytes(fs::read(&path)?).map_err(unreadable)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(unreadable)?;
        // What has no token at all shows here, not in the middle of a corpus.
        tokenizer.encode("a \u{10FFFD}", false).map_err(unreadable)?;
        let named = [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP].map(|name| read_json(&folder.join(name)));
        Self::with_names(tokenizer, Role::ALL.map(|role| token_name(role, &named)))
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into `folder`, as `transformers`
    /// reads them. `model_max_length` is in tokens.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, folder: &Path, model_max_length: usize) -> Result<(), VocabularyError> {
        let mut named: Value = Role::ALL.iter().map(|role| (role.key().to_owned(), self.role_token(*role))).collect();
        named["additional_special_tokens"] = self.markers_by_id().into_iter().map(Value::from).collect();
        fs::write(folder.join(SPECIAL_TOKENS_MAP), pretty(&named))?;
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": false,
        });
        config.as_object_mut().expect("an object").extend(named.as_object().expect("an object").clone());
        fs::write(folder.join(TOKENIZER_CONFIG), pretty(&config))?;
        Ok(fs::write(folder.join(TOKENIZER), self.to_json())?)
    }

    /// The text of `tokenizer.json`: equal vocabularies have equal texts.
    pub fn to_json(&self) -> String {
        self.tokenizer.to_string(true).expect("a tokenizer has a JSON form")
    }

    /// The number of tokens: ids are below it.
    pub fn size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The id of the token for `role`.
    pub fn role_id(&self, role: Role) -> u32 {
        self.roles[role as usize]
    }

    /// The id of `[PAD]`.
    pub fn pad_id(&self) -> u32 {
        self.role_id(Role::Pad)
    }

    /// The id of `[CLS]`.
    pub fn cls_id(&self) -> u32 {
        self.role_id(Role::Cls)
    }

    /// The id of `[SEP]`.
    pub fn sep_id(&self) -> u32 {
        self.role_id(Role::Sep)
    }

    /// The id of `[MASK]`.
    pub fn mask_id(&self) -> u32 {
        self.role_id(Role::Mask)
    }

    /// The id of a special token by its name, or `None` when there is no such special token.
    pub fn special_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.get_added_vocabulary().is_special_token(token).then(|| self.tokenizer.token_to_id(token))?
    }

    /// The ids of all special tokens, sorted: what a mask or a random replacement must keep away from.
    pub fn special_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.roles.iter().copied().chain(self.markers.iter().map(|(_, id)| *id)).collect();
        ids.sort_unstable();
        ids
    }

    /// The token with this id as it is written in `tokenizer.json`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Encodes text. Special tokens that occur in it are text like any other.
    pub fn encode(&self, text: &str) -> Encoded {
        let mut encoder = Encoder::new(self, text);
        encoder.push_text(0..text.len());
        encoder.encoded
    }

    /// Encodes the text of a task: its markers, that is all special tokens but those with a [`Role`], become one token
    /// each wherever they occur.
    pub fn encode_marked(&self, text: &str) -> Encoded {
        let mut encoder = Encoder::new(self, text);
        let mut done = 0;
        while let Some((span, id)) = self.next_marker(text, done) {
            encoder.push_text(done..span.start);
            done = span.end;
            encoder.push(id, span);
        }
        encoder.push_text(done..text.len());
        encoder.encoded
    }

    /// The leftmost marker from `from` on, the longest where several begin.
    fn next_marker(&self, text: &str, from: usize) -> Option<(Range<usize>, u32)> {
        let find = |(marker, id): &(String, u32)| {
            let at = from + text[from..].find(marker.as_str())?;
            Some((at..at + marker.len(), *id))
        };
        // Of equal minima the first wins, and the longest markers come first.
        self.markers.iter().filter_map(find).min_by_key(|(span, _)| span.start)
    }

    /// Encodes texts in parallel, in order.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<Encoded> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// Encodes a sentence that is cut into words, as if they were joined by single spaces: the ids, and for each word the
    /// index of its first token. Every word has at least one token, even an empty one.
    pub fn encode_words(&self, words: &[String]) -> (Vec<u32>, Vec<usize>) {
        let (mut ids, mut firsts) = (vec![], vec![]);
        for (word_idx, word) in words.iter().enumerate() {
            firsts.push(ids.len());
            let spaced = if word_idx == 0 && !word.is_empty() { word.clone() } else { format!(" {word}") };
            ids.extend(self.encode(&spaced).ids);
            if firsts[word_idx] == ids.len() {
                ids.push(self.role_id(Role::Unk));
            }
        }
        (ids, firsts)
    }

    /// The text of `ids`, special tokens as they are written. Ids outside the vocabulary are passed over.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, false).expect("decoders of loaded vocabularies do not fail")
    }

    fn role_token(&self, role: Role) -> Value {
        self.token(self.role_id(role)).into()
    }

    fn markers_by_id(&self) -> Vec<String> {
        let mut markers = self.markers.clone();
        markers.sort_by_key(|(_, id)| *id);
        markers.into_iter().map(|(token, _)| token).collect()
    }
}

/// One text on its way to tokens.
struct Encoder<'a> {
    vocabulary: &'a Vocabulary,
    text: &'a str,
    encoded: Encoded,
    /// Where the tokens so far end in the text.
    seen: usize,
}

impl<'a> Encoder<'a> {
    fn new(vocabulary: &'a Vocabulary, text: &'a str) -> Self {
        Self { vocabulary, text, encoded: Encoded::default(), seen: 0 }
    }

    fn push_text(&mut self, span: Range<usize>) {
        let part = &self.text[span.clone()];
        let encoding = self.vocabulary.tokenizer.encode(part, false).expect("checked when the vocabulary was loaded");
        for (id, (from, to)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            self.push(*id, span.start + from..span.start + to);
        }
    }

    fn push(&mut self, id: u32, span: Range<usize>) {
        // Tokens may be parts of a character, and then share its place.
        let end = self.text.ceil_char_boundary(span.end).max(self.seen);
        self.encoded.word_starts.push(self.encoded.ids.is_empty() || leaves_word(self.text, self.seen..end));
        self.encoded.ids.push(id);
        self.seen = end;
    }
}

/// Whether a word ends in `span` or right before it: at a whitespace character behind one that is not.
fn leaves_word(text: &str, span: Range<usize>) -> bool {
    let mut in_word = text[..span.start].chars().next_back().is_some_and(|c| !c.is_whitespace());
    text[span].chars().any(|c| std::mem::replace(&mut in_word, !c.is_whitespace()) && c.is_whitespace())
}

fn read_json(path: &Path) -> Value {
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(Value::Null)
}

/// The name of the token for `role`: a text, or an object that holds one.
fn token_name(role: Role, named: &[Value]) -> String {
    let name = |file: &Value| {
        let token = &file[role.key()];
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
    };
    named.iter().find_map(name).unwrap_or_else(|| role.default_token().to_owned())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a value has a JSON form")
}

/// Tokens per whitespace-separated word over all `texts`: how well a vocabulary fits them. 0 when there is no word.
pub fn fertility<S: AsRef<str> + Sync>(vocabulary: &Vocabulary, texts: &[S]) -> f64 {
    let count = |text: &S| (vocabulary.encode(text.as_ref()).ids.len(), text.as_ref().split_whitespace().count());
    let (tokens, words) = texts.par_iter().map(count).reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    if words == 0 { 0.0 } else { tokens as f64 / words as f64 }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::train::tests::{markers, texts};
    use crate::{TokenizerConfig, train};

    static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| trained(false));

    fn trained(lowercase: bool) -> Vocabulary {
        let config = TokenizerConfig { vocab_size: 400, lowercase, ..TokenizerConfig::default() };
        train(&config, texts(200), &markers()).unwrap()
    }

    /// Text that is rich in whatever looks like a special token.
    fn tricky() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            prop::sample::select(vec![
                "[CLS]", "[PAD]", "<<", "<", "[[", "[", "]]]", "Ġ", " ", "\n", "aspirin", "\u{3000}"
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ];
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_text_decodes_to_itself(text in tricky()) {
            let encoded = VOCABULARY.encode(&text);
            prop_assert_eq!(VOCABULARY.decode(&encoded.ids), text.as_str());
            prop_assert_eq!(VOCABULARY.decode(&VOCABULARY.encode_marked(&text).ids), text.as_str());
        }

        #[test]
        fn text_cannot_become_a_special_token(text in tricky()) {
            let special = VOCABULARY.special_ids();
            prop_assert!(VOCABULARY.encode(&text).ids.iter().all(|id| !special.contains(id)));
            let roles = VOCABULARY.roles;
            prop_assert!(VOCABULARY.encode_marked(&text).ids.iter().all(|id| !roles.contains(id)));
        }

        #[test]
        fn every_word_starts_once(text in tricky()) {
            let encoded = VOCABULARY.encode(&text);
            let words = text.split_whitespace().count() + usize::from(text.ends_with(char::is_whitespace));
            prop_assert_eq!(encoded.word_starts.iter().filter(|start| **start).count(), words);
        }

        #[test]
        fn words_encode_as_if_joined(words in prop::collection::vec("[a-zA-Z0-9<.,(-]{1,9}", 1..9)) {
            let (ids, firsts) = VOCABULARY.encode_words(&words);
            let joined = VOCABULARY.encode(&words.join(" "));
            prop_assert_eq!(&ids, &joined.ids);
            let starts: Vec<_> = (0..ids.len()).filter(|i| joined.word_starts[*i]).collect();
            prop_assert_eq!(firsts, starts);
        }
    }

    #[test]
    fn markers_are_one_token_where_asked_for() {
        let text = "the <<aspirin>> and [[ x ]] [CLS]";
        let marked = VOCABULARY.encode_marked(text);
        let ids: Vec<_> = markers().iter().map(|marker| VOCABULARY.special_id(marker).unwrap()).collect();
        let found: Vec<_> = marked.ids.iter().copied().filter(|id| VOCABULARY.special_ids().contains(id)).collect();
        assert_eq!(found, ids);
        assert_eq!(VOCABULARY.decode(&marked.ids), text);
        assert_eq!(VOCABULARY.special_id("aspirin"), None);
    }

    #[test]
    fn whitespace_belongs_to_the_word_behind_it() {
        let encoded = VOCABULARY.encode("aspirin  inhibits\nEGFR, é\u{3000}日本 ");
        let mut words = vec![vec![]];
        for (id, start) in encoded.ids.iter().zip(&encoded.word_starts).skip(1) {
            if *start {
                words.push(vec![]);
            }
            words.last_mut().unwrap().push(*id);
        }
        words[0].insert(0, encoded.ids[0]);
        let words: Vec<_> = words.iter().map(|ids| VOCABULARY.decode(ids)).collect();
        assert_eq!(words, ["aspirin", "  inhibits", "\nEGFR,", " é", "\u{3000}日本", " "]);
    }

    #[test]
    fn empty_words_have_a_token() {
        let words = ["", "a", "", "b"].map(String::from);
        let (ids, firsts) = VOCABULARY.encode_words(&words);
        assert_eq!(VOCABULARY.decode(&ids), "  a  b");
        assert!(firsts.len() == 4 && firsts.is_sorted_by(|a, b| a < b));
        assert_eq!(VOCABULARY.encode_words(&[]), (vec![], vec![]));
    }

    #[test]
    fn a_saved_vocabulary_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let lower = trained(true);
        lower.save(dir.path(), 512).unwrap();
        let loaded = Vocabulary::load(dir.path()).unwrap();
        assert_eq!(loaded.to_json(), lower.to_json());
        assert_eq!((loaded.roles, &loaded.markers), (lower.roles, &lower.markers));
        assert_eq!(loaded.decode(&loaded.encode("EGFR <<").ids), "egfr <<");
    }

    #[test]
    fn special_tokens_may_have_other_names() {
        let dir = tempfile::tempdir().unwrap();
        VOCABULARY.save(dir.path(), 512).unwrap();
        let text = VOCABULARY.to_json().replace("[MASK]", "<mask>");
        fs::write(dir.path().join(TOKENIZER), text).unwrap();
        fs::remove_file(dir.path().join(TOKENIZER_CONFIG)).unwrap();
        let missing = Vocabulary::load(dir.path()).unwrap_err();
        assert!(matches!(missing, VocabularyError::NoToken { role: Role::Mask, .. }));
        fs::write(dir.path().join(SPECIAL_TOKENS_MAP), r#"{"mask_token":{"content":"<mask>"}}"#).unwrap();
        assert_eq!(Vocabulary::load(dir.path()).unwrap().mask_id(), VOCABULARY.mask_id());
    }

    #[test]
    fn fertility_counts_tokens_per_word() {
        assert_eq!(fertility(&VOCABULARY, &[" aspirin inhibits", " platelets"]), 1.0);
        assert!(fertility(&VOCABULARY, &["zzqqzzqq"]) > 2.0);
        assert_eq!(fertility::<&str>(&VOCABULARY, &[]), 0.0);
    }

    #[test]
    fn batches_keep_their_order() {
        let texts = texts(50);
        let one_by_one: Vec<_> = texts.iter().map(|text| VOCABULARY.encode(text)).collect();
        assert_eq!(VOCABULARY.encode_batch(&texts), one_by_one);
    }
}
