//! Scratch memory that a thread keeps between products, so that a step allocates nothing after the first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::element::{Line, Lines};

/// Lets `buffer` hold at least `num_lines`, of unspecified content. It never shrinks, and grows by powers of two: memory that was
/// never written to is none.
pub(super) fn grow(buffer: &mut Lines, num_lines: usize) {
    if buffer.len() < num_lines {
        *buffer = Lines::new(num_lines.next_power_of_two());
    }
}

/// Threads beyond as many share places.
const NUM_PLACES: usize = 64;

/// A buffer for each thread. What one thread needs all get: which of them does the work that needs the most is up to who comes
/// first.
pub(super) struct Scratch {
    /// The most that any thread needed, in lines.
    num_lines: AtomicUsize,
    places: [Place; NUM_PLACES],
}

/// The buffer of a thread, `None` while it is in use. Places of two threads share no cache line.
#[repr(align(128))]
struct Place(Mutex<Option<Lines>>);

/// For a job's packed rows of A.
pub(super) static ROWS: Scratch = Scratch::new();
/// For the whole of B, where the caller keeps no `PackedB`.
pub(super) static RIGHT: Scratch = Scratch::new();
/// For the whole of A, packed once for several column blocks.
pub(super) static LEFT: Scratch = Scratch::new();

impl Scratch {
    const fn new() -> Self {
        Self { num_lines: AtomicUsize::new(0), places: [const { Place(Mutex::new(Some(Lines::EMPTY))) }; NUM_PLACES] }
    }

    /// Runs `f` with this thread's buffer of `num_lines`, whose content is unspecified. A product that starts inside another
    /// one on the same thread gets a fresh buffer.
    pub(super) fn with<R>(&self, num_lines: usize, f: impl FnOnce(&mut [Line]) -> R) -> R {
        let place = &self.places[rayon::current_thread_index().unwrap_or(0) % NUM_PLACES];
        let mut buffer = place.lock().take().unwrap_or_default();
        if buffer.len() < num_lines {
            grow(&mut buffer, num_lines);
            self.grow_all(num_lines);
        }
        let result = f(&mut buffer[..num_lines]);
        let mut place = place.lock();
        grow(&mut buffer, self.num_lines.load(Ordering::Relaxed));
        *place = Some(buffer);
        result
    }

    /// Buffers that are in use grow when they come back.
    fn grow_all(&self, num_lines: usize) {
        self.num_lines.fetch_max(num_lines, Ordering::Relaxed);
        // Outside of a pool, to ask for its size would start one.
        let num_threads = rayon::current_thread_index().map_or(1, |_| rayon::current_num_threads());
        for place in &self.places[..num_threads.min(NUM_PLACES)] {
            place.lock().iter_mut().for_each(|buffer| grow(buffer, num_lines));
        }
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Option<Lines>> {
        self.0.lock().expect("no holder panics")
    }
}
