//! Layer normalisation (Ba, Kiros, Hinton 2016) over the columns, with a weight and no bias.

use rayon::prelude::*;

use crate::math::sum;
use crate::ops::{ROWS_PER_JOB, add_column_sums, for_rows};
use crate::parameters::ParameterId;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct LayerNorm {
    x: Var,
    weight: ParameterId,
    eps: f32,
}

/// Mean and inverse standard deviation of a row.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum(row.len(), |i| row[i]) / n;
    let variance = sum(row.len(), |i| (row[i] - mean) * (row[i] - mean)) / n;
    (mean, 1.0 / (variance + eps).sqrt())
}

impl Tape<'_> {
    /// Normalises each row of `x [n, hidden]` to mean 0 and variance 1 and multiplies by `weight [hidden]`.
    pub fn layer_norm(&mut self, x: Var, weight: ParameterId, eps: f32) -> Var {
        let device = self.device();
        let scale = self.parameters().value(weight);
        let x_value = self.value(x);
        let cols = x_value.cols();
        assert_eq!(scale.len(), cols, "a norm's weight has the width of its input");
        let mut y = device.stale(x_value.rows(), cols);
        for_rows(device, y.host_mut(), cols, |first, rows| {
            for (i, y) in rows.chunks_exact_mut(cols).enumerate() {
                let x = x_value.row(first + i);
                let (mean, inverse) = moments(x, eps);
                for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                    *y = (x - mean) * inverse * scale;
                }
            }
        });
        self.push(y, LayerNorm { x, weight, eps })
    }
}

impl Op for LayerNorm {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let scale = backprop.parameters.value(self.weight);
        let x = backprop.value(self.x);
        let cols = x.cols();
        let arch = pulp::Arch::new();
        // One partial weight gradient for each block of rows, added up in the order of the blocks.
        let mut dx = grad;
        let mut partial = device.zeros(dx.rows().div_ceil(ROWS_PER_JOB), cols);
        device.threads().install(|| {
            let blocks = dx.host_mut().par_chunks_mut(ROWS_PER_JOB * cols);
            blocks.zip(partial.host_mut().par_chunks_mut(cols)).enumerate().for_each(|(block, (rows, dw))| {
                arch.dispatch(|| {
                    for (i, dy) in rows.chunks_exact_mut(cols).enumerate() {
                        backward_row(dy, dw, x.row(block * ROWS_PER_JOB + i), scale, self.eps);
                    }
                });
            });
        });
        add_column_sums(device, backprop.gradient(self.weight), partial.host());
        backprop.give(self.x, dx);
    }
}

/// Turns `dy` into `dx` and adds to `dw`.
#[inline(always)]
fn backward_row(dy: &mut [f32], dw: &mut [f32], x: &[f32], scale: &[f32], eps: f32) {
    let n = x.len();
    let (dy, dw, scale) = (&mut dy[..n], &mut dw[..n], &scale[..n]);
    let (mean, inverse) = moments(x, eps);
    for i in 0..n {
        dw[i] += dy[i] * (x[i] - mean) * inverse;
        dy[i] *= scale[i];
    }
    let mean_g = sum(n, |i| dy[i]) / n as f32;
    let mean_gx = sum(n, |i| dy[i] * (x[i] - mean)) * inverse / n as f32;
    for i in 0..n {
        dy[i] = (dy[i] - mean_g - (x[i] - mean) * inverse * mean_gx) * inverse;
    }
}
