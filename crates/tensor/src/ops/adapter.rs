//! What adapters do to the output of a linear layer whose weights stay as they are.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::device::Device;
use crate::element::{Element, by_format};
use crate::kernels::{Init, MatMut, MatRef};
use crate::ops::{add_to_row, for_elements, for_rows};
use crate::parameters::{ParameterId, Parameters};
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// A change of rank `r` of some outputs of a linear layer (LoRA, Hu et al. 2021).
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `[r, in]`.
    pub a: ParameterId,
    /// `[outputs.len(), r]`.
    pub b: ParameterId,
    /// What the product is multiplied with.
    pub scale: f32,
    /// The outputs.
    pub outputs: Range<usize>,
}

/// A factor for each of some columns.
#[derive(Clone, Debug)]
pub struct Rescale {
    /// The factors, `[columns.len()]`.
    pub factor: ParameterId,
    /// What the factors are divided by, as numbers that stay.
    pub divisor: Option<Arc<[f32]>>,
    /// Added to all columns before, and not multiplied.
    pub bias: Option<ParameterId>,
    /// The columns.
    pub columns: Range<usize>,
}

/// A change of some entries of a weight `[out, in]`.
#[derive(Clone, Debug)]
pub struct Sparse {
    /// One number for each entry.
    pub values: ParameterId,
    /// `(output, input)` of each entry, in rising order.
    pub entries: Arc<[(u32, u32)]>,
}

struct LowRankOp {
    x: Var,
    onto: Var,
    change: LowRank,
    /// `scale x A^T`.
    inner: Tensor,
}

struct RescaleOp {
    x: Var,
    minus: Option<Var>,
    rescale: Rescale,
}

struct SparseOp {
    x: Var,
    onto: Var,
    sparse: Sparse,
}

impl LowRank {
    fn matrices<'a>(&self, parameters: &'a Parameters, inputs: usize) -> (MatRef<'a>, MatRef<'a>) {
        let rank = parameters.spec(self.a).shape[0];
        let a = MatRef::new(parameters.value(self.a), rank, inputs);
        (a, MatRef::new(parameters.value(self.b), self.outputs.len(), rank))
    }
}

impl LowRank {
    /// Adds row `idx` of `scale B A` to `row`.
    pub fn add_row(&self, parameters: &Parameters, idx: usize, row: &mut [f32]) {
        let rank = parameters.spec(self.a).shape[0];
        let b = &parameters.value(self.b)[idx * rank..][..rank];
        for (b, a) in b.iter().zip(parameters.value(self.a).chunks_exact(row.len())) {
            let factor = self.scale * b;
            row.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
        }
    }
}

/// The length of each row of `W + scale B A`, of the rows that a change is of (Liu et al. 2024, "DoRA", equation 5).
pub fn row_norms(parameters: &Parameters, weight: ParameterId, change: &LowRank) -> Arc<[f32]> {
    let inputs = parameters.spec(weight).shape[1];
    let rows = parameters.value(weight)[change.outputs.start * inputs..].par_chunks_exact(inputs);
    let norms = rows.take(change.outputs.len()).enumerate().map(|(idx, row)| {
        let mut row = row.to_vec();
        change.add_row(parameters, idx, &mut row);
        row.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt() as f32
    });
    norms.collect::<Vec<_>>().into()
}

impl Rescale {
    /// The factors less 1: what is added of each column.
    fn excess(&self, parameters: &Parameters) -> Vec<f32> {
        let factors = parameters.value(self.factor);
        match &self.divisor {
            None => factors.iter().map(|factor| factor - 1.0).collect(),
            Some(divisor) => factors.iter().zip(divisor.iter()).map(|(factor, by)| factor / by - 1.0).collect(),
        }
    }

    /// `x - minus - bias` in the columns of row `row`.
    fn plain<'a>(
        &'a self,
        bias: Option<&'a [f32]>,
        x: &'a Tensor,
        minus: Option<&'a Tensor>,
        row: usize,
    ) -> impl Iterator<Item = f32> + 'a {
        self.columns.clone().map(move |col| {
            let more = minus.map_or(0.0, |minus| minus.row(row)[col]);
            x.row(row)[col] - more - bias.map_or(0.0, |bias| bias[col])
        })
    }
}

