//! Layer normalisation (Ba, Kiros, Hinton 2016) and root-mean-square normalisation (Zhang, Sennrich 2019) of rows and of
//! the heads in rows.

use crate::element::{Element, by_format};
use crate::math::sum;
use crate::ops::{add_column_sums, for_ranges_beside, for_rows};
use crate::parameters::{ParameterId, Parameters};
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::{Format, Tensor};

/// What a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The standard deviation, after the mean was taken away.
    Layer,
    /// The root of the mean square; the mean stays.
    Rms,
}

/// A norm over the columns.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// What it divides by.
    pub kind: NormKind,
    /// What it multiplies by: `[cols]`.
    pub weight: ParameterId,
    /// What it adds in the end: `[cols]`.
    pub bias: Option<ParameterId>,
    /// Added to the variance or mean square.
    pub eps: f32,
}

/// A norm with its numbers.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    is_centred: bool,
    scale: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
}

impl Norm {
    fn numbers<'a>(&self, parameters: &'a Parameters) -> Numbers<'a> {
        Numbers {
            is_centred: self.kind == NormKind::Layer,
            scale: parameters.value(self.weight),
            bias: self.bias.map(|bias| parameters.value(bias)),
            eps: self.eps,
        }
    }
}

impl Numbers<'_> {
    /// What is taken away from a row and the inverse of what it is divided by.
    #[inline(always)]
    fn moments(self, row: &[f32]) -> (f32, f32) {
        let n = row.len() as f32;
        let mean = if self.is_centred { sum(row, |x| x) / n } else { 0.0 };
        let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
        (mean, 1.0 / (variance + self.eps).sqrt())
    }
}

struct RowNorm {
    x: Var,
    norm: Norm,
}

/// Norms of runs of heads, one after the other in each row; what is behind them stays as it is.
struct HeadNorm {
    x: Var,
    runs: [(Norm, usize); 2],
}

impl Tape<'_> {
    /// Normalises each row of `x [n, cols]`; the result is in `format`.
    pub fn norm(&mut self, x: Var, norm: Norm, format: Format) -> Var {
        let device = self.device();
        let numbers = norm.numbers(self.parameters());
        let x_value = self.value(x);
        let cols = x_value.cols();
        assert_eq!(numbers.scale.len(), cols, "a norm's weight has the width of its input");
        let mut y = device.stale_in(format, x_value.rows(), cols);
        let source = x_value.host();
        by_format!(format, T => {
            let y = T::all_mut(&mut y);
            for_rows(device, y, cols, |first, rows| forward::<T>(rows, &source[first * cols..], numbers));
        });
        self.push_like(x, y, RowNorm { x, norm })
    }

    /// Normalises each of the first heads of each row of `x [n, cols]`: `runs` are norms without a bias and how many heads
    /// each is for. The rest of the row stays; the result is in `format`.
    pub fn norm_heads(&mut self, x: Var, runs: [(Norm, usize); 2], format: Format) -> Var {
        let device = self.device();
        let numbers = runs.map(|(norm, num_heads)| (norm.numbers(self.parameters()), num_heads));
        let x_value = self.value(x);
        let cols = x_value.cols();
        let mut y = device.stale_in(format, x_value.rows(), cols);
        let source = x_value.host();
        by_format!(format, T => {
            for_rows(device, T::all_mut(&mut y), cols, |first, rows| {
                for (mut y, mut x) in rows.chunks_exact_mut(cols).zip(source[first * cols..].chunks_exact(cols)) {
                    for (numbers, num_heads) in numbers {
                        let width = num_heads * numbers.scale.len();
                        let (heads, rest) = y.split_at_mut(width);
                        forward::<T>(heads, x, numbers);
                        (y, x) = (rest, &x[width..]);
                    }
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = T::of(*x));
                }
            });
        });
        self.push_like(x, y, HeadNorm { x, runs })
    }
}

