//! Layer normalisation (Ba, Kiros, Hinton 2016) over the columns, with a weight and no bias.

use rayon::prelude::*;

use crate::element::{Element, by_format};
use crate::math::sum;
use crate::ops::{add_column_sums, for_rows, in_jobs, split_rows};
use crate::parameters::ParameterId;
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::{Format, Tensor};

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
    /// Normalises each row of `x [n, hidden]` to mean 0 and variance 1 and multiplies by `weight [hidden]`; the result is
    /// in `format`.
    pub fn layer_norm(&mut self, x: Var, weight: ParameterId, eps: f32, format: Format) -> Var {
        let device = self.device();
        let scale = self.parameters().value(weight);
        let x_value = self.value(x);
        let cols = x_value.cols();
        assert_eq!(scale.len(), cols, "a norm's weight has the width of its input");
        let mut y = device.stale_in(format, x_value.rows(), cols);
        let source = x_value.host();
        by_format!(format, T => {
            let y = T::all_mut(&mut y);
            for_rows(device, y, cols, |first, rows| forward::<T>(rows, &source[first * cols..], scale, eps));
        });
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
        let mut dx = backprop.take(self.x);
        let mut partial = device.zeros(jobs.len(), cols);
        let rows = split_rows(dx.host_mut(), cols, &jobs).into_par_iter();
        let work = rows.zip(partial.host_mut().par_chunks_mut(cols)).zip(&jobs);
        by_format!(grad.format(), T => {
            let dy = T::all(&grad);
            device.install(|| {
                work.for_each(|((dx, dw), job)| {
                    let first = job.start * cols;
                    backward::<T>(dx, dw, &dy[first..], &x.host()[first..], scale, self.eps);
                });
            });
        });
        add_column_sums(device, backprop.gradient(self.weight), partial.host());
        backprop.put_back(self.x, dx);
    }
}

vectorized! {
    fn forward<T: Element>(y: &mut [T], x: &[f32], scale: &[f32], eps: f32) {
        let n = scale.len();
        for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let (mean, inverse) = moments(x, eps);
            for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                *y = T::of((x - mean) * inverse * scale);
            }
        }
    }

    /// Adds to `dx` and to `dw`.
    fn backward<T: Element>(dx: &mut [f32], dw: &mut [f32], dy: &[T], x: &[f32], scale: &[f32], eps: f32) {
        let n = scale.len();
        let dw = &mut dw[..n];
        for ((dx, dy), x) in dx.chunks_exact_mut(n).zip(dy.chunks_exact(n)).zip(x.chunks_exact(n)) {
            let (mean, inverse) = moments(x, eps);
            let (mut sum_g, mut sum_gx) = ([0.0f32; LANES], [0.0f32; LANES]);
            let weights = dw.chunks_mut(LANES).zip(scale.chunks(LANES));
            for ((dw, scale), (dy, x)) in weights.zip(dy.chunks(LANES).zip(x.chunks(LANES))) {
                let inputs = dy.iter().zip(x).zip(scale);
                for (((dw, ((dy, x), scale)), sum_g), sum_gx) in dw.iter_mut().zip(inputs).zip(&mut sum_g).zip(&mut sum_gx) {
                    let (dy, centred) = (dy.get(), x - mean);
                    *dw += dy * centred * inverse;
                    *sum_g += dy * scale;
                    *sum_gx += dy * scale * centred;
                }
            }
            let mean_g = sum_g.iter().sum::<f32>() / n as f32;
            let mean_gx = sum_gx.iter().sum::<f32>() * inverse / n as f32;
            for (((dx, dy), x), scale) in dx.iter_mut().zip(dy).zip(x).zip(scale) {
                *dx += (dy.get() * scale - mean_g - (x - mean) * inverse * mean_gx) * inverse;
            }
        }
    }
}

const LANES: usize = 16;
