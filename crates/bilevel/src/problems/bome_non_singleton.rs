//! The non-singleton toy of BOME: the shortest problem that tells the optimistic from the selected target (m 1, d 2, k 1).
//!
//! ```text
//! f = ½(x − y₂)² + ½(y₁ − 1)²,   g = ½ y₁² − x y₁,   y ∈ [−100, 100]²
//! S(x) = {y₁ = x},   optimistic: y₂ = x, F = ½(x − 1)²;   selected with y₂ = n: F_n = ½(x − n)² + ½(x − 1)²
//! ```
//!
//! Domain: |x| < 100. Optimistic: x = y₁ = y₂ = 1, f = 0, and every value-gap penalty is exact here. Selected from y₂ = 0: x = 0.5,
//! y = (0.5, 0), f = 0.25.
//!
//! Source: released code of BOME (arXiv 2209.08709).

use super::{
    closed_form::{ClosedForm, Minimiser},
    formulas::{Formulas, KnownAnswer},
};
use crate::prox::project_box;

/// The non-singleton toy of BOME; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct BomeNonSingleton;

impl Formulas for BomeNonSingleton {
    fn dims(&self) -> (usize, usize) {
        (1, 2)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(1)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * (x[0] - y[1]).powi(2) + 0.5 * (y[0] - 1.0).powi(2)
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![x[0] - y[1]]
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![y[0] - 1.0, y[1] - x[0]]
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * y[0] * y[0] - x[0] * y[0]
    }
    fn g_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-y[0]]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![y[0] - x[0], 0.0]
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![u[0], 0.0]
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![-u[0]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.0]
    }
    /// 0, as in the released script, whatever the seed.
    fn start_y(&self, _x: &[f64], _seed: u64) -> Vec<f64> {
        vec![0.0; 2]
    }
    fn prox_y(&self) -> Option<fn(&mut [f64], f64)> {
        Some(|y, _| project_box(y, -100.0, 100.0))
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let x = x[0];
        (x.abs() < 100.0).then(|| KnownAnswer {
            value: 0.5 * (x - 1.0).powi(2),
            gradient: Some(vec![x - 1.0]),
            selection: Some(vec![x, x]),
            v: Some(vec![x - 1.0, 0.0]),
            curvatures: Some(vec![1.0]),
            lower_spectrum: Some(vec![1.0]),
            hyper_hessian: Some(vec![vec![1.0]]),
        })
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }
}

impl ClosedForm for BomeNonSingleton {
    fn selected_gradient(&self, x: &[f64], y: &[f64]) -> Option<Vec<f64>> {
        Some(vec![(x[0] - y[1]) + (x[0] - 1.0)])
    }
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>> {
        Some(vec![x[0] - 1.0])
    }
    fn selected_minimiser(&self, y: &[f64]) -> Option<Minimiser> {
        let x = 0.5 * (y[1] + 1.0);
        Some(Minimiser { x: vec![x], y: vec![x, y[1]], value: self.f(&[x], &[x, y[1]]) })
    }
    fn optimistic_minimiser(&self) -> Option<Minimiser> {
        Some(Minimiser { x: vec![1.0], y: vec![1.0, 1.0], value: 0.0 })
    }
    /// The optimistic one: f and g have a common minimiser in y₁ there.
    fn penalty_minimiser(&self, _lambda: f64) -> Option<Minimiser> {
        self.optimistic_minimiser()
    }
    fn gradient_penalty_minimiser(&self, _lambda: f64) -> Option<Minimiser> {
        self.optimistic_minimiser()
    }
    fn one_sided_minimiser(&self, order: usize, _sigma: f64) -> Option<Minimiser> {
        (1..=3).contains(&order).then(|| Minimiser { x: vec![1.0], y: vec![1.0, 0.0], value: 0.5 })
    }
}
