//! Adapters: a few weights of their own beside a model whose weights stay as they are.
//!
//! An adapter begins as nothing: with it, the model computes what it computed before, bit for bit. Its weights lie behind those
//! of the model; the latter are frozen, and models with different adapters share them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arable_core::{Draws, Hint, Probability, Seed};
use arable_tensor::ops::adapter::row_norms;
use arable_tensor::{LowRank, ParameterId, ParameterSpec, Parameters, Rescale, Sparse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::build::{Bottleneck, Change, Dense};
use crate::config::Architecture;
use crate::families::names_in_files;
use crate::transformer::{Layer, Model};
use crate::weights::in_files;

/// A kind of adapter and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AdapterConfig {
    /// Products of two thin matrices, added to the weights of linear layers (Hu et al. 2021).
    Lora(LoraConfig),
    /// The same, with the length of each row of a weight learned apart from its direction (Liu et al. 2024).
    Dora(LoraConfig),
    /// A factor for each key, value and inner feed-forward column (Liu et al. 2022).
    Ia3(Ia3Config),
    /// A small network behind parts of a layer (Houlsby et al. 2019; Pfeiffer et al. 2021).
    Bottleneck(BottleneckConfig),
    /// The biases alone (Ben Zaken et al. 2022).
    Bitfit(BitfitConfig),
    /// Some entries of the weights: the smallest ones, which training moves the most relative to what they hold (Liao et
    /// al. 2023, "PaFi").
    Sparse(SparseConfig),
}

/// Settings of LoRA and DoRA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// The rank of a change.
    pub rank: usize,
    /// A change is multiplied with `alpha / rank`; by default alpha is twice the rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Probability of dropout in front of the thin matrices.
    pub dropout: Probability,
    /// Linear layers by the ends of their names in files, such as `["query", "value"]`; by default all in the layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Divide alpha by the root of the rank (Kalajdzievski 2023).
    pub rslora: bool,
}

/// Settings of IA3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ia3Config {
    /// Linear layers by the ends of their names in files; by default those of keys, values and the last of the
    /// feed-forward part, whose inputs are scaled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

/// Settings of bottlenecks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BottleneckConfig {
    /// The width inside.
    pub size: usize,
    /// Behind the attention too (Houlsby et al. 2019), or behind the feed-forward part alone (Pfeiffer et al. 2021).
    pub after_attention: bool,
}

/// Settings of BitFit: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BitfitConfig {}

/// Settings of sparse changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SparseConfig {
    /// The part of the entries of each weight that changes.
    pub density: f64,
    /// Linear layers by the ends of their names in files; by default all in the layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let dropout = Probability::new(0.0).expect("a literal in range");
        Self { rank: 8, alpha: None, dropout, targets: Vec::new(), rslora: false }
    }
}

impl Default for BottleneckConfig {
    fn default() -> Self {
        Self { size: 32, after_attention: false }
    }
}

impl Default for SparseConfig {
    fn default() -> Self {
        Self { density: 0.005, targets: Vec::new() }
    }
}

impl LoraConfig {
    /// Alpha, filled in.
    pub fn alpha(&self) -> f64 {
        self.alpha.unwrap_or(2.0 * self.rank as f64)
    }

    /// What a change of rank `rank` is multiplied with.
    pub(crate) fn scale(&self, rank: usize) -> f32 {
        let rank = rank as f64;
        (self.alpha() / if self.rslora { rank.sqrt() } else { rank }) as f32
    }
}

