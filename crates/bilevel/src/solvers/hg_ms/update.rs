//! UPDATE: how x moves once the branches and their hypergradients are known.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::{Evaluation, Exploration, HgMs, HgMsState, Target, simplex_qp};
use crate::{
    certificate::Finding,
    error::{ConfigError, OracleError, OracleResult},
    hyper_hessian::{hyper_hessian, selection_derivative},
    linear::dense::Spectrum,
    oracles::Oracles,
    problem::{Problem, SecondOrder},
    run::Status,
    selection::{
        branches::Branch,
        land::LandingEnd,
        level::{At, Level},
        refine::{Refine, RefineEnd},
    },
    solvers::StepInfo,
    vector::Vector,
};

/// The direction of the upper step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpperStep {
    /// −∇F_i with a Barzilai–Borwein length.
    #[default]
    Gradient,
    /// −|∇²F_i|⁻¹∇F_i, eigenvalues by their modulus with a floor of 1e-3: F is weakly concave near kinks. Costs one
    /// Hessian product a coordinate of x; unconstrained x only, otherwise the gradient step is taken.
    Newton,
}

/// Settings of the upper step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upper {
    /// Direction.
    pub step: UpperStep,
    /// Stop when every active hypergradient (with a constraint: prox-gradient) is this small.
    pub tol: f64,
    /// First step length.
    pub first: f64,
    /// Shortest step length that Barzilai and Borwein may propose.
    pub shortest: f64,
    /// Longest one.
    pub longest: f64,
    /// Share of the expected decrease that a step must bring.
    pub armijo: f64,
}

impl Default for Upper {
    fn default() -> Self {
        Self { step: UpperStep::Gradient, tol: 1e-6, first: 0.1, shortest: 1e-6, longest: 1e2, armijo: 1e-4 }
    }
}

impl Upper {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("upper.tol", self.tol),
            ("upper.first", self.first),
            ("upper.shortest", self.shortest),
            ("upper.longest", self.longest),
        ] {
            ConfigError::require(value > 0.0 && value.is_finite(), field, value, "give a positive number")?;
        }
        ConfigError::require(
            self.shortest <= self.longest,
            "upper.shortest",
            self.shortest,
            "give at most upper.longest",
        )?;
        ConfigError::require(
            self.armijo > 0.0 && self.armijo < 0.5,
            "upper.armijo",
            self.armijo,
            "give a number in (0, 0.5)",
        )
    }
}

/// A point that the line search may go to.
struct Trial<X, Y> {
    x: X,
    /// Signed value of the best branch there.
    value: f64,
    branches: Vec<Y>,
    eta: f64,
    /// Branch that led there.
    from: usize,
}

/// Halvings of one line search.
const MAX_HALVINGS: u32 = 40;
/// Steps in a row with a failed certificate after which a run ends.
const MAX_DOUBTS: u32 = 2;

