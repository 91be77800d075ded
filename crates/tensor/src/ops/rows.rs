//! Choosing, joining and averaging rows.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::element::{Element, by_format};
use crate::ops::{Sequences, for_rows};
use crate::simd::vectorized;
use crate::tape::{Backprop, Op, Tape, Var};
use crate::tensor::Tensor;

/// Which rows of a matrix are read, in any order. Copies share what they know.
#[derive(Clone, Debug)]
pub struct RowIndex(Arc<Indexed>);

#[derive(Debug)]
struct Indexed {
    rows: Vec<usize>,
    /// The blocks of what is read, as in [`Tape::cut`]; `None` is one block.
    blocks: Option<Sequences>,
    readers: OnceLock<Readers>,
}

/// How many of `rows`, which are in order, lie in each sequence.
fn within(rows: &[usize], sequences: &Sequences) -> Sequences {
    let upto = |end: usize| rows.partition_point(|&row| row < end);
    Sequences::of_lengths(sequences.iter().map(|sequence| upto(sequence.end) - upto(sequence.start)))
}

impl RowIndex {
    /// Rows of a matrix that is cut into `blocks`: those in order come out in the blocks that they were in, others in one.
    pub fn new(rows: Vec<usize>, blocks: &Sequences) -> Self {
        let blocks = rows.is_sorted().then(|| within(&rows, blocks));
        Self(Arc::new(Indexed { rows, blocks, readers: OnceLock::new() }))
    }

    /// Rows that come out in `blocks`.
    ///
    /// # Panics
    /// When the blocks do not cover the rows.
    pub fn in_blocks(rows: Vec<usize>, blocks: Sequences) -> Self {
        assert_eq!(blocks.num_rows(), rows.len(), "blocks cover the rows");
        Self(Arc::new(Indexed { rows, blocks: Some(blocks), readers: OnceLock::new() }))
    }

    /// How many of the rows, which have to be in order, lie in each sequence.
    pub fn within(&self, sequences: &Sequences) -> Sequences {
        within(self, sequences)
    }

    /// The blocks of what is read.
    pub fn blocks(&self) -> Sequences {
        self.0.blocks.clone().unwrap_or_else(|| Sequences::of_lengths([self.len()]))
    }

    fn readers(&self) -> &Readers {
        self.0.readers.get_or_init(|| Readers::new(self))
    }
}

impl Deref for RowIndex {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0.rows
    }
}

struct GatherRows {
    x: Var,
    rows: RowIndex,
}

struct PutRows {
    x: Var,
    rows: Vec<usize>,
    values: Var,
}

struct SegmentMean {
    x: Var,
    sequences: Sequences,
}

impl Tape<'_> {
    /// `x [n, hidden] -> x[rows]` in its format, `per_output` gathered rows side by side: `[rows / per_output, per_output hidden]`.
    ///
    /// # Panics
    /// When a row is not in `x` or `rows` is not a multiple of `per_output`.
    pub fn gather_rows(&mut self, x: Var, rows: &RowIndex, per_output: usize) -> Var {
        assert_eq!(rows.len() % per_output, 0, "gathered rows fill the outputs");
        let device = self.device();
        let x_value = self.value(x);
        let cols = x_value.cols();
        let mut y = device.stale_in(x_value.format(), rows.len(), cols);
        by_format!(x_value.format(), T => {
            let from = T::all(x_value);
            for_rows(device, T::all_mut(&mut y), cols, |first, out| {
                for (out, &row) in out.chunks_exact_mut(cols).zip(&rows[first..]) {
                    out.copy_from_slice(&from[row * cols..][..cols]);
                }
            });
        });
        let y = y.reshaped(rows.len() / per_output, per_output * cols);
        let blocks = rows.0.blocks.clone().filter(|_| per_output == 1);
        self.push_cut(y, GatherRows { x, rows: rows.clone() }, blocks)
    }

    /// `x [n, hidden]` with the rows of `values` in the places `rows`, which differ.
    ///
    /// # Panics
    /// When a row is not in `x` or there is not one place for each value.
    pub fn put_rows(&mut self, x: Var, rows: Vec<usize>, values: Var) -> Var {
        let device = self.device();
        let mut y = device.copy(self.value(x));
        let (cols, values_value) = (y.cols(), self.value(values));
        assert_eq!(values_value.rows(), rows.len(), "a place for each value");
        for (&row, value) in rows.iter().zip(values_value.host().chunks_exact(cols)) {
            y.host_mut()[row * cols..][..cols].copy_from_slice(value);
        }
        self.push_like(x, y, PutRows { x, rows, values })
    }

    /// The mean of the rows of each sequence: `x [n, hidden] -> [num_sequences, hidden]`.
    pub fn segment_mean(&mut self, x: Var, sequences: &Sequences) -> Var {
        let device = self.device();
        let x_value = self.value(x);
        assert_eq!(x_value.rows(), sequences.num_rows(), "sequences cover the rows");
        let cols = x_value.cols();
        let mut y = device.zeros(sequences.len(), cols);
        for_rows(device, y.host_mut(), cols, |first, out| {
            for (i, out) in out.chunks_exact_mut(cols).enumerate() {
                let rows = sequences.rows(first + i);
                let scale = 1.0 / rows.len() as f32;
                for row in rows {
                    for (out, x) in out.iter_mut().zip(x_value.row(row)) {
                        *out += x * scale;
                    }
                }
            }
        });
        self.push(y, SegmentMean { x, sequences: sequences.clone() })
    }
}

