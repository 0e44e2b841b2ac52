//! F, ∇F and their certificate at one x: SELECT, CERTIFY, DIFFERENTIATE.

use super::{HgMs, Target};
use crate::{
    certificate::{Certificate, Finding},
    error::OracleResult,
    hypergradient::{Hypergradient, along},
    oracles::Oracles,
    problem::{Problem, SecondOrder, SecondOrderCost},
    rng::Stream,
    selection::{
        branches::{Branch, is_same_gradient, is_same_point, is_same_value, missing_mass},
        geometry::{Geometry, Kernel},
        land::{Landing, LandingEnd},
        level::{At, Level, difference_step, trial_value},
        refine::{Refine, RefineEnd, SelectedPoint, landing_distance},
    },
    vector::Vector,
};

/// How much to explore S(x) in one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exploration {
    /// Not at all: follow the given points.
    None,
    /// A quarter of the walks.
    Partial,
    /// All walks.
    Full,
}

/// What is known of F at one x.
#[derive(Clone, Debug)]
pub struct Evaluation<X, Y> {
    /// The selections known, best first. Empty when no point of S(x) was reached; the certificate says why.
    pub branches: Vec<Branch<X, Y>>,
    /// How many of them are tied with the best and have a hypergradient.
    pub active: usize,
    /// What the hypergradient is worth.
    pub certificate: Certificate,
    sign: f64,
}

impl<X: Vector, Y: Vector> Evaluation<X, Y> {
    /// F(x): the corrected value of the best selection.
    pub fn value(&self) -> Option<f64> {
        self.branches.first().map(|branch| self.sign * branch.point.value)
    }
    /// ∇F(x) of the best selection. At a tie it is one of several, see [`Evaluation::gradients`].
    pub fn gradient(&self) -> Option<X> {
        self.gradients().into_iter().next()
    }
    /// The hypergradients of all active selections.
    pub fn gradients(&self) -> Vec<X> {
        self.branches
            .iter()
            .take(self.active)
            .filter_map(|branch| Some(branch.hypergradient.as_ref()?.gradient.scaled(self.sign)))
            .collect()
    }
    /// The best selection y*(x).
    pub fn selection(&self) -> Option<&Y> {
        self.branches.first().map(|branch| &branch.point.y)
    }
}

/// Candidates at one x, while they are collected.
struct Collection<X, Y> {
    branches: Vec<Branch<X, Y>>,
    /// Lowest lower value among what landed.
    lowest: f64,
    /// Lower values of what was landed on and dropped for being higher.
    higher: Vec<f64>,
    unbounded: Option<Finding>,
}

