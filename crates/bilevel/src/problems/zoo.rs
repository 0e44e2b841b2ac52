//! One [`Problem`] type for every problem of the zoo.

use std::sync::Arc;

use super::{
    closed_form::{ClosedForm, GradientNorms},
    combinators::Anchored,
    formulas::{Branch, Formulas, KnownAnswer},
};
use crate::{
    error::OracleResult,
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::{Dense, Vector},
};

/// A problem of the zoo: formulas behind one type, so that a solver is compiled once for all of them.
#[derive(Clone, Debug)]
pub struct Zoo {
    upper: Upper,
    lower: Lower,
    start: Start,
}

/// The upper objective of a [`Zoo`].
#[derive(Clone, Debug)]
pub struct Upper(Arc<dyn Formulas>);

/// The lower objective of a [`Zoo`], with exact second derivatives.
#[derive(Clone, Debug)]
pub struct Lower(Arc<dyn Formulas>);

/// Where a run starts, as far as it differs from the problem's own start.
#[derive(Clone, Debug, Default)]
struct Start {
    x: Option<Dense>,
    /// Taken in turn by the seed; empty: the problem's own.
    seeds: Vec<Dense>,
}

impl Zoo {
    /// A problem from its formulas, with its own start.
    pub fn new(formulas: impl Formulas + 'static) -> Self {
        Self::from_shared(Arc::new(formulas), Start::default())
    }
    fn from_shared(formulas: Arc<dyn Formulas>, start: Start) -> Self {
        Self { upper: Upper(Arc::clone(&formulas)), lower: Lower(formulas), start }
    }
    /// The same problem with q = (ρ/2)|x − x₀|² added to f; S, y* and v are unchanged.
    #[must_use]
    pub fn anchored(self, rho: f64, centre: impl Into<Dense>) -> Self {
        let anchored = Anchored::new(self.upper.0, rho, centre.into());
        Self::from_shared(Arc::new(anchored), self.start)
    }
    /// The same problem started at x.
    #[must_use]
    pub fn starting_at(mut self, x: impl Into<Dense>) -> Self {
        let x = x.into();
        assert_eq!(x.len(), self.dims().0, "start x of another dimension");
        self.start.x = Some(x);
        self
    }
    /// The same problem with these lower starting points; seed s takes number s modulo their count.
    #[must_use]
    pub fn with_seeds(mut self, seeds: Vec<Dense>) -> Self {
        assert!(seeds.iter().all(|y| y.len() == self.dims().1), "lower start of another dimension");
        self.start.seeds = seeds;
        self
    }

    /// The formulas.
    pub fn formulas(&self) -> &dyn Formulas {
        self.upper.0.as_ref()
    }
    /// The dimensions (m, d) of x and y.
    pub fn dims(&self) -> (usize, usize) {
        self.formulas().dims()
    }
    /// The dimension k of S(x), `None` when S(x) is empty or not a manifold.
    pub fn intrinsic_dim(&self) -> Option<usize> {
        self.formulas().intrinsic_dim()
    }
    /// The optimistic answer by the closed form; see [`Formulas::known`].
    pub fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        self.formulas().known(x)
    }
    /// The pessimistic answer by the closed form; see [`Formulas::known_pessimistic`].
    pub fn known_pessimistic(&self, x: &[f64]) -> Option<KnownAnswer> {
        self.formulas().known_pessimistic(x)
    }
    /// Gradients and minimisers of every target; see [`Formulas::closed_form`].
    pub fn closed_form(&self) -> Option<&dyn ClosedForm> {
        self.formulas().closed_form()
    }
    /// Norms of the gradients of the selected and of the optimistic target at a point of a run, as far as there are closed
    /// forms. No oracle is called.
    pub fn gradient_norms(&self, x: &[f64], y: &[f64]) -> GradientNorms {
        let norm = |gradient: Vec<f64>| gradient.norm();
        match self.closed_form() {
            Some(forms) => GradientNorms {
                selected: forms.selected_gradient(x, y).map(norm),
                optimistic: forms.optimistic_gradient(x).map(norm),
            },
            None => GradientNorms {
                selected: None,
                optimistic: self.known(x).and_then(|known| known.gradient).map(norm),
            },
        }
    }
    /// Strict local minimisers of f on S(x); see [`Formulas::branches`].
    pub fn branches(&self, x: &[f64]) -> Vec<Branch> {
        self.formulas().branches(x)
    }
}

impl Objective<Dense, Dense> for Upper {
    fn value(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<f64> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.f(x, y, s),
            None => self.0.f(x, y),
        })
    }
    fn grad_x(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.f_grad_x(x, y, s),
            None => self.0.f_grad_x(x, y),
        })
    }
    fn grad_y(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.f_grad_y(x, y, s),
            None => self.0.f_grad_y(x, y),
        })
    }
    fn grad(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<(Dense, Dense)> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.f_grad(x, y, s),
            None => (self.0.f_grad_x(x, y), self.0.f_grad_y(x, y)),
        })
    }
    fn n_samples(&self) -> Option<u64> {
        self.0.finite_sum().map(|sum| sum.terms().0)
    }
}

impl Objective<Dense, Dense> for Lower {
    fn value(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<f64> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.g(x, y, s),
            None => self.0.g(x, y),
        })
    }
    fn grad_x(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.g_grad_x(x, y, s),
            None => self.0.g_grad_x(x, y),
        })
    }
    fn grad_y(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.g_grad_y(x, y, s),
            None => self.0.g_grad_y(x, y),
        })
    }
    fn grad(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<(Dense, Dense)> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.g_grad(x, y, s),
            None => (self.0.g_grad_x(x, y), self.0.g_grad_y(x, y)),
        })
    }
    fn n_samples(&self) -> Option<u64> {
        self.0.finite_sum().map(|sum| sum.terms().1)
    }
}

impl SecondOrder<Dense, Dense> for Lower {
    fn hvp_yy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.g_hvp_yy(x, y, v, s),
            None => self.0.g_hvp_yy(x, y, v),
        })
    }
    fn jvp_xy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
        Ok(match self.0.finite_sum() {
            Some(sum) => sum.g_jvp_xy(x, y, v, s),
            None => self.0.g_jvp_xy(x, y, v),
        })
    }
}

impl Problem for Zoo {
    type X = Dense;
    type Y = Dense;
    type Upper = Upper;
    type Lower = Lower;

    fn upper(&self) -> &Upper {
        &self.upper
    }
    fn lower(&self) -> &Lower {
        &self.lower
    }
    fn start(&self, seed: u64) -> (Dense, Dense) {
        let x = self.start.x.clone().unwrap_or_else(|| self.formulas().default_x());
        let y = match self.start.seeds.len() as u64 {
            0 => self.formulas().start_y(&x, seed),
            count => self.start.seeds[(seed % count) as usize].clone(),
        };
        (x, y)
    }
    fn prox_x(&self, x: &mut Dense, step: f64) {
        if let Some(prox) = self.formulas().prox_x() {
            prox(x, step);
        }
    }
    fn is_x_constrained(&self) -> bool {
        self.formulas().prox_x().is_some()
    }
    fn prox_y(&self, y: &mut Dense, step: f64) {
        if let Some(prox) = self.formulas().prox_y() {
            prox(y, step);
        }
    }
}
