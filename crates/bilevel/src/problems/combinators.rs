//! Problems made of problems.

use std::sync::Arc;

use super::formulas::{Branch, Formulas, KnownAnswer};

/// f(x, y) + (ρ/2)|x − x₀|² in place of f: the added term keeps minimisers of F bounded and leaves S, y* and v alone.
#[derive(Clone, Debug)]
pub struct Anchored {
    inner: Arc<dyn Formulas>,
    rho: f64,
    centre: Vec<f64>,
}

impl Anchored {
    /// Adds (ρ/2)|x − centre|² to f.
    pub fn new(inner: Arc<dyn Formulas>, rho: f64, centre: Vec<f64>) -> Self {
        assert_eq!(centre.len(), inner.dims().0, "anchor of another dimension than x");
        Self { inner, rho, centre }
    }
    /// q(x).
    fn term(&self, x: &[f64]) -> f64 {
        0.5 * self.rho * x.iter().zip(&self.centre).map(|(x, c)| (x - c).powi(2)).sum::<f64>()
    }
    /// `gradient ← gradient + ∇q`.
    fn add_slope(&self, x: &[f64], gradient: &mut [f64]) {
        for (i, g) in gradient.iter_mut().enumerate() {
            *g += self.rho * (x[i] - self.centre[i]);
        }
    }
    fn shift(&self, x: &[f64], mut answer: KnownAnswer) -> KnownAnswer {
        answer.value += self.term(x);
        if let Some(gradient) = &mut answer.gradient {
            self.add_slope(x, gradient);
        }
        if let Some(rows) = &mut answer.hyper_hessian {
            rows.iter_mut().enumerate().for_each(|(i, row)| row[i] += self.rho);
        }
        answer
    }
}

impl Formulas for Anchored {
    fn dims(&self) -> (usize, usize) {
        self.inner.dims()
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        self.inner.intrinsic_dim()
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        self.inner.f(x, y) + self.term(x)
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let mut gradient = self.inner.f_grad_x(x, y);
        self.add_slope(x, &mut gradient);
        gradient
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.inner.f_grad_y(x, y)
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        self.inner.g(x, y)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.inner.g_grad_x(x, y)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.inner.g_grad_y(x, y)
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        self.inner.g_hvp_yy(x, y, u)
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        self.inner.g_jvp_xy(x, y, u)
    }
    fn default_x(&self) -> Vec<f64> {
        self.inner.default_x()
    }
    fn start_y(&self, x: &[f64], seed: u64) -> Vec<f64> {
        self.inner.start_y(x, seed)
    }
    fn prox_x(&self) -> Option<fn(&mut [f64], f64)> {
        self.inner.prox_x()
    }
    fn prox_y(&self) -> Option<fn(&mut [f64], f64)> {
        self.inner.prox_y()
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        Some(self.shift(x, self.inner.known(x)?))
    }
    fn known_pessimistic(&self, x: &[f64]) -> Option<KnownAnswer> {
        Some(self.shift(x, self.inner.known_pessimistic(x)?))
    }
    fn branches(&self, x: &[f64]) -> Vec<Branch> {
        let mut branches = self.inner.branches(x);
        for branch in &mut branches {
            branch.value += self.term(x);
            self.add_slope(x, &mut branch.gradient);
        }
        branches
    }
}
