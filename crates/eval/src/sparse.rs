//! Sparse feature rows.

/// Rows of sparse features (compressed sparse rows), `num_rows x num_columns`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    num_columns: usize,
    /// Where each row begins, and the end of the last.
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Rows {
    /// No rows over `num_columns` features.
    pub fn new(num_columns: usize) -> Self {
        Self { num_columns, starts: vec![0], columns: Vec::new(), values: Vec::new() }
    }

    /// Adds a row of (column, value).
    ///
    /// # Panics
    /// When a column is out of range.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        for (column, value) in row {
            assert!((column as usize) < self.num_columns, "columns are below their number");
            self.columns.push(column);
            self.values.push(value);
        }
        self.starts.push(self.columns.len());
    }

    /// Rows.
    pub fn num_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Features.
    pub fn num_columns(&self) -> usize {
        self.num_columns
    }

    /// The (column, value) of row `i`, in the order in which they were added.
    pub fn row(&self, i: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = self.starts[i]..self.starts[i + 1];
        self.columns[range.clone()].iter().map(|&column| column as usize).zip(self.values[range].iter().copied())
    }

    /// Columns as rows.
    pub(crate) fn transposed(&self) -> Self {
        let mut starts = vec![0; self.num_columns + 1];
        self.columns.iter().for_each(|&column| starts[column as usize + 1] += 1);
        (0..self.num_columns).for_each(|i| starts[i + 1] += starts[i]);
        let mut next = starts.clone();
        let (mut columns, mut values) = (vec![0; self.columns.len()], vec![0.0; self.values.len()]);
        for i in 0..self.num_rows() {
            for (column, value) in self.row(i) {
                columns[next[column]] = i as u32;
                values[next[column]] = value;
                next[column] += 1;
            }
        }
        Self { num_columns: self.num_rows(), starts, columns, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_swaps_rows_and_columns() {
        let mut rows = Rows::new(3);
        rows.push([(0, 1.0), (2, 2.0)]);
        rows.push([]);
        rows.push([(2, 3.0)]);
        let turned = rows.transposed();
        assert_eq!(turned.row(2).collect::<Vec<_>>(), [(0, 2.0), (2, 3.0)]);
        assert_eq!(turned.row(1).count(), 0);
        assert_eq!(turned.transposed(), rows);
    }
}