/// For each row of a matrix, the places that read it, in order: those of row `i` are `places[starts[i]..starts[i + 1]]`. No
/// place reads the rows behind the last of `starts`.
#[derive(Debug)]
struct Readers {
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl Readers {
    fn new(rows: &[usize]) -> Self {
        let num_rows = rows.iter().max().map_or(0, |last| last + 1);
        let (mut starts, mut places) = (vec![0u32; num_rows + 1], vec![0; rows.len()]);
        rows.iter().for_each(|&row| starts[row] += 1);
        // Ends first; each reader that is put before them, from the last on, moves them towards the starts.
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        for (place, &row) in rows.iter().enumerate().rev() {
            starts[row] -= 1;
            places[starts[row] as usize] = place as u32;
        }
        Self { starts, places }
    }

    fn of(&self, row: usize) -> &[u32] {
        match self.starts.get(row..row + 2) {
            Some(ends) => &self.places[ends[0] as usize..ends[1] as usize],
            None => &[],
        }
    }
}

vectorized! {
    /// Writes the sum of some of `rows`, in order, which is rounded once.
    fn sum_rows<T: Element>(sum: &mut [T], rows: &[T], which: &[u32]) {
        const COLS: usize = 64;
        let cols = sum.len();
        for (block, sum) in sum.chunks_mut(COLS).enumerate() {
            let mut total = [0.0f32; COLS];
            for row in which {
                for (total, term) in total.iter_mut().zip(&rows[*row as usize * cols + block * COLS..][..sum.len()]) {
                    *total += term.get();
                }
            }
            for (sum, total) in sum.iter_mut().zip(total) {
                *sum = T::of(total);
            }
        }
    }
}

impl Op for GatherRows {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let (device, x) = (backprop.device, backprop.value(self.x));
        let (cols, readers) = (x.cols(), self.rows.readers());
        let mut dx = device.stale_in(x.format(), x.rows(), cols);
        by_format!(x.format(), T => {
            let dy = T::all(&grad);
            for_rows(device, T::all_mut(&mut dx), cols, |first, rows| {
                for (i, row) in rows.chunks_exact_mut(cols).enumerate() {
                    sum_rows(row, dy, readers.of(first + i));
                }
            });
        });
        backprop.give(self.x, dx);
    }
}

impl Op for PutRows {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, mut grad: Tensor) {
        let cols = grad.cols();
        let mut d_values = backprop.device.zeros(self.rows.len(), cols);
        for (&row, out) in self.rows.iter().zip(d_values.host_mut().chunks_exact_mut(cols)) {
            let own = &mut grad.host_mut()[row * cols..][..cols];
            out.copy_from_slice(own);
            own.fill(0.0);
        }
        backprop.give(self.values, d_values);
        backprop.give(self.x, grad);
    }
}

impl Op for SegmentMean {
    fn backward(&self, backprop: &mut Backprop<'_>, _: &Tensor, grad: Tensor) {
        let x = backprop.value(self.x);
        let mut dx = backprop.device.stale(x.rows(), x.cols());
        for (idx, rows) in self.sequences.iter().enumerate() {
            let scale = 1.0 / rows.len() as f32;
            for out in dx.host_mut()[rows.start * x.cols()..rows.end * x.cols()].chunks_exact_mut(x.cols()) {
                for (out, grad) in out.iter_mut().zip(grad.row(idx)) {
                    *out = grad * scale;
                }
            }
        }
        backprop.give(self.x, dx);
    }
}
