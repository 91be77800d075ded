//! What was computed, in order, so that gradients can be computed backwards.

use std::fmt::{Debug, Formatter, Result};
use std::sync::{Arc, Mutex};

use smallbox::space::S16;
use smallbox::{SmallBox, smallbox};

use crate::device::Device;
use crate::ops::{Sequences, for_ranges};
use crate::parameters::{Gradients, ParameterId, Parameters};
use crate::tensor::Tensor;

/// A value on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var(usize);

/// An operation that was recorded: what its backward pass needs beside inputs and output.
pub trait Op: Send {
    /// Adds to the gradients of the inputs and parameters, given the output and the gradient of the loss by it.
    fn backward(&self, backprop: &mut Backprop<'_>, output: &Tensor, grad: Tensor);
}

struct Node {
    value: Tensor,
    /// In the node itself, where it is small.
    op: Option<SmallBox<dyn Op, S16>>,
    /// Blocks of rows that gradients by parameters are summed over one by one; `None` is all rows at once.
    blocks: Option<Sequences>,
}

impl Node {
    fn blocks(&self) -> Sequences {
        self.blocks.clone().unwrap_or_else(|| Sequences::of_lengths([self.value.rows()]))
    }
}

/// What is on a tape and the gradients by it; its memory goes to the next tape.
struct Values {
    nodes: Vec<Node>,
    grads: Vec<Option<Tensor>>,
    home: Arc<SpareValues>,
}

/// Memory of tapes that are done.
#[derive(Default)]
pub(crate) struct SpareValues(Mutex<Vec<Spare>>);

type Spare = (Vec<Node>, Vec<Option<Tensor>>);

impl Values {
    fn new(home: &Arc<SpareValues>) -> Self {
        let (nodes, grads) = home.0.lock().expect("no holder panics").pop().unwrap_or_default();
        Self { nodes, grads, home: Arc::clone(home) }
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        self.nodes.clear();
        self.grads.clear();
        let spare = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.grads));
        self.home.0.lock().expect("no holder panics").push(spare);
    }
}

impl Debug for SpareValues {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("SpareValues")
    }
}

/// A forward computation over fixed parameters. With gradients to add to, it can be run backwards.
pub struct Tape<'a> {
    device: &'a Device,
    parameters: &'a Parameters,
    gradients: Option<&'a mut Gradients>,
    values: Values,
    record: bool,
    /// Whether weights are kept packed for other passes over the same weights.
    keeps_packs: bool,
}

impl<'a> Tape<'a> {
    /// A tape that can be run backwards; what it finds is added to `gradients`.
    pub fn recording(device: &'a Device, parameters: &'a Parameters, gradients: &'a mut Gradients) -> Self {
        Self {
            device,
            parameters,
            gradients: Some(gradients),
            values: Values::new(device.spare_values()),
            record: true,
            keeps_packs: false,
        }
    }

    /// The same, for one of several passes before the weights change: they are packed once for all.
    pub fn keeping_packs(mut self, keeps_packs: bool) -> Self {
        self.keeps_packs = keeps_packs;
        self
    }

    /// A tape for the forward pass alone. It keeps weights packed, for others after it.
    pub fn inference(device: &'a Device, parameters: &'a Parameters) -> Self {
        Self {
            device,
            parameters,
            gradients: None,
            values: Values::new(device.spare_values()),
            record: false,
            keeps_packs: true,
        }
    }

