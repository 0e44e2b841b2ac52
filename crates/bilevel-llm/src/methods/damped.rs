//! The damped system of a hypergradient, solved with as few lists as it can be.

use bilevel::linear::LinearStatus;

use crate::train::Metric;

/// Relative residual at which a solve ends: what products by differences in f32 allow.
const TOLERANCE: f64 = 1e-6;

/// (H + γD) v = b with a positive semidefinite H that is known by its products.
#[derive(Clone, Debug)]
pub struct Damped<'a> {
    /// D.
    pub metric: Metric<'a>,
    /// γ.
    pub gamma: f64,
    /// The most products.
    pub steps: u64,
}

/// How a solve ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Solved {
    /// Why.
    pub status: LinearStatus,
    /// |b − (H + γD) v| / |b| in the norm of D⁻¹.
    pub residual: f64,
}

impl Damped<'_> {
    /// Turns `b` into v by conjugate gradients with the preconditioner D, from zero. `product` adds H d to a list; `spare` is used,
    /// whatever it holds. Beside these two a solve takes the list of directions, and one for v where there is more than one step.
    ///
    /// Where a direction's curvature is not positive, which only rounding can do, the solve ends with
    /// [`LinearStatus::NegativeCurvature`] and the v that it has: zero in the first step.
    ///
    /// # Errors
    /// When a product fails.
    pub fn solve<E>(
        &self,
        mut product: impl FnMut(&[f32], &mut [f32]) -> Result<(), E>,
        b: &mut Vec<f32>,
        spare: &mut Vec<f32>,
    ) -> Result<Solved, E> {
        let n = b.len();
        // b becomes the residual r
        let begun = self.square(b);
        let mut square = begun;
        let mut direction = vec![0.0; n];
        self.turn(&mut direction, b, 0.0);
        let mut v = Vec::new();
        let is_solved = |square: f64| square <= TOLERANCE * TOLERANCE * begun;
        let mut status = LinearStatus::OutOfIterations;
        for _ in 0..self.steps {
            if is_solved(square) {
                break;
            }
            spare.clear();
            spare.resize(n, 0.0);
            product(&direction, spare)?;
            let curvature = self.damp(&direction, spare);
            if curvature.is_nan() || curvature <= 0.0 {
                status = LinearStatus::NegativeCurvature;
                break;
            }
            let step = square / curvature;
            add(b, -step, spare);
            let before = std::mem::replace(&mut square, self.square(b));
            if self.steps == 1 {
                // v is a multiple of the direction, and takes its place
                for d in &mut direction {
                    *d = (step * f64::from(*d)) as f32;
                }
                std::mem::swap(&mut v, &mut direction);
                break;
            }
            v.resize(n, 0.0);
            add(&mut v, step, &direction);
            self.turn(&mut direction, b, square / before);
        }
        if is_solved(square) {
            status = LinearStatus::Solved;
        }
        let residual = if begun > 0.0 { (square / begun).sqrt() } else { 0.0 };
        if v.is_empty() {
            b.fill(0.0);
        } else {
            *b = v;
        }
        Ok(Solved { status, residual })
    }

    /// rᵀ D⁻¹ r.
    fn square(&self, r: &[f32]) -> f64 {
        let mut sum = 0.0;
        self.metric.each(r.len(), |places, d| {
            sum += r[places]
                .iter()
                .zip(d)
                .map(|(&r, &d)| f64::from(r) * f64::from(r) / f64::from(d))
                .sum::<f64>();
        });
        sum
    }

    /// d ← D⁻¹ r + β d.
    fn turn(&self, direction: &mut [f32], r: &[f32], beta: f64) {
        self.metric.each(r.len(), |places, d| {
            let each = direction[places.clone()].iter_mut().zip(&r[places]).zip(d);
            each.for_each(|((p, &r), &d)| *p = (f64::from(r) / f64::from(d) + beta * f64::from(*p)) as f32);
        });
    }

    /// Adds γ D d to the product q, and returns ⟨d, q⟩.
    fn damp(&self, direction: &[f32], q: &mut [f32]) -> f64 {
        let mut sum = 0.0;
        self.metric.each(direction.len(), |places, d| {
            for ((q, &p), &d) in q[places.clone()].iter_mut().zip(&direction[places]).zip(d) {
                *q = (f64::from(*q) + self.gamma * f64::from(d) * f64::from(p)) as f32;
                sum += f64::from(*q) * f64::from(p);
            }
        });
        sum
    }
}

