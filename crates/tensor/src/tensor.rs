//! A matrix in device memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use half::bf16;

use crate::element::{Element, Line, Lines, by_format};
use crate::kernels::{MatMut, MatRef};

/// Free buffers, so that steps stop allocating after the first few. A thread gets back what it gave, if it can: those
/// buffers are still in the cache of its core.
#[derive(Debug, Default)]
pub(crate) struct Pool([Mutex<Shelf>; NUM_SHELVES]);

/// Free buffers by length in lines. Lengths are rounded up to one of eight in each octave: batches differ in size, and a pool of
/// every size that ever was would grow without end.
type Shelf = BTreeMap<usize, Vec<Lines>>;

/// Threads beyond as many share shelves.
const NUM_SHELVES: usize = 16;

/// Lines of a buffer from which on it may be up to twice as long as asked for, so that batches of unlike sizes need fewer of
/// them. Smaller ones, which a core's cache can hold, keep to their size.
const LARGE: usize = 1 << 12;

/// The length of the buffer that holds `len` lines.
fn size_class(len: usize) -> usize {
    let step = (len.next_power_of_two() / 16).max(4);
    len.next_multiple_of(step)
}

impl Pool {
    /// The shelf of this thread, then those of the others.
    fn shelves(&self) -> impl Iterator<Item = MutexGuard<'_, Shelf>> {
        let own = rayon::current_thread_index().unwrap_or(0);
        (own..own + NUM_SHELVES).map(|idx| self.0[idx % NUM_SHELVES].lock().expect("no holder panics"))
    }

    fn take(&self, len: usize) -> Lines {
        let class = size_class(len);
        let longest = if class < LARGE { class } else { 2 * class };
        let free = [class, longest].into_iter().find_map(|last| {
            self.shelves().find_map(|mut shelf| shelf.range_mut(class..=last).find_map(|(_, free)| free.pop()))
        });
        free.unwrap_or_else(|| Lines::new(class))
    }

    fn give(&self, buffer: Lines) {
        if let Some(mut shelf) = self.shelves().next() {
            shelf.entry(buffer.len()).or_default().push(buffer);
        }
    }
}

/// The number format of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32 bits: what sums pass through, such as the residual stream, and weights.
    F32,
    /// bfloat16: activations that products read or write.
    Bf16,
}

/// A row-major matrix `[rows, cols]`. Its memory goes back to the device's pool when it is dropped.
#[derive(Debug)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    format: Format,
    data: Lines,
    pool: Arc<Pool>,
}

impl Tensor {
    /// A matrix whose content is unspecified: the caller writes every element.
    pub(crate) fn stale(pool: &Arc<Pool>, rows: usize, cols: usize, format: Format) -> Self {
        let per_line = if format == Format::F32 { Line::LEN } else { 2 * Line::LEN };
        let data = pool.take((rows * cols).div_ceil(per_line));
        Self { rows, cols, format, data, pool: Arc::clone(pool) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The number format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The elements in row-major order, copied to the host.
    pub fn to_vec(&self) -> Vec<f32> {
        by_format!(self.format, T => T::all(self).iter().map(|&x| x.get()).collect())
    }

    /// The only element.
    ///
    /// # Panics
    /// When the matrix has more than one.
    pub fn scalar(&self) -> f32 {
        assert_eq!(self.rows * self.cols, 1, "a scalar has one element");
        self.to_vec()[0]
    }

    pub(crate) fn host(&self) -> &[f32] {
        assert_eq!(self.format, Format::F32, "a matrix of f32");
        &bytemuck::cast_slice(&self.data)[..self.rows * self.cols]
    }

    pub(crate) fn host_mut(&mut self) -> &mut [f32] {
        assert_eq!(self.format, Format::F32, "a matrix of f32");
        &mut bytemuck::cast_slice_mut(&mut self.data)[..self.rows * self.cols]
    }

    pub(crate) fn narrow(&self) -> &[bf16] {
        assert_eq!(self.format, Format::Bf16, "a matrix of bf16");
        &bytemuck::cast_slice(&self.data)[..self.rows * self.cols]
    }

    pub(crate) fn narrow_mut(&mut self) -> &mut [bf16] {
        assert_eq!(self.format, Format::Bf16, "a matrix of bf16");
        &mut bytemuck::cast_slice_mut(&mut self.data)[..self.rows * self.cols]
    }

    /// The matrix as an operand of products.
    pub fn mat(&self) -> MatRef<'_> {
        by_format!(self.format, T => T::mat(T::all(self), self.rows, self.cols, self.cols))
    }

    /// The matrix as the result of a product.
    pub fn mat_mut(&mut self) -> MatMut<'_> {
        let (rows, cols) = (self.rows, self.cols);
        by_format!(self.format, T => T::mat_mut(T::all_mut(self), rows, cols, cols))
    }

    pub(crate) fn row(&self, idx: usize) -> &[f32] {
        &self.host()[idx * self.cols..][..self.cols]
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
        drop(Tensor::stale(&pool, 100, 100, Format::F32));
        let again = Tensor::stale(&pool, 99, 101, Format::F32);
        assert!(pool.shelves().all(|shelf| shelf.values().all(Vec::is_empty)), "the free buffer was taken");
        assert_eq!(again.host().len(), 9999);
        drop(again);
        let small = Tensor::stale(&pool, 9_999, 1, Format::Bf16);
        assert_eq!(small.data.len(), size_class(313), "a small buffer is of its class");
        drop(Tensor::stale(&pool, 1000, 1000, Format::F32));
        let half = Tensor::stale(&pool, 1000, 505, Format::F32);
        assert_eq!(half.data.len(), size_class(62_500), "a large one may be twice as large");
        let less = Tensor::stale(&pool, 1000, 495, Format::F32);
        assert_eq!(less.data.len(), size_class(30_938), "and no more");
        for len in [1, 63, 64, 1000, 123_457] {
            assert!((len..=len + len / 8 + 64).contains(&size_class(len)), "{len}");
        }
    }
}
