//! REFINE: from a landed y to a minimiser of f on S(x) near it.

use serde::{Deserialize, Serialize};

use super::{
    geometry::{Geometry, Rank},
    land::{Land, Landing, LandingEnd},
    level::{At, trial_value},
    tangent::{NewtonPath, TangentModel},
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
    /// What the solves could not resolve of P b; 0 with a factorisation.
    pub tangent_noise: f64,
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
    /// The point with its own geometry and exact solves, where those of the walk were carried along and rough.
    fn renewed<P: Problem<Y = Y>>(self, at: &At<P>, rank: &Rank) -> OracleResult<Self>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        if !self.geometry.is_carried {
            return Ok(self);
        }
        let geometry = self.geometry.renewed(at, &self.y, self.g_y.norm(), rank)?;
        let (model, end) = (self.model, self.end);
        Ok(Self { model, end, ..Refine::describe(at, self.y, self.g_y, geometry, 0.0)? })
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
        let geometry = Geometry::new(at, &landing.y, landing.gradient.norm(), landing.curvature, rank)?;
        Self::describe(at, landing.y, landing.gradient, geometry, 0.0)
    }

    /// What the walk along S(x) needs to know of its next point. Where the kernel is implicit its dimension and c
    /// are those of the point before, and P∇_y f is resolved to a hundredth of itself, v to a thousandth.
    fn pass<P: Problem>(
        at: &At<P>,
        landing: Landing<P::Y>,
        before: &Geometry<P::Y>,
        rank: &Rank,
    ) -> OracleResult<SelectedPoint<P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        match before.carried_to(&landing.y, landing.gradient.norm(), &landing.curvature, rank) {
            Some(geometry) => Self::describe(at, landing.y, landing.gradient, geometry, 1e-2),
            None => Self::examine(at, landing, rank),
        }
    }

    fn describe<P: Problem>(
        at: &At<P>,
        y: P::Y,
        g_y: P::Y,
        mut geometry: Geometry<P::Y>,
        resolution: f64,
    ) -> OracleResult<SelectedPoint<P::Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let f = at.f(&y)?;
        let b = at.f_y(&y)?;
        let solve = geometry.pseudoinverse_to(at, &y, &b, resolution)?;
        geometry.observe_range_min(solve.range_min);
        Ok(SelectedPoint {
            value: f - solve.v.dot(&g_y),
            y,
            g_y,
            f,
            b,
            v: solve.v,
            tangent: solve.tangent,
            tangent_noise: solve.tangent_noise,
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
        let mut path = None;
        let largest = self.max_growth * (1.0 + point.y.norm());
        let mut radius = 0.5 * (1.0 + point.y.norm());
        let mut best_residual = f64::INFINITY;
        let mut idle = 0;
        let mut is_fresh = true;
        for taken in 0..=self.max_steps {
            // rough solves are for the way; whether it ends here is judged by exact ones
            if point.tangent_residual() <= 2.0 * self.goal(&point) {
                point = point.renewed(at, rank)?;
            }
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
                return point.renewed(at, rank);
            }

            if path.is_none() {
                path = newton_path(at, &point, radius, floor)?;
                if let Some(path) = path.as_ref().filter(|_| taken == 0) {
                    radius = radius.min(path.first_radius());
                }
            }
            let (step, decrease) =
                model_step(at, &point, path.as_ref(), lowest.as_ref(), alpha, floor, radius)?;
            // Without a factorisation each step of LAND costs a solve. A landing that is not short against the step along T it
            // belongs to says that the model is not one of f there: no need to follow it to its end.
            let reach = if dense { f64::INFINITY } else { 0.5 * step.norm() };
            let landing = land.run_within(at, point.y.plus(1.0, &step), dense, rank.tol, reach)?;
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
                point = Self::pass(at, landing, &point.geometry, rank)?;
                path = None;
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
        point = point.renewed(at, rank)?;
        if point.tangent_residual() <= self.goal(&point)
            && point.model.alpha().is_none_or(|alpha| alpha >= -point.alpha_floor(self))
        {
            point.end = RefineEnd::Selected;
        }
        Ok(point)
    }

    /// |P∇_y f| at which a point counts as selected: the tolerance, or what the projection can resolve.
    fn goal<Y: Vector>(&self, point: &SelectedPoint<Y>) -> f64 {
        // c comes from Ritz values, which lie above it: twice the noise that it says
        (self.tol * (1.0 + point.b.norm())).max(2.0 * point.tangent_noise)
    }
}

/// The way of the truncated Newton step, where there is no basis of T.
fn newton_path<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    radius: f64,
    floor: f64,
) -> OracleResult<Option<NewtonPath<P::Y>>>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    if matches!(point.model, TangentModel::Explicit { .. }) {
        return Ok(None);
    }
    let (r, model, geometry) = (point.tangent.scaled(-1.0), &point.model, &point.geometry);
    // superlinear, but not below what is known of the right-hand side
    let size = r.norm();
    let forcing = size.sqrt().clamp(1e-8, 0.1).max((10.0 * point.tangent_noise / size).min(0.5));
    NewtonPath::new(model, at, geometry, &point.y, &point.v, &r, radius, forcing, floor).map(Some)
}

/// The step τ in T and the decrease of f that the model expects.
fn model_step<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    path: Option<&NewtonPath<P::Y>>,
    lowest: Option<&P::Y>,
    alpha: f64,
    floor: f64,
    radius: f64,
) -> OracleResult<(P::Y, f64)>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let r = &point.tangent;
    let newton = point.model.function(|value| -value.abs().max(floor).recip(), r);
    let (mut step, mut change) = match (newton, path) {
        (Some(newton), _) => (newton, None),
        (None, Some(path)) => {
            let (step, change) = path.within(radius);
            (step, Some(change))
        }
        (None, None) => (r.zeros_like(), None),
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
        change = None;
    }
    let change = if let Some(change) = change {
        change
    } else {
        let curved = point.model.product(at, &point.geometry, &point.y, &point.v, &step, 1e-2)?;
        r.dot(&step) + 0.5 * curved.dot(&step)
    };
    Ok((step, change.min(0.0)))
}
