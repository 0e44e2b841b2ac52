//! T9, two data sources with conflicting labels (m 1, d 5, k 3).
//!
//! ```text
//! p = 1/(1 + e^(−x)),  eⱼ = A y − bⱼ,  g = ½p|e₁|² + ½(1−p)|e₂|²,  A = [[1,0,1,0,0.5],[0,1,0,−1,0.5]]
//! f = ½|y − c|², c = (0.5,0.2,0.3,0.1,0),   b₁ = (2,0), b₂ = (−1,1)
//! β = p b₁ + (1−p) b₂, ρ = β − A c, G = AAᵀ:  F = ½ρᵀG⁻¹ρ,  F' = p(1−p)(b₁−b₂)ᵀG⁻¹ρ
//! ```
//!
//! Domain: all x. With b₁ = b₂ the sources agree, J = 0 and F' = 0 everywhere: x has no signal.

use nalgebra::{DMatrix, DVector};

use super::{
    algebra::{dot, list, norm_sq, normals, solve_definite, vector},
    formulas::{Formulas, KnownAnswer},
};
use crate::linear::dense::Spectrum;

/// T9; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    /// b₁, the labels of the first source.
    pub first: [f64; 2],
    /// b₂, the labels of the second source.
    pub second: [f64; 2],
}

impl Default for Sources {
    /// T9.
    fn default() -> Self {
        Self { first: [2.0, 0.0], second: [-1.0, 1.0] }
    }
}

const CENTRE: [f64; 5] = [0.5, 0.2, 0.3, 0.1, 0.0];

/// A y.
fn forward(y: &[f64]) -> [f64; 2] {
    [y[0] + y[2] + 0.5 * y[4], y[1] - y[3] + 0.5 * y[4]]
}
/// Aᵀe.
fn backward(e: &[f64]) -> Vec<f64> {
    vec![e[0], e[1], e[0], -e[1], 0.5 * (e[0] + e[1])]
}
fn share(x: &[f64]) -> f64 {
    1.0 / (1.0 + (-x[0]).exp())
}
fn minus(a: &[f64; 2], b: &[f64; 2]) -> [f64; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

impl Sources {
    /// Two sources with the same labels (1, 0.5): no signal.
    pub fn agreeing() -> Self {
        Self { first: [1.0, 0.5], second: [1.0, 0.5] }
    }
    /// β.
    fn blend(&self, x: &[f64]) -> [f64; 2] {
        let p = share(x);
        [0, 1].map(|i| p * self.first[i] + (1.0 - p) * self.second[i])
    }
    /// |e₁|² and |e₂|².
    fn errors(&self, y: &[f64]) -> (f64, f64) {
        let fitted = forward(y);
        (norm_sq(&minus(&fitted, &self.first)), norm_sq(&minus(&fitted, &self.second)))
    }
}

impl Formulas for Sources {
    fn dims(&self) -> (usize, usize) {
        (1, 5)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(3)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        y.iter().zip(CENTRE).map(|(y, c)| 0.5 * (y - c).powi(2)).sum()
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        y.iter().zip(CENTRE).map(|(y, c)| y - c).collect()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        let (p, (first, second)) = (share(x), self.errors(y));
        0.5 * p * first + 0.5 * (1.0 - p) * second
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (p, (first, second)) = (share(x), self.errors(y));
        vec![0.5 * p * (1.0 - p) * (first - second)]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        backward(&minus(&forward(y), &self.blend(x)))
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        backward(&forward(u))
    }
    fn g_jvp_xy(&self, x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        let p = share(x);
        vec![-p * (1.0 - p) * dot(&minus(&self.first, &self.second), &forward(u))]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.4]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 5)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let p = share(x);
        let gram = DMatrix::from_row_slice(2, 2, &[2.25, 0.25, 0.25, 2.25]);
        let rho = vector(&minus(&self.blend(x), &forward(&CENTRE)));
        let multiplier = solve_definite(&gram, &rho)?;
        let difference: DVector<f64> = vector(&minus(&self.first, &self.second));
        // p' = p(1−p), p'' = p'(1−2p)
        let slope = p * (1.0 - p);
        let along = difference.dot(&multiplier);
        let bend = difference.dot(&solve_definite(&gram, &difference)?);
        let selection = backward(multiplier.as_slice()).iter().zip(CENTRE).map(|(y, c)| y + c).collect();
        Some(KnownAnswer {
            value: 0.5 * rho.dot(&multiplier),
            gradient: Some(vec![slope * along]),
            selection: Some(selection),
            v: Some(backward(&list(&solve_definite(&gram, &multiplier)?))),
            curvatures: Some(vec![1.0; 3]),
            lower_spectrum: Some(Spectrum::of_matrix(&gram).values().to_vec()),
            hyper_hessian: Some(vec![vec![slope * slope * bend + slope * (1.0 - 2.0 * p) * along]]),
        })
    }
}
