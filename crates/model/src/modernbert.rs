//! ModernBERT (Warner et al. 2024): pre-norm layers without biases, rotary positions, gated GELU, alternating global
//! and local attention, a decoder tied to the embeddings.

use std::ops::Range;

use arable_core::{Draws, Probability, Seed, Stream};
use arable_tensor::ops::loss::VocabularyLoss;
use arable_tensor::{
    AttentionShape, DropoutMask, Format, ParameterId, ParameterSpec, Parameters, Rotary, Sequences, Tape, Var,
};
use rayon::prelude::*;

use crate::config::{Architecture, Pooling};

/// Tokens in a block of sequences, at most: enough for products to run at full speed, and few enough for a part of a
/// batch that is one block to need little memory.
const TOKENS_PER_BLOCK: usize = 2048;

/// Tokens in a part of a batch that one thread takes through all layers, at most: its activations fit the core's cache.
const TOKENS_PER_PART: usize = 512;

/// Packed sequences of token ids, each beginning with `[CLS]` and ending with `[SEP]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, sequence after sequence: `[num_tokens]`.
    pub ids: Vec<u32>,
    /// Where each sequence begins.
    pub sequences: Sequences,
}

impl Batch {
    /// Packs sequences.
    pub fn pack<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let (mut ids, mut lengths) = (Vec::new(), Vec::new());
        for sequence in sequences {
            ids.extend_from_slice(sequence);
            lengths.push(sequence.len());
        }
        Self { ids, sequences: Sequences::of_lengths(lengths) }
    }

    /// The sequences that lie in `rows`.
    pub fn some(&self, rows: Range<usize>) -> Self {
        let inside = self.sequences.iter().filter(|sequence| rows.start <= sequence.start && sequence.end <= rows.end);
        let sequences = Sequences::of_lengths(inside.map(|sequence| sequence.len()));
        Self { ids: self.ids[rows].to_vec(), sequences }
    }

    /// The blocks of sequences whose gradients are summed one after the other. They depend on the sequences alone, and
    /// parts of a batch that end where blocks end have the blocks of the whole.
    pub fn blocks(&self) -> Sequences {
        self.sequences.in_blocks(TOKENS_PER_BLOCK)
    }
}

/// What the encoder's output is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Predict masked tokens.
    MaskedLm,
    /// One vector of logits for each sequence.
    Sequence {
        /// Classes.
        num_labels: usize,
        /// How the sequence becomes one vector.
        pooling: Pooling,
    },
    /// One vector of logits for each chosen token.
    Token {
        /// Classes.
        num_labels: usize,
    },
    /// One vector of logits for each sequence, from the tokens at its markers side by side (Baldini Soares et al.
    /// 2019, "entity start").
    Marked {
        /// Classes.
        num_labels: usize,
        /// Markers in each sequence.
        num_markers: usize,
    },
}

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

/// How a batch goes through the encoder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// What is dropped, when training.
    pub dropout: Option<Dropout>,
    /// The first layers that keep nothing for the backward pass but compute it again.
    pub recomputed_layers: usize,
}

#[derive(Clone, Debug)]
struct Layer {
    attn_norm: Option<ParameterId>,
    qkv: ParameterId,
    attn_out: ParameterId,
    mlp_norm: ParameterId,
    mlp_in: ParameterId,
    mlp_out: ParameterId,
    attention: AttentionShape,
}

#[derive(Clone, Debug)]
enum Output {
    Decoder { bias: ParameterId },
    Classifier { weight: ParameterId, bias: ParameterId },
}

/// An encoder with a head and its weights.
#[derive(Clone, Debug)]
pub struct Model {
    architecture: Architecture,
    head: Head,
    parameters: Parameters,
    embeddings: ParameterId,
    embeddings_norm: ParameterId,
    layers: Vec<Layer>,
    final_norm: ParameterId,
    head_dense: ParameterId,
    head_norm: ParameterId,
    output: Output,
}

/// Adds parameters: those of `known` that are the encoder's, or else drawn as ModernBERT draws them.
struct Builder<'a> {
    parameters: Parameters,
    stream: Stream,
    known: Option<&'a Parameters>,
}

