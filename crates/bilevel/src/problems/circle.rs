//! T2, a circle with two competing minimisers (m 1, d 2, k 1), its variant with many kinks, and T2p for the
//! pessimistic target.
//!
//! ```text
//! g = ¼(|y|² − 1)²,   f = a(x) y₁ + (κ/2) y₂²,   a(x) = x or sin(ωx)
//! κ = c > 0 (T2):   F = −|a|, y* = (−sgn a, 0);   F_max = c/2 + a²/2c while |a| < c, at (a/c, ±√(1 − a²/c²)), else |a|
//! κ = −c < 0 (T2p): F_max = |a|, at (sgn a, 0);   F = −c/2 − a²/2c while |a| < c, at (−a/c, ±…), else −|a|
//! ```
//!
//! Domain: all x. On the circle f has the two critical points (±1, 0), and two more while |a| < |κ|. At a = 0 the
//! selections (±1, 0) tie with opposite gradients, and F has a kink. J = 0: only ∇_x f carries the gradient.

use super::{
    algebra::normals,
    formulas::{Branch, Formulas, KnownAnswer},
    shell::Shell,
};

/// T2 and its variants; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Circle {
    /// κ, the weight of y₂²; not zero.
    pub curvature: f64,
    /// ω of a(x) = sin(ωx); `None` for a(x) = x.
    pub frequency: Option<f64>,
}

impl Default for Circle {
    /// T2: κ = 2, a(x) = x.
    fn default() -> Self {
        Self { curvature: 2.0, frequency: None }
    }
}

const SHELL: Shell = Shell { radius_sq: 1.0, half_slope: Vec::new() };

impl Circle {
    /// T2p: κ = −2, a(x) = x.
    pub fn concave() -> Self {
        Self { curvature: -2.0, frequency: None }
    }
    /// T2 with a(x) = sin(ωx), a kink of F at every multiple of π/ω.
    pub fn many_kinks(frequency: f64) -> Self {
        Self { curvature: 2.0, frequency: Some(frequency) }
    }
    /// a(x), a'(x), a''(x).
    fn tilt(&self, x: f64) -> (f64, f64, f64) {
        match self.frequency {
            None => (x, 1.0, 0.0),
            Some(w) => ((w * x).sin(), w * (w * x).cos(), -w * w * (w * x).sin()),
        }
    }
    /// The critical point (side, 0), side = ±1, as an answer.
    fn at_pole(&self, x: f64, side: f64) -> KnownAnswer {
        let (a, slope, bend) = self.tilt(x);
        KnownAnswer {
            value: a * side,
            gradient: Some(vec![slope * side]),
            selection: Some(vec![side, 0.0]),
            // H = 2 y yᵀ on S, so v = y (y·∇_y f)/2
            v: Some(vec![0.5 * a, 0.0]),
            curvatures: Some(vec![self.curvature - a * side]),
            lower_spectrum: Some(vec![2.0]),
            hyper_hessian: Some(vec![vec![bend * side]]),
        }
    }
    /// The two critical points with y₁ = a/κ, which share value and gradient; they exist while |a| < |κ|.
    fn between_poles(&self, x: f64) -> KnownAnswer {
        let (a, slope, bend) = self.tilt(x);
        let k = self.curvature;
        KnownAnswer {
            value: 0.5 * k + 0.5 * a * a / k,
            gradient: Some(vec![a * slope / k]),
            selection: None,
            v: None,
            curvatures: Some(vec![a * a / k - k]),
            lower_spectrum: Some(vec![2.0]),
            hyper_hessian: Some(vec![vec![(slope * slope + a * bend) / k]]),
        }
    }
    /// The best pole for the minimum (`sense` = 1) or the maximum (−1) of f; a kink at a = 0.
    fn best_pole(&self, x: f64, sense: f64) -> KnownAnswer {
        let (a, ..) = self.tilt(x);
        if a == 0.0 {
            return KnownAnswer {
                gradient: None,
                selection: None,
                v: None,
                hyper_hessian: None,
                ..self.at_pole(x, 1.0)
            };
        }
        self.at_pole(x, -sense * a.signum())
    }
    /// The minimum (`sense` = 1) or maximum (−1) of f over the circle.
    fn extreme(&self, x: f64, sense: f64) -> KnownAnswer {
        let (a, ..) = self.tilt(x);
        if self.curvature * sense < 0.0 && a.abs() < self.curvature.abs() {
            self.between_poles(x)
        } else {
            self.best_pole(x, sense)
        }
    }
}

impl Formulas for Circle {
    fn dims(&self) -> (usize, usize) {
        (1, 2)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(1)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        self.tilt(x[0]).0 * y[0] + 0.5 * self.curvature * y[1] * y[1]
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![self.tilt(x[0]).1 * y[0]]
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![self.tilt(x[0]).0, self.curvature * y[1]]
    }
    fn g(&self, _x: &[f64], y: &[f64]) -> f64 {
        SHELL.value(y)
    }
    fn g_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn g_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        SHELL.grad_y(y)
    }
    fn g_hvp_yy(&self, _x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        SHELL.hvp_yy(y, u)
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], _u: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.7]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 2)
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        Some(self.extreme(x[0], 1.0))
    }
    fn known_pessimistic(&self, x: &[f64]) -> Option<KnownAnswer> {
        Some(self.extreme(x[0], -1.0))
    }
    fn branches(&self, x: &[f64]) -> Vec<Branch> {
        let (a, slope, _) = self.tilt(x[0]);
        let k = self.curvature;
        let mut branches: Vec<Branch> = [-1.0, 1.0]
            .into_iter()
            .filter(|side| k - a * side > 0.0)
            .map(|side| Branch {
                point: vec![side, 0.0],
                value: a * side,
                gradient: vec![slope * side],
                curvatures: vec![k - a * side],
            })
            .collect();
        let curvature = a * a / k - k;
        if a.abs() < k.abs() && curvature > 0.0 {
            let answer = self.between_poles(x[0]);
            branches.extend([-1.0, 1.0].map(|side: f64| Branch {
                point: vec![a / k, side * (1.0 - a * a / (k * k)).sqrt()],
                value: answer.value,
                gradient: vec![a * slope / k],
                curvatures: vec![curvature],
            }));
        }
        branches.sort_by(|p, q| p.value.total_cmp(&q.value));
        branches
    }
}