impl Tape<'_> {
    /// `onto [n, out]` with `scale (x A^T) B^T` added to some of its columns, for `x [n, in]`; in f32.
    ///
    /// # Panics
    /// When the matrices do not fit.
    pub fn low_rank(&mut self, x: Var, onto: Var, change: LowRank) -> Var {
        let (device, parameters) = (self.device(), self.parameters());
        let (x_value, mut y) = (self.value(x), device.copy(self.value(onto)));
        let (n, cols) = (y.rows(), y.cols());
        let (a, b) = change.matrices(parameters, x_value.cols());
        let mut inner = device.stale(n, a.rows());
        device.matmul_into(inner.mat_mut(), Init::Zero, x_value.mat(), a.t());
        scale_all(device, &mut inner, change.scale);
        let columns = &mut y.host_mut()[change.outputs.start..];
        device.matmul_into(MatMut::strided(columns, n, change.outputs.len(), cols), Init::Add, inner.mat(), b.t());
        self.push_like(onto, y, LowRankOp { x, onto, change, inner })
    }

    /// `x [n, out]` with some columns multiplied: `x + (factor / divisor - 1) (x - minus - bias)`, in f32. Where the
    /// factors are 1, that is `x` bit for bit.
    ///
    /// # Panics
    /// When the columns are not in `x`.
    pub fn rescale(&mut self, x: Var, minus: Option<Var>, rescale: Rescale) -> Var {
        let (device, parameters) = (self.device(), self.parameters());
        let (x_value, minus_value) = (self.value(x), minus.map(|minus| self.value(minus)));
        let excess = rescale.excess(parameters);
        let bias = rescale.bias.map(|bias| parameters.value(bias));
        let mut y = device.copy(x_value);
        let cols = y.cols();
        for_rows(device, y.host_mut(), cols, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
                let plain = rescale.plain(bias, x_value, minus_value, first + i);
                let outputs = row[rescale.columns.clone()].iter_mut().zip(plain).zip(&excess);
                outputs.for_each(|((y, plain), excess)| *y += excess * plain);
            }
        });
        self.push_like(x, y, RescaleOp { x, minus, rescale })
    }

    /// `x [n, in]` in its format, each column times its factor in `factor [in]`.
    pub fn scale_columns(&mut self, x: Var, factor: ParameterId) -> Var {
        let (device, factors) = (self.device(), self.parameters().value(factor));
        let mut y = device.copy(self.value(x));
        scale_columns(device, &mut y, factors);
        self.push_like(x, y, ScaleColumns { x, factor })
    }

    /// `onto [n, out]` with `x D^T` added, for `x [n, in]` in f32 or less and a weight `D [out, in]` that is zero but for
    /// some entries; in f32.
    pub fn sparse(&mut self, x: Var, onto: Var, sparse: Sparse) -> Var {
        let (device, values) = (self.device(), self.parameters().value(sparse.values));
        let (x_value, mut y) = (self.value(x), device.copy(self.value(onto)));
        let (inputs, cols) = (x_value.cols(), y.cols());
        by_format!(x_value.format(), T => {
            let x = T::all(x_value);
            for_rows(device, y.host_mut(), cols, |first, rows| {
                for (y, x) in rows.chunks_exact_mut(cols).zip(x[first * inputs..].chunks_exact(inputs)) {
                    for (&(out, input), value) in sparse.entries.iter().zip(values) {
                        y[out as usize] += value * x[input as usize].get();
                    }
                }
            });
        });
        self.push_like(onto, y, SparseOp { x, onto, sparse })
    }
}

fn scale_all(device: &Device, x: &mut Tensor, scale: f32) {
    for_elements(device, x.host_mut(), |_, x| x.iter_mut().for_each(|x| *x *= scale));
}

