//! Rows of tables: tokens by their ids, places by their numbers.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::ops::{add_to_row, for_rows};
use crate::parameters::{ParameterId, Scattered};
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// The rows of one table for each token.
pub type Lookup = (Arc<[u32]>, ParameterId);

struct Embedding<const N: usize>([Lookup; N]);

/// Rows of a table per job of the backward pass.
const TABLE_ROWS_PER_JOB: usize = 512;

impl Tape<'_> {
    /// The sum over tables of `table[ids] [n, hidden]`: a token as what it is, where it stands, which text it is of.
    ///
    /// # Panics
    /// When there is no table, when an id is not in its table, or when tables differ in width or number of ids.
    pub fn embedding<const N: usize>(&mut self, lookups: [Lookup; N]) -> Var {
        let (device, parameters) = (self.device(), self.parameters());
        let (num_rows, cols) = (lookups[0].0.len(), parameters.spec(lookups[0].1).shape[1]);
        for (ids, table) in &lookups {
            assert_eq!((ids.len(), parameters.spec(*table).shape[1]), (num_rows, cols), "tables of one width");
        }
        let mut y = device.stale(num_rows, cols);
        for_rows(device, y.host_mut(), cols, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
                let mut entries = lookups
                    .iter()
                    .map(|(ids, table)| &parameters.value(*table)[ids[first + i] as usize * cols..][..cols]);
                entries.by_ref().take(1).for_each(|entry| row.copy_from_slice(entry));
                entries.for_each(|entry| add_to_row(row, entry));
            }
        });
        self.push(y, Embedding(lookups))
    }
}

impl<const N: usize> Op for Embedding<N> {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        for (ids, table) in &self.0 {
            let (device, parameters) = (backprop.device, backprop.parameters);
            if !backprop.gradients().wants(parameters, *table) {
                continue;
            }
            let Scattered { sums, touched } = backprop.gradients().scattered_mut(parameters, *table);
            let sums = sums.par_chunks_mut(TABLE_ROWS_PER_JOB * grad.cols());
            let jobs = sums.zip(touched.par_chunks_mut(TABLE_ROWS_PER_JOB)).enumerate();
            device.install(|| {
                jobs.for_each(|(job, (sums, touched))| {
                    let first = job * TABLE_ROWS_PER_JOB;
                    scatter(ids, &grad, first..first + touched.len(), sums, touched);
                });
            });
        }
    }
}

/// Adds the gradients of tokens to the rows `range` of a table, in the order of the tokens.
fn scatter(ids: &[u32], grad: &Tensor, range: Range<usize>, sums: &mut [f32], touched: &mut [bool]) {
    let cols = grad.cols();
    for (token, &id) in ids.iter().enumerate().filter(|(_, id)| range.contains(&(**id as usize))) {
        let idx = id as usize - range.start;
        touched[idx] = true;
        add_to_row(&mut sums[idx * cols..][..cols], grad.row(token));
    }
}
