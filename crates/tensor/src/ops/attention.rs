//! Softmax attention over packed sequences with rotary positions, full or within a window.
//!
//! Scores exist for one block of queries at a time and are computed again in the backward pass (Dao et al. 2022 on
//! recomputation; Su et al. 2021 on rotary positions).

use std::ops::Range;
use std::sync::Arc;

use crate::device::Device;
use crate::element::{Element, by_format};
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
}

/// Numbers that are turned at a time. Without blocks of fixed size the compiler would have to ask, for each head, whether
/// the halves overlap.
const LANES: usize = 16;

vectorized! {
    /// Rotates `num_heads` heads of `dim` elements in each row, `strides` elements from row to row in `from` and `to`, from
    /// position 0 on; `direction` -1 turns back.
    fn rotate<S: Element, T: Element>(
        rotary: &Rotary,
        from: &[S],
        to: &mut [T],
        strides: (usize, usize),
        heads: (usize, usize),
        direction: f32,
    ) {
        let (num_heads, dim) = heads;
        let half = dim / 2;
        for (position, (from, to)) in from.chunks(strides.0).zip(to.chunks_mut(strides.1)).enumerate() {
            let (cos, sin) = (&rotary.cos[position * half..][..half], &rotary.sin[position * half..][..half]);
            let heads = from[..num_heads * dim].chunks_exact(dim).zip(to[..num_heads * dim].chunks_exact_mut(dim));
            for (from, to) in heads {
                let ((x, y), (to_x, to_y)) = (from.split_at(half), to.split_at_mut(half));
                let turns = cos.chunks(LANES).zip(sin.chunks(LANES));
                let pairs = x.chunks(LANES).zip(y.chunks(LANES)).zip(to_x.chunks_mut(LANES).zip(to_y.chunks_mut(LANES)));
                for (((x, y), (to_x, to_y)), (cos, sin)) in pairs.zip(turns) {
                    let (x, y) = turn(lanes(x), lanes(y), lanes(cos), lanes(sin).map(|sin| direction * sin));
                    store(to_x, x);
                    store(to_y, y);
                }
            }
        }
    }

    fn convert_rows<T: Element>(from: &[f32], to: &mut [T], stride: usize, cols: usize) {
        for (from, to) in from.chunks(stride).zip(to.chunks_mut(stride)) {
            for (from, to) in from[..cols].iter().zip(&mut to[..cols]) {
                *to = T::of(*from);
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

    /// `ds = p * (ds - <p, ds>) * scale`.
    fn softmax_backward(ds: &mut [f32], p: &[f32], scale: f32) {
        let delta = dot(p, ds);
        for (ds, p) in ds.iter_mut().zip(p) {
            *ds = p * (*ds - delta) * scale;
        }
    }
}

/// Elements in registers, zeros behind the last.
#[inline(always)]
fn lanes<T: Element>(from: &[T]) -> [f32; LANES] {
    let mut whole = [0.0; LANES];
    match from.first_chunk::<LANES>() {
        Some(from) => whole.iter_mut().zip(from).for_each(|(whole, from)| *whole = from.get()),
        None => whole.iter_mut().zip(from).for_each(|(whole, from)| *whole = from.get()),
    }
    whole
}

#[inline(always)]
fn store<T: Element>(to: &mut [T], whole: [f32; LANES]) {
    match to.first_chunk_mut::<LANES>() {
        Some(to) => to.iter_mut().zip(whole).for_each(|(to, whole)| *to = T::of(whole)),
        None => to.iter_mut().zip(whole).for_each(|(to, whole)| *to = T::of(whole)),
    }
}

/// Turns pairs.
#[inline(always)]
fn turn(x: [f32; LANES], y: [f32; LANES], cos: [f32; LANES], sin: [f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    let (mut turned_x, mut turned_y) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        turned_x[i] = x[i] * cos[i] - y[i] * sin[i];
        turned_y[i] = y[i] * cos[i] + x[i] * sin[i];
    }
    (turned_x, turned_y)
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
        let mut output = device.stale_in(input.format(), input.rows(), hidden);
        let ranges: Vec<_> = sequences.iter().collect();
        by_format!(input.format(), T => for_ranges(device, T::all_mut(&mut output), hidden, &ranges, |idx, output| {
            let sequence = Sequence::new::<T>(device, shape, input, &ranges[idx]);
            for head in 0..shape.num_heads {
                sequence.head(head).forward::<T>(output);
            }
        }));
        self.push_like(qkv, output, Attention { qkv, sequences: sequences.clone(), shape: shape.clone() })
    }
}

impl Op for Attention {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let device = backprop.device;
        let input = backprop.value(self.qkv);
        let (hidden, shape) = (grad.cols(), &self.shape);
        let mut d_input = device.stale_in(input.format(), input.rows(), 3 * hidden);
        let ranges: Vec<_> = self.sequences.iter().collect();
        by_format!(input.format(), T => {
            for_ranges(device, T::all_mut(&mut d_input), 3 * hidden, &ranges, |idx, d_input| {
                let rows = ranges[idx].clone();
                let sequence = Sequence::new::<T>(device, shape, input, &rows);
                sequence.backward(&T::all(&grad)[rows.start * hidden..rows.end * hidden], d_input);
            });
        });
        backprop.give(self.qkv, d_input);
    }
}

/// The queries and keys of a sequence, rotated, and its values, heads side by side.
struct Sequence<'a> {
    device: &'a Device,
    shape: &'a AttentionShape,
    /// `[length, 2 hidden]`.
    rotated: Tensor,
    input: &'a Tensor,
    first_row: usize,
}

