//! The toy problem of V-PBGD: one variable on each level, three minimisers of F (m 1, d 1, k 0).
//!
//! ```text
//! f = cos(4y + 2)/(1 + e^(2 − 4x)) + ½ log((4x − 2)² + 1)
//! g = (x + y)² + x sin²(x + y),   x ∈ [0, 3]
//! S(x) = {−x},   min g = 0,   F(x) = f(x, −x) = cos(u) σ(u) + ½ log(u² + 1),   u = 4x − 2,  σ(u) = 1/(1 + e^(−u))
//! ```
//!
//! Domain of the answer: x ≥ −1, where r² + x sin² r ≥ 0. F has its minimisers on [0, 3] at 0.38236007, **1.21514548** (global)
//! and 2.82964180.
//!
//! Source: released code of V-PBGD (arXiv 2302.05185), whose ∂f/∂x is wrong: see [`ToyGradient`].

use super::{
    algebra::stream,
    closed_form::{ClosedForm, Minimiser},
    formulas::{Formulas, KnownAnswer},
};
use crate::prox::project_box;

/// Which derivative of f in x the problem answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToyGradient {
    /// The derivative.
    #[default]
    True,
    /// That of the released script, whose first term has the denominator 1 + (e^(2 − 4x))² where (1 + e^(2 − 4x))² is right:
    /// −0.909 for −1.355 at (0.3, −0.3). For redoing its figures alone.
    AsReleased,
}

/// The toy problem of V-PBGD; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct PbgdToy {
    /// The derivative of f in x.
    pub gradient: ToyGradient,
}

/// σ(u) and its first two derivatives.
fn sigmoid(u: f64) -> [f64; 3] {
    let s = 1.0 / (1.0 + (-u).exp());
    let slope = s * (1.0 - s);
    [s, slope, slope * (1.0 - 2.0 * s)]
}

impl PbgdToy {
    /// F, F' and F'' at x.
    fn hyper_objective(x: f64) -> [f64; 3] {
        let u = 4.0 * x - 2.0;
        let [s, s1, s2] = sigmoid(u);
        let (sin, cos) = u.sin_cos();
        let q = u * u + 1.0;
        [
            cos * s + 0.5 * q.ln(),
            4.0 * (cos * s1 - sin * s + u / q),
            16.0 * (cos * s2 - 2.0 * sin * s1 - cos * s + (1.0 - u * u) / (q * q)),
        ]
    }
}

impl Formulas for PbgdToy {
    fn dims(&self) -> (usize, usize) {
        (1, 1)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        let u = 4.0 * x[0] - 2.0;
        (4.0 * y[0] + 2.0).cos() * sigmoid(u)[0] + 0.5 * (u * u + 1.0).ln()
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let u = 4.0 * x[0] - 2.0;
        let cos = (4.0 * y[0] + 2.0).cos();
        let slope = match self.gradient {
            ToyGradient::True => sigmoid(u)[1],
            ToyGradient::AsReleased => (-u).exp() / (1.0 + (-2.0 * u).exp()),
        };
        vec![4.0 * (cos * slope + u / (u * u + 1.0))]
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-4.0 * (4.0 * y[0] + 2.0).sin() * sigmoid(4.0 * x[0] - 2.0)[0]]
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        let r = x[0] + y[0];
        r * r + x[0] * r.sin().powi(2)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let r = x[0] + y[0];
        vec![2.0 * r + r.sin().powi(2) + x[0] * (2.0 * r).sin()]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let r = x[0] + y[0];
        vec![2.0 * r + x[0] * (2.0 * r).sin()]
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![(2.0 + 2.0 * x[0] * (2.0 * (x[0] + y[0])).cos()) * u[0]]
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let r = x[0] + y[0];
        vec![(2.0 + (2.0 * r).sin() + 2.0 * x[0] * (2.0 * r).cos()) * u[0]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.3]
    }
    /// Uniform on [−5, 8.5], as in the released script.
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        vec![13.5 * stream(seed, 0).uniform() - 5.0]
    }
    fn prox_x(&self) -> Option<fn(&mut [f64], f64)> {
        Some(|x, _| project_box(x, 0.0, 3.0))
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        if x[0] < -1.0 {
            return None;
        }
        let [value, slope, bend] = Self::hyper_objective(x[0]);
        let curvature = 2.0 + 2.0 * x[0];
        Some(KnownAnswer {
            value,
            gradient: Some(vec![slope]),
            selection: Some(vec![-x[0]]),
            v: Some(vec![-4.0 * (2.0 - 4.0 * x[0]).sin() * sigmoid(4.0 * x[0] - 2.0)[0] / curvature]),
            curvatures: Some(vec![]),
            lower_spectrum: Some(vec![curvature]),
            hyper_hessian: Some(vec![vec![bend]]),
        })
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }
}

