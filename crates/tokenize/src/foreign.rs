//! Vocabularies that others made: their files, and the names of their special tokens.

use std::path::Path;

use fs_err as fs;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;

use crate::vocabulary::{Role, VocabularyError};

/// The file that holds a vocabulary.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// The files beside it in which `transformers` looks for the names of the special tokens.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// The file of older WordPiece vocabularies: a token in each line, its number its id.
const VOCAB: &str = "vocab.txt";

/// The tokenizer in a folder, ready to encode any text.
pub(crate) fn tokenizer(folder: &Path, config: &Value) -> Result<Tokenizer, VocabularyError> {
    let has_file = folder.join(TOKENIZER).exists() || !folder.join(VOCAB).exists();
    let path = folder.join(if has_file { TOKENIZER } else { VOCAB });
    let unreadable = |source| VocabularyError::Unreadable { path: path.clone(), source };
    let bytes = fs::read(&path)?;
    let mut tokenizer = if has_file {
        check_kind(&path, &bytes)?;
        Tokenizer::from_bytes(bytes).map_err(unreadable)?
    } else {
        word_piece(&path, &String::from_utf8_lossy(&bytes), config)?
    };
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(unreadable)?;
    // What has no token at all shows here, not in the middle of a corpus.
    tokenizer.encode("a \u{10FFFD}", false).map_err(unreadable)?;
    Ok(tokenizer)
}

/// A part of a tokenizer, as far as it says how words are cut.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
    pretokenizers: Vec<Part>,
}

/// Refuses vocabularies in which the beginning of a text looks like the beginning of a word: texts are encoded in pieces
/// here, around markers and word by word.
fn check_kind(path: &Path, bytes: &[u8]) -> Result<(), VocabularyError> {
    #[derive(Deserialize)]
    struct Written {
        model: Part,
        pre_tokenizer: Option<Part>,
    }
    // What is no tokenizer at all is refused with the reason by the library.
    let Ok(Written { model, pre_tokenizer }) = serde_json::from_slice(bytes) else { return Ok(()) };
    // Files of old versions do not name the kind of a WordPiece model.
    let model = model.kind.as_deref().unwrap_or("WordPiece");
    let is_byte_level = |step: &Part| step.kind.as_deref() == Some("ByteLevel");
    let cuts_bytes =
        pre_tokenizer.is_some_and(|step| is_byte_level(&step) || step.pretokenizers.iter().any(is_byte_level));
    if model == "WordPiece" || (model == "BPE" && cuts_bytes) {
        return Ok(());
    }
    let kind = if model == "BPE" { "BPE over characters" } else { model };
    Err(VocabularyError::Unsupported { path: path.to_owned(), kind: kind.to_owned() })
}

/// A WordPiece vocabulary (Wu et al. 2016) from its list of tokens, as BERT uses it.
fn word_piece(path: &Path, lines: &str, config: &Value) -> Result<Tokenizer, VocabularyError> {
    let unreadable = |source| VocabularyError::Unreadable { path: path.to_owned(), source };
    let ids: Map<String, Value> =
        lines.lines().enumerate().map(|(id, token)| (token.trim_end().to_owned(), json!(id))).collect();
    // Through text, because the library's parser wants to borrow.
    let written = json!({
        "type": "WordPiece", "unk_token": Role::Unk.default_token(), "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": ids,
    });
    let model: WordPiece = serde_json::from_str(&written.to_string()).map_err(|error| unreadable(error.into()))?;
    let mut tokenizer = Tokenizer::new(model);
    let lowercase = config["do_lower_case"].as_bool().unwrap_or(true);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, lowercase))).map_err(unreadable)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(WordPieceDecoder::default()));
    let special = Role::ALL.map(Role::default_token);
    let known = special.into_iter().filter(|token| tokenizer.token_to_id(token).is_some());
    let known: Vec<_> = known.map(|token| tokenizers::AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(known).map_err(unreadable)?;
    let id = |role: Role| {
        let token = role.default_token();
        let missing = || VocabularyError::NoToken { role };
        Ok::<_, VocabularyError>((token.to_owned(), tokenizer.token_to_id(token).ok_or_else(missing)?))
    };
    let (sep, cls) = (id(Role::Sep)?, id(Role::Cls)?);
    tokenizer.with_post_processor(Some(BertProcessing::new(sep, cls)));
    Ok(tokenizer)
}

pub(crate) fn read_json(path: &Path) -> Value {
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(Value::Null)
}

/// Names that the token for `role` may have: those written in files, as a text or an object that holds one, and then the
/// usual ones.
pub(crate) fn token_names(role: Role, named: &[Value]) -> impl Iterator<Item = String> + use<'_> {
    let written = role.keys().iter().flat_map(move |key| {
        let name = |file: &Value| file[*key].as_str().or_else(|| file[*key]["content"].as_str()).map(str::to_owned);
        named.iter().filter_map(name).collect::<Vec<_>>()
    });
    let usual: &[&str] = match role {
        Role::Pad => &["[PAD]", "<pad>"],
        Role::Unk => &["[UNK]", "<unk>"],
        Role::Cls => &["[CLS]", "<s>"],
        Role::Sep => &["[SEP]", "</s>"],
        Role::Mask => &["[MASK]", "<mask>"],
    };
    written.chain(usual.iter().map(|name| (*name).to_owned()))
}

