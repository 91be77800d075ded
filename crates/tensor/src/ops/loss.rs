//! Losses over logits. Each is a mean, so that its size does not depend on the batch.

use std::ops::Range;

use rayon::prelude::*;

use crate::device::Device;
use crate::element::{Element, by_format};
use crate::kernels::{Init, MatMut, MatRef};
use crate::math::{exp, max, sum};
use crate::ops::{add_column_sums, add_scaled};
use crate::packs::Side;
use crate::parameters::ParameterId;
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// A loss whose gradient was computed with it.
pub(super) struct Ready {
    pub x: Var,
    pub dx: Tensor,
}

/// Rows of gradients by logits that exist at a time in [`Tape::linear_cross_entropy`], at most.
const CHUNK_ROWS: usize = 512;

/// Rows of logits that exist at a time there, at most: one takes twice the memory of its gradient in bf16.
const LOGIT_ROWS: usize = 256;

/// Elements behind each row of logits, at least. Vocabularies like to be powers of two, and rows that many elements apart
/// would have the same few places in a cache.
const PAD: usize = 32;

/// Rows of logits that a thread takes at a time, at least.
const MIN_ROWS: usize = 8;

/// What the vocabulary loss found.
#[derive(Clone, Debug, Default)]
pub struct VocabularyLoss {
    /// The summed loss in nats.
    pub sum: f64,
    /// Rows whose most likely class is the target.
    pub num_right: usize,
    /// The loss of each row, in order.
    pub losses: Vec<f32>,
}

impl VocabularyLoss {
    /// Forgets what was found and keeps the memory for it.
    pub fn clear(&mut self) {
        self.losses.clear();
        (self.sum, self.num_right) = (0.0, 0);
    }
}

/// Spoils the logits and writes `scale * (softmax - one hot)` of each row to `gradient`, where somebody wants it; returns the
/// loss of each row and 1 where its target leads: `[n, 2]`. Rows of `cols` elements begin `stride` apart in both.
fn softmax_losses<T: Element>(
    device: &Device,
    (logits, gradient): (&mut [f32], Option<&mut [T]>),
    (cols, stride): (usize, usize),
    targets: &[u32],
    scale: Scale<'_>,
) -> Tensor {
    let mut losses = device.stale(targets.len(), 2);
    let found = losses.host_mut().par_chunks_exact_mut(2);
    let rows = logits.par_chunks_mut(stride.max(1)).zip(targets).zip(found).enumerate().with_min_len(MIN_ROWS);
    let softmax = |row: &mut [f32], gradient: &mut [T], target: u32, idx| {
        softmax_row::<T>(&mut row[..cols], gradient, target as usize, scale.of(idx))
    };
    device.install(|| match gradient {
        Some(gradient) => {
            rows.zip(gradient.par_chunks_mut(stride.max(1))).for_each(|((idx, ((row, &target), found)), gradient)| {
                found.copy_from_slice(&softmax(row, &mut gradient[..cols], target, idx))
            })
        }
        None => rows.for_each(|(idx, ((row, &target), found))| {
            found.copy_from_slice(&softmax(row, &mut [], target, idx));
        }),
    });
    losses
}

/// What the losses of rows are multiplied with.
#[derive(Clone, Copy, Debug)]
pub enum Scale<'a> {
    /// All with the same.
    Same(f32),
    /// Each with its own: `[n]`.
    Each(&'a [f32]),
}

impl Scale<'_> {
    fn of(self, row: usize) -> f32 {
        match self {
            Self::Same(scale) => scale,
            Self::Each(scales) => scales[row],
        }
    }

    fn some(self, rows: Range<usize>) -> Self {
        match self {
            Self::Same(scale) => Self::Same(scale),
            Self::Each(scales) => Self::Each(&scales[rows]),
        }
    }
}

vectorized! {
    /// `gradient` may be empty.
    fn softmax_row<T: Element>(row: &mut [f32], gradient: &mut [T], target: usize, scale: f32) -> [f32; 2] {
        let top = max(row);
        let at_target = row[target];
        for value in row.iter_mut() {
            *value = exp(*value - top);
        }
        let total = sum(row, |p| p);
        let factor = scale / total;
        for (gradient, value) in gradient.iter_mut().zip(row.iter()) {
            *gradient = T::of(value * factor);
        }
        if let Some(gradient) = gradient.get_mut(target) {
            *gradient = T::of(row[target] * factor - scale);
        }
        [total.ln() + top - at_target, f32::from(at_target >= top)]
    }
}