/// y ← y + a x.
fn add(y: &mut [f32], a: f64, x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (f64::from(*y) + a * f64::from(x)) as f32);
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bilevel::rng::Stream;
    use nalgebra::{DMatrix, DVector};

    use super::*;

    const N: usize = 6;

    /// A positive semidefinite H of rank 4, a diagonal D, and b.
    fn system() -> (DMatrix<f64>, Vec<f32>, Vec<f32>) {
        let mut stream = Stream::new(2, 0);
        let half = DMatrix::from_fn(4, N, |_, _| stream.normal());
        let second: Vec<f32> = (0..N).map(|_| 0.01 * (1.0 + stream.uniform() as f32)).collect();
        let b = (0..N).map(|_| stream.normal() as f32).collect();
        (half.transpose() * half, second, b)
    }

    fn damped(second: &[f32], steps: u64) -> Damped<'_> {
        let metric = Metric::Roots { second, spans: vec![(0..2, 1.0), (2..N, 0.25)], floor: 0.0 };
        Damped { metric, gamma: 0.5, steps }
    }

    fn column(list: &[f32]) -> DVector<f64> {
        DVector::from_iterator(list.len(), list.iter().map(|&a| f64::from(a)))
    }

    /// The whole matrix, and D.
    fn matrix(h: &DMatrix<f64>, second: &[f32]) -> (DMatrix<f64>, DMatrix<f64>) {
        let root = |(i, &v): (usize, &f32)| (f64::from(v) / if i < 2 { 1.0 } else { 0.25 }).sqrt();
        let d = DMatrix::from_diagonal(&DVector::from_iterator(N, second.iter().enumerate().map(root)));
        (h + 0.5 * &d, d)
    }

    fn by(h: &DMatrix<f64>) -> impl FnMut(&[f32], &mut [f32]) -> Result<(), Infallible> {
        move |d, q| {
            q.iter_mut().zip((h * column(d)).iter()).for_each(|(q, &a)| *q += a as f32);
            Ok(())
        }
    }

    #[test]
    fn enough_steps_give_the_solution_of_the_dense_system() {
        let (h, second, b) = system();
        let (all, _) = matrix(&h, &second);
        let expected = all.clone().lu().solve(&column(&b)).unwrap();
        let (mut v, mut spare) = (b, vec![7.0; 2]);
        let Ok(solved) = damped(&second, 20).solve(by(&h), &mut v, &mut spare);
        assert_eq!(solved.status, LinearStatus::Solved);
        assert!(solved.residual <= TOLERANCE);
        // the tolerance times the condition, which is below 1e3
        assert!((column(&v) - &expected).norm() < 1e-4 * expected.norm(), "{v:?} {expected}");
    }

    #[test]
    fn few_steps_minimise_over_the_krylov_space_and_say_their_residual() {
        let (h, second, b) = system();
        let (all, d) = matrix(&h, &second);
        let inverse = d.clone().try_inverse().unwrap();
        let rhs = column(&b);
        // by Ritz: v = K (Kᵀ A K)⁻¹ Kᵀ b with K of D⁻¹b and D⁻¹A D⁻¹b
        for steps in [1, 2] {
            let first = &inverse * &rhs;
            let mut space = vec![first.clone()];
            if steps == 2 {
                space.push(&inverse * (&all * &first));
            }
            let k = DMatrix::from_columns(&space);
            let small = (k.transpose() * &all * &k).lu().solve(&(k.transpose() * &rhs)).unwrap();
            let expected = &k * small;
            let mut v = b.clone();
            let Ok(solved) = damped(&second, steps).solve(by(&h), &mut v, &mut Vec::new());
            assert!((column(&v) - &expected).norm() < 1e-5 * expected.norm(), "{v:?} {expected}");
            let r = &rhs - &all * &expected;
            let residual = (r.dot(&(&inverse * &r)) / rhs.dot(&(&inverse * &rhs))).sqrt();
            assert!((solved.residual - residual).abs() < 1e-5 * residual, "{solved:?} {residual}");
            assert_eq!(solved.status, LinearStatus::OutOfIterations);
        }
    }

    #[test]
    fn curvature_that_is_not_positive_ends_a_solve() {
        let (_, second, b) = system();
        let indefinite = -1e3 * DMatrix::<f64>::identity(N, N);
        let mut v = b;
        let Ok(solved) = damped(&second, 3).solve(by(&indefinite), &mut v, &mut Vec::new());
        assert_eq!((solved.status, solved.residual), (LinearStatus::NegativeCurvature, 1.0));
        assert_eq!(v, [0.0; N]);
    }

    #[test]
    fn nothing_on_the_right_takes_no_product_and_failures_surface() {
        let (h, second, b) = system();
        let mut zero = vec![0.0; N];
        let mut none = |_: &[f32], _: &mut [f32]| -> Result<(), Infallible> { panic!("a product") };
        let Ok(solved) = damped(&second, 3).solve(&mut none, &mut zero, &mut Vec::new());
        assert_eq!((solved.status, solved.residual, &zero[..]), (LinearStatus::Solved, 0.0, &[0.0; N][..]));
        let mut count = 0;
        let fails = |d: &[f32], q: &mut [f32]| {
            count += 1;
            let Ok(()) = by(&h)(d, q);
            if count == 2 { Err("the second") } else { Ok(()) }
        };
        assert_eq!(damped(&second, 3).solve(fails, &mut b.clone(), &mut Vec::new()), Err("the second"));
    }
}
