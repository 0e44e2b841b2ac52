//! Lower levels for which the status is the answer: unbounded, of undecidable rank, flat, or with a false minimum.
//!
//! | case | problem | what a solver must say |
//! |---|---|---|
//! | E1 | [`Unbounded`] at x = 0.5 | the lower level falls without bound, along (0, −1) at slope 0.5 |
//! | E2 | [`Unbounded`] at x = 0, y = 0 | S(·) is not stable in x: J P = J |
//! | E4 | [`DecayingSpectrum`] | the rank of H cannot be told |
//! | E6 | [`FlatValley`] | flat, not PŁ: the selection residual does not vanish |
//! | E12 | [`DoubleWell`] | landed points have different lower values |

use super::{
    algebra::{norm_sq, normals},
    formulas::{Formulas, KnownAnswer},
};

/// E1 and E2: g = ½y₁² + x y₂, f = ½|y|². S(x) is empty for x ≠ 0 and the line y₁ = 0 for x = 0: F is not defined in
/// any neighbourhood.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl Formulas for Unbounded {
    fn dims(&self) -> (usize, usize) {
        (1, 2)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        None
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * norm_sq(y)
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        y.to_vec()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * y[0] * y[0] + x[0] * y[1]
    }
    fn g_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![y[1]]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![y[0], x[0]]
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![u[0], 0.0]
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![u[1]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.5]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 2)
    }
    fn known(&self, _x: &[f64]) -> Option<KnownAnswer> {
        None
    }
}

/// E4: g = ½Σλⱼ(yⱼ − x)², λ = (1, 1e-2, 1e-5, 1e-7, 1e-9, 0), f = ½|y|². Truly k = 1, F = 5x²/2, but no gap in the
/// spectrum says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct DecayingSpectrum;

const DECAY: [f64; 6] = [1.0, 1e-2, 1e-5, 1e-7, 1e-9, 0.0];

impl Formulas for DecayingSpectrum {
    fn dims(&self) -> (usize, usize) {
        (1, 6)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(1)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * norm_sq(y)
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        y.to_vec()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        DECAY.iter().zip(y).map(|(l, y)| 0.5 * l * (y - x[0]).powi(2)).sum()
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![DECAY.iter().zip(y).map(|(l, y)| l * (x[0] - y)).sum()]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        DECAY.iter().zip(y).map(|(l, y)| l * (y - x[0])).collect()
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        DECAY.iter().zip(u).map(|(l, u)| l * u).collect()
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![-DECAY.iter().zip(u).map(|(l, u)| l * u).sum::<f64>()]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![1.0]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 6)
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let x = x[0];
        let (range, kernel) = DECAY.split_at(5);
        let mut selection = vec![x; range.len()];
        selection.extend_from_slice(kernel);
        let mut v: Vec<f64> = range.iter().map(|l| x / l).collect();
        v.extend_from_slice(kernel);
        Some(KnownAnswer {
            value: 2.5 * x * x,
            gradient: Some(vec![5.0 * x]),
            selection: Some(selection),
            v: Some(v),
            curvatures: Some(vec![1.0]),
            lower_spectrum: Some(range.iter().rev().copied().collect()),
            hyper_hessian: Some(vec![vec![5.0]]),
        })
    }
}

/// E6: g = ¼(y₁ − x)⁴ + ½y₂², f = ½(y₁ − 1)² + ½y₂². S(x) is the point (x, 0) and F = ½(x − 1)², but g is flat there:
/// H = diag(0, 1), and the pseudoinverse formula answers 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlatValley;

impl Formulas for FlatValley {
    fn dims(&self) -> (usize, usize) {
        (1, 2)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * (y[0] - 1.0).powi(2) + 0.5 * y[1] * y[1]
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![y[0] - 1.0, y[1]]
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.25 * (y[0] - x[0]).powi(4) + 0.5 * y[1] * y[1]
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-(y[0] - x[0]).powi(3)]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![(y[0] - x[0]).powi(3), y[1]]
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![3.0 * (y[0] - x[0]).powi(2) * u[0], u[1]]
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![-3.0 * (y[0] - x[0]).powi(2) * u[0]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.0]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 2)
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        // v does not exist: ∇_y f = (x − 1, 0) lies in ker H
        Some(KnownAnswer {
            value: 0.5 * (x[0] - 1.0).powi(2),
            gradient: Some(vec![x[0] - 1.0]),
            selection: Some(vec![x[0], 0.0]),
            hyper_hessian: Some(vec![vec![1.0]]),
            ..KnownAnswer::default()
        })
    }
}

/// E12: g = ¼(u² − 1)² + 0.1u with u = y − x, f = ½y². Two minima of g, of which only u* = −1.0467 is global:
/// F = ½(x + u*)². The other may well have the lower f.
#[derive(Clone, Copy, Debug, Default)]
pub struct DoubleWell;

impl DoubleWell {
    /// u of the global and of the false minimum of g.
    pub fn wells() -> [f64; 2] {
        // Newton on u³ − u + 0.1 from outside both roots converges monotonically, quadratically at the end
        [-1.2, 1.0].map(|mut u: f64| {
            for _ in 0..60 {
                u -= (u * u * u - u + 0.1) / (3.0 * u * u - 1.0);
            }
            u
        })
    }
}

impl Formulas for DoubleWell {
    fn dims(&self) -> (usize, usize) {
        (1, 1)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * y[0] * y[0]
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![y[0]]
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        let u = y[0] - x[0];
        0.25 * (u * u - 1.0).powi(2) + 0.1 * u
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let u = y[0] - x[0];
        vec![-(u * u * u - u + 0.1)]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let u = y[0] - x[0];
        vec![u * u * u - u + 0.1]
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], direction: &[f64]) -> Vec<f64> {
        vec![(3.0 * (y[0] - x[0]).powi(2) - 1.0) * direction[0]]
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], direction: &[f64]) -> Vec<f64> {
        vec![-(3.0 * (y[0] - x[0]).powi(2) - 1.0) * direction[0]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.0]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 1)
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let u = Self::wells()[0];
        let (y, stiffness) = (x[0] + u, 3.0 * u * u - 1.0);
        Some(KnownAnswer {
            value: 0.5 * y * y,
            gradient: Some(vec![y]),
            selection: Some(vec![y]),
            v: Some(vec![y / stiffness]),
            curvatures: Some(Vec::new()),
            lower_spectrum: Some(vec![stiffness]),
            hyper_hessian: Some(vec![vec![1.0]]),
        })
    }
}
