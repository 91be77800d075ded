//! Losses over pairs of rows: row `i` belongs to row `n + i` of `2 n` rows.

use rayon::prelude::*;

use crate::ops::loss::Ready;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Added to lengths, so that a row of zeros has a direction, too.
const TINY: f64 = 1e-12;

impl Tape<'_> {
    /// InfoNCE (van den Oord et al. 2018) as SimCSE has it (Gao et al. 2021): each of the first `n` rows of `x [2 n, hidden]`
    /// is to find its partner among the last `n` by the cosine over `temperature`. The mean loss in nats.
    ///
    /// # Panics
    /// When the rows are not even in number.
    pub fn info_nce(&mut self, x: Var, temperature: f32) -> Var {
        let device = self.device();
        let value = self.value(x);
        assert!(value.rows().is_multiple_of(2) && value.rows() > 0, "rows come in pairs");
        let n = value.rows() / 2;
        let (directions, lengths) = device.install(|| directions(value));
        let (anchors, partners) = directions.split_at(n);
        let scale = 1.0 / (n as f64 * f64::from(temperature));
        // Of each anchor: its loss, and by how much each cosine should fall.
        let found: Vec<(f64, Vec<f64>)> = device.install(|| {
            let of_anchor = |(idx, anchor): (usize, &Vec<f64>)| {
                let logits = partners.iter().map(|partner| dot(anchor, partner) / f64::from(temperature));
                let mut weights: Vec<f64> = logits.collect();
                let loss = softmax(&mut weights, idx);
                weights.iter_mut().for_each(|weight| *weight *= scale);
                (loss, weights)
            };
            anchors.par_iter().enumerate().map(of_anchor).collect()
        });
        let by_direction = |row: usize| {
            let mut sum = vec![0.0; value.cols()];
            for other in 0..n {
                let (weight, with) = match row < n {
                    true => (found[row].1[other], &partners[other]),
                    false => (found[other].1[row - n], &anchors[other]),
                };
                sum.iter_mut().zip(with).for_each(|(sum, with)| *sum += weight * with);
            }
            sum
        };
        let gradient = |row: usize| {
            let (own, by_direction) = (&directions[row], by_direction(row));
            let along = dot(own, &by_direction);
            let of = |(by, own): (f64, &f64)| ((by - along * own) / lengths[row]) as f32;
            by_direction.into_iter().zip(own).map(of).collect::<Vec<f32>>()
        };
        let rows: Vec<Vec<f32>> = device.install(|| (0..2 * n).into_par_iter().map(gradient).collect());
        let loss = found.iter().map(|(loss, _)| loss).sum::<f64>() / n as f64;
        self.ready(x, loss, &rows.concat())
    }

    /// The mean of the Kullback-Leibler divergences of two distributions in both directions (R-Drop, Liang et al. 2021):
    /// row `i` of `logits [2 n, k]` against row `n + i`. In nats.
    ///
    /// # Panics
    /// When the rows are not even in number.
    pub fn symmetric_divergence(&mut self, logits: Var) -> Var {
        let device = self.device();
        let value = self.value(logits);
        assert!(value.rows().is_multiple_of(2) && value.rows() > 0, "rows come in pairs");
        let n = value.rows() / 2;
        let pairs: Vec<(f64, [Vec<f32>; 2])> =
            device.install(|| (0..n).into_par_iter().map(|i| divergence(value.row(i), value.row(n + i), n)).collect());
        let loss = pairs.iter().map(|(loss, _)| loss).sum::<f64>() / n as f64;
        let halves = [0, 1].map(|half| pairs.iter().flat_map(|(_, rows)| &rows[half]).copied().collect::<Vec<f32>>());
        self.ready(logits, loss, &halves.concat())
    }

    /// A loss whose gradient is known.
    fn ready(&mut self, x: Var, loss: f64, gradient: &[f32]) -> Var {
        let (device, value) = (self.device(), self.value(x));
        let dx = device.tensor(value.rows(), value.cols(), gradient);
        self.push(device.tensor(1, 1, &[loss as f32]), Ready { x, dx })
    }
}