impl AdapterConfig {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lora(_) => "lora",
            Self::Dora(_) => "dora",
            Self::Ia3(_) => "ia3",
            Self::Bottleneck(_) => "bottleneck",
            Self::Bitfit(_) => "bitfit",
            Self::Sparse(_) => "sparse",
        }
    }

    fn targets(&self) -> &[String] {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => &lora.targets,
            Self::Ia3(ia3) => &ia3.targets,
            Self::Sparse(sparse) => &sparse.targets,
            Self::Bottleneck(_) | Self::Bitfit(_) => &[],
        }
    }

    /// A number that cannot be.
    fn flaw(&self) -> Option<&'static str> {
        match self {
            Self::Lora(LoraConfig { rank: 0, .. }) | Self::Dora(LoraConfig { rank: 0, .. }) => {
                Some("a rank of 0 changes nothing")
            }
            Self::Lora(lora) | Self::Dora(lora) if !(lora.alpha().is_finite() && lora.alpha() > 0.0) => {
                Some("alpha is above 0")
            }
            Self::Bottleneck(BottleneckConfig { size: 0, .. }) => Some("a width of 0 changes nothing"),
            Self::Sparse(sparse) if !(sparse.density > 0.0 && sparse.density <= 1.0) => {
                Some("a density is above 0 and at most 1")
            }
            _ => None,
        }
    }
}

impl AdapterConfig {
    /// Whether a model of this shape can have it.
    ///
    /// # Errors
    /// When a setting cannot be or names what the model does not have.
    pub fn check(&self, architecture: &Architecture) -> Result<(), AdapterError> {
        if let Some(problem) = self.flaw() {
            return Err(AdapterError::Settings { kind: self.name(), problem });
        }
        let (files, last) = (architecture.family.files(), architecture.num_hidden_layers - 1);
        let part = |part| names_in_files([files.names, &[]], &format!("model.layers.{last}.{part}.weight"));
        let known = ["attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"].into_iter().flat_map(part);
        let known: Vec<String> = known.map(|name| name.trim_end_matches(".weight").to_owned()).collect();
        if let Some(target) = self.targets().iter().find(|target| !known.iter().any(|name| ends_so(name, target))) {
            return Err(AdapterError::Target { target: target.clone(), known });
        }
        let style = architecture.style();
        if matches!(self, Self::Bitfit(_)) && !(style.bias || style.qkv_bias || style.norm_bias) {
            return Err(AdapterError::NoBias { family: architecture.family.name() });
        }
        Ok(())
    }
}

/// Whether the last parts of a name are `target`.
fn ends_so(name: &str, target: &str) -> bool {
    name.strip_suffix(target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// An adapter that a model cannot have, or that cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// Settings that cannot be.
    #[error("use a {kind} adapter: {problem}")]
    Settings {
        /// The kind.
        kind: &'static str,
        /// What cannot be.
        problem: &'static str,
    },
    /// A target that is no linear layer.
    #[error("adapt `{target}`: the model has no linear layer whose name ends so")]
    Target {
        /// What was named.
        target: String,
        /// The linear layers of the last layer.
        known: Vec<String>,
    },
    /// BitFit of a model without biases.
    #[error("train the biases of a {family} model: it has none")]
    NoBias {
        /// The family.
        family: &'static str,
    },
    /// Something that cannot stand on another adapter.
    #[error("put a {kind} adapter on layers that an adapter changes already")]
    Stacked {
        /// The kind.
        kind: &'static str,
    },
    /// Adapters of different bases.
    #[error("merge adapters of different bases")]
    OtherBase,
    /// What has no form as weights of the base.
    #[error("merge a {kind} adapter into the weights of its base")]
    NotMergeable {
        /// The kind.
        kind: &'static str,
    },
}

impl Hint for AdapterError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Settings { .. } => "see `adapter` in the configuration's schema (`arable config schema`)".into(),
            Self::Target { known, .. } => format!("there are: {}", known.join(", ")),
            Self::NoBias { .. } => "take `ia3`, which is as small, or a base of the families BERT or RoBERTa".into(),
            Self::Stacked { .. } => "merge the first one into the weights, or use `lora` or `ia3`".into(),
            Self::OtherBase => "name adapters that were trained on one base".into(),
            Self::NotMergeable { .. } => {
                "it stays beside its base: load it there; the other kinds can be merged".into()
            }
        })
    }
}

/// Which linear layer of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Qkv,
    AttnOut,
    MlpIn,
    MlpOut,
}

impl Slot {
    const ALL: [Self; 4] = [Self::Qkv, Self::AttnOut, Self::MlpIn, Self::MlpOut];

