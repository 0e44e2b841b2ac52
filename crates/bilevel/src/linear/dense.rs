//! Dense symmetric eigendecomposition: rank by a gap, kernel, pseudoinverse.

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::Apply;
use crate::{error::OracleResult, vector::Vector};

/// The eigendecomposition of a symmetric operator, eigenvalues ascending.
#[derive(Clone, Debug)]
pub struct Spectrum {
    values: Vec<f64>,
    /// Column i belongs to value i.
    vectors: DMatrix<f64>,
}

/// Where the spectrum is cut into kernel and range.
#[derive(Clone, Debug, PartialEq)]
pub struct RankCut {
    /// Threshold τ: eigenvalues of modulus at most τ are kernel.
    pub threshold: f64,
    /// Dimension of the kernel.
    pub kernel: usize,
    /// Ratio of the moduli next to the threshold on both sides; infinite when one side is empty.
    pub gap: f64,
    /// Kernel dimension when the cut is lowered by √gap_min.
    pub kernel_low: usize,
    /// Kernel dimension when the cut is raised by √gap_min.
    pub kernel_high: usize,
}

impl Spectrum {
    /// Decomposes the operator on the space of `like`, at the price of `like.dim()` products.
    ///
    /// The matrix is symmetrised; products that are not symmetric to rounding are the caller's to check
    /// ([`crate::check`]).
    pub fn of<V: Vector>(apply: Apply<V>, like: &V) -> OracleResult<Self> {
        let dim = like.dim();
        let mut matrix = DMatrix::zeros(dim, dim);
        let mut unit = vec![0.0; dim];
        for j in 0..dim {
            unit[j] = 1.0;
            let column = apply(&like.with_coordinates(&unit))?.coordinates();
            matrix.set_column(j, &DVector::from_vec(column));
            unit[j] = 0.0;
        }
        Ok(Self::of_matrix(&matrix))
    }

    /// Decomposes the symmetric part of a matrix.
    pub fn of_matrix(matrix: &DMatrix<f64>) -> Self {
        if matrix.is_empty() {
            return Self { values: vec![], vectors: DMatrix::zeros(0, 0) };
        }
        let symmetric = (matrix + matrix.transpose()) * 0.5;
        let eigen = SymmetricEigen::new(symmetric);
        let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
        order.sort_by(|&i, &j| eigen.eigenvalues[i].total_cmp(&eigen.eigenvalues[j]));
        Self {
            values: order.iter().map(|&i| eigen.eigenvalues[i]).collect(),
            vectors: DMatrix::from_columns(
                &order.iter().map(|&i| eigen.eigenvectors.column(i)).collect::<Vec<_>>(),
            ),
        }
    }

    /// Eigenvalues, ascending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
    /// The unit eigenvector of value `i`, in coordinates.
    pub fn vector(&self, i: usize) -> Vec<f64> {
        self.vectors.column(i).iter().copied().collect()
    }
    /// Largest modulus of an eigenvalue.
    pub fn norm(&self) -> f64 {
        self.values.iter().fold(0.0, |m, v| v.abs().max(m))
    }
    /// Smallest eigenvalue; 0 on the zero space.
    pub fn min(&self) -> f64 {
        self.values.first().copied().unwrap_or(0.0)
    }

    /// Cuts at `threshold` and says how clear the cut is: the gap, and the kernels at threshold/√`gap_min` and
    /// threshold·√`gap_min`.
    pub fn cut(&self, threshold: f64, gap_min: f64) -> RankCut {
        let kernel_at = |t: f64| self.values.iter().filter(|v| v.abs() <= t).count();
        let below = self.values.iter().map(|v| v.abs()).filter(|&v| v <= threshold).fold(0.0, f64::max);
        let above =
            self.values.iter().map(|v| v.abs()).filter(|&v| v > threshold).fold(f64::INFINITY, f64::min);
        RankCut {
            threshold,
            kernel: kernel_at(threshold),
            gap: if below == 0.0 { f64::INFINITY } else { above / below },
            kernel_low: kernel_at(threshold / gap_min.sqrt()),
            kernel_high: kernel_at(threshold * gap_min.sqrt()),
        }
    }

    /// Indices of the eigenvalues of modulus at most `threshold`.
    pub fn kernel(&self, threshold: f64) -> Vec<usize> {
        (0..self.values.len()).filter(|&i| self.values[i].abs() <= threshold).collect()
    }

    /// φ(A) b for a function of the eigenvalues: `Σ φ(λ_i) u_i ⟨u_i, b⟩`.
    pub fn function<V: Vector>(&self, phi: impl Fn(f64) -> f64, b: &V) -> V {
        let mut weights = self.vectors.tr_mul(&DVector::from_vec(b.coordinates()));
        weights.iter_mut().zip(&self.values).for_each(|(w, &value)| *w *= phi(value));
        b.with_coordinates((&self.vectors * weights).as_slice())
    }

    /// A⁺ b with eigenvalues of modulus at most `threshold` taken as zero.
    pub fn pseudoinverse<V: Vector>(&self, threshold: f64, b: &V) -> V {
        self.function(|value| if value.abs() > threshold { value.recip() } else { 0.0 }, b)
    }

    /// Orthogonal projection of b on the kernel.
    pub fn project_on_kernel<V: Vector>(&self, threshold: f64, b: &V) -> V {
        self.function(|value| f64::from(u8::from(value.abs() <= threshold)), b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagonal(entries: &[f64]) -> Spectrum {
        Spectrum::of_matrix(&DMatrix::from_diagonal(&DVector::from_row_slice(entries)))
    }

    #[test]
    fn values_ascend_and_vectors_follow() {
        let spectrum = diagonal(&[3.0, -1.0, 0.0]);
        assert_eq!(spectrum.values(), [-1.0, 0.0, 3.0]);
        assert_eq!(spectrum.vector(2)[0].abs(), 1.0);
        assert_eq!((spectrum.norm(), spectrum.min()), (3.0, -1.0));
    }

    #[test]
    fn pseudoinverse_ignores_the_kernel_part_of_the_right_hand_side() {
        let v = diagonal(&[2.0, 0.0, -4.0]).pseudoinverse(1e-9, &vec![1.0, 5.0, 1.0]);
        assert_eq!(v, [0.5, 0.0, -0.25]);
    }

    #[test]
    fn a_decaying_spectrum_has_no_clear_cut() {
        let cut = diagonal(&[1.0, 1e-2, 1e-5, 1e-7, 1e-9, 0.0]).cut(1e-6, 1e3);
        assert_eq!((cut.kernel, cut.kernel_low, cut.kernel_high), (3, 2, 4));
        assert!((cut.gap - 1e2).abs() < 1e-9);
    }
}
