//! The weights of a model: drawn, or taken over from another.

use arable_core::{Draws, Probability, Stream};
use arable_tensor::ops::adapter::row_norms;
use arable_tensor::{
    Activation, AttentionShape, DropoutMask, Format, LowRank, Norm, ParameterId, ParameterSpec, Parameters, Rescale,
    Rotary, Sparse, Tape, Var,
};
use rayon::prelude::*;

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

/// Normal values cut off at two deviations, one for each draw.
fn cut_normal(draws: &Draws, len: usize, deviation: f64) -> Vec<f32> {
    const BLOCK: usize = 1 << 14;
    let mut values = vec![0.0; len];
    values.par_chunks_mut(BLOCK).enumerate().for_each(|(block, values)| {
        let mut draws = draws.clone();
        draws.skip((block * BLOCK) as u64);
        values.iter_mut().for_each(|value| *value = (deviation * quantile(IN_TWO * (draws.uniform() - 0.5))) as f32);
    });
    values
}

/// The probability that a standard normal value lies within two deviations.
const IN_TWO: f64 = 0.954_499_736_103_641_6;

/// The standard normal value below which `0.5 + q` lie, for those within two deviations, relative error below 1e-8 (Acklam's
/// rational function for the middle of the distribution).
#[inline]
fn quantile(q: f64) -> f64 {
    const ABOVE: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const BELOW: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    let polynomial = |coefficients: [f64; 6]| coefficients.into_iter().fold(0.0, |sum, own| sum * (q * q) + own);
    q * polynomial(ABOVE) / polynomial(BELOW)
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
        self.add(ParameterSpec::matrix(name, rows, cols), || cut_normal(&draws, rows * cols, deviation))
    }

    fn add(&mut self, spec: ParameterSpec, values: impl FnOnce() -> Vec<f32>) -> ParameterId {
        let known = self.known.filter(|_| spec.name.starts_with("model."));
        match known.and_then(|known| Some(known.value(known.find(&spec.name)?))) {
            Some(values) => self.parameters.add(spec, values),
            None => self.parameters.add(spec, &values()),
        }
    }

    pub fn vector(&mut self, name: String, len: usize, value: f32) -> ParameterId {
        self.add(ParameterSpec::vector(name, len), || vec![value; len])
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

#[cfg(test)]
mod tests {
    use arable_core::Seed;

    use super::*;

    /// Beside the integral of the density, by Simpson's rule.
    #[test]
    fn quantiles_invert_the_distribution() {
        let density = |z: f64| (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        for i in -100..=100 {
            let q = 0.005 * f64::from(i) * IN_TWO;
            let (z, steps) = (quantile(q), 2000);
            let weight = |k: i32| if k == 0 || k == steps { 1.0 } else { f64::from(2 + k % 2 * 2) };
            let width = z / f64::from(steps);
            let area = (0..=steps).map(|k| weight(k) * density(f64::from(k) * width)).sum::<f64>() * width / 3.0;
            assert!((area - q).abs() < 1e-8, "{q}: {z}");
        }
        assert!((quantile(0.5 * IN_TWO) - 2.0).abs() < 1e-6);
    }

    #[test]
    fn initial_weights_are_cut_normal_and_the_same_for_any_length() {
        let draws = Seed(3).stream("weights").at(0, 0);
        let values = cut_normal(&draws, 200_001, 0.5);
        assert!(values.iter().all(|value| value.abs() <= 1.0));
        let moment = |n: i32| values.iter().map(|&value| f64::from(2.0 * value).powi(n)).sum::<f64>() / 200_001.0;
        // Of a normal cut off at two deviations: 1 - 4 phi(2) / P(|z| <= 2).
        assert!(moment(1).abs() < 0.01 && (moment(2) - 0.773_74).abs() < 0.01, "{} {}", moment(1), moment(2));
        assert_eq!(values[..70_000], cut_normal(&draws, 70_000, 0.5));
    }
}
