//! A problem whose whole gradient towards the minimum is implicit (m 1, d 1, k 0).
//!
//! ```text
//! f = 10 y + x²,   g = (y − x + 1)²,   S(x) = {x − 1},   F(x) = x² + 10 x − 10
//! ```
//!
//! Domain: all x. The minimiser is x = −5, y = −6, F = −35; a method that follows ∇_x f alone stops at x = 0.
//!
//! Source: released code of PBGD-Free (arXiv 2507.20400).

use super::{
    algebra::normals,
    closed_form::{ClosedForm, Minimiser},
    formulas::{Formulas, KnownAnswer},
};

/// The problem with the dropped value function; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct DroppedValueFunction;

impl DroppedValueFunction {
    /// The minimiser x = −5 with this y.
    fn at(self, y: f64) -> Minimiser {
        Minimiser { x: vec![-5.0], y: vec![y], value: self.f(&[-5.0], &[y]) }
    }
}

impl Formulas for DroppedValueFunction {
    fn dims(&self) -> (usize, usize) {
        (1, 1)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        10.0 * y[0] + x[0] * x[0]
    }
    fn f_grad_x(&self, x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![2.0 * x[0]]
    }
    fn f_grad_y(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![10.0]
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        (y[0] - x[0] + 1.0).powi(2)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-2.0 * (y[0] - x[0] + 1.0)]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![2.0 * (y[0] - x[0] + 1.0)]
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![2.0 * u[0]]
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![-2.0 * u[0]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![1.0]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 1)
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let x = x[0];
        Some(KnownAnswer {
            value: x * x + 10.0 * (x - 1.0),
            gradient: Some(vec![2.0 * x + 10.0]),
            selection: Some(vec![x - 1.0]),
            v: Some(vec![5.0]),
            curvatures: Some(vec![]),
            lower_spectrum: Some(vec![2.0]),
            hyper_hessian: Some(vec![vec![2.0]]),
        })
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }
}

/// x = −5 for every form of penalty, since the gap does not depend on x along the lower solutions; y is off by the penalty.
impl ClosedForm for DroppedValueFunction {
    fn selected_gradient(&self, x: &[f64], _y: &[f64]) -> Option<Vec<f64>> {
        self.optimistic_gradient(x)
    }
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>> {
        Some(vec![2.0 * x[0] + 10.0])
    }
    fn selected_minimiser(&self, _y: &[f64]) -> Option<Minimiser> {
        self.optimistic_minimiser()
    }
    fn optimistic_minimiser(&self) -> Option<Minimiser> {
        Some(self.at(-6.0))
    }
    fn penalty_minimiser(&self, lambda: f64) -> Option<Minimiser> {
        Some(self.at(-6.0 - 5.0 / lambda))
    }
    fn gradient_penalty_minimiser(&self, lambda: f64) -> Option<Minimiser> {
        Some(self.at(-6.0 - 2.5 / lambda))
    }
    fn one_sided_minimiser(&self, order: usize, _sigma: f64) -> Option<Minimiser> {
        (1..=3).contains(&order).then(|| self.at(-6.0))
    }
}
