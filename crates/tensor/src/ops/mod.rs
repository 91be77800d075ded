//! Coarse operations, one file per family, each with forward and backward.

pub mod activation;
pub mod adapter;
pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod linear;
pub mod loss;
pub mod norm;
mod pairs;
pub mod residual;
pub mod rows;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::device::Device;
use crate::element::{Element, by_format};
use crate::simd::vectorized;
use crate::tensor::Tensor;

/// Rows or elements per job: large enough to hide scheduling, small enough to balance two cores.
pub(crate) const ROWS_PER_JOB: usize = 64;
pub(crate) const ELEMENTS_PER_JOB: usize = 16_384;

/// Where packed sequences begin: `starts[i]..starts[i + 1]` are the rows of sequence `i` (`cu_seqlens`). Copies share what
/// they know.
#[derive(Clone, Debug)]
pub struct Sequences(Arc<Known>);

#[derive(Debug)]
struct Known {
    starts: Vec<usize>,
    jobs: OnceLock<Sequences>,
}

impl PartialEq for Sequences {
    fn eq(&self, other: &Self) -> bool {
        self.0.starts == other.0.starts
    }
}

impl Eq for Sequences {}

impl Sequences {
    /// Sequences of the given lengths, one after the other.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        Self::starting_at(starts)
    }

    fn starting_at(starts: Vec<usize>) -> Self {
        Self(Arc::new(Known { starts, jobs: OnceLock::new() }))
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.0.starts.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows of all sequences.
    pub fn num_rows(&self) -> usize {
        self.0.starts[self.len()]
    }

    /// The rows of sequence `idx`.
    pub fn rows(&self, idx: usize) -> Range<usize> {
        self.0.starts[idx]..self.0.starts[idx + 1]
    }

    /// Whole sequences in blocks of at most `num_rows` rows, or of one sequence where that is longer.
    pub fn in_blocks(&self, num_rows: usize) -> Self {
        let mut starts = vec![0];
        for rows in self.iter().filter(|rows| !rows.is_empty()) {
            let first = starts[starts.len() - 1];
            if rows.end - first > num_rows && rows.start > first {
                starts.push(rows.start);
            }
        }
        starts.push(self.num_rows());
        starts.dedup();
        if starts.len() == 1 { Self::of_lengths([0]) } else { Self::starting_at(starts) }
    }

    /// The rows of every sequence in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        self.0.starts.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The sequences in pieces of [`ROWS_PER_JOB`]; made once.
    pub(crate) fn jobs(&self) -> &Self {
        let pieces = |rows: Range<usize>| {
            rows.clone().step_by(ROWS_PER_JOB).map(move |first| (rows.end - first).min(ROWS_PER_JOB))
        };
        self.0.jobs.get_or_init(|| Self::of_lengths(self.iter().flat_map(pieces)))
    }
}

/// Calls `job(first row, rows)` on blocks of whole rows of `data`, on all threads.
pub(crate) fn for_rows<T: Send>(device: &Device, data: &mut [T], cols: usize, job: impl Fn(usize, &mut [T]) + Sync) {
    let blocks = data.par_chunks_mut((ROWS_PER_JOB * cols).max(1)).enumerate();
    device.install(|| blocks.for_each(|(block, rows)| job(block * ROWS_PER_JOB, rows)));
}

/// Calls `job(idx, rows)` on the rows of each of `ranges`, on all threads.
pub(crate) fn for_ranges<T: Send>(
    device: &Device,
    data: &mut [T],
    cols: usize,
    ranges: &Sequences,
    job: impl Fn(usize, &mut [T]) + Sync,
) {
    for_ranges_beside::<T, ()>(device, (data, cols), (&mut [], 0), ranges, |idx, rows, _| job(idx, rows));
}

