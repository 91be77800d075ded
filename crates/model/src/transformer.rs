//! One transformer with switches: each [`Family`](crate::Family) is a setting of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arable_core::{Probability, Seed, Stream};
use arable_tensor::ops::embedding::Lookup;
use arable_tensor::ops::loss::{Scale, VocabularyLoss};
use arable_tensor::{
    Activation, AttentionShape, DropoutMask, Format, Norm, ParameterId, ParameterSpec, Parameters, RowIndex, Sequences,
    Tape, Var,
};

use crate::adapter::{AdapterConfig, is_of_adapter};
use crate::batch::{Batch, Distinct};
use crate::build::{Bottleneck, Builder, Dense, EMBEDDINGS, rotary};
use crate::config::{Architecture, Positions};
use crate::families::Place;
use crate::head::{Head, HeadWeights};
use crate::reading::Reading;

/// Tokens in a part of a batch that one thread takes through all layers, at most: its activations fit the core's cache.
const TOKENS_PER_PART: usize = 512;

/// Dropout at the places where ModernBERT has it: embeddings, attention output, feed-forward, classifier.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of zeroing an element.
    pub p: Probability,
    /// Where the masks come from; each place adds its own index.
    pub stream: Stream,
    /// The optimizer step.
    pub step: u64,
    /// The number of the batch's first token, where it is a part of a larger one.
    pub first_row: usize,
}

/// How a batch goes through the layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// What is dropped, when training.
    pub dropout: Option<Dropout>,
    /// The first layers that keep nothing for the backward pass but compute it again.
    pub recomputed_layers: usize,
}

/// The weights of a layer and what is done with them.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub place: Place,
    pub attn_norm: Option<Norm>,
    pub qkv: Dense,
    /// Norms of the heads of queries and of keys.
    pub head_norms: Option<[Norm; 2]>,
    pub attn_out: Dense,
    pub mlp_norm: Norm,
    pub mlp_in: Dense,
    pub mlp_out: Dense,
    pub attention: AttentionShape,
    pub activation: Activation,
    pub is_gated: bool,
    /// Behind the attention and behind the feed-forward part.
    pub bottlenecks: [Vec<Bottleneck>; 2],
    /// All its weights, those of adapters included.
    pub parameters: Vec<ParameterId>,
}

/// The rows that a layer reads and writes.
#[derive(Clone)]
struct Rows {
    sequences: Sequences,
    /// Which row of its input each row of the sequences is; `None` is each its own.
    spread: Option<RowIndex>,
    /// The rows that it writes, in ascending order; `None` are all.
    kept: Option<RowIndex>,
}

/// The weights below the layers.
#[derive(Clone, Copy, Debug)]
struct Embeddings {
    tokens: ParameterId,
    /// Places and types, where they are learned.
    learned: Option<[ParameterId; 2]>,
    norm: Option<Norm>,
}

/// A transformer with a head and its weights.
#[derive(Clone, Debug)]
pub struct Model {
    architecture: Architecture,
    head: Head,
    parameters: Parameters,
    embeddings: Embeddings,
    layers: Vec<Arc<Layer>>,
    final_norm: Option<Norm>,
    head_weights: HeadWeights,
    pub(crate) adapters: Vec<AdapterConfig>,
}

