//! T5, a curved graph on which the ambient Hessian of f has the wrong sign (m 2, d 2, k 1).
//!
//! ```text
//! y = (t, n),  e = n − κt²/2 − νx₁,  g = ½μ(1 + t²)e²
//! f = ½αt² + βn − t x₂,   A₀ = α + βκ
//! A₀ > 0:  F = βνx₁ − x₂²/2A₀,  t* = x₂/A₀,  n* = κt*²/2 + νx₁,  M_T = A₀/(1 + κ²t*²)
//! A₀ ≤ 0:  f is unbounded below on S(x), F = −∞
//! ```
//!
//! Domain: all x. With κ = 3: (a) α, β = −1, 1 has the ambient tangent entry −1 although y* is a minimiser on S;
//! (b) α, β = 5, −1 has A₀ = 2 too; (c) α, β = 1, −1 has A₀ = −2 although the ambient entry is +1.

use super::{
    algebra::normals,
    formulas::{Formulas, KnownAnswer},
};

/// T5; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct CurvedGraph {
    /// α, the weight of t²/2 in f.
    pub alpha: f64,
    /// β, the weight of n in f.
    pub beta: f64,
    /// κ, the curvature of the graph.
    pub kappa: f64,
    /// ν, how fast x₁ lifts the graph.
    pub nu: f64,
    /// μ > 0, the stiffness of g.
    pub mu: f64,
}

impl CurvedGraph {
    const fn with(alpha: f64, beta: f64) -> Self {
        Self { alpha, beta, kappa: 3.0, nu: 0.7, mu: 2.0 }
    }
    /// T5 (a): a concave f that is convex along S.
    pub const fn a() -> Self {
        Self::with(-1.0, 1.0)
    }
    /// T5 (b): a convex f that is less convex along S.
    pub const fn b() -> Self {
        Self::with(5.0, -1.0)
    }
    /// T5 (c): a convex f that is unbounded below along S.
    pub const fn c() -> Self {
        Self::with(1.0, -1.0)
    }
    fn height(&self, x: &[f64], y: &[f64]) -> f64 {
        y[1] - 0.5 * self.kappa * y[0] * y[0] - self.nu * x[0]
    }
    /// A₀ = α + βκ.
    fn along(&self) -> f64 {
        self.alpha + self.beta * self.kappa
    }
}

impl Formulas for CurvedGraph {
    fn dims(&self) -> (usize, usize) {
        (2, 2)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(1)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * self.alpha * y[0] * y[0] + self.beta * y[1] - y[0] * x[1]
    }
    fn f_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![0.0, -y[0]]
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![self.alpha * y[0] - x[1], self.beta]
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * self.mu * (1.0 + y[0] * y[0]) * self.height(x, y).powi(2)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-self.mu * self.nu * (1.0 + y[0] * y[0]) * self.height(x, y), 0.0]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (t, e, q) = (y[0], self.height(x, y), 1.0 + y[0] * y[0]);
        vec![self.mu * (t * e * e - self.kappa * t * q * e), self.mu * q * e]
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let (t, e, q, k) = (y[0], self.height(x, y), 1.0 + y[0] * y[0], self.kappa);
        let tt = e * e - 4.0 * k * t * t * e + k * k * t * t * q - k * q * e;
        let tn = 2.0 * t * e - k * t * q;
        vec![self.mu * (tt * u[0] + tn * u[1]), self.mu * (tn * u[0] + q * u[1])]
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let (t, e, q) = (y[0], self.height(x, y), 1.0 + y[0] * y[0]);
        let slope = (2.0 * t * e - self.kappa * t * q) * u[0] + q * u[1];
        vec![-self.mu * self.nu * slope, 0.0]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.4, 0.9]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 2)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let along = self.along();
        if along <= 0.0 {
            return None;
        }
        let t = x[1] / along;
        // ∇e = (−κt, 1), and H = μ(1 + t²)∇e∇eᵀ on S; at the selection ∇_y f = β∇e
        let steepness = 1.0 + self.kappa * self.kappa * t * t;
        let stiffness = self.mu * (1.0 + t * t);
        let weight = self.beta / (stiffness * steepness);
        Some(KnownAnswer {
            value: self.beta * self.nu * x[0] - 0.5 * x[1] * x[1] / along,
            gradient: Some(vec![self.beta * self.nu, -t]),
            selection: Some(vec![t, 0.5 * self.kappa * t * t + self.nu * x[0]]),
            v: Some(vec![-weight * self.kappa * t, weight]),
            curvatures: Some(vec![along / steepness]),
            lower_spectrum: Some(vec![stiffness * steepness]),
            hyper_hessian: Some(vec![vec![0.0, 0.0], vec![0.0, -1.0 / along]]),
        })
    }
}
