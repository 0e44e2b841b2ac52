//! Several selections at one x: which of them are the same, and which are tied.

use super::refine::SelectedPoint;
use crate::{hypergradient::Hypergradient, vector::Vector};

/// One local minimiser of f on S(x).
#[derive(Clone, Debug)]
pub struct Branch<X, Y> {
    /// The point.
    pub point: SelectedPoint<Y>,
    /// The hypergradient there, where it was needed.
    pub hypergradient: Option<Hypergradient<X>>,
    /// How often exploration arrived here.
    pub visits: u64,
}

/// |y_i − y_j| ≤ r_merge (1 + |y_i|): the same point.
pub fn is_same_point<Y: Vector>(a: &Y, b: &Y, r_merge: f64) -> bool {
    a.distance(b) <= r_merge * (1.0 + a.norm())
}

/// Equal values to `tie_tol` (1 + |F|).
pub fn is_same_value(a: f64, b: f64, tie_tol: f64) -> bool {
    (a - b).abs() <= tie_tol * (1.0 + a.abs())
}

/// Equal hypergradients, to the accuracy that a tie is told with.
pub fn is_same_gradient<X: Vector>(a: &X, b: &X, tie_tol: f64) -> bool {
    // values that agree to tie_tol leave gradients that agree to its square root only near a degenerate selection;
    // a hundred times tie_tol separates real kinks from rounding of differences
    a.distance(b) <= 1e2 * tie_tol * (1.0 + a.norm())
}

/// Good–Turing: the share of basins not seen yet is about the share of draws that found something new once.
/// `visits` counts how often each basin was drawn.
pub fn missing_mass(visits: impl IntoIterator<Item = u64>) -> f64 {
    let (mut singles, mut draws) = (0u64, 0u64);
    for n in visits {
        draws += n;
        singles += u64::from(n == 1);
    }
    if draws == 0 { 1.0 } else { singles as f64 / draws as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_mass_is_the_share_of_singletons() {
        assert_eq!(missing_mass([3, 1, 4, 0, 2]), 0.1);
        assert_eq!(missing_mass([]), 1.0);
        assert_eq!(missing_mass([5, 5]), 0.0);
    }
}
