//! Buffers that a thread keeps between products, so that a step allocates nothing after the first.

use std::cell::Cell;
use std::thread::LocalKey;

use crate::element::{Line, Lines};

/// Lets `buffer` hold at least `num_lines`, of unspecified content. It never shrinks.
pub(super) fn grow(buffer: &mut Lines, num_lines: usize) {
    if buffer.len() < num_lines {
        *buffer = Lines::new(num_lines);
    }
}

thread_local! {
    /// Room for a job's packed rows of A.
    pub(super) static ROWS: Cell<Lines> = const { Cell::new(Lines::EMPTY) };
    /// Room for the whole of B, where the caller keeps no `PackedB`.
    pub(super) static RIGHT: Cell<Lines> = const { Cell::new(Lines::EMPTY) };
    /// Room for the whole of A, packed once for several column blocks.
    pub(super) static LEFT: Cell<Lines> = const { Cell::new(Lines::EMPTY) };
}

/// Runs `f` with this thread's buffer of `num_lines` or more, whose content is unspecified. The buffer is taken out
/// meanwhile: a product that starts inside another one on the same thread gets a fresh buffer.
pub(super) fn with<R>(key: &'static LocalKey<Cell<Lines>>, num_lines: usize, f: impl FnOnce(&mut [Line]) -> R) -> R {
    let mut buffer = key.take();
    grow(&mut buffer, num_lines);
    let result = f(&mut buffer[..num_lines]);
    key.set(buffer);
    result
}
