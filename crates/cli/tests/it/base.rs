//! Runs that go on from a model that others trained.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::domain::Domain;

/// What a domain says of its own model.
const OWN: &str = "[tokenizer]\nvocab_size = 400\n[model]\nsize = \"nano\"\nnum_hidden_layers = 2\nhidden_size = 32\nintermediate_size = 48\n";

/// The domain with a tiny model of others in the folder `base`.
fn with_base(family: &str) -> Domain {
    let domain = Domain::new();
    let config = fs::read_to_string(domain.path("arable.toml")).unwrap();
    assert!(config.contains(OWN));
    let config = config.replace(OWN, "[tokenizer]\nspecial_tokens = [\"<<\"]\n[model]\nfrom = \"base\"\n");
    let config = config.replace("max_length = 64", "max_length = 40\nlearning_rate = 0.02");
    let config = config.replace("[adapt.finetune]", "[adapt.finetune]\nmax_length = 40");
    domain.write("arable.toml", config);
    fs::create_dir(domain.path("base")).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(family);
    for name in ["config.json", "model.safetensors"] {
        fs::copy(fixture.join(name), domain.path("base").join(name)).unwrap();
    }
    domain
}

/// An encoder with a WordPiece vocabulary of 64 tokens in its old form.
fn encoder() -> Domain {
    let domain = with_base("bert-mlm");
    let special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", ".", ",", "the", "pump", "near", "seen", "on"];
    let letters = ('a'..='z').flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    let tokens: Vec<String> = special.map(str::to_owned).into_iter().chain(letters).collect();
    domain.write("base/vocab.txt", tokens.join("\n"));
    domain
}