/// Calls `job(idx, rows, row)` on the rows of each of `ranges` in the first matrix and row `idx` of the second, on all threads.
/// A matrix is its elements and how many of them are a row.
pub(crate) fn for_ranges_beside<T: Send, S: Send>(
    device: &Device,
    (data, cols): (&mut [T], usize),
    (beside, width): (&mut [S], usize),
    ranges: &Sequences,
    job: impl Fn(usize, &mut [T], &mut [S]) + Sync,
) {
    let all = rayon::iter::split((0..ranges.len(), data, beside), |parts| halves(parts, ranges, (cols, width)));
    device.install(|| {
        all.for_each(|(some, mut data, mut beside)| {
            for idx in some {
                let (rows, row);
                (rows, data) = std::mem::take(&mut data).split_at_mut(ranges.rows(idx).len() * cols);
                (row, beside) = std::mem::take(&mut beside).split_at_mut(width);
                job(idx, rows, row);
            }
        });
    });
}

/// Some ranges, their rows and what is beside them.
type Parts<'a, T, S> = (Range<usize>, &'a mut [T], &'a mut [S]);

fn halves<'a, T, S>(
    (which, rows, beside): Parts<'a, T, S>,
    ranges: &Sequences,
    (cols, width): (usize, usize),
) -> (Parts<'a, T, S>, Option<Parts<'a, T, S>>) {
    if which.len() < 2 {
        return ((which, rows, beside), None);
    }
    let middle = which.start + which.len() / 2;
    let (first, second) = rows.split_at_mut((ranges.rows(middle).start - ranges.rows(which.start).start) * cols);
    let (first_beside, second_beside) = beside.split_at_mut((middle - which.start) * width);
    ((which.start..middle, first, first_beside), Some((middle..which.end, second, second_beside)))
}

/// Calls `job(first element, elements)` on blocks of `data`, on all threads.
pub(crate) fn for_elements<T: Send>(device: &Device, data: &mut [T], job: impl Fn(usize, &mut [T]) + Sync) {
    let blocks = data.par_chunks_mut(ELEMENTS_PER_JOB).enumerate();
    device.install(|| blocks.for_each(|(block, elements)| job(block * ELEMENTS_PER_JOB, elements)));
}

vectorized! {
    /// `sum += scale * term`, element by element.
    fn add_block(sum: &mut [f32], term: &[f32], scale: f32) {
        for (sum, term) in sum.iter_mut().zip(term) {
            *sum = term.mul_add(scale, *sum);
        }
    }

    fn accumulate<T: Element>(sum: &mut [T], term: &[T]) {
        for (sum, term) in sum.iter_mut().zip(term) {
            *sum = T::of(sum.get() + term.get());
        }
    }

    /// Adds to `sums` the columns of `rows` from `first_col` on, rows `stride` apart in order.
    fn add_columns<T: Element>(sums: &mut [f32], rows: &[T], stride: usize, first_col: usize) {
        for row in rows.chunks(stride) {
            for (sum, value) in sums.iter_mut().zip(&row[first_col..]) {
                *sum += value.get();
            }
        }
    }
}

/// `sum += term`, element by element, on the calling thread.
pub(crate) fn add_to_row(sum: &mut [f32], term: &[f32]) {
    for (sum, term) in sum.iter_mut().zip(term) {
        *sum += term;
    }
}

/// `sum += term`, element by element, of one format.
pub(crate) fn add_to(device: &Device, sum: &mut Tensor, term: &Tensor) {
    by_format!(term.format(), T => {
        let term = T::all(term);
        for_elements(device, T::all_mut(sum), |start, sum| accumulate::<T>(sum, &term[start..]));
    });
}

/// `sum += scale * term`, element by element.
pub(crate) fn add_scaled(device: &Device, sum: &mut [f32], term: &[f32], scale: f32) {
    for_elements(device, sum, |start, sum| add_block(sum, &term[start..], scale));
}

/// Adds the column sums of the row-major `rows`, which begin `stride` elements apart, to `sums`, rows in order inside fixed
/// blocks of columns. The last row may be shorter than the others.
pub(crate) fn add_column_sums<T: Element>(device: &Device, sums: &mut [f32], rows: &[T], stride: usize) {
    const COLS_PER_JOB: usize = 64;
    let blocks = sums.par_chunks_mut(COLS_PER_JOB).enumerate();
    device.install(|| blocks.for_each(|(block, sums)| add_columns(sums, rows, stride, block * COLS_PER_JOB)));
}
