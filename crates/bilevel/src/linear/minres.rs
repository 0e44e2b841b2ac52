//! MINRES: the smallest residual over the Krylov space, for symmetric operators, singular and indefinite ones included.

use serde::{Deserialize, Serialize};

use super::{
    Apply, LinearSolution, LinearSolver, LinearStatus, checked_norm, checked_product, require_max_iterations,
    require_tolerance, tridiagonal::Tridiagonal,
};
use crate::{
    error::{ConfigError, OracleResult},
    vector::Vector,
};

/// Minimum-residual solver for symmetric A, any signs of the eigenvalues, any kernel.
///
/// # Method
///
/// Lanczos vectors, Givens rotations on the tridiagonal matrix, short recurrences for the iterate (Paige and
/// Saunders 1975). Every iterate lies in guess + span(r, A r, A² r, …), r = b − A·guess. So with a zero guess and
/// b in the range of A the limit is the solution of minimum norm, A⁺b.
///
/// Outside the range the residual tends to the kernel part of b, and the iterate's own kernel part, which lies along
/// that residual, grows without bound. Both are seen: |A r| ≤ tolerance·‖A‖·|r| before the step that would divide by a
/// vanishing pivot, or a residual that is small only against the part of the iterate along it. The iterate is then
/// given up for the least-squares solution of minimum norm, as MINRES-QLP would return it, by the two
/// consistent systems of [`super::pseudoinverse::two_solve`]; the status is [`LinearStatus::Inconsistent`]. When b is
/// expected to leave the range, call `two_solve` at once and save the first attempt.
///
/// # Stopping
///
/// Residual ≤ tolerance·max(‖A‖·|solution|, |b|), with ‖A‖ the Frobenius norm of the Lanczos matrix as in the original
/// (above the spectral norm by at most √iterations). The tolerance is at the same time the cut between range and
/// kernel: eigenvalues below tolerance·‖A‖ are not to be relied on.
///
/// # Cost
///
/// One product an iteration, one for a guess that is not zero, and two at the end: both residuals in the
/// answer are measured. An inconsistent system costs about three times a consistent one.
///
/// # Source
///
/// C. Paige and M. Saunders, SIAM J. Numer. Anal. 12 (1975); S.-C. Choi, C. Paige and M. Saunders, SIAM J. Sci. Comput.
/// 33 (2011).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Minres {
    /// Relative residual to stop at, and relative size below which an eigenvalue counts as zero.
    pub tolerance: f64,
    /// Limit of iterations.
    pub max_iterations: u64,
}

impl Default for Minres {
    fn default() -> Self {
        Self { tolerance: 1e-10, max_iterations: 10_000 }
    }
}

impl Minres {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require_tolerance(self.tolerance)?;
        require_max_iterations(self.max_iterations)
    }
}

/// What one Krylov space gave, beside the solution.
struct Cycle {
    lanczos: Tridiagonal,
    /// Frobenius norm of the Lanczos matrix.
    operator_norm: f64,
    iterations: u64,
    /// Whether the residual was found to be a kernel vector.
    is_residual_in_kernel: bool,
}

impl Minres {
    /// The tolerance that the stored numbers allow.
    fn tolerance<V: Vector>(&self, like: &V) -> f64 {
        self.tolerance.max(4.0 * like.resolution())
    }

