//! What the methods that penalise the value gap share: the second lower iterate z, lower loops, the gradient of the
//! penalty, steps in x and y, batches, and the words of their settings.

mod batches;
mod lower_loop;
mod settings;
mod two_loops;

pub use batches::Batches;
pub use settings::{LambdaSchedule, Variant, ZStart};
pub use two_loops::LowerGradient;

pub(super) use lower_loop::{Descent, Momentum, descend};
pub(super) use settings::{at_least_one, batch, fraction, not_negative, positive, schedule, tolerance};
pub(super) use two_loops::{TwoLoops, direction_x};

use serde::{Deserialize, Serialize};

use super::{State, StepInfo};
use crate::{
    error::OracleResult,
    oracles::Oracles,
    problem::{Objective, Problem, Sample},
    run::Status,
    vector::Vector,
};

/// State of a method that keeps a pair (x, y), a second lower iterate z and the number of steps done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct PairState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Lower iterate of f + λg.
    pub y: Y,
    /// Lower iterate of g alone.
    pub z: Y,
    /// Steps done.
    pub step: u64,
}

impl<X: Vector, Y: Vector> PairState<X, Y> {
    /// z starts where y does.
    pub(super) fn new(x: X, y: Y) -> Self {
        Self { x, z: y.clone(), y, step: 0 }
    }
    /// Lets z start the step where [`ZStart`] says.
    pub(super) fn start_z(&mut self, rule: ZStart) {
        if rule == ZStart::Reset {
            self.z.clone_from(&self.y);
        }
    }
}

impl<X: Vector, Y: Vector> State<X, Y> for PairState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

/// z ← prox(z − step ∇_y g(x, z)), all steps of the loop; returns the norm of the last prox-gradient.
pub(super) fn descend_lower<P: Problem>(
    oracles: &Oracles<P>,
    x: &P::X,
    z: &mut P::Y,
    rule: Descent,
) -> OracleResult<f64> {
    descend(z, rule, &mut |z| oracles.lower.grad_y(x, z, Sample::Full), &|z, step| oracles.prox_y(z, step))
}

/// ∇f + λ(∇g(x, y) − (∇_x g(x, z), 0)) in its parts.
pub(super) struct GapGradient<X, Y> {
    /// (∇_x f, ∇_y f) at (x, y).
    pub upper: (X, Y),
    /// (∇_x g(x, y) − ∇_x g(x, z), ∇_y g(x, y)), the gradient of the value gap with z held.
    pub gap: (X, Y),
}

impl<X: Vector, Y: Vector> GapGradient<X, Y> {
    /// Both at (x, y) and z: one gradient of f, one of g, and ∇_x g once more.
    pub fn at<P: Problem<X = X, Y = Y>>(oracles: &Oracles<P>, x: &X, y: &Y, z: &Y) -> OracleResult<Self> {
        let upper = oracles.upper.grad(x, y, Sample::Full)?;
        let (mut gap_x, gap_y) = oracles.lower.grad(x, y, Sample::Full)?;
        gap_x.axpy(-1.0, &oracles.lower.grad_x(x, z, Sample::Full)?);
        Ok(Self { upper, gap: (gap_x, gap_y) })
    }
    /// ∇f + λ·gap.
    pub fn combined(self, lambda: f64) -> (X, Y) {
        let (mut by_x, mut by_y) = self.upper;
        by_x.axpy(lambda, &self.gap.0);
        by_y.axpy(lambda, &self.gap.1);
        (by_x, by_y)
    }
}

/// ⟨a, b⟩ in the product space of x and y.
pub(super) fn dot_pair<X: Vector, Y: Vector>(a: &(X, Y), b: &(X, Y)) -> f64 {
    a.0.dot(&b.0) + a.1.dot(&b.1)
}

/// x ← prox(x − step·d); returns the norm of the prox-gradient, which is |d| when x is free.
pub(super) fn step_x<P: Problem>(oracles: &Oracles<P>, x: &mut P::X, d: &P::X, step: f64) -> f64 {
    let old = x.clone();
    x.axpy(-step, d);
    oracles.prox_x(x, step);
    old.distance(x) / step
}

/// y ← prox(y − step·d); returns the norm of the prox-gradient.
pub(super) fn step_y<P: Problem>(oracles: &Oracles<P>, y: &mut P::Y, d: &P::Y, step: f64) -> f64 {
    let old = y.clone();
    y.axpy(-step, d);
    oracles.prox_y(y, step);
    old.distance(y) / step
}

/// centre ← (1 − part)·centre + part·v.
pub(super) fn follow<V: Vector>(centre: &mut V, v: &V, part: f64) {
    centre.scale(1.0 - part);
    centre.axpy(part, v);
}

/// The report of a step from the residuals of every variable that it moved: their joint norm is the measure of
/// stationarity, so that a z that runs off along an unbounded lower level is never taken for convergence.
pub(super) fn report(residuals: &[f64], tol: Option<f64>, extras: &[(&str, f64)]) -> StepInfo {
    let stationarity = residuals.iter().map(|r| r * r).sum::<f64>().sqrt();
    StepInfo {
        stationarity,
        end: tol.filter(|&tol| stationarity <= tol).map(|_| Status::LocallyConverged),
        extras: extras.iter().map(|&(name, value)| (name.to_owned(), value)).collect(),
        ..StepInfo::default()
    }
}