/// Normal values cut off at two deviations.
fn cut_normal(draws: &Draws, len: usize, deviation: f64) -> Vec<f32> {
    /// Drawn in one go; some are thrown away.
    const BLOCK: u64 = 1 << 14;
    let block = |number: u64| -> Vec<f32> {
        let mut draws = draws.clone();
        draws.skip(2 * BLOCK * number);
        let all = (0..BLOCK).map(|_| draws.normal());
        all.filter(|z| z.abs() <= 2.0).map(|z| (z * deviation) as f32).collect()
    };
    let (mut values, mut number) = (Vec::with_capacity(len + BLOCK as usize), 0);
    while values.len() < len {
        let num_blocks = ((len - values.len()) as u64).div_ceil(BLOCK);
        let blocks: Vec<Vec<f32>> = (number..number + num_blocks).into_par_iter().map(block).collect();
        blocks.into_iter().for_each(|block| values.extend(block));
        number += num_blocks;
    }
    values.truncate(len);
    values
}

impl Builder<'_> {
    fn matrix(&mut self, name: String, rows: usize, cols: usize, deviation: f64) -> ParameterId {
        let draws = self.stream.at(0, self.parameters.iter().count() as u64);
        self.add(ParameterSpec::matrix(name, rows, cols), || cut_normal(&draws, rows * cols, deviation))
    }

    fn add(&mut self, spec: ParameterSpec, values: impl FnOnce() -> Vec<f32>) -> ParameterId {
        let known = self.known.filter(|_| spec.name.starts_with("model."));
        match known.and_then(|known| Some(known.value(known.find(&spec.name)?))) {
            Some(values) => self.parameters.add(spec, values),
            None => self.parameters.add(spec, &values()),
        }
    }

    fn vector(&mut self, name: String, len: usize, value: f32) -> ParameterId {
        self.add(ParameterSpec::vector(name, len), || vec![value; len])
    }

    fn layer(&mut self, architecture: &Architecture, idx: usize, rotary: &[Rotary; 2]) -> Layer {
        let Architecture { hidden_size, intermediate_size, initializer_range, .. } = *architecture;
        // Close to zero: every layer begins close to the identity (as in Fixup, Zhang et al. 2019). It trains faster,
        // and what was never pretrained begins as a sum of its tokens.
        let out_deviation = 0.05 * initializer_range / (2.0 * architecture.num_hidden_layers as f64).sqrt();
        let name = |part: &str| format!("model.layers.{idx}.{part}.weight");
        let is_global = architecture.is_global(idx);
        Layer {
            attn_norm: (idx > 0).then(|| self.vector(name("attn_norm"), hidden_size, 1.0)),
            qkv: self.matrix(name("attn.Wqkv"), 3 * hidden_size, hidden_size, initializer_range),
            attn_out: self.matrix(name("attn.Wo"), hidden_size, hidden_size, out_deviation),
            mlp_norm: self.vector(name("mlp_norm"), hidden_size, 1.0),
            mlp_in: self.matrix(name("mlp.Wi"), 2 * intermediate_size, hidden_size, initializer_range),
            mlp_out: self.matrix(name("mlp.Wo"), hidden_size, intermediate_size, out_deviation),
            attention: AttentionShape {
                num_heads: architecture.num_attention_heads,
                half_window: (!is_global).then_some(architecture.local_attention / 2),
                rotary: rotary[usize::from(is_global)].clone(),
            },
        }
    }
}

impl Layer {
    /// `[num_tokens, hidden] -> [num_tokens, hidden]`, layer number `idx`.
    fn forward(
        &self,
        tape: &mut Tape<'_>,
        x: Var,
        sequences: &Sequences,
        eps: f32,
        (dropout, idx): (Option<Dropout>, usize),
    ) -> Var {
        let place = 1 + 2 * idx as u64;
        let narrow = tape.device().activations();
        let normed = self.attn_norm.map_or(x, |norm| tape.layer_norm(x, norm, eps, narrow));
        let qkv = tape.linear(normed, self.qkv, narrow);
        let attended = tape.attention(qkv, sequences, &self.attention);
        let x = match dropout.filter(|dropout| dropout.p.get() > 0.0) {
            None => tape.linear_onto(attended, self.attn_out, x),
            dropout => {
                let out = tape.linear(attended, self.attn_out, narrow);
                let out = drop_at(tape, out, dropout, place);
                tape.add(x, out)
            }
        };
        let normed = tape.layer_norm(x, self.mlp_norm, eps, narrow);
        let wide = tape.linear(normed, self.mlp_in, narrow);
        let gated = tape.geglu(wide);
        let gated = drop_at(tape, gated, dropout, place + 1);
        tape.linear_onto(gated, self.mlp_out, x)
    }
}

/// The log probability of a token that never occurs.
const NEVER: f32 = -40.0;

impl Head {
    pub(crate) fn num_labels(self) -> Option<usize> {
        match self {
            Self::MaskedLm => None,
            Self::Sequence { num_labels, .. } | Self::Token { num_labels } | Self::Marked { num_labels, .. } => {
                Some(num_labels)
            }
        }
    }