    /// Adds to the solution the element of the Krylov space of the residual that leaves the smallest residual.
    fn cycle<V: Vector>(
        &self,
        apply: Apply<V>,
        solution: &mut V,
        residual: &V,
        rhs_norm: f64,
        max_iterations: u64,
    ) -> OracleResult<Cycle> {
        let tolerance = self.tolerance(residual);
        let mut cycle = Cycle {
            lanczos: Tridiagonal::default(),
            operator_norm: 0.0,
            iterations: 0,
            is_residual_in_kernel: false,
        };
        // Lanczos: β v₊ = A v − α v − β₋ v₋
        let mut beta = residual.norm();
        let mut v_old = residual.zeros_like();
        let mut v = residual.scaled(beta.recip());
        // Givens rotation (c, s) of the step before, and the entries of R that it has already touched.
        let (mut c, mut s) = (-1.0_f64, 0.0_f64);
        let (mut delta_bar, mut epsilon) = (0.0_f64, 0.0_f64);
        let mut phi_bar = beta; // |r|
        let mut w_old = residual.zeros_like();
        let mut w = residual.zeros_like();
        let mut smallest_quotient = f64::INFINITY;
        beta = 0.0;

        while cycle.iterations < max_iterations {
            let mut next = checked_product(apply, &v)?;
            cycle.iterations += 1;
            let alpha = v.dot(&next);
            next.axpy(-alpha, &v);
            next.axpy(-beta, &v_old);
            let beta_next = next.norm();
            cycle.lanczos.diagonal.push(alpha);
            cycle.lanczos.off_diagonal.push(beta_next);
            let column_norm = (beta * beta + alpha * alpha + beta_next * beta_next).sqrt();
            cycle.operator_norm = cycle.operator_norm.hypot(column_norm);

            // Column k of R so far: (ε, δ, γ̄), and the first entry of column k + 1.
            let epsilon_old = epsilon;
            let delta = c * delta_bar + s * alpha;
            let gamma_bar = s * delta_bar - c * alpha;
            epsilon = s * beta_next;
            delta_bar = -c * beta_next;
            // |A r| / |r| of the iterate before this step; the step itself would divide by γ ≈ 0. An earlier one may turn
            // out to have been negligible only now that ‖A‖ is known better.
            smallest_quotient = smallest_quotient.min(gamma_bar.hypot(delta_bar));
            if smallest_quotient <= tolerance * cycle.operator_norm {
                cycle.is_residual_in_kernel = true;
                break;
            }
            let gamma = gamma_bar.hypot(beta_next);
            (c, s) = (gamma_bar / gamma, beta_next / gamma);
            // w = (v − ε w₋₋ − δ w₋) / γ
            let mut w_next = v.clone();
            w_next.axpy(-epsilon_old, &w_old);
            w_next.axpy(-delta, &w);
            w_next.scale(gamma.recip());
            (w_old, w) = (w, w_next);
            solution.axpy(c * phi_bar, &w);
            phi_bar *= s;

            if phi_bar <= tolerance * (cycle.operator_norm * solution.norm()).max(rhs_norm) {
                break;
            }
            next.scale(beta_next.recip());
            (v_old, v) = (v, next);
            beta = beta_next;
        }
        Ok(cycle)
    }

    /// MINRES from the guess, started again when rounding made the recurrence promise more than the residual keeps.
    /// Says also whether the system was found inconsistent; the solution is then not to be used.
    fn attempt<V: Vector>(
        &self,
        apply: Apply<V>,
        rhs: &V,
        guess: &V,
        max_iterations: u64,
    ) -> OracleResult<(LinearSolution<V>, bool)> {
        let rhs_norm = checked_norm(rhs)?;
        let (mut answer, mut residual) = LinearSolution::at_guess(apply, rhs, guess)?;
        // Below the normal numbers there is nothing left to scale to a unit vector.
        if answer.residual < f64::MIN_POSITIVE {
            return Ok((answer, false));
        }
        let tolerance = self.tolerance(rhs);
        loop {
            let before = answer.residual;
            let start = answer.solution.clone();
            let left = max_iterations - answer.iterations;
            let cycle = self.cycle(apply, &mut answer.solution, &residual, rhs_norm, left)?;
            answer.iterations += cycle.iterations;
            answer.operator_norm = cycle.lanczos.largest_modulus();
            answer.smallest_ritz = cycle.lanczos.smallest_modulus();
            residual = answer.measure(apply, rhs)?;
            answer.products += cycle.iterations;

            // Sizes of A·solution that the residual is measured against.
            let size = |solution: &V| cycle.operator_norm * solution.norm();
            let is_solved = answer.residual <= tolerance * size(&answer.solution).max(rhs_norm);
            let is_blown_up = is_solved && answer.residual > tolerance * rhs_norm && {
                // Small against the solution alone. That is fair for an ill-conditioned system, but not when the
                // solution has its size from the direction of the residual (with a margin of ten), when it inverts
                // eigenvalues below the cut, or when the residual is rounding.
                let correction = answer.solution.plus(-1.0, &start);
                let others = answer.solution.plus(-along(&residual, &correction), &residual);
                answer.residual > 10.0 * tolerance * size(&others)
                    || rhs_norm < 10.0 * tolerance * size(&answer.solution)
                    || answer.residual < 10.0 * rhs.resolution() * size(&answer.solution)
            };
            if is_blown_up || (cycle.is_residual_in_kernel && !is_solved) {
                return Ok((answer, true));
            }
            if is_solved {
                return Ok((answer, false));
            }
            if answer.iterations >= max_iterations || answer.residual > 0.5 * before {
                answer.status = LinearStatus::OutOfIterations;
                return Ok((answer, false));
            }
        }
    }
}