    fn of(self, layer: &mut Layer) -> &mut Dense {
        match self {
            Self::Qkv => &mut layer.qkv,
            Self::AttnOut => &mut layer.attn_out,
            Self::MlpIn => &mut layer.mlp_in,
            Self::MlpOut => &mut layer.mlp_out,
        }
    }
}

/// A linear layer as files call it: all or some rows of one of ours.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub name: String,
    pub layer: usize,
    pub slot: Slot,
    pub outputs: Range<usize>,
    pub inputs: usize,
    /// Whether IA3 scales it where nothing else is said.
    is_scaled: bool,
}

/// What stands in front of the names of the weights of adapter `idx`.
pub(crate) fn prefix(idx: usize) -> String {
    format!("{ALL}{idx}.")
}

/// What stands in front of the names of the weights of all adapters.
const ALL: &str = "adapters.";

/// An adapter's weights where they are not fresh ones.
pub(crate) trait Given {
    /// The values of a weight by its key, if there are so many.
    fn values(&self, key: &str, len: usize) -> Option<Vec<f32>>;
    /// Places of entries.
    fn places(&self, key: &str) -> Option<Vec<u32>>;
}

/// Adds an adapter's weights.
struct Maker<'a> {
    model: &'a mut Model,
    prefix: String,
    seed: Seed,
    given: Option<&'a dyn Given>,
}

