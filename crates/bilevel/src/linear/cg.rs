//! Conjugate gradients, for operators that are known to be positive definite.

use serde::{Deserialize, Serialize};

use super::{
    Apply, LinearSolution, LinearSolver, LinearStatus, checked_product, require_max_iterations,
    require_tolerance, tridiagonal::Tridiagonal,
};
use crate::{
    error::{ConfigError, OracleError, OracleResult},
    vector::Vector,
};

/// Conjugate gradients with a relative test of the curvature.
///
/// For a damped Hessian H + γI. On a singular operator with a right-hand side outside the range the iterate grows
/// without bound; this solver then stops with [`LinearStatus::Inconsistent`] and the last iterate before the breakdown,
/// whose kernel part is not removed: use [`super::minres::Minres`] or [`super::lsmr::Lsmr`] there.
///
/// # Stopping
///
/// - |r| ≤ tolerance·|b|: `Solved`, or `OutOfIterations` when rounding holds the true residual above twice that.
/// - pᵀAp < −curvature-cut·‖A‖·|p|²: `NegativeCurvature`.
/// - |pᵀAp| ≤ curvature-cut·‖A‖·|p|², or ‖A‖·|v| > |b|/curvature-cut: `Inconsistent`. Since ⟨p, r⟩ = |r|² > 0, a direction
///   without curvature is a kernel direction that the right-hand side has a part in.
///
/// ‖A‖ is the largest |Ap|/|p| met.
///
/// # Cost
///
/// One product an iteration, one for a guess that is not zero. The residual is the recurrence's; where the iterate is so
/// large that rounding may hide in it, one more product measures it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cg {
    /// Relative residual to stop at.
    pub tolerance: f64,
    /// Limit of iterations.
    pub max_iterations: u64,
    /// Curvature, relative to ‖A‖, below which a direction counts as flat.
    pub curvature_cut: f64,
}

impl Default for Cg {
    fn default() -> Self {
        Self { tolerance: 1e-10, max_iterations: 10_000, curvature_cut: 1e-10 }
    }
}

impl Cg {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require_tolerance(self.tolerance)?;
        require_max_iterations(self.max_iterations)?;
        ConfigError::require(
            (1e-15..1.0).contains(&self.curvature_cut),
            "curvature_cut",
            self.curvature_cut,
            "a relative curvature lies between 1e-15 and 1; stay well below the damping over ‖A‖",
        )
    }
}

