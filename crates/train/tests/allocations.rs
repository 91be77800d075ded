//! After the first, a step takes its buffers from the pool.

mod common;

use std::alloc::System;
use std::error::Error;
use std::sync::Mutex;

use arable_core::Seed;
use arable_model::{Batch, Head, Model, ModelConfig, Pass, Size};
use arable_tensor::ops::loss::{Scale, VocabularyLoss};
use arable_tensor::{AdamW, AdamWConfig, Device, Gradients, Precision, Tape};
use arable_train::Control;
use arable_train::pretrain::{Event, MemoryConfig, Observer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

use common::{Corpus, config};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Held by the test whose allocations are counted.
static ALONE: Mutex<()> = Mutex::new(());

/// Keeps the bytes that each step allocated.
struct Allocations {
    region: Region<'static, System>,
    bytes: Vec<usize>,
}

impl Observer for Allocations {
    fn observe(&mut self, event: &Event<'_>) -> Result<Control, Box<dyn Error + Send + Sync>> {
        if let Event::Step { .. } = event {
            self.bytes.push(self.region.change().bytes_allocated);
            self.region.reset();
        }
        Ok(Control::Continue)
    }
}

#[test]
fn steps_after_the_first_allocate_nothing() {
    let _alone = ALONE.lock().unwrap();
    const NUM_TOKENS: u32 = 4096;
    let config = ModelConfig { size: Size::Small, num_hidden_layers: Some(2), ..ModelConfig::default() };
    let mut model = Model::new(config.architecture(512).unwrap(), Head::MaskedLm, Seed(1));
    let ids: Vec<u32> = (0..NUM_TOKENS).map(|idx| idx * 7919 % 512).collect();
    let positions: Vec<usize> = (0..ids.len()).step_by(5).collect();
    let targets: Vec<u32> = positions.iter().map(|&position| ids[position]).collect();
    // Sequences of unlike lengths, so that threads are given work of unlike sizes.
    let lengths = [40, 300, 128, 512, 44].into_iter().cycle().scan(&ids[..], |rest, length| {
        let sequence;
        (sequence, *rest) = rest.split_at_checked(length)?;
        Some(sequence)
    });
    let batch = Batch::pack(lengths);
    let asked = model.head().reading(&batch, &positions);
    // In f32, the library of products asks for room to pack its operands each time.
    let (precisions, lack): (Vec<_>, Vec<_>) =
        [Precision::Bf16, Precision::I16].into_iter().partition(|precision| precision.is_available());
    lack.iter().for_each(|precision| eprintln!("SKIPPED: this machine has no products in {}", precision.name()));
    for (precision, num_threads, recomputed_layers) in
        precisions.into_iter().flat_map(|own| [(own, 1, 0), (own, 2, 0), (own, 3, 1)])
    {
        let device = Device::cpu(num_threads, precision).unwrap();
        let mut optimizer = AdamW::new(AdamWConfig::default(), model.parameters());
        let mut gradients = Gradients::zeros(model.parameters());
        let mut found = VocabularyLoss::default();
        let pass = Pass { recomputed_layers, ..Pass::default() };
        let mut step = || {
            let region = Region::new(ALLOCATOR);
            found.clear();
            device.install(|| {
                let mut tape = Tape::recording(&device, model.parameters(), &mut gradients);
                let states = model.read(&mut tape, &batch, &asked, pass);
                let loss = model.token_loss(&mut tape, states, &targets, Scale::Same(1e-3), &mut found);
                tape.backward(loss);
                optimizer.step(&device, model.parameters_mut(), &mut gradients, 1e-4);
            });
            region.change()
        };
        let (first, later): (Stats, Vec<Stats>) = (step(), (0..5).map(|_| step()).collect());
        assert!(first.bytes_allocated > 10_000_000, "{first:?}");
        let num_asked = |found: &Stats| found.allocations + found.reallocations;
        assert!(later.iter().all(|found| num_asked(found) == 0), "{num_threads} threads in {precision:?}: {later:?}");
    }
}

#[test]
fn batches_of_any_size_share_their_buffers() {
    let _alone = ALONE.lock().unwrap();
    if Precision::fastest() == Precision::F32 {
        return eprintln!("SKIPPED: in f32, the library of products asks for room to pack its operands each time");
    }
    let corpus = Corpus::new(400, 300);
    let mut observer = Allocations { region: Region::new(ALLOCATOR), bytes: Vec::new() };
    corpus.pretrain(&config(40, MemoryConfig::default()), (2, Precision::fastest()), &mut observer);
    let (first, later) = (observer.bytes[0], &observer.bytes[1..]);
    assert!(first > 100_000_000, "{first} bytes are buffers");
    // What is left are lists that belong to a batch: token ids, which rows are read, the loss of each. A fifth more would be a
    // buffer.
    let least = later.iter().min().unwrap();
    assert!(later.iter().all(|bytes| 5 * bytes < 6 * least), "{:?}", observer.bytes);
}
