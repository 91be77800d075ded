//! Softmax attention over packed sequences with rotary positions, full or within a window.
//!
//! Scores exist for one block of queries at a time and are computed again in the backward pass (Dao et al. 2022 on
//! recomputation; Su et al. 2021 on rotary positions).

use std::sync::Arc;

use crate::device::Device;
use crate::kernels::{Init, MatMut, MatRef};
use crate::math::{dot, exp, max, sum};
use crate::ops::{Sequences, for_ranges};
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// Queries whose scores exist at a time.
const BLOCK: usize = 128;

/// Cosines and sines of rotary positions, `[max_length, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct Rotary {
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
}

impl Rotary {
    /// Tables for positions below `max_length` with base `theta`.
    pub fn new(head_dim: usize, max_length: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let angle = |i: usize| {
            let inverse = 1.0 / (theta as f32).powf((2 * (i % half)) as f32 / head_dim as f32);
            (i / half) as f32 * inverse
        };
        Self {
            cos: (0..max_length * half).map(|i| angle(i).cos()).collect(),
            sin: (0..max_length * half).map(|i| angle(i).sin()).collect(),
        }
    }

    /// Tables that turn nothing.
    #[cfg(test)]
    pub(crate) fn still(head_dim: usize, max_length: usize) -> Self {
        let len = max_length * head_dim / 2;
        Self { cos: vec![1.0; len].into(), sin: vec![0.0; len].into() }
    }

    /// Rotates rows of `dim` elements, `strides` apart in `from` and `to`, row after row from position 0 on; `direction`
    /// -1 turns back.
    fn rotate(&self, from: &[f32], to: &mut [f32], strides: (usize, usize), dim: usize, direction: f32) {
        rotate(&self.cos, &self.sin, from, to, strides, dim, direction);
    }
}

vectorized! {
    fn rotate(
        cos: &[f32],
        sin: &[f32],
        from: &[f32],
        to: &mut [f32],
        strides: (usize, usize),
        dim: usize,
        direction: f32,
    ) {
        let half = dim / 2;
        for (position, (from, to)) in from.chunks(strides.0).zip(to.chunks_mut(strides.1)).enumerate() {
            let turns = cos[position * half..][..half].iter().zip(&sin[position * half..][..half]);
            let ((a, b), (to_a, to_b)) = (from[..dim].split_at(half), to[..dim].split_at_mut(half));
            let pairs = a.iter().zip(b).zip(to_a.iter_mut().zip(to_b));
            for (((a, b), (to_a, to_b)), (cos, sin)) in pairs.zip(turns) {
                let sin = direction * sin;
                *to_a = a * cos - b * sin;
                *to_b = b * cos + a * sin;
            }
        }
    }

    /// The softmax of `scale` times a row.
    fn softmax(row: &mut [f32], scale: f32) {
        let top = max(row);
        for value in row.iter_mut() {
            *value = exp((*value - top) * scale);
        }
        let factor = 1.0 / sum(row, |p| p);
        for value in row.iter_mut() {
            *value *= factor;
        }
    }

    /// `ds = p * (ds - <out, d_out>) * scale`.
    fn softmax_backward(ds: &mut [f32], p: &[f32], out: &[f32], d_out: &[f32], scale: f32) {
        let delta = dot(out, d_out);
        for (ds, p) in ds.iter_mut().zip(p) {
            *ds = p * (*ds - delta) * scale;
        }
    }
}

/// Shape of an attention layer.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    /// Number of heads; it divides the hidden size.
    pub num_heads: usize,
    /// How far a query looks to either side, in tokens; `None` is everywhere.
    pub half_window: Option<usize>,
    /// Positions.
    pub rotary: Rotary,
}

struct Attention {
    qkv: Var,
    sequences: Sequences,
    shape: AttentionShape,
}

