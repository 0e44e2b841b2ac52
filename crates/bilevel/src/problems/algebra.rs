//! Small dense algebra for the closed forms.

use nalgebra::{DMatrix, DVector};

use crate::{linear::dense::Spectrum, rng::Stream};

/// ⟨a, b⟩.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "dot product of lists of different length");
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
/// |a|².
pub(super) fn norm_sq(a: &[f64]) -> f64 {
    dot(a, a)
}
/// c·a.
pub(super) fn scaled(c: f64, a: &[f64]) -> Vec<f64> {
    a.iter().map(|a| c * a).collect()
}
/// a + c·b.
pub(super) fn plus(a: &[f64], c: f64, b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len(), "sum of lists of different length");
    a.iter().zip(b).map(|(a, b)| a + c * b).collect()
}
/// The vector with these entries.
pub(super) fn vector(a: &[f64]) -> DVector<f64> {
    DVector::from_row_slice(a)
}
/// The entries of a vector.
pub(super) fn list(a: &DVector<f64>) -> Vec<f64> {
    a.as_slice().to_vec()
}
/// The rows of a matrix.
pub(super) fn rows(a: &DMatrix<f64>) -> Vec<Vec<f64>> {
    a.row_iter().map(|row| row.iter().copied().collect()).collect()
}
/// Solves A x = b for a symmetric positive definite A.
pub(super) fn solve_definite(a: &DMatrix<f64>, b: &DVector<f64>) -> Option<DVector<f64>> {
    Some(a.clone().cholesky()?.solve(b))
}
/// Eigenvalues of the symmetric `form` restricted to the kernel of `constraint` (rows independent), ascending.
pub(super) fn restricted_eigenvalues(form: &DMatrix<f64>, constraint: &DMatrix<f64>) -> Vec<f64> {
    let gram = Spectrum::of_matrix(&constraint.tr_mul(constraint));
    let dim = form.nrows() - constraint.nrows();
    let basis =
        DMatrix::from_columns(&(0..dim).map(|i| DVector::from_vec(gram.vector(i))).collect::<Vec<_>>());
    Spectrum::of_matrix(&basis.tr_mul(&(form * &basis))).values().to_vec()
}

/// `count` standard normals for a problem's start or data.
///
/// `purpose` keeps the streams of one seed apart: 0 for starts, others for data.
pub(super) fn normals(seed: u64, purpose: u64, count: usize) -> Vec<f64> {
    let mut stream = stream(seed, purpose);
    (0..count).map(|_| stream.normal()).collect()
}
/// Standard normals, drawn row by row.
pub(super) fn normal_matrix(rows: usize, columns: usize, random: &mut Stream) -> DMatrix<f64> {
    let entries: Vec<f64> = (0..rows * columns).map(|_| random.normal()).collect();
    DMatrix::from_row_slice(rows, columns, &entries)
}
/// The random stream of a problem's data for one purpose.
pub(super) fn stream(seed: u64, purpose: u64) -> Stream {
    Stream::new(seed, PURPOSE + purpose)
}
/// Streams of the zoo begin here, away from those that solvers use on the same seed.
const PURPOSE: u64 = 0x7A6F_6F00;
