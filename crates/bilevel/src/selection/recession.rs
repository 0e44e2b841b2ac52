//! A direction along which g(x, ·) falls without bound.

use super::{
    geometry::{Geometry, Rank},
    land::Landing,
    level::{At, Level, trial_value},
};
use crate::{
    certificate::Finding,
    error::OracleResult,
    problem::{Problem, SecondOrder},
    vector::Vector,
};

/// Row 2: the part s = −Π_k∇_y g of the gradient in the kernel of H is a certificate of unboundedness when it is most of the
/// gradient, H s = 0 to the rank tolerance, and g falls at least at half of that slope over four decades of lengths.
///
/// Asked where a landing did not end on S(x). One `hvp_yy`, and five values when s is flat.
pub fn recession<P: Problem>(
    at: &At<P>,
    landing: &Landing<P::Y>,
    geometry: &Geometry<P::Y>,
    rank: &Rank,
) -> OracleResult<Option<Finding>>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let y = &landing.y;
    let steepest = geometry.project(at, y, &landing.gradient)?.scaled(-1.0);
    let slope = steepest.norm();
    let is_flat = at.hessian_product(y, &steepest)?.norm() <= 1e2 * rank.tol * geometry.norm * slope;
    if slope < 0.5 * landing.gradient.norm() || !is_flat {
        return Ok(None);
    }
    let here = at.value(y)?;
    for j in 0..=4 {
        let radius = (1.0 + y.norm()) * 10f64.powi(j);
        let there = trial_value(at.value(&y.plus(radius / slope, &steepest)))?;
        // a value that overflows downwards is not finite either; only a real decrease counts
        if there > here - 0.5 * radius * slope {
            return Ok(None);
        }
    }
    let direction = steepest.scaled(slope.recip()).coordinates();
    Ok(Some(Finding::LowerLevelUnbounded { direction, slope }))
}
