//! A matrix of `f32` in device memory.

use std::sync::{Arc, Mutex};

/// Free buffers by length, so that a step allocates nothing after the first.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<std::collections::BTreeMap<usize, Vec<Vec<f32>>>>);

impl Pool {
    fn take(&self, len: usize) -> Option<Vec<f32>> {
        self.0.lock().expect("no holder panics").get_mut(&len)?.pop()
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
        let data = pool.take(rows * cols).unwrap_or_else(|| vec![0.0; rows * cols]);
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
        self.data.clone()
    }

    /// The only element.
    ///
    /// # Panics
    /// When the matrix has more than one.
    pub fn scalar(&self) -> f32 {
        assert_eq!(self.data.len(), 1, "a scalar has one element");
        self.data[0]
    }

    pub(crate) fn host(&self) -> &[f32] {
        &self.data
    }

    pub(crate) fn host_mut(&mut self) -> &mut [f32] {
        &mut self.data
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
