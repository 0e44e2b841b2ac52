//! Matrices of features, dense or sparse, and products of some of their rows with a few columns.

mod kernels;

use std::borrow::Cow;

use bilevel::problem::Sample;
use nalgebra::{Dyn, MatrixView, MatrixViewMut};

/// One row of features for each example.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// Every entry.
    Dense(Dense),
    /// The entries that are not zero.
    Sparse(Sparse),
}

/// A matrix, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Number of columns.
    pub columns: usize,
    /// `rows × columns` numbers.
    pub entries: Vec<f64>,
}

/// A matrix by the entries of each row that are not zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    /// Number of columns.
    pub columns: usize,
    /// Where each row's entries begin, and where the last ends: `rows + 1` numbers.
    pub starts: Vec<usize>,
    /// Column of each entry.
    pub column: Vec<u32>,
    /// The entries.
    pub entries: Vec<f64>,
}

/// Where the weight of feature j for output c stands in a list of weights: at `feature·j + output·c`.
///
/// Dense features want an output's weights side by side, sparse ones a feature's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Distance of neighbouring features.
    pub feature: usize,
    /// Distance of neighbouring outputs.
    pub output: usize,
}

/// Some rows of a matrix.
#[derive(Debug)]
pub enum Rows<'a> {
    /// Numbers of rows of a dense matrix.
    Dense {
        /// Number of columns.
        columns: usize,
        /// All rows of the matrix, side by side.
        entries: &'a [f64],
        /// The rows; `None`: all.
        rows: Option<&'a [u64]>,
    },
    /// Numbers of rows of a sparse matrix.
    Sparse {
        /// The matrix.
        matrix: &'a Sparse,
        /// The rows; `None`: all.
        rows: Option<&'a [u64]>,
    },
}

impl Features {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.entries.len() / dense.columns,
            Self::Sparse(sparse) => sparse.starts.len() - 1,
        }
    }
    /// Number of columns.
    pub fn columns(&self) -> usize {
        match self {
            Self::Dense(dense) => dense.columns,
            Self::Sparse(sparse) => sparse.columns,
        }
    }
    /// Where weights of `outputs` outputs stand.
    pub fn place(&self, outputs: usize) -> Place {
        match self {
            Self::Dense(dense) => Place { feature: 1, output: dense.columns },
            Self::Sparse(_) => Place { feature: outputs, output: 1 },
        }
    }
    /// The rows of a sample.
    pub fn pick<'a>(&'a self, s: Sample<'a>) -> Rows<'a> {
        let rows = match s {
            Sample::Full => None,
            Sample::Batch(rows) => Some(rows),
        };
        match self {
            Self::Dense(Dense { columns, entries }) => Rows::Dense { columns: *columns, entries, rows },
            Self::Sparse(matrix) => Rows::Sparse { matrix, rows },
        }
    }
    /// These rows, in this order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Dense(Dense { columns, entries }) => {
                let of = |&row: &usize| &entries[row * columns..(row + 1) * columns];
                Self::Dense(Dense { columns: *columns, entries: rows.iter().flat_map(of).copied().collect() })
            }
            Self::Sparse(old) => {
                let mut new =
                    Sparse { columns: old.columns, starts: vec![0], column: vec![], entries: vec![] };
                for &row in rows {
                    new.column.extend_from_slice(&old.column[old.range(row)]);
                    new.entries.extend_from_slice(&old.entries[old.range(row)]);
                    new.starts.push(new.entries.len());
                }
                Self::Sparse(new)
            }
        }
    }
    /// The same rows with one more column, of ones.
    #[must_use]
    pub fn with_ones(self) -> Self {
        match self {
            Self::Dense(Dense { columns, entries }) => {
                let mut wider = Vec::with_capacity(entries.len() / columns * (columns + 1));
                for row in entries.chunks_exact(columns) {
                    wider.extend_from_slice(row);
                    wider.push(1.0);
                }
                Self::Dense(Dense { columns: columns + 1, entries: wider })
            }
            Self::Sparse(old) => {
                let mut new =
                    Sparse { columns: old.columns + 1, starts: vec![0], column: vec![], entries: vec![] };
                for ends in old.starts.windows(2) {
                    new.column.extend_from_slice(&old.column[ends[0]..ends[1]]);
                    new.entries.extend_from_slice(&old.entries[ends[0]..ends[1]]);
                    new.column.push(old.columns as u32);
                    new.entries.push(1.0);
                    new.starts.push(new.entries.len());
                }
                Self::Sparse(new)
            }
        }
    }
}

