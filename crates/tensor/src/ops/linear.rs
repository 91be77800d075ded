//! `y = x W^T + b`.

use crate::matmul::{Mat, matmul};
use crate::ops::{add_bias, add_column_sums};
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
        let x_mat = Mat::new(x_value.host(), x_value.rows(), inputs);
        matmul(device, y.host_mut(), x_mat, Mat::new(parameters.value(weight), outputs, inputs).t(), false);
        if let Some(bias) = bias {
            add_bias(device, y.host_mut(), parameters.value(bias));
        }
        self.push(y, Linear { x, weight, bias })
    }
}

impl Op for Linear {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let (device, parameters) = (backprop.device, backprop.parameters);
        let x = backprop.value(self.x);
        let (rows, inputs, outputs) = (x.rows(), x.cols(), grad.cols());
        let dy = Mat::new(grad.host(), rows, outputs);
        let x_mat = Mat::new(x.host(), rows, inputs);
        matmul(device, backprop.gradient(self.weight), dy.t(), x_mat, true);
        if let Some(bias) = self.bias {
            add_column_sums(device, backprop.gradient(bias), grad.host());
        }
        let mut dx = device.stale(rows, inputs);
        matmul(device, dx.host_mut(), dy, Mat::new(parameters.value(self.weight), outputs, inputs), false);
        backprop.give(self.x, dx);
    }
}
