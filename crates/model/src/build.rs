//! The weights of a model: drawn, or taken over from another.

use arable_core::{Probability, Stream};
use arable_tensor::initial::cut_normal;
use arable_tensor::ops::adapter::row_norms;
use arable_tensor::{
    Activation, AttentionShape, DropoutMask, Format, LowRank, Norm, ParameterId, ParameterSpec, Parameters, Rescale,
    Rotary, Sparse, Tape, Var,
};

use crate::config::{Architecture, Positions};
use crate::families::{HeadStyle, Place};
use crate::head::{HeadWeights, Transformed};
use crate::transformer::Layer;

/// A linear layer.
#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub weight: ParameterId,
    pub bias: Option<ParameterId>,
    /// The bias of the model without adapters.
    pub base_bias: Option<ParameterId>,
    /// What adapters do to it, in order.
    pub changes: Vec<Change>,
}

/// What an adapter does to a linear layer.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// LoRA; with magnitudes of the rows, DoRA.
    LowRank { low_rank: LowRank, magnitude: Option<ParameterId>, dropout: Probability },
    /// Factors of what comes out.
    Outputs(Rescale),
    /// Factors of what goes in.
    Inputs(ParameterId),
    /// Some entries of the weight.
    Sparse(Sparse),
}

impl Dense {
    pub fn new(weight: ParameterId, bias: Option<ParameterId>) -> Self {
        Self { weight, bias, base_bias: bias, changes: Vec::new() }
    }

    /// `mask` draws what adapters drop.
    pub fn forward(&self, tape: &mut Tape<'_>, x: Var, format: Format, mask: Option<DropoutMask>) -> Var {
        if self.changes.is_empty() {
            return tape.linear(x, self.weight, self.bias, format);
        }
        let x = self.scaled_input(tape, x);
        let y = tape.linear(x, self.weight, self.bias, Format::F32);
        let y = self.changed(tape, x, y, None, mask);
        tape.convert(y, format)
    }

    pub fn forward_onto(&self, tape: &mut Tape<'_>, x: Var, onto: Var, mask: Option<DropoutMask>) -> Var {
        let x = self.scaled_input(tape, x);
        let y = tape.linear_onto(x, self.weight, self.bias, onto);
        self.changed(tape, x, y, Some(onto), mask)
    }

    fn scaled_input(&self, tape: &mut Tape<'_>, x: Var) -> Var {
        let by =
            self.changes.iter().filter_map(|change| if let Change::Inputs(by) = change { Some(*by) } else { None });
        by.fold(x, |x, by| tape.scale_columns(x, by))
    }

    /// `y`, which holds `onto`, after all changes of what comes out.
    fn changed(&self, tape: &mut Tape<'_>, x: Var, mut y: Var, onto: Option<Var>, mask: Option<DropoutMask>) -> Var {
        for change in &self.changes {
            y = match change {
                Change::Inputs(_) => y,
                Change::Outputs(rescale) => tape.rescale(y, onto, rescale.clone()),
                Change::Sparse(sparse) => tape.sparse(x, y, sparse.clone()),
                Change::LowRank { low_rank, magnitude, dropout } => {
                    let dropped = mask.clone().map_or(x, |mask| tape.dropout(x, DropoutMask { p: *dropout, ..mask }));
                    let y = tape.low_rank(dropped, y, low_rank.clone());
                    magnitude.map_or(y, |factor| {
                        let divisor = Some(row_norms(tape.parameters(), self.weight, low_rank));
                        let columns = low_rank.outputs.clone();
                        tape.rescale(y, onto, Rescale { factor, divisor, bias: self.bias, columns })
                    })
                }
            };
        }
        y
    }
}

/// A small network behind a part of a layer: `y + up(gelu(down(y - x)))`, for `x` before that part and `y` behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bottleneck {
    /// Weight and bias.
    pub down: (ParameterId, ParameterId),
    pub up: (ParameterId, ParameterId),
}

impl Bottleneck {
    pub fn forward(self, tape: &mut Tape<'_>, before: Var, behind: Var) -> Var {
        let Self { down, up } = self;
        let part = tape.minus(behind, before);
        let inner = tape.linear(part, down.0, Some(down.1), Format::F32);
        let inner = tape.activation(inner, Activation::Gelu);
        tape.linear_onto(inner, up.0, Some(up.1), behind)
    }
}

/// Adds parameters: those of `known` that are not the head's, or else drawn as ModernBERT draws them.
pub(crate) struct Builder<'a> {
    pub parameters: Parameters,
    pub stream: Stream,
    pub known: Option<&'a Parameters>,
}

/// Cosines and sines of the positions in layers that see what is near and in those that see everything.
pub(crate) fn rotary(a: &Architecture) -> [Option<Rotary>; 2] {
    let Positions::Rotary { theta, local } = a.positions else { return [None, None] };
    let table = |theta| Rotary::new(a.head_dim, a.max_position_embeddings, theta);
    [local.map(|local| table(local.theta)), Some(table(theta))]
}