/// The multiple of `direction` in its direction that `v` has; zero for the zero direction.
fn along<V: Vector>(direction: &V, v: &V) -> f64 {
    let square = direction.dot(direction);
    if square > 0.0 { direction.dot(v) / square } else { 0.0 }
}

impl Minres {
    /// Solves; an inconsistent system by the two consistent ones A s = A r and A d = s, whose right-hand sides are in the
    /// range, so that the Krylov spaces never leave it. Where the range part of r is so small that rounding in A r
    /// takes it out of the range again, the same is done once more, `depth` times at most.
    fn solve_within<V: Vector>(
        &self,
        apply: Apply<V>,
        rhs: &V,
        guess: &V,
        max_iterations: u64,
        depth: u8,
    ) -> OracleResult<LinearSolution<V>> {
        let (mut answer, is_inconsistent) = self.attempt(apply, rhs, guess, max_iterations)?;
        if !is_inconsistent {
            return Ok(answer);
        }
        answer.status = LinearStatus::Inconsistent;
        answer.solution = guess.clone();
        let residual = answer.measure(apply, rhs)?;
        let norm = answer.operator_norm.unwrap_or(0.0);
        if depth == 0 || answer.normal_residual <= self.tolerance(rhs) * norm * answer.residual {
            return Ok(answer);
        }
        let mut step = checked_product(apply, &residual)?;
        answer.products += 1;
        for _ in 0..2 {
            let left = max_iterations.saturating_sub(answer.iterations).max(1);
            let part = self.solve_within(apply, &step, &rhs.zeros_like(), left, depth - 1)?;
            answer.products += part.products;
            answer.iterations += part.iterations;
            answer.operator_norm = part.operator_norm.or(answer.operator_norm);
            answer.smallest_ritz = part.smallest_ritz.or(answer.smallest_ritz);
            if part.status == LinearStatus::OutOfIterations {
                answer.status = part.status;
            }
            step = part.solution;
        }
        answer.solution = guess.plus(1.0, &step);
        answer.measure(apply, rhs)?;
        Ok(answer)
    }
}

