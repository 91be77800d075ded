//! A matrix in device memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use half::bf16;

use crate::element::{Element, Line, Lines, by_format};
use crate::kernels::{MatMut, MatRef};

/// Free buffers, so that a step takes those of the steps before it.
#[derive(Debug)]
pub(crate) enum Pool {
    /// Any thread may take a buffer. One gets back what it gave, if it can: those are still in the cache of its core.
    Shared(Mutex<Shelf>),
    /// A shelf for each thread. What one thread lacks all get: which of them does the work that needs the most is up to who
    /// comes first.
    OfThreads(Box<[Mutex<Shelf>]>),
}

/// Free buffers, and who gave them, by length in lines. Lengths are rounded up: batches differ in size, and a pool of every size
/// that ever was would grow without end.
type Shelf = BTreeMap<usize, Vec<(usize, Lines)>>;

/// The length of the buffer that holds `len` lines. What is never written to takes no memory.
fn size_class(len: usize) -> usize {
    len.next_power_of_two().max(4)
}

fn this_thread() -> usize {
    rayon::current_thread_index().unwrap_or(0)
}

fn open(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().expect("no holder panics")
}

/// A buffer of some length, of this thread if there is one.
fn find(shelf: &mut Shelf, len: usize) -> Option<Lines> {
    let free = shelf.get_mut(&len)?;
    let own = free.iter().rposition(|(giver, _)| *giver == this_thread());
    Some(free.swap_remove(own.or(free.len().checked_sub(1))?).1)
}

impl Pool {
    pub(crate) fn of_threads(num_threads: usize) -> Self {
        Self::OfThreads((0..num_threads).map(|_| Mutex::default()).collect())
    }

    fn take(&self, len: usize) -> Lines {
        let class = size_class(len);
        match self {
            Self::Shared(shelf) => find(&mut open(shelf), class),
            Self::OfThreads(shelves) => {
                let own = this_thread() % shelves.len();
                let found = find(&mut open(&shelves[own]), class);
                if found.is_none() {
                    for (idx, shelf) in shelves.iter().enumerate().filter(|(idx, _)| *idx != own) {
                        open(shelf).entry(class).or_default().push((idx, Lines::new(class)));
                    }
                }
                found
            }
        }
        .unwrap_or_else(|| Lines::new(class))
    }

    fn give(&self, buffer: Lines) {
        let giver = this_thread();
        let shelf = match self {
            Self::Shared(shelf) => shelf,
            Self::OfThreads(shelves) => &shelves[giver % shelves.len()],
        };
        open(shelf).entry(buffer.len()).or_default().push((giver, buffer));
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::Shared(Mutex::default())
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
        by_format!(self.format, T => T::all(self)[0].get())
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
        let num_free = || match &*pool {
            Pool::Shared(shelf) => open(shelf).values().map(Vec::len).sum::<usize>(),
            Pool::OfThreads(_) => unreachable!("it is shared"),
        };
        drop(Tensor::stale(&pool, 100, 100, Format::F32));
        assert_eq!(num_free(), 1);
        let again = Tensor::stale(&pool, 99, 101, Format::F32);
        assert_eq!(num_free(), 0, "the free buffer was taken");
        assert_eq!(again.host().len(), 9999);
        assert_eq!(again.data.len(), 1024);
        drop(again);
        let narrow = Tensor::stale(&pool, 16_384, 1, Format::Bf16);
        assert_eq!((narrow.data.len(), num_free()), (512, 1), "another class");
    }

    #[test]
    fn what_one_thread_lacks_all_get() {
        let pool = Arc::new(Pool::of_threads(3));
        let free = || match &*pool {
            Pool::OfThreads(shelves) => {
                shelves.iter().map(|shelf| open(shelf).values().map(Vec::len).sum()).collect::<Vec<usize>>()
            }
            Pool::Shared(_) => unreachable!("it is of threads"),
        };
        let two = [0; 2].map(|_| Tensor::stale(&pool, 10, 100, Format::F32));
        assert_eq!(free(), [0, 2, 2]);
        drop(two);
        assert_eq!(free(), [2; 3]);
        let threads = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        threads.broadcast(|_| assert_eq!(Tensor::stale(&pool, 9, 100, Format::F32).data.len(), 64));
        assert_eq!(free(), [2; 3], "each thread has its own");
        drop(Tensor::stale(&pool, 11, 100, Format::F32));
        assert_eq!(free(), [3; 3], "another class");
    }
}
