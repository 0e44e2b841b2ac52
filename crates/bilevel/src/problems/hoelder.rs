//! T11, degenerate selections: ∇F is only Hölder continuous, or not even that (m 1, d 2, k 1).
//!
//! ```text
//! g = ½y₂²,   f = φ(y₁) − x y₁,   S = {y₂ = 0};   F' = −t*, φ'(t*) = x, M_T = φ''(t*)
//! φ = |t|^p/p:        F = −(1 − 1/p)|x|^(p/(p−1)),  F' = −sgn(x)|x|^(1/(p−1))
//! φ = t²e^(−1/t²):    t* ~ (ln 1/|x|)^(−1/2), no Hölder exponent at 0
//! ```
//!
//! Domain: all x. At x = 0 the selection is degenerate (M_T = 0) although F' = 0 exists. J = 0.

use super::{
    algebra::normals,
    formulas::{Formulas, KnownAnswer},
};

/// T11; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub enum Hoelder {
    /// φ = |t|^p/p with p > 2.
    Power(
        /// p.
        f64,
    ),
    /// φ = t²e^(−1/t²), strictly convex and flat at 0.
    Flat,
}

impl Hoelder {
    /// φ = t⁴/4.
    pub fn quartic() -> Self {
        Self::Power(4.0)
    }
    /// φ, φ', φ'' at t.
    fn phi(self, t: f64) -> (f64, f64, f64) {
        match self {
            Self::Power(p) => {
                let size = t.abs();
                (size.powf(p) / p, size.powf(p - 1.0) * t.signum(), (p - 1.0) * size.powf(p - 2.0))
            }
            Self::Flat => {
                let inverse = 1.0 / (t * t);
                let decay = (-inverse).exp();
                // below t ≈ 0.037 the exponential underflows, and all three are zero in f64
                if decay == 0.0 {
                    return (0.0, 0.0, 0.0);
                }
                let bend = 2.0 + 2.0 * inverse + 4.0 * inverse * inverse;
                (t * t * decay, (2.0 * t + 2.0 / t) * decay, bend * decay)
            }
        }
    }
    /// The root t* of φ'(t) = x.
    fn root(self, x: f64) -> f64 {
        match self {
            Self::Power(p) => x.signum() * x.abs().powf(1.0 / (p - 1.0)),
            Self::Flat if x == 0.0 => 0.0,
            Self::Flat => {
                // φ' increases, and φ'(2 + |x|) > |x|
                let (mut low, mut high) = (0.0, 2.0 + x.abs());
                loop {
                    let middle: f64 = 0.5 * (low + high);
                    if middle <= low || middle >= high {
                        return x.signum() * middle;
                    }
                    if self.phi(middle).1 < x.abs() { low = middle } else { high = middle }
                }
            }
        }
    }
}

impl Formulas for Hoelder {
    fn dims(&self) -> (usize, usize) {
        (1, 2)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(1)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        self.phi(y[0]).0 - x[0] * y[0]
    }
    fn f_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-y[0]]
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![self.phi(y[0]).1 - x[0], 0.0]
    }
    fn g(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * y[1] * y[1]
    }
    fn g_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn g_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![0.0, y[1]]
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![0.0, u[1]]
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], _u: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn default_x(&self) -> Vec<f64> {
        match self {
            Self::Power(_) => vec![0.1],
            Self::Flat => vec![0.5],
        }
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 2)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let t = if x[0] == 0.0 { 0.0 } else { self.root(x[0]) };
        let (value, _, bend) = if t == 0.0 { (0.0, 0.0, 0.0) } else { self.phi(t) };
        Some(KnownAnswer {
            value: value - x[0] * t,
            gradient: Some(vec![-t]),
            selection: Some(vec![t, 0.0]),
            v: Some(vec![0.0, 0.0]),
            curvatures: Some(vec![bend]),
            lower_spectrum: Some(vec![1.0]),
            hyper_hessian: (bend > 0.0).then(|| vec![vec![-1.0 / bend]]),
        })
    }
}