    /// A value in f32 of which `part(tape, i)` computes the rows of range `i`, each on a tape of its own, side by side. What
    /// small parts compute stays in the cache of the core that computes it.
    ///
    /// # Panics
    /// When the tape records, or when a part has other rows or columns.
    pub fn side_by_side(
        &mut self,
        ranges: &Sequences,
        cols: usize,
        part: impl Fn(&mut Tape<'a>, usize) -> Var + Sync,
    ) -> Var {
        assert!(!self.record, "only a forward pass goes part by part");
        let (device, parameters) = (self.device, self.parameters);
        let mut y = device.stale(ranges.num_rows(), cols);
        for_ranges(device, y.host_mut(), cols, ranges, |idx, rows| {
            let mut tape = Tape::inference(device, parameters);
            let out = part(&mut tape, idx);
            rows.copy_from_slice(tape.value(out).host());
        });
        self.input(y)
    }

    /// Puts an input on the tape. No gradient flows beyond it.
    pub fn input(&mut self, value: Tensor) -> Var {
        self.values.nodes.push(Node { value, op: None, blocks: None });
        Var(self.values.nodes.len() - 1)
    }

    /// Cuts the rows of `var`, and of all that is computed from them row by row, into blocks. Gradients by parameters
    /// are summed block after block, so that a batch has the same gradient, bit for bit, however its blocks are spread
    /// over tapes.
    ///
    /// # Panics
    /// When the blocks do not cover the rows.
    pub fn cut(&mut self, var: Var, blocks: Sequences) {
        assert_eq!(blocks.num_rows(), self.value(var).rows(), "blocks cover the rows");
        self.values.nodes[var.0].blocks = Some(blocks);
    }

    /// The value of `var`.
    pub fn value(&self, var: Var) -> &Tensor {
        &self.values.nodes[var.0].value
    }

    /// Whether the tape can be run backwards.
    pub fn is_recording(&self) -> bool {
        self.record
    }

    /// The device that computes.
    pub fn device(&self) -> &'a Device {
        self.device
    }

    /// The parameters of the computation.
    pub fn parameters(&self) -> &'a Parameters {
        self.parameters
    }

    pub(crate) fn keeps_packs(&self) -> bool {
        self.keeps_packs
    }

    /// Whether the tape is recorded for the gradient by a parameter.
    pub fn learns(&self, id: ParameterId) -> bool {
        self.record && self.gradients.as_ref().is_some_and(|gradients| gradients.wants(self.parameters, id))
    }

    /// As [`Backprop::blocks`].
    pub(crate) fn blocks(&self, var: Var) -> Sequences {
        self.values.nodes[var.0].blocks()
    }

    /// A value, and the gradients that are added to on a tape that records.
    pub(crate) fn value_and_gradients(&mut self, var: Var) -> (&Tensor, Option<&mut Gradients>) {
        (&self.values.nodes[var.0].value, self.gradients.as_deref_mut().filter(|_| self.record))
    }

    pub(crate) fn push(&mut self, value: Tensor, op: impl Op + 'static) -> Var {
        self.push_cut(value, op, None)
    }

    /// Puts a value on the tape whose row `i` depends on row `i` of `like` alone, or on its sequence.
    pub(crate) fn push_like(&mut self, like: Var, value: Tensor, op: impl Op + 'static) -> Var {
        let blocks = self.values.nodes[like.0].blocks.clone();
        self.push_cut(value, op, blocks)
    }

    pub(crate) fn push_cut(&mut self, value: Tensor, op: impl Op + 'static, blocks: Option<Sequences>) -> Var {
        let op: Option<SmallBox<dyn Op, S16>> = if self.record { Some(smallbox!(op)) } else { None };
        self.values.nodes.push(Node { value, op, blocks });
        Var(self.values.nodes.len() - 1)
    }

    /// Computes `part(x)` and keeps nothing between. Where the tape records, the backward pass computes it again
    /// (activation checkpointing, Chen et al. 2016): less memory for one more forward pass, and not a bit of difference.
    pub fn recomputed(&mut self, x: Var, part: impl Fn(&mut Tape<'_>, Var) -> Var + Send + 'static) -> Var {
        let (start, record) = (self.values.nodes.len(), std::mem::replace(&mut self.record, false));
        let y = part(self, x);
        self.record = record;
        assert_eq!(y.0 + 1, self.values.nodes.len(), "a part ends with its result");
        let Some(Node { value, blocks, .. }) = self.values.nodes.pop() else { return x };
        self.values.nodes.truncate(start);
        self.push_cut(value, Recomputed { x, part }, blocks)
    }

    /// Computes `part(x)` for the forward pass alone: no gradient flows into it.
    pub fn unrecorded(&mut self, x: Var, part: impl FnOnce(&mut Self, Var) -> Var) -> Var {
        let (start, record) = (self.values.nodes.len(), std::mem::replace(&mut self.record, false));
        let y = part(self, x);
        self.record = record;
        assert_eq!(y.0 + 1, self.values.nodes.len(), "a part ends with its result");
        let Some(node) = self.values.nodes.pop() else { return x };
        self.values.nodes.truncate(start);
        self.values.nodes.push(node);
        Var(start)
    }

    /// Runs the tape backwards from the scalar `loss`.
    ///
    /// # Panics
    /// When the tape does not record or `loss` is not a scalar.
    pub fn backward(self, loss: Var) {
        assert_eq!(self.value(loss).rows() * self.value(loss).cols(), 1, "a loss is a scalar");
        let seed = self.device.ones(1, 1);
        self.run_back(loss, seed);
    }

    /// Runs the tape backwards from the gradient `seed` by `output` and returns the gradient by each of `inputs`.
    ///
    /// # Panics
    /// When the tape does not record.
    pub fn backward_with(self, output: Var, seed: Tensor, inputs: &[Var]) -> Vec<Tensor> {
        let device = self.device;
        let mut values = self.run_back(output, seed);
        let mut grad = |var: &Var| values.grads[var.0].take().unwrap_or_else(|| device.zeros(0, 0));
        inputs.iter().map(&mut grad).collect()
    }

    /// Runs the tape backwards; what is left are the gradients by inputs.
    fn run_back(self, output: Var, seed: Tensor) -> Values {
        let Self { device, parameters, gradients: Some(gradients), mut values, record: true, keeps_packs } = self
        else {
            panic!("only a recording tape runs backwards")
        };
        values.grads.resize_with(values.nodes.len(), || None);
        values.grads[output.0] = Some(seed);
        while let Some(Node { value, op, .. }) = values.nodes.pop() {
            let Some(op) = op else { continue };
            let Values { nodes, grads, .. } = &mut values;
            let Some(grad) = grads[nodes.len()].take() else { continue };
            let mut backprop = Backprop { device, parameters, gradients, nodes, grads, keeps_packs };
            op.backward(&mut backprop, &value, grad);
        }
        values
    }
}

