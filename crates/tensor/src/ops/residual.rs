//! The sum of two values.

use crate::element::{Element, by_format};
use crate::ops::for_elements;
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct Add(Var, Var);

vectorized! {
    fn add<T: Element>(y: &mut [f32], left: &[f32], right: &[T]) {
        for ((y, left), right) in y.iter_mut().zip(left).zip(right) {
            *y = left + right.get();
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
}

impl Op for Add {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let mut d_right = device.stale_in(backprop.value(self.1).format(), grad.rows(), grad.cols());
        by_format!(d_right.format(), T => {
            for_elements(device, T::all_mut(&mut d_right), |start, to| convert::<T>(to, &grad.host()[start..]));
        });
        backprop.give(self.0, grad);
        backprop.give(self.1, d_right);
    }
}