/// Rows over their lengths, and the lengths.
fn directions(x: &Tensor) -> (Vec<Vec<f64>>, Vec<f64>) {
    let of_row = |row: usize| {
        let row: Vec<f64> = x.row(row).iter().map(|&value| f64::from(value)).collect();
        let length = dot(&row, &row).sqrt() + TINY;
        (row.into_iter().map(|value| value / length).collect::<Vec<f64>>(), length)
    };
    (0..x.rows()).into_par_iter().map(of_row).unzip()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Turns logits into `softmax - one hot`; returns the loss.
fn softmax(logits: &mut [f64], target: usize) -> f64 {
    let (total, at_target) = (log_sum(logits), logits[target]);
    logits.iter_mut().for_each(|value| *value = (*value - total).exp());
    logits[target] -= 1.0;
    total - at_target
}

fn log_sum(logits: &[f64]) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + logits.iter().map(|value| (value - top).exp()).sum::<f64>().ln()
}

/// Half of both divergences of two rows of logits, and its gradients for a mean over `n` pairs.
fn divergence(a: &[f32], b: &[f32], n: usize) -> (f64, [Vec<f32>; 2]) {
    let log = |row: &[f32]| {
        let row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
        let total = log_sum(&row);
        row.into_iter().map(|value| value - total).collect::<Vec<f64>>()
    };
    let (log_p, log_q) = (log(a), log(b));
    let one_way = |from: &[f64], to: &[f64]| from.iter().zip(to).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    let (forth, back) = (one_way(&log_p, &log_q), one_way(&log_q, &log_p));
    let gradient = |own: &[f64], other: &[f64], own_divergence: f64| {
        let of = |(own, other): (&f64, &f64)| {
            let (p, q) = (own.exp(), other.exp());
            (0.5 / n as f64 * (p * (own - other - own_divergence) + p - q)) as f32
        };
        own.iter().zip(other).map(of).collect::<Vec<f32>>()
    };
    (0.5 * (forth + back), [gradient(&log_p, &log_q, forth), gradient(&log_q, &log_p, back)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Gradients, Parameters, Precision};
    use arable_core::Seed;

    fn drawn(rows: usize, cols: usize) -> Vec<f32> {
        let mut draws = Seed(3).stream("rows").at(0, 0);
        (0..rows * cols).map(|_| draws.normal() as f32).collect()
    }

    type Loss = fn(&mut Tape<'_>, Var) -> Var;

    fn found(loss: Loss, values: &[f32], cols: usize, num_threads: usize) -> (f32, Vec<f32>) {
        let device = Device::cpu(num_threads, Precision::F32).unwrap();
        let parameters = Parameters::default();
        let mut gradients = Gradients::zeros(&parameters);
        let mut tape = Tape::recording(&device, &parameters, &mut gradients);
        let x = tape.input(device.tensor(values.len() / cols, cols, values));
        let loss = loss(&mut tape, x);
        let value = tape.value(loss).scalar();
        (value, tape.backward_with(loss, device.ones(1, 1), &[x]).remove(0).to_vec())
    }

    #[test]
    fn gradients_are_finite_differences_and_threads_do_not_show() {
        let losses: [Loss; 2] = [|tape, x| tape.info_nce(x, 0.3), |tape, x| tape.symmetric_divergence(x)];
        for loss in losses {
            let values = drawn(10, 6);
            let (_, gradient) = found(loss, &values, 6, 1);
            for idx in 0..values.len() {
                let at = |change: f32| {
                    let mut changed = values.clone();
                    changed[idx] += change;
                    f64::from(found(loss, &changed, 6, 1).0)
                };
                let expected = (at(0.01) - at(-0.01)) / 0.02;
                assert!((expected - f64::from(gradient[idx])).abs() < 2e-4, "{idx}: {expected} {}", gradient[idx]);
            }
            assert!([2, 3, 7].into_iter().all(|num_threads| found(loss, &values, 6, num_threads).1 == gradient));
        }
    }

    #[test]
    fn values_are_those_of_their_definitions() {
        // Two pairs at right angles: each finds its partner with the odds e^(1 / 0.5) to 1.
        let (loss, _) = found(|tape, x| tape.info_nce(x, 0.5), &[1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 1.0], 2, 1);
        assert!((f64::from(loss) - (1.0 + (-2.0_f64).exp()).ln()).abs() < 1e-6);
        // 3/4, 1/4 against 1/2, 1/2, both ways.
        let (loss, _) = found(|tape, x| tape.symmetric_divergence(x), &[3.0_f32.ln(), 0.0, 0.0, 0.0], 2, 1);
        assert!((f64::from(loss) - 0.125 * 3.0_f64.ln()).abs() < 1e-6, "{loss}");
    }
}