impl<V: Vector> LinearSolver<V> for Minres {
    fn solve(&self, apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<LinearSolution<V>> {
        self.solve_within(apply, rhs, guess, self.max_iterations, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::OracleError,
        linear::{
            pseudoinverse::two_solve,
            test_systems::{System, T3Large, random_rank_three},
        },
        rng::Stream,
    };
    use proptest::prelude::*;

    fn solve(system: &System, rhs: &Vec<f64>) -> LinearSolution<Vec<f64>> {
        Minres::default().solve(&mut system.apply(), rhs, &rhs.zeros_like()).unwrap()
    }

    #[test]
    fn solves_definite_and_indefinite_systems() {
        for eigenvalues in [[1.0, 2.0, 3.0, 4.0, 5.0], [-1.0, 2.0, -3.0, 4.0, 0.5]] {
            let system = System::with_eigenvalues(&eigenvalues, 3);
            let rhs = vec![1.0, -2.0, 0.5, 0.0, 3.0];
            let answer = solve(&system, &rhs);
            assert_eq!(answer.status, LinearStatus::Solved);
            assert!(answer.solution.distance(&system.pseudoinverse(&rhs)) < 1e-9);
            assert!((answer.operator_norm.unwrap() - system.spectrum.norm()).abs() < 1e-8);
        }
    }

    #[test]
    fn consistent_singular_systems_give_the_minimum_norm_solution() {
        for seed in 0..50 {
            let (system, rhs) = random_rank_three(seed);
            let image = system.product(&rhs);
            let answer = solve(&system, &image);
            let truth = system.pseudoinverse(&image);
            assert_eq!(answer.status, LinearStatus::Solved, "seed {seed}");
            assert!(answer.solution.distance(&truth) <= 1e-8 * truth.norm(), "seed {seed}");
        }
    }

    #[test]
    fn inconsistent_systems_give_the_minimum_norm_least_squares_solution_by_name() {
        for seed in 0..500 {
            let (system, rhs) = random_rank_three(seed);
            let answer = solve(&system, &rhs);
            let truth = system.pseudoinverse(&rhs);
            assert_eq!(answer.status, LinearStatus::Inconsistent, "seed {seed}");
            let error = answer.solution.distance(&truth) / truth.norm();
            assert!(error <= 1e-7, "seed {seed}: {error:e}");
        }
    }

    #[test]
    fn random_spectra_with_kernels_agree_with_the_dense_pseudoinverse() {
        proptest!(|(values in prop::collection::vec(prop_oneof![Just(0.0), 0.05..1.0f64, -1.0..-0.05f64], 1..12), seed in 0..1000u64)| {
            let system = System::with_eigenvalues(&values, seed);
            let rhs = Stream::new(seed, 5).normal_like(&values);
            let answer = solve(&system, &rhs);
            let kernel_part = system.kernel_part(&rhs).norm();
            let expected =
                if kernel_part > 1e-6 { LinearStatus::Inconsistent } else { LinearStatus::Solved };
            prop_assert_eq!(answer.status, expected);
            // tolerance × condition² of the two solves in a row, with a margin for the Frobenius norm
            prop_assert!(answer.solution.distance(&system.pseudoinverse(&rhs)) <= 1e-6 * rhs.norm());
            prop_assert!((answer.residual - kernel_part).abs() <= 1e-7 * rhs.norm());
            prop_assert!(answer.normal_residual <= 1e-7 * rhs.norm());
        });
    }

    /// Products of the two-solve column of the published comparison, which reproduces to 20 %, and the error of the
    /// hypergradient there.
    #[test]
    fn t3_large_takes_the_known_number_of_products() {
        for (kappa, tolerance, products, error) in [
            (1e2, 1e-8, 124, 1e-7),
            (1e2, 1e-10, 163, 2e-9),
            (1e2, 1e-12, 200, 2e-11),
            (1e4, 1e-8, 546, 2e-5),
            (1e4, 1e-10, 803, 2e-7),
            (1e4, 1e-12, 1035, 4e-9),
        ] {
            let system = T3Large::new(kappa);
            let minres = Minres { tolerance, ..Minres::default() };
            let mut gradients = Vec::new();
            for kernel in [0.0, 1.0] {
                let rhs = T3Large::rhs().plus(kernel, &T3Large::kernel_vector());
                let answer = two_solve(&minres, &mut |v: &Vec<f64>| Ok(system.product(v)), &rhs).unwrap();
                assert_eq!(answer.status, LinearStatus::Solved);
                let ratio = answer.products as f64 / f64::from(products);
                assert!((0.8..=1.2).contains(&ratio), "κ {kappa}, tol {tolerance}: {}", answer.products);
                gradients.push(system.hypergradient(answer.solution()));
                let measured = gradients[gradients.len() - 1].distance(&T3Large::HYPERGRADIENT.to_vec())
                    / T3Large::HYPERGRADIENT.to_vec().norm();
                assert!(measured <= 2.0 * error, "κ {kappa}, tol {tolerance}: error {measured:e}");
                // both of κ's ends are seen by the Lanczos matrix
                assert!((answer.inverse.operator_norm.unwrap() - 1.0).abs() < 1e-9);
                assert!((answer.inverse.smallest_ritz.unwrap() * kappa - 1.0).abs() < 0.05);
                // relative error at most κ × the relative residual, tolerance × ‖T‖_F
                let bound = kappa * tolerance * (answer.range.iterations as f64).sqrt() * rhs.norm();
                assert!(answer.kernel_part.distance(&T3Large::kernel_vector().scaled(kernel)) < bound);
            }
        }
    }

    #[test]
    fn an_ill_conditioned_inconsistent_system_never_explodes() {
        for (kappa, tolerance) in [(1e2, 1e-8), (1e2, 1e-12), (1e4, 1e-8), (1e4, 1e-10), (1e4, 1e-12)] {
            let system = T3Large::new(kappa);
            let rhs = T3Large::rhs().plus(1.0, &T3Large::kernel_vector());
            let minres = Minres { tolerance, ..Minres::default() };
            let answer =
                minres.solve(&mut |v: &Vec<f64>| Ok(system.product(v)), &rhs, &rhs.zeros_like()).unwrap();
            assert_eq!(answer.status, LinearStatus::Inconsistent);
            // relative error at most κ × the relative residual, tolerance × ‖T‖_F, ‖T‖_F ≤ √iterations
            let bound = kappa * tolerance * (answer.iterations as f64).sqrt();
            assert!(system.relative_error(&answer.solution) <= bound, "κ {kappa}, tol {tolerance}");
        }
    }

    #[test]
    fn a_right_hand_side_in_the_kernel_has_solution_zero() {
        let system = System::with_eigenvalues(&[0.0, 0.0, 2.0, 3.0], 1);
        let rhs = system.kernel_part(&vec![1.0, 2.0, 3.0, 4.0]);
        let answer = solve(&system, &rhs);
        assert_eq!(answer.status, LinearStatus::Inconsistent);
        assert!(answer.solution.norm() < 1e-12);
        let split = two_solve(&Minres::default(), &mut system.apply(), &rhs).unwrap();
        assert_eq!(split.status, LinearStatus::Solved);
        assert!(split.kernel_part.distance(&rhs) < 1e-12 && split.solution().norm() < 1e-12);
    }

    #[test]
    fn a_range_part_near_rounding_beside_a_large_kernel_part_stays_bounded() {
        let system = System::with_eigenvalues(&[0.0, 0.0, 0.5, 2.0, -1.0, 3.0], 9);
        let range = system.product(&[1.0, 2.0, -1.0, 0.5, 1.0, 1.0]);
        let kernel = system.kernel_part(&vec![1.0, -1.0, 1.0, 1.0, 2.0, -2.0]);
        for size in [1e-4, 1e-8, 1e-11] {
            let rhs = kernel.plus(size, &range);
            for solution in [
                solve(&system, &rhs).solution,
                two_solve(&Minres::default(), &mut system.apply(), &rhs).unwrap().inverse.solution,
            ] {
                let error = solution.distance(&system.pseudoinverse(&rhs));
                assert!(error <= 1e-9 * rhs.norm(), "size {size:e}: {error:e}");
            }
        }
    }

    #[test]
    fn the_zero_operator_and_the_zero_right_hand_side_end_at_once() {
        let rhs = vec![1.0, 2.0];
        let answer =
            Minres::default().solve(&mut |v: &Vec<f64>| Ok(v.zeros_like()), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!((answer.status, answer.solution), (LinearStatus::Inconsistent, vec![0.0, 0.0]));
        let answer = Minres::default()
            .solve(&mut |v: &Vec<f64>| Ok(v.clone()), &rhs.zeros_like(), &rhs.zeros_like())
            .unwrap();
        assert_eq!((answer.status, answer.products), (LinearStatus::Solved, 0));
    }

    #[test]
    fn a_guess_is_corrected_in_the_range_only() {
        let system = System::with_eigenvalues(&[0.0, 1.0, 2.0, -3.0], 4);
        let rhs = vec![1.0, -1.0, 2.0, 0.5];
        let guess = vec![3.0, 1.0, 0.0, -2.0];
        for rhs in [system.product(&rhs), rhs] {
            let answer = Minres::default().solve(&mut system.apply(), &rhs, &guess).unwrap();
            let truth = system.pseudoinverse(&rhs).plus(1.0, &system.kernel_part(&guess));
            assert!(answer.solution.distance(&truth) < 1e-8);
        }
    }

    #[test]
    fn a_spent_limit_is_named() {
        let system = T3Large::new(1e4);
        let rhs = T3Large::rhs();
        let minres = Minres { max_iterations: 20, ..Minres::default() };
        let answer =
            minres.solve(&mut |v: &Vec<f64>| Ok(system.product(v)), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!((answer.status, answer.iterations), (LinearStatus::OutOfIterations, 20));
        assert_eq!(answer.products, 22);
    }

    #[test]
    fn failures_and_nan_of_the_operator_surface() {
        let rhs = vec![1.0, 2.0];
        let failing = Minres::default().solve(
            &mut |_| Err(OracleError::failed("lower.hvp_yy", "no power")),
            &rhs,
            &rhs.zeros_like(),
        );
        assert!(failing.unwrap_err().to_string().contains("no power"));
        let nan = Minres::default().solve(&mut |_| Ok(vec![f64::NAN, 0.0]), &rhs, &rhs.zeros_like());
        assert!(matches!(nan, Err(OracleError::NonFinite { .. })));
    }

    #[test]
    fn settings_out_of_range_name_the_field() {
        let error = Minres { tolerance: -1.0, ..Minres::default() }.validate().unwrap_err();
        assert_eq!(error.field, "tolerance");
        let error = Minres { max_iterations: 0, ..Minres::default() }.validate().unwrap_err();
        assert_eq!(error.field, "max_iterations");
    }
}
