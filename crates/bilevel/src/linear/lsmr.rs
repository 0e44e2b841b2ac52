//! LSMR with damping: least squares on any symmetric operator, without leaving the safe side of its kernel.

use serde::{Deserialize, Serialize};

use super::{
    Apply, LinearSolution, LinearSolver, LinearStatus, checked_norm, checked_product, require_max_iterations,
    require_tolerance, tridiagonal::Tridiagonal,
};
use crate::{
    error::{ConfigError, OracleResult},
    vector::Vector,
};

/// Minimises |A v − b|² + γ²|v|² for symmetric A, indefinite and singular ones included.
///
/// # Method
///
/// Golub–Kahan bidiagonalisation of the operator v ↦ (A v, γ v) and MINRES on its normal equation (Fong and Saunders 2011).
/// Without damping and from a zero guess the limit is A⁺b, whatever kernel part b has; with damping it is the filter
/// (A² + γ²I)⁻¹A b, whatever the guess.
///
/// # Stopping
///
/// With B the operator and r its residual: |Bᵀr| ≤ tolerance·‖B‖·|r|, or |r| ≤ tolerance·(‖B‖·|v| + |b|); ‖B‖ is the Frobenius
/// norm of the bidiagonal matrix. Without damping and with a residual that is not small the status is `Inconsistent`.
///
/// # Cost
///
/// Two products an iteration, one before the first and two at the end, which measure the residuals; one for a guess that
/// is not zero. O(κ) iterations where [`super::minres::Minres`] takes O(√κ).
///
/// # Source
///
/// D. Fong and M. Saunders, SIAM J. Sci. Comput. 33 (2011).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lsmr {
    /// Damping γ; 0 for plain least squares.
    pub damping: f64,
    /// Relative size of the residual or of the normal residual to stop at.
    pub tolerance: f64,
    /// Limit of iterations.
    pub max_iterations: u64,
}

impl Default for Lsmr {
    fn default() -> Self {
        Self { damping: 0.0, tolerance: 1e-10, max_iterations: 20_000 }
    }
}

impl Lsmr {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::require(
            self.damping >= 0.0 && self.damping.is_finite(),
            "damping",
            self.damping,
            "give 0 for plain least squares, or a positive number small against ‖A‖",
        )?;
        require_tolerance(self.tolerance)?;
        require_max_iterations(self.max_iterations)
    }
}

/// An element (A v-like part, γ v-like part) of the image space.
struct Image<V> {
    top: V,
    bottom: V,
}

impl<V: Vector> Image<V> {
    fn norm(&self) -> f64 {
        self.top.norm().hypot(self.bottom.norm())
    }
    fn scale(&mut self, a: f64) {
        self.top.scale(a);
        self.bottom.scale(a);
    }
}

/// The rotation (c, s) and r ≥ 0 with c·a + s·b = r and −s·a + c·b = 0; the identity for a = b = 0.
fn rotation(a: f64, b: f64) -> (f64, f64, f64) {
    let r = a.hypot(b);
    if r > 0.0 { (a / r, b / r, r) } else { (1.0, 0.0, 0.0) }
}

/// `v` over its norm; the zero vector stays.
fn normalise<V: Vector>(v: &mut V) -> f64 {
    let norm = v.norm();
    if norm > 0.0 {
        v.scale(norm.recip());
    }
    norm
}