impl Layer {
    /// `[num_tokens, hidden] -> [num_tokens, hidden]`, layer number `idx`; where rows are kept, `[kept, hidden]` of them alone,
    /// and where they are spread, from `[distinct, hidden]`. Attention is over all rows, and what is before and behind it goes
    /// row by row.
    fn forward(
        &self,
        tape: &mut Tape<'_>,
        x: Var,
        Rows { sequences, spread, kept }: &Rows,
        (dropout, idx): (Option<Dropout>, usize),
    ) -> Var {
        // Places of adapters are behind those of all layers.
        let (place, of_adapters) = (1 + 2 * idx as u64, 512 + 4 * idx as u64);
        let mask = |place: u64| dropout.map(|dropout| dropout.mask(place));
        let of_kept = |place: u64| mask(place).map(|mask| DropoutMask { rows: kept.clone(), ..mask });
        let narrow = tape.device().activations();
        let input = self.norm_at(tape, Place::Before, x, self.attn_norm);
        let qkv = self.queries_keys_values(tape, input, narrow, mask(of_adapters));
        let [qkv, x] = match spread {
            None => [qkv, x],
            Some(rows) => [qkv, x].map(|distinct| tape.gather_rows(distinct, rows, 1)),
        };
        let attended = tape.attention(qkv, sequences, &self.attention);
        let [attended, x] = match kept {
            None => [attended, x],
            Some(rows) => [attended, x].map(|all| tape.gather_rows(all, rows, 1)),
        };
        let before = x;
        let x = match of_kept(place).filter(|mask| mask.p.get() > 0.0) {
            None => self.attn_out.forward_onto(tape, attended, x, of_kept(of_adapters + 1)),
            Some(mask) => {
                let out = self.attn_out.forward(tape, attended, narrow, of_kept(of_adapters + 1));
                let out = tape.dropout(out, mask);
                tape.add(x, out)
            }
        };
        let x = self.bottlenecks[0].iter().fold(x, |x, own| own.forward(tape, before, x));
        let x = self.norm_at(tape, Place::After, x, self.attn_norm);
        let input = self.norm_at(tape, Place::Before, x, Some(self.mlp_norm));
        let wide = self.mlp_in.forward(tape, input, narrow, of_kept(of_adapters + 2));
        let bent =
            if self.is_gated { tape.gated(wide, self.activation) } else { tape.activation(wide, self.activation) };
        let bent = drop_at(tape, bent, of_kept(place + 1));
        let before = x;
        let x = self.mlp_out.forward_onto(tape, bent, x, of_kept(of_adapters + 3));
        let x = self.bottlenecks[1].iter().fold(x, |x, own| own.forward(tape, before, x));
        self.norm_at(tape, Place::After, x, Some(self.mlp_norm))
    }

    /// A norm, if it stands here. What is normalised before a part is read by products alone; what is normalised behind a
    /// sum is the stream itself.
    fn norm_at(&self, tape: &mut Tape<'_>, place: Place, x: Var, norm: Option<Norm>) -> Var {
        let format = if place == Place::Before { tape.device().activations() } else { Format::F32 };
        norm.filter(|_| place == self.place).map_or(x, |norm| tape.norm(x, norm, format))
    }

    fn queries_keys_values(&self, tape: &mut Tape<'_>, x: Var, narrow: Format, mask: Option<DropoutMask>) -> Var {
        let Some([queries, keys]) = self.head_norms else { return self.qkv.forward(tape, x, narrow, mask) };
        let AttentionShape { num_heads, num_kv_heads, .. } = self.attention;
        let qkv = self.qkv.forward(tape, x, Format::F32, mask);
        tape.norm_heads(qkv, [(queries, num_heads), (keys, num_kv_heads)], narrow)
    }
}

impl Dropout {
    /// Dropout number `place` of a forward pass. Each place has a stretch of the stream of its own.
    fn mask(self, place: u64) -> DropoutMask {
        let Self { p, stream, step, first_row } = self;
        DropoutMask { p, stream, step: step.wrapping_mul(1024).wrapping_add(place), first_row, rows: None }
    }
}

impl Embeddings {
    /// Whether a tape is recorded for any of their gradients.
    fn learn(&self, tape: &Tape<'_>) -> bool {
        let tables = self.learned.into_iter().flatten().chain([self.tokens]);
        let norm = self.norm.into_iter().flat_map(|norm| [norm.weight].into_iter().chain(norm.bias));
        tables.chain(norm).any(|id| tape.learns(id))
    }
}

/// The log probability of a token that never occurs.
const NEVER: f32 = -40.0;

impl Model {
    /// A model with random weights.
    pub fn new(architecture: Architecture, head: Head, seed: Seed) -> Self {
        Self::build(architecture, head, seed, None)
    }

