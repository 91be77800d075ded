//! Dropout (Srivastava et al. 2014), with a mask that depends on its stream and the element's place alone.

use arable_core::{Probability, Stream};

use crate::ops::{ELEMENTS_PER_JOB, for_elements};
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

struct Dropout {
    x: Var,
    p: f32,
    stream: Stream,
    step: u64,
}

/// Multiplies the kept elements by `1 / (1 - p)` and the others by 0.
fn apply(device: &crate::Device, values: &mut [f32], p: f32, stream: Stream, step: u64) {
    let keep = 1.0 / (1.0 - p);
    for_elements(device, values, |start, values| {
        let mut draws = stream.at(step, (start / ELEMENTS_PER_JOB) as u64);
        for value in values {
            *value *= if (draws.uniform() as f32) < p { 0.0 } else { keep };
        }
    });
}

impl Tape<'_> {
    /// Zeroes each element with probability `p` and scales the rest so that the mean stays. The mask is that of
    /// `stream` at `step`. Without effect on a tape that does not record.
    pub fn dropout(&mut self, x: Var, p: Probability, stream: Stream, step: u64) -> Var {
        let p = p.get() as f32;
        if p == 0.0 || !self.is_recording() {
            return x;
        }
        let mut y = self.device().copy(self.value(x));
        apply(self.device(), y.host_mut(), p, stream, step);
        self.push(y, Dropout { x, p, stream, step })
    }
}

impl Op for Dropout {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        apply(backprop.device, grad.host_mut(), self.p, self.stream, self.step);
        backprop.give(self.x, grad);
    }
}
