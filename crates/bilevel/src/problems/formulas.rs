//! What one problem of the zoo states: its functions, its start, and its hyper-objective in closed form.

use super::{arrays::DataArray, closed_form::ClosedForm, finite_sum::FiniteSum};

/// A bilevel problem given by formulas, both variables plain lists of `f64`.
///
/// Object safe, so that a solver is compiled once for the whole zoo (as [`super::Zoo`]).
/// m is the dimension of x, d that of y.
pub trait Formulas: std::fmt::Debug + Send + Sync {
    /// The dimensions (m, d) of x and y.
    fn dims(&self) -> (usize, usize);
    /// The dimension k of the solution set S(x), `None` when S(x) is empty or not a manifold.
    fn intrinsic_dim(&self) -> Option<usize>;

    /// f(x, y).
    fn f(&self, x: &[f64], y: &[f64]) -> f64;
    /// ∇_x f, m numbers.
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64>;
    /// ∇_y f, d numbers.
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64>;

    /// g(x, y).
    fn g(&self, x: &[f64], y: &[f64]) -> f64;
    /// ∇_x g, m numbers.
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64>;
    /// ∇_y g, d numbers.
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64>;
    /// H u = ∇²_yy g · u, d numbers.
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64>;
    /// J u = ∇²_xy g · u, m numbers.
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64>;

    /// The x at which the specification prints its values; also where a run starts by default.
    fn default_x(&self) -> Vec<f64>;
    /// A lower starting point for a seed, off S(x).
    fn start_y(&self, x: &[f64], seed: u64) -> Vec<f64>;
    /// x ← prox of the upper constraint; `None` when x is free.
    fn prox_x(&self) -> Option<fn(&mut [f64], f64)> {
        None
    }
    /// y ← prox of the lower constraint; `None` when y is free.
    fn prox_y(&self) -> Option<fn(&mut [f64], f64)> {
        None
    }

    /// The optimistic answer F(x) = min { f(x, y) : y ∈ S(x) } by the closed form; `None` where there is none
    /// (S(x) empty, f unbounded on it, or x outside the domain of the formula).
    fn known(&self, x: &[f64]) -> Option<KnownAnswer>;
    /// The pessimistic answer max { f(x, y) : y ∈ S(x) } by the closed form, where one is known.
    fn known_pessimistic(&self, _x: &[f64]) -> Option<KnownAnswer> {
        None
    }
    /// Every strict local minimiser of f on S(x), by value ascending, where the closed form lists them; else empty.
    fn branches(&self, _x: &[f64]) -> Vec<Branch> {
        Vec::new()
    }
    /// Numbers that the problem measures itself by, by name: a recovery error, an accuracy. Not part of any level.
    fn metrics(&self, _x: &[f64], _y: &[f64]) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
    /// Gradients and minimisers of every target, for problems that have them all; a benchmark judges runs by them.
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        None
    }
    /// The data of the instance, so that other software can state it; empty where a problem does not tell.
    fn arrays(&self) -> Vec<DataArray> {
        Vec::new()
    }
    /// The levels as means of terms, for problems that are finite sums ([`super::Sum`]); `None`: one term each.
    fn finite_sum(&self) -> Option<&dyn FiniteSum> {
        None
    }
}

/// What the closed form says at one x.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownAnswer {
    /// F(x).
    pub value: f64,
    /// ∇F(x); `None` where F has a kink.
    pub gradient: Option<Vec<f64>>,
    /// The selection y*; `None` where it is not one point (a tie, an orbit, a continuum), or no stationary point of g (on the
    /// boundary of a lower constraint).
    pub selection: Option<Vec<f64>>,
    /// v = H⁺∇_y f at the selection; `None` with it.
    pub v: Option<Vec<f64>>,
    /// Eigenvalues of the Riemannian Hessian M_T of f on S(x) at the selection, ascending, k numbers.
    pub curvatures: Option<Vec<f64>>,
    /// The eigenvalues of H at the selection that are not zero, ascending, d − k numbers.
    pub lower_spectrum: Option<Vec<f64>>,
    /// Rows of the hyper-Hessian ∇²F; `None` where F is not twice differentiable.
    pub hyper_hessian: Option<Vec<Vec<f64>>>,
}

/// One strict local minimiser of f on S(x), and the smooth function of x that it traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The minimiser.
    pub point: Vec<f64>,
    /// Value of f there, as a function of x the branch function.
    pub value: f64,
    /// Gradient of the branch function.
    pub gradient: Vec<f64>,
    /// Eigenvalues of M_T there, ascending.
    pub curvatures: Vec<f64>,
}