fn scale_columns(device: &Device, x: &mut Tensor, factors: &[f32]) {
    let cols = x.cols();
    by_format!(x.format(), T => for_rows(device, T::all_mut(x), cols, |_, rows| {
        for row in rows.chunks_exact_mut(cols) {
            row.iter_mut().zip(factors).for_each(|(x, factor)| *x = T::of(x.get() * factor));
        }
    }));
}

impl Op for LowRankOp {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let Self { x, onto, ref change, ref inner } = *self;
        let (device, parameters) = (backprop.device, backprop.parameters);
        let x_value = backprop.value(x);
        let (a, b) = change.matrices(parameters, x_value.cols());
        let dy = MatRef::strided(&grad.host()[change.outputs.start..], grad.rows(), b.rows(), grad.cols());
        let mut d_inner = device.stale(grad.rows(), b.cols());
        device.matmul_into(d_inner.mat_mut(), Init::Zero, dy, b);
        scale_all(device, &mut d_inner, change.scale);
        for rows in backprop.blocks(onto).iter() {
            if let Some(sum) = backprop.gradient(change.b) {
                device.matmul(sum, Init::Add, dy.some_rows(rows.clone()).t(), inner.mat().some_rows(rows.clone()));
            }
            if let Some(sum) = backprop.gradient(change.a) {
                let (d_inner, x) = (d_inner.mat().some_rows(rows.clone()), x_value.mat().some_rows(rows));
                device.matmul(sum, Init::Add, d_inner.t(), x);
            }
        }
        let mut dx = device.stale_in(x_value.format(), x_value.rows(), x_value.cols());
        device.matmul_into(dx.mat_mut(), Init::Zero, d_inner.mat(), a);
        backprop.give(x, dx);
        backprop.give(onto, grad);
    }
}

/// The sum over rows, block after block and job after job, of what `add` makes of each row.
fn sum_of_rows(backprop: &mut Backprop<'_>, (like, id): (Var, ParameterId), add: impl Fn(usize, &mut [f32]) + Sync) {
    let device = backprop.device;
    let blocks = backprop.blocks(like);
    let jobs = blocks.jobs();
    let Some(sum) = backprop.gradient(id) else { return };
    let mut partial = device.zeros(jobs.len(), sum.len());
    let work = partial.host_mut().par_chunks_mut(sum.len().max(1)).enumerate();
    device.install(|| work.for_each(|(job, partial)| jobs.rows(job).for_each(|row| add(row, partial))));
    partial.host().chunks_exact(sum.len().max(1)).for_each(|partial| add_to_row(sum, partial));
}

impl Op for RescaleOp {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        let Self { x, minus, ref rescale } = *self;
        let (device, parameters) = (backprop.device, backprop.parameters);
        let (x_value, minus_value) = (backprop.value(x), minus.map(|minus| backprop.value(minus)));
        let bias = rescale.bias.map(|bias| parameters.value(bias));
        sum_of_rows(backprop, (x, rescale.factor), |row, sums| {
            let plain = rescale.plain(bias, x_value, minus_value, row);
            let terms = sums.iter_mut().zip(&grad.row(row)[rescale.columns.clone()]).zip(plain).enumerate();
            for (idx, ((sum, dy), plain)) in terms {
                *sum += dy * plain / rescale.divisor.as_ref().map_or(1.0, |divisor| divisor[idx]);
            }
        });
        let (excess, cols) = (rescale.excess(parameters), grad.cols());
        if let Some(minus) = minus {
            let mut d_minus = device.zeros(grad.rows(), cols);
            for_rows(device, d_minus.host_mut(), cols, |first, rows| {
                for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
                    let dy = &grad.row(first + i)[rescale.columns.clone()];
                    let outputs = row[rescale.columns.clone()].iter_mut().zip(dy).zip(&excess);
                    outputs.for_each(|((d, dy), excess)| *d = -excess * dy);
                }
            });
            backprop.give(minus, d_minus);
        }
        for_rows(device, grad.host_mut(), cols, |_, rows| {
            for row in rows.chunks_exact_mut(cols) {
                row[rescale.columns.clone()].iter_mut().zip(&excess).for_each(|(dy, excess)| *dy += excess * *dy);
            }
        });
        backprop.give(x, grad);
    }
}