impl HgMs {
    /// Evaluates F and ∇F at x from seeds of y, of which at least one is needed.
    ///
    /// The stream drives the exploration; `jacobian_start` is |J| at the start of the run, for the test of row 13.
    pub fn evaluate<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        x: &P::X,
        seeds: &[P::Y],
        exploration: Exploration,
        stream: &mut Stream,
        jacobian_start: Option<f64>,
    ) -> OracleResult<Evaluation<P::X, P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let at = At { oracles, x, sign: self.sign() };
        let mut certificate = Certificate::default();
        let mut landed = vec![];
        for seed in seeds {
            let landing = self.land_hard(&at, seed.clone())?;
            match self.judge_landing(&at, &landing)? {
                None => landed.push(landing),
                Some(finding) => certificate.add(finding),
            }
        }
        if landed.is_empty() || certificate.has("LowerLevelUnbounded") {
            return Ok(self.refused(certificate));
        }
        // some seeds landed: what befell the others is not a finding about x
        certificate.findings.clear();

        // the rank is looked at before f is: without it neither T nor v is defined
        for landing in &mut landed {
            if let Some(finding) = self.judge_rank(&at, landing)? {
                self.describe_landing(&at, landing, &mut certificate)?;
                certificate.add(finding);
                return Ok(self.refused(certificate));
            }
        }

        let mut found =
            Collection { branches: vec![], lowest: f64::INFINITY, higher: vec![], unbounded: None };
        for landing in landed {
            self.collect(&at, landing, 0, &mut found)?;
        }
        let is_local = self.target == Target::Selected || !self.explore.enabled;
        let explored = exploration != Exploration::None && !is_local && !found.branches.is_empty();
        if explored {
            self.explore_from(&at, exploration, stream, &mut found)?;
            certificate.missing_mass = Some(missing_mass(found.branches.iter().map(|b| b.visits)));
            certificate.is_explored = true;
        }
        let Collection { mut branches, lowest, higher, unbounded } = found;
        branches.sort_by(|a, b| a.point.value.total_cmp(&b.point.value));
        branches.truncate(self.max_branches);
        if !higher.is_empty() {
            let mut values = vec![lowest];
            values.extend(higher);
            certificate.add(Finding::LowerValueSplit { values });
        }
        if let Some(finding) = unbounded {
            certificate.add(finding);
        }

        let best = branches.first().map_or(f64::NAN, |branch| branch.point.value);
        let active = match self.target {
            Target::Selected => 1,
            // prox-linear steps look at every branch, not only at the tied ones
            Target::Pessimistic => branches.len(),
            Target::Optimistic => branches
                .iter()
                .take_while(|branch| is_same_value(best, branch.point.value, self.tie_tol))
                .count(),
        };
        for branch in branches.iter_mut().take(active) {
            self.differentiate_branch(&at, branch)?;
        }
        let mut evaluation = Evaluation { branches, active, certificate, sign: self.sign() };
        self.certify(&at, &mut evaluation, jacobian_start)?;
        Ok(evaluation)
    }

    fn refused<X, Y>(&self, certificate: Certificate) -> Evaluation<X, Y> {
        Evaluation { branches: vec![], active: 0, certificate, sign: self.sign() }
    }

    fn sign(&self) -> f64 {
        if self.target == Target::Pessimistic { -1.0 } else { 1.0 }
    }

    /// LAND at the full tolerance.
    fn land_hard<P: Problem>(&self, at: &At<P>, y: P::Y) -> OracleResult<Landing<P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let dense = self.rank.is_dense(y.dim());
        self.land.run(at, y, dense, self.rank.tol)
    }

    /// Rows 1 to 3: whether the landing reached S(x).
    fn judge_landing<P: Problem>(&self, at: &At<P>, landing: &Landing<P::Y>) -> OracleResult<Option<Finding>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let y = &landing.y;
        match landing.end {
            LandingEnd::Landed => return Ok(None),
            LandingEnd::Saddle => {
                return Ok(Some(Finding::LowerSaddle { eigenvalue: landing.curvature.smallest() }));
            }
            LandingEnd::OutOfSteps | LandingEnd::Left => {}
        }
        let size = landing.gradient.norm();
        let geometry = Geometry::new(at, y, size, landing.curvature.clone(), &self.rank)?;
        // far probe: along −P∇_y g a quadratic g falls for ever
        let slope_vector = geometry.project(at, y, &landing.gradient)?.scaled(-1.0);
        let slope = slope_vector.norm();
        let flat =
            at.hessian_product(y, &slope_vector)?.norm() <= 1e2 * self.rank.tol * geometry.norm * slope;
        if slope >= 0.5 * size && flat {
            let here = at.value(y)?;
            let mut falls = true;
            for j in 0..=4 {
                let radius = (1.0 + y.norm()) * 10f64.powi(j);
                let there = trial_value(at.value(&y.plus(radius / slope, &slope_vector)))?;
                // a value that overflows downwards is not finite either; only a real decrease counts
                falls &= there <= here - 0.5 * radius * slope;
            }
            if falls {
                let direction = slope_vector.scaled(slope.recip()).coordinates();
                return Ok(Some(Finding::LowerLevelUnbounded { direction, slope }));
            }
        }
        let distance = landing_distance(&landing.gradient, &geometry);
        let is_close = distance <= self.land_dist * (1.0 + y.norm());
        // H = 0 leaves no scale for a distance: the gradient speaks for itself
        Ok((!is_close || geometry.range_min.is_infinite())
            .then_some(Finding::NotLanded { distance: if distance > 0.0 { distance } else { size } }))
    }

    /// Row 5 at a landed point; lands harder before it gives up.
    fn judge_rank<P: Problem>(&self, at: &At<P>, landing: &mut Landing<P::Y>) -> OracleResult<Option<Finding>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        if self.is_clear(at, landing)? {
            return Ok(None);
        }
        let harder = self.land.with_tol(self.land.tol / 100.0);
        let again = harder.run(at, landing.y.clone(), self.rank.is_dense(landing.y.dim()), self.rank.tol)?;
        if again.end == LandingEnd::Landed {
            *landing = again;
        }
        if self.is_clear(at, landing)? {
            return Ok(None);
        }
        let y = landing.y.clone();
        let crate::selection::land::Curvature::Dense(spectrum) = &landing.curvature else {
            return Ok(None);
        };
        let gradient_at = |tol: f64| -> OracleResult<(usize, Vec<f64>)> {
            let geometry = Geometry::dense(&y, spectrum.clone(), &self.rank, tol);
            let v = geometry.pseudoinverse(at, &y, &at.f_y(&y)?)?.v;
            let gradient = at.f_x(&y)?.plus(-1.0, &at.j(&y, &v)?).scaled(at.sign);
            Ok((geometry.kernel_dim() as usize, gradient.coordinates()))
        };
        let width = self.rank.gap_min.sqrt();
        let (mut k_low, gradient_low) = gradient_at(self.rank.tol / width)?;
        let (k_high, gradient_high) = gradient_at(self.rank.tol * width)?;
        let cut = spectrum.cut(self.rank.tol * spectrum.norm(), self.rank.gap_min);
        let mut gap = cut.gap;
        if spectrum.norm() == 0.0 {
            // rank 0: a point beside y says what the dimension is elsewhere
            gap = 1.0;
            let nudge = Stream::new(0, NUDGE_PURPOSE).normal_like(&y);
            let beside = y.plus(0.1 * (1.0 + y.norm()) / nudge.norm().max(1.0), &nudge);
            let near = self.land_hard(at, beside)?;
            if near.end == LandingEnd::Landed {
                let geometry = Geometry::new(at, &near.y, near.gradient.norm(), near.curvature, &self.rank)?;
                k_low = geometry.kernel_dim() as usize;
            }
        }
        Ok(Some(Finding::RankUncertain { k_low, k_high, gap, gradient_low, gradient_high }))
    }

    /// Whether kernel and range are clearly apart.
    fn is_clear<P: Problem>(&self, _at: &At<P>, landing: &Landing<P::Y>) -> OracleResult<bool> {
        Ok(match &landing.curvature {
            crate::selection::land::Curvature::Dense(spectrum) => {
                let cut = spectrum.cut(self.rank.tol * spectrum.norm(), self.rank.gap_min);
                cut.gap >= self.rank.gap_min && (spectrum.norm() > 0.0 || spectrum.values().is_empty())
            }
            crate::selection::land::Curvature::Krylov { .. } => true,
        })
    }

    fn describe_landing<P: Problem>(
        &self,
        at: &At<P>,
        landing: &Landing<P::Y>,
        certificate: &mut Certificate,
    ) -> OracleResult<()>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let size = landing.gradient.norm();
        let geometry = Geometry::new(at, &landing.y, size, landing.curvature.clone(), &self.rank)?;
        certificate.distance = Some(landing_distance(&landing.gradient, &geometry));
        certificate.hessian_norm = Some(geometry.norm);
        certificate.smallest_eigenvalue = Some(geometry.smallest);
        Ok(())
    }

    /// Refines a landed point and files it: under a branch that is known, or as a new one. A lower value below all others
    /// throws those out (row 4).
    fn collect<P: Problem>(
        &self,
        at: &At<P>,
        landing: Landing<P::Y>,
        visits: u64,
        found: &mut Collection<P::X, P::Y>,
    ) -> OracleResult<()>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let g = at.value(&landing.y)?;
        let tol = self.value_tol * (1.0 + g.abs().min(found.lowest.abs()));
        if g > found.lowest + tol {
            note_value(&mut found.higher, g, tol);
            return Ok(());
        }
        if g < found.lowest - tol {
            if found.lowest.is_finite() {
                note_value(&mut found.higher, found.lowest, tol);
            }
            found.branches.clear();
        }
        found.lowest = found.lowest.min(g);
        let point = if self.target == Target::Selected {
            let mut point = Refine::examine(at, landing, &self.rank)?;
            point.end = RefineEnd::Selected;
            point
        } else {
            self.refine.run(at, landing, &self.land, &self.rank)?
        };
        if point.end == RefineEnd::Unbounded {
            let (norm, value) = (point.y.norm(), at.sign * point.f);
            found.unbounded.get_or_insert(Finding::SelectionUnbounded { norm, value });
        }
        let mut new = Branch { point, hypergradient: None, visits };
        if let Some(known) =
            found.branches.iter_mut().find(|b| is_same_point(&b.point.y, &new.point.y, self.r_merge))
        {
            known.visits += visits;
            return Ok(());
        }
        // equal value and equal hypergradient: equivalent (sign copies, an orbit). Two representatives are kept, since
        // they may part later.
        let value = new.point.value;
        let mut twins: Vec<usize> = vec![];
        for i in 0..found.branches.len() {
            if !is_same_value(found.branches[i].point.value, value, self.tie_tol) {
                continue;
            }
            self.differentiate_branch(at, &mut new)?;
            self.differentiate_branch(at, &mut found.branches[i])?;
            let gradient = |branch: &Branch<P::X, P::Y>| {
                branch.hypergradient.as_ref().map(|h| h.gradient.clone()).expect("just computed")
            };
            if is_same_gradient(&gradient(&found.branches[i]), &gradient(&new), self.tie_tol) {
                twins.push(i);
            }
        }
        match twins.as_slice() {
            [] => found.branches.push(new),
            [one] => {
                // the class is counted at its first representative
                found.branches[*one].visits += visits;
                new.visits = 0;
                found.branches.push(new);
            }
            [one, ..] => found.branches[*one].visits += visits,
        }
        Ok(())
    }

    /// EXPLORE: walks from random known branches, refined and filed.
    fn explore_from<P: Problem>(
        &self,
        at: &At<P>,
        exploration: Exploration,
        stream: &mut Stream,
        found: &mut Collection<P::X, P::Y>,
    ) -> OracleResult<()>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let intrinsic = found.branches[0].point.geometry.kernel_dim();
        let is_full = exploration == Exploration::Full;
        let walks = self.explore.walks(intrinsic, is_full);
        for walk in 0..walks {
            let i = stream.below(found.branches.len() as u64) as usize;
            let start = found.branches[i].point.y.clone();
            let Some(end) = self.explore.walk(at, &start, &self.land, &self.rank, stream)? else {
                // S(x) is a point: there is nowhere to walk
                found.branches[i].visits += 2;
                break;
            };
            let landing = self.land_hard(at, end)?;
            if landing.end == LandingEnd::Landed {
                self.collect(at, landing, 1, found)?;
            }
            if found.branches.is_empty() {
                break;
            }
            // every basin seen twice after half of the walks: the other half would be spent on what is known
            let drawn: u64 = found.branches.iter().map(|b| b.visits).sum();
            let twice = found.branches.iter().all(|b| b.visits != 1);
            if drawn > 0 && 2 * (walk + 1) >= walks && twice && walks >= 8 {
                break;
            }
        }
        Ok(())
    }

    fn differentiate_branch<P: Problem>(
        &self,
        at: &At<P>,
        branch: &mut Branch<P::X, P::Y>,
    ) -> OracleResult<()>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        if branch.hypergradient.is_none() {
            let mut settings = self.differentiate.clone();
            // a point that was not selected is not to be corrected towards the selection
            settings.correct &= self.target != Target::Selected;
            let result: Hypergradient<P::X> =
                settings.run(at, &branch.point, &self.land, &self.refine, &self.rank)?;
            branch.hypergradient = Some(result);
        }
        Ok(())
    }

    /// Rows 1 to 13 for the best selection.
    fn certify<P: Problem>(
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
        let jacobian = self.certify_jacobian(at, point, certificate, jacobian_start, exact)?;
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
        if let Some(mass) = certificate.missing_mass {
            if mass > self.explore.missing_mass {
                certificate.add(Finding::Underexplored { mass });
            }
        }
        // selection, solve and landing parts; the last by the scale of G, since no second landing is made to measure it
        let solve_part = if geometry.range_min.is_finite() {
            jacobian * point.solve_residual * point.b.norm() * geometry.norm / geometry.range_min.powi(2)
        } else {
            0.0
        };
        let landing_part = gradient_norm * distance / (1.0 + y.norm());
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

    /// Rows 6 and 13 by random probes: |J ζ| and |J P ζ|. Returns the estimate of |J|.
    fn certify_jacobian<P: Problem>(
        &self,
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
        let (mut all, mut flat) = (0.0, 0.0);
        let mut zeta = y.zeros_like();
        for _ in 0..JACOBIAN_PROBES {
            zeta = stream.normal_like(y);
            all += at.j(y, &zeta)?.norm().powi(2) / JACOBIAN_PROBES as f64;
            if exact {
                let tangent = point.geometry.project(at, y, &zeta)?;
                flat += at.j(y, &tangent)?.norm().powi(2) / JACOBIAN_PROBES as f64;
            }
        }
        let jacobian = all.sqrt();
        certificate.jacobian = Some(jacobian);
        if exact {
            let ratio = if all > 0.0 { (flat / all).sqrt() } else { 0.0 };
            certificate.range_ratio = Some(ratio);
            // off S by δ the ratio is O(δ)
            if ratio > (1e2 * point.distance() / (1.0 + y.norm())).max(1e-6) {
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
}

/// Purposes of the random streams of the certificate.
const JACOBIAN_PURPOSE: u64 = 0x1c;
const NUDGE_PURPOSE: u64 = 0x4d;
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

/// Adds a lower value to the list unless it is there.
fn note_value(values: &mut Vec<f64>, value: f64, tol: f64) {
    if !values.iter().any(|known| (known - value).abs() <= tol) {
        values.push(value);
        values.sort_by(f64::total_cmp);
    }
}