impl Builder<'_> {
    pub fn matrix(&mut self, name: String, rows: usize, cols: usize, deviation: f64) -> ParameterId {
        let draws = self.stream.at(0, self.parameters.iter().count() as u64);
        self.add(ParameterSpec::matrix(name, rows, cols), |values| cut_normal(&draws, deviation, values))
    }

    fn add(&mut self, spec: ParameterSpec, fill: impl FnOnce(&mut [f32])) -> ParameterId {
        let known = self.known.filter(|_| spec.name.starts_with("model."));
        match known.and_then(|known| Some(known.value(known.find(&spec.name)?))) {
            Some(values) => self.parameters.add(spec, values),
            None => self.parameters.add_filled(spec, fill),
        }
    }

    pub fn vector(&mut self, name: String, len: usize, value: f32) -> ParameterId {
        self.add(ParameterSpec::vector(name, len), |values| values.fill(value))
    }

    pub fn dense(&mut self, name: &str, (rows, cols): (usize, usize), has_bias: bool, deviation: f64) -> Dense {
        let weight = self.matrix(format!("{name}.weight"), rows, cols, deviation);
        Dense::new(weight, has_bias.then(|| self.vector(format!("{name}.bias"), rows, 0.0)))
    }

    /// A norm of `len` columns, of the model's kind.
    pub fn norm(&mut self, a: &Architecture, name: &str, len: usize, has_bias: bool) -> Norm {
        let weight = self.vector(format!("{name}.weight"), len, 1.0);
        let bias = has_bias.then(|| self.vector(format!("{name}.bias"), len, 0.0));
        Norm { kind: a.style().norm, weight, bias, eps: a.norm_eps as f32 }
    }

    pub fn layer(&mut self, a: &Architecture, idx: usize, rotary: &[Option<Rotary>; 2]) -> Layer {
        let (style, hidden, deviation) = (a.style(), a.hidden_size, a.initializer_range);
        // Close to zero: every layer begins close to the identity (as in Fixup, Zhang et al. 2019). It trains faster,
        // and what was never pretrained begins as a sum of its tokens.
        let out_deviation = 0.05 * deviation / (2.0 * a.num_hidden_layers as f64).sqrt();
        let name = |part: &str| format!("model.layers.{idx}.{part}");
        let local = a.local(idx);
        let attention = AttentionShape {
            num_heads: a.num_attention_heads,
            num_kv_heads: a.num_key_value_heads,
            head_dim: a.head_dim,
            half_window: local.map(|local| local.window / 2),
            is_causal: style.is_causal,
            rotary: rotary[usize::from(local.is_none())].clone(),
        };
        let first = self.parameters.iter().count();
        let has_norm = style.place == Place::After || style.first_norm || idx > 0;
        let attn_norm = has_norm.then(|| self.norm(a, &name("attn_norm"), hidden, style.norm_bias));
        let qkv = self.dense(&name("attn.Wqkv"), (attention.num_cols(), hidden), style.qkv_bias, deviation);
        let head_norms = style.head_norm.then(|| {
            let [queries, keys] = ["attn.query_norm", "attn.key_norm"];
            [self.norm(a, &name(queries), a.head_dim, false), self.norm(a, &name(keys), a.head_dim, false)]
        });
        let inside = a.num_attention_heads * a.head_dim;
        let attn_out = self.dense(&name("attn.Wo"), (hidden, inside), style.bias, out_deviation);
        let mlp_norm = self.norm(a, &name("mlp_norm"), hidden, style.norm_bias);
        let width = if style.is_gated { 2 * a.intermediate_size } else { a.intermediate_size };
        let mlp_in = self.dense(&name("mlp.Wi"), (width, hidden), style.bias, deviation);
        let mlp_out = self.dense(&name("mlp.Wo"), (hidden, a.intermediate_size), style.bias, out_deviation);
        let (activation, is_gated, place) = (a.activation, style.is_gated, style.place);
        let parameters = self.parameters.iter().skip(first).map(|(id, ..)| id).collect();
        Layer {
            parameters,
            bottlenecks: [Vec::new(), Vec::new()],
            place,
            attn_norm,
            qkv,
            head_norms,
            attn_out,
            mlp_norm,
            mlp_in,
            mlp_out,
            attention,
            activation,
            is_gated,
        }
    }

    /// A head over `num_inputs` states side by side; `labels` are its classes, `None` the tokens of the vocabulary.
    pub fn head(
        &mut self,
        a: &Architecture,
        style: HeadStyle,
        num_inputs: usize,
        labels: Option<usize>,
    ) -> HeadWeights {
        let hidden = a.hidden_size;
        let out_deviation = a.initializer_range / (2.0 * a.num_hidden_layers.max(1) as f64).sqrt();
        let transform = style.transform.map(|transform| Transformed {
            dense: self.dense("head.dense", (hidden, num_inputs * hidden), transform.bias, out_deviation),
            activation: transform.activation.unwrap_or(a.activation),
            norm: transform.has_norm.then(|| self.norm(a, "head.norm", hidden, transform.bias)),
        });
        let num_inputs = if transform.is_some() { 1 } else { num_inputs };
        let out = match labels {
            Some(num_labels) => {
                let deviation = (hidden as f64).powf(-0.5);
                self.dense("classifier", (num_labels, num_inputs * hidden), style.bias, deviation)
            }
            None => {
                let tied = self.parameters.find(EMBEDDINGS).filter(|_| a.is_tied);
                let weight = tied
                    .unwrap_or_else(|| self.matrix("decoder.weight".into(), a.vocab_size, hidden, a.initializer_range));
                Dense::new(weight, style.bias.then(|| self.vector("decoder.bias".into(), a.vocab_size, 0.0)))
            }
        };
        HeadWeights { transform, out }
    }
}

/// The table of embeddings.
pub(crate) const EMBEDDINGS: &str = "model.embeddings.tok_embeddings.weight";
