//! LAND: from y to a minimiser of g(x, ·) near it.

use serde::{Deserialize, Serialize};

use super::level::{Level, trial_value};
use crate::{
    error::{ConfigError, OracleResult},
    linear::{LinearSolver, LinearStatus, cg::Cg, dense::Spectrum, lanczos::extremes},
    rng::Stream,
    vector::Vector,
};

/// Regularised Newton on a level: s = −(H + ρI)⁻¹∇, ρ = max(0, −2λ_min(H)) + τ min(|∇|, 1), with backtracking, and a push
/// along the direction of most negative curvature out of saddles. τ ≤ 1 falls by 4 where the quadratic model predicts well
/// and rises where it does not, so that small curvature far from S(x) does not make the way long.
///
/// Near a manifold of minimisers of a C² PŁ function it keeps the quadratic local rate, and y ↦ `run`(y + t) with t
/// tangent is a retraction on S(x). (Rebjock and Boumal, arXiv 2303.00096; arXiv 2605.09209 leaves the routine open.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Land {
    /// Stop at |∇_y g| ≤ tol.
    pub tol: f64,
    /// Most Newton steps.
    pub max_steps: u32,
    /// Whether to leave saddles and maxima of g along negative curvature.
    pub escape_saddles: bool,
    /// Give up when |y| exceeds this multiple of 1 + |start|.
    pub max_growth: f64,
}

impl Default for Land {
    fn default() -> Self {
        Self { tol: 1e-12, max_steps: 100, escape_saddles: true, max_growth: 1e4 }
    }
}

/// What is known of the Hessian where LAND ended.
#[derive(Clone, Debug)]
pub enum Curvature<Y> {
    /// All of it.
    Dense(Spectrum),
    /// Ritz values of a short Lanczos process.
    Krylov {
        /// Lower estimate of ‖H‖.
        norm: f64,
        /// Upper estimate of λ_min(H).
        smallest: f64,
        /// Unit vector of that estimate.
        vector: Y,
    },
}

impl<Y: Vector> Curvature<Y> {
    /// Estimate of ‖H‖.
    pub fn norm(&self) -> f64 {
        match self {
            Self::Dense(spectrum) => spectrum.norm(),
            Self::Krylov { norm, .. } => *norm,
        }
    }
    /// Estimate of λ_min(H).
    pub fn smallest(&self) -> f64 {
        match self {
            Self::Dense(spectrum) => spectrum.min(),
            Self::Krylov { smallest, .. } => *smallest,
        }
    }
    fn smallest_vector(&self, like: &Y) -> Y {
        match self {
            Self::Dense(spectrum) => like.with_coordinates(&spectrum.vector(0)),
            Self::Krylov { vector, .. } => vector.clone(),
        }
    }
}

/// How a landing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LandingEnd {
    /// |∇_y g| is at the tolerance, or as close as rounding allows, and H has no negative eigenvalue.
    Landed,
    /// |∇_y g| is at the tolerance at a saddle or maximum that was not to be left, or could not be.
    Saddle,
    /// The steps are used up, or no step makes progress.
    OutOfSteps,
    /// y ran away, or further than the caller allowed.
    Left,
}

/// Where a landing ended.
#[derive(Clone, Debug)]
pub struct Landing<Y> {
    /// The point.
    pub y: Y,
    /// ∇_y g there.
    pub gradient: Y,
    /// The Hessian there.
    pub curvature: Curvature<Y>,
    /// How it ended.
    pub end: LandingEnd,
    /// Newton steps taken.
    pub steps: u32,
}

/// Lanczos steps for the norm and the smallest eigenvalue.
const LANCZOS_STEPS: usize = 12;
/// Escapes from saddles in one landing.
const MAX_ESCAPES: u32 = 8;