impl Maker<'_> {
    fn add(&mut self, key: &str, shape: &[usize], decay: bool, fresh: impl FnOnce(Draws) -> Vec<f32>) -> ParameterId {
        let name = format!("{}{key}", self.prefix);
        let given = self.given.and_then(|given| given.values(key, shape.iter().product()));
        let values = given.unwrap_or_else(|| fresh(self.seed.stream(key).at(0, 0)));
        self.model.parameters_mut().add(ParameterSpec { name, shape: shape.to_vec(), decay }, &values)
    }

    /// A matrix as linear layers begin in PyTorch, and LoRA's first one in PEFT.
    fn drawn(&mut self, key: &str, rows: usize, cols: usize) -> ParameterId {
        let bound = (cols as f64).powf(-0.5);
        self.add(key, &[rows, cols], true, |mut draws| {
            (0..rows * cols).map(|_| ((2.0 * draws.uniform() - 1.0) * bound) as f32).collect()
        })
    }

    fn filled(&mut self, key: &str, shape: &[usize], value: f32) -> ParameterId {
        let len = shape.iter().product();
        self.add(key, shape, shape.len() > 1 && value == 0.0, |_| vec![value; len])
    }

    fn change(&mut self, module: &Module, change: Change, ids: &[ParameterId]) {
        let layer = self.model.layer_mut(module.layer);
        layer.parameters.extend_from_slice(ids);
        module.slot.of(layer).changes.push(change);
    }

    fn lora(&mut self, module: &Module, config: &LoraConfig, rank: usize, is_dora: bool) {
        let (name, outputs) = (&module.name, module.outputs.clone());
        let a = self.drawn(&format!("{name}.lora_A.weight"), rank, module.inputs);
        let b = self.filled(&format!("{name}.lora_B.weight"), &[outputs.len(), rank], 0.0);
        let low_rank = LowRank { a, b, scale: config.scale(rank), outputs };
        let mut ids = vec![a, b];
        let magnitude = is_dora.then(|| {
            let weight = module.slot.of(self.model.layer_mut(module.layer)).weight;
            let norms = row_norms(self.model.parameters(), weight, &low_rank);
            self.add(&format!("{name}.lora_magnitude_vector"), &[norms.len()], false, |_| norms.to_vec())
        });
        ids.extend(magnitude);
        self.change(module, Change::LowRank { low_rank, magnitude, dropout: config.dropout }, &ids);
    }

    fn ia3(&mut self, module: &Module, scales_inputs: bool) {
        let key = format!("{}.ia3_l", module.name);
        if scales_inputs {
            let by = self.filled(&key, &[1, module.inputs], 1.0);
            return self.change(module, Change::Inputs(by), &[by]);
        }
        let columns = module.outputs.clone();
        let factor = self.filled(&key, &[columns.len(), 1], 1.0);
        self.change(module, Change::Outputs(Rescale { factor, divisor: None, bias: None, columns }), &[factor]);
    }

    /// The entries that are the closest to zero, the first of equals.
    fn sparse(&mut self, module: &Module, density: f64) {
        let dense = module.slot.of(self.model.layer_mut(module.layer)).clone();
        let (first, inputs) = (module.outputs.start, module.inputs);
        let part = &self.model.parameters().value(dense.weight)[first * inputs..module.outputs.end * inputs];
        let num = ((part.len() as f64 * density).ceil() as usize).clamp(1, part.len());
        let key = format!("{}.sparse_index", module.name);
        let mut chosen: Vec<u32> = self.given.and_then(|given| given.places(&key)).unwrap_or_else(|| {
            let mut order: Vec<u32> = (0..part.len() as u32).collect();
            let size = |idx: &u32| part[*idx as usize].abs();
            order.sort_by(|a, b| size(a).total_cmp(&size(b)));
            order.truncate(num);
            order
        });
        chosen.sort_unstable();
        let place = |idx: &u32| (first as u32 + idx / inputs as u32, idx % inputs as u32);
        let entries: Arc<[(u32, u32)]> = chosen.iter().map(place).collect();
        let values = self.filled(&format!("{}.sparse_delta", module.name), &[entries.len()], 0.0);
        self.change(module, Change::Sparse(Sparse { values, entries }), &[values]);
    }

    fn bottleneck(&mut self, layer: usize, behind: usize, size: usize) {
        let hidden = self.model.architecture().hidden_size;
        let name = format!("layers.{layer}.{}", ["after_attention", "after_feed_forward"][behind]);
        let down = self.drawn(&format!("{name}.down.weight"), size, hidden);
        let down_bias = self.filled(&format!("{name}.down.bias"), &[size], 0.0);
        let up = self.filled(&format!("{name}.up.weight"), &[hidden, size], 0.0);
        let up_bias = self.filled(&format!("{name}.up.bias"), &[hidden], 0.0);
        let layer = self.model.layer_mut(layer);
        layer.parameters.extend([down, down_bias, up, up_bias]);
        layer.bottlenecks[behind].push(Bottleneck { down: (down, down_bias), up: (up, up_bias) });
    }

    /// Puts a copy in the place of every bias below the head.
    fn bitfit(&mut self) {
        let parameters = self.model.parameters();
        let is_bias = |spec: &ParameterSpec| spec.name.starts_with("model.") && spec.name.ends_with(".bias");
        let old: Vec<_> = parameters.iter().filter(|(_, spec, _)| is_bias(spec)).map(|(id, ..)| id).collect();
        let copy = |id: ParameterId, maker: &mut Self| {
            let spec = maker.model.parameters().spec(id).clone();
            let values = maker.model.parameters().value(id).to_vec();
            maker.add(&spec.name, &spec.shape, false, |_| values)
        };
        let new: BTreeMap<ParameterId, ParameterId> = old.into_iter().map(|id| (id, copy(id, self))).collect();
        self.model.replace_biases(&new);
    }
}

impl Model {
    /// The same model with an adapter that changes nothing yet: its weights are drawn from `seed`. What lies below the head is
    /// frozen, and so is a head over the vocabulary: what remains to be trained is the adapter and the head of a task.
    ///
    /// # Errors
    /// When the settings cannot be or name what the model does not have.
    pub fn with_adapter(&self, config: &AdapterConfig, seed: Seed) -> Result<Self, AdapterError> {
        config.check(self.architecture())?;
        let chosen = self.targets(config);
        let whole = self.head().num_labels().is_none();
        let mut model = self.clone();
        model.parameters_mut().freeze(|spec| whole || is_below_head(spec));
        model.attach(config, &chosen, seed, None)?;
        Ok(model)
    }

    /// The same model with all weights frozen but those of a task's head: a base that models with adapters share.
    pub fn frozen(&self) -> Self {
        let mut model = self.clone();
        model.parameters_mut().freeze(is_below_head);
        model
    }

