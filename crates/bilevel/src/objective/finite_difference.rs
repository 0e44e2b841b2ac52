//! Second derivatives as differences of gradients, when somebody asks for them.

use crate::{
    error::{ConfigError, OracleResult},
    problem::{Objective, Problem, Sample, SecondOrder, SecondOrderCost},
    vector::Vector,
};

/// Products with second derivatives by central differences of first ones:
/// H v ≈ (∇_y(y + hv) − ∇_y(y − hv))/2h and J v ≈ (∇_x(y + hv) − ∇_x(y − hv))/2h with h = radius·(1 + |y|)/|v|.
///
/// The error is radius²·|third derivative| from cutting and ε/radius·|gradient terms| from rounding, ε the
/// resolution of the stored numbers. The product with the zero vector is exactly zero. Each product costs
/// two gradients and is counted so.
#[derive(Clone, Copy, Debug)]
pub struct FiniteDifference<O> {
    /// The objective with first derivatives.
    pub objective: O,
    /// Length of the step relative to 1 + |y|; raised to the cube root of the resolution of y when below it.
    pub radius: f64,
}

impl<O> FiniteDifference<O> {
    /// Differences at the radius at which the two errors balance, the cube root of the resolution of y.
    pub fn new(objective: O) -> Self {
        Self { objective, radius: f64::EPSILON.cbrt() }
    }

    /// Differences at a radius of one's own, for a gradient with noise of its own: about the cube root of its relative size.
    pub fn with_radius(objective: O, radius: f64) -> Result<Self, ConfigError> {
        ConfigError::require(
            radius > 0.0 && radius < 1.0,
            "radius",
            radius,
            "a relative step lies between 0 and 1; about 6e-6 for gradients in f64, 5e-3 in f32",
        )?;
        Ok(Self { objective, radius })
    }

    /// The difference quotient of `gradient` along v; zero for v = 0.
    fn quotient<Y: Vector, G: Vector>(
        &self,
        y: &Y,
        v: &Y,
        gradient: impl Fn(&Y) -> OracleResult<G>,
        zero: impl FnOnce() -> G,
    ) -> OracleResult<G> {
        let length = v.norm();
        if length == 0.0 {
            return Ok(zero());
        }
        let h = self.radius.max(y.resolution().cbrt()) * (1.0 + y.norm()) / length;
        let mut quotient = gradient(&y.plus(h, v))?;
        quotient.axpy(-1.0, &gradient(&y.plus(-h, v))?);
        quotient.scale(0.5 / h);
        Ok(quotient)
    }
}

impl<X, Y, O: Objective<X, Y>> Objective<X, Y> for FiniteDifference<O> {
    fn value(&self, x: &X, y: &Y, s: Sample) -> OracleResult<f64> {
        self.objective.value(x, y, s)
    }
    fn grad_x(&self, x: &X, y: &Y, s: Sample) -> OracleResult<X> {
        self.objective.grad_x(x, y, s)
    }
    fn grad_y(&self, x: &X, y: &Y, s: Sample) -> OracleResult<Y> {
        self.objective.grad_y(x, y, s)
    }
    fn grad(&self, x: &X, y: &Y, s: Sample) -> OracleResult<(X, Y)> {
        self.objective.grad(x, y, s)
    }
    fn n_samples(&self) -> Option<u64> {
        self.objective.n_samples()
    }
}

impl<X: Vector, Y: Vector, O: Objective<X, Y>> SecondOrder<X, Y> for FiniteDifference<O> {
    fn hvp_yy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<Y> {
        self.quotient(y, v, |at| self.objective.grad_y(x, at, s), || y.zeros_like())
    }
    fn jvp_xy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<X> {
        self.quotient(y, v, |at| self.objective.grad_x(x, at, s), || x.zeros_like())
    }
    fn second_order_cost(&self) -> SecondOrderCost {
        SecondOrderCost::Gradients(2)
    }
}

/// A problem with first derivatives as one with second derivatives at the lower level, by differences.
///
/// Nothing in the library falls back on differences by itself; wrap the problem to ask for them:
///
/// ```
/// # use bilevel::{Problem, objective::FirstOrder};
/// # fn run<P: Problem>(problem: &P) {
/// let with_differences = FirstOrder::new(problem);
/// // … any solver that needs H v and J v now runs on `with_differences`
/// # }
/// ```
#[derive(Debug)]
pub struct FirstOrder<'p, P: Problem> {
    problem: &'p P,
    lower: FiniteDifference<&'p P::Lower>,
}

