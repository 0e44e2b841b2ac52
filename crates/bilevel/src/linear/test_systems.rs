//! Symmetric systems with known pseudoinverses for the tests of this module.

use nalgebra::{DMatrix, DVector};

use super::dense::Spectrum;
use crate::{error::OracleResult, rng::Stream, vector::Vector};

/// A dense symmetric operator with its decomposition.
pub struct System {
    pub matrix: DMatrix<f64>,
    pub spectrum: Spectrum,
}

impl System {
    pub fn new(matrix: DMatrix<f64>) -> Self {
        let spectrum = Spectrum::of_matrix(&matrix);
        Self { matrix, spectrum }
    }
    /// Q diag(λ) Qᵀ with a random orthogonal Q.
    pub fn with_eigenvalues(eigenvalues: &[f64], seed: u64) -> Self {
        let n = eigenvalues.len();
        let mut stream = Stream::new(seed, 0);
        let q = DMatrix::from_fn(n, n, |_, _| stream.normal()).qr().q();
        Self::new(&q * DMatrix::from_diagonal(&DVector::from_row_slice(eigenvalues)) * q.transpose())
    }
    pub fn product(&self, v: &[f64]) -> Vec<f64> {
        (&self.matrix * DVector::from_row_slice(v)).as_slice().to_vec()
    }
    pub fn apply(&self) -> impl FnMut(&Vec<f64>) -> OracleResult<Vec<f64>> {
        |v| Ok(self.product(v))
    }
    /// Eigenvalues below this are rounding.
    fn cut(&self) -> f64 {
        1e-12 * self.spectrum.norm()
    }
    pub fn pseudoinverse(&self, rhs: &Vec<f64>) -> Vec<f64> {
        self.spectrum.pseudoinverse(self.cut(), rhs)
    }
    pub fn kernel_part(&self, rhs: &Vec<f64>) -> Vec<f64> {
        self.spectrum.project_on_kernel(self.cut(), rhs)
    }
}

/// A positive semidefinite 6×6 matrix B Bᵀ of rank 3 and a right-hand side outside its range.
pub fn random_rank_three(seed: u64) -> (System, Vec<f64>) {
    let mut stream = Stream::new(seed, 1);
    let factor = DMatrix::from_fn(6, 3, |_, _| stream.normal());
    (System::new(&factor * factor.transpose()), stream.normal_like(&vec![0.0; 6]))
}

/// The over-parameterised least-squares Hessian AᵀA with (A y)_i = s_i (y_i + y_{n+i})/√2, s_i = κ^(−(i−1)/(2(n−1))),
/// and the upper gradient at its selection.
pub struct T3Large {
    scales: Vec<f64>,
}

impl T3Large {
    pub const N: usize = 200;

    pub fn new(kappa: f64) -> Self {
        let n = Self::N as f64;
        Self { scales: (0..Self::N).map(|i| kappa.powf(-(i as f64) / (2.0 * (n - 1.0)))).collect() }
    }
    pub fn product(&self, y: &[f64]) -> Vec<f64> {
        let half: Vec<f64> =
            (0..Self::N).map(|i| 0.5 * self.scales[i].powi(2) * (y[i] + y[Self::N + i])).collect();
        [half.clone(), half].concat()
    }
    fn errors() -> impl Iterator<Item = f64> {
        (1..=Self::N).map(|i| 0.3 * (i as f64).sin() - 0.7 * (i as f64).cos())
    }
    /// y*_i = y*_{n+i} = e_i/√2, which is ∇_y f of f = ½|y|².
    pub fn rhs() -> Vec<f64> {
        let half: Vec<f64> = Self::errors().map(|e| e * std::f64::consts::FRAC_1_SQRT_2).collect();
        [half.clone(), half].concat()
    }
    /// A unit-free kernel vector, 0.01·(1, …, 1, −1, …, −1).
    pub fn kernel_vector() -> Vec<f64> {
        [vec![0.01; Self::N], vec![-0.01; Self::N]].concat()
    }
    /// v_i = v_{n+i} = e_i/(s_i²√2).
    pub fn solution(&self) -> Vec<f64> {
        let half: Vec<f64> = Self::errors()
            .zip(&self.scales)
            .map(|(e, s)| e * std::f64::consts::FRAC_1_SQRT_2 / (s * s))
            .collect();
        [half.clone(), half].concat()
    }
    /// Hypergradient of F = ½Σe_i² at x = (0.3, −0.7).
    pub const HYPERGRADIENT: [f64; 2] = [30.13289402582658, -69.627823897422461];
    /// −J v = Σ s_i (sin i, cos i) (A v)_i.
    pub fn hypergradient(&self, v: &[f64]) -> Vec<f64> {
        let mut gradient = vec![0.0; 2];
        for i in 0..Self::N {
            let image = self.scales[i] * (v[i] + v[Self::N + i]) * std::f64::consts::FRAC_1_SQRT_2;
            let phase = (i + 1) as f64;
            gradient[0] += self.scales[i] * phase.sin() * image;
            gradient[1] += self.scales[i] * phase.cos() * image;
        }
        gradient
    }
    pub fn relative_error(&self, v: &Vec<f64>) -> f64 {
        v.distance(&self.solution()) / self.solution().norm()
    }
}
