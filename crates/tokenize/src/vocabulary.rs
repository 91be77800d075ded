//! A trained vocabulary: text to ids and back.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arable_core::Hint;
use fs_err as fs;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::{AddedToken, EncodeInput, Model, ModelWrapper, Tokenizer};

use crate::extend::Merge;
use crate::foreign::{self, SPECIAL_TOKENS_MAP, TOKENIZER, TOKENIZER_CONFIG};

/// What a special token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Fills up batches elsewhere; never occurs here.
    Pad,
    /// Stands for what has no token; never occurs with a byte-level vocabulary.
    Unk,
    /// Begins a sequence (`[CLS]`, or `bos_token`).
    Cls,
    /// Ends a sequence or a part of one (`[SEP]`, or `eos_token`).
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

    /// The keys that `transformers` uses for this role, the first where both are set.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Pad => &["pad_token"],
            Self::Unk => &["unk_token"],
            Self::Cls => &["cls_token", "bos_token"],
            Self::Sep => &["sep_token", "eos_token"],
            Self::Mask => &["mask_token"],
        }
    }
}

/// The special tokens around sequences, as the vocabulary's own template has them. Decoders often have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Before a sequence.
    pub start: Vec<u32>,
    /// Between the two texts of a pair.
    pub between: Vec<u32>,
    /// Behind a sequence.
    pub end: Vec<u32>,
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
    #[error("find the {role:?} token in the vocabulary")]
    NoToken {
        /// The role.
        role: Role,
    },
    /// The vocabulary works in a way that Arable has no code for.
    #[error("encode text with the {kind} in `{}`", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: String,
    },
    /// Reading or writing failed; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hint for VocabularyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("use a `tokenizer.json` as the `tokenizers` library writes it".to_owned()),
            Self::NoToken { role } => {
                Some(format!("name the token in `{SPECIAL_TOKENS_MAP}` under `{}`", role.keys()[0]))
            }
            Self::Unsupported { .. } => Some("use a vocabulary of WordPiece or of byte-level BPE".to_owned()),
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
    roles: [Option<u32>; 5],
    /// Other special tokens with their ids, the longest first.
    markers: Vec<(String, u32)>,
    frame: Frame,
    /// Settings of the folder it is from that only others read.
    carried: Map<String, Value>,
}

impl Vocabulary {
    /// Wraps a tokenizer whose special tokens have their default names.
    pub(crate) fn new(tokenizer: Tokenizer) -> Result<Self, VocabularyError> {
        let roles = Role::ALL.map(|role| tokenizer.token_to_id(role.default_token()));
        Ok(Self::with_roles(tokenizer, roles, Map::new()))
    }

    fn with_roles(mut tokenizer: Tokenizer, roles: [Option<u32>; 5], carried: Map<String, Value>) -> Self {
        // Special tokens in text are text. This switch is not saved.
        tokenizer.set_encode_special_tokens(true);
        let added = tokenizer.get_added_tokens_decoder();
        let is_marker = |(id, token): &(u32, AddedToken)| token.special && !roles.contains(&Some(*id));
        let mut markers: Vec<_> = added.into_iter().filter(is_marker).map(|(id, token)| (token.content, id)).collect();
        markers.sort_by_key(|(token, id)| (std::cmp::Reverse(token.len()), *id));
        let frame = frame(&tokenizer);
        Self { tokenizer, roles, markers, frame, carried }
    }

    /// Loads the vocabulary in `folder`: `tokenizer.json`, or the `vocab.txt` of a WordPiece vocabulary, with the names of
    /// the special tokens from `tokenizer_config.json` or `special_tokens_map.json` where they exist. Truncation and
    /// padding set in the file have no effect.
    ///
    /// # Errors
    /// When no file can be read, or it cannot encode text.
    pub fn load(folder: &Path) -> Result<Self, VocabularyError> {
        let named = [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP].map(|name| foreign::read_json(&folder.join(name)));
        let tokenizer = foreign::tokenizer(folder, &named[0])?;
        let roles =
            Role::ALL.map(|role| foreign::token_names(role, &named).find_map(|name| tokenizer.token_to_id(&name)));
        Ok(Self::with_roles(tokenizer, roles, foreign::carried(folder, &named)))
    }