impl HgMs {
    /// One pass of the main loop.
    pub(super) fn upper_step<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &mut HgMsState<P::X, P::Y>,
    ) -> OracleResult<StepInfo>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let settings = self.tightened(state.tightening);
        let exploration = if state.step == 0 || state.explore_now {
            Exploration::Full
        } else if state.step % u64::from(self.explore.every) == 0 {
            Exploration::Partial
        } else {
            Exploration::None
        };
        state.step += 1;
        state.explore_now = false;
        let mut evaluation = settings.evaluate(
            oracles,
            &state.x,
            &state.branches,
            exploration,
            &mut state.stream,
            state.jacobian_start,
        )?;
        state.jacobian_start = state.jacobian_start.or(evaluation.certificate.jacobian);
        let explores = self.explore.enabled && self.target != Target::Selected;

        let mut direction = settings.stationarity(oracles, state, &evaluation);
        if direction.norm <= self.upper.tol && explores && exploration != Exploration::Full {
            // never stop without a last look
            let seeds: Vec<P::Y> = evaluation.branches.iter().map(|b| b.point.y.clone()).collect();
            evaluation = settings.evaluate(
                oracles,
                &state.x,
                &seeds,
                Exploration::Full,
                &mut state.stream,
                state.jacobian_start,
            )?;
            direction = settings.stationarity(oracles, state, &evaluation);
        }
        if !evaluation.branches.is_empty() {
            state.branches = evaluation.branches.iter().map(|b| b.point.y.clone()).collect();
        }

        let mut info = StepInfo {
            value: evaluation.value(),
            stationarity: direction.norm,
            certificate: Some(evaluation.certificate.clone()),
            end: None,
            extras: vec![("branches".into(), evaluation.branches.len() as f64)],
        };
        if let Some(weights) = &direction.weights {
            for (i, w) in weights.iter().enumerate() {
                info.extras.push((format!("weight_{i}"), *w));
            }
        }
        info.end = settings.judge(&evaluation, state, direction.norm);
        if info.end.is_some() {
            return Ok(info);
        }

        let accepted = match self.target {
            Target::Pessimistic => settings.prox_linear_search(oracles, state, &evaluation)?,
            Target::Optimistic | Target::Selected => {
                settings.branchwise_search(oracles, state, &evaluation)?
            }
        };
        if let Some(trial) = accepted {
            let gradient = evaluation.branches[trial.from]
                .hypergradient
                .as_ref()
                .expect("steps start from branches with a hypergradient")
                .gradient
                .clone();
            info.extras.push(("step_x".into(), trial.eta));
            state.previous = Some((std::mem::replace(&mut state.x, trial.x), gradient));
            state.branches = trial.branches;
            state.eta = Some(trial.eta);
            state.stalls = 0;
        } else {
            state.stalls += 1;
            state.tightening += 1;
            state.explore_now = true;
            if state.stalls == 2 {
                info.end = Some(Status::Stalled);
            }
        }
        Ok(info)
    }

    /// Whether and how the run ends at this evaluation.
    fn judge<X: Vector, Y: Vector>(
        &self,
        evaluation: &Evaluation<X, Y>,
        state: &mut HgMsState<X, Y>,
        stationarity: f64,
    ) -> Option<Status> {
        let certificate = &evaluation.certificate;
        let fatal = certificate.verdict().filter(|finding| finding.is_fatal()).cloned();
        // nothing to differentiate, or F is infinite: at once
        let is_hopeless = evaluation.branches.is_empty()
            || certificate.has("LowerLevelUnbounded")
            || certificate.has("SelectionUnbounded");
        if let Some(finding) = &fatal {
            // spurious lower minima do not take anything from the lowest ones
            let is_doubt = !matches!(finding, Finding::LowerValueSplit { .. });
            state.doubts = if is_doubt { state.doubts + 1 } else { 0 };
            if is_hopeless || state.doubts >= MAX_DOUBTS {
                return Some(Status::Flagged { finding: finding.clone() });
            }
            if is_doubt {
                state.tightening = state.tightening.max(1);
            }
        } else {
            state.doubts = 0;
        }
        if stationarity > self.upper.tol {
            return None;
        }
        let no_signal =
            certificate.findings.iter().find(|finding| matches!(finding, Finding::NoSignal { .. }));
        Some(match fatal.as_ref().or(no_signal) {
            Some(finding) => Status::Flagged { finding: finding.clone() },
            None if certificate.is_explored => Status::Converged,
            None => Status::LocallyConverged,
        })
    }

    /// How far x is from stationary: the largest active |∇F_i|, or |prox step|/η with a constraint; for the pessimistic target
    /// the length of the prox-linear step over η.
    fn stationarity<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &HgMsState<P::X, P::Y>,
        evaluation: &Evaluation<P::X, P::Y>,
    ) -> Stationarity
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        if evaluation.branches.is_empty() {
            return Stationarity { norm: f64::INFINITY, weights: None };
        }
        if self.target == Target::Pessimistic {
            let eta = state.eta.unwrap_or(1.0);
            let plan = prox_linear_plan(evaluation, eta);
            return Stationarity { norm: plan.step.norm() / eta, weights: Some(plan.weights) };
        }
        let eta = state.eta.unwrap_or(self.upper.first);
        let norm = signed_gradients(evaluation)
            .map(|gradient| {
                if oracles.is_x_constrained() {
                    let mut next = state.x.plus(-eta, gradient);
                    oracles.prox_x(&mut next, eta);
                    next.distance(&state.x) / eta
                } else {
                    gradient.norm()
                }
            })
            .fold(0.0, f64::max);
        Stationarity { norm, weights: None }
    }

    /// Lines 14 to 18: every active branch is tried, the best accepted trial is returned.
    fn branchwise_search<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &HgMsState<P::X, P::Y>,
        evaluation: &Evaluation<P::X, P::Y>,
    ) -> OracleResult<Option<Trial<P::X, P::Y>>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let at = At { oracles, x: &state.x, sign: self.sign() };
        let value = evaluation.branches[0].point.value;
        let noise = 10.0 * f64::EPSILON * (1.0 + value.abs());
        let constrained = oracles.is_x_constrained();
        let mut best: Option<Trial<P::X, P::Y>> = None;
        for from in 0..evaluation.active {
            let branch = &evaluation.branches[from];
            let Some(hypergradient) = &branch.hypergradient else { continue };
            let gradient = &hypergradient.gradient;
            if gradient.norm() <= self.upper.tol && !constrained {
                continue;
            }
            let newton = self.upper.step == UpperStep::Newton && !constrained;
            let (direction, mut eta) = if newton {
                (self.newton_direction(&at, branch)?, 1.0)
            } else {
                (gradient.scaled(-1.0), self.barzilai_borwein(state, gradient))
            };
            let slope = gradient.dot(&direction);
            for _ in 0..MAX_HALVINGS {
                let mut x = state.x.plus(eta, &direction);
                oracles.prox_x(&mut x, eta);
                let moved = x.plus(-1.0, &state.x);
                let expected = if constrained {
                    self.upper.armijo / eta * moved.norm().powi(2)
                } else {
                    -self.upper.armijo * eta * slope
                };
                if moved.norm() <= state.x.resolution() * (1.0 + state.x.norm()) {
                    break;
                }
                if let Some((reached, branches)) = self.value_at(&at, &x, &moved, evaluation)?
                    && reached <= value - expected + noise
                {
                    if best.as_ref().is_none_or(|known| reached < known.value) {
                        best = Some(Trial { x, value: reached, branches, eta, from });
                    }
                    break;
                }
                eta *= 0.5;
            }
        }
        Ok(best)
    }

    /// One prox-linear step over all tracked branches, halving η until the maximum falls.
    fn prox_linear_search<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &HgMsState<P::X, P::Y>,
        evaluation: &Evaluation<P::X, P::Y>,
    ) -> OracleResult<Option<Trial<P::X, P::Y>>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let at = At { oracles, x: &state.x, sign: self.sign() };
        let value = evaluation.branches[0].point.value;
        let noise = 10.0 * f64::EPSILON * (1.0 + value.abs());
        let mut eta = state.eta.map_or(1.0, |eta| (2.0 * eta).min(self.upper.longest));
        for _ in 0..MAX_HALVINGS {
            let plan = prox_linear_plan(evaluation, eta);
            let mut x = state.x.plus(1.0, &plan.step);
            oracles.prox_x(&mut x, eta);
            let moved = x.plus(-1.0, &state.x);
            if moved.norm() <= state.x.resolution() * (1.0 + state.x.norm()) {
                break;
            }
            if let Some((reached, branches)) = self.value_at(&at, &x, &moved, evaluation)? {
                // signed values: F_max = −value, so falling F_max is rising value
                if -reached <= -value - self.upper.armijo * plan.decrease + noise {
                    return Ok(Some(Trial { x, value: reached, branches, eta, from: 0 }));
                }
            }
            eta *= 0.5;
        }
        Ok(None)
    }

    /// Signed value of the best branch at x⁺, and all branches there, from the predictions of the branches at x.
    /// `None` where no branch arrives, or an oracle is not finite.
    fn value_at<P: Problem>(
        &self,
        at: &At<P>,
        x: &P::X,
        moved: &P::X,
        evaluation: &Evaluation<P::X, P::Y>,
    ) -> OracleResult<Option<(f64, Vec<P::Y>)>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let there = at.moved_to(x);
        let mut reached: Vec<(f64, f64, P::Y)> = vec![];
        for branch in &evaluation.branches {
            let start = self.predict(at, branch, moved)?;
            match self.follow(&there, start) {
                Ok(Some(point)) => reached.push(point),
                Ok(None) | Err(OracleError::NonFinite { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let lowest = reached.iter().map(|(g, _, _)| *g).fold(f64::INFINITY, f64::min);
        reached.retain(|(g, _, _)| *g <= lowest + self.value_tol * (1.0 + lowest.abs()));
        reached.sort_by(|a, b| a.1.total_cmp(&b.1));
        let Some(best) = reached.first().map(|(_, value, _)| *value) else { return Ok(None) };
        Ok(Some((best, reached.into_iter().map(|(_, _, y)| y).collect())))
    }

    /// LAND and REFINE at another x: lower value, signed corrected value, point.
    fn follow<P: Problem>(&self, at: &At<P>, y: P::Y) -> OracleResult<Option<(f64, f64, P::Y)>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let dense = self.rank.is_dense(y.dim());
        let landing = self.land.run(at, y, dense, self.rank.tol)?;
        if landing.end != LandingEnd::Landed {
            return Ok(None);
        }
        let point = if self.target == Target::Selected {
            Refine::examine(at, landing, &self.rank)?
        } else {
            let point = self.refine.run(at, landing, &self.land, &self.rank)?;
            if point.end == RefineEnd::Unbounded {
                return Ok(None);
            }
            point
        };
        Ok(Some((at.value(&point.y)?, point.value, point.y)))
    }

    /// PREDICT: y + (dy*/dx) Δx, or y itself where that would leave the neighbourhood in which a derivative means something.
    fn predict<P: Problem>(&self, at: &At<P>, branch: &Branch<P::X, P::Y>, moved: &P::X) -> OracleResult<P::Y>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let y = &branch.point.y;
        let motion = selection_derivative(at, &branch.point, &self.refine, moved)?;
        let reach = 0.25 * (1.0 + y.norm());
        Ok(if motion.norm() <= reach { y.plus(1.0, &motion) } else { y.clone() })
    }

    /// ⟨Δx, Δx⟩/⟨Δx, ΔG⟩ inside the bounds; twice the last step where the curvature is not positive.
    fn barzilai_borwein<X: Vector, Y: Vector>(&self, state: &HgMsState<X, Y>, gradient: &X) -> f64 {
        let last = state.eta.unwrap_or(self.upper.first);
        let eta = match &state.previous {
            None => last,
            Some((x, old)) => {
                let dx = state.x.plus(-1.0, x);
                let curvature = dx.dot(&gradient.plus(-1.0, old));
                if curvature > 0.0 { dx.dot(&dx) / curvature } else { 2.0 * last }
            }
        };
        eta.clamp(self.upper.shortest, self.upper.longest)
    }

    /// −|∇²F|⁻¹∇F with a floor under the moduli.
    fn newton_direction<P: Problem>(&self, at: &At<P>, branch: &Branch<P::X, P::Y>) -> OracleResult<P::X>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let hessian = hyper_hessian(at, &branch.point, &self.refine)?;
        let gradient = &branch.hypergradient.as_ref().expect("active branches have one").gradient;
        Ok(Spectrum::of_matrix(&hessian).function(|value| -value.abs().max(1e-3).recip(), gradient))
    }
}

