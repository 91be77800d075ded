//! Losses over logits. Each is a mean, so that its size does not depend on the batch.

use rayon::prelude::*;

use crate::device::Device;
use crate::kernels::{Init, MatRef};
use crate::math::{exp, max, sum};
use crate::ops::{add_column_sums, add_scaled};
use crate::parameters::ParameterId;
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// A loss whose gradient was computed with it.
struct Ready {
    x: Var,
    dx: Tensor,
}

struct LinearCrossEntropy {
    x: Var,
    dx: Tensor,
    weight: ParameterId,
    d_weight: Tensor,
    bias: ParameterId,
    d_bias: Tensor,
}

/// Rows of logits that exist at a time in [`Tape::linear_cross_entropy`].
const CHUNK_ROWS: usize = 512;

/// What the vocabulary loss found.
#[derive(Clone, Copy, Debug, Default)]
pub struct VocabularyLoss {
    /// The summed loss in nats.
    pub sum: f64,
    /// Rows whose most likely class is the target.
    pub num_right: usize,
}

/// Turns logits into `scale * (softmax - one hot)`, row by row; returns the loss and whether the target leads.
fn softmax_backward(device: &Device, logits: &mut [f32], cols: usize, targets: &[u32], scale: f32) -> Vec<(f32, bool)> {
    let mut losses = vec![(0.0, false); targets.len()];
    let rows = logits.par_chunks_mut(cols).zip(targets).zip(&mut losses);
    device.install(|| {
        let rows = rows.with_min_len(16);
        rows.for_each(|((row, &target), loss)| *loss = softmax_row(row, target as usize, scale));
    });
    losses
}

vectorized! {
    fn softmax_row(row: &mut [f32], target: usize, scale: f32) -> (f32, bool) {
        let top = max(row);
        let at_target = row[target];
        for value in row.iter_mut() {
            *value = exp(*value - top);
        }
        let total = sum(row, |p| p);
        let factor = scale / total;
        for value in row.iter_mut() {
            *value *= factor;
        }
        row[target] -= scale;
        (total.ln() + top - at_target, at_target >= top)
    }
}

impl Tape<'_> {
    /// The mean cross-entropy of `logits [n, k]` against class indices `targets [n]`, in nats.
    ///
    /// # Panics
    /// When a target is not below `k` or their number is not `n`.
    pub fn cross_entropy(&mut self, logits: Var, targets: &[u32]) -> Var {
        let device = self.device();
        let mut dx = device.copy(self.value(logits));
        assert_eq!(dx.rows(), targets.len(), "a target for each row");
        let cols = dx.cols();
        let losses = softmax_backward(device, dx.host_mut(), cols, targets, 1.0 / targets.len() as f32);
        let mean = losses.iter().map(|loss| f64::from(loss.0)).sum::<f64>() / targets.len() as f64;
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

    /// The mean cross-entropy of `x W^T + b` against `targets [n]`, for `x [n, hidden]`, `weight [vocab, hidden]`,
    /// `bias [vocab]`. Logits exist for a few hundred rows at a time; the backward pass is computed with them.
    pub fn linear_cross_entropy(
        &mut self,
        x: Var,
        weight: ParameterId,
        bias: ParameterId,
        targets: &[u32],
    ) -> (Var, VocabularyLoss) {
        let (device, parameters, record) = (self.device(), self.parameters(), self.is_recording());
        let (vocab, hidden) = (parameters.spec(weight).shape[0], parameters.spec(weight).shape[1]);
        let w = MatRef::new(parameters.value(weight), vocab, hidden);
        let x_value = self.value(x);
        assert_eq!(x_value.rows(), targets.len(), "a target for each row");
        let mut dx = device.stale(if record { targets.len() } else { 0 }, hidden);
        let mut d_weight = device.zeros(if record { vocab } else { 0 }, hidden);
        let mut d_bias = device.zeros(1, if record { vocab } else { 0 });
        let mut found = VocabularyLoss::default();
        for (chunk, targets_in) in targets.chunks(CHUNK_ROWS).enumerate() {
            let (first, rows) = (chunk * CHUNK_ROWS, targets_in.len());
            let x_mat = MatRef::new(&x_value.host()[first * hidden..][..rows * hidden], rows, hidden);
            let mut logits = device.stale(rows, vocab);
            device.matmul(logits.host_mut(), Init::Bias(parameters.value(bias)), x_mat, w.t());
            let scale = 1.0 / targets.len() as f32;
            for (loss, right) in softmax_backward(device, logits.host_mut(), vocab, targets_in, scale) {
                found.sum += f64::from(loss);
                found.num_right += usize::from(right);
            }
            if record {
                let dy = MatRef::new(logits.host(), rows, vocab);
                device.matmul(&mut dx.host_mut()[first * hidden..][..rows * hidden], Init::Zero, dy, w);
                device.matmul(d_weight.host_mut(), Init::Add, dy.t(), x_mat);
                add_column_sums(device, d_bias.host_mut(), logits.host());
            }
        }
        let mean = device.tensor(1, 1, &[(found.sum / targets.len().max(1) as f64) as f32]);
        (self.push(mean, LinearCrossEntropy { x, dx, weight, d_weight, bias, d_bias }), found)
    }
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

impl Op for LinearCrossEntropy {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let (device, scale) = (backprop.device, grad.scalar());
        add_scaled(device, backprop.gradient(self.weight), self.d_weight.host(), scale);
        add_scaled(device, backprop.gradient(self.bias), self.d_bias.host(), scale);
        let dx = scaled(device, &self.dx, scale);
        backprop.give(self.x, dx);
    }
}