    /// The same with more special tokens, such as the markers of a task, behind the others; those it has stay.
    ///
    /// # Errors
    /// When the vocabulary takes no more tokens.
    pub fn with_special_tokens(&self, tokens: &[String]) -> Result<Self, VocabularyError> {
        let mut tokenizer = self.tokenizer.clone();
        let new = tokens.iter().filter(|token| self.special_id(token).is_none());
        let unreadable = |source| VocabularyError::Unreadable { path: TOKENIZER.into(), source };
        tokenizer.add_special_tokens(new.map(|token| AddedToken::from(token.as_str(), true))).map_err(unreadable)?;
        Ok(Self::with_roles(tokenizer, self.roles, self.carried.clone()))
    }

    /// The same with a token for each of these pairs, behind the others.
    pub(crate) fn with_merges(&self, merges: &[Merge]) -> Result<Self, VocabularyError> {
        let mut written: Value = serde_json::from_str(&self.to_json()).expect("a tokenizer has a JSON form");
        let (first, model) = (self.size(), &mut written["model"]);
        for (idx, Merge { left, right, token }) in merges.iter().enumerate() {
            model["vocab"][token] = json!(first + idx);
            // A vocabulary of WordPiece looks for the longest token and has no pairs.
            model["merges"].as_array_mut().into_iter().for_each(|pairs| pairs.push(json!([left, right])));
        }
        let unreadable = |source| VocabularyError::Unreadable { path: TOKENIZER.into(), source };
        let tokenizer = Tokenizer::from_bytes(written.to_string()).map_err(unreadable)?;
        Ok(Self::with_roles(tokenizer, self.roles, self.carried.clone()))
    }

    /// What tokens inside of a word begin with; none in a vocabulary of bytes.
    pub(crate) fn continuing_prefix(&self) -> Option<String> {
        match self.tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => Some(model.continuing_subword_prefix.clone()),
            _ => None,
        }
    }

    /// The tokens of each word of a text, as the vocabulary cuts words.
    pub(crate) fn words(&self, text: &str) -> Vec<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, false).expect("checked when the vocabulary was loaded");
        let tokens: Vec<(Option<u32>, u32)> =
            encoding.get_word_ids().iter().copied().zip(encoding.get_ids().iter().copied()).collect();
        tokens.chunk_by(|a, b| a.0 == b.0).map(|word| word.iter().map(|(_, id)| *id).collect()).collect()
    }

    /// The tokens that stood here for the token `id` of `other`, which this vocabulary became.
    pub fn pieces(&self, other: &Self, id: u32) -> Vec<u32> {
        let token = other.token(id).unwrap_or_default();
        if other.special_id(&token).is_some() {
            return self.encode(&token).ids;
        }
        let parts = self.tokenizer.get_model().tokenize(&token).expect("checked when the vocabulary was loaded");
        parts.into_iter().map(|part| part.id).collect()
    }

    /// Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into `folder`, as `transformers`
    /// reads them. `model_max_length` is in tokens.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, folder: &Path, model_max_length: usize) -> Result<(), VocabularyError> {
        let mut named = json!({});
        for role in Role::ALL {
            let token = self.role_id(role).and_then(|id| self.token(id));
            let found: Vec<&str> = role.keys().iter().copied().filter(|key| self.carried.contains_key(*key)).collect();
            let keys = if found.is_empty() { vec![role.keys()[0]] } else { found };
            keys.into_iter().filter(|_| token.is_some()).for_each(|key| named[key] = json!(token));
        }
        named["additional_special_tokens"] = self.markers_by_id().into_iter().map(Value::from).collect();
        fs::write(folder.join(SPECIAL_TOKENS_MAP), pretty(&named))?;
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": false,
        });
        let object = config.as_object_mut().expect("an object");
        object.extend(named.as_object().expect("an object").clone());
        let is_token = |key: &str| Role::ALL.iter().any(|role| role.keys().contains(&key));
        object.extend(self.carried.clone().into_iter().filter(|(key, _)| !is_token(key)));
        fs::write(folder.join(TOKENIZER_CONFIG), pretty(&config))?;
        Ok(fs::write(folder.join(TOKENIZER), self.to_json())?)
    }

    /// The text of `tokenizer.json`: equal vocabularies have equal texts.
    pub fn to_json(&self) -> String {
        self.tokenizer.to_string(true).expect("a tokenizer has a JSON form")
    }

    /// The number of tokens: ids are below it.
    pub fn size(&self) -> usize {
        // A foreign vocabulary may leave out numbers.
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The id of the token for `role`, if there is one.
    pub fn role_id(&self, role: Role) -> Option<u32> {
        self.roles[role as usize]
    }

    /// The id of the token for `role`.
    ///
    /// # Errors
    /// When there is none.
    pub fn require(&self, role: Role) -> Result<u32, VocabularyError> {
        self.role_id(role).ok_or(VocabularyError::NoToken { role })
    }

    /// The special tokens around sequences.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// A token for what has none: the first there is of unknown, padding, end and beginning.
    pub fn filler_id(&self) -> u32 {
        [Role::Unk, Role::Pad, Role::Sep, Role::Cls].into_iter().find_map(|role| self.role_id(role)).unwrap_or(0)
    }

    /// The id of a special token by its name, or `None` when there is no such special token.
    pub fn special_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.get_added_vocabulary().is_special_token(token).then(|| self.tokenizer.token_to_id(token))?
    }

    /// The ids of all special tokens, sorted: what a mask or a random replacement must keep away from.
    pub fn special_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> =
            self.roles.iter().flatten().copied().chain(self.markers.iter().map(|(_, id)| *id)).collect();
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
                ids.push(self.filler_id());
            }
        }
        (ids, firsts)
    }

    /// The text of `ids`, special tokens as they are written. Ids outside the vocabulary are passed over.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, false).expect("decoders of loaded vocabularies do not fail")
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

