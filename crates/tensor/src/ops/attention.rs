//! Softmax attention over packed sequences, with rotary positions or none, full, causal or within a window, with as many
//! heads of keys and values as of queries or fewer (Ainslie et al. 2023, grouped queries).
//!
//! Scores exist for one block of queries at a time and are computed again in the backward pass (Dao et al. 2022 on
//! recomputation; Su et al. 2021 on rotary positions).

use std::ops::Range;
use std::sync::Arc;

use crate::device::Device;
use crate::element::{Element, by_format};
use crate::kernels::{Init, MatMut, MatRef, rotate_heads, softmax, softmax_backward};
use crate::ops::{Sequences, for_ranges};
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::{Format, Tensor};

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
}

/// Rotates `num_heads` heads of `dim` elements in each row, `strides` elements from row to row in `from` and `to`, from
/// position 0 on; `direction` -1 turns back.
fn rotate<S: Element, T: Element>(
    rotary: &Rotary,
    from: &[S],
    to: &mut [T],
    strides: (usize, usize),
    (num_heads, dim): (usize, usize),
    direction: f32,
) {
    let (half, width) = (dim / 2, num_heads * dim);
    for (position, (from, to)) in from.chunks(strides.0).zip(to.chunks_mut(strides.1)).enumerate() {
        let angles = (&rotary.cos[position * half..][..half], &rotary.sin[position * half..][..half]);
        rotate_heads(&from[..width], &mut to[..width], angles, direction);
    }
}

vectorized! {
    fn convert_rows<T: Element>(from: &[f32], to: &mut [T], stride: usize, cols: usize) {
        for (from, to) in from.chunks(stride).zip(to.chunks_mut(stride)) {
            for (from, to) in from[..cols].iter().zip(&mut to[..cols]) {
                *to = T::of(*from);
            }
        }
    }
}

/// Shape of an attention layer.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    /// Heads of queries.
    pub num_heads: usize,
    /// Heads of keys and of values; it divides `num_heads`, and as many heads of queries as follow one another share one.
    pub num_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How far a query looks back, and ahead where it may, in tokens; `None` is everywhere.
    pub half_window: Option<usize>,
    /// Whether a query sees itself and what is before it alone.
    pub is_causal: bool,
    /// Positions, where attention is what tells them.
    pub rotary: Option<Rotary>,
}

impl AttentionShape {
    /// Columns of queries, keys and values side by side.
    pub fn num_cols(&self) -> usize {
        (self.num_heads + 2 * self.num_kv_heads) * self.head_dim
    }

    /// The column at which a part begins.
    fn start(&self, part: Part) -> usize {
        let heads = match part {
            Part::Queries => 0,
            Part::Keys => self.num_heads,
            Part::Values => self.num_heads + self.num_kv_heads,
        };
        heads * self.head_dim
    }
}

struct Attention {
    qkv: Var,
    sequences: Sequences,
    shape: AttentionShape,
}

