//! `y = x W^T + b`.

use crate::element::{Element, by_format};
use crate::kernels::Init;
use crate::ops::{add_column_sums, for_rows};
use crate::packs::Side;
use crate::parameters::ParameterId;
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::{Format, Tensor};

struct Linear {
    x: Var,
    weight: ParameterId,
    bias: Option<ParameterId>,
    onto: Option<Var>,
}

vectorized! {
    /// `y = rows + bias`, row by row.
    fn add_bias(y: &mut [f32], rows: &[f32], bias: &[f32]) {
        for (y, row) in y.chunks_exact_mut(bias.len()).zip(rows.chunks_exact(bias.len())) {
            for ((y, x), bias) in y.iter_mut().zip(row).zip(bias) {
                *y = x + bias;
            }
        }
    }
}

impl Tape<'_> {
    /// `x [n, in] -> x W^T + b [n, out]` in `format`, with `weight [out, in]` and `bias [out]`, if any.
    pub fn linear(&mut self, x: Var, weight: ParameterId, bias: Option<ParameterId>, format: Format) -> Var {
        self.linear_from(Linear { x, weight, bias, onto: None }, format)
    }

    /// `x [n, in] -> onto + x W^T + b [n, out]` with `weight [out, in]`, `bias [out]`, if any, and `onto [n, out]`: a
    /// branch of a residual network ends.
    pub fn linear_onto(&mut self, x: Var, weight: ParameterId, bias: Option<ParameterId>, onto: Var) -> Var {
        self.linear_from(Linear { x, weight, bias, onto: Some(onto) }, Format::F32)
    }

    fn linear_from(&mut self, op: Linear, format: Format) -> Var {
        let (device, parameters) = (self.device(), self.parameters());
        let shape = &parameters.spec(op.weight).shape;
        let (outputs, inputs) = (shape[0], shape[1]);
        let x = self.value(op.x);
        assert_eq!(x.cols(), inputs, "inputs of {}", parameters.spec(op.weight).name);
        let mut y = device.stale_in(format, x.rows(), outputs);
        let init = match (op.onto, op.bias.map(|bias| parameters.value(bias))) {
            (None, None) => Init::Zero,
            (None, Some(bias)) => Init::Bias(bias),
            (Some(onto), None) => Init::Rows(self.value(onto).host()),
            (Some(onto), Some(bias)) => {
                let rows = self.value(onto).host();
                for_rows(device, y.host_mut(), outputs, |first, y| add_bias(y, &rows[first * outputs..], bias));
                Init::Add
            }
        };
        let w = parameters.right(device, op.weight, Side::Forward, self.keeps_packs());
        device.matmul_right(y.mat_mut(), init, x.mat(), &w);
        self.push_like(op.x, y, op)
    }
}

impl Op for Linear {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let (device, parameters) = (backprop.device, backprop.parameters);
        let x = backprop.value(self.x);
        for rows in backprop.blocks(self.x).iter() {
            let (dy, x) = (grad.mat().some_rows(rows.clone()), x.mat().some_rows(rows));
            if let Some(sum) = backprop.gradient(self.weight) {
                device.matmul(sum, Init::Add, dy.t(), x);
            }
        }
        if let Some(sum) = self.bias.and_then(|bias| backprop.gradient(bias)) {
            by_format!(grad.format(), T => add_column_sums::<T>(device, sum, T::all(&grad), grad.cols()));
        }
        let mut dx = device.stale_in(x.format(), x.rows(), x.cols());
        let w = parameters.right(device, self.weight, Side::Back, backprop.keeps_packs);
        device.matmul_right(dx.mat_mut(), Init::Zero, grad.mat(), &w);
        backprop.give(self.x, dx);
        if let Some(onto) = self.onto {
            backprop.give(onto, grad);
        }
    }
}