impl Rows<'_> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Dense { columns, entries, rows } => rows.map_or(entries.len() / columns, <[u64]>::len),
            Self::Sparse { matrix, rows } => rows.map_or(matrix.starts.len() - 1, <[u64]>::len),
        }
    }
    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A W: for each row its `outputs` sums, side by side. The weights stand as [`Features::place`] says.
    pub fn times(&self, weights: &[f64], outputs: usize) -> Vec<f64> {
        let mut sums = vec![0.0; self.len() * outputs];
        match self {
            Self::Dense { columns, entries, rows } if outputs <= BY_ROWS => {
                kernels::times(
                    |i| dense_row(entries, *columns, *rows, i),
                    *columns,
                    weights,
                    &mut sums,
                    outputs,
                );
            }
            Self::Dense { columns, entries, rows } => product(
                (&mut sums, [self.len(), outputs], [outputs, 1]),
                (&side_by_side(entries, *columns, *rows), [*columns, 1]),
                (weights, [1, *columns]),
                *columns,
            ),
            Self::Sparse { matrix, rows } => {
                for (i, sums) in sums.chunks_exact_mut(outputs).enumerate() {
                    for at in matrix.range(row(*rows, i)) {
                        let weights = &weights[matrix.column[at] as usize * outputs..][..outputs];
                        axpy(matrix.entries[at], weights, sums);
                    }
                }
            }
        }
        sums
    }

    /// Aᵀ R: from `outputs` numbers for each row, side by side, a list in the place of weights.
    pub fn transposed_times(&self, numbers: &[f64], outputs: usize) -> Vec<f64> {
        match self {
            Self::Dense { columns, entries, rows } => {
                let mut weights = vec![0.0; columns * outputs];
                if outputs <= BY_ROWS {
                    let row = |i| dense_row(entries, *columns, *rows, i);
                    kernels::transposed_times(row, *columns, numbers, &mut weights, outputs);
                } else {
                    product(
                        (&mut weights, [*columns, outputs], [1, *columns]),
                        (&side_by_side(entries, *columns, *rows), [1, *columns]),
                        (numbers, [outputs, 1]),
                        self.len(),
                    );
                }
                weights
            }
            Self::Sparse { matrix, rows } => {
                let mut weights = vec![0.0; matrix.columns * outputs];
                for (i, numbers) in numbers.chunks_exact(outputs).enumerate() {
                    for at in matrix.range(row(*rows, i)) {
                        let weights = &mut weights[matrix.column[at] as usize * outputs..][..outputs];
                        axpy(matrix.entries[at], numbers, weights);
                    }
                }
                weights
            }
        }
    }
}

/// Up to this number of outputs dense rows are read where they stand: their weights stay in the fast memory.
const BY_ROWS: usize = 16;

/// The i-th chosen row of a dense matrix.
fn dense_row<'a>(entries: &'a [f64], columns: usize, rows: Option<&[u64]>, i: usize) -> &'a [f64] {
    &entries[row(rows, i) * columns..][..columns]
}

/// The chosen rows of a dense matrix, those of a batch copied.
fn side_by_side<'a>(entries: &'a [f64], columns: usize, rows: Option<&[u64]>) -> Cow<'a, [f64]> {
    match rows {
        None => entries.into(),
        Some(rows) => {
            (0..rows.len()).flat_map(|i| dense_row(entries, columns, Some(rows), i)).copied().collect()
        }
    }
}

/// The number of the i-th chosen row.
fn row(rows: Option<&[u64]>, i: usize) -> usize {
    rows.map_or(i, |rows| rows[i] as usize)
}

impl Sparse {
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }
}

/// nalgebra's path for fewer columns reads strided views out of bounds, and is no faster than a loop.
const UNBLOCKED: usize = 5;

