//! After the first steps, a step takes its buffers from the pool.

mod common;

use std::alloc::System;
use std::error::Error;

use arable_tensor::Precision;
use arable_train::Control;
use arable_train::pretrain::{Event, MemoryConfig, Observer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use common::{Corpus, config};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

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
    let corpus = Corpus::new(400, 300);
    let mut observer = Allocations { region: Region::new(ALLOCATOR), bytes: Vec::new() };
    corpus.pretrain(&config(12, MemoryConfig::default()), (1, Precision::fastest()), &mut observer);
    let (first, later) = (observer.bytes[0], &observer.bytes[4..]);
    // What is left is bookkeeping: token ids, positions, the nodes of the tape; in f32 also the room in which the library
    // of products packs its operands, which it asks for anew each time.
    let most = if Precision::fastest() == Precision::F32 { first / 3 } else { first / 100 };
    assert!(later.iter().all(|&bytes| bytes < most), "{:?}", observer.bytes);
}