struct ScaleColumns {
    x: Var,
    factor: ParameterId,
}

impl Op for ScaleColumns {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        let (device, x) = (backprop.device, backprop.value(self.x));
        let cols = x.cols();
        by_format!(x.format(), T => {
            let (x, dy) = (T::all(x), T::all(&grad));
            sum_of_rows(backprop, (self.x, self.factor), |row, sums| {
                let terms = x[row * cols..].iter().zip(&dy[row * cols..]);
                sums.iter_mut().zip(terms).for_each(|(sum, (x, dy))| *sum += x.get() * dy.get());
            });
        });
        scale_columns(device, &mut grad, backprop.parameters.value(self.factor));
        backprop.give(self.x, grad);
    }
}

impl Op for SparseOp {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let Self { x, onto, ref sparse } = *self;
        let (device, x_value) = (backprop.device, backprop.value(x));
        let (values, inputs) = (backprop.parameters.value(sparse.values), x_value.cols());
        let mut dx = device.zeros(x_value.rows(), inputs);
        for_rows(device, dx.host_mut(), inputs, |first, rows| {
            for (i, dx) in rows.chunks_exact_mut(inputs).enumerate() {
                let dy = grad.row(first + i);
                for (&(out, input), value) in sparse.entries.iter().zip(values) {
                    dx[input as usize] += value * dy[out as usize];
                }
            }
        });
        by_format!(x_value.format(), T => {
            let x = T::all(x_value);
            sum_of_rows(backprop, (onto, sparse.values), |row, sums| {
                let (x, dy) = (&x[row * inputs..][..inputs], grad.row(row));
                for (sum, &(out, input)) in sums.iter_mut().zip(sparse.entries.iter()) {
                    *sum += dy[out as usize] * x[input as usize].get();
                }
            });
        });
        let mut given = device.stale_in(x_value.format(), dx.rows(), dx.cols());
        by_format!(given.format(), T => {
            let all = dx.host();
            for_elements(device, T::all_mut(&mut given), |start, to| {
                to.iter_mut().zip(&all[start..]).for_each(|(to, from)| *to = T::of(*from));
            });
        });
        backprop.give(x, given);
        backprop.give(onto, grad);
    }
}

#[cfg(test)]
mod tests {
    use arable_core::Seed;

    use super::*;
    use crate::{Format, Gradients, ParameterSpec, Precision};

    const ROWS: usize = 70;
    const INPUTS: usize = 6;
    const OUTPUTS: usize = 7;

