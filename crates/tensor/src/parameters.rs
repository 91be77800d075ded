//! Weights and their gradients, each in one flat buffer, so that optimizer, digest and checkpoint are single passes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;

use arable_core::{Digest, Digester};
use rayon::prelude::*;

use crate::device::Device;
use crate::kernels::MatRef;
use crate::ops::ELEMENTS_PER_JOB;
use crate::packs::{Packs, Right, Side};

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

/// All weights of a model: those that may change in one buffer, and frozen ones in another that clones share and nobody
/// writes to.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    specs: Vec<ParameterSpec>,
    places: Vec<Place>,
    values: Vec<f32>,
    packs: Packs,
    frozen: Arc<Frozen>,
}

/// What clones share.
#[derive(Debug, Default)]
struct Frozen {
    values: Vec<f32>,
    packs: Packs,
}

/// Where a parameter begins.
#[derive(Clone, Copy, Debug)]
enum Place {
    Own(usize),
    Frozen(usize),
}

impl Parameters {
    /// Adds a parameter with its initial values.
    ///
    /// # Panics
    /// When the number of values is not that of the shape.
    pub fn add(&mut self, spec: ParameterSpec, values: &[f32]) -> ParameterId {
        assert_eq!(spec.len(), values.len(), "values of {} fill its shape", spec.name);
        self.add_filled(spec, |place| place.copy_from_slice(values))
    }

    /// Adds a parameter whose initial values, zeros before, `fill` writes.
    pub fn add_filled(&mut self, spec: ParameterSpec, fill: impl FnOnce(&mut [f32])) -> ParameterId {
        let start = self.values.len();
        self.places.push(Place::Own(start));
        self.values.resize(start + spec.len(), 0.0);
        fill(&mut self.values[start..]);
        self.specs.push(spec);
        ParameterId(self.specs.len() - 1)
    }

    /// Freezes the parameters that `which` chooses, for good: they have no gradient and no optimizer state, they cannot be
    /// written to, and clones share their memory. What was frozen before stays so.
    pub fn freeze(&mut self, which: impl Fn(&ParameterSpec) -> bool) {
        let stays: Vec<bool> = (0..self.specs.len()).map(|idx| self.is_frozen(ParameterId(idx))).collect();
        if stays.iter().zip(&self.specs).all(|(stays, spec)| *stays || !which(spec)) {
            return;
        }
        let (mut values, mut frozen) = (Vec::new(), Vec::new());
        let mut places = Vec::with_capacity(self.places.len());
        for (idx, stays) in stays.into_iter().enumerate() {
            let is_frozen = stays || which(&self.specs[idx]);
            let to = if is_frozen { &mut frozen } else { &mut values };
            places.push(if is_frozen { Place::Frozen(to.len()) } else { Place::Own(to.len()) });
            to.extend_from_slice(self.value(ParameterId(idx)));
        }
        self.frozen = Arc::new(Frozen { values: frozen, packs: Packs::default() });
        (self.places, self.values, self.packs) = (places, values, Packs::default());
    }

    /// Whether a parameter is frozen.
    pub fn is_frozen(&self, id: ParameterId) -> bool {
        matches!(self.places[id.0], Place::Frozen(_))
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
        let len = self.specs[id.0].len();
        match self.places[id.0] {
            Place::Own(start) => &self.values[start..start + len],
            Place::Frozen(start) => &self.frozen.values[start..start + len],
        }
    }

    /// The elements of one parameter, to be overwritten.
    ///
    /// # Panics
    /// When the parameter is frozen.
    pub fn value_mut(&mut self, id: ParameterId) -> &mut [f32] {
        let range = self.range(id).expect("frozen weights stay as they are");
        self.packs.outdate(|other| other == id);
        &mut self.values[range]
    }

    /// The number of elements of all parameters.
    pub fn num_elements(&self) -> usize {
        self.values.len() + self.frozen.values.len()
    }

    /// The number of elements that are not frozen.
    pub fn num_free(&self) -> usize {
        self.values.len()
    }

    /// Every element that is not frozen, in order.
    pub fn flat(&self) -> &[f32] {
        &self.values
    }

    /// Every element that is not frozen, to be overwritten.
    pub fn flat_mut(&mut self) -> &mut [f32] {
        self.packs.outdate(|_| true);
        &mut self.values
    }

    /// The digest of all weights, bit for bit.
    pub fn digest(&self) -> Digest {
        self.digest_of(|_| true)
    }