/// A decoder with a byte-level vocabulary that knows few bytes, and puts a token in front of a text alone.
fn decoder() -> Domain {
    let domain = with_base("llama-clm");
    let letters = ('a'..='z').chain('0'..='9').chain("TĠ.,".chars()).map(String::from);
    let tokens = ["<pad>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(letters);
    let vocab: serde_json::Map<String, Value> = tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
    let added = |id: usize, token: &str| json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true });
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let template =
        [json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } }), json!({ "Sequence": { "id": "A", "type_id": 0 } })];
    let written = json!({
        "version": "1.0",
        "added_tokens": [added(0, "<pad>"), added(1, "<s>"), added(2, "</s>")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "post_processor": {
            "type": "TemplateProcessing", "single": template, "pair": template,
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
        },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    domain.write("base/tokenizer.json", written.to_string());
    let names = json!({ "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "tokenizer_class": "PreTrainedTokenizerFast" });
    domain.write("base/tokenizer_config.json", names.to_string());
    domain
}

fn json_of(domain: &Domain, path: &str) -> Value {
    serde_json::from_slice(&fs::read(domain.path(path)).unwrap()).unwrap()
}

/// A whole run, again, on other threads, and after the folder changed.
fn check(domain: &Domain, class: &str, vocab_size: usize) {
    domain.ok(&["run"]);
    let results = json_of(domain, "runs/small/results.json");
    let held_out = results["pretraining"]["held_out"].as_array().unwrap();
    let stage = &results["pretraining"]["stages"][0];
    let [before, after] = [0, 1].map(|end| stage["held_out"]["notes"][end].as_f64().unwrap());
    assert!(after < before - 0.3 && !held_out.is_empty(), "{before} -> {after}");
    let config = json_of(domain, "runs/small/pretrain/checkpoints/latest/config.json");
    assert_eq!((&config["architectures"][0], &config["vocab_size"]), (&json!(class), &json!(vocab_size)));
    let export = json_of(domain, "runs/small/adapt-kind/export/config.json");
    assert!(export["architectures"][0].as_str().unwrap().ends_with("ForSequenceClassification"), "{export}");
    assert!(domain.ok(&["run"]).contains("nothing to do"));
    domain.ok(&["run", "--threads", "3", "--out", "other"]);
    assert_eq!(domain.weights("runs"), domain.weights("other"));
    // The same model elsewhere is the same run; another model is not.
    fs::rename(domain.path("base"), domain.path("moved")).unwrap();
    assert!(domain.ok(&["run", "--set", "model.from=moved"]).contains("nothing to do"));
    let weights = fs::read(domain.path("moved/model.safetensors")).unwrap();
    let mut other = weights.clone();
    *other.last_mut().unwrap() ^= 1;
    domain.write("moved/model.safetensors", other);
    assert!(!domain.ok(&["run", "--set", "model.from=moved"]).contains("nothing to do"));
}

#[test]
fn an_encoder_is_trained_on_and_adapted() {
    check(&encoder(), "BertForMaskedLM", 65);
}

#[test]
fn a_decoder_is_trained_on_and_adapted() {
    check(&decoder(), "LlamaForCausalLM", 64);
}

/// Letters become pieces of words: fewer tokens a word, each of which begins as what stood for it.
#[test]
fn a_vocabulary_is_extended_by_words_of_the_domain() {
    for (domain, class, num_rows) in [(encoder(), "BertForMaskedLM", 125), (decoder(), "LlamaForCausalLM", 104)] {
        let run = |out: &str, set: &[&str]| {
            domain.ok(&[&["run", "--out", out][..], set].concat());
            let results = json_of(&domain, &format!("{out}/small/results.json"));
            let config = json_of(&domain, &format!("{out}/small/pretrain/checkpoints/latest/config.json"));
            assert_eq!(config["architectures"][0], class);
            (results["tokenizer"].clone(), config["vocab_size"].as_u64().unwrap())
        };
        let set = ["--set", "tokenizer.extend={max_tokens=60, min_frequency=5}"];
        let (plain, _) = run("plain", &[]);
        let (extended, more) = run("runs", &set);
        assert_eq!((extended["num_added"].as_u64(), more), (Some(60), num_rows), "{extended}");
        let [before, after] = [&plain, &extended].map(|facts| facts["fertility_domain"].as_f64().unwrap());
        assert!(after < 0.6 * before && extended["extension"][0][1].as_f64() == Some(before), "{before} {after}");
        run("other", &[&set[..], &["--threads", "3"]].concat());
        assert_eq!(domain.weights("runs"), domain.weights("other"));
    }
    let said = Domain::new().fails(2, &["run", "--set", "tokenizer.extend={}"]);
    assert!(said.contains("name a model with `model.from`"), "{said}");
}

#[test]
fn settings_that_a_folder_says_itself_are_refused() {
    let domain = encoder();
    for (set, says) in [
        ("model.size=mini", "the folder says the model's shape"),
        ("model.hidden_size=64", "the folder says the model's shape"),
        ("tokenizer.vocab_size=300", "the folder has its vocabulary"),
        ("pretrain.clm={}", "encoders find hidden tokens"),
        ("pretrain.max_length=64", "at most what the model takes"),
        ("model.from=nowhere", "name a folder"),
    ] {
        let said = domain.fails(2, &["run", "--set", set]);
        assert!(said.contains(says) && said.contains("hint: "), "{set}: {said}");
    }
    let said = decoder().fails(2, &["run", "--set", "pretrain.mlm.mask_prob=0.2"]);
    assert!(said.contains("trained on next tokens"), "{said}");
    let own = Domain::new().fails(2, &["run", "--set", "pretrain.clm={}"]);
    assert!(own.contains("encoders find hidden tokens"), "{own}");
}

#[test]
fn an_encoder_needs_a_token_that_hides_others() {
    let domain = encoder();
    let tokens = fs::read_to_string(domain.path("base/vocab.txt")).unwrap();
    domain.write("base/vocab.txt", tokens.replace("[MASK]", "[HIDE]"));
    let said = domain.fails(2, &["run"]);
    assert!(said.contains("find the Mask token") && said.contains("`mask_token`"), "{said}");
}

#[test]
fn what_there_is_no_code_for_is_named() {
    let domain = decoder();
    let config = fs::read_to_string(domain.path("base/config.json")).unwrap();
    domain.write("base/config.json", config.replace("\"default\"", "\"yarn\""));
    let said = domain.fails(2, &["run"]);
    assert!(said.contains("rope_parameters.rope_type") && said.contains("hint: "), "{said}");
    domain.write("base/config.json", config.replace("\"vocab_size\": 64", "\"vocab_size\": 20"));
    let said = domain.fails(2, &["run"]);
    assert!(said.contains("hint: "), "{said}");
}
