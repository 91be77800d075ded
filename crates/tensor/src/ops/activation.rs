//! GELU and its gated form.

use crate::math::{gelu, gelu_slope, gelu_with_slope};
use crate::ops::{for_elements, for_rows};
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct Gelu(Var);
struct Geglu(Var);

vectorized! {
    fn gelu_forward(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = gelu(x);
        }
    }

    fn gelu_backward(grad: &mut [f32], x: &[f32]) {
        for (grad, &x) in grad.iter_mut().zip(x) {
            *grad *= gelu_slope(x);
        }
    }

    fn geglu_forward(y: &mut [f32], x: &[f32], width: usize) {
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
            let (input, gate) = x.split_at(width);
            for ((y, &input), gate) in y.iter_mut().zip(input).zip(gate) {
                *y = gelu(input) * gate;
            }
        }
    }

    fn geglu_backward(dx: &mut [f32], x: &[f32], dy: &[f32], width: usize) {
        let rows = dx.chunks_exact_mut(2 * width).zip(x.chunks_exact(2 * width)).zip(dy.chunks_exact(width));
        for ((dx, x), dy) in rows {
            let ((input, gate), (d_input, d_gate)) = (x.split_at(width), dx.split_at_mut(width));
            let inputs = input.iter().zip(gate).zip(dy);
            for (((&input, gate), dy), (d_input, d_gate)) in inputs.zip(d_input.iter_mut().zip(d_gate)) {
                let (value, slope) = gelu_with_slope(input);
                *d_input = dy * gate * slope;
                *d_gate = dy * value;
            }
        }
    }
}

impl Tape<'_> {
    /// GELU by the error function (Hendrycks, Gimpel 2016), element by element.
    pub fn gelu(&mut self, x: Var) -> Var {
        let device = self.device();
        let x_value = self.value(x);
        let mut y = device.stale(x_value.rows(), x_value.cols());
        let source = x_value.host();
        for_elements(device, y.host_mut(), |start, y| gelu_forward(y, &source[start..]));
        self.push_like(x, y, Gelu(x))
    }

    /// `x [n, 2 width] -> gelu(first half) * second half [n, width]` (Shazeer 2020, as ModernBERT orders it).
    pub fn geglu(&mut self, x: Var) -> Var {
        let device = self.device();
        let x_value = self.value(x);
        let width = x_value.cols() / 2;
        let mut y = device.stale(x_value.rows(), width);
        let source = x_value.host();
        for_rows(device, y.host_mut(), width, |first, rows| geglu_forward(rows, &source[first * 2 * width..], width));
        self.push_like(x, y, Geglu(x))
    }
}

impl Op for Gelu {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        let x = backprop.value(self.0).host();
        for_elements(backprop.device, grad.host_mut(), |start, grad| gelu_backward(grad, &x[start..]));
        backprop.give(self.0, grad);
    }
}

impl Op for Geglu {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let x = backprop.value(self.0);
        let width = grad.cols();
        let mut dx = device.stale(grad.rows(), 2 * width);
        let (x, dy) = (x.host(), grad.host());
        for_rows(device, dx.host_mut(), 2 * width, |first, rows| {
            geglu_backward(rows, &x[first * 2 * width..], &dy[first * width..], width);
        });
        backprop.give(self.0, dx);
    }
}
