//! GELU and its gated form.

use crate::math::{gelu, gelu_slope};
use crate::ops::{for_elements, for_rows};
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct Gelu(Var);
struct Geglu(Var);

impl Tape<'_> {
    /// GELU by the error function (Hendrycks, Gimpel 2016), element by element.
    pub fn gelu(&mut self, x: Var) -> Var {
        let device = self.device();
        let x_value = self.value(x);
        let mut y = device.stale(x_value.rows(), x_value.cols());
        let source = x_value.host();
        for_elements(device, y.host_mut(), |start, y| {
            for (y, &x) in y.iter_mut().zip(&source[start..]) {
                *y = gelu(x);
            }
        });
        self.push(y, Gelu(x))
    }

    /// `x [n, 2 width] -> gelu(first half) * second half [n, width]` (Shazeer 2020, as ModernBERT orders it).
    pub fn geglu(&mut self, x: Var) -> Var {
        let device = self.device();
        let x_value = self.value(x);
        let width = x_value.cols() / 2;
        let mut y = device.stale(x_value.rows(), width);
        for_rows(device, y.host_mut(), width, |first, rows| {
            for (i, y) in rows.chunks_exact_mut(width).enumerate() {
                let (input, gate) = x_value.row(first + i).split_at(width);
                for ((y, &input), gate) in y.iter_mut().zip(input).zip(gate) {
                    *y = gelu(input) * gate;
                }
            }
        });
        self.push(y, Geglu(x))
    }
}

impl Op for Gelu {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        let x = backprop.value(self.0).host();
        for_elements(backprop.device, grad.host_mut(), |start, grad| {
            for (grad, &x) in grad.iter_mut().zip(&x[start..]) {
                *grad *= gelu_slope(x);
            }
        });
        backprop.give(self.0, grad);
    }
}

impl Op for Geglu {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let x = backprop.value(self.0);
        let width = grad.cols();
        let mut dx = device.stale(grad.rows(), 2 * width);
        for_rows(device, dx.host_mut(), 2 * width, |first, rows| {
            for (i, dx) in rows.chunks_exact_mut(2 * width).enumerate() {
                let (input, gate) = x.row(first + i).split_at(width);
                let (d_input, d_gate) = dx.split_at_mut(width);
                let dy = grad.row(first + i);
                for j in 0..width {
                    d_input[j] = dy[j] * gate[j] * gelu_slope(input[j]);
                    d_gate[j] = dy[j] * gelu(input[j]);
                }
            }
        });
        backprop.give(self.0, dx);
    }
}
