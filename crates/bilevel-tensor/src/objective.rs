//! Objectives by automatic differentiation of a loss, with products of second derivatives in three ways.

use bilevel::{Objective, OracleError, OracleResult, Sample, SecondOrder, SecondOrderCost, vector::Vector};
use candle_core::{DType, Device, Result, Tensor, Var, backprop::GradStore};

use crate::{
    check::{self, DerivativeError},
    loss::{Composite, Loss, Params},
    tree::TensorTree,
};

/// How products with second derivatives are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SecondOrderMode {
    /// Central differences of the gradient, two gradients a product, at y ± h v with h = radius·(1 + |y|)/|v|.
    /// Relative error about radius² + resolution/radius.
    FiniteDifference {
        /// The relative radius; [`SecondOrderMode::differences`] has the usual one.
        radius: f64,
    },
    /// The gradient of ⟨∇_y, v⟩: exact to rounding. Works only when the environment variable
    /// `CANDLE_GRAD_DO_NOT_DETACH` is 1 before the thread's first backward pass (every backward pass of the process
    /// then keeps its graph: about twice the time and four times the memory); refused with an error otherwise,
    /// since candle would answer with a wrong product.
    DoubleBackward,
    /// Jᵀ(∇²ℓ)(J v) + μ v for a loss that says its [`Composite`] form: symmetric and positive semidefinite, and
    /// equal to the Hessian product where the outputs are linear in y or the residuals vanish, as at an
    /// interpolating solution. Mixed products are central differences of `grad_x`, which has no such shortcut.
    GaussNewton {
        /// Relative radius of the differences of outputs and of `grad_x`.
        radius: f64,
    },
}

impl SecondOrderMode {
    /// The relative radius that balances truncation and rounding of a central difference: ∛resolution.
    pub fn radius_for(resolution: f64) -> f64 {
        resolution.cbrt()
    }
    /// Finite differences with the usual radius for the storage of `like`.
    pub fn differences(like: &TensorTree) -> Self {
        Self::FiniteDifference { radius: Self::radius_for(like.resolution()) }
    }
    /// Gauss–Newton products with the usual radius for the storage of `like`.
    pub fn gauss_newton(like: &TensorTree) -> Self {
        Self::GaussNewton { radius: Self::radius_for(like.resolution()) }
    }
}

/// A loss as an objective on trees of tensors.
#[derive(Clone, Debug)]
pub struct TensorObjective<L> {
    loss: L,
    mode: SecondOrderMode,
}

