//! T3, over-parameterised least squares, small (m 2, d 4, k 2) and large (m 2, d 2n, k n).
//!
//! ```text
//! small: g = ½|A y − β|², A = [[1,0,2,−1],[0,1,1,1]], β = (x₁ + 2x₂, x₁² − x₂)
//!        f = ½(y − c)ᵀD(y − c), c = (1,−1,0.5,2), D = diag(1,2,3,4)
//!        F = ½ρᵀG⁻¹ρ, ρ = β − A c, G = A D⁻¹Aᵀ,  y* = c + D⁻¹AᵀG⁻¹ρ
//! large: g = ½|A y − β|², (A y)ᵢ = sᵢ(yᵢ + yₙ₊ᵢ)/√2, sᵢ = κ^(−(i−1)/(2(n−1))), β_i = sᵢeᵢ, eᵢ = x₁ sin i + x₂ cos i
//!        f = ½|y|²,  F = ½Σeᵢ²,  y*ᵢ = y*ₙ₊ᵢ = eᵢ/√2,  condition number of H on its range: κ
//! ```
//!
//! Domain: all x. S(x) is an affine space, so f is strictly convex on it and nothing is degenerate.

use std::f64::consts::FRAC_1_SQRT_2;

use nalgebra::{DMatrix, DVector};

use super::{
    algebra::{list, norm_sq, normals, restricted_eigenvalues, rows, solve_definite, vector},
    formulas::{Formulas, KnownAnswer},
};
use crate::linear::dense::Spectrum;

/// T3; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastSquares;

const CENTRE: [f64; 4] = [1.0, -1.0, 0.5, 2.0];
const WEIGHTS: [f64; 4] = [1.0, 2.0, 3.0, 4.0];

/// A y.
fn forward(y: &[f64]) -> [f64; 2] {
    [y[0] + 2.0 * y[2] - y[3], y[1] + y[2] + y[3]]
}
/// Aᵀe.
fn backward(e: [f64; 2]) -> Vec<f64> {
    vec![e[0], e[1], 2.0 * e[0] + e[1], e[1] - e[0]]
}
fn target(x: &[f64]) -> [f64; 2] {
    [x[0] + 2.0 * x[1], x[0] * x[0] - x[1]]
}
/// β'ᵀe.
fn target_pullback(x: &[f64], e: [f64; 2]) -> Vec<f64> {
    vec![e[0] + 2.0 * x[0] * e[1], 2.0 * e[0] - e[1]]
}
fn residual(x: &[f64], y: &[f64]) -> [f64; 2] {
    let (a, b) = (forward(y), target(x));
    [a[0] - b[0], a[1] - b[1]]
}

impl Formulas for LeastSquares {
    fn dims(&self) -> (usize, usize) {
        (2, 4)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(2)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        (0..4).map(|i| 0.5 * WEIGHTS[i] * (y[i] - CENTRE[i]).powi(2)).sum()
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0; 2]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        (0..4).map(|i| WEIGHTS[i] * (y[i] - CENTRE[i])).collect()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * norm_sq(&residual(x, y))
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let e = residual(x, y);
        target_pullback(x, [-e[0], -e[1]])
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        backward(residual(x, y))
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        backward(forward(u))
    }
    fn g_jvp_xy(&self, x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        let e = forward(u);
        target_pullback(x, [-e[0], -e[1]])
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.2, -0.5]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 4)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let a = DMatrix::from_row_slice(2, 4, &[1.0, 0.0, 2.0, -1.0, 0.0, 1.0, 1.0, 1.0]);
        let weights = DMatrix::from_diagonal(&vector(&WEIGHTS));
        let inverse = DMatrix::from_diagonal(&vector(&WEIGHTS).map(f64::recip));
        let centre = vector(&CENTRE);
        let gram = &a * &inverse * a.transpose();
        let rho = vector(&target(x)) - &a * &centre;
        let multiplier = solve_definite(&gram, &rho)?;
        let slope = DMatrix::from_row_slice(2, 2, &[1.0, 2.0, 2.0 * x[0], -1.0]);
        // only β₂ = x₁² − x₂ bends: ∇²β₂ = diag(2, 0)
        let mut hyper_hessian = slope.tr_mul(&gram.clone().cholesky()?.solve(&slope));
        hyper_hessian[(0, 0)] += 2.0 * multiplier[1];
        let normal = &a * a.transpose();
        Some(KnownAnswer {
            value: 0.5 * rho.dot(&multiplier),
            gradient: Some(list(&slope.tr_mul(&multiplier))),
            selection: Some(list(&(centre + &inverse * a.tr_mul(&multiplier)))),
            v: Some(list(&a.tr_mul(&solve_definite(&normal, &multiplier)?))),
            curvatures: Some(restricted_eigenvalues(&weights, &a)),
            // the nonzero eigenvalues of AᵀA are those of AAᵀ
            lower_spectrum: Some(Spectrum::of_matrix(&normal).values().to_vec()),
            hyper_hessian: Some(rows(&hyper_hessian)),
        })
    }
}