impl Op for RowNorm {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let numbers = self.norm.numbers(backprop.parameters);
        let x = backprop.value(self.x);
        let cols = x.cols();
        // One partial weight gradient for each job, beside its rows, added up in the order of the jobs.
        let blocks = backprop.blocks(self.x);
        let jobs = blocks.jobs();
        let mut dx = backprop.take(self.x);
        let mut partial = device.zeros(jobs.len(), cols);
        by_format!(grad.format(), T => {
            let dy = T::all(&grad);
            for_ranges_beside(device, (dx.host_mut(), cols), (partial.host_mut(), cols), jobs, |job, dx, dw| {
                let first = jobs.rows(job).start * cols;
                backward::<T>(dx, dw, &dy[first..], &x.host()[first..], numbers);
            });
            if let Some(sum) = self.norm.bias.and_then(|bias| backprop.gradient(bias)) {
                add_column_sums::<T>(device, sum, dy, cols);
            }
        });
        if let Some(sum) = backprop.gradient(self.norm.weight) {
            add_column_sums(device, sum, partial.host(), partial.cols());
        }
        backprop.put_back(self.x, dx);
    }
}

impl Op for HeadNorm {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let numbers = self.runs.map(|(norm, num_heads)| (norm.numbers(backprop.parameters), num_heads));
        let widths = numbers.map(|(numbers, _)| numbers.scale.len());
        let x = backprop.value(self.x);
        let cols = x.cols();
        let blocks = backprop.blocks(self.x);
        let jobs = blocks.jobs();
        let mut dx = backprop.take(self.x);
        // Those of the first run, then those of the second.
        let width = widths[0] + widths[1];
        let mut partial = device.zeros(jobs.len(), width);
        by_format!(grad.format(), T => {
            let dy = T::all(&grad);
            for_ranges_beside(device, (dx.host_mut(), cols), (partial.host_mut(), width), jobs, |job, dx, dw| {
                let start = jobs.rows(job).start * cols;
                let rows = dy[start..].chunks_exact(cols).zip(x.host()[start..].chunks_exact(cols));
                let (first, second) = dw.split_at_mut(widths[0]);
                for (dx, (dy, x)) in dx.chunks_exact_mut(cols).zip(rows) {
                    heads_backward::<T>(dx, [&mut *first, &mut *second], dy, x, numbers);
                }
            });
        });
        for ((norm, _), first) in self.runs.iter().zip([0, widths[0]]) {
            if let Some(sum) = backprop.gradient(norm.weight) {
                add_column_sums(device, sum, partial.host().get(first..).unwrap_or_default(), width);
            }
        }
        backprop.put_back(self.x, dx);
    }
}

/// The backward pass of one row of heads.
fn heads_backward<T: Element>(
    mut dx: &mut [f32],
    dw: [&mut [f32]; 2],
    mut dy: &[T],
    mut x: &[f32],
    runs: [(Numbers<'_>, usize); 2],
) {
    for (dw, (numbers, num_heads)) in dw.into_iter().zip(runs) {
        let width = num_heads * numbers.scale.len();
        let (heads, rest) = dx.split_at_mut(width);
        backward::<T>(heads, dw, dy, x, numbers);
        (dx, dy, x) = (rest, &dy[width..], &x[width..]);
    }
    dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy.get());
}

vectorized! {
    fn forward<T: Element>(y: &mut [T], x: &[f32], numbers: Numbers<'_>) {
        let scale = numbers.scale;
        let n = scale.len();
        for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            let (mean, inverse) = numbers.moments(x);
            match numbers.bias {
                None => {
                    for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                        *y = T::of((x - mean) * inverse * scale);
                    }
                }
                Some(bias) => {
                    for ((y, x), (scale, bias)) in y.iter_mut().zip(x).zip(scale.iter().zip(bias)) {
                        *y = T::of((x - mean) * inverse * scale + bias);
                    }
                }
            }
        }
    }

    /// Adds to `dx` and to `dw`.
    fn backward<T: Element>(dx: &mut [f32], dw: &mut [f32], dy: &[T], x: &[f32], numbers: Numbers<'_>) {
        let scale = numbers.scale;
        let n = scale.len();
        let dw = &mut dw[..n];
        for ((dx, dy), x) in dx.chunks_exact_mut(n).zip(dy.chunks_exact(n)).zip(x.chunks_exact(n)) {
            let (mean, inverse) = numbers.moments(x);
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
            // Where the mean stays, it passes no gradient.
            let mean_g = if numbers.is_centred { sum_g.iter().sum::<f32>() / n as f32 } else { 0.0 };
            let mean_gx = sum_gx.iter().sum::<f32>() * inverse / n as f32;
            for (((dx, dy), x), scale) in dx.iter_mut().zip(dy).zip(x).zip(scale) {
                *dx += (dy.get() * scale - mean_g - (x - mean) * inverse * mean_gx) * inverse;
            }
        }
    }
}

const LANES: usize = 16;