impl<V: Vector> LinearSolver<V> for Cg {
    fn solve(&self, apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<LinearSolution<V>> {
        let rhs_norm = rhs.norm();
        // What the stored numbers allow.
        let tolerance = self.tolerance.max(4.0 * rhs.resolution());
        let curvature_cut = self.curvature_cut.max(4.0 * rhs.resolution());
        let (mut answer, mut residual) = LinearSolution::at_guess(apply, rhs, guess)?;
        let mut square = residual.dot(&residual);
        let mut direction = residual.clone();
        let mut lanczos = Tridiagonal::default();
        let (mut step, mut ratio) = (1.0, 0.0); // α and β of the step before
        let mut norm = 0.0_f64;
        let mut rounding = 0.0_f64;

        answer.status = loop {
            if answer.residual <= tolerance * rhs_norm {
                // The recurrence goes on falling where rounding holds the residual up.
                if rounding > tolerance * rhs_norm {
                    answer.measure_residual(apply, rhs)?;
                }
                break if answer.residual <= 2.0 * tolerance * rhs_norm {
                    LinearStatus::Solved
                } else {
                    LinearStatus::OutOfIterations
                };
            }
            if answer.iterations == self.max_iterations {
                break LinearStatus::OutOfIterations;
            }
            let image = checked_product(apply, &direction)?;
            answer.products += 1;
            let length = direction.norm();
            norm = norm.max(image.norm() / length);
            let curvature = direction.dot(&image);
            if curvature.abs() <= curvature_cut * norm * length * length {
                break LinearStatus::Inconsistent;
            }
            if curvature < 0.0 {
                break LinearStatus::NegativeCurvature;
            }
            answer.iterations += 1;
            let step_old = std::mem::replace(&mut step, square / curvature);
            lanczos.diagonal.push(step.recip() + ratio / step_old);
            answer.solution.axpy(step, &direction);
            residual.axpy(-step, &image);
            answer.residual = residual.norm();
            let size = norm * answer.solution.norm();
            if !size.is_finite() || !answer.residual.is_finite() {
                return Err(OracleError::NonFinite { oracle: "the linear system" });
            }
            rounding += rhs.resolution() * size;
            if size > rhs_norm / curvature_cut {
                break LinearStatus::Inconsistent;
            }
            let square_old = std::mem::replace(&mut square, answer.residual * answer.residual);
            ratio = square / square_old;
            lanczos.off_diagonal.push(ratio.sqrt() / step);
            direction.scale(ratio);
            direction.axpy(1.0, &residual);
        };
        answer.operator_norm = lanczos.largest_modulus().or((norm > 0.0).then_some(norm));
        answer.smallest_ritz = lanczos.smallest_modulus();
        answer.normal_residual = answer.operator_norm.unwrap_or(0.0) * answer.residual;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        linear::test_systems::{System, T3Large, random_rank_three},
        rng::Stream,
    };
    use proptest::prelude::*;

    fn solve(system: &System, rhs: &Vec<f64>) -> LinearSolution<Vec<f64>> {
        Cg::default().solve(&mut system.apply(), rhs, &rhs.zeros_like()).unwrap()
    }

    #[test]
    fn positive_definite_systems_agree_with_the_dense_solution() {
        proptest!(|(values in prop::collection::vec(0.01..1.0f64, 1..12), seed in 0..1000u64)| {
            let system = System::with_eigenvalues(&values, seed);
            let rhs = Stream::new(seed, 5).normal_like(&values);
            let guess = Stream::new(seed, 6).normal_like(&values);
            let answer = Cg::default().solve(&mut system.apply(), &rhs, &guess).unwrap();
            prop_assert_eq!(answer.status, LinearStatus::Solved);
            // tolerance × condition
            prop_assert!(answer.solution.distance(&system.pseudoinverse(&rhs)) <= 1.1e-8 * rhs.norm());
            prop_assert!(answer.operator_norm.unwrap() <= system.spectrum.norm() * (1.0 + 1e-9));
        });
    }

    #[test]
    fn a_damped_ill_conditioned_system_is_solved() {
        let (system, damping) = (T3Large::new(1e4), 1e-3);
        let rhs = T3Large::rhs().plus(1.0, &T3Large::kernel_vector());
        let mut apply = |v: &Vec<f64>| Ok(system.product(v).plus(damping, v));
        let answer = Cg::default().solve(&mut apply, &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!(answer.status, LinearStatus::Solved);
        let residual = apply(&answer.solution).unwrap().distance(&rhs);
        assert!(residual <= 2e-10 * rhs.norm());
    }

    #[test]
    fn an_ill_conditioned_definite_system_is_solved_and_not_called_inconsistent() {
        for kappa in [1e5, 1e6] {
            let system = T3Large::new(kappa);
            let rhs = T3Large::rhs();
            let cg = Cg { tolerance: 1e-8, ..Cg::default() };
            let answer =
                cg.solve(&mut |v: &Vec<f64>| Ok(system.product(v)), &rhs, &rhs.zeros_like()).unwrap();
            assert_eq!(answer.status, LinearStatus::Solved, "κ {kappa:e}");
            assert!(system.product(&answer.solution).distance(&rhs) <= 2.1e-8 * rhs.norm());
        }
    }

    #[test]
    fn a_consistent_singular_system_gives_the_minimum_norm_solution() {
        for seed in 0..50 {
            let (system, rhs) = random_rank_three(seed);
            let image = system.product(&rhs);
            let answer = solve(&system, &image);
            let truth = system.pseudoinverse(&image);
            assert_eq!(answer.status, LinearStatus::Solved, "seed {seed}");
            assert!(answer.solution.distance(&truth) <= 1e-7 * truth.norm(), "seed {seed}");
        }
    }

    #[test]
    fn no_inconsistent_system_is_ever_called_solved() {
        for seed in 0..500 {
            let (system, rhs) = random_rank_three(seed);
            let answer = solve(&system, &rhs);
            assert_eq!(answer.status, LinearStatus::Inconsistent, "seed {seed}");
            assert!(answer.solution.is_finite());
        }
        // a single flat direction, the case in which the plain method returns a number of size 1e31
        let system = System::new(nalgebra::DMatrix::from_fn(3, 3, |i, j| ((i + 1) * (j + 1)) as f64));
        assert_eq!(solve(&system, &vec![1.0, 0.3, -0.2]).status, LinearStatus::Inconsistent);
    }

    #[test]
    fn negative_curvature_is_named() {
        let system = System::with_eigenvalues(&[-1.0, 2.0, 3.0], 8);
        let negative = system.spectrum.vector(0);
        let answer = solve(&system, &negative);
        assert_eq!((answer.status, answer.solution), (LinearStatus::NegativeCurvature, vec![0.0; 3]));
    }

    #[test]
    fn a_spent_limit_and_a_failing_operator_surface() {
        let system = T3Large::new(1e4);
        let rhs = T3Large::rhs();
        let few = Cg { max_iterations: 2, ..Cg::default() };
        let answer = few.solve(&mut |v: &Vec<f64>| Ok(system.product(v)), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!((answer.status, answer.products), (LinearStatus::OutOfIterations, 2));
        let nan = few.solve(&mut |v: &Vec<f64>| Ok(v.scaled(f64::NAN)), &rhs, &rhs.zeros_like());
        assert!(matches!(nan, Err(OracleError::NonFinite { .. })));
        assert_eq!(Cg { curvature_cut: 2.0, ..few }.validate().unwrap_err().field, "curvature_cut");
    }

    #[test]
    fn the_zero_right_hand_side_costs_nothing() {
        let answer = solve(&System::with_eigenvalues(&[1.0, 2.0], 0), &vec![0.0, 0.0]);
        assert_eq!((answer.status, answer.products), (LinearStatus::Solved, 0));
    }
}
