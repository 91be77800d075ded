//! Activations and their gated forms.

use crate::element::{Element, by_format};
use crate::math::{gelu, gelu_tanh_with_slope, gelu_with_slope, sigmoid, silu_with_slope, tanh_with_slope};
use crate::ops::{for_elements, for_rows};
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// What bends the lines of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x Phi(x)` by the error function (Hendrycks, Gimpel 2016).
    Gelu,
    /// Its approximation by the hyperbolic tangent, from the same paper.
    GeluTanh,
    /// `x / (1 + e^-x)` (Elfwing et al. 2017; "swish").
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

/// An activation as code that is compiled into loops.
trait Curve: Copy + Send + Sync + 'static {
    fn value(self, x: f32) -> f32;
    /// The value and the derivative.
    fn with_slope(self, x: f32) -> (f32, f32);
}

/// Defines the curve of each activation.
macro_rules! curves {
    ($($name:ident: $value:expr, $with_slope:expr;)*) => {
        $(
            #[derive(Clone, Copy)]
            struct $name;

            impl Curve for $name {
                #[inline(always)]
                fn value(self, x: f32) -> f32 {
                    $value(x)
                }

                #[inline(always)]
                fn with_slope(self, x: f32) -> (f32, f32) {
                    $with_slope(x)
                }
            }
        )*

        /// Runs `$body` with `$curve` as the curve of `$activation`.
        macro_rules! by_curve {
            ($activation:expr, $curve:ident => $body:expr) => {
                match $activation {
                    $(Activation::$name => {
                        let $curve = $name;
                        $body
                    })*
                }
            };
        }
    };
}

curves! {
    Gelu: gelu, gelu_with_slope;
    GeluTanh: |x| gelu_tanh_with_slope(x).0, gelu_tanh_with_slope;
    Silu: |x: f32| x * sigmoid(x), silu_with_slope;
    Tanh: |x| tanh_with_slope(x).0, tanh_with_slope;
}

struct Activate {
    x: Var,
    activation: Activation,
}

struct Gated {
    x: Var,
    activation: Activation,
}

vectorized! {
    fn forward<T: Element, C: Curve>(y: &mut [T], x: &[T], curve: C) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = T::of(curve.value(x.get()));
        }
    }

    fn backward<T: Element, C: Curve>(grad: &mut [T], x: &[T], curve: C) {
        for (grad, x) in grad.iter_mut().zip(x) {
            *grad = T::of(grad.get() * curve.with_slope(x.get()).1);
        }
    }

    fn gated_forward<T: Element, C: Curve>(y: &mut [T], x: &[T], width: usize, curve: C) {
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
            let (input, gate) = x.split_at(width);
            for ((y, input), gate) in y.iter_mut().zip(input).zip(gate) {
                *y = T::of(curve.value(input.get()) * gate.get());
            }
        }
    }

    fn gated_backward<T: Element, C: Curve>(dx: &mut [T], x: &[T], dy: &[T], width: usize, curve: C) {
        let rows = dx.chunks_exact_mut(2 * width).zip(x.chunks_exact(2 * width)).zip(dy.chunks_exact(width));
        for ((dx, x), dy) in rows {
            let ((input, gate), (d_input, d_gate)) = (x.split_at(width), dx.split_at_mut(width));
            let inputs = input.iter().zip(gate).zip(dy);
            for (((input, gate), dy), (d_input, d_gate)) in inputs.zip(d_input.iter_mut().zip(d_gate)) {
                let (value, slope) = curve.with_slope(input.get());
                *d_input = T::of(dy.get() * gate.get() * slope);
                *d_gate = T::of(dy.get() * value);
            }
        }
    }
}

impl Tape<'_> {
    /// `activation(x)`, element by element, in the format of `x`.
    pub fn activation(&mut self, x: Var, activation: Activation) -> Var {
        let device = self.device();
        let x_value = self.value(x);
        let mut y = device.stale_in(x_value.format(), x_value.rows(), x_value.cols());
        by_format!(x_value.format(), T => by_curve!(activation, curve => {
            let x = T::all(x_value);
            for_elements(device, T::all_mut(&mut y), |start, y| forward(y, &x[start..], curve));
        }));
        self.push_like(x, y, Activate { x, activation })
    }

    /// `x [n, 2 width] -> activation(first half) * second half [n, width]` (Shazeer 2020), in the format of `x`.
    pub fn gated(&mut self, x: Var, activation: Activation) -> Var {
        let device = self.device();
        let x_value = self.value(x);
        let width = x_value.cols() / 2;
        let mut y = device.stale_in(x_value.format(), x_value.rows(), width);
        by_format!(x_value.format(), T => by_curve!(activation, curve => {
            let x = T::all(x_value);
            for_rows(device, T::all_mut(&mut y), width, |first, y| {
                gated_forward(y, &x[first * 2 * width..], width, curve);
            });
        }));
        self.push_like(x, y, Gated { x, activation })
    }
}

impl Op for Activate {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        let (device, x) = (backprop.device, backprop.value(self.x));
        by_format!(x.format(), T => by_curve!(self.activation, curve => {
            let x = T::all(x);
            for_elements(device, T::all_mut(&mut grad), |start, grad| backward(grad, &x[start..], curve));
        }));
        backprop.give(self.x, grad);
    }
}

impl Op for Gated {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let x = backprop.value(self.x);
        let width = grad.cols();
        let mut dx = device.stale_in(x.format(), grad.rows(), 2 * width);
        by_format!(x.format(), T => by_curve!(self.activation, curve => {
            let (x, dy) = (T::all(x), T::all(&grad));
            for_rows(device, T::all_mut(&mut dx), 2 * width, |first, dx| {
                gated_backward(dx, &x[first * 2 * width..], &dy[first * width..], width, curve);
            });
        }));
        backprop.give(self.x, dx);
    }
}
