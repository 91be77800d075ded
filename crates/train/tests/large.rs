//! Training on a corpus that is larger than memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a long test that says what it measured")]

mod common;

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use arable_core::Seed;
use arable_tensor::Precision;
use arable_tokenize::{OFFSETS, Shards, TOKENS};
use arable_train::Control;
use arable_train::pretrain::{Event, MemoryConfig, Observer};

use common::{Corpus, config, source};

struct Nobody;

impl Observer for Nobody {
    fn observe(&mut self, _: &Event<'_>) -> Result<Control, Box<dyn Error + Send + Sync>> {
        Ok(Control::Continue)
    }
}

/// The most memory that this process has had, in MiB.
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Documents of 1 to 400 tokens, drawn from the first 280 of a vocabulary.
fn write_shards(folder: &Path, num_tokens: u64) -> Shards {
    let create = |name| BufWriter::with_capacity(1 << 20, File::create(folder.join(name)).unwrap());
    let (mut tokens, mut offsets) = (create(TOKENS), create(OFFSETS));
    let mut draws = Seed(5).stream("large corpus").at(0, 0);
    let mut end = 0u64;
    offsets.write_all(&end.to_le_bytes()).unwrap();
    while end < num_tokens {
        for _ in 0..=draws.below(400) {
            let id = 10 + draws.below(270) as u32;
            tokens.write_all(&(id | 1 << 31).to_le_bytes()).unwrap();
            end += 1;
        }
        offsets.write_all(&end.to_le_bytes()).unwrap();
    }
    tokens.flush().unwrap();
    offsets.flush().unwrap();
    Shards::open(folder).unwrap()
}

#[test]
#[ignore = "writes 4 GB; cargo test --release -p arable-train --test large -- --ignored --nocapture"]
fn memory_does_not_grow_with_the_corpus() {
    let mut corpus = Corpus::new(400, 300);
    let mut train_on = |num_tokens: u64| {
        let folder = tempfile::tempdir().unwrap();
        corpus.train = source(write_shards(folder.path(), num_tokens));
        corpus.pretrain(&config(20, MemoryConfig::default()), (2, Precision::fastest()), &mut Nobody);
        peak_mib()
    };
    let small = train_on(10_000_000);
    let large = train_on(1_000_000_000);
    println!("peak memory: {small} MiB with 10 M tokens (40 MB), {large} MiB with 1,000 M (4 GB)");
    assert!(large < small + 64, "{small} MiB, then {large} MiB");
}