impl<L: Loss> TensorObjective<L> {
    /// An objective whose derivatives have been compared with differences of the loss and of its gradient at
    /// (x, y), along random directions drawn from the seed: every tensor of the gradient, `hvp_yy` and `jvp_xy`.
    ///
    /// The check costs 32 values per tensor of x and y and about 36 gradients, once. It finds what is
    /// silently wrong: an operation that drops its gradient, a detached tensor, a second backward pass without
    /// graph.
    ///
    /// # Errors
    /// The oracle that is wrong, with the tensor, both numbers and the remedy.
    ///
    /// ```
    /// use bilevel::{Objective, Sample, SecondOrder};
    /// use bilevel_tensor::{Params, SecondOrderMode, TensorObjective, TensorTree};
    /// use candle_core::{Device, Result, Tensor};
    ///
    /// // g(x, y) = x·(y₁² y₂): flat along the whole line y₁ = 0
    /// let loss = |x: &Params, y: &Params, _: Sample| -> Result<Tensor> {
    ///     x.get("x")?.mul(y.get("y1")?)?.mul(y.get("y1")?)?.mul(y.get("y2")?)?.sum_all()
    /// };
    /// let tree = |entries: &[(&str, f64)]| {
    ///     let entry = |&(name, value): &(&str, f64)| Ok((name.to_owned(), Tensor::new(&[value], &Device::Cpu)?));
    ///     TensorTree::new(entries.iter().map(entry).collect::<Result<Vec<_>>>()?)
    /// };
    /// let (x, y) = (tree(&[("x", 2.0)])?, tree(&[("y1", 3.0), ("y2", 5.0)])?);
    /// let g = TensorObjective::checked(loss, SecondOrderMode::differences(&y), &x, &y, Sample::Full, 0)?;
    /// assert_eq!(g.value(&x, &y, Sample::Full)?, 90.0);
    /// assert_eq!(g.grad_y(&x, &y, Sample::Full)?.get("y1").unwrap().to_vec1::<f64>()?, [60.0]);
    /// // H (1, 0) = (2 x y₂, 2 x y₁)
    /// let h = g.hvp_yy(&x, &y, &tree(&[("y1", 1.0), ("y2", 0.0)])?, Sample::Full)?;
    /// assert!((h.get("y2").unwrap().to_vec1::<f64>()?[0] - 12.0).abs() < 1e-8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checked(
        loss: L,
        mode: SecondOrderMode,
        x: &TensorTree,
        y: &TensorTree,
        sample: Sample,
        seed: u64,
    ) -> std::result::Result<Self, DerivativeError> {
        let objective = Self::unchecked(loss, mode);
        check::derivatives(&objective, x, y, sample, seed)?;
        Ok(objective)
    }

    /// An objective without the check, for a loss and a mode that were checked before.
    pub fn unchecked(loss: L, mode: SecondOrderMode) -> Self {
        Self { loss, mode }
    }

    /// The loss.
    pub fn loss(&self) -> &L {
        &self.loss
    }
    /// How products are made.
    pub fn mode(&self) -> SecondOrderMode {
        self.mode
    }

    pub(crate) fn try_value(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> Result<f64> {
        scalar(&self.loss.loss(&Params::constants(x), &Params::constants(y), s)?)
    }
    pub(crate) fn try_grad_x(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> Result<TensorTree> {
        let vars = x.to_vars()?;
        let store = backward(&self.loss.loss(&Params::variables(&vars), &Params::constants(y), s)?)?;
        gradient(&store, x, &vars)
    }
    pub(crate) fn try_grad_y(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> Result<TensorTree> {
        let vars = y.to_vars()?;
        let store = backward(&self.loss.loss(&Params::constants(x), &Params::variables(&vars), s)?)?;
        gradient(&store, y, &vars)
    }

    /// The derivative of a function of y along v by central differences.
    fn along<T: Vector>(
        y: &TensorTree,
        v: &TensorTree,
        radius: f64,
        zero: impl FnOnce() -> T,
        of: impl Fn(&TensorTree) -> Result<T>,
    ) -> Result<T> {
        let norm = v.norm();
        if norm == 0.0 {
            return Ok(zero());
        }
        let h = radius * (1.0 + y.norm()) / norm;
        let mut difference = of(&y.plus(h, v))?;
        difference.axpy(-1.0, &of(&y.plus(-h, v))?);
        difference.scale(0.5 / h);
        Ok(difference)
    }

    /// ∇ of ⟨∇_y, v⟩ with respect to y, or to x; wrong unless [`double_backward_works`].
    pub(crate) fn double_backward(
        &self,
        x: &TensorTree,
        y: &TensorTree,
        v: &TensorTree,
        s: Sample,
        wrt_x: bool,
    ) -> Result<TensorTree> {
        let (x_vars, y_vars) = (x.to_vars()?, y.to_vars()?);
        let loss = self.loss.loss(&Params::variables(&x_vars), &Params::variables(&y_vars), s)?;
        let first = backward(&loss)?;
        let mut product: Option<Tensor> = None;
        for ((_, var), (_, v)) in y_vars.iter().zip(v.iter()) {
            if let Some(gradient) = first.get(var) {
                let term = gradient.mul(v)?.sum_all()?;
                product = Some(match product {
                    Some(sum) => sum.add(&term)?,
                    None => term,
                });
            }
        }
        let (like, vars) = if wrt_x { (x, &x_vars) } else { (y, &y_vars) };
        match product {
            Some(product) => gradient(&backward(&product)?, like, vars),
            None => Ok(like.zeros_like()),
        }
    }

    /// Jᵀ(∇²ℓ)(J v) + μ v.
    fn gauss_newton(
        &self,
        x: &TensorTree,
        y: &TensorTree,
        v: &TensorTree,
        radius: f64,
        s: Sample,
    ) -> Result<TensorTree> {
        let composite = self.composite()?;
        let constants = Params::constants(x);
        // J v by a difference of outputs; the outputs as a tree of one tensor
        let as_tree = |outputs: Tensor| -> Result<TensorTree> {
            TensorTree::new(vec![("outputs".into(), outputs)]).map_err(candle_core::Error::wrap)
        };
        if v.norm() == 0.0 {
            return Ok(v.zeros_like());
        }
        let outputs_at = |y: &TensorTree| as_tree(composite.outputs(&constants, &Params::constants(y), s)?);
        let tangent = Self::along(y, v, radius, || unreachable!("v is not zero"), outputs_at)?;
        // u = (∇²ℓ) J v
        let vars = y.to_vars()?;
        let outputs = composite.outputs(&constants, &Params::variables(&vars), s)?;
        let fixed = as_tree(outputs.clone())?;
        let u = curvature(composite, &constants, &fixed, &tangent, radius, s)?;
        // Jᵀu is the gradient of ⟨o, u⟩ with u held fixed
        let pulled = outputs.mul(u.get("outputs").expect("one tensor"))?.sum_all()?;
        let mut product = gradient(&backward(&pulled)?, y, &vars)?;
        product.axpy(composite.weight_decay(), v);
        Ok(product)
    }

    pub(crate) fn composite(&self) -> Result<&dyn Composite> {
        self.loss.composite().ok_or_else(|| {
            candle_core::Error::Msg(
                "Gauss–Newton products need the loss as a function of outputs: implement Loss::composite, or \
                 choose finite differences"
                    .into(),
            )
        })
    }

    pub(crate) fn try_hvp_yy(
        &self,
        x: &TensorTree,
        y: &TensorTree,
        v: &TensorTree,
        s: Sample,
    ) -> Result<TensorTree> {
        match self.mode {
            SecondOrderMode::FiniteDifference { radius } => {
                Self::along(y, v, radius, || y.zeros_like(), |y| self.try_grad_y(x, y, s))
            }
            SecondOrderMode::DoubleBackward => {
                require_double_backward()?;
                self.double_backward(x, y, v, s, false)
            }
            SecondOrderMode::GaussNewton { radius } => self.gauss_newton(x, y, v, radius, s),
        }
    }
    pub(crate) fn try_jvp_xy(
        &self,
        x: &TensorTree,
        y: &TensorTree,
        v: &TensorTree,
        s: Sample,
    ) -> Result<TensorTree> {
        match self.mode {
            SecondOrderMode::FiniteDifference { radius } | SecondOrderMode::GaussNewton { radius } => {
                Self::along(y, v, radius, || x.zeros_like(), |y| self.try_grad_x(x, y, s))
            }
            SecondOrderMode::DoubleBackward => {
                require_double_backward()?;
                self.double_backward(x, y, v, s, true)
            }
        }
    }
}

/// (∇²ℓ) u at the outputs: what the user gives, or a difference of ∇ℓ.
pub(crate) fn curvature(
    composite: &dyn Composite,
    x: &Params,
    outputs: &TensorTree,
    u: &TensorTree,
    radius: f64,
    s: Sample,
) -> Result<TensorTree> {
    let tensor = |tree: &TensorTree| tree.get("outputs").expect("one tensor").clone();
    if let Some(product) = composite.curvature(x, &tensor(outputs), &tensor(u), s) {
        return u.with_tensors([product?]);
    }
    curvature_by_differences(composite, x, outputs, u, radius, s)
}

/// (∇²ℓ) u by a central difference of ∇ℓ.
pub(crate) fn curvature_by_differences(
    composite: &dyn Composite,
    x: &Params,
    outputs: &TensorTree,
    u: &TensorTree,
    radius: f64,
    s: Sample,
) -> Result<TensorTree> {
    let slope = |outputs: &TensorTree| -> Result<TensorTree> {
        let vars = outputs.to_vars()?;
        gradient(&backward(&composite.loss_of(x, vars[0].1.as_tensor(), s)?)?, outputs, &vars)
    };
    TensorObjective::<NoLoss>::along(outputs, u, radius, || u.zeros_like(), slope)
}

/// Stands for the loss where only the differencing is used.
enum NoLoss {}
impl Loss for NoLoss {
    fn loss(&self, _: &Params, _: &Params, _: Sample) -> Result<Tensor> {
        match *self {}
    }
}

pub(crate) const DOUBLE_BACKWARD_REMEDY: &str = "double backward needs the environment variable \
     CANDLE_GRAD_DO_NOT_DETACH=1, set before the program starts; without it candle drops parts of the second \
     derivative. Set it, or choose finite differences";

thread_local! {
    /// Candle reads its variable once in each thread.
    static DOUBLE_BACKWARD_WORKS: bool = second_derivative_of_a_cube().is_ok_and(|d| d == 12.0);
}

/// Whether candle keeps the graph of the gradient in this thread, found out by the second derivative of a³ at 2.
pub fn double_backward_works() -> bool {
    DOUBLE_BACKWARD_WORKS.with(|works| *works)
}

fn require_double_backward() -> Result<()> {
    if double_backward_works() { Ok(()) } else { Err(candle_core::Error::Msg(DOUBLE_BACKWARD_REMEDY.into())) }
}

fn second_derivative_of_a_cube() -> Result<f64> {
    let a = Var::new(2.0, &Device::Cpu)?;
    let first = a.mul(&a)?.mul(&a)?.backward()?;
    let slope = first.get(&a).ok_or_else(|| candle_core::Error::Msg("no gradient".into()))?;
    slope.backward()?.get(&a).map_or(Ok(0.0), Tensor::to_scalar)
}

fn scalar(loss: &Tensor) -> Result<f64> {
    one_element(loss)?.to_dtype(DType::F64)?.flatten_all()?.get(0)?.to_scalar()
}

/// Gradients of a tensor of one element.
fn backward(loss: &Tensor) -> Result<GradStore> {
    one_element(loss)?.backward()
}

/// Candle would silently differentiate the sum of the elements.
fn one_element(loss: &Tensor) -> Result<&Tensor> {
    if loss.elem_count() == 1 {
        Ok(loss)
    } else {
        Err(candle_core::Error::Msg(format!(
            "a loss must have one element, this one has the shape {:?}; average over the sample",
            loss.dims()
        )))
    }
}

/// The gradient as a tree; a variable that the loss does not reach has gradient zero.
fn gradient(store: &GradStore, like: &TensorTree, vars: &[(String, Var)]) -> Result<TensorTree> {
    let parts = vars.iter().map(|(_, var)| match store.get(var) {
        Some(gradient) => Ok(gradient.clone()),
        None => var.zeros_like(),
    });
    like.with_tensors(parts.collect::<Result<Vec<_>>>()?)
}

impl<L: Loss> Objective<TensorTree, TensorTree> for TensorObjective<L> {
    fn value(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<f64> {
        self.try_value(x, y, s).map_err(|e| OracleError::failed("value", e))
    }
    fn grad_x(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        self.try_grad_x(x, y, s).map_err(|e| OracleError::failed("grad_x", e))
    }
    fn grad_y(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        self.try_grad_y(x, y, s).map_err(|e| OracleError::failed("grad_y", e))
    }
    fn grad(&self, x: &TensorTree, y: &TensorTree, s: Sample) -> OracleResult<(TensorTree, TensorTree)> {
        let both = || -> Result<_> {
            let (x_vars, y_vars) = (x.to_vars()?, y.to_vars()?);
            let loss = self.loss.loss(&Params::variables(&x_vars), &Params::variables(&y_vars), s)?;
            let store = backward(&loss)?;
            Ok((gradient(&store, x, &x_vars)?, gradient(&store, y, &y_vars)?))
        };
        both().map_err(|e| OracleError::failed("grad", e))
    }
    fn n_samples(&self) -> Option<u64> {
        self.loss.n_samples()
    }
}

impl<L: Loss> SecondOrder<TensorTree, TensorTree> for TensorObjective<L> {
    fn hvp_yy(&self, x: &TensorTree, y: &TensorTree, v: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        self.try_hvp_yy(x, y, v, s).map_err(|e| OracleError::failed("hvp_yy", e))
    }
    fn jvp_xy(&self, x: &TensorTree, y: &TensorTree, v: &TensorTree, s: Sample) -> OracleResult<TensorTree> {
        self.try_jvp_xy(x, y, v, s).map_err(|e| OracleError::failed("jvp_xy", e))
    }
    fn second_order_cost(&self) -> SecondOrderCost {
        match self.mode {
            SecondOrderMode::FiniteDifference { .. } => SecondOrderCost::Gradients(2),
            // a Gauss–Newton product is three passes forward and one back, a product of its own
            SecondOrderMode::DoubleBackward | SecondOrderMode::GaussNewton { .. } => SecondOrderCost::Exact,
        }
    }
}
