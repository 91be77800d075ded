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
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

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
fn steps_after_the_first_allocate_no_buffers() {
    let _alone = ALONE.lock().unwrap();
    const NUM_TOKENS: u32 = 4096;
    let config = ModelConfig { size: Size::Small, num_hidden_layers: Some(2), ..ModelConfig::default() };
    let mut model = Model::new(config.architecture(512).unwrap(), Head::MaskedLm, Seed(1));
    let ids: Vec<u32> = (0..NUM_TOKENS).map(|idx| idx * 7919 % 512).collect();
    let positions: Vec<usize> = (0..ids.len()).step_by(5).collect();
    let targets: Vec<u32> = positions.iter().map(|&position| ids[position]).collect();
    let (batch, asked) = (Batch::pack(ids.chunks(128)), model.head().reading(&positions));
    // Of the rows that are asked for, in bf16: no matrix of activations is smaller.
    let smallest = 2 * positions.len() * model.architecture().hidden_size;
    // In f32, the library of products asks for room to pack its operands each time. And one thread: what several hold at a time
    // is up to who comes first, until each has had the most.
    for precision in [Precision::Bf16, Precision::I16].into_iter().filter(|precision| precision.is_available()) {
        let device = Device::cpu(1, precision).unwrap();
        let mut optimizer = AdamW::new(AdamWConfig::default(), model.parameters());
        let mut gradients = Gradients::zeros(model.parameters());
        let mut step = || {
            let region = Region::new(ALLOCATOR);
            device.install(|| {
                let mut tape = Tape::recording(&device, model.parameters(), &mut gradients);
                let states = model.read(&mut tape, &batch, &asked, Pass::default());
                let mut found = VocabularyLoss::default();
                let loss = model.token_loss(&mut tape, states, &targets, Scale::Same(1e-3), &mut found);
                tape.backward(loss);
                optimizer.step(&device, model.parameters_mut(), &mut gradients, 1e-4);
            });
            region.change().bytes_allocated
        };
        let (first, later): (usize, Vec<usize>) = (step(), (0..5).map(|_| step()).collect());
        assert!(first > 50 * smallest, "{first} bytes are buffers");
        // Bookkeeping is left: the nodes of the tape, ranges of rows, token ids. Together it has less than the smallest matrix
        // of activations.
        assert!(later.iter().all(|&bytes| bytes < smallest), "{later:?} of {smallest}");
    }
}

#[test]
fn batches_of_any_size_share_their_buffers() {
    let _alone = ALONE.lock().unwrap();
    let corpus = Corpus::new(400, 300);
    let mut observer = Allocations { region: Region::new(ALLOCATOR), bytes: Vec::new() };
    corpus.pretrain(&config(12, MemoryConfig::default()), (1, Precision::fastest()), &mut observer);
    let (first, later) = (observer.bytes[0], &observer.bytes[4..]);
    // What is left is the batches that are prepared meanwhile, bookkeeping, and now and then a buffer more; in f32 also the room in which the library of products packs its operands, which it asks for anew each time.
    let most = if Precision::fastest() == Precision::F32 { first / 3 } else { first / 100 };
    assert!(later.iter().sum::<usize>() < most * later.len(), "{:?}", observer.bytes);
}
