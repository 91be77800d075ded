//! Weights and their gradients, each in one flat buffer, so that optimizer, digest and checkpoint are single passes.

use std::collections::BTreeMap;
use std::mem::take;
use std::ops::Range;

use arable_core::Digest;

/// Which parameter of a [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParameterId(usize);

/// Name and shape of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// The name in weight files.
    pub name: String,
    /// The shape in weight files: one or two dimensions.
    pub shape: Vec<usize>,
    /// Whether weight decay applies (matrices: yes; norms and biases: no).
    pub decay: bool,
}

impl ParameterSpec {
    /// A matrix under weight decay.
    pub fn matrix(name: impl Into<String>, rows: usize, cols: usize) -> Self {
        Self { name: name.into(), shape: vec![rows, cols], decay: true }
    }

    /// A vector without weight decay.
    pub fn vector(name: impl Into<String>, len: usize) -> Self {
        Self { name: name.into(), shape: vec![len], decay: false }
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// All weights of a model in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    specs: Vec<ParameterSpec>,
    starts: Vec<usize>,
    values: Vec<f32>,
}

impl Parameters {
    /// Adds a parameter with its initial values.
    ///
    /// # Panics
    /// When the number of values is not that of the shape.
    pub fn add(&mut self, spec: ParameterSpec, values: &[f32]) -> ParameterId {
        assert_eq!(spec.len(), values.len(), "values of {} fill its shape", spec.name);
        self.starts.push(self.values.len());
        self.values.extend_from_slice(values);
        self.specs.push(spec);
        ParameterId(self.specs.len() - 1)
    }

    /// Every parameter in order.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &ParameterSpec, &[f32])> {
        self.specs.iter().enumerate().map(|(idx, spec)| (ParameterId(idx), spec, self.value(ParameterId(idx))))
    }

    /// The parameter called `name`.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.specs.iter().position(|spec| spec.name == name).map(ParameterId)
    }

    /// Name and shape.
    pub fn spec(&self, id: ParameterId) -> &ParameterSpec {
        &self.specs[id.0]
    }

    /// The elements of one parameter.
    pub fn value(&self, id: ParameterId) -> &[f32] {
        &self.values[self.range(id)]
    }

    /// The elements of one parameter, to be overwritten.
    pub fn value_mut(&mut self, id: ParameterId) -> &mut [f32] {
        let range = self.range(id);
        &mut self.values[range]
    }

    /// The number of elements of all parameters.
    pub fn num_elements(&self) -> usize {
        self.values.len()
    }

    /// Every element of every parameter, in order.
    pub fn flat(&self) -> &[f32] {
        &self.values
    }

    /// Every element of every parameter, to be overwritten.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The digest of all weights, bit for bit.
    pub fn digest(&self) -> Digest {
        Digest::of(bytemuck::cast_slice(&self.values))
    }

    pub(crate) fn range(&self, id: ParameterId) -> Range<usize> {
        let start = self.starts[id.0];
        start..start + self.specs[id.0].len()
    }

    /// `(range of elements, whether decay applies)` of every parameter, in order.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (Range<usize>, bool)> {
        (0..self.specs.len()).map(|idx| (self.range(ParameterId(idx)), self.specs[idx].decay))
    }
}

/// The gradient of a loss by every weight, laid out as the weights are.
#[derive(Clone, Debug)]
pub struct Gradients {
    dense: Vec<f32>,
    scattered: BTreeMap<ParameterId, Scattered>,
}

/// Gradients by some rows of a table. They have sums of their own: a table that is also a decoder gets gradients in two
/// ways, and one sum over both would depend on how a batch is spread over tapes.
#[derive(Clone, Debug)]
pub(crate) struct Scattered {
    /// As the table: `[rows, cols]`, zero outside the touched rows.
    pub(crate) sums: Vec<f32>,
    /// Which rows were added to.
    pub(crate) touched: Vec<bool>,
}

impl Gradients {
    /// Zero for every weight of `parameters`.
    pub fn zeros(parameters: &Parameters) -> Self {
        Self { dense: vec![0.0; parameters.num_elements()], scattered: BTreeMap::new() }
    }

    /// The gradient by one parameter.
    pub fn of(&mut self, parameters: &Parameters, id: ParameterId) -> &[f32] {
        self.gather(parameters);
        &self.dense[parameters.range(id)]
    }

    /// Every element, in the order of the weights.
    pub fn flat(&mut self, parameters: &Parameters) -> &mut [f32] {
        self.gather(parameters);
        &mut self.dense
    }

    pub(crate) fn of_mut(&mut self, parameters: &Parameters, id: ParameterId) -> &mut [f32] {
        &mut self.dense[parameters.range(id)]
    }

    pub(crate) fn scattered_mut(&mut self, parameters: &Parameters, id: ParameterId) -> &mut Scattered {
        let spec = parameters.spec(id);
        let empty = || Scattered { sums: vec![0.0; spec.len()], touched: vec![false; spec.shape[0]] };
        self.scattered.entry(id).or_insert_with(empty)
    }

    /// Moves what was scattered to where it belongs.
    fn gather(&mut self, parameters: &Parameters) {
        for (&id, Scattered { sums, touched }) in &mut self.scattered {
            let cols = parameters.spec(id).shape[1];
            let rows = self.dense[parameters.range(id)].chunks_exact_mut(cols).zip(sums.chunks_exact_mut(cols));
            for ((dense, sums), touched) in rows.zip(touched) {
                if take(touched) {
                    dense.iter_mut().zip(sums).for_each(|(dense, sum)| *dense += take(sum));
                }
            }
        }
    }
}
