//! The minimax toy of BOME: a bilinear game on a box, f = −g (m 1, d 1).
//!
//! ```text
//! f = x y,   g = −x y,   x, y ∈ [−10, 10]
//! S(x) = {10 sgn x} for x ≠ 0, the whole interval at 0;   F(x) = 10 |x|
//! ```
//!
//! Domain: [−10, 10]. The minimiser is x = 0, a kink of F, where y is not determined. Without the box S(x) is empty for x ≠ 0. The
//! point of S(x) lies on the boundary: it is no stationary point of g, so the formulas for an unconstrained lower level do not
//! apply, and the answer lists no selection.
//!
//! Source: released code of BOME (arXiv 2209.08709).

use super::formulas::{Formulas, KnownAnswer};
use crate::prox::project_box;

/// The minimax toy of BOME; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct BomeMinimax;

impl Formulas for BomeMinimax {
    fn dims(&self) -> (usize, usize) {
        (1, 1)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        None
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        x[0] * y[0]
    }
    fn f_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        y.to_vec()
    }
    fn f_grad_y(&self, x: &[f64], _y: &[f64]) -> Vec<f64> {
        x.to_vec()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        -x[0] * y[0]
    }
    fn g_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-y[0]]
    }
    fn g_grad_y(&self, x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![-x[0]]
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], _u: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![-u[0]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![4.0]
    }
    /// 4, as in the released script, whatever the seed.
    fn start_y(&self, _x: &[f64], _seed: u64) -> Vec<f64> {
        vec![4.0]
    }
    fn prox_x(&self) -> Option<fn(&mut [f64], f64)> {
        Some(|x, _| project_box(x, -10.0, 10.0))
    }
    fn prox_y(&self) -> Option<fn(&mut [f64], f64)> {
        Some(|y, _| project_box(y, -10.0, 10.0))
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let x = x[0];
        let gradient = if x == 0.0 { None } else { Some(vec![10.0 * x.signum()]) };
        (x.abs() <= 10.0).then(|| KnownAnswer { value: 10.0 * x.abs(), gradient, ..KnownAnswer::default() })
    }
}
