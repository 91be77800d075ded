//! The sum of two values.

use crate::ops::for_elements;
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct Add(Var, Var);

vectorized! {
    fn add(y: &mut [f32], left: &[f32], right: &[f32]) {
        for ((y, left), right) in y.iter_mut().zip(left).zip(right) {
            *y = left + right;
        }
    }
}

impl Tape<'_> {
    /// `a + b`, element by element.
    pub fn add(&mut self, a: Var, b: Var) -> Var {
        let device = self.device();
        let (a_value, b_value) = (self.value(a), self.value(b));
        assert_eq!((a_value.rows(), a_value.cols()), (b_value.rows(), b_value.cols()), "terms have one shape");
        let mut y = device.stale(a_value.rows(), a_value.cols());
        let (left, right) = (a_value.host(), b_value.host());
        for_elements(device, y.host_mut(), |start, y| add(y, &left[start..], &right[start..]));
        self.push_like(a, y, Add(a, b))
    }
}

impl Op for Add {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let copy = backprop.device.copy(&grad);
        backprop.give(self.0, copy);
        backprop.give(self.1, grad);
    }
}
