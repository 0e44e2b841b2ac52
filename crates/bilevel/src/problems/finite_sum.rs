//! Problems whose levels are means of many terms, so that an oracle may be asked for a few of them.

use super::{
    arrays::DataArray,
    closed_form::ClosedForm,
    formulas::{Formulas, KnownAnswer},
};
use crate::problem::Sample;

/// A bilevel problem whose levels are f = (1/n_f) Σ f_i and g = (1/n_g) Σ g_i, both variables plain lists of `f64`.
///
/// Every function takes the terms that it averages over, each with equal weight: all of them, or those with the indices of a
/// batch, which may hold an index twice. Parts of a level that are no sum (a regulariser) belong to every term. m is the
/// dimension of x, d that of y. [`Sum`] makes a problem of the zoo of it.
pub trait FiniteSum: std::fmt::Debug + Send + Sync {
    /// The dimensions (m, d) of x and y.
    fn dims(&self) -> (usize, usize);
    /// The numbers of terms (n_f, n_g).
    fn terms(&self) -> (u64, u64);
    /// The dimension k of the solution set S(x), `None` when it is not known.
    fn intrinsic_dim(&self) -> Option<usize>;

    /// f(x, y).
    fn f(&self, x: &[f64], y: &[f64], s: Sample) -> f64;
    /// ∇_x f, m numbers.
    fn f_grad_x(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64>;
    /// ∇_y f, d numbers.
    fn f_grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64>;
    /// (∇_x f, ∇_y f); override when one pass gives both.
    fn f_grad(&self, x: &[f64], y: &[f64], s: Sample) -> (Vec<f64>, Vec<f64>) {
        (self.f_grad_x(x, y, s), self.f_grad_y(x, y, s))
    }

    /// g(x, y).
    fn g(&self, x: &[f64], y: &[f64], s: Sample) -> f64;
    /// ∇_x g, m numbers.
    fn g_grad_x(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64>;
    /// ∇_y g, d numbers.
    fn g_grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64>;
    /// (∇_x g, ∇_y g); override when one pass gives both.
    fn g_grad(&self, x: &[f64], y: &[f64], s: Sample) -> (Vec<f64>, Vec<f64>) {
        (self.g_grad_x(x, y, s), self.g_grad_y(x, y, s))
    }
    /// H u = ∇²_yy g · u, d numbers.
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64], s: Sample) -> Vec<f64>;
    /// J u = ∇²_xy g · u, m numbers.
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64], s: Sample) -> Vec<f64>;

    /// Where a run starts by default.
    fn default_x(&self) -> Vec<f64>;
    /// A lower starting point for a seed.
    fn start_y(&self, x: &[f64], seed: u64) -> Vec<f64>;
    /// x ← prox of the upper constraint; `None` when x is free.
    fn prox_x(&self) -> Option<fn(&mut [f64], f64)> {
        None
    }
    /// See [`Formulas::known`].
    fn known(&self, _x: &[f64]) -> Option<KnownAnswer> {
        None
    }
    /// See [`Formulas::metrics`].
    fn metrics(&self, _x: &[f64], _y: &[f64]) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
    /// See [`Formulas::arrays`].
    fn arrays(&self) -> Vec<DataArray> {
        Vec::new()
    }
    /// See [`Formulas::closed_form`].
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        None
    }
}

/// A finite sum as a problem of the zoo: its formulas are those over all terms.
#[derive(Clone, Copy, Debug)]
pub struct Sum<T>(pub T);

impl<T: FiniteSum> Formulas for Sum<T> {
    fn dims(&self) -> (usize, usize) {
        self.0.dims()
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        self.0.intrinsic_dim()
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        self.0.f(x, y, Sample::Full)
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.0.f_grad_x(x, y, Sample::Full)
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.0.f_grad_y(x, y, Sample::Full)
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        self.0.g(x, y, Sample::Full)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.0.g_grad_x(x, y, Sample::Full)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.0.g_grad_y(x, y, Sample::Full)
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        self.0.g_hvp_yy(x, y, u, Sample::Full)
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        self.0.g_jvp_xy(x, y, u, Sample::Full)
    }
    fn default_x(&self) -> Vec<f64> {
        self.0.default_x()
    }
    fn start_y(&self, x: &[f64], seed: u64) -> Vec<f64> {
        self.0.start_y(x, seed)
    }
    fn prox_x(&self) -> Option<fn(&mut [f64], f64)> {
        self.0.prox_x()
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        self.0.known(x)
    }
    fn metrics(&self, x: &[f64], y: &[f64]) -> Vec<(&'static str, f64)> {
        self.0.metrics(x, y)
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        self.0.closed_form()
    }
    fn arrays(&self) -> Vec<DataArray> {
        self.0.arrays()
    }
    fn finite_sum(&self) -> Option<&dyn FiniteSum> {
        Some(&self.0)
    }
}
