//! Rows of a table by token id.

use rayon::prelude::*;

use crate::ops::for_rows;
use crate::parameters::{ParameterId, Scattered};
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct Embedding {
    ids: Vec<u32>,
    table: ParameterId,
}

/// Rows of the table per job of the backward pass.
const TABLE_ROWS_PER_JOB: usize = 512;

impl Tape<'_> {
    /// `ids [n] -> table[ids] [n, hidden]`.
    ///
    /// # Panics
    /// When an id is not in the table.
    pub fn embedding(&mut self, ids: Vec<u32>, table: ParameterId) -> Var {
        let (device, weights) = (self.device(), self.parameters().value(table));
        let cols = self.parameters().spec(table).shape[1];
        let mut y = device.stale(ids.len(), cols);
        for_rows(device, y.host_mut(), cols, |first, rows| {
            for (row, &id) in rows.chunks_exact_mut(cols).zip(&ids[first..]) {
                row.copy_from_slice(&weights[id as usize * cols..][..cols]);
            }
        });
        self.push(y, Embedding { ids, table })
    }
}

impl Op for Embedding {
    /// Each job owns a range of the table's rows and adds to them in the order of the tokens.
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let cols = grad.cols();
        let parameters = backprop.parameters;
        let Scattered { sums, touched } = backprop.gradients().scattered_mut(parameters, self.table);
        let jobs = sums.par_chunks_mut(TABLE_ROWS_PER_JOB * cols).zip(touched.par_chunks_mut(TABLE_ROWS_PER_JOB));
        device.install(|| {
            jobs.enumerate().for_each(|(job, (rows, touched))| {
                let first = job * TABLE_ROWS_PER_JOB;
                for (token, &id) in self.ids.iter().enumerate() {
                    let Some(idx) = (id as usize).checked_sub(first).filter(|&idx| idx < touched.len()) else {
                        continue;
                    };
                    touched[idx] = true;
                    for (sum, term) in rows[idx * cols..][..cols].iter_mut().zip(grad.row(token)) {
                        *sum += term;
                    }
                }
            });
        });
    }
}
