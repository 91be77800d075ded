//! What was computed, in order, so that gradients can be computed backwards.

use crate::device::Device;
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
    op: Option<Box<dyn Op>>,
}

/// A forward computation over fixed parameters. With `record`, it can be run backwards.
pub struct Tape<'a> {
    device: &'a Device,
    parameters: &'a Parameters,
    nodes: Vec<Node>,
    record: bool,
}

impl<'a> Tape<'a> {
    /// A tape that can be run backwards.
    pub fn recording(device: &'a Device, parameters: &'a Parameters) -> Self {
        Self { device, parameters, nodes: Vec::new(), record: true }
    }

    /// A tape for the forward pass alone.
    pub fn inference(device: &'a Device, parameters: &'a Parameters) -> Self {
        Self { device, parameters, nodes: Vec::new(), record: false }
    }

    /// Puts an input on the tape. No gradient flows beyond it.
    pub fn input(&mut self, value: Tensor) -> Var {
        self.nodes.push(Node { value, op: None });
        Var(self.nodes.len() - 1)
    }

    /// The value of `var`.
    pub fn value(&self, var: Var) -> &Tensor {
        &self.nodes[var.0].value
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

    pub(crate) fn push(&mut self, value: Tensor, op: impl Op + 'static) -> Var {
        let op: Option<Box<dyn Op>> = if self.record { Some(Box::new(op)) } else { None };
        self.nodes.push(Node { value, op });
        Var(self.nodes.len() - 1)
    }

    /// Runs the tape backwards from the scalar `loss` and adds `scale` times its gradient to `gradients`.
    ///
    /// # Panics
    /// When the tape does not record or `loss` is not a scalar.
    pub fn backward(self, loss: Var, scale: f32, gradients: &mut Gradients) {
        assert_eq!(self.value(loss).rows() * self.value(loss).cols(), 1, "a loss is a scalar");
        let seed = self.device.tensor(1, 1, &[scale]);
        self.backward_from(&mut [Some((loss, seed))], gradients);
    }

    /// Runs the tape backwards from gradients by any values and returns the gradient by each of `inputs`.
    pub fn backward_with(self, seeds: Vec<(Var, Tensor)>, inputs: &[Var], gradients: &mut Gradients) -> Vec<Tensor> {
        let mut seeds: Vec<_> = seeds.into_iter().map(Some).collect();
        let (device, mut grads) = (self.device, self.backward_from(&mut seeds, gradients));
        inputs.iter().map(|var| grads[var.0].take().unwrap_or_else(|| device.zeros(0, 0))).collect()
    }

    fn backward_from(self, seeds: &mut [Option<(Var, Tensor)>], gradients: &mut Gradients) -> Vec<Option<Tensor>> {
        assert!(self.record, "only a recording tape runs backwards");
        let Self { device, parameters, mut nodes, .. } = self;
        let mut grads: Vec<Option<Tensor>> = nodes.iter().map(|_| None).collect();
        for (var, grad) in seeds.iter_mut().filter_map(Option::take) {
            grads[var.0] = Some(grad);
        }
        while let Some(Node { value, op }) = nodes.pop() {
            let Some(op) = op else { continue };
            let Some(grad) = grads[nodes.len()].take() else { continue };
            let mut backprop = Backprop { device, parameters, gradients, nodes: &nodes, grads: &mut grads };
            op.backward(&mut backprop, &value, grad);
        }
        grads
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
}

impl<'a> Backprop<'a> {
    /// The value of an input.
    pub(crate) fn value(&self, var: Var) -> &'a Tensor {
        &self.nodes[var.0].value
    }

    /// Adds `grad` to the gradient by `var`.
    pub(crate) fn give(&mut self, var: Var, grad: Tensor) {
        match &mut self.grads[var.0] {
            Some(sum) => crate::ops::add_scaled(self.device, sum.host_mut(), grad.host(), 1.0),
            empty => *empty = Some(grad),
        }
    }

    /// The gradient by a parameter, to be added to.
    pub(crate) fn gradient(&mut self, id: ParameterId) -> &mut [f32] {
        self.gradients.of_mut(self.parameters, id)
    }
}