    /// The same with the weights below the head from `known`.
    fn build(architecture: Architecture, head: Head, seed: Seed, known: Option<&Parameters>) -> Self {
        let (a, style) = (&architecture, architecture.style());
        let rotary = rotary(a);
        let stream = seed.stream("initial weights");
        let mut builder = Builder { parameters: Parameters::default(), stream, known };
        let (hidden, deviation) = (a.hidden_size, a.initializer_range);
        let tokens = builder.matrix(EMBEDDINGS.into(), a.vocab_size, hidden, deviation);
        let learned = match a.positions {
            Positions::Rotary { .. } => None,
            Positions::Learned { num_types, .. } => {
                let mut table = |name: &str, rows| {
                    builder.matrix(format!("model.embeddings.{name}.weight"), rows, hidden, deviation)
                };
                Some([table("positions", a.max_position_embeddings), table("types", num_types)])
            }
        };
        let norm = style.embeddings_norm.then(|| builder.norm(a, "model.embeddings.norm", hidden, style.norm_bias));
        let embeddings = Embeddings { tokens, learned, norm };
        let layers = (0..a.num_hidden_layers).map(|idx| Arc::new(builder.layer(a, idx, &rotary))).collect();
        let has_final_norm = style.place == Place::Before;
        let final_norm = has_final_norm.then(|| builder.norm(a, "model.final_norm", hidden, style.norm_bias));
        let head_weights = builder.head(a, head.style(a), head.num_inputs(), head.num_labels());
        let parameters = builder.parameters;
        let adapters = Vec::new();
        Self { architecture, head, parameters, embeddings, layers, final_norm, head_weights, adapters }
    }

    /// The same model under a head with weights of its own.
    ///
    /// The dense layer of the masked head is not taken over: it is made to find tokens, and fine-tuning gets further
    /// from a fresh one.
    ///
    /// # Panics
    /// When the model has adapters.
    pub fn with_head(&self, head: Head, seed: Seed) -> Self {
        assert!(self.adapters.is_empty(), "adapters belong to a model with its head");
        Self::build(self.architecture.clone(), head, seed, Some(&self.parameters))
    }

    /// The same model under the head of `other`, with its weights.
    ///
    /// # Panics
    /// When that head reads states of another width.
    pub fn with_head_of(&self, other: &Self) -> Self {
        let mut model = self.with_head(other.head, Seed(0));
        for (_, spec, values) in other.parameters.iter().filter(|(_, spec, _)| !spec.name.starts_with("model.")) {
            let id = model.parameters.find(&spec.name).expect("one head has the same weights everywhere");
            model.parameters.value_mut(id).copy_from_slice(values);
        }
        model
    }

    /// A head with random weights for states of this model, alone: a model without layers, of which [`Model::classify`] is
    /// of use.
    pub fn head_alone(&self, head: Head, seed: Seed) -> Self {
        let own = &self.architecture;
        let architecture =
            Architecture { num_hidden_layers: 0, vocab_size: 1, max_position_embeddings: 1, ..own.clone() };
        Self::build(architecture, head, seed, None)
    }

    /// A smaller model of the family over the same tokens, with random weights: so many layers, and each layer a fraction as
    /// wide. A width of 1 begins with this model's weights instead, those of the first layers.
    pub fn small(&self, num_layers: usize, width: f64, seed: Seed) -> Self {
        let a = &self.architecture;
        let num_layers = num_layers.clamp(1, a.num_hidden_layers);
        if width >= 1.0 {
            let architecture = Architecture { num_hidden_layers: num_layers, ..a.clone() };
            return Self::build(architecture, self.head, seed, Some(&self.parameters));
        }
        let part = |whole: usize| ((whole as f64 * width).round() as usize).max(1);
        // Heads keep their width: fewer of them, as many queries to a key as before.
        let num_key_value_heads = part(a.num_key_value_heads);
        let num_attention_heads = num_key_value_heads * (a.num_attention_heads / a.num_key_value_heads);
        let architecture = Architecture {
            num_hidden_layers: num_layers,
            num_key_value_heads,
            num_attention_heads,
            hidden_size: num_attention_heads * a.head_dim,
            intermediate_size: part(a.intermediate_size),
            ..a.clone()
        };
        Self::build(architecture, self.head, seed, None)
    }

    /// The same model with more tokens: the token with the id `first_id + i` begins as the mean of the tokens `pieces[i]`,
    /// which stood for it before.
    ///
    /// # Panics
    /// When a piece is not in the vocabulary.
    pub fn with_tokens(&self, first_id: usize, pieces: &[Vec<u32>]) -> Self {
        let before = self.architecture.vocab_size;
        let vocab_size = before.max(first_id + pieces.len());
        let Dense { weight, bias, .. } = self.head_weights.out;
        let decoder = if self.head.num_labels().is_none() { [Some(weight), bias] } else { [None, None] };
        let mut parameters = Parameters::default();
        for (id, spec, values) in self.parameters.iter() {
            if id != self.embeddings.tokens && !decoder.contains(&Some(id)) {
                parameters.add(spec.clone(), values);
                continue;
            }
            let cols = values.len() / before;
            let mut rows = values.to_vec();
            rows.resize(vocab_size * cols, 0.0);
            for (i, pieces) in pieces.iter().enumerate() {
                let mean = mean_row(values, cols, pieces);
                rows[(first_id + i) * cols..][..cols].copy_from_slice(&mean);
            }
            let mut shape = spec.shape.clone();
            shape[0] = vocab_size;
            parameters.add(ParameterSpec { shape, ..spec.clone() }, &rows);
        }
        let architecture = Architecture { vocab_size, ..self.architecture.clone() };
        Self { architecture, parameters, ..self.clone() }
    }