impl ClosedForm for PbgdToy {
    fn selected_gradient(&self, x: &[f64], _y: &[f64]) -> Option<Vec<f64>> {
        self.optimistic_gradient(x)
    }
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>> {
        self.known(x)?.gradient
    }
    fn selected_minimiser(&self, _y: &[f64]) -> Option<Minimiser> {
        self.optimistic_minimiser()
    }
    /// The global one, by Newton's method from its printed place.
    fn optimistic_minimiser(&self) -> Option<Minimiser> {
        let mut x = 1.21514548;
        for _ in 0..4 {
            let [_, slope, bend] = Self::hyper_objective(x);
            x -= slope / bend;
        }
        Some(Minimiser { x: vec![x], y: vec![-x], value: Self::hyper_objective(x)[0] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimisers_and_maximisers_are_the_printed_ones() {
        for (x, value) in [(0.38236007, 0.4427057224), (1.21514548, 0.1999108877), (2.82964180, 1.2434582728)]
        {
            let [found, slope, bend] = PbgdToy::hyper_objective(x);
            // half a unit of the eighth decimal of x
            assert!(slope.abs() <= 0.51e-8 * bend, "{x}: {slope:e}");
            assert!((found - value).abs() <= 0.51e-10, "{x}: {found}");
        }
        for (x, value) in [(0.747118, 0.741618), (2.109325, 2.860600)] {
            let [found, slope, bend] = PbgdToy::hyper_objective(x);
            assert!(slope.abs() <= 0.51e-6 * -bend && (found - value).abs() <= 0.51e-6, "{x}: {slope:e}");
        }
        let ends = [0.0, 3.0].map(|x| PbgdToy::hyper_objective(x)[0]);
        assert!((ends[0] - 0.755113).abs() <= 0.51e-6 && (ends[1] - 1.468527).abs() <= 0.51e-6, "{ends:?}");
        let global = PbgdToy::default().optimistic_minimiser().unwrap();
        assert!((global.x[0] - 1.21514548).abs() <= 0.51e-8);
        assert!(PbgdToy::hyper_objective(global.x[0])[1].abs() <= 1e-14);
    }

    #[test]
    fn the_released_gradient_is_wrong_as_printed() {
        let at = |gradient| PbgdToy { gradient }.f_grad_x(&[0.3], &[-0.3])[0];
        assert!((at(ToyGradient::True) + 1.355090).abs() <= 0.51e-6);
        assert!((at(ToyGradient::AsReleased) + 0.909).abs() <= 0.51e-3);
    }

    /// inf over y of |∇_y g|²/(2(g − min g)) on a wide grid.
    #[test]
    fn the_lower_level_is_pl_with_the_printed_constants() {
        let toy = PbgdToy::default();
        for (x, printed) in [(0.0, 2.00), (1.0, 1.07), (2.0, 0.505), (3.0, 0.176)] {
            let constant = (1..200_000)
                .map(|i| f64::from(i) * 1e-4)
                .map(|r| {
                    let y = [r - x];
                    toy.g_grad_y(&[x], &y)[0].powi(2) / (2.0 * toy.g(&[x], &y))
                })
                .fold(f64::INFINITY, f64::min);
            let unit = if printed < 0.6 { 1e-3 } else { 1e-2 };
            assert!((constant - printed).abs() <= 0.51 * unit, "x {x}: {constant}, printed {printed}");
        }
    }
}