    fn num_inputs(self) -> usize {
        if let Self::Marked { num_markers, .. } = self { num_markers } else { 1 }
    }
}

impl Model {
    /// A model with random weights.
    pub fn new(architecture: Architecture, head: Head, seed: Seed) -> Self {
        Self::build(architecture, head, seed, None)
    }

    /// The same with the encoder's weights from `known`.
    fn build(architecture: Architecture, head: Head, seed: Seed, known: Option<&Parameters>) -> Self {
        let a = &architecture;
        let head_dim = a.hidden_size / a.num_attention_heads;
        let rotary = [a.local_rope_theta, a.global_rope_theta]
            .map(|theta| Rotary::new(head_dim, a.max_position_embeddings, theta));
        let stream = seed.stream("initial weights");
        let mut builder = Builder { parameters: Parameters::default(), stream, known };
        let (hidden, deviation) = (a.hidden_size, a.initializer_range);
        let embeddings =
            builder.matrix("model.embeddings.tok_embeddings.weight".into(), a.vocab_size, hidden, deviation);
        let embeddings_norm = builder.vector("model.embeddings.norm.weight".into(), hidden, 1.0);
        let layers = (0..a.num_hidden_layers).map(|idx| builder.layer(a, idx, &rotary)).collect();
        let final_norm = builder.vector("model.final_norm.weight".into(), hidden, 1.0);
        let out_deviation = deviation / (2.0 * a.num_hidden_layers as f64).sqrt();
        let head_dense = builder.matrix("head.dense.weight".into(), hidden, head.num_inputs() * hidden, out_deviation);
        let head_norm = builder.vector("head.norm.weight".into(), hidden, 1.0);
        let output = match head.num_labels() {
            None => Output::Decoder { bias: builder.vector("decoder.bias".into(), a.vocab_size, 0.0) },
            Some(num_labels) => Output::Classifier {
                weight: builder.matrix("classifier.weight".into(), num_labels, hidden, (hidden as f64).powf(-0.5)),
                bias: builder.vector("classifier.bias".into(), num_labels, 0.0),
            },
        };
        let parameters = builder.parameters;
        Self {
            architecture,
            head,
            parameters,
            embeddings,
            embeddings_norm,
            layers,
            final_norm,
            head_dense,
            head_norm,
            output,
        }
    }

    /// The same encoder under a head with weights of its own.
    ///
    /// The dense layer of the masked head is not taken over: it is made to find tokens, and fine-tuning gets further
    /// from a fresh one.
    pub fn with_head(&self, head: Head, seed: Seed) -> Self {
        Self::build(self.architecture.clone(), head, seed, Some(&self.parameters))
    }

    /// Begins the masked head at the frequencies of the tokens: `counts`, `[vocab_size]`.
    ///
    /// Without it the encoder learns them first, as one large vector common to all tokens, which later drowns what
    /// sets tokens apart (Meister et al. 2023, "A natural bias for language generation models"). Tokens that never
    /// occur, such as a task's markers, are out of the question from the start: they would all be pushed the same way,
    /// until nothing sets them apart.
    ///
    /// # Panics
    /// When the model's head is not [`Head::MaskedLm`] or there is not one count for each token.
    pub fn set_prior(&mut self, counts: &[u64]) {
        let Output::Decoder { bias } = self.output else { panic!("a prior of tokens needs the masked head") };
        assert_eq!(counts.len(), self.architecture.vocab_size, "one count for each token");
        let total = counts.iter().sum::<u64>() as f64;
        for (bias, &count) in self.parameters.value_mut(bias).iter_mut().zip(counts) {
            *bias = if count == 0 { NEVER } else { (count as f64 / total).ln() as f32 };
        }
    }

    /// The encoder's shape.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// What the output is used for.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The weights, to be changed.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The encoder's output after the final norm: `[num_tokens, hidden]`.
    ///
    /// # Panics
    /// When an id is not in the vocabulary or a sequence is longer than `max_position_embeddings`.
    pub fn encode(&self, tape: &mut Tape<'_>, batch: &Batch, pass: Pass) -> Var {
        if tape.is_recording() {
            return self.encode_at_once(tape, batch, pass);
        }
        let parts: Vec<_> = batch.sequences.in_blocks(TOKENS_PER_PART).iter().collect();
        tape.side_by_side(&parts, self.architecture.hidden_size, |tape, rows| {
            let first_row = |dropout: Dropout| Dropout { first_row: dropout.first_row + rows.start, ..dropout };
            let pass = Pass { dropout: pass.dropout.map(first_row), ..pass };
            self.encode_at_once(tape, &batch.some(rows.clone()), pass)
        })
    }

