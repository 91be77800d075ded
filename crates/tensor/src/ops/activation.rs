//! GELU and its gated form.

use crate::element::{Element, by_format};
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

    fn geglu_forward<T: Element>(y: &mut [T], x: &[T], width: usize) {
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
            let (input, gate) = x.split_at(width);
            for ((y, input), gate) in y.iter_mut().zip(input).zip(gate) {
                *y = T::of(gelu(input.get()) * gate.get());
            }
        }
    }

    fn geglu_backward<T: Element>(dx: &mut [T], x: &[T], dy: &[T], width: usize) {
        let rows = dx.chunks_exact_mut(2 * width).zip(x.chunks_exact(2 * width)).zip(dy.chunks_exact(width));
        for ((dx, x), dy) in rows {
            let ((input, gate), (d_input, d_gate)) = (x.split_at(width), dx.split_at_mut(width));
            let inputs = input.iter().zip(gate).zip(dy);
            for (((input, gate), dy), (d_input, d_gate)) in inputs.zip(d_input.iter_mut().zip(d_gate)) {
                let (value, slope) = gelu_with_slope(input.get());
                *d_input = T::of(dy.get() * gate.get() * slope);
                *d_gate = T::of(dy.get() * value);
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
        let mut y = device.stale_in(x_value.format(), x_value.rows(), width);
        by_format!(x_value.format(), T => {
            let x = T::all(x_value);
            for_rows(device, T::all_mut(&mut y), width, |first, y| geglu_forward::<T>(y, &x[first * 2 * width..], width));
        });
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
        let mut dx = device.stale_in(x.format(), grad.rows(), 2 * width);
        by_format!(x.format(), T => {
            let (x, dy) = (T::all(x), T::all(&grad));
            for_rows(device, T::all_mut(&mut dx), 2 * width, |first, dx| {
                geglu_backward::<T>(dx, &x[first * 2 * width..], &dy[first * width..], width);
            });
        });
        backprop.give(self.0, dx);
    }
}