impl Tape<'_> {
    /// `qkv [n, 3 hidden]` (queries, keys, values, each head after head) `-> [n, hidden]`, scores scaled by
    /// `1 / sqrt(head_dim)`, each sequence on its own.
    ///
    /// # Panics
    /// When a sequence is longer than the rotary tables.
    pub fn attention(&mut self, qkv: Var, sequences: &Sequences, shape: &AttentionShape) -> Var {
        let device = self.device();
        let input = self.value(qkv);
        assert_eq!(input.rows(), sequences.num_rows(), "sequences cover the rows");
        let hidden = input.cols() / 3;
        let mut output = device.stale(input.rows(), hidden);
        let ranges: Vec<_> = sequences.iter().collect();
        for_ranges(device, output.host_mut(), hidden, &ranges, |idx, output| {
            let input = &input.host()[ranges[idx].start * 3 * hidden..ranges[idx].end * 3 * hidden];
            for head in 0..shape.num_heads {
                Head::new(device, shape, input, hidden, head).forward(output);
            }
        });
        self.push_like(qkv, output, Attention { qkv, sequences: sequences.clone(), shape: shape.clone() })
    }
}

impl Op for Attention {
    fn backward(&self, backprop: &mut Backprop<'_>, output: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let input = backprop.value(self.qkv);
        let hidden = grad.cols();
        let mut d_input = device.stale(input.rows(), 3 * hidden);
        let ranges: Vec<_> = self.sequences.iter().collect();
        for_ranges(device, d_input.host_mut(), 3 * hidden, &ranges, |idx, d_input| {
            let rows = ranges[idx].clone();
            let qkv = &input.host()[rows.start * 3 * hidden..rows.end * 3 * hidden];
            let out = &output.host()[rows.start * hidden..rows.end * hidden];
            let d_out = &grad.host()[rows.start * hidden..rows.end * hidden];
            for head in 0..self.shape.num_heads {
                Head::new(device, &self.shape, qkv, hidden, head).backward(out, d_out, d_input);
            }
        });
        backprop.give(self.qkv, d_input);
    }
}

/// One head of one sequence: rotated queries and keys, and the values in place.
struct Head<'a> {
    device: &'a Device,
    shape: &'a AttentionShape,
    queries: Tensor,
    keys: Tensor,
    qkv: &'a [f32],
    first_col: usize,
    hidden: usize,
}