impl<'a> Sequence<'a> {
    fn new<T: Element>(device: &'a Device, shape: &'a AttentionShape, input: &'a Tensor, rows: &Range<usize>) -> Self {
        let (cols, hidden) = (input.cols(), input.cols() / 3);
        let mut rotated = device.stale_in(input.format(), rows.len(), 2 * hidden);
        let heads = (2 * shape.num_heads, hidden / shape.num_heads);
        let from = &T::all(input)[rows.start * cols..rows.end * cols];
        rotate(&shape.rotary, from, T::all_mut(&mut rotated), (cols, 2 * hidden), heads, 1.0);
        Self { device, shape, rotated, input, first_row: rows.start }
    }

    fn head(&self, head: usize) -> Head<'_> {
        let hidden = self.input.cols() / 3;
        let dim = hidden / self.shape.num_heads;
        Head { sequence: self, first_col: head * dim, dim, hidden }
    }

    /// Gradients are summed in f32, by the rotated queries and keys, and turned back at the end.
    fn backward<T: Element>(&self, d_out: &[T], d_input: &mut [T]) {
        let (length, hidden) = (self.rotated.rows(), self.input.cols() / 3);
        let mut sums = self.device.stale(length, 3 * hidden);
        if length > BLOCK {
            sums.host_mut().fill(0.0);
        }
        for head in 0..self.shape.num_heads {
            self.head(head).backward(d_out, sums.host_mut());
        }
        let (heads, stride) = ((2 * self.shape.num_heads, hidden / self.shape.num_heads), 3 * hidden);
        rotate(&self.shape.rotary, sums.host(), d_input, (stride, stride), heads, -1.0);
        convert_rows(&sums.host()[2 * hidden..], &mut d_input[2 * hidden..], stride, hidden);
    }
}

/// Queries, keys or values.
#[derive(Clone, Copy)]
enum Part {
    Queries,
    Keys,
    Values,
}

/// One head of a sequence.
struct Head<'a> {
    sequence: &'a Sequence<'a>,
    first_col: usize,
    dim: usize,
    hidden: usize,
}

