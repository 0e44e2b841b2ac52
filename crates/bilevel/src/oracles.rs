//! Counted oracles: the only way in which a solver reaches a problem.

use std::cell::Cell;
use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::{
    error::{OracleError, OracleResult},
    problem::{Objective, Problem, Sample, SecondOrder, SecondOrderCost},
    vector::Vector,
};

/// Calls of one level's oracles, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Values.
    pub value: u64,
    /// Gradients in x.
    pub grad_x: u64,
    /// Gradients in y.
    pub grad_y: u64,
    /// Products H v.
    pub hvp_yy: u64,
    /// Products J v.
    pub jvp_xy: u64,
    /// Samples touched by all of these calls; a call on the full objective touches all of its terms.
    pub samples: u64,
}

impl Tally {
    /// Calls of every kind.
    pub fn calls(&self) -> u64 {
        self.value + self.grad_x + self.grad_y + self.hvp_yy + self.jvp_xy
    }
}

impl Add for Tally {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self {
            value: self.value + o.value,
            grad_x: self.grad_x + o.grad_x,
            grad_y: self.grad_y + o.grad_y,
            hvp_yy: self.hvp_yy + o.hvp_yy,
            jvp_xy: self.jvp_xy + o.jvp_xy,
            samples: self.samples + o.samples,
        }
    }
}

/// Calls of both levels' oracles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OracleCounts {
    /// Calls of f.
    pub upper: Tally,
    /// Calls of g.
    pub lower: Tally,
}

impl OracleCounts {
    /// Gradients of both levels, second-order products not counted.
    pub fn gradients(&self) -> u64 {
        self.upper.grad_x + self.upper.grad_y + self.lower.grad_x + self.lower.grad_y
    }
    /// The printed price of a run: gradients plus two for each second-order product (a Hessian product by reverse
    /// over forward mode costs about two gradients), values not counted.
    pub fn gradient_equivalents(&self) -> u64 {
        self.gradients() + 2 * (self.upper.hvp_yy + self.upper.jvp_xy + self.lower.hvp_yy + self.lower.jvp_xy)
    }
    /// Calls of every kind.
    pub fn calls(&self) -> u64 {
        self.upper.calls() + self.lower.calls()
    }
    /// Samples touched on both levels.
    pub fn samples(&self) -> u64 {
        self.upper.samples + self.lower.samples
    }
}

/// One kind of oracle call, for declarations of what a solver needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oracle {
    /// f.
    UpperValue,
    /// ∇_x f.
    UpperGradX,
    /// ∇_y f.
    UpperGradY,
    /// g.
    LowerValue,
    /// ∇_x g.
    LowerGradX,
    /// ∇_y g.
    LowerGradY,
    /// ∇²_yy g · v.
    LowerHvpYy,
    /// ∇²_xy g · v.
    LowerJvpXy,
}

impl Oracle {
    /// Every kind that a [`Problem`] can offer.
    pub const ALL: [Self; 8] = [
        Self::UpperValue,
        Self::UpperGradX,
        Self::UpperGradY,
        Self::LowerValue,
        Self::LowerGradX,
        Self::LowerGradY,
        Self::LowerHvpYy,
        Self::LowerJvpXy,
    ];
    /// Level and oracle as errors name them, for instance `lower.grad_y`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UpperValue => UPPER.value,
            Self::UpperGradX => UPPER.grad_x,
            Self::UpperGradY => UPPER.grad_y,
            Self::LowerValue => LOWER.value,
            Self::LowerGradX => LOWER.grad_x,
            Self::LowerGradY => LOWER.grad_y,
            Self::LowerHvpYy => LOWER.hvp_yy,
            Self::LowerJvpXy => LOWER.jvp_xy,
        }
    }
    /// Calls of this kind.
    pub fn calls(self, counts: &OracleCounts) -> u64 {
        match self {
            Self::UpperValue => counts.upper.value,
            Self::UpperGradX => counts.upper.grad_x,
            Self::UpperGradY => counts.upper.grad_y,
            Self::LowerValue => counts.lower.value,
            Self::LowerGradX => counts.lower.grad_x,
            Self::LowerGradY => counts.lower.grad_y,
            Self::LowerHvpYy => counts.lower.hvp_yy,
            Self::LowerJvpXy => counts.lower.jvp_xy,
        }
    }
}

/// Names of one level's oracles, for errors.
#[derive(Debug)]
struct Names {
    value: &'static str,
    grad_x: &'static str,
    grad_y: &'static str,
    hvp_yy: &'static str,
    jvp_xy: &'static str,
}
const UPPER: Names = Names {
    value: "upper.value",
    grad_x: "upper.grad_x",
    grad_y: "upper.grad_y",
    hvp_yy: "upper.hvp_yy",
    jvp_xy: "upper.jvp_xy",
};
const LOWER: Names = Names {
    value: "lower.value",
    grad_x: "lower.grad_x",
    grad_y: "lower.grad_y",
    hvp_yy: "lower.hvp_yy",
    jvp_xy: "lower.jvp_xy",
};

