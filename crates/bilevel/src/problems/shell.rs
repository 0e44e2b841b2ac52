//! The lower objective whose solution set is a sphere: g = ¼φ², φ = |y|² − r(x)².

use super::algebra::{dot, norm_sq, scaled};

/// A sphere of radius r(x) at one x.
pub(super) struct Shell {
    /// r².
    pub radius_sq: f64,
    /// r∇r = ½∇(r²).
    pub half_slope: Vec<f64>,
}

impl Shell {
    fn excess(&self, y: &[f64]) -> f64 {
        norm_sq(y) - self.radius_sq
    }
    pub(super) fn value(&self, y: &[f64]) -> f64 {
        0.25 * self.excess(y).powi(2)
    }
    /// −φ r∇r.
    pub(super) fn grad_x(&self, y: &[f64]) -> Vec<f64> {
        scaled(-self.excess(y), &self.half_slope)
    }
    /// φ y.
    pub(super) fn grad_y(&self, y: &[f64]) -> Vec<f64> {
        scaled(self.excess(y), y)
    }
    /// φ u + 2 y (y·u).
    pub(super) fn hvp_yy(&self, y: &[f64], u: &[f64]) -> Vec<f64> {
        let (excess, along) = (self.excess(y), dot(y, u));
        y.iter().zip(u).map(|(y, u)| excess * u + 2.0 * along * y).collect()
    }
    /// −2 r∇r (y·u).
    pub(super) fn jvp_xy(&self, y: &[f64], u: &[f64]) -> Vec<f64> {
        scaled(-2.0 * dot(y, u), &self.half_slope)
    }
}