    /// The adapters, in the order in which they were put on.
    pub fn adapters(&self) -> &[AdapterConfig] {
        &self.adapters
    }

    /// The linear layers in the layers, as files call them.
    pub(crate) fn modules(&self) -> Vec<Module> {
        let mut found = Vec::new();
        for layer in 0..self.stack().len() {
            for slot in Slot::ALL {
                let weight = slot.of(&mut Layer::clone(&self.stack()[layer])).weight;
                let parts = in_files(self, self.parameters().spec(weight));
                let (num_parts, mut first) = (parts.len(), 0);
                for (idx, (name, shape)) in parts.into_iter().enumerate() {
                    let name = name.trim_end_matches(".weight").to_owned();
                    let outputs = first..first + shape[0];
                    first = outputs.end;
                    let is_scaled = match slot {
                        Slot::Qkv => num_parts == 1 || idx > 0,
                        Slot::MlpOut => true,
                        Slot::AttnOut | Slot::MlpIn => false,
                    };
                    found.push(Module { name, layer, slot, outputs, inputs: shape[1], is_scaled });
                }
            }
        }
        found
    }

    /// The linear layers that a fresh adapter changes, with what it needs to know of each.
    fn targets(&self, config: &AdapterConfig) -> Vec<Chosen> {
        let targets = config.targets();
        let by_default = |module: &Module| match config {
            AdapterConfig::Ia3(_) => module.is_scaled,
            AdapterConfig::Bitfit(_) | AdapterConfig::Bottleneck(_) => false,
            AdapterConfig::Lora(_) | AdapterConfig::Dora(_) | AdapterConfig::Sparse(_) => true,
        };
        let is_meant = |module: &Module| {
            if targets.is_empty() { by_default(module) } else { targets.iter().any(|one| ends_so(&module.name, one)) }
        };
        let rank = match config {
            AdapterConfig::Lora(lora) | AdapterConfig::Dora(lora) => lora.rank,
            _ => 0,
        };
        let chosen = |module: Module| Chosen { scales_inputs: module.slot == Slot::MlpOut, module, rank };
        self.modules().into_iter().filter(is_meant).map(chosen).collect()
    }

    /// Puts an adapter on the linear layers `chosen`, with weights that are given or fresh ones.
    pub(crate) fn attach(
        &mut self,
        config: &AdapterConfig,
        chosen: &[Chosen],
        seed: Seed,
        given: Option<&dyn Given>,
    ) -> Result<(), AdapterError> {
        let kind = config.name();
        let is_taken = |chosen: &Chosen| {
            let layer = &mut Layer::clone(&self.stack()[chosen.module.layer]);
            !chosen.module.slot.of(layer).changes.is_empty()
        };
        if matches!(config, AdapterConfig::Dora(_)) && chosen.iter().any(is_taken) {
            return Err(AdapterError::Stacked { kind });
        }
        let moves_bias = |before: &AdapterConfig| matches!(before, AdapterConfig::Bitfit(_) | AdapterConfig::Dora(_));
        if matches!(config, AdapterConfig::Bitfit(_)) && self.adapters.iter().any(moves_bias) {
            return Err(AdapterError::Stacked { kind });
        }
        let (prefix, num_layers) = (prefix(self.adapters.len()), self.stack().len());
        self.adapters.push(config.clone());
        let mut maker = Maker { model: self, prefix, seed: seed.child("adapter"), given };
        match config {
            AdapterConfig::Lora(lora) => chosen.iter().for_each(|one| maker.lora(&one.module, lora, one.rank, false)),
            AdapterConfig::Dora(lora) => chosen.iter().for_each(|one| maker.lora(&one.module, lora, one.rank, true)),
            AdapterConfig::Ia3(_) => chosen.iter().for_each(|one| maker.ia3(&one.module, one.scales_inputs)),
            AdapterConfig::Sparse(sparse) => {
                chosen.iter().for_each(|one| maker.sparse(&one.module, sparse.density));
            }
            AdapterConfig::Bottleneck(BottleneckConfig { size, after_attention }) => {
                for layer in 0..num_layers {
                    (usize::from(!after_attention)..2).for_each(|behind| maker.bottleneck(layer, behind, *size));
                }
            }
            AdapterConfig::Bitfit(_) => maker.bitfit(),
        }
        Ok(())
    }