impl Land {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::require(
            self.tol > 0.0 && self.tol.is_finite(),
            "land.tol",
            self.tol,
            "give a positive number, for instance 1e-12",
        )?;
        ConfigError::require(
            self.max_growth > 1.0,
            "land.max_growth",
            self.max_growth,
            "give a number above 1, for instance 1e4",
        )
    }

    /// This with another tolerance.
    #[must_use]
    pub fn with_tol(&self, tol: f64) -> Self {
        Self { tol, ..self.clone() }
    }

    /// Lands from y. `dense` says whether the Hessian is factorised (y.dim() products a step) or only applied.
    /// `rank_tol`: eigenvalues below −rank_tol·‖H‖ are negative, others are rounding.
    pub fn run<Y: Vector>(
        &self,
        level: &impl Level<Y>,
        y: Y,
        dense: bool,
        rank_tol: f64,
    ) -> OracleResult<Landing<Y>> {
        self.run_within(level, y, dense, rank_tol, f64::INFINITY)
    }

    /// Lands from y, and gives up as [`LandingEnd::Left`] once y is further than `reach` from where it started.
    pub fn run_within<Y: Vector>(
        &self,
        level: &impl Level<Y>,
        mut y: Y,
        dense: bool,
        rank_tol: f64,
        reach: f64,
    ) -> OracleResult<Landing<Y>> {
        let start = reach.is_finite().then(|| y.clone());
        let largest = self.max_growth * (1.0 + y.norm());
        let mut gradient = level.gradient(&y)?;
        let mut escapes = 0;
        let mut stalled = false;
        let mut steps = 0;
        let mut trust = 1.0_f64;
        // Without a factorisation the distance from S(x), |∇|/c, bounds how well the kernel can be seen, and c may be
        // small: one step more costs little and squares it.
        let mut is_polished = dense;
        loop {
            let size = gradient.norm();
            let curvature = curvature(level, &y, &gradient, dense)?;
            let landed = size <= self.tol || (stalled && size <= floor(level, &y, &curvature)?);
            if landed && !is_polished && !stalled {
                is_polished = true;
                let rho = (-2.0 * curvature.smallest()).max(0.0) + trust * size.min(1.0);
                let next = y.plus(1.0, &newton_step(level, &y, &gradient, &curvature, rho)?);
                let next_gradient = level.gradient(&next)?;
                if next_gradient.norm() < size {
                    (y, gradient) = (next, next_gradient);
                }
                continue;
            }
            if landed {
                if curvature.smallest() >= -rank_tol * curvature.norm() {
                    return Ok(Landing { y, gradient, curvature, end: LandingEnd::Landed, steps });
                }
                if !self.escape_saddles || escapes == MAX_ESCAPES {
                    return Ok(Landing { y, gradient, curvature, end: LandingEnd::Saddle, steps });
                }
                escapes += 1;
                stalled = false;
                let push = curvature.smallest_vector(&y).scaled(0.1 * (1.0 + y.norm()));
                let (ahead, behind) = (y.plus(1.0, &push), y.plus(-1.0, &push));
                let ahead_is_lower = trial_value(level.value(&ahead))? <= trial_value(level.value(&behind))?;
                y = if ahead_is_lower { ahead } else { behind };
                gradient = level.gradient(&y)?;
                continue;
            }
            if stalled || steps >= self.max_steps {
                return Ok(Landing { y, gradient, curvature, end: LandingEnd::OutOfSteps, steps });
            }
            if y.norm() > largest || start.as_ref().is_some_and(|start| y.distance(start) > reach) {
                return Ok(Landing { y, gradient, curvature, end: LandingEnd::Left, steps });
            }
            steps += 1;
            let rho = (-2.0 * curvature.smallest()).max(0.0) + trust * size.min(1.0);
            let step = newton_step(level, &y, &gradient, &curvature, rho)?;
            match backtrack(level, &y, &gradient, &step, rho)? {
                Some(progress) => {
                    trust = match progress.agreement {
                        Agreement::Good => (0.25 * trust).max(SMALLEST_TRUST),
                        Agreement::Fair => trust,
                        Agreement::Poor => (4.0 * trust).min(1.0),
                    };
                    (y, gradient) = (progress.y, progress.gradient);
                }
                None => stalled = true,
            }
        }
    }
}