/// An objective whose calls are counted and whose answers are checked to be finite.
#[derive(Debug)]
pub struct Counted<'p, O> {
    inner: &'p O,
    tally: Cell<Tally>,
    names: &'static Names,
}

impl<'p, O> Counted<'p, O> {
    fn new(inner: &'p O, tally: Tally, names: &'static Names) -> Self {
        Self { inner, tally: Cell::new(tally), names }
    }
    /// Calls so far.
    pub fn tally(&self) -> Tally {
        self.tally.get()
    }
    fn count(&self, calls: u64, samples: u64, kind: impl FnOnce(&mut Tally, u64)) {
        let mut tally = self.tally.get();
        kind(&mut tally, calls);
        tally.samples += calls * samples;
        self.tally.set(tally);
    }
}

fn finite<V: Vector>(oracle: &'static str, v: V) -> OracleResult<V> {
    if v.is_finite() { Ok(v) } else { Err(OracleError::NonFinite { oracle }) }
}

impl<X: Vector, Y: Vector, O: Objective<X, Y>> Objective<X, Y> for Counted<'_, O> {
    fn value(&self, x: &X, y: &Y, s: Sample) -> OracleResult<f64> {
        self.count(1, s.size(self.inner.n_samples()), |t, n| t.value += n);
        let value = self.inner.value(x, y, s)?;
        if value.is_finite() { Ok(value) } else { Err(OracleError::NonFinite { oracle: self.names.value }) }
    }
    fn grad_x(&self, x: &X, y: &Y, s: Sample) -> OracleResult<X> {
        self.count(1, s.size(self.inner.n_samples()), |t, n| t.grad_x += n);
        finite(self.names.grad_x, self.inner.grad_x(x, y, s)?)
    }
    fn grad_y(&self, x: &X, y: &Y, s: Sample) -> OracleResult<Y> {
        self.count(1, s.size(self.inner.n_samples()), |t, n| t.grad_y += n);
        finite(self.names.grad_y, self.inner.grad_y(x, y, s)?)
    }
    fn grad(&self, x: &X, y: &Y, s: Sample) -> OracleResult<(X, Y)> {
        let size = s.size(self.inner.n_samples());
        self.count(1, size, |t, n| t.grad_x += n);
        self.count(1, size, |t, n| t.grad_y += n);
        let (grad_x, grad_y) = self.inner.grad(x, y, s)?;
        Ok((finite(self.names.grad_x, grad_x)?, finite(self.names.grad_y, grad_y)?))
    }
    fn n_samples(&self) -> Option<u64> {
        self.inner.n_samples()
    }
}

impl<X: Vector, Y: Vector, O: SecondOrder<X, Y>> SecondOrder<X, Y> for Counted<'_, O> {
    fn hvp_yy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<Y> {
        let size = s.size(self.inner.n_samples());
        match self.inner.second_order_cost() {
            SecondOrderCost::Exact => self.count(1, size, |t, n| t.hvp_yy += n),
            SecondOrderCost::Gradients(calls) => self.count(calls, size, |t, n| t.grad_y += n),
        }
        finite(self.names.hvp_yy, self.inner.hvp_yy(x, y, v, s)?)
    }
    fn jvp_xy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<X> {
        let size = s.size(self.inner.n_samples());
        match self.inner.second_order_cost() {
            SecondOrderCost::Exact => self.count(1, size, |t, n| t.jvp_xy += n),
            SecondOrderCost::Gradients(calls) => self.count(calls, size, |t, n| t.grad_x += n),
        }
        finite(self.names.jvp_xy, self.inner.jvp_xy(x, y, v, s)?)
    }
    fn second_order_cost(&self) -> SecondOrderCost {
        self.inner.second_order_cost()
    }
}

/// What a solver sees of a problem: counted objectives and the two proximal maps.
#[derive(Debug)]
pub struct Oracles<'p, P: Problem> {
    problem: &'p P,
    /// The upper objective f.
    pub upper: Counted<'p, P::Upper>,
    /// The lower objective g.
    pub lower: Counted<'p, P::Lower>,
}

impl<'p, P: Problem> Oracles<'p, P> {
    /// Oracles whose counts start at zero.
    pub fn new(problem: &'p P) -> Self {
        Self::counting_from(problem, OracleCounts::default())
    }
    /// Oracles whose counts go on from those of a checkpoint.
    pub fn counting_from(problem: &'p P, counts: OracleCounts) -> Self {
        Self {
            problem,
            upper: Counted::new(problem.upper(), counts.upper, &UPPER),
            lower: Counted::new(problem.lower(), counts.lower, &LOWER),
        }
    }
    /// x ← prox of the upper constraint.
    pub fn prox_x(&self, x: &mut P::X, step: f64) {
        self.problem.prox_x(x, step);
    }
    /// Whether x is constrained.
    pub fn is_x_constrained(&self) -> bool {
        self.problem.is_x_constrained()
    }
    /// y ← prox of the lower constraint.
    pub fn prox_y(&self, y: &mut P::Y, step: f64) {
        self.problem.prox_y(y, step);
    }
    /// Calls so far.
    pub fn counts(&self) -> OracleCounts {
        OracleCounts { upper: self.upper.tally(), lower: self.lower.tally() }
    }
}
