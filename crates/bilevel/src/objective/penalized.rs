//! f + λg, the objective of the penalty methods.

use crate::{
    error::OracleResult,
    problem::{Objective, Sample, SecondOrder, SecondOrderCost},
    vector::Vector,
};

/// upper + λ·lower, by value or by reference.
///
/// A sample is handed to both objectives. When the two are sums of a different number of terms, batches are drawn
/// from the smaller number, and only [`Sample::Full`] is the exact sum.
///
/// ```
/// use bilevel::{Objective, Sample, objective::Penalized};
/// # struct Square;
/// # impl Objective<Vec<f64>, Vec<f64>> for Square {
/// #     fn value(&self, _: &Vec<f64>, y: &Vec<f64>, _: Sample) -> bilevel::OracleResult<f64> { Ok(y[0] * y[0]) }
/// #     fn grad_x(&self, x: &Vec<f64>, _: &Vec<f64>, _: Sample) -> bilevel::OracleResult<Vec<f64>> { Ok(vec![0.0; x.len()]) }
/// #     fn grad_y(&self, _: &Vec<f64>, y: &Vec<f64>, _: Sample) -> bilevel::OracleResult<Vec<f64>> { Ok(vec![2.0 * y[0]]) }
/// # }
/// let (f, g) = (Square, Square);
/// let penalized = Penalized { upper: &f, lower: &g, lambda: 10.0 };
/// assert_eq!(penalized.grad_y(&vec![0.0], &vec![1.0], Sample::Full).unwrap(), [22.0]);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Penalized<F, G> {
    /// The upper objective f.
    pub upper: F,
    /// The lower objective g.
    pub lower: G,
    /// The factor λ of g.
    pub lambda: f64,
}

impl<F, G> Penalized<F, G> {
    fn add<V: Vector>(&self, mut f: V, g: &V) -> V {
        f.axpy(self.lambda, g);
        f
    }
}

impl<X: Vector, Y: Vector, F: Objective<X, Y>, G: Objective<X, Y>> Objective<X, Y> for Penalized<F, G> {
    fn value(&self, x: &X, y: &Y, s: Sample) -> OracleResult<f64> {
        Ok(self.upper.value(x, y, s)? + self.lambda * self.lower.value(x, y, s)?)
    }
    fn grad_x(&self, x: &X, y: &Y, s: Sample) -> OracleResult<X> {
        Ok(self.add(self.upper.grad_x(x, y, s)?, &self.lower.grad_x(x, y, s)?))
    }
    fn grad_y(&self, x: &X, y: &Y, s: Sample) -> OracleResult<Y> {
        Ok(self.add(self.upper.grad_y(x, y, s)?, &self.lower.grad_y(x, y, s)?))
    }
    fn grad(&self, x: &X, y: &Y, s: Sample) -> OracleResult<(X, Y)> {
        let (f_x, f_y) = self.upper.grad(x, y, s)?;
        let (g_x, g_y) = self.lower.grad(x, y, s)?;
        Ok((self.add(f_x, &g_x), self.add(f_y, &g_y)))
    }
    fn n_samples(&self) -> Option<u64> {
        match (self.upper.n_samples(), self.lower.n_samples()) {
            (Some(f), Some(g)) => Some(f.min(g)),
            (f, g) => f.or(g),
        }
    }
}

impl<X: Vector, Y: Vector, F: SecondOrder<X, Y>, G: SecondOrder<X, Y>> SecondOrder<X, Y> for Penalized<F, G> {
    fn hvp_yy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<Y> {
        Ok(self.add(self.upper.hvp_yy(x, y, v, s)?, &self.lower.hvp_yy(x, y, v, s)?))
    }
    fn jvp_xy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<X> {
        Ok(self.add(self.upper.jvp_xy(x, y, v, s)?, &self.lower.jvp_xy(x, y, v, s)?))
    }
    /// Gradients when both parts are differences; a product as soon as one part is.
    fn second_order_cost(&self) -> SecondOrderCost {
        match (self.upper.second_order_cost(), self.lower.second_order_cost()) {
            (SecondOrderCost::Gradients(f), SecondOrderCost::Gradients(g)) => {
                SecondOrderCost::Gradients(f.max(g))
            }
            _ => SecondOrderCost::Exact,
        }
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
    fn every_oracle_is_the_weighted_sum() {
        let penalized = Penalized { upper: &Curved, lower: Curved, lambda: 2.5 };
        let (x, y, v) = (vec![0.3, -0.7], vec![0.4, 0.9], vec![1.0, -2.0]);
        for s in [Sample::Full, Sample::Batch(&[1])] {
            let value = Curved.value(&x, &y, s).unwrap();
            assert!((penalized.value(&x, &y, s).unwrap() - 3.5 * value).abs() < 1e-15);
            let (by_x, by_y) = penalized.grad(&x, &y, s).unwrap();
            assert_eq!(
                (by_x.clone(), by_y.clone()),
                (penalized.grad_x(&x, &y, s).unwrap(), penalized.grad_y(&x, &y, s).unwrap())
            );
            assert!(by_x.distance(&Curved.grad_x(&x, &y, s).unwrap().scaled(3.5)) < 1e-15);
            assert!(by_y.distance(&Curved.grad_y(&x, &y, s).unwrap().scaled(3.5)) < 1e-15);
            let product = penalized.hvp_yy(&x, &y, &v, s).unwrap();
            assert!(product.distance(&Curved.hvp_yy(&x, &y, &v, s).unwrap().scaled(3.5)) < 1e-14);
            let product = penalized.jvp_xy(&x, &y, &v, s).unwrap();
            assert!(product.distance(&Curved.jvp_xy(&x, &y, &v, s).unwrap().scaled(3.5)) < 1e-14);
        }
        assert_eq!(penalized.n_samples(), Some(2));
    }

    #[test]
    fn over_counted_objectives_each_level_is_counted() {
        let oracles = Oracles::new(&CurvedProblem);
        let penalized = Penalized { upper: &oracles.upper, lower: &oracles.lower, lambda: 1.0 };
        let (x, y) = (vec![0.3, -0.7], vec![0.4, 0.9]);
        penalized.grad_y(&x, &y, Sample::Full).unwrap();
        penalized.hvp_yy(&x, &y, &y, Sample::Full).unwrap();
        let counts = oracles.counts();
        assert_eq!((counts.upper.grad_y, counts.lower.grad_y), (1, 1));
        assert_eq!((counts.upper.hvp_yy, counts.lower.hvp_yy), (1, 1));
    }
}
