//! `y = x W^T + b`.

use crate::kernels::{Init, MatRef};
use crate::ops::add_column_sums;
use crate::parameters::ParameterId;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::{Format, Tensor};

struct Linear {
    x: Var,
    weight: ParameterId,
    start: Start,
}

/// What the products are added to.
#[derive(Clone, Copy)]
enum Start {
    Zero,
    Bias(ParameterId),
    Onto(Var),
}

impl Tape<'_> {
    /// `x [n, in] -> x W^T [n, out]` in `format`, with `weight [out, in]`.
    pub fn linear(&mut self, x: Var, weight: ParameterId, format: Format) -> Var {
        self.linear_from(x, weight, Start::Zero, format)
    }

    /// `x [n, in] -> x W^T + b [n, out]` with `weight [out, in]` and `bias [out]`.
    pub fn linear_with_bias(&mut self, x: Var, weight: ParameterId, bias: ParameterId) -> Var {
        self.linear_from(x, weight, Start::Bias(bias), Format::F32)
    }

    /// `x [n, in] -> onto + x W^T [n, out]` with `weight [out, in]`, `onto [n, out]`: a branch of a residual network ends.
    pub fn linear_onto(&mut self, x: Var, weight: ParameterId, onto: Var) -> Var {
        self.linear_from(x, weight, Start::Onto(onto), Format::F32)
    }

    fn linear_from(&mut self, x: Var, weight: ParameterId, start: Start, format: Format) -> Var {
        let (device, parameters) = (self.device(), self.parameters());
        let shape = &parameters.spec(weight).shape;
        let (outputs, inputs) = (shape[0], shape[1]);
        let x_value = self.value(x);
        assert_eq!(x_value.cols(), inputs, "inputs of {}", parameters.spec(weight).name);
        let mut y = device.stale_in(format, x_value.rows(), outputs);
        let init = match start {
            Start::Zero => Init::Zero,
            Start::Bias(bias) => Init::Bias(parameters.value(bias)),
            Start::Onto(onto) => Init::Rows(self.value(onto).host()),
        };
        match self.packed(weight) {
            Some(packed) => device.matmul_packed(y.mat_mut(), init, x_value.mat(), &packed),
            None => {
                let w = MatRef::new(parameters.value(weight), outputs, inputs);
                device.matmul_into(y.mat_mut(), init, x_value.mat(), w.t());
            }
        }
        self.push_like(x, y, Linear { x, weight, start })
    }
}

impl Op for Linear {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let (device, parameters) = (backprop.device, backprop.parameters);
        let x = backprop.value(self.x);
        let w = MatRef::new(parameters.value(self.weight), grad.cols(), x.cols());
        for rows in backprop.blocks(self.x).iter() {
            let (dy, x) = (grad.mat().some_rows(rows.clone()), x.mat().some_rows(rows));
            device.matmul(backprop.gradient(self.weight), Init::Add, dy.t(), x);
        }
        let mut dx = device.stale_in(x.format(), x.rows(), x.cols());
        device.matmul_into(dx.mat_mut(), Init::Zero, grad.mat(), w);
        backprop.give(self.x, dx);
        match self.start {
            Start::Zero => {}
            Start::Bias(bias) => add_column_sums(device, backprop.gradient(bias), grad.host()),
            Start::Onto(onto) => backprop.give(onto, grad),
        }
    }
}
