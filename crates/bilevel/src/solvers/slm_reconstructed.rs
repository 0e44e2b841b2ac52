//! SLM, reconstructed: a smoothed Lagrangian for the constraint g − min g ≤ slack.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{
        Descent, GapGradient, at_least_one, descend_lower, follow, fraction, not_negative, positive, report,
        step_x, step_y, tolerance,
    },
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// A smoothed Lagrangian method for the single-level form. **A reconstruction**: the published update was not available, and
/// no result of this file may be reported as one of SLM.
///
/// # Problem
///
/// min f subject to c(x, y) = g(x, y) − min_y g − slack ≤ 0, nonconvex in both blocks. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  lower_steps times  z ← prox(z − step_z ∇_y g(x, z)),  z kept and held constant in ∇c
/// 2  (x, y) ← prox((x, y) − step(∇f + λ∇c + prox_weight((x, y) − centre)))
/// 3  λ ← clamp((1 − leak)λ + step_lambda·c, 0, lambda_max),   c at the new (x, y)
/// 4  centre ← centre + smoothing((x, y) − centre)
/// ```
///
/// # Parameters
///
/// All ours.
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `prox_weight` | p | 102 | 2(L_f + lambda_max L_g) at L_f = L_g = 1 |
/// | `step`, `step_lambda` | – | 1/(2p) | |
/// | `step_z` | – | 0.5 | below 2/L_g |
/// | `lower_steps` | K | 10 | |
/// | `smoothing` | – | 0.1 | |
/// | `leak` | – | 1e-3 | |
/// | `slack` | – | 0 | |
/// | `lambda_max` | – | 50 | |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x, y and z |
///
/// # Cost
///
/// K + 1 `grad_y`, 2 `grad_x` and 2 values of g, one gradient of f.
///
/// # Guarantee
///
/// None for the reconstruction. The published method has O(ε^-3.5) (as stated by the slides named below).
///
/// # Target
///
/// Penalised. At a fixed point leak·λ = `step_lambda`·c: the leak decides the last λ. A small leak gives a small bias, slowly.
///
/// # Deviations
///
/// Everything but the problem and the idea of a smoothed Lagrangian is reconstructed. g − min g ≤ 0 has no Slater point, so its exact
/// multiplier is infinite; `lambda_max` and `leak` are what keeps λ finite.
///
/// # Source
///
/// S. Lu, *SLM: A Smoothed First-Order Lagrangian Method for Structured Constrained Nonconvex Optimization*, NeurIPS 2023, of which
/// the abstract alone was read. Rate: F. Huang, slides on HJFBiO, ICML 2024.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlmReconstructed {
    /// Weight p of the proximal term.
    pub prox_weight: f64,
    /// Step of x and y; `None`: 1/(2p).
    pub step: Option<f64>,
    /// Step of λ; `None`: 1/(2p).
    pub step_lambda: Option<f64>,
    /// Step of z.
    pub step_z: f64,
    /// Steps K of z in each step.
    pub lower_steps: u64,
    /// Part of the way that the centre follows (x, y).
    pub smoothing: f64,
    /// Part of λ that is lost in each step.
    pub leak: f64,
    /// Value gap that is allowed.
    pub slack: f64,
    /// Largest λ.
    pub lambda_max: f64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for SlmReconstructed {
    fn default() -> Self {
        Self {
            prox_weight: 102.0,
            step: None,
            step_lambda: None,
            step_z: 0.5,
            lower_steps: 10,
            smoothing: 0.1,
            leak: 1e-3,
            slack: 0.0,
            lambda_max: 50.0,
            tol: None,
        }
    }
}

/// State of [`SlmReconstructed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct SlmState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate.
    pub y: Y,
    /// Lower iterate of g alone.
    pub z: Y,
    /// Multiplier of the constraint.
    pub lambda: f64,
    centre: (X, Y),
}

impl<X: Vector, Y: Vector> State<X, Y> for SlmState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for SlmReconstructed {
    type State = SlmState<P::X, P::Y>;
    const NAME: &'static str = "slm-reconstructed";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("prox_weight", self.prox_weight)?;
        self.step.map_or(Ok(()), |step| positive("step", step))?;
        self.step_lambda.map_or(Ok(()), |step| positive("step_lambda", step))?;
        positive("step_z", self.step_z)?;
        at_least_one("lower_steps", self.lower_steps)?;
        let remedy = "give a number above 0, at most 1";
        ConfigError::require(
            self.smoothing > 0.0 && self.smoothing <= 1.0,
            "smoothing",
            self.smoothing,
            remedy,
        )?;
        fraction("leak", self.leak)?;
        not_negative("slack", self.slack)?;
        positive("lambda_max", self.lambda_max)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(SlmState { centre: (x.clone(), y.clone()), z: y.clone(), x, y, lambda: 0.0 })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let SlmState { x, y, z, lambda, centre } = state;
        let by_z = descend_lower(oracles, x, z, Descent::plain(self.lower_steps, self.step_z))?;

        // ∇f + λ∇c + p((x, y) − centre)
        let (mut d_x, mut d_y) = GapGradient::at(oracles, x, y, z)?.combined(*lambda);
        d_x.axpy(self.prox_weight, x);
        d_x.axpy(-self.prox_weight, &centre.0);
        d_y.axpy(self.prox_weight, y);
        d_y.axpy(-self.prox_weight, &centre.1);
        let usual = 0.5 / self.prox_weight;
        let step = self.step.unwrap_or(usual);
        let by_x = step_x(oracles, x, &d_x, step);
        let by_y = step_y(oracles, y, &d_y, step);

        // λ ← clamp((1 − leak)λ + step_lambda·c, 0, lambda_max)
        let gap = oracles.lower.value(x, y, Sample::Full)? - oracles.lower.value(x, z, Sample::Full)?;
        let pushed = (1.0 - self.leak) * *lambda + self.step_lambda.unwrap_or(usual) * (gap - self.slack);
        *lambda = pushed.clamp(0.0, self.lambda_max);

        follow(&mut centre.0, x, self.smoothing);
        follow(&mut centre.1, y, self.smoothing);
        Ok(report(&[by_x, by_y, by_z], self.tol, &[("lambda", *lambda), ("gap", gap)]))
    }
}

impl Registered for SlmReconstructed {
    const CARD: Card = Card {
        title: "SLM (reconstructed)",
        summary: "smoothed Lagrangian of g − min g ≤ slack; not the published update",
        paper: "after S. Lu, NeurIPS 2023",
        targets: &[HyperObjective::Penalised],
        oracles: &[
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerValue,
            Oracle::LowerGradX,
            Oracle::LowerGradY,
        ],
    };
    fn small() -> Self {
        Self { step_z: 0.02, ..Self::default() }
    }
}
