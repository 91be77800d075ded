//! The sum and the difference of two values, and a value in another format.

use crate::device::Device;
use crate::element::{Element, by_format};
use crate::ops::{add_scaled, for_elements};
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::{Format, Tensor};

struct Add(Var, Var);

struct Minus(Var, Var);

struct Convert(Var);

vectorized! {
    fn add<T: Element>(y: &mut [f32], left: &[f32], right: &[T]) {
        for ((y, left), right) in y.iter_mut().zip(left).zip(right) {
            *y = left + right.get();
        }
    }

    fn minus(y: &mut [f32], left: &[f32], right: &[f32]) {
        for ((y, left), right) in y.iter_mut().zip(left).zip(right) {
            *y = left - right;
        }
    }

    fn widen<T: Element>(to: &mut [f32], from: &[T]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.get();
        }
    }

    fn convert<T: Element>(to: &mut [T], from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = T::of(*from);
        }
    }
}

impl Tape<'_> {
    /// `a + b`, element by element; `b` may be of any format.
    pub fn add(&mut self, a: Var, b: Var) -> Var {
        let device = self.device();
        let (a_value, b_value) = (self.value(a), self.value(b));
        assert_eq!((a_value.rows(), a_value.cols()), (b_value.rows(), b_value.cols()), "terms have one shape");
        let mut y = device.stale(a_value.rows(), a_value.cols());
        let left = a_value.host();
        by_format!(b_value.format(), T => {
            let right = T::all(b_value);
            for_elements(device, y.host_mut(), |start, y| add::<T>(y, &left[start..], &right[start..]));
        });
        self.push_like(a, y, Add(a, b))
    }

    /// `a - b`, element by element, both in f32.
    pub fn minus(&mut self, a: Var, b: Var) -> Var {
        let device = self.device();
        let (a_value, b_value) = (self.value(a), self.value(b));
        assert_eq!((a_value.rows(), a_value.cols()), (b_value.rows(), b_value.cols()), "terms have one shape");
        let mut y = device.stale(a_value.rows(), a_value.cols());
        let (left, right) = (a_value.host(), b_value.host());
        for_elements(device, y.host_mut(), |start, y| minus(y, &left[start..], &right[start..]));
        self.push_like(a, y, Minus(a, b))
    }

    /// `x`, which is in f32, in `format`.
    pub fn convert(&mut self, x: Var, format: Format) -> Var {
        if self.value(x).format() == format {
            return x;
        }
        let y = narrowed(self.device(), self.value(x), format);
        self.push_like(x, y, Convert(x))
    }
}

fn narrowed(device: &Device, x: &Tensor, format: Format) -> Tensor {
    let mut y = device.stale_in(format, x.rows(), x.cols());
    by_format!(format, T => {
        for_elements(device, T::all_mut(&mut y), |start, to| convert::<T>(to, &x.host()[start..]));
    });
    y
}

impl Op for Minus {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let mut d_right = device.zeros(grad.rows(), grad.cols());
        add_scaled(device, d_right.host_mut(), grad.host(), -1.0);
        backprop.give(self.0, grad);
        backprop.give(self.1, d_right);
    }
}

impl Op for Convert {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let mut dx = backprop.device.stale(grad.rows(), grad.cols());
        by_format!(grad.format(), T => {
            let dy = T::all(&grad);
            for_elements(backprop.device, dx.host_mut(), |start, to| widen::<T>(to, &dy[start..]));
        });
        backprop.give(self.0, dx);
    }
}

impl Op for Add {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let d_right = narrowed(backprop.device, &grad, backprop.value(self.1).format());
        backprop.give(self.0, grad);
        backprop.give(self.1, d_right);
    }
}