/// The state of a backward pass, as an operation sees it.
pub struct Backprop<'a> {
    /// The device that computes.
    pub(crate) device: &'a Device,
    /// The parameters of the computation.
    pub(crate) parameters: &'a Parameters,
    gradients: &'a mut Gradients,
    nodes: &'a [Node],
    grads: &'a mut [Option<Tensor>],
    /// As the tape's.
    pub(crate) keeps_packs: bool,
}

impl<'a> Backprop<'a> {
    /// The value of an input.
    pub(crate) fn value(&self, var: Var) -> &'a Tensor {
        &self.nodes[var.0].value
    }

    /// The rows of `var` whose part of a parameter's gradient is summed on its own, in order.
    pub(crate) fn blocks(&self, var: Var) -> Sequences {
        self.nodes[var.0].blocks()
    }

    /// Adds `grad` to the gradient by `var`.
    pub(crate) fn give(&mut self, var: Var, grad: Tensor) {
        debug_assert_eq!(grad.format(), self.nodes[var.0].value.format(), "a gradient has the format of its value");
        match &mut self.grads[var.0] {
            Some(sum) => crate::ops::add_to(self.device, sum, &grad),
            empty => *empty = Some(grad),
        }
    }

    /// The gradient by `var` so far, to be added to and given back with [`Self::put_back`].
    pub(crate) fn take(&mut self, var: Var) -> Tensor {
        let Node { value, .. } = &self.nodes[var.0];
        self.grads[var.0].take().unwrap_or_else(|| self.device.zeros(value.rows(), value.cols()))
    }

    /// Ends what [`Self::take`] began.
    pub(crate) fn put_back(&mut self, var: Var, grad: Tensor) {
        self.grads[var.0] = Some(grad);
    }

    /// The gradient by a parameter, to be added to, where somebody uses it.
    pub(crate) fn gradient(&mut self, id: ParameterId) -> Option<&mut [f32]> {
        self.gradients.of_mut(self.parameters, id)
    }

    /// All gradients by parameters.
    pub(crate) fn gradients(&mut self) -> &mut Gradients {
        self.gradients
    }
}

struct Recomputed<F> {
    x: Var,
    part: F,
}

impl<F: Fn(&mut Tape<'_>, Var) -> Var + Send> Op for Recomputed<F> {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let mut tape = Tape::recording(backprop.device, backprop.parameters, backprop.gradients)
            .keeping_packs(backprop.keeps_packs);
        let x = tape.input(backprop.device.copy(&backprop.nodes[self.x.0].value));
        tape.values.nodes[x.0].blocks.clone_from(&backprop.nodes[self.x.0].blocks);
        let y = (self.part)(&mut tape, x);
        let dx = tape.run_back(y, grad).grads[x.0].take();
        dx.into_iter().for_each(|dx| backprop.give(self.x, dx));
    }
}