impl Tape<'_> {
    /// `qkv [n, num_cols]` (queries, keys, values, each head after head) `-> [n, num_heads * head_dim]`, scores scaled by
    /// `1 / sqrt(head_dim)`, each sequence on its own.
    ///
    /// # Panics
    /// When a sequence is longer than the rotary tables, or the columns are not those of the shape.
    pub fn attention(&mut self, qkv: Var, sequences: &Sequences, shape: &AttentionShape) -> Var {
        let device = self.device();
        let input = self.value(qkv);
        assert_eq!(input.rows(), sequences.num_rows(), "sequences cover the rows");
        assert_eq!(input.cols(), shape.num_cols(), "heads fill the columns");
        let hidden = shape.num_heads * shape.head_dim;
        let mut output = device.stale_in(input.format(), input.rows(), hidden);
        by_format!(input.format(), T => for_ranges(device, T::all_mut(&mut output), hidden, sequences, |idx, output| {
            let sequence = Sequence::new::<T>(device, shape, input, &sequences.rows(idx));
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
        let (hidden, cols, shape) = (grad.cols(), input.cols(), &self.shape);
        let mut d_input = device.stale_in(input.format(), input.rows(), cols);
        by_format!(input.format(), T => {
            for_ranges(device, T::all_mut(&mut d_input), cols, &self.sequences, |idx, d_input| {
                let rows = self.sequences.rows(idx);
                let sequence = Sequence::new::<T>(device, shape, input, &rows);
                sequence.backward(&T::all(&grad)[rows.start * hidden..rows.end * hidden], d_input);
            });
        });
        backprop.give(self.qkv, d_input);
    }
}

/// The queries, keys and values of a sequence, heads side by side.
struct Sequence<'a> {
    device: &'a Device,
    shape: &'a AttentionShape,
    /// Queries and keys after rotation, where there is one.
    rotated: Option<Tensor>,
    input: &'a Tensor,
    first_row: usize,
    length: usize,
}

impl<'a> Sequence<'a> {
    fn new<T: Element>(device: &'a Device, shape: &'a AttentionShape, input: &'a Tensor, rows: &Range<usize>) -> Self {
        let (cols, turned) = (input.cols(), shape.start(Part::Values));
        let heads = (shape.num_heads + shape.num_kv_heads, shape.head_dim);
        let rotated = shape.rotary.as_ref().map(|rotary| {
            let mut rotated = device.scratch(input.format(), rows.len(), turned);
            let from = &T::all(input)[rows.start * cols..rows.end * cols];
            rotate(rotary, from, T::all_mut(&mut rotated), (cols, turned), heads, 1.0);
            rotated
        });
        Self { device, shape, rotated, input, first_row: rows.start, length: rows.len() }
    }

    fn head(&self, head: usize) -> Head<'_> {
        let AttentionShape { num_heads, num_kv_heads, head_dim: dim, .. } = *self.shape;
        let group = num_heads / num_kv_heads;
        let (query_col, key_col) = (head * dim, head / group * dim);
        Head { sequence: self, query_col, key_col, dim, is_first: head.is_multiple_of(group) }
    }

    /// Gradients are summed in f32, by the rotated queries and keys, and turned back at the end.
    fn backward<T: Element>(&self, d_out: &[T], d_input: &mut [T]) {
        let (shape, cols) = (self.shape, self.input.cols());
        let mut sums = self.device.scratch(Format::F32, self.length, cols);
        if self.length > BLOCK {
            sums.host_mut().fill(0.0);
        }
        for head in 0..shape.num_heads {
            self.head(head).backward(d_out, sums.host_mut());
        }
        let values = shape.start(Part::Values);
        let first = match &shape.rotary {
            Some(rotary) => {
                let heads = (shape.num_heads + shape.num_kv_heads, shape.head_dim);
                rotate(rotary, sums.host(), d_input, (cols, cols), heads, -1.0);
                values
            }
            None => 0,
        };
        convert_rows(&sums.host()[first..], &mut d_input[first..], cols, cols - first);
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
    /// Its first column among the queries, and in the output.
    query_col: usize,
    /// Its first column among the keys, and among the values.
    key_col: usize,
    dim: usize,
    /// Whether no head before shares its keys.
    is_first: bool,
}

impl<'a> Head<'a> {
    fn device(&self) -> &'a Device {
        self.sequence.device
    }

    fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        let &Sequence { length, shape, .. } = self.sequence;
        let back = shape.half_window.unwrap_or(length);
        let ahead = if shape.is_causal { 0 } else { back };
        (0..length).step_by(BLOCK).map(move |first| {
            let rows = BLOCK.min(length - first);
            let keys = first.saturating_sub(back)..(first + rows).saturating_add(ahead).min(length);
            Block { first, rows, first_key: keys.start, num_keys: keys.len(), back, ahead }
        })
    }

    /// The column at which the head begins in all columns.
    fn col(&self, part: Part) -> usize {
        let col = if matches!(part, Part::Queries) { self.query_col } else { self.key_col };
        self.sequence.shape.start(part) + col
    }

    fn some(&self, part: Part, first: usize, rows: usize) -> MatRef<'a> {
        let &Sequence { ref rotated, input, first_row, .. } = self.sequence;
        let (tensor, row) = match (part, rotated) {
            (Part::Queries | Part::Keys, Some(rotated)) => (rotated, first),
            _ => (input, first_row + first),
        };
        by_format!(tensor.format(), T => {
            T::mat(&T::all(tensor)[row * tensor.cols() + self.col(part)..], rows, self.dim, tensor.cols())
        })
    }

    fn sums<'t>(&self, sums: &'t mut [f32], part: Part, first: usize, rows: usize) -> MatMut<'t> {
        let cols = self.sequence.input.cols();
        MatMut::strided(&mut sums[first * cols + self.col(part)..], rows, self.dim, cols)
    }

    /// Attention probabilities of a block, zero outside the window.
    fn probabilities<T: Element>(&self, block: &Block) -> Tensor {
        let mut scores = self.device().scratch(Format::F32, block.rows, block.num_keys);
        let queries = self.some(Part::Queries, block.first, block.rows);
        let keys = self.some(Part::Keys, block.first_key, block.num_keys);
        self.device().matmul_here(scores.mat_mut(), Init::Zero, queries, keys.t());
        let mut shares = self.like_scores(block);
        let scale = 1.0 / (self.dim as f32).sqrt();
        let rows = scores.host_mut().chunks_exact_mut(block.num_keys);
        for (i, (row, shares)) in rows.zip(T::all_mut(&mut shares).chunks_exact_mut(block.num_keys)).enumerate() {
            let seen = block.keys_seen(i);
            shares[..seen.start].fill(T::of(0.0));
            shares[seen.end..].fill(T::of(0.0));
            softmax(&mut row[seen.clone()], &mut shares[seen], scale);
        }
        shares
    }

    /// A number for each query and key of a block, in the format of the input.
    fn like_scores(&self, block: &Block) -> Tensor {
        self.device().scratch(self.sequence.input.format(), block.rows, block.num_keys)
    }

    /// Columns of the output.
    fn hidden(&self) -> usize {
        self.sequence.shape.num_heads * self.dim
    }

    fn forward<T: Element>(&self, output: &mut [T]) {
        let hidden = self.hidden();
        for block in self.blocks() {
            let probabilities = self.probabilities::<T>(&block);
            let c = &mut output[block.first * hidden + self.query_col..];
            let c = T::mat_mut(c, block.rows, self.dim, hidden);
            let values = self.some(Part::Values, block.first_key, block.num_keys);
            self.device().matmul_here(c, Init::Zero, probabilities.mat(), values);
        }
    }

    /// Adds to the gradients by the head's queries, keys and values, the first two as they are after rotation.
    fn backward<T: Element>(&self, d_out: &[T], sums: &mut [f32]) {
        let hidden = self.hidden();
        let init = if self.sequence.length > BLOCK || !self.is_first { Init::Add } else { Init::Zero };
        for block in self.blocks() {
            let Block { first, rows, first_key, num_keys, .. } = block;
            let probabilities = self.probabilities::<T>(&block);
            let d_o = T::mat(&d_out[first * hidden + self.query_col..], rows, self.dim, hidden);
            let d_values = self.sums(sums, Part::Values, first_key, num_keys);
            self.device().matmul_here(d_values, init, probabilities.mat().t(), d_o);
            let d_scores = self.d_scores::<T>(&block, &probabilities, d_o);
            let (keys, d_queries) =
                (self.some(Part::Keys, first_key, num_keys), self.sums(sums, Part::Queries, first, rows));
            self.device().matmul_here(d_queries, Init::Zero, d_scores.mat(), keys);
            let d_keys = self.sums(sums, Part::Keys, first_key, num_keys);
            self.device().matmul_here(d_keys, init, d_scores.mat().t(), self.some(Part::Queries, first, rows));
        }
    }

    /// The gradient by the unscaled scores of a block: `p * (dp - <p, dp>) / sqrt(dim)`.
    fn d_scores<T: Element>(&self, block: &Block, probabilities: &Tensor, d_o: MatRef<'_>) -> Tensor {
        let mut d_shares = self.device().scratch(Format::F32, block.rows, block.num_keys);
        let values = self.some(Part::Values, block.first_key, block.num_keys);
        self.device().matmul_here(d_shares.mat_mut(), Init::Zero, d_o, values.t());
        let mut d_scores = self.like_scores(block);
        let scale = 1.0 / (self.dim as f32).sqrt();
        let rows = d_shares.host().chunks_exact(block.num_keys);
        let shares = T::all(probabilities).chunks_exact(block.num_keys);
        for ((row, p), ds) in rows.zip(shares).zip(T::all_mut(&mut d_scores).chunks_exact_mut(block.num_keys)) {
            softmax_backward(row, p, ds, scale);
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
    back: usize,
    ahead: usize,
}

impl Block {
    /// The keys that the block's query `i` sees, counted from the block's first key.
    fn keys_seen(&self, i: usize) -> Range<usize> {
        let query = self.first + i;
        let start = query.saturating_sub(self.back).max(self.first_key) - self.first_key;
        let end = query.saturating_add(self.ahead).saturating_add(1).saturating_sub(self.first_key).min(self.num_keys);
        start..end
    }
}
