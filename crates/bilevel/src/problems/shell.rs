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

/// How a radius depends on one coordinate of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RadiusLaw {
    /// r = 1 + 0.1x².
    Quadratic,
    /// r² = 1 + 0.2x²; then x r(x) is nearly linear, and an anchored branch function strongly convex.
    SquareQuadratic,
}

/// r, r', r''.
pub(super) struct Radius {
    pub value: f64,
    pub slope: f64,
    pub bend: f64,
}

impl RadiusLaw {
    pub(super) fn at(self, x: f64) -> Radius {
        match self {
            Self::Quadratic => Radius { value: 1.0 + 0.1 * x * x, slope: 0.2 * x, bend: 0.2 },
            Self::SquareQuadratic => {
                let value = self.squared(x).sqrt();
                // r r' = 0.2x, r'² + r r'' = 0.2
                let slope = 0.2 * x / value;
                Radius { value, slope, bend: (0.2 - slope * slope) / value }
            }
        }
    }
    /// r².
    pub(super) fn squared(self, x: f64) -> f64 {
        match self {
            Self::Quadratic => (1.0 + 0.1 * x * x).powi(2),
            Self::SquareQuadratic => 1.0 + 0.2 * x * x,
        }
    }
    /// r r' = ½(r²)'.
    pub(super) fn half_slope(self, x: f64) -> f64 {
        match self {
            Self::Quadratic => 0.2 * x * (1.0 + 0.1 * x * x),
            Self::SquareQuadratic => 0.2 * x,
        }
    }
    /// (r r')' = ½(r²)''.
    pub(super) fn half_bend(self, x: f64) -> f64 {
        match self {
            Self::Quadratic => 0.2 + 0.06 * x * x,
            Self::SquareQuadratic => 0.2,
        }
    }
}
