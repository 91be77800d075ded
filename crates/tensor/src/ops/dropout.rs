//! Dropout (Srivastava et al. 2014), with a mask that depends on its stream and the element's place alone.

use arable_core::{Probability, Stream};

use crate::device::Device;
use crate::element::{Element, by_format};
use crate::ops::for_rows;
use crate::ops::rows::RowIndex;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// Which elements are dropped: those of row number `i` depend on `stream.at(step, i)` alone.
#[derive(Clone, Debug)]
pub struct DropoutMask {
    /// Probability of zeroing an element.
    pub p: Probability,
    /// Where the masks come from.
    pub stream: Stream,
    /// The place in the stream.
    pub step: u64,
    /// The number of the first row, where the rows are a part of a larger batch.
    pub first_row: usize,
    /// Which rows of that part there are, counted from its first one; `None` are all.
    pub rows: Option<RowIndex>,
}

struct Dropout {
    x: Var,
    mask: DropoutMask,
}

impl DropoutMask {
    /// The number of row `idx`.
    fn number(&self, idx: usize) -> u64 {
        (self.first_row + self.rows.as_ref().map_or(idx, |rows| rows[idx])) as u64
    }

    /// Multiplies the kept elements by `1 / (1 - p)` and the others by 0.
    fn apply(&self, device: &Device, values: &mut Tensor) {
        let (cols, p) = (values.cols(), self.p.get() as f32);
        let keep = 1.0 / (1.0 - p);
        by_format!(values.format(), T => for_rows(device, T::all_mut(values), cols, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
                let mut draws = self.stream.at(self.step, self.number(first + i));
                for value in row {
                    *value = T::of(value.get() * if (draws.uniform() as f32) < p { 0.0 } else { keep });
                }
            }
        }));
    }
}

impl Tape<'_> {
    /// Zeroes each element with the mask's probability and scales the rest so that the mean stays.
    pub fn dropout(&mut self, x: Var, mask: DropoutMask) -> Var {
        if mask.p.get() == 0.0 {
            return x;
        }
        let mut y = self.device().copy(self.value(x));
        mask.apply(self.device(), &mut y);
        self.push_like(x, y, Dropout { x, mask })
    }
}

impl Op for Dropout {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        self.mask.apply(backprop.device, &mut grad);
        backprop.give(self.x, grad);
    }
}