/// What the template of a tokenizer puts around sequences, read off two short ones.
fn frame(tokenizer: &Tokenizer) -> Frame {
    let special = |input: EncodeInput<'_>| -> Vec<(u32, bool)> {
        let Ok(encoding) = tokenizer.encode(input, true) else { return Vec::new() };
        let is_special = encoding.get_special_tokens_mask().iter().map(|&mask| mask == 1);
        encoding.get_ids().iter().copied().zip(is_special).collect()
    };
    let run = |tokens: &[(u32, bool)]| tokens.iter().take_while(|(_, special)| *special).map(|(id, _)| *id).collect();
    let skip_text =
        |tokens: &[(u32, bool)]| tokens.iter().skip_while(|(_, special)| !special).copied().collect::<Vec<_>>();
    let (one, pair) = (special("a".into()), special(("a", "a").into()));
    let start: Vec<u32> = run(&one);
    Frame {
        end: run(&skip_text(&one[start.len()..])),
        between: run(&skip_text(&pair[start.len().min(pair.len())..])),
        start,
    }
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
            prop_assert!(VOCABULARY.encode_marked(&text).ids.iter().all(|id| !roles.contains(&Some(*id))));
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
        assert_eq!((loaded.roles, &loaded.markers, &loaded.frame), (lower.roles, &lower.markers, &lower.frame));
        assert_eq!(loaded.frame, Frame { start: vec![2], between: vec![3], end: vec![3] });
        assert_eq!(loaded.decode(&loaded.encode("EGFR <<").ids), "egfr <<");
    }

    #[test]
    fn special_tokens_may_have_other_names() {
        let dir = tempfile::tempdir().unwrap();
        VOCABULARY.save(dir.path(), 512).unwrap();
        let text = VOCABULARY.to_json().replace("[MASK]", "<<hidden>>");
        fs::write(dir.path().join(TOKENIZER), text).unwrap();
        fs::remove_file(dir.path().join(TOKENIZER_CONFIG)).unwrap();
        fs::remove_file(dir.path().join(SPECIAL_TOKENS_MAP)).unwrap();
        let mask = |folder: &Path| Vocabulary::load(folder).unwrap().require(Role::Mask);
        assert!(matches!(mask(dir.path()), Err(VocabularyError::NoToken { role: Role::Mask })));
        fs::write(dir.path().join(SPECIAL_TOKENS_MAP), r#"{"mask_token":{"content":"<<hidden>>"}}"#).unwrap();
        assert_eq!(mask(dir.path()).ok(), VOCABULARY.role_id(Role::Mask));
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
