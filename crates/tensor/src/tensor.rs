//! A matrix of `f32` in device memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Free buffers by length, so that steps stop allocating after the first few. Lengths are rounded up to one of eight in
/// each octave: batches differ in size, and a pool of every size that ever was would grow without end.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<BTreeMap<usize, Vec<Vec<f32>>>>);

/// The length of the buffer that holds `len` elements.
fn size_class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 16).max(64);
    len.next_multiple_of(step)
}

impl Pool {
    fn take(&self, len: usize) -> Vec<f32> {
        let class = size_class(len);
        let free = self.0.lock().expect("no holder panics").get_mut(&class).and_then(Vec::pop);
        free.unwrap_or_else(|| vec![0.0; class])
    }

    fn give(&self, buffer: Vec<f32>) {
        self.0.lock().expect("no holder panics").entry(buffer.len()).or_default().push(buffer);
    }
}

/// A row-major matrix `[rows, cols]`. Its memory goes back to the device's pool when it is dropped.
#[derive(Debug)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
    pool: Arc<Pool>,
}

impl Tensor {
    /// A matrix whose content is unspecified: the caller writes every element.
    pub(crate) fn stale(pool: &Arc<Pool>, rows: usize, cols: usize) -> Self {
        let data = pool.take(rows * cols);
        Self { rows, cols, data, pool: Arc::clone(pool) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The elements in row-major order, copied to the host.
    pub fn to_vec(&self) -> Vec<f32> {
        self.host().to_vec()
    }

    /// The only element.
    ///
    /// # Panics
    /// When the matrix has more than one.
    pub fn scalar(&self) -> f32 {
        assert_eq!(self.rows * self.cols, 1, "a scalar has one element");
        self.data[0]
    }

    pub(crate) fn host(&self) -> &[f32] {
        &self.data[..self.rows * self.cols]
    }

    pub(crate) fn host_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.rows * self.cols]
    }

    pub(crate) fn row(&self, idx: usize) -> &[f32] {
        &self.data[idx * self.cols..][..self.cols]
    }

    /// The same elements under another shape of equal size.
    pub(crate) fn reshaped(mut self, rows: usize, cols: usize) -> Self {
        assert_eq!(self.rows * self.cols, rows * cols, "a reshape keeps the number of elements");
        (self.rows, self.cols) = (rows, cols);
        self
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if !self.data.is_empty() {
            self.pool.give(std::mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_for_any_length_of_their_class() {
        let pool = Arc::new(Pool::default());
        drop(Tensor::stale(&pool, 100, 100));
        let again = Tensor::stale(&pool, 99, 101);
        assert!(pool.0.lock().unwrap().values().all(Vec::is_empty), "the free buffer was taken");
        assert_eq!(again.host().len(), 9999);
        for len in [1, 63, 64, 1000, 123_457] {
            assert!((len..=len + len / 8 + 64).contains(&size_class(len)), "{len}");
        }
    }
}