/// T3 large; see the [module](self).
#[derive(Clone, Debug)]
pub struct LargeLeastSquares {
    /// sᵢ, from 1 down to κ^(−½).
    scales: Vec<f64>,
}

impl LargeLeastSquares {
    /// n ≥ 2 equations in 2n unknowns, condition number κ ≥ 1 of H on its range.
    pub fn new(n: usize, condition: f64) -> Self {
        let exponent = |i: usize| -(i as f64) / (2.0 * (n as f64 - 1.0));
        Self { scales: (0..n).map(|i| condition.powf(exponent(i))).collect() }
    }
    fn n(&self) -> usize {
        self.scales.len()
    }
    /// (sin i, cos i) for i = 1..n.
    fn waves(&self) -> impl Iterator<Item = (f64, f64)> {
        (1..=self.n()).map(|i| (i as f64).sin_cos())
    }
    /// eᵢ.
    fn signal(&self, x: &[f64]) -> Vec<f64> {
        self.waves().map(|(sin, cos)| x[0] * sin + x[1] * cos).collect()
    }
    fn forward(&self, y: &[f64]) -> Vec<f64> {
        let n = self.n();
        (0..n).map(|i| self.scales[i] * (y[i] + y[n + i]) * FRAC_1_SQRT_2).collect()
    }
    fn backward(&self, e: &[f64]) -> Vec<f64> {
        let half: Vec<f64> = self.scales.iter().zip(e).map(|(s, e)| s * e * FRAC_1_SQRT_2).collect();
        half.repeat(2)
    }
    fn residual(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (fitted, signal) = (self.forward(y), self.signal(x));
        (0..self.n()).map(|i| fitted[i] - self.scales[i] * signal[i]).collect()
    }
    /// −β'ᵀe.
    fn target_pullback(&self, e: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; 2];
        for ((sin, cos), (s, e)) in self.waves().zip(self.scales.iter().zip(e)) {
            sum[0] -= s * e * sin;
            sum[1] -= s * e * cos;
        }
        sum
    }
}

impl Formulas for LargeLeastSquares {
    fn dims(&self) -> (usize, usize) {
        (2, 2 * self.n())
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(self.n())
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * norm_sq(y)
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0; 2]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        y.to_vec()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * norm_sq(&self.residual(x, y))
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.target_pullback(&self.residual(x, y))
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.backward(&self.residual(x, y))
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        self.backward(&self.forward(u))
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        self.target_pullback(&self.forward(u))
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.3, -0.7]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 2 * self.n())
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let signal = self.signal(x);
        let mut hyper_hessian = DMatrix::zeros(2, 2);
        let mut gradient = DVector::zeros(2);
        for ((sin, cos), e) in self.waves().zip(&signal) {
            let wave = DVector::from_row_slice(&[sin, cos]);
            gradient += *e * &wave;
            hyper_hessian += &wave * wave.transpose();
        }
        let half: Vec<f64> = signal.iter().map(|e| e * FRAC_1_SQRT_2).collect();
        let multiplier: Vec<f64> = half.iter().zip(&self.scales).map(|(e, s)| e / (s * s)).collect();
        Some(KnownAnswer {
            value: 0.5 * norm_sq(&signal),
            gradient: Some(list(&gradient)),
            selection: Some(half.repeat(2)),
            v: Some(multiplier.repeat(2)),
            curvatures: Some(vec![1.0; self.n()]),
            lower_spectrum: Some(self.scales.iter().rev().map(|s| s * s).collect()),
            hyper_hessian: Some(rows(&hyper_hessian)),
        })
    }
}