    /// One operation on `x [70, 6]` and `y [70, 7]` with parameters `p` and `q`.
    type Build = fn(&mut Tape<'_>, [Var; 2], [ParameterId; 2]) -> Var;

    fn low_rank(tape: &mut Tape<'_>, [x, y]: [Var; 2], [a, b]: [ParameterId; 2]) -> Var {
        tape.low_rank(x, y, LowRank { a, b, scale: 0.7, outputs: 2..6 })
    }

    fn rescale(tape: &mut Tape<'_>, [_, y]: [Var; 2], [factor, bias]: [ParameterId; 2]) -> Var {
        let divisor = Some([0.5, 2.0, 1.5, 0.8].into());
        let twice = tape.add(y, y);
        tape.rescale(twice, Some(y), Rescale { factor, divisor, bias: Some(bias), columns: 1..5 })
    }

    fn scaled(tape: &mut Tape<'_>, [x, y]: [Var; 2], [factor, weight]: [ParameterId; 2]) -> Var {
        let x = tape.scale_columns(x, factor);
        tape.linear_onto(x, weight, None, y)
    }

    fn sparse(tape: &mut Tape<'_>, [x, y]: [Var; 2], [values, _]: [ParameterId; 2]) -> Var {
        let entries = Arc::from([(0, 5), (1, 0), (1, 1), (6, 2)]);
        tape.sparse(x, y, Sparse { values, entries })
    }

    fn minus(tape: &mut Tape<'_>, [x, y]: [Var; 2], [weight, _]: [ParameterId; 2]) -> Var {
        let z = tape.linear(x, weight, None, Format::F32);
        tape.minus(y, z)
    }

    /// Each with the shapes of its parameters.
    const CASES: [(&str, Build, [&[usize]; 2]); 5] = [
        ("low rank", low_rank, [&[3, INPUTS], &[4, 3]]),
        ("rescale", rescale, [&[4], &[OUTPUTS]]),
        ("scale columns", scaled, [&[INPUTS], &[OUTPUTS, INPUTS]]),
        ("sparse", sparse, [&[4], &[1]]),
        ("minus", minus, [&[OUTPUTS, INPUTS], &[1]]),
    ];

    fn random(name: &str, len: usize) -> Vec<f32> {
        let mut draws = Seed(9).stream(name).at(0, 0);
        (0..len).map(|_| draws.normal() as f32).collect()
    }

    /// Output and gradients by `x`, `y`, `p` and `q`, for the inputs in this order.
    fn run(build: Build, shapes: [&[usize]; 2], inputs: &[Vec<f32>], num_threads: usize) -> Vec<Vec<f32>> {
        let device = Device::cpu(num_threads, Precision::F32).unwrap();
        let mut parameters = Parameters::default();
        let ids = [2, 3].map(|idx: usize| {
            let spec = ParameterSpec { name: format!("{idx}"), shape: shapes[idx - 2].to_vec(), decay: false };
            parameters.add(spec, &inputs[idx])
        });
        let mut gradients = Gradients::zeros(&parameters);
        let mut tape = Tape::recording(&device, &parameters, &mut gradients);
        let on_tape =
            [(0, INPUTS), (1, OUTPUTS)].map(|(idx, cols)| tape.input(device.tensor(ROWS, cols, &inputs[idx])));
        let out = build(&mut tape, on_tape, ids);
        let value = tape.value(out).to_vec();
        let seed = device.tensor(ROWS, OUTPUTS, &random("seed", ROWS * OUTPUTS));
        let grads = tape.backward_with(out, seed, &on_tape);
        let of_parameters = ids.map(|id| gradients.of(&parameters, id).to_vec());
        [value].into_iter().chain(grads.iter().map(Tensor::to_vec)).chain(of_parameters).collect()
    }

    #[test]
    fn gradients_agree_with_finite_differences_for_any_number_of_threads() {
        for (name, build, shapes) in CASES {
            let lens = [ROWS * INPUTS, ROWS * OUTPUTS].into_iter().chain(shapes.map(|shape| shape.iter().product()));
            let inputs: Vec<Vec<f32>> =
                lens.enumerate().map(|(idx, len)| random(&format!("{name} {idx}"), len)).collect();
            let found = run(build, shapes, &inputs, 1);
            assert_eq!(run(build, shapes, &inputs, 3), found, "{name}");
            let weights = random("seed", ROWS * OUTPUTS);
            for idx in 0..4 {
                // The bias of a layer whose outputs are scaled is frozen; the others have all their gradients.
                if found[1 + idx].is_empty() || (name == "rescale" && idx == 3) {
                    continue;
                }
                let direction = random(&format!("direction {idx}"), inputs[idx].len());
                let objective = |step: f32| {
                    let mut moved = inputs.clone();
                    moved[idx].iter_mut().zip(&direction).for_each(|(value, d)| *value += step * d);
                    let out = &run(build, shapes, &moved, 1)[0];
                    out.iter().zip(&weights).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
                };
                let want = (objective(1e-2) - objective(-1e-2)) / 2e-2;
                let got: f64 = found[1 + idx].iter().zip(&direction).map(|(a, b)| f64::from(a * b)).sum();
                let scale = found[1 + idx].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                assert!((want - got).abs() <= 1e-2 * scale.max(0.02), "{name} {idx}: {got} for {want} ({scale})");
            }
        }
    }
}
