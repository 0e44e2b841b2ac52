//! SRBA: SOBA's step with differences of one batch at two points (SARAH), and a full pass from time to time.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    implicit::{Direction, Directions},
    penalty::{Batches, at_least_one, batch, positive, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// Directions that are corrected by one batch at the present and at the last point, and renewed by full passes.
///
/// # Problem
///
/// Finite sums, g(x, ·) strongly convex. X and Y may be constrained by their prox. With `period` given, a level may be any
/// expectation that can be asked for in full.
///
/// # Method
///
/// With D = (D_x, D_y, D_v) a function of the point u = (x, y, v) and of the terms that it averages over, the paper's v being −v:
///
/// ```text
/// 1  D_y = ∇_y g,   D_v = H v − ∇_y f  (least-squares: H(H v − ∇_y f), the two H on two batches),   D_x = ∇_x f − J v
/// 2  every period steps:   D̂ = D(u; everything)
///    else, on one batch B of each level:   D̂ ← D̂ + D(u; B) − D(u_last; B)
/// 3  y ← prox(y − step_y D̂_y),  v ← v − step_v D̂_v,  x ← prox(x − step_x D̂_x)
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_y`, `step_v` | ρ | 0.1, constant | benchopt/benchmark_bilevel, where they are one |
/// | `step_x` | γ = ρ/outer ratio | 0.1, constant | benchopt/benchmark_bilevel |
/// | `batch` | – | everything, which makes each step a renewal; 64 in the benchmark | benchopt/benchmark_bilevel |
/// | `period` | q | ⌈(n_f + n_g)/2·batch⌉ | benchopt/benchmark_bilevel, `period_frac` 0.5 |
/// | `direction` | – | plain | the paper |
/// | `tol` | – | none | ends the run when all three moves are at most this |
///
/// # Cost
///
/// On one batch: 2 `grad_y` of g, 2 `hvp_yy` (4 for least squares), 2 `jvp_xy` and 2 gradients of f; a renewal half of that, on
/// everything.
///
/// # Guarantee
///
/// O(√(n_f + n_g)/ε) calls for terms to a squared norm ε, as good as possible for a range of accuracies (recalled from the paper).
///
/// # Target
///
/// Selected.
///
/// # Deviations
///
/// The paper keeps v in a ball whose radius needs the constants of the problem (recalled); v is free here. Batches are drawn with
/// replacement from all terms, not as runs of consecutive ones. On a singular H the kernel part of v drifts, as for every
/// step on H v − ∇_y f; `direction = "least-squares"` keeps v in the range.
///
/// # Source
///
/// M. Dagréou, T. Moreau, S. Vaiter, P. Ablin, *A lower bound and a near-optimal algorithm for bilevel empirical risk
/// minimization*, AISTATS 2024, arXiv 2302.08766; constants as in benchopt/benchmark_bilevel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Srba {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of v.
    pub step_v: f64,
    /// Batch size of both levels; `None`: everything.
    pub batch: Option<u64>,
    /// Steps from one full pass to the next; `None`: as many as touch the terms of both levels about once.
    pub period: Option<u64>,
    /// How v moves.
    pub direction: Direction,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Srba {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.1,
            step_v: 0.1,
            batch: None,
            period: None,
            direction: Direction::Plain,
            tol: None,
        }
    }
}

/// State of [`Srba`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct SrbaState<X, Y> {
    x: X,
    y: Y,
    v: Y,
    /// D̂, and the point (x, y, v) at which it was last moved; `None` before the first step.
    estimate: Option<(Directions<X, Y>, X, Y, Y)>,
    step: u64,
    period: u64,
    batches: Batches,
}

impl<X: Vector, Y: Vector> State<X, Y> for SrbaState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl Srba {
    /// q for levels with these numbers of terms.
    fn period(&self, upper: Option<u64>, lower: Option<u64>) -> Result<u64, ConfigError> {
        match (self.period, self.batch, upper, lower) {
            (Some(period), ..) => Ok(period),
            (None, None, ..) => Ok(1),
            (None, Some(batch), Some(upper), Some(lower)) => Ok((upper + lower).div_ceil(2 * batch)),
            (None, Some(batch), ..) => Err(ConfigError::new(
                "batch",
                batch,
                "srba takes its period from the numbers of terms, and a level of this problem has none; give period, or \
                 leave batch out for exact averages",
            )),
        }
    }
}

impl<P: Problem> Solver<P> for Srba
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = SrbaState<P::X, P::Y>;
    const NAME: &'static str = "srba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        batch("batch", self.batch)?;
        self.period.map_or(Ok(()), |period| at_least_one("period", period))?;
        tolerance(self.tol)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let period = self
            .period(oracles.upper.n_samples(), oracles.lower.n_samples())
            .map_err(|error| OracleError::failed("n_samples", error))?;
        let batches = Batches::new(oracles, self.batch, seed, 0)?;
        Ok(SrbaState { x, v: y.zeros_like(), y, estimate: None, step: 0, period, batches })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let SrbaState { x, y, v, estimate, step, period, batches } = state;
        let at = |point: (&P::X, &P::Y, &P::Y), samples: (Sample, Sample, Sample)| {
            Directions::at(oracles, point, self.direction, samples)
        };
        let moved = match estimate.take().filter(|_| !step.is_multiple_of(*period)) {
            None => at((x, y, v), (Sample::Full, Sample::Full, Sample::Full))?,
            Some((mut moved, last_x, last_y, last_v)) => {
                let (upper, lower) = (batches.upper(), batches.lower());
                let second = (self.direction == Direction::LeastSquares).then(|| batches.lower());
                let s = lower.sample();
                let samples = (upper.sample(), s, second.as_ref().map_or(s, |second| second.sample()));
                moved.axpy(1.0, &at((x, y, v), samples)?);
                moved.axpy(-1.0, &at((&last_x, &last_y, &last_v), samples)?);
                moved
            }
        };
        let last = (x.clone(), y.clone(), v.clone());
        let info = moved.advance(oracles, (x, y, v), (self.step_x, self.step_y, self.step_v), self.tol);
        *estimate = Some((moved, last.0, last.1, last.2));
        *step += 1;
        Ok(info)
    }
}

impl Registered for Srba {
    const CARD: Card = Card {
        title: "SRBA",
        summary: "one step each of x, y and v, by differences of one batch and full passes from time to time",
        paper: "AISTATS 2024, arXiv 2302.08766",
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