impl<'a> Head<'a> {
    fn new(device: &'a Device, shape: &'a AttentionShape, qkv: &'a [f32], hidden: usize, head: usize) -> Self {
        let (length, dim) = (qkv.len() / (3 * hidden), hidden / shape.num_heads);
        let first_col = head * dim;
        let rotated = |offset: usize| {
            let mut out = device.stale(length, dim);
            shape.rotary.rotate(&qkv[offset + first_col..], out.host_mut(), (3 * hidden, dim), dim, 1.0);
            out
        };
        Self { device, shape, queries: rotated(0), keys: rotated(hidden), qkv, first_col, hidden }
    }

    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let (length, half_window) = (self.queries.rows(), self.shape.half_window);
        (0..length).step_by(BLOCK).map(move |first| {
            let rows = BLOCK.min(length - first);
            let reach = half_window.unwrap_or(length);
            let keys = first.saturating_sub(reach)..(first + rows).saturating_add(reach).min(length);
            Block { first, rows, first_key: keys.start, num_keys: keys.len(), reach }
        })
    }

    fn dim(&self) -> usize {
        self.queries.cols()
    }

    fn block_of<'t>(&self, of: &'t Tensor, first: usize, rows: usize) -> MatRef<'t> {
        MatRef::new(&of.host()[first * self.dim()..][..rows * self.dim()], rows, self.dim())
    }

    fn values_of(&self, block: &Block) -> MatRef<'a> {
        let first = block.first_key * 3 * self.hidden + 2 * self.hidden + self.first_col;
        MatRef::strided(&self.qkv[first..], block.num_keys, self.dim(), 3 * self.hidden)
    }

    /// Columns of this head in rows of width `hidden`, beginning with row `first`.
    fn cols_of<'t>(&self, of: &'t [f32], first: usize, rows: usize) -> MatRef<'t> {
        MatRef::strided(&of[first * self.hidden + self.first_col..], rows, self.dim(), self.hidden)
    }

    /// Attention probabilities of a block, zero outside the window.
    fn probabilities(&self, block: &Block) -> Tensor {
        let mut scores = self.device.stale(block.rows, block.num_keys);
        let scale = 1.0 / (self.dim() as f32).sqrt();
        let queries = self.block_of(&self.queries, block.first, block.rows);
        let keys = self.block_of(&self.keys, block.first_key, block.num_keys);
        self.device.matmul_here(block.square(&mut scores), Init::Zero, queries, keys.t());
        for (i, row) in scores.host_mut().chunks_exact_mut(block.num_keys).enumerate() {
            let seen = block.keys_seen(i);
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            softmax(&mut row[seen], scale);
        }
        scores
    }

    fn forward(&self, output: &mut [f32]) {
        for block in self.blocks() {
            let probabilities = self.probabilities(&block);
            let p = MatRef::new(probabilities.host(), block.rows, block.num_keys);
            let c = &mut output[block.first * self.hidden + self.first_col..];
            let c = MatMut::strided(c, block.rows, self.dim(), self.hidden);
            self.device.matmul_here(c, Init::Zero, p, self.values_of(&block));
        }
    }

    fn backward(&self, out: &[f32], d_out: &[f32], d_qkv: &mut [f32]) {
        let (length, dim, hidden) = (self.queries.rows(), self.dim(), self.hidden);
        let mut d_queries = self.device.stale(length, dim);
        let mut d_keys = self.device.zeros(length, dim);
        let mut d_values = self.device.zeros(length, dim);
        for block in self.blocks() {
            let probabilities = self.probabilities(&block);
            let p = MatRef::new(probabilities.host(), block.rows, block.num_keys);
            let d_o = self.cols_of(d_out, block.first, block.rows);
            self.device.matmul_here(part(&mut d_values, block.first_key, block.num_keys), Init::Add, p.t(), d_o);
            let d_scores = self.d_scores(&block, &probabilities, out, d_out);
            let ds = MatRef::new(d_scores.host(), block.rows, block.num_keys);
            let keys = self.block_of(&self.keys, block.first_key, block.num_keys);
            let queries = self.block_of(&self.queries, block.first, block.rows);
            self.device.matmul_here(part(&mut d_queries, block.first, block.rows), Init::Zero, ds, keys);
            self.device.matmul_here(part(&mut d_keys, block.first_key, block.num_keys), Init::Add, ds.t(), queries);
        }
        let col = self.first_col;
        let rotary = &self.shape.rotary;
        rotary.rotate(d_queries.host(), &mut d_qkv[col..], (dim, 3 * hidden), dim, -1.0);
        rotary.rotate(d_keys.host(), &mut d_qkv[hidden + col..], (dim, 3 * hidden), dim, -1.0);
        for (position, row) in d_qkv.chunks_exact_mut(3 * hidden).enumerate() {
            row[2 * hidden + col..][..dim].copy_from_slice(d_values.row(position));
        }
    }

    /// The gradient by the unscaled scores of a block: `p * (dp - <out, d_out>) / sqrt(dim)`.
    fn d_scores(&self, block: &Block, probabilities: &Tensor, out: &[f32], d_out: &[f32]) -> Tensor {
        let scale = 1.0 / (self.dim() as f32).sqrt();
        let mut d_scores = self.device.stale(block.rows, block.num_keys);
        let d_o = self.cols_of(d_out, block.first, block.rows);
        self.device.matmul_here(block.square(&mut d_scores), Init::Zero, d_o, self.values_of(block).t());
        for (i, row) in d_scores.host_mut().chunks_exact_mut(block.num_keys).enumerate() {
            let at = (block.first + i) * self.hidden + self.first_col;
            let (out, d_out) = (&out[at..at + self.dim()], &d_out[at..at + self.dim()]);
            softmax_backward(row, probabilities.row(i), out, d_out, scale);
        }
        d_scores
    }
}

/// Some queries of a sequence and the keys that any of them sees.
struct Block {
    first: usize,
    rows: usize,
    first_key: usize,
    num_keys: usize,
    reach: usize,
}

impl Block {
    fn square<'t>(&self, scores: &'t mut Tensor) -> MatMut<'t> {
        MatMut::new(scores.host_mut(), self.rows, self.num_keys)
    }

    /// The keys that the block's query `i` sees, counted from the block's first key.
    fn keys_seen(&self, i: usize) -> std::ops::Range<usize> {
        let query = self.first + i;
        let start = query.saturating_sub(self.reach).max(self.first_key) - self.first_key;
        let end = query.saturating_add(self.reach).saturating_add(1).saturating_sub(self.first_key).min(self.num_keys);
        start..end
    }
}

/// Some rows of a matrix, to be written.
fn part(of: &mut Tensor, first: usize, rows: usize) -> MatMut<'_> {
    let cols = of.cols();
    MatMut::new(&mut of.host_mut()[first * cols..][..rows * cols], rows, cols)
}