/// −(H + ρI)⁻¹∇.
fn newton_step<Y: Vector>(
    level: &impl Level<Y>,
    y: &Y,
    gradient: &Y,
    curvature: &Curvature<Y>,
    rho: f64,
) -> OracleResult<Y> {
    match curvature {
        Curvature::Dense(spectrum) => Ok(spectrum.function(|value| -(value + rho).recip(), gradient)),
        Curvature::Krylov { .. } => {
            // Dembo, Eisenstat and Steihaug: a forcing term of order √|∇| keeps superlinear convergence
            let tolerance = (0.1 * gradient.norm().sqrt()).clamp(1e-10, 0.1);
            let solver = Cg { tolerance, ..Cg::default() };
            let target = gradient.scaled(-1.0);
            let mut shift = rho;
            loop {
                let solve = solver.solve(
                    &mut |v| Ok(level.hessian_product(y, v)?.plus(shift, v)),
                    &target,
                    &y.zeros_like(),
                )?;
                // The Ritz value that set ρ can miss the most negative eigenvalue; conjugate gradients meet it.
                if solve.status != LinearStatus::NegativeCurvature {
                    return Ok(solve.solution);
                }
                shift = 4.0 * shift.max(1e-3 * curvature.norm());
            }
        }
    }
}

/// |∇_y g| that rounding alone can leave: the Hessian times an error of y at its resolution, with a margin of 100.
///
/// The error is in no particular direction. Where y is large H maps most directions to much less than ‖H‖, so it is tried
/// on a random one; a small y has few directions, and ‖H‖ it is.
fn floor<Y: Vector>(level: &impl Level<Y>, y: &Y, curvature: &Curvature<Y>) -> OracleResult<f64> {
    let typical = match curvature {
        Curvature::Dense(spectrum) => spectrum.norm(),
        Curvature::Krylov { .. } => {
            let direction = Stream::new(0, FLOOR_PURPOSE).normal_like(y);
            level.hessian_product(y, &direction)?.norm() / direction.norm().max(f64::MIN_POSITIVE)
        }
    };
    Ok(1e2 * y.resolution() * typical * (1.0 + y.norm()))
}

fn curvature<Y: Vector>(
    level: &impl Level<Y>,
    y: &Y,
    gradient: &Y,
    dense: bool,
) -> OracleResult<Curvature<Y>> {
    let mut apply = |v: &Y| level.hessian_product(y, v);
    if dense {
        return Ok(Curvature::Dense(Spectrum::of(&mut apply, y)?));
    }
    // A start with a part along every eigenvector: the gradient alone can be blind to a negative one by symmetry.
    let mut start = Stream::new(0, LANCZOS_PURPOSE).normal_like(y);
    let size = gradient.norm();
    if size > 0.0 {
        let length = start.norm();
        start.axpy(length / size, gradient);
    }
    let found = extremes(&mut apply, &start, LANCZOS_STEPS, y.resolution().sqrt())?;
    Ok(match found {
        Some(e) => Curvature::Krylov { norm: e.norm, smallest: e.smallest, vector: e.vector },
        None => Curvature::Krylov { norm: 0.0, smallest: 0.0, vector: y.zeros_like() },
    })
}

/// Purpose of the random stream that starts Lanczos processes.
const LANCZOS_PURPOSE: u64 = 0x1a;

/// Purpose of the random stream that tries the effect of rounding.
const FLOOR_PURPOSE: u64 = 0xf1;

/// Floor of τ.
const SMALLEST_TRUST: f64 = 1e-4;

/// How the decrease compares with the quadratic model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreement {
    Good,
    Fair,
    Poor,
}

/// An accepted trial point.
struct Progress<Y> {
    y: Y,
    gradient: Y,
    agreement: Agreement,
}

