//! Borrowed matrices over flat slices.

use std::ops::Range;

use half::bf16;

/// Which index of a matrix runs along memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Columns are adjacent: element `(i, j)` lies at `i * stride + j`.
    Normal,
    /// Rows are adjacent: element `(i, j)` lies at `j * stride + i`.
    Transposed,
}

/// Elements in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Elements<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

impl<'a> Elements<'a> {
    fn from(self, start: usize) -> Self {
        match self {
            Self::F32(data) => Self::F32(&data[start..]),
            Self::Bf16(data) => Self::Bf16(&data[start..]),
        }
    }

    /// The elements, where they are `f32`.
    pub(super) fn f32(self) -> &'a [f32] {
        match self {
            Self::F32(data) => data,
            Self::Bf16(_) => unreachable!("devices without bf16 products have no matrices of bf16"),
        }
    }
}

/// Elements in memory, to be written.
#[derive(Debug)]
pub(super) enum ElementsMut<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [bf16]),
}

/// A matrix to read.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    pub(super) data: Elements<'a>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) stride: usize,
    pub(super) layout: Layout,
}

/// A matrix to write, row by row: element `(i, j)` lies at `i * stride + j`.
#[derive(Debug)]
pub struct MatMut<'a> {
    pub(super) data: ElementsMut<'a>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) stride: usize,
}

/// The fewest elements that hold `rows` rows of `cols` elements, `stride` apart.
fn extent(rows: usize, cols: usize, stride: usize) -> usize {
    assert!(stride >= cols, "stride {stride} is shorter than a row of {cols}");
    if rows == 0 || cols == 0 { 0 } else { (rows - 1) * stride + cols }
}

impl<'a> MatRef<'a> {
    /// A dense row-major matrix.
    ///
    /// # Panics
    /// When `data` is too short.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `stride` elements apart, such as some columns of a wider one.
    ///
    /// # Panics
    /// When `data` is too short or `stride < cols`.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(data.len() >= extent(rows, cols, stride), "{} elements for {rows} x {cols}", data.len());
        Self { data: Elements::F32(data), rows, cols, stride, layout: Layout::Normal }
    }

    /// As [`Self::strided`], of bf16.
    ///
    /// # Panics
    /// When `data` is too short or `stride < cols`.
    pub fn narrow(data: &'a [bf16], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(data.len() >= extent(rows, cols, stride), "{} elements for {rows} x {cols}", data.len());
        Self { data: Elements::Bf16(data), rows, cols, stride, layout: Layout::Normal }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        let layout = match self.layout {
            Layout::Normal => Layout::Transposed,
            Layout::Transposed => Layout::Normal,
        };
        Self { rows: self.cols, cols: self.rows, layout, ..self }
    }

    /// Some of the rows.
    pub(crate) fn some_rows(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let start = if range.is_empty() { 0 } else { range.start * self.steps().0 };
        Self { data: self.data.from(start), rows: range.len(), ..self }
    }

    /// The steps in memory between neighbouring rows and between neighbouring columns.
    pub(super) fn steps(self) -> (usize, usize) {
        match self.layout {
            Layout::Normal => (self.stride, 1),
            Layout::Transposed => (1, self.stride),
        }
    }
}

impl<'a> MatMut<'a> {
    /// A dense row-major matrix.
    ///
    /// # Panics
    /// When `data` is too short.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `stride` elements apart; elements between the rows are left alone.
    ///
    /// # Panics
    /// When `data` is too short or `stride < cols`.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(data.len() >= extent(rows, cols, stride), "{} elements for {rows} x {cols}", data.len());
        Self { data: ElementsMut::F32(data), rows, cols, stride }
    }

    /// As [`Self::strided`], of bf16: sums are rounded when they are complete.
    ///
    /// # Panics
    /// When `data` is too short or `stride < cols`.
    pub fn narrow(data: &'a mut [bf16], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(data.len() >= extent(rows, cols, stride), "{} elements for {rows} x {cols}", data.len());
        Self { data: ElementsMut::Bf16(data), rows, cols, stride }
    }
}

impl MatMut<'_> {
    /// Calls `job(first row, rows)` on parts of `height` rows, the last one of what is left, each on a thread of its own where
    /// there are as many.
    pub(super) fn for_parts(self, height: usize, job: &(impl Fn(usize, MatMut<'_>) + Sync)) {
        fn from(c: MatMut<'_>, first: usize, height: usize, job: &(impl Fn(usize, MatMut<'_>) + Sync)) {
            if c.rows <= height {
                return job(first, c);
            }
            let (part, rest) = c.split_at_row(height);
            rayon::join(|| job(first, part), || from(rest, first + height, height, job));
        }
        from(self, 0, height, job);
    }

    fn split_at_row(self, row: usize) -> (Self, Self) {
        let Self { data, rows, cols, stride } = self;
        let at = row * stride;
        let (first, second) = match data {
            ElementsMut::F32(data) => {
                let (first, second) = data.split_at_mut(at);
                (ElementsMut::F32(first), ElementsMut::F32(second))
            }
            ElementsMut::Bf16(data) => {
                let (first, second) = data.split_at_mut(at);
                (ElementsMut::Bf16(first), ElementsMut::Bf16(second))
            }
        };
        (Self { data: first, rows: row, cols, stride }, Self { data: second, rows: rows - row, cols, stride })
    }
}

impl MatMut<'_> {
    /// The same matrix for a shorter time.
    pub(super) fn reborrow(&mut self) -> MatMut<'_> {
        let data = match &mut self.data {
            ElementsMut::F32(data) => ElementsMut::F32(data),
            ElementsMut::Bf16(data) => ElementsMut::Bf16(data),
        };
        MatMut { data, rows: self.rows, cols: self.cols, stride: self.stride }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_twice_changes_nothing() {
        let data = [0.0; 11];
        let a = MatRef::strided(&data, 2, 3, 8);
        assert_eq!((a.t().rows, a.t().cols, a.t().steps()), (3, 2, (1, 8)));
        assert_eq!((a.t().t().rows, a.t().t().steps()), (2, (8, 1)));
    }

    #[test]
    #[should_panic(expected = "10 elements for 2 x 3")]
    fn short_data_is_refused() {
        MatRef::strided(&[0.0; 10], 2, 3, 8);
    }
}
