//! CERTIFY: the thirteen rows of the certificate at a selected point.

use super::{Evaluation, HgMs, Target};
use crate::{
    certificate::{Certificate, Finding},
    error::OracleResult,
    hypergradient::along,
    problem::{Problem, SecondOrder, SecondOrderCost},
    rng::Stream,
    selection::{
        branches::{Branch, is_same_gradient, is_same_value},
        geometry::{Geometry, Kernel},
        level::{At, Level, difference_step},
        refine::{RefineEnd, SelectedPoint},
    },
    vector::Vector,
};

impl HgMs {
    /// Rows 1 to 13 for the best selection.
    pub(super) fn certify<P: Problem>(
        &self,
        at: &At<P>,
        evaluation: &mut Evaluation<P::X, P::Y>,
        jacobian_start: Option<f64>,
    ) -> OracleResult<()>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let Evaluation { branches, active, certificate, sign } = evaluation;
        let Some(best) = branches.first() else { return Ok(()) };
        let point = &best.point;
        let (y, geometry) = (&point.y, &point.geometry);
        let exact = oracles_are_exact(at);
        let finite = |value: f64| value.is_finite().then_some(value);

        // rows 1 and 3
        let distance = point.distance();
        certificate.distance = Some(distance);
        if distance > self.land_dist * (1.0 + y.norm()) {
            certificate.add(Finding::NotLanded { distance });
        }
        certificate.hessian_norm = Some(geometry.norm);
        certificate.range_min = finite(geometry.range_min);
        certificate.smallest_eigenvalue = Some(geometry.smallest);
        // off S by δ̂ the kernel eigenvalues are up to L̂ δ̂; L̂ taken as ‖H‖/(1 + |y|)
        let allowance = self.rank.tol * geometry.norm + geometry.norm * distance / (1.0 + y.norm());
        if geometry.smallest < -allowance {
            certificate.add(Finding::LowerSaddle { eigenvalue: geometry.smallest });
        }
        // row 4
        certificate.value_spread = Some(value_spread(at, branches)?);
        // row 5
        if exact {
            certificate.kernel_dim = Some(geometry.kernel_dim());
            certificate.kernel_dim_spread = geometry.kernel_dim_spread();
            if let Some(cut) = &geometry.cut {
                certificate.rank_gap = finite(cut.gap);
            }
            self.certify_rank(at, branches, certificate)?;
        }
        // row 7
        let residual = point.tangent_residual();
        certificate.tangent_residual = Some(residual);
        if point.end == RefineEnd::Stuck && !certificate.has("SelectionUnbounded") {
            certificate.add(Finding::NotSelected { residual });
        }
        // row 12
        certificate.solve_residual = Some(point.solve_residual);
        let is_solved = best.hypergradient.as_ref().is_none_or(|h| h.is_solved);
        if !point.is_solved || !is_solved {
            certificate.add(Finding::SolveFailed {
                residual: point.solve_residual,
                iterations: point.solve_iterations,
            });
        }
        // rows 6 and 13
        let gradient_norm = best.hypergradient.as_ref().map_or(0.0, |h| h.gradient.norm());
        let jacobian = certify_jacobian(at, point, certificate, jacobian_start, exact)?;
        // row 9
        let alpha = point.model.alpha();
        if exact && self.target != Target::Selected {
            certificate.alpha = alpha.and_then(finite);
            let floor = point.alpha_floor(&self.refine);
            let null = point.model.null_directions(floor);
            let is_null = alpha.is_some_and(|alpha| alpha <= floor);
            if is_null && point.end == RefineEnd::Selected {
                let mut moves = null.is_empty();
                for t in &null {
                    moves |= along(at, point, t)?.norm() > 1e-6 * (1.0 + gradient_norm);
                }
                certificate.add(if moves {
                    Finding::Degenerate { alpha: alpha.unwrap_or(0.0), directions: null.len().max(1) }
                } else {
                    Finding::Orbit { dim: null.len() }
                });
            }
        }
        // row 10
        let gradients: Vec<Vec<f64>> = branches
            .iter()
            .take(*active)
            .filter(|b| is_same_value(point.value, b.point.value, self.tie_tol))
            .filter_map(|b| Some(b.hypergradient.as_ref()?.gradient.scaled(*sign).coordinates()))
            .collect();
        let mut kinds: Vec<Vec<f64>> = vec![];
        for gradient in gradients {
            if !kinds.iter().any(|known| is_same_gradient(known, &gradient, self.tie_tol)) {
                kinds.push(gradient);
            }
        }
        certificate.tie_gap = branches
            .iter()
            .find(|b| !is_same_value(point.value, b.point.value, self.tie_tol))
            .map(|b| b.point.value - point.value);
        if kinds.len() > 1 {
            certificate.tie_gap = Some(0.0);
            let values = vec![*sign * point.value; kinds.len()];
            certificate.add(Finding::Tie { values, gradients: kinds });
        }
        // row 11
        certificate.branches = branches.len();
        if let Some(mass) = certificate.missing_mass
            && mass > self.explore.missing_mass
        {
            certificate.add(Finding::Underexplored { mass });
        }
        // selection, solve and landing parts
        let solve_part = if geometry.range_min.is_finite() {
            jacobian * point.solve_residual * point.b.norm() * geometry.norm / geometry.range_min.powi(2)
        } else {
            0.0
        };
        let landing_part = landing_error(at, point, gradient_norm)?;
        certificate.error = best.hypergradient.as_ref().map(|h| h.correction + solve_part + landing_part);
        Ok(())
    }

    /// Row 5 over all branches: one common dimension, a clear cut at each.
    fn certify_rank<P: Problem>(
        &self,
        at: &At<P>,
        branches: &[Branch<P::X, P::Y>],
        certificate: &mut Certificate,
    ) -> OracleResult<()>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let dims: Vec<usize> = branches
            .iter()
            .filter(|b| matches!(b.point.geometry.kernel, Kernel::Basis(_)))
            .map(|b| b.point.geometry.kernel_dim() as usize)
            .collect();
        let point = &branches[0].point;
        let gap = point.geometry.cut.as_ref().map_or(f64::INFINITY, |cut| cut.gap);
        let unclear = gap < self.rank.gap_min
            || point.geometry.range_min
                < self.rank.tol * point.geometry.norm * self.rank.gap_min.sqrt().recip();
        let (k_low, k_high) =
            (dims.iter().copied().min().unwrap_or(0), dims.iter().copied().max().unwrap_or(0));
        if !unclear && k_low == k_high {
            return Ok(());
        }
        let gradient = |v: &P::Y| -> OracleResult<Vec<f64>> {
            let gradient = at.f_x(&point.y)?.plus(-1.0, &at.j(&point.y, v)?);
            Ok(gradient.scaled(at.sign).coordinates())
        };
        let width = self.rank.gap_min.sqrt();
        let (mut low, mut high) = ((k_low, gradient(&point.v)?), (k_high, gradient(&point.v)?));
        if let Some(spectrum) = point.geometry.spectrum() {
            for (factor, slot) in [(width.recip(), &mut low), (width, &mut high)] {
                let geometry =
                    Geometry::dense(&point.y, spectrum.clone(), &self.rank, self.rank.tol * factor);
                let v = geometry.pseudoinverse(at, &point.y, &point.b)?.v;
                *slot = (geometry.kernel_dim() as usize, gradient(&v)?);
            }
        }
        certificate.add(Finding::RankUncertain {
            k_low: low.0.min(k_low),
            k_high: high.0.max(k_high),
            gap: if gap.is_finite() { gap } else { 1.0 },
            gradient_low: low.1,
            gradient_high: high.1,
        });
        Ok(())
    }
}

