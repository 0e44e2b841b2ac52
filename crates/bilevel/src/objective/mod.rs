//! Objectives made of objectives, and objectives by reference.

mod finite_difference;
mod penalized;

pub use finite_difference::{FiniteDifference, FirstOrder};
pub use penalized::Penalized;

use crate::{
    error::OracleResult,
    problem::{Objective, Sample, SecondOrder, SecondOrderCost},
};

/// A reference stands for its objective, so that adapters can borrow what they adapt.
impl<X, Y, O: Objective<X, Y> + ?Sized> Objective<X, Y> for &O {
    fn value(&self, x: &X, y: &Y, s: Sample) -> OracleResult<f64> {
        (**self).value(x, y, s)
    }
    fn grad_x(&self, x: &X, y: &Y, s: Sample) -> OracleResult<X> {
        (**self).grad_x(x, y, s)
    }
    fn grad_y(&self, x: &X, y: &Y, s: Sample) -> OracleResult<Y> {
        (**self).grad_y(x, y, s)
    }
    fn grad(&self, x: &X, y: &Y, s: Sample) -> OracleResult<(X, Y)> {
        (**self).grad(x, y, s)
    }
    fn n_samples(&self) -> Option<u64> {
        (**self).n_samples()
    }
}

impl<X, Y, O: SecondOrder<X, Y> + ?Sized> SecondOrder<X, Y> for &O {
    fn hvp_yy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<Y> {
        (**self).hvp_yy(x, y, v, s)
    }
    fn jvp_xy(&self, x: &X, y: &Y, v: &Y, s: Sample) -> OracleResult<X> {
        (**self).jvp_xy(x, y, v, s)
    }
    fn second_order_cost(&self) -> SecondOrderCost {
        (**self).second_order_cost()
    }
}

/// Small objectives with known derivatives for the tests of adapters, checks and solvers.
#[cfg(test)]
pub(crate) mod examples {
    use super::{Objective, OracleResult, Sample, SecondOrder};
    use crate::{problem::Problem, vector::Dense};

    /// g = ½ Σ_i e_i², e_0 = y₀ + y₁ − x₀², e_1 = sin(y₁) − x₀x₁: a mean of two terms.
    #[derive(Debug)]
    pub struct Curved;

    fn terms(s: Sample) -> Vec<u64> {
        match s {
            Sample::Full => vec![0, 1],
            Sample::Batch(indices) => indices.to_vec(),
        }
    }
    struct Term {
        e: f64,
        by_x: [f64; 2],
        by_y: [f64; 2],
        /// ∂²e/∂y₁²; the other second derivatives in y, and all mixed ones, vanish.
        by_y1_twice: f64,
    }
    fn term(x: &Dense, y: &Dense, i: u64) -> Term {
        if i == 0 {
            Term {
                e: y[0] + y[1] - x[0] * x[0],
                by_x: [-2.0 * x[0], 0.0],
                by_y: [1.0, 1.0],
                by_y1_twice: 0.0,
            }
        } else {
            Term {
                e: y[1].sin() - x[0] * x[1],
                by_x: [-x[1], -x[0]],
                by_y: [0.0, y[1].cos()],
                by_y1_twice: -y[1].sin(),
            }
        }
    }
    fn mean(s: Sample, of: impl Fn(u64) -> [f64; 2]) -> Dense {
        let indices = terms(s);
        let n = indices.len() as f64;
        let rows: Vec<[f64; 2]> = indices.into_iter().map(of).collect();
        (0..2).map(|j| rows.iter().map(|row| row[j]).sum::<f64>() / n).collect()
    }

    impl Objective<Dense, Dense> for Curved {
        fn value(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<f64> {
            Ok(mean(s, |i| [0.5 * term(x, y, i).e.powi(2), 0.0])[0])
        }
        fn grad_x(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
            Ok(mean(s, |i| {
                let t = term(x, y, i);
                t.by_x.map(|d| t.e * d)
            }))
        }
        fn grad_y(&self, x: &Dense, y: &Dense, s: Sample) -> OracleResult<Dense> {
            Ok(mean(s, |i| {
                let t = term(x, y, i);
                t.by_y.map(|d| t.e * d)
            }))
        }
        fn n_samples(&self) -> Option<u64> {
            Some(2)
        }
    }

    impl SecondOrder<Dense, Dense> for Curved {
        fn hvp_yy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
            Ok(mean(s, |i| {
                let t = term(x, y, i);
                let along = t.by_y[0] * v[0] + t.by_y[1] * v[1];
                [t.by_y[0] * along, t.by_y[1] * along + t.e * t.by_y1_twice * v[1]]
            }))
        }
        fn jvp_xy(&self, x: &Dense, y: &Dense, v: &Dense, s: Sample) -> OracleResult<Dense> {
            Ok(mean(s, |i| {
                let t = term(x, y, i);
                t.by_x.map(|d| d * (t.by_y[0] * v[0] + t.by_y[1] * v[1]))
            }))
        }
    }

    /// `Curved` at both levels.
    #[derive(Debug)]
    pub struct CurvedProblem;

    impl Problem for CurvedProblem {
        type X = Dense;
        type Y = Dense;
        type Upper = Curved;
        type Lower = Curved;
        fn upper(&self) -> &Curved {
            &Curved
        }
        fn lower(&self) -> &Curved {
            &Curved
        }
        fn start(&self, _seed: u64) -> (Dense, Dense) {
            (vec![0.3, -0.7], vec![0.4, 0.9])
        }
        fn prox_x(&self, x: &mut Dense, _step: f64) {
            for a in x.iter_mut() {
                *a = a.clamp(-1.0, 1.0);
            }
        }
        fn is_x_constrained(&self) -> bool {
            true
        }
    }
}