impl<V: Vector> LinearSolver<V> for Lsmr {
    fn solve(&self, apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<LinearSolution<V>> {
        let tolerance = self.tolerance.max(4.0 * rhs.resolution());
        let rhs_norm = checked_norm(rhs)?;
        let (mut answer, residual) = LinearSolution::at_guess(apply, rhs, guess)?;
        // β u = (b − A v₀, −γ v₀),  α v = Bᵀu
        let mut u = Image { top: residual, bottom: answer.solution.scaled(-self.damping) };
        let mut beta = u.norm();
        if beta < f64::MIN_POSITIVE {
            return Ok(answer);
        }
        u.scale(beta.recip());
        let mut v = checked_product(apply, &u.top)?;
        answer.products += 1;
        v.axpy(self.damping, &u.bottom);
        let mut alpha = normalise(&mut v);

        // BᵀB of the bidiagonal matrix, for its norm.
        let mut gram = Tridiagonal::default();
        let mut square_norm = alpha * alpha;
        // First rotation: bidiagonal to upper bidiagonal (ρ, θ). Second: its transpose to (ρ̄, θ̄).
        let mut alpha_bar = alpha;
        let (mut rho, mut rho_bar, mut c_bar, mut s_bar) = (1.0, 1.0, 1.0, 0.0);
        let mut zeta_bar = alpha * beta; // |Bᵀr|
        let mut zeta = 0.0;
        let mut h = v.clone();
        let mut h_bar = v.zeros_like();
        // |r| from a third rotation of the transformed right-hand side.
        let (mut beta_dd, mut beta_d) = (beta, 0.0);
        let (mut rho_d, mut tau, mut theta_tilde) = (1.0, 0.0, 0.0);
        let mut residual_norm = beta;
        let is_stationary = |normal: f64, residual: f64, norm: f64| normal <= tolerance * norm * residual;
        let is_small = |residual: f64, norm: f64, solution: &V| {
            residual <= tolerance * (norm * solution.norm() + rhs_norm)
        };

        while answer.iterations < self.max_iterations
            && !is_stationary(zeta_bar.abs(), residual_norm, square_norm.sqrt())
            && !is_small(residual_norm, square_norm.sqrt(), &answer.solution)
        {
            // β u ← B v − α u,  α v ← Bᵀu − β v
            u.scale(-alpha);
            u.top.axpy(1.0, &checked_product(apply, &v)?);
            u.bottom.axpy(self.damping, &v);
            beta = u.norm();
            if beta > 0.0 {
                u.scale(beta.recip());
            }
            let alpha_old = alpha;
            v.scale(-beta);
            v.axpy(1.0, &checked_product(apply, &u.top)?);
            v.axpy(self.damping, &u.bottom);
            alpha = normalise(&mut v);
            answer.iterations += 1;
            answer.products += 2;
            gram.diagonal.push(alpha_old * alpha_old + beta * beta);
            gram.off_diagonal.push(alpha * beta);
            square_norm += beta * beta + alpha * alpha;

            let rho_old = rho;
            let (c, s, rho_new) = rotation(alpha_bar, beta);
            rho = rho_new;
            let theta = s * alpha;
            alpha_bar = c * alpha;
            let rho_bar_old = rho_bar;
            let zeta_old = zeta;
            let theta_bar = s_bar * rho;
            (c_bar, s_bar, rho_bar) = rotation(c_bar * rho, theta);
            zeta = c_bar * zeta_bar;
            zeta_bar *= -s_bar;
            // h̄ ← h − (θ̄ρ/(ρ₋ρ̄₋)) h̄,  v ← v + (ζ/(ρρ̄)) h̄,  h ← v₊ − (θ/ρ) h
            h_bar.scale(-theta_bar * rho / (rho_old * rho_bar_old));
            h_bar.axpy(1.0, &h);
            answer.solution.axpy(zeta / (rho * rho_bar), &h_bar);
            h.scale(-theta / rho);
            h.axpy(1.0, &v);

            let beta_hat = c * beta_dd;
            beta_dd *= -s;
            let (c_tilde, s_tilde, rho_tilde) = rotation(rho_d, theta_bar);
            tau = (zeta_old - theta_tilde * tau) / rho_tilde;
            theta_tilde = s_tilde * rho_bar;
            rho_d = c_tilde * rho_bar;
            beta_d = c_tilde * beta_hat - s_tilde * beta_d;
            residual_norm = beta_dd.hypot(beta_d - (zeta - theta_tilde * tau) / rho_d);
        }

        let norm = square_norm.sqrt();
        let residual = answer.measure_residual(apply, rhs)?;
        let mut normal = checked_product(apply, &residual)?;
        answer.products += 1;
        normal.axpy(-self.damping * self.damping, &answer.solution);
        answer.normal_residual = normal.norm();
        answer.operator_norm =
            gram.largest_modulus().map(|square| (square - self.damping * self.damping).max(0.0).sqrt());
        let whole = answer.residual.hypot(self.damping * answer.solution.norm());
        // What rounding leaves of Bᵀr.
        let rounding = 10.0 * rhs.resolution() * norm * (norm * answer.solution.norm() + rhs_norm);
        let is_stationary =
            is_stationary(answer.normal_residual, 2.0 * whole, norm) || answer.normal_residual <= rounding;
        answer.status = match (is_small(whole, norm, &answer.solution), is_stationary) {
            (true, _) => LinearStatus::Solved,
            (false, true) if self.damping > 0.0 => LinearStatus::Solved,
            (false, true) => LinearStatus::Inconsistent,
            (false, false) => LinearStatus::OutOfIterations,
        };
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
        Lsmr::default().solve(&mut system.apply(), rhs, &rhs.zeros_like()).unwrap()
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
            // tolerance × condition², with a margin for the Frobenius norm
            prop_assert!(answer.solution.distance(&system.pseudoinverse(&rhs)) <= 1e-6 * rhs.norm());
            prop_assert!((answer.residual - kernel_part).abs() <= 1e-7 * rhs.norm());
        });
    }

    #[test]
    fn the_damped_solution_is_the_filter_from_any_guess() {
        proptest!(|(values in prop::collection::vec(prop_oneof![Just(0.0), -1.0..1.0f64], 1..12), damping in 0.05..1.0f64, seed in 0..1000u64)| {
            let system = System::with_eigenvalues(&values, seed);
            let rhs = Stream::new(seed, 5).normal_like(&values);
            let damped = Lsmr { damping, ..Lsmr::default() };
            let truth = system.spectrum.function(|value| value / (value * value + damping * damping), &rhs);
            for guess in [rhs.zeros_like(), Stream::new(seed, 6).normal_like(&values)] {
                let answer = damped.solve(&mut system.apply(), &rhs, &guess).unwrap();
                prop_assert_eq!(answer.status, LinearStatus::Solved);
                // |Bᵀr|/σ_min(B)² with σ_min ≥ γ
                prop_assert!(answer.solution.distance(&truth) <= 1e-9 / (damping * damping) * (rhs.norm() + guess.norm()));
                prop_assert!(answer.normal_residual <= 1e-8 * (rhs.norm() + guess.norm()));
            }
        });
    }

    /// Products of the LSMR column of the published comparison.
    #[test]
    fn t3_large_takes_the_known_number_of_products() {
        for (kappa, tolerance, products) in [(1e2, 1e-8, 795), (1e2, 1e-12, 1245), (1e4, 1e-8, 12_059)] {
            let system = T3Large::new(kappa);
            let lsmr = Lsmr { tolerance, ..Lsmr::default() };
            let rhs = T3Large::rhs();
            let answer =
                lsmr.solve(&mut |v: &Vec<f64>| Ok(system.product(v)), &rhs, &rhs.zeros_like()).unwrap();
            assert_eq!(answer.status, LinearStatus::Solved);
            let ratio = answer.products as f64 / f64::from(products);
            assert!((0.8..=1.2).contains(&ratio), "κ {kappa}, tol {tolerance}: {}", answer.products);
            assert!((answer.operator_norm.unwrap() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn ends_that_cost_little() {
        let system = System::with_eigenvalues(&[0.0, 1.0, 2.0], 3);
        let zero = solve(&system, &vec![0.0; 3]);
        assert_eq!((zero.status, zero.products), (LinearStatus::Solved, 0));
        let kernel = solve(&system, &system.kernel_part(&vec![1.0, 2.0, 3.0]));
        assert_eq!(kernel.status, LinearStatus::Inconsistent);
        assert!(kernel.solution.norm() < 1e-12);
        let rhs = vec![1.0, 2.0];
        let flat =
            Lsmr::default().solve(&mut |v: &Vec<f64>| Ok(v.zeros_like()), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!((flat.status, flat.solution), (LinearStatus::Inconsistent, vec![0.0, 0.0]));
        let few = Lsmr { max_iterations: 3, ..Lsmr::default() };
        let (system, rhs) = (T3Large::new(1e4), T3Large::rhs());
        let answer = few.solve(&mut |v: &Vec<f64>| Ok(system.product(v)), &rhs, &rhs.zeros_like()).unwrap();
        assert_eq!(
            (answer.status, answer.iterations, answer.products),
            (LinearStatus::OutOfIterations, 3, 9)
        );
    }

    #[test]
    fn settings_out_of_range_name_the_field() {
        assert_eq!(Lsmr { damping: -1.0, ..Lsmr::default() }.validate().unwrap_err().field, "damping");
    }
}
