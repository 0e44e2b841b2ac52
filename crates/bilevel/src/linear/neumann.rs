//! The truncated Neumann series, a baseline.

use serde::{Deserialize, Serialize};

use super::{Apply, LinearSolution, LinearSolver, LinearStatus, checked_product, require_tolerance};
use crate::{
    error::{ConfigError, OracleResult},
    vector::Vector,
};

/// v = η Σ_{i<terms} (I − ηA)^i b, that is gradient descent on ½vᵀAv − bᵀv from zero.
///
/// Converges at the rate 1 − η·μ for positive semidefinite A and b in its range when η < 2/‖A‖; O(κ) products where
/// MINRES takes O(√κ). A right-hand side outside the range makes the kernel part of v grow in proportion to the
/// number of terms. Kept because published methods use it.
///
/// # Stopping
///
/// - |r| ≤ tolerance·|b|: `Solved`.
/// - |A r| ≤ tolerance·|r|/η: `Inconsistent`; the kernel part of the solution is not removed.
/// - ⟨r, A r⟩ < 0: `NegativeCurvature`.
/// - terms spent, or a residual that grows because η > 2/‖A‖: `OutOfIterations`.
///
/// # Cost
///
/// One product a term and one more, which measures the normal residual; one for a guess that is not zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Neumann {
    /// Step η, below 2/‖A‖.
    pub step: f64,
    /// Number of terms.
    pub terms: u64,
    /// Relative residual at which the series is cut before its last term.
    pub tolerance: f64,
}

impl Default for Neumann {
    fn default() -> Self {
        Self { step: 0.1, terms: 1_000, tolerance: 1e-10 }
    }
}

impl Neumann {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::require(
            self.step > 0.0 && self.step.is_finite(),
            "step",
            self.step,
            "give a positive step below 2/‖A‖",
        )?;
        ConfigError::require(self.terms >= 1, "terms", self.terms, "give at least 1")?;
        require_tolerance(self.tolerance)
    }
}

impl<V: Vector> LinearSolver<V> for Neumann {
    fn solve(&self, apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<LinearSolution<V>> {
        let rhs_norm = rhs.norm();
        let (mut answer, mut residual) = LinearSolution::at_guess(apply, rhs, guess)?;
        if answer.residual == 0.0 {
            return Ok(answer);
        }
        let mut norm = 0.0_f64;
        answer.status = loop {
            let image = checked_product(apply, &residual)?;
            answer.products += 1;
            answer.normal_residual = image.norm();
            norm = norm.max(answer.normal_residual / answer.residual);
            if answer.residual <= self.tolerance * rhs_norm {
                break LinearStatus::Solved;
            }
            // A flat residual; for A = 0 any step is allowed.
            if answer.normal_residual * self.step <= self.tolerance * answer.residual {
                break LinearStatus::Inconsistent;
            }
            if residual.dot(&image) < 0.0 {
                break LinearStatus::NegativeCurvature;
            }
            let next = residual.plus(-self.step, &image);
            if answer.iterations == self.terms || next.norm() > answer.residual {
                break LinearStatus::OutOfIterations;
            }
            answer.solution.axpy(self.step, &residual);
            residual = next;
            answer.residual = residual.norm();
            answer.iterations += 1;
        };
        answer.operator_norm = Some(norm);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::test_systems::{System, random_rank_three};

    #[test]
    fn the_series_has_its_closed_form() {
        // ((1 − (1 − ηλ)^K)/λ) b on each eigenvector
        let series = Neumann { step: 0.3, terms: 7, tolerance: 1e-10 };
        let system = System::with_eigenvalues(&[0.5, 1.0, 2.0], 2);
        let rhs = vec![1.0, 2.0, -1.0];
        let answer = series.solve(&mut system.apply(), &rhs, &rhs.zeros_like()).unwrap();
        let truth = system.spectrum.function(|value| (1.0 - (1.0 - 0.3 * value).powi(7)) / value, &rhs);
        assert!(answer.solution.distance(&truth) < 1e-13);
        assert_eq!(
            (answer.status, answer.iterations, answer.products),
            (LinearStatus::OutOfIterations, 7, 8)
        );
        let residual = rhs.plus(-1.0, &system.product(&answer.solution));
        assert!((answer.residual - residual.norm()).abs() < 1e-13);
        assert!((answer.normal_residual - system.product(&residual).norm()).abs() < 1e-13);
    }

    #[test]
    fn consistent_singular_systems_converge_to_the_minimum_norm_solution() {
        let system = System::with_eigenvalues(&[0.0, 0.0, 0.5, 1.0, 1.5], 6);
        let rhs = system.product(&[1.0, 2.0, 3.0, -1.0, 0.5]);
        let series = Neumann { step: 1.0, ..Neumann::default() };
        let answer = series.solve(&mut system.apply(), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!(answer.status, LinearStatus::Solved);
        // tolerance × 1/μ
        assert!(answer.solution.distance(&system.pseudoinverse(&rhs)) <= 2e-10 * rhs.norm());
    }

    #[test]
    fn inconsistent_systems_are_named() {
        for seed in 0..20 {
            let (system, rhs) = random_rank_three(seed);
            let series = Neumann { step: 1.0 / system.spectrum.norm(), terms: 1_000_000, tolerance: 1e-6 };
            let answer = series.solve(&mut system.apply(), &rhs, &rhs.zeros_like()).unwrap();
            assert_eq!(answer.status, LinearStatus::Inconsistent, "seed {seed}");
        }
    }

    #[test]
    fn an_ill_conditioned_system_runs_out_of_terms() {
        let system = System::with_eigenvalues(&[0.0, 1e-6, 1.0], 6);
        let rhs = system.product(&[1.0, 2.0, 3.0]);
        let series = Neumann { step: 1.0, ..Neumann::default() };
        let answer = series.solve(&mut system.apply(), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!((answer.status, answer.iterations), (LinearStatus::OutOfIterations, 1000));
    }

    #[test]
    fn negative_curvature_and_a_step_too_long_are_stopped() {
        let system = System::with_eigenvalues(&[-1.0, 1.0], 6);
        let rhs = system.spectrum.vector(0);
        let answer = Neumann::default().solve(&mut system.apply(), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!((answer.status, answer.solution), (LinearStatus::NegativeCurvature, vec![0.0; 2]));
        let rhs = system.spectrum.vector(1);
        let long = Neumann { step: 2.5, ..Neumann::default() };
        let answer = long.solve(&mut system.apply(), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!((answer.status, answer.iterations), (LinearStatus::OutOfIterations, 0));
    }

    #[test]
    fn settings_out_of_range_name_the_field() {
        assert_eq!(Neumann { step: 0.0, ..Neumann::default() }.validate().unwrap_err().field, "step");
        assert_eq!(Neumann { terms: 0, ..Neumann::default() }.validate().unwrap_err().field, "terms");
    }
}