/// By how much G would change on the way from y to S(x): |E s| with the Newton step s = H⁺∇_y g, since the formula of the
/// change along S(x) holds along any direction to first order while P∇_y f is small. Its own error is O(δ²).
///
/// Where y is within rounding of S(x), `NEAR` times it, the scale of G times the relative distance stands in and saves
/// the solves.
fn landing_error<P: Problem>(at: &At<P>, point: &SelectedPoint<P::Y>, gradient_norm: f64) -> OracleResult<f64>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let relative = point.distance() / (1.0 + point.y.norm());
    if relative <= NEAR * point.y.resolution() || !point.geometry.range_min.is_finite() {
        return Ok(gradient_norm * relative);
    }
    let step = point.geometry.pseudoinverse_to(at, &point.y, &point.g_y, 1e-2)?.v;
    Ok(along(at, point, &step)?.norm())
}

/// Multiple of the resolution of y up to which a landing is exact.
const NEAR: f64 = 1e4;

/// Rows 6 and 13 by random probes: |J ζ| and |J P ζ|. Returns the estimate of |J|.
fn certify_jacobian<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    certificate: &mut Certificate,
    jacobian_start: Option<f64>,
    exact: bool,
) -> OracleResult<f64>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let y = &point.y;
    let mut stream = Stream::new(0, JACOBIAN_PURPOSE);
    let (mut all, mut flat, mut noise) = (0.0, 0.0, 0.0_f64);
    let mut zeta = y.zeros_like();
    for _ in 0..JACOBIAN_PROBES {
        zeta = stream.normal_like(y);
        all += at.j(y, &zeta)?.norm().powi(2) / JACOBIAN_PROBES as f64;
        if exact {
            let tangent = point.geometry.project_resolved(at, y, &zeta, 0.0)?;
            noise = noise.max(tangent.noise);
            flat += at.j(y, &tangent.part)?.norm().powi(2) / JACOBIAN_PROBES as f64;
        }
    }
    let jacobian = all.sqrt();
    certificate.jacobian = Some(jacobian);
    if exact {
        let ratio = if all > 0.0 { (flat / all).sqrt() } else { 0.0 };
        certificate.range_ratio = Some(ratio);
        // off S by δ the ratio is O(δ); |J e| ≤ |J||e| for what the projection left of the range
        let resolved = (1e2 * point.distance() / (1.0 + y.norm())).max(noise);
        if ratio > resolved.max(1e-6) {
            certificate.add(Finding::OutOfClass { ratio });
        }
    }
    // Row 13 only where x acts through the lower level alone: ∇_x f = 0 here and beside y.
    let acts_directly = at.f_x(y)?.norm() > 0.0 || {
        let h = difference_step(y, &zeta).unwrap_or(0.0);
        at.f_x(&y.plus(h, &zeta))?.norm() > 0.0
    };
    let lost = jacobian == 0.0 || jacobian_start.is_some_and(|start| jacobian <= 1e-3 * start);
    if !acts_directly && lost {
        certificate.add(Finding::NoSignal { jacobian });
    }
    Ok(jacobian)
}

/// Purpose of the random stream of the probes of J.
const JACOBIAN_PURPOSE: u64 = 0x1c;
/// Random directions that estimate |J| and |J P|.
const JACOBIAN_PROBES: usize = 4;

/// Whether second-order products are exact; with differences of gradients rows 5, 6 and 9 are not computed.
fn oracles_are_exact<P: Problem>(at: &At<P>) -> bool
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    at.oracles.lower.second_order_cost() == SecondOrderCost::Exact
}

fn value_spread<P: Problem>(at: &At<P>, branches: &[Branch<P::X, P::Y>]) -> OracleResult<f64>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for branch in branches {
        let value = at.value(&branch.point.y)?;
        (low, high) = (low.min(value), high.max(value));
    }
    Ok(high - low)
}