    fn encode_at_once(&self, tape: &mut Tape<'_>, batch: &Batch, pass: Pass) -> Var {
        let eps = self.architecture.norm_eps as f32;
        let embedded = tape.embedding(batch.ids.clone(), self.embeddings);
        tape.cut(embedded, batch.blocks());
        let mut x = tape.layer_norm(embedded, self.embeddings_norm, eps, Format::F32);
        x = drop_at(tape, x, pass.dropout, 0);
        for (idx, layer) in self.layers.iter().enumerate() {
            let (layer, sequences) = (layer.clone(), batch.sequences.clone());
            let forward = move |tape: &mut Tape<'_>, x| layer.forward(tape, x, &sequences, eps, (pass.dropout, idx));
            // Without a backward pass nobody asks for what lies between.
            let recompute = idx < pass.recomputed_layers || !tape.is_recording();
            x = if recompute { tape.recomputed(x, forward) } else { forward(tape, x) };
        }
        tape.layer_norm(x, self.final_norm, eps, Format::F32)
    }

    /// `scale` times the summed loss of predicting `targets` at the rows `positions` of `hidden`, in order; what was
    /// found is added to `found`. The tape has to run backwards from it.
    ///
    /// # Panics
    /// When the model's head is not [`Head::MaskedLm`].
    pub fn masked_loss(
        &self,
        tape: &mut Tape<'_>,
        hidden: Var,
        positions: &[usize],
        targets: &[u32],
        scale: f32,
        found: &mut VocabularyLoss,
    ) -> Var {
        let Output::Decoder { bias } = self.output else { panic!("a masked loss needs the masked head") };
        let rows = tape.gather_rows(hidden, positions.to_vec(), 1);
        let x = self.head_transform(tape, rows);
        tape.linear_cross_entropy(x, (self.embeddings, bias), targets, scale, found)
    }

    /// Logits `[n, num_labels]` (or `[n, vocab_size]` of a masked head). `positions` are the rows of `hidden` to
    /// classify: chosen tokens, markers in the order of the sequences; unused by a sequence head.
    ///
    /// # Panics
    /// When the positions do not fill the head's inputs.
    pub fn logits(
        &self,
        tape: &mut Tape<'_>,
        hidden: Var,
        sequences: &Sequences,
        positions: &[usize],
        dropout: Option<Dropout>,
    ) -> Var {
        let pooled = self.pooled(tape, hidden, sequences, positions);
        let x = self.head_transform(tape, pooled);
        let x = drop_at(tape, x, dropout, u64::MAX);
        match self.output {
            Output::Decoder { bias } => tape.linear_with_bias(x, self.embeddings, bias),
            Output::Classifier { weight, bias } => tape.linear_with_bias(x, weight, bias),
        }
    }

    /// The rows of `hidden` that [`Model::logits`] classifies from: `[n, hidden]`, of markers `[n, num_markers * hidden]`.
    ///
    /// # Panics
    /// When the positions do not fill the head's inputs.
    pub fn pooled(&self, tape: &mut Tape<'_>, hidden: Var, sequences: &Sequences, positions: &[usize]) -> Var {
        match self.head {
            Head::MaskedLm | Head::Token { .. } => tape.gather_rows(hidden, positions.to_vec(), 1),
            Head::Marked { num_markers, .. } => tape.gather_rows(hidden, positions.to_vec(), num_markers),
            Head::Sequence { pooling: Pooling::Mean, .. } => tape.segment_mean(hidden, sequences),
            Head::Sequence { pooling: Pooling::Cls, .. } => {
                tape.gather_rows(hidden, sequences.iter().map(|rows| rows.start).collect(), 1)
            }
        }
    }

    fn head_transform(&self, tape: &mut Tape<'_>, x: Var) -> Var {
        let dense = tape.linear(x, self.head_dense, Format::F32);
        let active = tape.gelu(dense);
        tape.layer_norm(active, self.head_norm, self.architecture.norm_eps as f32, Format::F32)
    }
}

/// Dropout number `place` of a forward pass. Each place has a stretch of the stream of its own.
fn drop_at(tape: &mut Tape<'_>, x: Var, dropout: Option<Dropout>, place: u64) -> Var {
    let Some(Dropout { p, stream, step, first_row }) = dropout else { return x };
    let step = step.wrapping_mul(1024).wrapping_add(place);
    tape.dropout(x, DropoutMask { p, stream, step, first_row })
}
