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
use std::sync::Arc;

use rayon::prelude::*;

use crate::device::Device;
use crate::element::{Element, by_format};
use crate::simd::vectorized;
use crate::tensor::Tensor;

/// Rows or elements per job: large enough to hide scheduling, small enough to balance two cores.
pub(crate) const ROWS_PER_JOB: usize = 64;
pub(crate) const ELEMENTS_PER_JOB: usize = 16_384;

/// Where packed sequences begin: `starts[i]..starts[i + 1]` are the rows of sequence `i` (`cu_seqlens`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences(Arc<[usize]>);

impl Sequences {
    /// Sequences of the given lengths, one after the other.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        Self(starts.into())
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows of all sequences.
    pub fn num_rows(&self) -> usize {
        self.0[self.0.len() - 1]
    }

    /// The rows of sequence `idx`.
    pub fn rows(&self, idx: usize) -> Range<usize> {
        self.0[idx]..self.0[idx + 1]
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
        if starts.len() == 1 { Self([0, 0].into()) } else { Self(starts.into()) }
    }

    /// The rows of every sequence in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        self.0.windows(2).map(|pair| pair[0]..pair[1])
    }
}

/// Calls `job(first row, rows)` on blocks of whole rows of `data`, on all threads.
pub(crate) fn for_rows<T: Send>(device: &Device, data: &mut [T], cols: usize, job: impl Fn(usize, &mut [T]) + Sync) {
    let blocks = data.par_chunks_mut((ROWS_PER_JOB * cols).max(1)).enumerate();
    device.install(|| blocks.for_each(|(block, rows)| job(block * ROWS_PER_JOB, rows)));
}

/// Calls `job(idx, rows)` on the rows of each of `ranges`, which follow one another from row 0 on, on all threads.
pub(crate) fn for_ranges<T: Send>(
    device: &Device,
    data: &mut [T],
    cols: usize,
    ranges: &[Range<usize>],
    job: impl Fn(usize, &mut [T]) + Sync,
) {
    let parts = split_rows(data, cols, ranges).into_par_iter().enumerate();
    device.install(|| parts.for_each(|(idx, part)| job(idx, part)));
}

/// The rows of each of `ranges`, which follow one another from row 0 on.
pub(crate) fn split_rows<'a, T>(mut data: &'a mut [T], cols: usize, ranges: &[Range<usize>]) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(ranges.len());
    for rows in ranges {
        let (part, rest) = data.split_at_mut(rows.len() * cols);
        parts.push(part);
        data = rest;
    }
    parts
}

/// `rows` in pieces of [`ROWS_PER_JOB`].
pub(crate) fn in_jobs(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    rows.clone().step_by(ROWS_PER_JOB).map(move |first| first..rows.end.min(first + ROWS_PER_JOB))
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
        for row in rows.chunks_exact(stride) {
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
/// blocks of columns.
pub(crate) fn add_column_sums<T: Element>(device: &Device, sums: &mut [f32], rows: &[T], stride: usize) {
    const COLS_PER_JOB: usize = 64;
    let blocks = sums.par_chunks_mut(COLS_PER_JOB).enumerate();
    device.install(|| blocks.for_each(|(block, sums)| add_columns(sums, rows, stride, block * COLS_PER_JOB)));
}