/// What a folder says to those who load the vocabulary elsewhere, the keys that name its special tokens among it.
pub(crate) fn carried(folder: &Path, named: &[Value]) -> Map<String, Value> {
    const KEYS: [&str; 4] = ["model_input_names", "chat_template", "padding_side", "clean_up_tokenization_spaces"];
    let config = &named[0];
    let of_tokens = Role::ALL.iter().flat_map(|role| role.keys()).copied();
    let found = |key: &str| named.iter().find_map(|file| file.get(key)).filter(|value| !value.is_null()).cloned();
    let mut carried: Map<String, Value> =
        KEYS.into_iter().chain(of_tokens).filter_map(|key| Some((key.to_owned(), found(key)?))).collect();
    let is_bert = matches!(config["tokenizer_class"].as_str(), Some("BertTokenizer" | "BertTokenizerFast"));
    if is_bert || (!folder.join(TOKENIZER).exists() && folder.join(VOCAB).exists()) {
        let names = json!(["input_ids", "token_type_ids", "attention_mask"]);
        carried.entry("model_input_names").or_insert(names);
    }
    carried
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frame, Vocabulary};

    fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        dir
    }

    const WORDS: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\npump\nover\n##heat\n##s\n.\n[\n]\ncls\n";

    #[test]
    fn a_list_of_tokens_is_a_word_piece_vocabulary() {
        let dir = folder(&[("vocab.txt", WORDS.to_owned())]);
        let words = Vocabulary::load(dir.path()).unwrap();
        let encoded = words.encode("The pump OVERHEATS. [CLS] qu\u{e9}");
        assert_eq!(encoded.ids, [5, 6, 7, 8, 9, 10, 11, 13, 12, 1]);
        let starts = [true, true, true, false, false, false, true, false, false, true];
        assert_eq!(encoded.word_starts, starts);
        assert_eq!(*words.frame(), Frame { start: vec![2], between: vec![3], end: vec![3] });
        assert_eq!(Role::ALL.map(|role| words.role_id(role)), [0, 1, 2, 3, 4].map(Some));
        // What is saved is read as the same, here and by those who want the types of a pair.
        let again = tempfile::tempdir().unwrap();
        words.save(again.path(), 128).unwrap();
        assert_eq!(Vocabulary::load(again.path()).unwrap().to_json(), words.to_json());
        let names = read_json(&again.path().join(TOKENIZER_CONFIG))["model_input_names"].clone();
        assert_eq!(names, json!(["input_ids", "token_type_ids", "attention_mask"]));
        let cased =
            folder(&[("vocab.txt", WORDS.to_owned()), (TOKENIZER_CONFIG, r#"{"do_lower_case": false}"#.to_owned())]);
        assert_eq!(Vocabulary::load(cased.path()).unwrap().encode("The pump").ids, [1, 6]);
    }

    /// As RoBERTa and GPT-2 have it: bytes, names of its own, two tokens between the texts of a pair.
    fn byte_level() -> Value {
        let bytes = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "\u{120}", "ab"];
        let vocab: Map<String, Value> =
            bytes.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
        json!({
            "version": "1.0",
            "added_tokens": (0..5).map(|id| json!({
                "id": id, "content": bytes[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })).collect::<Vec<_>>(),
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            "post_processor": {
                "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true,
                "add_prefix_space": false,
            },
            "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
            "model": { "type": "BPE", "vocab": vocab, "merges": [["a", "b"]] },
        })
    }

    #[test]
    fn special_tokens_are_found_by_what_they_are_for() {
        let dir = folder(&[(TOKENIZER, byte_level().to_string())]);
        let words = Vocabulary::load(dir.path()).unwrap();
        assert_eq!(Role::ALL.map(|role| words.role_id(role)), [1, 3, 0, 2, 4].map(Some));
        assert_eq!(*words.frame(), Frame { start: vec![0], between: vec![2, 2], end: vec![2] });
        assert_eq!(words.encode("ab a").ids, [8, 7, 5]);
        assert_eq!(words.encode("ab a").word_starts, [true, true, false]);
        // A decoder names two tokens and puts none around a text.
        let mut bare = byte_level();
        bare["post_processor"] = bare["pre_tokenizer"].clone();
        let names = json!({ "bos_token": null, "eos_token": { "content": "</s>" }, "chat_template": "{{ messages }}" });
        let dir = folder(&[(TOKENIZER, bare.to_string()), (TOKENIZER_CONFIG, names.to_string())]);
        let words = Vocabulary::load(dir.path()).unwrap();
        assert_eq!((words.frame(), words.require(Role::Sep).ok()), (&Frame::default(), Some(2)));
        let again = tempfile::tempdir().unwrap();
        words.save(again.path(), 128).unwrap();
        let written = read_json(&again.path().join(TOKENIZER_CONFIG));
        assert_eq!((&written["eos_token"], &written["chat_template"]), (&json!("</s>"), &json!("{{ messages }}")));
    }

    #[test]
    fn markers_stand_behind_what_is_known() {
        let dir = folder(&[(TOKENIZER, byte_level().to_string())]);
        let words = Vocabulary::load(dir.path()).unwrap();
        let marked = words.with_special_tokens(&["<<".to_owned(), "</s>".to_owned()]).unwrap();
        assert_eq!((words.size(), marked.size(), marked.special_id("<<")), (9, 10, Some(9)));
        assert_eq!(marked.encode_marked("ab<<a").ids, [8, 9, 5]);
    }

    #[test]
    fn other_kinds_are_refused_with_advice() {
        use arable_core::Hint;
        for (place, kind) in [("/model/type", "Unigram"), ("/pre_tokenizer/type", "Metaspace")] {
            let mut written = byte_level();
            *written.pointer_mut(place).unwrap() = json!(kind);
            let error = Vocabulary::load(folder(&[(TOKENIZER, written.to_string())]).path()).unwrap_err();
            assert!(matches!(error, VocabularyError::Unsupported { .. }) && error.hint().is_some(), "{error}");
        }
    }
}