fn axpy(a: f64, x: &[f64], y: &mut [f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// C = A B with A of `inner` columns; strides are [between rows, between columns].
pub(crate) fn product(
    (c, [rows, columns], c_strides): (&mut [f64], [usize; 2], [usize; 2]),
    (a, a_strides): (&[f64], [usize; 2]),
    (b, b_strides): (&[f64], [usize; 2]),
    inner: usize,
) {
    if [rows, columns, inner].iter().any(|&n| n <= UNBLOCKED) {
        for i in 0..rows {
            for j in 0..columns {
                c[i * c_strides[0] + j * c_strides[1]] = (0..inner)
                    .map(|k| a[i * a_strides[0] + k * a_strides[1]] * b[k * b_strides[0] + j * b_strides[1]])
                    .sum();
            }
        }
        return;
    }
    let view = |entries, rows, columns, [by_row, by_column]: [usize; 2]| {
        MatrixView::<f64, Dyn, Dyn, Dyn, Dyn>::from_slice_with_strides_generic(
            entries,
            Dyn(rows),
            Dyn(columns),
            Dyn(by_row),
            Dyn(by_column),
        )
    };
    let mut c = MatrixViewMut::<f64, Dyn, Dyn, Dyn, Dyn>::from_slice_with_strides_generic(
        c,
        Dyn(rows),
        Dyn(columns),
        Dyn(c_strides[0]),
        Dyn(c_strides[1]),
    );
    c.gemm(1.0, &view(a, rows, inner, a_strides), &view(b, inner, columns, b_strides), 0.0);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The same matrix, dense and sparse.
    pub(crate) fn both(rows: usize, columns: usize, seed: u64) -> [Features; 2] {
        let mut stream = bilevel::rng::Stream::new(seed, 0);
        let entries: Vec<f64> =
            (0..rows * columns).map(|_| if stream.uniform() < 0.4 { stream.normal() } else { 0.0 }).collect();
        let mut sparse = Sparse { columns, starts: vec![0], column: vec![], entries: vec![] };
        for row in entries.chunks_exact(columns) {
            for (j, &entry) in row.iter().enumerate().filter(|(_, entry)| **entry != 0.0) {
                sparse.column.push(j as u32);
                sparse.entries.push(entry);
            }
            sparse.starts.push(sparse.entries.len());
        }
        [Features::Dense(Dense { columns, entries }), Features::Sparse(sparse)]
    }

    #[test]
    fn products_are_those_by_definition_for_every_kind() {
        for outputs in [1, 3, 7, 17] {
            for features in both(11, 9, 1) {
                let Features::Dense(Dense { entries, .. }) = &both(11, 9, 1)[0] else { unreachable!() };
                let place = features.place(outputs);
                let batch = [3, 0, 3, 10];
                for (s, rows) in [
                    (Sample::Full, (0..11).collect::<Vec<usize>>()),
                    (Sample::Batch(&batch), vec![3, 0, 3, 10]),
                ] {
                    let picked = features.pick(s);
                    assert_eq!((picked.len(), picked.is_empty()), (rows.len(), false));
                    let mut stream = bilevel::rng::Stream::new(2, 0);
                    let weights: Vec<f64> = (0..9 * outputs).map(|_| stream.normal()).collect();
                    let sums = picked.times(&weights, outputs);
                    let numbers: Vec<f64> = (0..rows.len() * outputs).map(|_| stream.normal()).collect();
                    let back = picked.transposed_times(&numbers, outputs);
                    for (i, &row) in rows.iter().enumerate() {
                        for c in 0..outputs {
                            let by_hand: f64 = (0..9)
                                .map(|j| entries[row * 9 + j] * weights[place.feature * j + place.output * c])
                                .sum();
                            assert!((sums[i * outputs + c] - by_hand).abs() < 1e-13);
                        }
                    }
                    for j in 0..9 {
                        for c in 0..outputs {
                            let by_hand: f64 = rows
                                .iter()
                                .enumerate()
                                .map(|(i, row)| entries[row * 9 + j] * numbers[i * outputs + c])
                                .sum();
                            assert!((back[place.feature * j + place.output * c] - by_hand).abs() < 1e-13);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_column_of_ones_is_the_last() {
        for features in both(4, 3, 5) {
            let wider = features.with_ones();
            assert_eq!((wider.rows(), wider.columns()), (4, 4));
            // the weight of the last feature alone
            let mut weights = vec![0.0; 4];
            weights[3] = 2.0;
            assert_eq!(wider.pick(Sample::Full).times(&weights, 1), [2.0; 4]);
        }
    }
}