impl Tape<'_> {
    /// The mean cross-entropy of `logits [n, k]` against class indices `targets [n]`, in nats.
    ///
    /// # Panics
    /// When a target is not below `k` or their number is not `n`.
    pub fn cross_entropy(&mut self, logits: Var, targets: &[u32]) -> Var {
        let device = self.device();
        let mut copy = device.copy(self.value(logits));
        assert_eq!(copy.rows(), targets.len(), "a target for each row");
        let mut dx = device.stale(copy.rows(), copy.cols());
        let scale = Scale::Same(1.0 / targets.len() as f32);
        let shape = (copy.cols(), copy.cols());
        let losses = softmax_losses(device, (copy.host_mut(), Some(dx.host_mut())), shape, targets, scale);
        let losses = losses.host().chunks_exact(2);
        let mean = losses.map(|loss| f64::from(loss[0])).sum::<f64>() / targets.len() as f64;
        self.push(device.tensor(1, 1, &[mean as f32]), Ready { x: logits, dx })
    }

    /// The mean binary cross-entropy of `logits [n, k]` against `targets [n, k]` in `[0, 1]`, in nats.
    pub fn binary_cross_entropy(&mut self, logits: Var, targets: &[f32]) -> Var {
        let device = self.device();
        let x = self.value(logits);
        assert_eq!(x.host().len(), targets.len(), "a target for each logit");
        let scale = 1.0 / targets.len() as f32;
        let terms = x
            .host()
            .iter()
            .zip(targets)
            .map(|(&x, &y)| f64::from(x.max(0.0) - x * y) + f64::from((-x.abs()).exp()).ln_1p());
        let mean = terms.sum::<f64>() / targets.len() as f64;
        let mut dx = device.copy(x);
        for (dx, target) in dx.host_mut().iter_mut().zip(targets) {
            *dx = (1.0 / (1.0 + (-*dx).exp()) - target) * scale;
        }
        self.push(device.tensor(1, 1, &[mean as f32]), Ready { x: logits, dx })
    }

    /// The sum of `scale` times the cross-entropy of `x W^T + b` against `targets [n]`, for `x [n, hidden]`, `weight
    /// [vocab, hidden]`, `bias [vocab]`, if any. Logits and gradients by them exist for a few hundred
    /// rows at a time.
    ///
    /// The gradients are computed with the logits: those by the parameters are added at once, so that the loss has to
    /// be what the tape runs backwards from. What was found is added to `found`.
    ///
    /// # Panics
    /// When there is not one target for each row, or one is not below `vocab`.
    pub fn linear_cross_entropy(
        &mut self,
        x: Var,
        (weight, bias): (ParameterId, Option<ParameterId>),
        targets: &[u32],
        scale: Scale<'_>,
        found: &mut VocabularyLoss,
    ) -> Var {
        let (device, parameters, record) = (self.device(), self.parameters(), self.is_recording());
        let blocks = self.blocks(x);
        let (x_value, mut gradients) = self.value_and_gradients(x);
        assert_eq!(x_value.rows(), targets.len(), "a target for each row");
        let (vocab, hidden) = (parameters.spec(weight).shape[0], parameters.spec(weight).shape[1]);
        let right = |side| parameters.right(device, weight, side, true);
        let (forward, back) = (right(Side::Forward), record.then(|| right(Side::Back)));
        let init = bias.map_or(Init::Zero, |bias| Init::Bias(parameters.value(bias)));
        let mut dx = device.stale(if record { targets.len() } else { 0 }, hidden);
        let mut sum = 0.0;
        let stride = vocab.next_multiple_of(PAD) + PAD;
        // Chunks of rows whose gradients by logits exist at a time.
        for rows in blocks.iter().flat_map(|block| pieces(block, CHUNK_ROWS)) {
            let x_mat = MatRef::new(x_value.host(), targets.len(), hidden);
            let mut d_logits = device.stale_in(device.activations(), if record { rows.len() } else { 0 }, stride);
            for some in pieces(rows.clone(), LOGIT_ROWS) {
                let mut logits = device.stale(some.len(), stride);
                let c = MatMut::strided(logits.host_mut(), some.len(), vocab, stride);
                device.matmul_right(c, init, x_mat.some_rows(some.clone()), &forward);
                let losses = by_format!(d_logits.format(), T => {
                    let at = (some.start - rows.start) * stride;
                    let both = (logits.host_mut(), record.then(|| &mut T::all_mut(&mut d_logits)[at..]));
                    let (targets, scale) = (&targets[some.clone()], scale.some(some.clone()));
                    softmax_losses::<T>(device, both, (vocab, stride), targets, scale)
                });
                for (row, loss) in some.zip(losses.host().chunks_exact(2)) {
                    sum += f64::from(scale.of(row)) * f64::from(loss[0]);
                    found.losses.push(loss[0]);
                    found.sum += f64::from(loss[0]);
                    found.num_right += usize::from(loss[1] > 0.0);
                }
            }
            if let (Some(gradients), Some(back)) = (&mut gradients, &back) {
                let dx = &mut dx.host_mut()[rows.start * hidden..rows.end * hidden];
                let dy = by_format!(d_logits.format(), T => T::mat(T::all(&d_logits), rows.len(), vocab, stride));
                device.matmul_right(MatMut::new(dx, rows.len(), hidden), Init::Zero, dy, back);
                if let Some(sum) = gradients.of_mut(parameters, weight) {
                    device.matmul(sum, Init::Add, dy.t(), x_mat.some_rows(rows));
                }
                if let Some(sum) = bias.and_then(|bias| gradients.of_mut(parameters, bias)) {
                    by_format!(d_logits.format(), T => add_column_sums::<T>(device, sum, T::all(&d_logits), stride));
                }
            }
        }
        self.push(device.tensor(1, 1, &[sum as f32]), Ready { x, dx })
    }
}

/// `rows` in even pieces of `most` at most.
fn pieces(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let height = rows.len().div_ceil(rows.len().div_ceil(most).max(1)).max(1);
    rows.clone().step_by(height).map(move |first| first..rows.end.min(first + height))
}

fn scaled(device: &Device, x: &Tensor, scale: f32) -> Tensor {
    let mut y = device.zeros(x.rows(), x.cols());
    add_scaled(device, y.host_mut(), x.host(), scale);
    y
}

impl Op for Ready {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let dx = scaled(backprop.device, &self.dx, grad.scalar());
        backprop.give(self.x, dx);
    }
}
