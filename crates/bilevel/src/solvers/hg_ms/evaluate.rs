//! F, ∇F and their certificate at one x: SELECT, CERTIFY, DIFFERENTIATE.

use super::{HgMs, Target};
use crate::{
    certificate::{Certificate, Finding},
    error::OracleResult,
    hypergradient::Hypergradient,
    oracles::Oracles,
    problem::{Problem, SecondOrder},
    rng::Stream,
    selection::{
        branches::{Branch, is_same_gradient, is_same_point, is_same_value, missing_mass},
        geometry::Geometry,
        land::{Curvature, Landing, LandingEnd},
        level::{At, Level},
        recession::recession,
        refine::{Refine, RefineEnd, landing_distance},
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
    pub(super) sign: f64,
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

    /// What f is multiplied by, so that selection always minimises.
    pub(super) fn sign(&self) -> f64 {
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
        if let Some(finding) = recession(at, landing, &geometry, &self.rank)? {
            return Ok(Some(finding));
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
        if self.is_clear(landing) {
            return Ok(None);
        }
        let harder = self.land.with_tol(self.land.tol / 100.0);
        let again = harder.run(at, landing.y.clone(), self.rank.is_dense(landing.y.dim()), self.rank.tol)?;
        if again.end == LandingEnd::Landed {
            *landing = again;
        }
        if self.is_clear(landing) {
            return Ok(None);
        }
        let y = landing.y.clone();
        let Curvature::Dense(spectrum) = &landing.curvature else {
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
    fn is_clear<Y: Vector>(&self, landing: &Landing<Y>) -> bool {
        match &landing.curvature {
            Curvature::Dense(spectrum) => {
                let cut = spectrum.cut(self.rank.tol * spectrum.norm(), self.rank.gap_min);
                cut.gap >= self.rank.gap_min && (spectrum.norm() > 0.0 || spectrum.values().is_empty())
            }
            Curvature::Krylov { .. } => true,
        }
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
}

/// Purpose of the random stream that steps beside a point of rank 0.
const NUDGE_PURPOSE: u64 = 0x4d;

/// Adds a lower value to the list unless it is there.
fn note_value(values: &mut Vec<f64>, value: f64, tol: f64) {
    if !values.iter().any(|known| (known - value).abs() <= tol) {
        values.push(value);
        values.sort_by(f64::total_cmp);
    }
}
