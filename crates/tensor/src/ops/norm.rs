//! Layer normalisation (Ba, Kiros, Hinton 2016) over the columns, with a weight and no bias.

use rayon::prelude::*;

use crate::math::{sum, sum_pairs};
use crate::ops::{add_column_sums, for_rows, in_jobs, split_rows};
use crate::parameters::ParameterId;
use crate::simd::vectorized;
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
    let mean = sum(row, |x| x) / n;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
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
        let source = x_value.host();
        for_rows(device, y.host_mut(), cols, |first, rows| forward(rows, &source[first * cols..], scale, eps));
        self.push_like(x, y, LayerNorm { x, weight, eps })
    }
}

impl Op for LayerNorm {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let scale = backprop.parameters.value(self.weight);
        let x = backprop.value(self.x);
        let cols = x.cols();
        // One partial weight gradient for each job, beside its rows, added up in the order of the jobs.
        let jobs: Vec<_> = backprop.blocks(self.x).iter().flat_map(in_jobs).collect();
        let mut dx = grad;
        let mut partial = device.zeros(jobs.len(), cols);
        let rows = split_rows(dx.host_mut(), cols, &jobs).into_par_iter();
        let work = rows.zip(partial.host_mut().par_chunks_mut(cols)).zip(&jobs);
        device.install(|| {
            work.for_each(|((dx, dw), job)| backward(dx, dw, &x.host()[job.start * cols..], scale, self.eps));
        });
        add_column_sums(device, backprop.gradient(self.weight), partial.host());
        backprop.give(self.x, dx);
    }
}

vectorized! {
    fn forward(y: &mut [f32], x: &[f32], scale: &[f32], eps: f32) {
        let n = scale.len();
        for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let (mean, inverse) = moments(x, eps);
            for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                *y = (x - mean) * inverse * scale;
            }
        }
    }

    /// Turns `dy` into `dx` and adds to `dw`.
    fn backward(dy: &mut [f32], dw: &mut [f32], x: &[f32], scale: &[f32], eps: f32) {
        let n = scale.len();
        let dw = &mut dw[..n];
        for (dy, x) in dy.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let (mean, inverse) = moments(x, eps);
            for ((dw, dy), (x, scale)) in dw.iter_mut().zip(dy.iter_mut()).zip(x.iter().zip(scale)) {
                *dw += *dy * (x - mean) * inverse;
                *dy *= scale;
            }
            let mean_g = sum(dy, |g| g) / n as f32;
            let mean_gx = sum_pairs(dy, x, |g, x| g * (x - mean)) * inverse / n as f32;
            for (dy, x) in dy.iter_mut().zip(x) {
                *dy = (*dy - mean_g - (x - mean) * inverse * mean_gx) * inverse;
            }
        }
    }
}