    /// The model without adapters that computes the same, up to rounding: their changes are in its weights, none of which is
    /// frozen.
    ///
    /// # Errors
    /// When an adapter has no form as weights (bottlenecks).
    pub fn merged(&self) -> Result<Self, AdapterError> {
        if let Some(kind) = self.adapters.iter().find(|one| matches!(one, AdapterConfig::Bottleneck(_))) {
            return Err(AdapterError::NotMergeable { kind: kind.name() });
        }
        let mut base = self.base();
        for layer in self.stack() {
            for slot in Slot::ALL {
                let dense = slot.of(&mut Layer::clone(layer)).clone();
                // What goes in is scaled before everything else, and so it is the last to be merged.
                let (inputs, others): (Vec<_>, Vec<_>) =
                    dense.changes.iter().partition(|change| matches!(change, Change::Inputs(_)));
                let changes = others.into_iter().chain(inputs);
                changes.for_each(|change| merge(base.parameters_mut(), self, &dense, change));
            }
        }
        Ok(base)
    }
}

/// Puts a change into the weights of its layer.
fn merge(weights: &mut Parameters, from: &Model, dense: &Dense, change: &Change) {
    let own = from.parameters();
    let inputs = own.spec(dense.weight).shape[1];
    let scale_rows = |weights: &mut Parameters, columns: &Range<usize>, factors: &[f32]| {
        let rows = weights.value_mut(dense.weight)[columns.start * inputs..].chunks_exact_mut(inputs);
        rows.zip(factors).for_each(|(row, factor)| row.iter_mut().for_each(|w| *w *= factor));
    };
    match change {
        Change::LowRank { low_rank, magnitude, .. } => {
            // Before the sum, as in the forward pass.
            let norms = magnitude.map(|_| row_norms(own, dense.weight, low_rank));
            let first = low_rank.outputs.start * inputs;
            let rows = weights.value_mut(dense.weight)[first..].chunks_exact_mut(inputs);
            rows.take(low_rank.outputs.len()).enumerate().for_each(|(row, w)| low_rank.add_row(own, row, w));
            if let (Some(magnitude), Some(norms)) = (magnitude, norms) {
                let factors: Vec<f32> = own.value(*magnitude).iter().zip(norms.iter()).map(|(m, n)| m / n).collect();
                scale_rows(weights, &low_rank.outputs, &factors);
            }
        }
        Change::Outputs(rescale) => {
            let factors = own.value(rescale.factor);
            scale_rows(weights, &rescale.columns, factors);
            if let Some(bias) = dense.base_bias {
                let part = &mut weights.value_mut(bias)[rescale.columns.clone()];
                part.iter_mut().zip(factors).for_each(|(bias, factor)| *bias *= factor);
            }
        }
        Change::Inputs(by) => {
            let factors = own.value(*by);
            for row in weights.value_mut(dense.weight).chunks_exact_mut(inputs) {
                row.iter_mut().zip(factors).for_each(|(w, factor)| *w *= factor);
            }
        }
        Change::Sparse(sparse) => {
            let all = weights.value_mut(dense.weight);
            for (&(out, input), value) in sparse.entries.iter().zip(own.value(sparse.values)) {
                all[out as usize * inputs + input as usize] += value;
            }
        }
    }
}

/// A linear layer that an adapter changes.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub module: Module,
    /// The rank of a change.
    pub rank: usize,
    /// Whether IA3 scales what goes in, not what comes out.
    pub scales_inputs: bool,
}

pub(crate) fn is_below_head(spec: &ParameterSpec) -> bool {
    spec.name.starts_with("model.") || is_of_adapter(spec)
}

/// Whether a weight is an adapter's.
pub(crate) fn is_of_adapter(spec: &ParameterSpec) -> bool {
    spec.name.starts_with(ALL)
}
