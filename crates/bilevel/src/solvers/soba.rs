//! SOBA: one stochastic step of x, y and v at once.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    implicit::{Direction, Directions},
    penalty::{Batches, batch, positive, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Problem, SecondOrder},
    vector::Vector,
};

/// Plain stochastic estimates of all three directions, from one batch of each level.
///
/// # Problem
///
/// Finite sums or streams, g(x, ·) strongly convex. X and Y may be constrained by their prox.
///
/// # Method
///
/// From the old (x, y, v), on one batch of each level; the paper's v is −v.
///
/// ```text
/// 1  D_y = ∇_y g,   D_v = H v − ∇_y f  (least-squares: H(H v − ∇_y f)),   D_x = ∇_x f − J v
/// 2  m ← (1 − averaging)m + averaging·D_x
/// 3  y ← prox(y − step_y D_y),  v ← v − step_v D_v,  x ← prox(x − step_x m)
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_y`, `step_v` | ρ | 0.1 | benchopt/benchmark_bilevel, where they are one |
/// | `step_x` | γ = ρ/outer ratio | 0.1 | benchopt/benchmark_bilevel |
/// | `decay` | – | 0.5: every step is multiplied by (k + 1)^−decay; 0 for exact gradients | benchopt/benchmark_bilevel |
/// | `batch` | – | everything; 64 in the benchmark | benchopt/benchmark_bilevel |
/// | `averaging` | – | 1, no average; below 1 it is MA-SOBA | ours |
/// | `direction` | – | plain | the paper |
/// | `tol` | – | none | ends the run when all three moves are at most this |
///
/// # Cost
///
/// On one batch: one `grad_y` of g, one `hvp_yy` (2 for least squares), one `jvp_xy`, one gradient of f.
///
/// # Guarantee
///
/// The rate of stochastic gradient descent on F, O(T^-1/2) on the squared norm (recalled from the paper).
///
/// # Target
///
/// Selected.
///
/// # Deviations
///
/// On a singular H the kernel part of v drifts, as for every step on H v − ∇_y f; `direction = "least-squares"` keeps v in the
/// range.
///
/// # Source
///
/// M. Dagréou, P. Ablin, S. Vaiter, T. Moreau, *A framework for bilevel optimization that enables stochastic and global variance
/// reduction algorithms*, NeurIPS 2022; update and constants as in benchopt/benchmark_bilevel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Soba {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of v.
    pub step_v: f64,
    /// Power of the decay of the steps.
    pub decay: f64,
    /// Batch size of both levels; `None`: everything.
    pub batch: Option<u64>,
    /// Weight of the new direction in the average along which x moves.
    pub averaging: f64,
    /// How v moves.
    pub direction: Direction,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Soba {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.1,
            step_v: 0.1,
            decay: 0.5,
            batch: None,
            averaging: 1.0,
            direction: Direction::Plain,
            tol: None,
        }
    }
}

/// State of [`Soba`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct SobaState<X, Y> {
    x: X,
    y: Y,
    v: Y,
    /// m; `None` before the first step.
    average: Option<X>,
    step: u64,
    batches: Batches,
}

impl<X: Vector, Y: Vector> State<X, Y> for SobaState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl<P: Problem> Solver<P> for Soba
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = SobaState<P::X, P::Y>;
    const NAME: &'static str = "soba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        ConfigError::require(
            (0.0..=1.0).contains(&self.decay),
            "decay",
            self.decay,
            "give 0 for constant steps, or a power up to 1",
        )?;
        batch("batch", self.batch)?;
        ConfigError::require(
            self.averaging > 0.0 && self.averaging <= 1.0,
            "averaging",
            self.averaging,
            "give a weight above 0 and at most 1; 1 takes no average",
        )?;
        tolerance(self.tol)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let batches = Batches::new(oracles, self.batch, seed, 0)?;
        Ok(SobaState { x, v: y.zeros_like(), y, average: None, step: 0, batches })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let SobaState { x, y, v, average, step, batches } = state;
        let (upper, lower) = (batches.upper(), batches.lower());
        let s = lower.sample();
        let mut moved = Directions::at(oracles, (x, y, v), self.direction, (upper.sample(), s, s))?;
        if let Some(average) = average {
            moved.x.scale(self.averaging);
            moved.x.axpy(1.0 - self.averaging, average);
        }
        let shrink = ((*step + 1) as f64).powf(-self.decay);
        let steps = (self.step_x * shrink, self.step_y * shrink, self.step_v * shrink);
        let info = moved.advance(oracles, (x, y, v), steps, self.tol);
        *average = (self.averaging < 1.0).then_some(moved.x);
        *step += 1;
        Ok(info)
    }
}

impl Registered for Soba {
    const CARD: Card = Card {
        title: "SOBA, MA-SOBA",
        summary: "one stochastic step each of x, y and v",
        paper: "NeurIPS 2022, arXiv 2201.13409",
        targets: &[HyperObjective::Selected],
        oracles: &[
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerGradY,
            Oracle::LowerHvpYy,
            Oracle::LowerJvpXy,
        ],
    };
    fn small() -> Self {
        // the problems of the tests have lower Hessians of norm 10
        Self { step_y: 0.05, step_v: 0.05, ..Self::default() }
    }
}