    /// The digest of the weights that `which` chooses, bit for bit.
    pub fn digest_of(&self, which: impl Fn(&ParameterSpec) -> bool) -> Digest {
        let mut digester = Digester::default();
        for (_, _, values) in self.iter().filter(|(_, spec, _)| which(spec)) {
            digester.update(bytemuck::cast_slice(values));
        }
        digester.finish()
    }

    /// The weight `[out, in]` as a right operand of products on `device`: packed if it already is, or if it is to be kept for
    /// other products of the same weights.
    pub(crate) fn right(&self, device: &Device, id: ParameterId, side: Side, keep: bool) -> Right<'_> {
        let shape = &self.spec(id).shape;
        let w = MatRef::new(self.value(id), shape[0], shape[1]);
        let matrix = if side == Side::Forward { w.t() } else { w };
        let (key, isa) = ((id, side), device.isa());
        let packs = if self.is_frozen(id) { &self.frozen.packs } else { &self.packs };
        match packs.find(key, isa) {
            Some(packed) => Right::Packed(packed),
            None if keep && isa.packs() => Right::Packed(packs.replace(key, |place| device.pack(place, matrix))),
            None => Right::Plain(matrix),
        }
    }

    /// Where a parameter lies among those that are not frozen; `None` where it is frozen.
    pub(crate) fn range(&self, id: ParameterId) -> Option<Range<usize>> {
        match self.places[id.0] {
            Place::Own(start) => Some(start..start + self.specs[id.0].len()),
            Place::Frozen(_) => None,
        }
    }

    /// `(range of elements, whether decay applies)` of every parameter that is not frozen, in order.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (Range<usize>, bool)> {
        (0..self.specs.len()).filter_map(|idx| Some((self.range(ParameterId(idx))?, self.specs[idx].decay)))
    }
}

/// The gradient of a loss by every weight that is not frozen, laid out as the weights are.
#[derive(Clone, Debug)]
pub struct Gradients {
    dense: Vec<f32>,
    scattered: BTreeMap<ParameterId, Scattered>,
    /// Weights that are not trained: nobody computes their gradients.
    unwanted: BTreeSet<ParameterId>,
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
    /// Zero for every weight of `parameters` that is not frozen.
    pub fn zeros(parameters: &Parameters) -> Self {
        let mut dense = vec![0.0; parameters.num_free()];
        // As in `AdamW::step`: memory is written to before it is read.
        dense.par_chunks_mut(ELEMENTS_PER_JOB).for_each(|block| block.fill(0.0));
        Self { dense, scattered: BTreeMap::new(), unwanted: BTreeSet::new() }
    }

    /// The same without computing what is not used: of parameters with the rate 0, in the order of
    /// [`AdamW::with_rates`](crate::AdamW::with_rates).
    ///
    /// # Panics
    /// When there is not one rate for each parameter that is not frozen.
    pub fn with_rates(mut self, parameters: &Parameters, rates: &[f32]) -> Self {
        let free: Vec<ParameterId> =
            parameters.iter().map(|(id, ..)| id).filter(|&id| !parameters.is_frozen(id)).collect();
        assert_eq!(rates.len(), free.len(), "one rate for each parameter");
        self.unwanted = free.into_iter().zip(rates).filter(|(_, rate)| **rate == 0.0).map(|(id, _)| id).collect();
        self
    }

    /// The gradient by one parameter.
    ///
    /// # Panics
    /// When the parameter is frozen.
    pub fn of(&mut self, parameters: &Parameters, id: ParameterId) -> &[f32] {
        self.gather(parameters);
        &self.dense[parameters.range(id).expect("a frozen parameter has no gradient")]
    }

    /// Every element, in the order of the weights.
    pub fn flat(&mut self, parameters: &Parameters) -> &mut [f32] {
        self.gather(parameters);
        &mut self.dense
    }

    /// Whether somebody uses the gradient by a parameter.
    pub(crate) fn wants(&self, parameters: &Parameters, id: ParameterId) -> bool {
        !(parameters.is_frozen(id) || self.unwanted.contains(&id))
    }

    /// The gradient by a parameter, where somebody uses it.
    pub(crate) fn of_mut(&mut self, parameters: &Parameters, id: ParameterId) -> Option<&mut [f32]> {
        let range = parameters.range(id).filter(|_| !self.unwanted.contains(&id))?;
        Some(&mut self.dense[range])
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
            let Some(range) = parameters.range(id) else { continue };
            let rows = self.dense[range].chunks_exact_mut(cols).zip(sums.chunks_exact_mut(cols));
            for ((dense, sums), touched) in rows.zip(touched) {
                if take(touched) {
                    dense.iter_mut().zip(sums).for_each(|(dense, sum)| *dense += take(sum));
                }
            }
        }
    }
}