/// The longest of the steps s, s/2, s/4, … that makes progress; `None` when none does.
///
/// Far from a minimiser progress is Armijo's on the value. Where the expected decrease drowns in the rounding of the
/// value, progress means that the gradient halves.
fn backtrack<Y: Vector>(
    level: &impl Level<Y>,
    y: &Y,
    gradient: &Y,
    step: &Y,
    rho: f64,
) -> OracleResult<Option<Progress<Y>>> {
    let size = gradient.norm();
    let slope = gradient.dot(step);
    let value = level.value(y)?;
    let noise = y.resolution() * (1.0 + value.abs());
    let by_gradient = size < 1e-7 || slope.abs() < 1e4 * noise;
    // (H + ρI)s = −∇ makes sᵀHs = −⟨∇, s⟩ − ρ|s|²
    let predicted = -0.5 * slope + 0.5 * rho * step.dot(step);
    let mut length = 1.0;
    for _ in 0..40 {
        let y = y.plus(length, step);
        if by_gradient {
            let gradient = level.gradient(&y)?;
            if gradient.norm() <= 0.5 * size {
                return Ok(Some(Progress { y, gradient, agreement: Agreement::Fair }));
            }
            if length < 1e-3 {
                return Ok(None);
            }
        } else {
            let there = trial_value(level.value(&y))?;
            if there <= value + 1e-4 * length * slope {
                let agreement = match (value - there) / predicted {
                    _ if length < 1.0 => Agreement::Poor,
                    ratio if ratio > 0.75 => Agreement::Good,
                    ratio if ratio > 0.25 => Agreement::Fair,
                    _ => Agreement::Poor,
                };
                return Ok(Some(Progress { gradient: level.gradient(&y)?, y, agreement }));
            }
        }
        length *= 0.5;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ¼(|y|² − 1)²: its minimisers are the unit sphere.
    struct Sphere;

    impl Level<Vec<f64>> for Sphere {
        fn value(&self, y: &Vec<f64>) -> OracleResult<f64> {
            Ok(0.25 * (y.dot(y) - 1.0).powi(2))
        }
        fn gradient(&self, y: &Vec<f64>) -> OracleResult<Vec<f64>> {
            Ok(y.scaled(y.dot(y) - 1.0))
        }
        fn hessian_product(&self, y: &Vec<f64>, v: &Vec<f64>) -> OracleResult<Vec<f64>> {
            Ok(v.scaled(y.dot(y) - 1.0).plus(2.0 * y.dot(v), y))
        }
    }

    #[test]
    fn a_landing_longer_than_its_reach_is_given_up() {
        for dense in [true, false] {
            let start = vec![1.2, 1.6, 0.0];
            let land =
                |reach| Land::default().run_within(&Sphere, start.clone(), dense, 1e-6, reach).unwrap();
            let free = land(f64::INFINITY);
            assert_eq!(free.end, LandingEnd::Landed);
            // from radius 2 to the sphere, straight by symmetry
            assert!((free.y.distance(&start) - 1.0).abs() < 1e-9);
            assert_eq!(land(1.5).y, free.y);
            let short = land(0.5);
            assert_eq!(short.end, LandingEnd::Left);
            assert!(short.steps < free.steps, "{} of {} steps", short.steps, free.steps);
        }
    }

    #[test]
    fn a_stall_at_rounding_is_landed_and_one_above_it_is_not() {
        for dense in [true, false] {
            let land = Land { tol: 1e-300, ..Land::default() };
            let landing = land.run(&Sphere, vec![0.8, 0.9, 0.4], dense, 1e-6).unwrap();
            assert_eq!(landing.end, LandingEnd::Landed);
            assert!(landing.gradient.norm() <= 1e-13, "{:e}", landing.gradient.norm());
            let lost = Land { max_steps: 2, ..land }.run(&Sphere, vec![0.8, 0.9, 0.4], dense, 1e-6).unwrap();
            assert_eq!(lost.end, LandingEnd::OutOfSteps);
        }
    }
}
