//! The coreset toy of BOME: y follows a softmax-weighted mean of four points (m 4, d 2, k 0).
//!
//! ```text
//! f = 0.1 |y − (3, −2)|²,   g = |y − C s(x)|²,   s = softmax,   C = ((1, 3), (3, 1), (−2, 2), (−3, −2))
//! S(x) = {C s(x)},   F(x) = 0.1 |C s(x) − (3, −2)|²
//! ```
//!
//! Domain: all x. inf F = 0.72 with the weights (0, 0.8, 0, 0.2), y = (1.8, 0.4): not attained, x runs off.
//!
//! Source: released code of BOME (arXiv 2209.08709).

use super::{
    algebra::{dot, norm_sq, plus, scaled},
    closed_form::ClosedForm,
    formulas::{Formulas, KnownAnswer},
};

/// The coreset toy of BOME; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct BomeCoreset;

/// The four points.
const POINTS: [[f64; 2]; 4] = [[1.0, 3.0], [3.0, 1.0], [-2.0, 2.0], [-3.0, -2.0]];
/// Where f wants y.
const GOAL: [f64; 2] = [3.0, -2.0];
/// The starts of y of the released script, taken in turn by the seed.
const STARTS: [[f64; 2]; 3] = [[0.0, 3.0], [-3.0, 1.0], [3.5, -1.0]];

/// softmax(x).
fn softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
    scaled(weights.iter().sum::<f64>().recip(), &weights)
}

impl BomeCoreset {
    /// C s(x), the point of S(x).
    pub fn mean(x: &[f64]) -> Vec<f64> {
        softmax(x).iter().zip(&POINTS).fold(vec![0.0; 2], |mean, (weight, point)| plus(&mean, *weight, point))
    }
    /// ∇_x ⟨u, C s(x)⟩: s_j (⟨u, c_j⟩ − ⟨u, C s⟩).
    fn pull(x: &[f64], u: &[f64]) -> Vec<f64> {
        let level = dot(u, &Self::mean(x));
        softmax(x).iter().zip(&POINTS).map(|(s, point)| s * (dot(u, point) - level)).collect()
    }
    /// y − C s(x).
    fn residual(x: &[f64], y: &[f64]) -> Vec<f64> {
        plus(y, -1.0, &Self::mean(x))
    }
}

impl Formulas for BomeCoreset {
    fn dims(&self) -> (usize, usize) {
        (4, 2)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.1 * norm_sq(&plus(y, -1.0, &GOAL))
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0; 4]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        scaled(0.2, &plus(y, -1.0, &GOAL))
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        norm_sq(&Self::residual(x, y))
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        Self::pull(x, &scaled(-2.0, &Self::residual(x, y)))
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        scaled(2.0, &Self::residual(x, y))
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        scaled(2.0, u)
    }
    fn g_jvp_xy(&self, x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        Self::pull(x, &scaled(-2.0, u))
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.0; 4]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        STARTS[(seed % 3) as usize].to_vec()
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let y = Self::mean(x);
        let slope = self.f_grad_y(x, &y);
        // ∇²F = 0.2 JᵀJ + Σ_k slope_k ∇²(C s)_k; with w = Cᵀ slope and h = ⟨w, s⟩ the second term has the entries
        // s_i δ_ij (w_i − h) − s_i s_j (w_i + w_j − 2h)
        let s = softmax(x);
        let jacobian = [[1.0, 0.0], [0.0, 1.0]].map(|axis| Self::pull(x, &axis));
        let w: Vec<f64> = POINTS.iter().map(|point| dot(&slope, point)).collect();
        let h = dot(&w, &s);
        let entry = |i: usize, j: usize| {
            let bend = -s[i] * s[j] * (w[i] + w[j] - 2.0 * h);
            let diagonal = if i == j { s[i] * (w[i] - h) } else { 0.0 };
            0.2 * jacobian.iter().map(|row| row[i] * row[j]).sum::<f64>() + bend + diagonal
        };
        Some(KnownAnswer {
            value: self.f(x, &y),
            gradient: Some(Self::pull(x, &slope)),
            v: Some(scaled(0.5, &slope)),
            selection: Some(y),
            curvatures: Some(vec![]),
            lower_spectrum: Some(vec![2.0; 2]),
            hyper_hessian: Some((0..4).map(|i| (0..4).map(|j| entry(i, j)).collect()).collect()),
        })
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }
}

/// Gradients; there is no minimiser, the infimum 0.72 being at infinity.
impl ClosedForm for BomeCoreset {
    fn selected_gradient(&self, x: &[f64], _y: &[f64]) -> Option<Vec<f64>> {
        self.optimistic_gradient(x)
    }
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>> {
        self.known(x)?.gradient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_infimum_is_approached_along_its_weights() {
        // logits of (ε, 0.8, ε, 0.2)
        let x = [-40.0, 0.8f64.ln(), -40.0, 0.2f64.ln()];
        let known = BomeCoreset.known(&x).unwrap();
        assert!((known.value - 0.72).abs() < 1e-14, "{}", known.value);
        let y = known.selection.unwrap();
        assert!((y[0] - 1.8).abs() < 1e-14 && (y[1] - 0.4).abs() < 1e-14, "{y:?}");
        assert!(norm_sq(&known.gradient.unwrap()) < 1e-28);
    }
}
