//! `y = x W^T + b`.

use crate::kernels::{Init, MatRef};
use crate::ops::add_column_sums;
use crate::parameters::ParameterId;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct Linear {
    x: Var,
    weight: ParameterId,
    bias: Option<ParameterId>,
}

impl Tape<'_> {
    /// `x [n, in] -> x W^T + b [n, out]` with `weight [out, in]` and `bias [out]`.
    pub fn linear(&mut self, x: Var, weight: ParameterId, bias: Option<ParameterId>) -> Var {
        let (device, parameters) = (self.device(), self.parameters());
        let shape = &parameters.spec(weight).shape;
        let (outputs, inputs) = (shape[0], shape[1]);
        let x_value = self.value(x);
        assert_eq!(x_value.cols(), inputs, "inputs of {}", parameters.spec(weight).name);
        let mut y = device.stale(x_value.rows(), outputs);
        let x_mat = MatRef::new(x_value.host(), x_value.rows(), inputs);
        let w = MatRef::new(parameters.value(weight), outputs, inputs);
        let init = bias.map_or(Init::Zero, |bias| Init::Bias(parameters.value(bias)));
        device.matmul(y.host_mut(), init, x_mat, w.t());
        self.push_like(x, y, Linear { x, weight, bias })
    }
}

impl Op for Linear {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let (device, parameters) = (backprop.device, backprop.parameters);
        let x = backprop.value(self.x);
        let (rows, inputs, outputs) = (x.rows(), x.cols(), grad.cols());
        let dy = MatRef::new(grad.host(), rows, outputs);
        let x_mat = MatRef::new(x.host(), rows, inputs);
        for rows in backprop.blocks(self.x).iter() {
            let (dy, x) = (dy.some_rows(rows.clone()), x_mat.some_rows(rows));
            device.matmul(backprop.gradient(self.weight), Init::Add, dy.t(), x);
        }
        if let Some(bias) = self.bias {
            add_column_sums(device, backprop.gradient(bias), grad.host());
        }
        let mut dx = device.stale(rows, inputs);
        device.matmul(dx.host_mut(), Init::Zero, dy, MatRef::new(parameters.value(self.weight), outputs, inputs));
        backprop.give(self.x, dx);
    }
}