impl<'p, P: Problem> FirstOrder<'p, P> {
    /// Differences at the default radius.
    pub fn new(problem: &'p P) -> Self {
        Self { problem, lower: FiniteDifference::new(problem.lower()) }
    }
    /// Differences at a radius of one's own, see [`FiniteDifference::with_radius`].
    pub fn with_radius(problem: &'p P, radius: f64) -> Result<Self, ConfigError> {
        Ok(Self { problem, lower: FiniteDifference::with_radius(problem.lower(), radius)? })
    }
}

impl<'p, P: Problem> Problem for FirstOrder<'p, P> {
    type X = P::X;
    type Y = P::Y;
    type Upper = P::Upper;
    type Lower = FiniteDifference<&'p P::Lower>;
    fn upper(&self) -> &Self::Upper {
        self.problem.upper()
    }
    fn lower(&self) -> &Self::Lower {
        &self.lower
    }
    fn start(&self, seed: u64) -> (Self::X, Self::Y) {
        self.problem.start(seed)
    }
    fn prox_x(&self, x: &mut Self::X, step: f64) {
        self.problem.prox_x(x, step);
    }
    fn is_x_constrained(&self) -> bool {
        self.problem.is_x_constrained()
    }
    fn prox_y(&self, y: &mut Self::Y, step: f64) {
        self.problem.prox_y(y, step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        objective::examples::{Curved, CurvedProblem},
        oracles::Oracles,
    };

    #[test]
    fn products_agree_with_the_exact_ones() {
        let differences = FiniteDifference::new(&Curved);
        let (x, y) = (vec![0.3, -0.7], vec![0.4, 0.9]);
        for v in [vec![1.0, -2.0], vec![1e-8, 1e-8], vec![1e6, 3.0]] {
            for s in [Sample::Full, Sample::Batch(&[1])] {
                // relative error: radius² from cutting plus ε/radius from rounding, both 4e-11
                let exact = Curved.hvp_yy(&x, &y, &v, s).unwrap();
                let error = differences.hvp_yy(&x, &y, &v, s).unwrap().distance(&exact);
                assert!(error <= 1e-9 * v.norm(), "{error:e}");
                let exact = Curved.jvp_xy(&x, &y, &v, s).unwrap();
                let error = differences.jvp_xy(&x, &y, &v, s).unwrap().distance(&exact);
                assert!(error <= 1e-9 * v.norm(), "{error:e}");
            }
        }
    }

    #[test]
    fn the_zero_direction_gives_exactly_zero() {
        let differences = FiniteDifference::new(Curved);
        let (x, y, zero) = (vec![0.3, -0.7], vec![0.4, 0.9], vec![0.0, 0.0]);
        assert_eq!(differences.hvp_yy(&x, &y, &zero, Sample::Full).unwrap(), zero);
        assert_eq!(differences.jvp_xy(&x, &y, &zero, Sample::Full).unwrap(), zero);
    }

    #[test]
    fn a_wrapped_problem_counts_its_products_as_gradients() {
        let problem = FirstOrder::new(&CurvedProblem);
        let oracles = Oracles::new(&problem);
        let (mut x, y) = problem.start(0);
        oracles.lower.hvp_yy(&x, &y, &y, Sample::Full).unwrap();
        oracles.lower.jvp_xy(&x, &y, &y, Sample::Full).unwrap();
        let lower = oracles.counts().lower;
        assert_eq!((lower.grad_y, lower.grad_x, lower.hvp_yy, lower.jvp_xy, lower.samples), (2, 2, 0, 0, 8));
        x[0] = 3.0;
        oracles.prox_x(&mut x, 1.0);
        assert_eq!((x[0], oracles.is_x_constrained()), (1.0, true));
    }

    #[test]
    fn a_radius_out_of_range_is_refused() {
        assert_eq!(FiniteDifference::with_radius(Curved, 0.0).unwrap_err().field, "radius");
        assert!(FirstOrder::with_radius(&CurvedProblem, 1e-4).is_ok());
    }
}
