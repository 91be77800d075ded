//! A corpus far larger than the memory that the program may take.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Command;

use arable_core::Seed;

use crate::domain::{Domain, text};

/// Words of a document; with their lengths, about 3 KB of text.
const WORDS: usize = 450;
const NUM_WORDS: usize = 60_000;

/// Document number `idx`: words as frequent as those of a language (Zipf), every tenth an edited copy of the one before.
fn document(idx: u64) -> String {
    let of = |idx: u64| Seed(7).stream("documents").at(idx, 0);
    let is_copy = idx % 10 == 9;
    let (mut draws, mut edits) = (of(idx - u64::from(is_copy)), of(idx));
    let mut word = || {
        let rank = (NUM_WORDS as f64).powf(draws.uniform()) as u64;
        let edited = is_copy && edits.uniform() < 0.01;
        // Spread over all letters; the frequent ones are short.
        let mut spelled = rank * 7919 + u64::from(edited);
        let mut letters = String::new();
        while spelled > 0 || letters.len() < 3 {
            letters.push((b'a' + (spelled % 26) as u8) as char);
            spelled /= 26;
        }
        letters
    };
    let words: Vec<String> = (0..WORDS).map(|_| word()).collect();
    words.chunks(15).map(|sentence| sentence.join(" ") + ". ").collect()
}

/// Writes documents of `num_bytes` of text, each of one of a thousand groups.
fn write(domain: &Domain, num_bytes: u64) -> u64 {
    let mut file = BufWriter::new(File::create(domain.path("notes.jsonl")).unwrap());
    let (mut idx, mut written) = (0, 0);
    while written < num_bytes {
        let text = document(idx);
        written += text.len() as u64;
        let line = serde_json::json!({ "id": idx.to_string(), "group": (idx % 1000).to_string(), "text": text });
        writeln!(file, "{line}").unwrap();
        idx += 1;
    }
    file.flush().unwrap();
    idx
}

/// Everything from raw files to a vocabulary and shards, with memory for a quarter of the text. `ARABLE_MEMORY_MIB` says how
/// much that is; keys of documents are a tenth of the text, so that it has to be some hundred.
#[test]
#[ignore = "two gigabytes; with --release more than an hour on one busy core"]
fn a_corpus_of_four_times_the_memory_passes() {
    let limit_mib: u64 = std::env::var("ARABLE_MEMORY_MIB").map_or(600, |mib| mib.parse().unwrap());
    let domain = Domain::new();
    let num_documents = write(&domain, (4 * limit_mib) << 20);
    let set = [
        "--set",
        "corpus.held_out=0.001",
        "--set",
        "tokenizer.vocab_size=8192",
        "--set",
        "pretrain.num_tokens=2000",
        "--set",
        "corpus.dedup.near={}",
        "--threads",
        "2",
    ];
    for command in ["profile", "run"] {
        let start = std::time::Instant::now();
        // What the process writes to counts, as `ulimit -d` has it since Linux 4.7; files that are mapped do not.
        let output = Command::new("sh")
            .args(["-c", r#"ulimit -d "$0"; exec "$@""#, &(limit_mib << 10).to_string(), env!("CARGO_BIN_EXE_arable")])
            .args([&[command], &set[..]].concat())
            .current_dir(domain.path(""))
            .output()
            .unwrap();
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{command}: {num_documents} documents in {limit_mib} MiB, {seconds:.0} s\n{}", text(&output));
        assert_eq!(output.status.code(), Some(0));
    }
}
