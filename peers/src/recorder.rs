//! Which batches a solver draws, call by call, so that other software can be given the same ones.

use std::cell::RefCell;

use bilevel::{
    Objective, Problem, Sample, SecondOrder,
    error::OracleResult,
    problems::{Lower, Upper, Zoo},
    vector::Dense,
};

/// Batches in the order of the calls, by kind of call. A full sum is an empty batch.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// `grad`.
    pub grad: Vec<Vec<u64>>,
    /// `grad_x`.
    pub grad_x: Vec<Vec<u64>>,
    /// `grad_y`.
    pub grad_y: Vec<Vec<u64>>,
}

/// A level that notes the batches of its gradients.
#[derive(Debug)]
pub struct Noting<'p, O> {
    inner: &'p O,
    noted: RefCell<Batches>,
}

impl<O> Noting<'_, O> {
    fn note(&self, s: Sample, list: impl FnOnce(&mut Batches) -> &mut Vec<Vec<u64>>) {
        let batch = match s {
            Sample::Full => Vec::new(),
            Sample::Batch(indices) => indices.to_vec(),
        };
        list(&mut self.noted.borrow_mut()).push(batch);
    }
}

impl<O: Objective<Dense, Dense>> Objective<Dense, Dense> for Noting<'_, O> {
    fn value(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<f64> {
        self.inner.value(x, y, s)
    }
    fn grad_x(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        self.note(s, |noted| &mut noted.grad_x);
        self.inner.grad_x(x, y, s)
    }
    fn grad_y(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        self.note(s, |noted| &mut noted.grad_y);
        self.inner.grad_y(x, y, s)
    }
    fn grad(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<(Dense, Dense)> {
        self.note(s, |noted| &mut noted.grad);
        self.inner.grad(x, y, s)
    }
    fn n_samples(&self) -> Option<u64> {
        self.inner.n_samples()
    }
}

impl<O: SecondOrder<Dense, Dense>> SecondOrder<Dense, Dense> for Noting<'_, O> {
    fn hvp_yy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
        self.inner.hvp_yy(x, y, v, s)
    }
    fn jvp_xy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
        self.inner.jvp_xy(x, y, v, s)
    }
}

/// A problem of the zoo that notes the batches it is asked for.
#[derive(Debug)]
pub struct Recorder<'p> {
    problem: &'p Zoo,
    upper: Noting<'p, Upper>,
    lower: Noting<'p, Lower>,
}

impl<'p> Recorder<'p> {
    /// Nothing noted so far.
    pub fn new(problem: &'p Zoo) -> Self {
        Self {
            problem,
            upper: Noting { inner: problem.upper(), noted: RefCell::default() },
            lower: Noting { inner: problem.lower(), noted: RefCell::default() },
        }
    }
    /// What was noted of f and of g.
    pub fn noted(self) -> (Batches, Batches) {
        (self.upper.noted.into_inner(), self.lower.noted.into_inner())
    }
}

impl<'p> Problem for Recorder<'p> {
    type X = Dense;
    type Y = Dense;
    type Upper = Noting<'p, Upper>;
    type Lower = Noting<'p, Lower>;
    fn upper(&self) -> &Self::Upper {
        &self.upper
    }
    fn lower(&self) -> &Self::Lower {
        &self.lower
    }
    fn start(&self, seed: u64) -> (Dense, Dense) {
        self.problem.start(seed)
    }
    fn prox_x(&self, x: &mut Dense, step: f64) {
        self.problem.prox_x(x, step);
    }
    fn is_x_constrained(&self) -> bool {
        self.problem.is_x_constrained()
    }
    fn prox_y(&self, y: &mut Dense, step: f64) {
        self.problem.prox_y(y, step);
    }
}