impl<'a> Head<'a> {
    fn device(&self) -> &'a Device {
        self.sequence.device
    }

    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let (length, half_window) = (self.sequence.rotated.rows(), self.sequence.shape.half_window);
        (0..length).step_by(BLOCK).map(move |first| {
            let rows = BLOCK.min(length - first);
            let reach = half_window.unwrap_or(length);
            let keys = first.saturating_sub(reach)..(first + rows).saturating_add(reach).min(length);
            Block { first, rows, first_key: keys.start, num_keys: keys.len(), reach }
        })
    }

    fn some(&self, part: Part, first: usize, rows: usize) -> MatRef<'a> {
        let &Sequence { ref rotated, input, first_row, .. } = self.sequence;
        let (tensor, row, col) = match part {
            Part::Queries => (rotated, first, self.first_col),
            Part::Keys => (rotated, first, self.hidden + self.first_col),
            Part::Values => (input, first_row + first, 2 * self.hidden + self.first_col),
        };
        by_format!(tensor.format(), T => {
            T::mat(&T::all(tensor)[row * tensor.cols() + col..], rows, self.dim, tensor.cols())
        })
    }

    fn sums<'t>(&self, sums: &'t mut [f32], part: Part, first: usize, rows: usize) -> MatMut<'t> {
        let start = (first * 3 + part as usize) * self.hidden + self.first_col;
        MatMut::strided(&mut sums[start..], rows, self.dim, 3 * self.hidden)
    }

    /// Attention probabilities of a block, zero outside the window.
    fn probabilities(&self, block: &Block) -> Tensor {
        let mut scores = self.device().stale(block.rows, block.num_keys);
        let scale = 1.0 / (self.dim as f32).sqrt();
        let queries = self.some(Part::Queries, block.first, block.rows);
        let keys = self.some(Part::Keys, block.first_key, block.num_keys);
        self.device().matmul_here(scores.mat_mut(), Init::Zero, queries, keys.t());
        for (i, row) in scores.host_mut().chunks_exact_mut(block.num_keys).enumerate() {
            let seen = block.keys_seen(i);
            row[..seen.start].fill(0.0);
            row[seen.end..].fill(0.0);
            softmax(&mut row[seen], scale);
        }
        scores
    }

    fn forward<T: Element>(&self, output: &mut [T]) {
        for block in self.blocks() {
            let probabilities = self.probabilities(&block);
            let c = &mut output[block.first * self.hidden + self.first_col..];
            let c = T::mat_mut(c, block.rows, self.dim, self.hidden);
            let values = self.some(Part::Values, block.first_key, block.num_keys);
            self.device().matmul_here(c, Init::Zero, probabilities.mat(), values);
        }
    }

    /// Adds to the gradients by the head's queries, keys and values, the first two as they are after rotation.
    fn backward<T: Element>(&self, d_out: &[T], sums: &mut [f32]) {
        let length = self.sequence.rotated.rows();
        let init = if length > BLOCK { Init::Add } else { Init::Zero };
        for block in self.blocks() {
            let Block { first, rows, first_key, num_keys, .. } = block;
            let probabilities = self.probabilities(&block);
            let d_o = T::mat(&d_out[first * self.hidden + self.first_col..], rows, self.dim, self.hidden);
            let d_values = self.sums(sums, Part::Values, first_key, num_keys);
            self.device().matmul_here(d_values, init, probabilities.mat().t(), d_o);
            let d_scores = self.d_scores(&block, &probabilities, d_o);
            let (keys, d_queries) =
                (self.some(Part::Keys, first_key, num_keys), self.sums(sums, Part::Queries, first, rows));
            self.device().matmul_here(d_queries, Init::Zero, d_scores.mat(), keys);
            let d_keys = self.sums(sums, Part::Keys, first_key, num_keys);
            self.device().matmul_here(d_keys, init, d_scores.mat().t(), self.some(Part::Queries, first, rows));
        }
    }

    /// The gradient by the unscaled scores of a block: `p * (dp - <p, dp>) / sqrt(dim)`.
    fn d_scores(&self, block: &Block, probabilities: &Tensor, d_o: MatRef<'_>) -> Tensor {
        let scale = 1.0 / (self.dim as f32).sqrt();
        let mut d_scores = self.device().stale(block.rows, block.num_keys);
        let values = self.some(Part::Values, block.first_key, block.num_keys);
        self.device().matmul_here(d_scores.mat_mut(), Init::Zero, d_o, values.t());
        for (i, row) in d_scores.host_mut().chunks_exact_mut(block.num_keys).enumerate() {
            softmax_backward(row, probabilities.row(i), scale);
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
    /// The keys that the block's query `i` sees, counted from the block's first key.
    fn keys_seen(&self, i: usize) -> Range<usize> {
        let query = self.first + i;
        let start = query.saturating_sub(self.reach).max(self.first_key) - self.first_key;
        let end = query.saturating_add(self.reach).saturating_add(1).saturating_sub(self.first_key).min(self.num_keys);
        start..end
    }
}
