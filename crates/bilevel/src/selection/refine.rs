//! REFINE: from a landed y to a minimiser of f on S(x) near it.

use serde::{Deserialize, Serialize};

use super::{
    geometry::{Geometry, Rank},
    land::{Land, Landing, LandingEnd},
    level::{At, trial_value},
    tangent::TangentModel,
};
use crate::{
    error::{ConfigError, OracleResult},
    problem::{Problem, SecondOrder},
    vector::Vector,
};

/// Riemannian Newton for f on S(x): τ = −|M_T|⁻¹P∇_y f inside a trust radius, LAND as the retraction, negative curvature
/// of M_T used to leave saddles of f on S(x).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Refine {
    /// Stop at |P∇_y f| ≤ tol (1 + |∇_y f|).
    pub tol: f64,
    /// Most Newton steps.
    pub max_steps: u32,
    /// α_min: curvature of M_T up to alpha_min·max(1, λ_max(M_T)) in modulus is degenerate.
    pub alpha_min: f64,
    /// f is unbounded on S(x) when |y| exceeds this multiple of 1 + |start|.
    pub max_growth: f64,
}

impl Default for Refine {
    fn default() -> Self {
        Self { tol: 1e-8, max_steps: 100, alpha_min: 1e-6, max_growth: 1e4 }
    }
}

/// How a refinement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefineEnd {
    /// Stationary along S(x), no direction of negative curvature.
    Selected,
    /// Not stationary, or a saddle that could not be left.
    Stuck,
    /// y ran away along S(x) while f fell.
    Unbounded,
}

/// A point of S(x) with all that was learnt there.
#[derive(Clone, Debug)]
pub struct SelectedPoint<Y> {
    /// The point.
    pub y: Y,
    /// ∇_y g, zero up to the landing tolerance.
    pub g_y: Y,
    /// ±f.
    pub f: f64,
    /// F̂ = ±f − ⟨v, ∇_y g⟩: the value on S(x) up to O(δ²).
    pub value: f64,
    /// b = ±∇_y f.
    pub b: Y,
    /// v = H⁺ b.
    pub v: Y,
    /// P b, zero at the selection.
    pub tangent: Y,
    /// The lower Hessian.
    pub geometry: Geometry<Y>,
    /// M_T.
    pub model: TangentModel<Y>,
    /// |H(H v − b)| / (‖H‖ |b|).
    pub solve_residual: f64,
    /// Iterations of the solve for v.
    pub solve_iterations: u64,
    /// Whether the solve met its tolerance.
    pub is_solved: bool,
    /// How REFINE ended.
    pub end: RefineEnd,
}

impl<Y: Vector> SelectedPoint<Y> {
    /// δ̂ = (2/c) |∇_y g|, an upper estimate of the distance from S(x); 0 when ∇_y g = 0.
    pub fn distance(&self) -> f64 {
        landing_distance(&self.g_y, &self.geometry)
    }
    /// |P∇_y f|.
    pub fn tangent_residual(&self) -> f64 {
        self.tangent.norm()
    }
    /// The modulus up to which curvature of M_T counts as none.
    pub fn alpha_floor(&self, refine: &Refine) -> f64 {
        refine.alpha_min * self.model.largest().max(1.0)
    }
}

/// (2/c) |∇_y g|: holds if the normal Hessian stays above c/2 on the way.
pub fn landing_distance<Y: Vector>(g_y: &Y, geometry: &Geometry<Y>) -> f64 {
    let size = g_y.norm();
    if size == 0.0 { 0.0 } else { 2.0 * size / geometry.range_min }
}