    /// Begins the masked head at the frequencies of the tokens: `counts`, `[vocab_size]`.
    ///
    /// Without it the encoder learns them first, as one large vector common to all tokens, which later drowns what
    /// sets tokens apart (Meister et al. 2023, "A natural bias for language generation models"). Tokens that never
    /// occur, such as a task's markers, are out of the question from the start: they would all be pushed the same way,
    /// until nothing sets them apart.
    ///
    /// # Panics
    /// When the model's head is not [`Head::MaskedLm`] or there are more counts than tokens.
    pub fn set_prior(&mut self, counts: &[u64]) {
        assert_eq!(self.head, Head::MaskedLm, "a prior of tokens needs the masked head");
        assert!(counts.len() <= self.architecture.vocab_size, "counts of known tokens");
        let bias = self.head_weights.out.bias.expect("a masked head has a bias for each token");
        let total = counts.iter().sum::<u64>() as f64;
        // A table may have more rows than there are tokens.
        let counts = counts.iter().copied().chain(std::iter::repeat(0));
        for (bias, count) in self.parameters.value_mut(bias).iter_mut().zip(counts) {
            *bias = if count == 0 { NEVER } else { (count as f64 / total).ln() as f32 };
        }
    }

    /// The model's shape.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// What the states are used for.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(crate) fn stack(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    pub(crate) fn layer_mut(&mut self, idx: usize) -> &mut Layer {
        Arc::make_mut(&mut self.layers[idx])
    }

    /// Puts other parameters in the place of biases below the head.
    pub(crate) fn replace_biases(&mut self, new: &BTreeMap<ParameterId, ParameterId>) {
        for layer in self.layers.iter_mut().map(Arc::make_mut) {
            let mut norms: Vec<&mut Norm> = layer.attn_norm.iter_mut().chain([&mut layer.mlp_norm]).collect();
            norms.extend(layer.head_norms.iter_mut().flatten());
            let denses = [&mut layer.qkv, &mut layer.attn_out, &mut layer.mlp_in, &mut layer.mlp_out];
            let biases = norms.into_iter().map(|norm| &mut norm.bias).chain(denses.map(|dense| &mut dense.bias));
            for bias in biases.filter_map(Option::as_mut) {
                if let Some(&other) = new.get(bias) {
                    *bias = other;
                    layer.parameters.push(other);
                }
            }
        }
        let norms = self.embeddings.norm.iter_mut().chain(&mut self.final_norm);
        for bias in norms.filter_map(|norm| norm.bias.as_mut()) {
            *bias = new.get(bias).copied().unwrap_or(*bias);
        }
    }

    /// The model without adapters, but with the biases that an adapter has trained; none of its weights is frozen.
    pub(crate) fn base(&self) -> Self {
        let mut base = self.clone();
        let mut parameters = Parameters::default();
        let mut back = BTreeMap::new();
        for (id, spec, values) in self.parameters.iter() {
            if is_of_adapter(spec) {
                let name = spec.name.splitn(3, '.').last().unwrap_or_default();
                back.extend(self.parameters.find(name).map(|old| (id, old)));
            } else {
                parameters.add(spec.clone(), values);
            }
        }
        for (new, old) in &back {
            parameters.value_mut(*old).copy_from_slice(self.parameters.value(*new));
        }
        base.replace_biases(&back);
        for layer in base.layers.iter_mut().map(Arc::make_mut) {
            layer.bottlenecks.iter_mut().for_each(Vec::clear);
            layer.parameters.retain(|&id| !is_of_adapter(self.parameters.spec(id)));
            let denses = [&mut layer.qkv, &mut layer.attn_out, &mut layer.mlp_in, &mut layer.mlp_out];
            denses.into_iter().for_each(|dense| dense.changes.clear());
        }
        base.parameters = parameters;
        base.adapters.clear();
        base
    }

    /// The weights, to be changed.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The states of the last layer that `reading` asks for, where the first token of each sequence is given as a vector, `first
    /// [num_sequences, hidden]`, in the place of its embedding.
    ///
    /// # Panics
    /// As [`Self::read`], and when the tape does not record.
    pub fn read_after(&self, tape: &mut Tape<'_>, (batch, first): (&Batch, Var), reading: &Reading, pass: Pass) -> Var {
        assert!(tape.is_recording(), "what is given is trained");
        reading.read(tape, batch, |tape, kept| {
            let x = self.embed(tape, batch);
            let starts = batch.sequences().iter().map(|rows| rows.start).collect();
            let x = tape.put_rows(x, starts, first);
            self.layers(tape, (x, true), None, (batch, kept), pass)
        })
    }

    /// The states of the last layer that `reading` asks for. Nothing that only other states need is computed.
    ///
    /// # Panics
    /// As [`Self::encode`], and when the reading does not fit the batch.
    pub fn read(&self, tape: &mut Tape<'_>, batch: &Batch, reading: &Reading, pass: Pass) -> Var {
        reading.read(tape, batch, |tape, kept| self.states(tape, batch, kept, pass))
    }

    /// The states of the last layer: `[num_tokens, hidden]`.
    ///
    /// # Panics
    /// When an id is not in the vocabulary or a sequence is longer than [`Architecture::max_length`].
    pub fn encode(&self, tape: &mut Tape<'_>, batch: &Batch, pass: Pass) -> Var {
        self.states(tape, batch, None, pass)
    }

    /// The states of the last layer, or those of the rows `kept` in ascending order.
    fn states(&self, tape: &mut Tape<'_>, batch: &Batch, kept: Option<&RowIndex>, pass: Pass) -> Var {
        if tape.is_recording() {
            return self.states_at_once(tape, batch, kept, pass);
        }
        let parts = batch.sequences().in_blocks(TOKENS_PER_PART);
        let kept = kept.map(|kept| (kept, kept.within(&parts)));
        let results = kept.as_ref().map_or(&parts, |(_, inside)| inside);
        tape.side_by_side(results, self.architecture.hidden_size, |tape, idx| {
            let rows = parts.rows(idx);
            let first_row = |dropout: Dropout| Dropout { first_row: dropout.first_row + rows.start, ..dropout };
            let pass = Pass { dropout: pass.dropout.map(first_row), ..pass };
            let part = batch.some(rows.clone());
            let kept = kept.as_ref().map(|(kept, inside)| {
                let own = kept[inside.rows(idx)].iter().map(|row| row - rows.start);
                RowIndex::new(own.collect(), part.blocks())
            });
            self.states_at_once(tape, &part, kept.as_ref(), pass)
        })
    }

    fn states_at_once(&self, tape: &mut Tape<'_>, batch: &Batch, kept: Option<&RowIndex>, pass: Pass) -> Var {
        let learns = self.embeddings.learn(tape);
        let distinct = if self.starts_with_tokens_alone(pass) { batch.distinct() } else { None };
        let (x, spread) = match distinct {
            None => (self.embed(tape, batch), None),
            Some(Distinct { ids, blocks, rows }) => {
                (self.embedded(tape, [(Arc::clone(ids), self.embeddings.tokens)], blocks), Some(rows))
            }
        };
        self.layers(tape, (x, learns), spread, (batch, kept), pass)
    }

    /// Whether what goes into the first attention depends on a row's token alone.
    fn starts_with_tokens_alone(&self, pass: Pass) -> bool {
        let nothing_dropped = pass.dropout.is_none_or(|dropout| dropout.p.get() == 0.0);
        let is_plain = |layer: &Layer| layer.qkv.changes.is_empty();
        nothing_dropped && self.embeddings.learned.is_none() && self.layers.first().is_some_and(|layer| is_plain(layer))
    }

    /// `learns`: whether something asks for the gradient by `x`; `spread`: which of its rows is each row of the batch, as in
    /// [`Rows`].
    fn layers(
        &self,
        tape: &mut Tape<'_>,
        (x, mut learns): (Var, bool),
        spread: Option<&RowIndex>,
        (batch, kept): (&Batch, Option<&RowIndex>),
        pass: Pass,
    ) -> Var {
        let mut x = drop_at(tape, x, pass.dropout.map(|dropout| dropout.mask(0)));
        for (idx, layer) in self.layers.iter().enumerate() {
            let rows = Rows {
                sequences: batch.sequences().clone(),
                spread: spread.filter(|_| idx == 0).cloned(),
                kept: kept.filter(|_| idx + 1 == self.layers.len()).cloned(),
            };
            let layer = Arc::clone(layer);
            let forward = move |tape: &mut Tape<'_>, x| layer.forward(tape, x, &rows, (pass.dropout, idx));
            // Without a backward pass nobody asks for what lies between.
            let recompute = idx < pass.recomputed_layers || !tape.is_recording();
            learns |= self.layers[idx].parameters.iter().any(|&id| tape.learns(id));
            x = match (tape.is_recording() && !learns, recompute) {
                // Nothing below asks for a gradient.
                (true, _) => tape.unrecorded(x, forward),
                (false, true) => tape.recomputed(x, forward),
                (false, false) => forward(tape, x),
            };
        }
        if let (Some(kept), true) = (kept, self.layers.is_empty()) {
            x = tape.gather_rows(x, kept, 1);
        }
        self.final_norm.map_or(x, |norm| tape.norm(x, norm, Format::F32))
    }

    fn embed(&self, tape: &mut Tape<'_>, batch: &Batch) -> Var {
        let Embeddings { tokens, learned, .. } = self.embeddings;
        let ids = (Arc::clone(batch.ids()), tokens);
        let (Some([places, types]), Positions::Learned { num_before, num_types }) =
            (learned, self.architecture.positions)
        else {
            return self.embedded(tape, [ids], batch.blocks());
        };
        let of_sequence = |rows: Range<usize>| (0..rows.len()).map(|at| (num_before + at) as u32);
        // A model that knows one type alone is told nothing of pairs.
        let type_of = |row: usize| batch.types().get(row).map_or(0, |&one| one.min(num_types as u32 - 1));
        let lookups = [
            ids,
            (batch.sequences().iter().flat_map(of_sequence).collect(), places),
            ((0..batch.ids().len()).map(type_of).collect(), types),
        ];
        self.embedded(tape, lookups, batch.blocks())
    }

    fn embedded<const N: usize>(&self, tape: &mut Tape<'_>, lookups: [Lookup; N], blocks: &Sequences) -> Var {
        let embedded = tape.embedding(lookups);
        tape.cut(embedded, blocks.clone());
        self.embeddings.norm.map_or(embedded, |norm| tape.norm(embedded, norm, Format::F32))
    }

    /// The sum of `scale` times the loss of predicting `targets` from the rows of `states`, in order; what was found is added to
    /// `found`. The tape has to run backwards from it.
    ///
    /// # Panics
    /// When the model's head is not over tokens of the vocabulary.
    pub fn token_loss(
        &self,
        tape: &mut Tape<'_>,
        states: Var,
        targets: &[u32],
        scale: Scale<'_>,
        found: &mut VocabularyLoss,
    ) -> Var {
        assert!(self.head.num_labels().is_none(), "a loss of tokens needs a head over the vocabulary");
        let x = self.head_weights.transformed(tape, states);
        let Dense { weight, bias, .. } = self.head_weights.out;
        tape.linear_cross_entropy(x, (weight, bias), targets, scale, found)
    }

    /// Logits `[n, num_labels]` (or `[n, vocab_size]` of a head over the vocabulary) from what [`Head::reading`] reads.
    pub fn classify(&self, tape: &mut Tape<'_>, read: Var, dropout: Option<Dropout>) -> Var {
        let x = self.head_weights.transformed(tape, read);
        let x = drop_at(tape, x, dropout.map(|dropout| dropout.mask(u64::MAX)));
        self.head_weights.out.forward(tape, x, Format::F32, None)
    }
}

/// The mean of some rows.
fn mean_row(values: &[f32], cols: usize, rows: &[u32]) -> Vec<f32> {
    let scale = 1.0 / rows.len().max(1) as f64;
    let mean = |col: usize| rows.iter().map(|&row| f64::from(values[row as usize * cols + col])).sum::<f64>() * scale;
    (0..cols).map(|col| mean(col) as f32).collect()
}

fn drop_at(tape: &mut Tape<'_>, x: Var, mask: Option<DropoutMask>) -> Var {
    mask.map_or(x, |mask| tape.dropout(x, mask))
}