struct Stationarity {
    norm: f64,
    /// Weights of the branches in the pessimistic step.
    weights: Option<Vec<f64>>,
}

/// The prox-linear step s = −η Σ w_i G_i with its expected decrease of F_max.
struct Plan<X> {
    step: X,
    weights: Vec<f64>,
    decrease: f64,
}

fn prox_linear_plan<X: Vector, Y: Vector>(evaluation: &Evaluation<X, Y>, eta: f64) -> Plan<X> {
    // signed quantities belong to −f: values and gradients of F_max are their negatives
    let gradients: Vec<X> = signed_gradients(evaluation).map(|g| g.scaled(-1.0)).collect();
    let values: Vec<f64> = evaluation.branches.iter().take(gradients.len()).map(|b| -b.point.value).collect();
    let gram = DMatrix::from_fn(gradients.len(), gradients.len(), |i, j| gradients[i].dot(&gradients[j]));
    let weights = simplex_qp::maximise(&values, &gram, eta);
    let mut step = gradients[0].zeros_like();
    for (w, gradient) in weights.iter().zip(&gradients) {
        step.axpy(-eta * w, gradient);
    }
    let model = gradients
        .iter()
        .zip(&values)
        .map(|(gradient, value)| value + gradient.dot(&step))
        .fold(f64::NEG_INFINITY, f64::max);
    let largest = DVector::from_row_slice(&values).max();
    let decrease = (largest - model - step.dot(&step) / (2.0 * eta)).max(0.0);
    Plan { step, weights, decrease }
}

fn signed_gradients<X: Vector, Y: Vector>(evaluation: &Evaluation<X, Y>) -> impl Iterator<Item = &X> {
    evaluation
        .branches
        .iter()
        .take(evaluation.active)
        .filter_map(|branch| Some(&branch.hypergradient.as_ref()?.gradient))
}