impl Refine {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::require(
            self.tol > 0.0 && self.tol.is_finite(),
            "refine.tol",
            self.tol,
            "give a positive number, for instance 1e-8",
        )?;
        ConfigError::require(
            self.alpha_min > 0.0 && self.alpha_min < 1.0,
            "refine.alpha_min",
            self.alpha_min,
            "give a number between 0 and 1, for instance 1e-6",
        )?;
        ConfigError::require(
            self.max_growth > 1.0,
            "refine.max_growth",
            self.max_growth,
            "give a number above 1, for instance 1e4",
        )
    }

    /// Everything about a landed point except M_T, which is left implicit.
    pub fn examine<P: Problem>(
        at: &At<P>,
        landing: Landing<P::Y>,
        rank: &Rank,
    ) -> OracleResult<SelectedPoint<P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let Landing { y, gradient: g_y, curvature, .. } = landing;
        let geometry = Geometry::new(at, &y, g_y.norm(), curvature, rank)?;
        let f = at.f(&y)?;
        let b = at.f_y(&y)?;
        let solve = geometry.pseudoinverse(at, &y, &b)?;
        Ok(SelectedPoint {
            value: f - solve.v.dot(&g_y),
            y,
            g_y,
            f,
            b,
            v: solve.v,
            tangent: solve.tangent,
            geometry,
            model: TangentModel::Implicit { alpha: None },
            solve_residual: solve.residual,
            solve_iterations: solve.iterations,
            is_solved: solve.is_solved,
            end: RefineEnd::Stuck,
        })
    }

    /// Minimises ±f on S(x) from a landed point.
    pub fn run<P: Problem>(
        &self,
        at: &At<P>,
        landing: Landing<P::Y>,
        land: &Land,
        rank: &Rank,
    ) -> OracleResult<SelectedPoint<P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let dense = rank.is_dense(landing.y.dim());
        let mut point = Self::examine(at, landing, rank)?;
        let largest = self.max_growth * (1.0 + point.y.norm());
        let mut radius = 0.5 * (1.0 + point.y.norm());
        let mut best_residual = f64::INFINITY;
        let mut idle = 0;
        let mut is_fresh = true;
        for taken in 0..=self.max_steps {
            let residual = point.tangent_residual();
            if is_fresh {
                point.model = TangentModel::new(at, &point.geometry, &point.y, &point.v)?;
            }
            let goal = self.goal(&point);
            // Without a basis the curvature is probed only where the gradient is already small.
            let lowest = if residual <= goal || matches!(point.model, TangentModel::Explicit { .. }) {
                if is_fresh {
                    point.model.probe(at, &point.geometry, &point.y, &point.v)?
                } else {
                    point.model.lowest_direction()
                }
            } else {
                None
            };
            is_fresh = false;
            let floor = point.alpha_floor(self);
            let alpha = point.model.alpha().unwrap_or(f64::INFINITY);
            // Where the curvature is small against its largest, the Newton step is not: go on as far as rounding allows,
            // so that a degenerate minimiser is told from a flat one.
            let goal_here = if alpha < 1e-3 * point.model.largest().max(1.0) { 1e-6 * goal } else { goal };
            if alpha >= -floor && (residual <= goal_here || (residual <= goal && idle >= 3)) {
                point.end = RefineEnd::Selected;
                return Ok(point);
            }
            if taken == self.max_steps
                || idle >= 12
                || radius < 4.0 * point.y.resolution() * (1.0 + point.y.norm())
            {
                break;
            }
            if point.y.norm() > largest {
                point.end = RefineEnd::Unbounded;
                return Ok(point);
            }

            let (step, decrease) = model_step(at, &point, lowest.as_ref(), alpha, floor, radius)?;
            let landing = land.run(at, point.y.plus(1.0, &step), dense, rank.tol)?;
            let moved = if landing.end == LandingEnd::Landed {
                let value = trial_value(at.f(&landing.y))? - point.v.dot(&landing.gradient);
                // F̂ with v frozen: its error is δ times the change of v
                let noise = 1e2 * landing.y.resolution() * (1.0 + point.value.abs())
                    + point.v.norm() * landing.gradient.norm() * 1e-2;
                value <= point.value + 1e-4 * decrease + noise
            } else {
                false
            };
            if moved {
                let length = step.norm();
                point = Self::examine(at, landing, rank)?;
                is_fresh = true;
                if length > 0.5 * radius {
                    radius *= 2.0;
                }
            } else {
                radius = 0.25 * radius.min(step.norm().max(f64::MIN_POSITIVE));
            }
            let now = point.tangent_residual();
            // progress is a smaller gradient or a real decrease of f
            if now <= 0.9 * best_residual || (moved && decrease < -1e-10 * (1.0 + point.value.abs())) {
                idle = 0;
            } else {
                idle += 1;
            }
            best_residual = best_residual.min(now);
        }
        if point.tangent_residual() <= self.goal(&point)
            && point.model.alpha().is_none_or(|alpha| alpha >= -point.alpha_floor(self))
        {
            point.end = RefineEnd::Selected;
        }
        Ok(point)
    }

    /// |P∇_y f| at which a point counts as selected: the tolerance, or what the projection can resolve.
    fn goal<Y: Vector>(&self, point: &SelectedPoint<Y>) -> f64 {
        (self.tol * (1.0 + point.b.norm())).max(point.geometry.projection_noise(&point.b))
    }
}

/// The step τ in T and the decrease of f that the model expects.
fn model_step<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    lowest: Option<&P::Y>,
    alpha: f64,
    floor: f64,
    radius: f64,
) -> OracleResult<(P::Y, f64)>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let r = &point.tangent;
    let mut step = if let Some(step) = point.model.function(|value| -value.abs().max(floor).recip(), r) {
        step
    } else {
        let forcing = r.norm().sqrt().clamp(1e-8, 0.1);
        let target = r.scaled(-1.0);
        point.model.conjugate_gradients(
            at,
            &point.geometry,
            &point.y,
            &point.v,
            &target,
            radius,
            forcing,
            floor,
        )?
    };
    let norm = step.norm();
    if norm > radius {
        step.scale(radius / norm);
    }
    if let Some(q) = lowest.filter(|_| alpha < -floor)
        && step.dot(q).abs() < 0.1 * radius
    {
        // f falls to both sides to second order; take the side to which it falls to first order
        let side = if r.dot(q) > 0.0 { -0.5 } else { 0.5 };
        step.axpy(side * radius, q);
    }
    let curved = point.model.product(at, &point.geometry, &point.y, &point.v, &step)?;
    Ok((step.clone(), (r.dot(&step) + 0.5 * curved.dot(&step)).min(0.0)))
}
