//! ∇F by implicit differentiation at a selected point of S(x).

use serde::{Deserialize, Serialize};

use crate::{
    error::{ConfigError, OracleResult},
    linear::{LinearSolver, LinearStatus, cg::Cg, lsmr::Lsmr},
    problem::{Problem, SecondOrder},
    selection::{
        geometry::Rank,
        land::{Land, LandingEnd},
        level::{At, Level, PenalisedLevel, differential},
        refine::{Refine, SelectedPoint},
        tangent::ambient_product,
    },
    vector::Vector,
};

/// How v in ∇F = ∇_x f − J v is obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Inverse {
    /// v = H⁺b. Error O(δ + ε_T/α_T).
    #[default]
    Pseudoinverse,
    /// v = (H² + γ²I)⁻¹Hb, any symmetric H; bias O(γ²).
    Filter {
        /// γ; `None`: 1e-4 times the smallest non-zero eigenvalue.
        gamma: Option<f64>,
    },
    /// v = (H + γI)⁻¹b, for which H + γI must be positive definite; bias O(γ).
    Regularised {
        /// γ; `None`: 1e-4 times the smallest non-zero eigenvalue.
        gamma: Option<f64>,
    },
    /// From first derivatives alone: v ≈ (y − y_σ)/σ with y_σ a minimiser of f + g/σ near y; bias O(σ).
    Penalty {
        /// σ; 1/σ is the multiplier of g in the penalty methods.
        sigma: f64,
    },
}

/// Settings of the hypergradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Differentiate {
    /// The inverse that is used.
    pub inverse: Inverse,
    /// Richardson extrapolations in γ or σ: each removes the leading term of the bias.
    pub extrapolations: u32,
    /// Whether to add one Newton step on S(x) without moving, which squares the error of the selection.
    pub correct: bool,
}

impl Default for Differentiate {
    fn default() -> Self {
        Self { inverse: Inverse::Pseudoinverse, extrapolations: 1, correct: true }
    }
}

/// A hypergradient and what is known of its error.
#[derive(Clone, Debug)]
pub struct Hypergradient<X> {
    /// ±∇F.
    pub gradient: X,
    /// |E τ|, the length of the one-step correction: the error that the selection would have left. 0 without it.
    pub correction: f64,
    /// Whether every linear solve on the way met its tolerance.
    pub is_solved: bool,
}

impl Differentiate {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = |field: &str, value: f64| {
            ConfigError::require(value > 0.0 && value.is_finite(), field, value, "give a positive number")
        };
        match self.inverse {
            Inverse::Pseudoinverse => {}
            Inverse::Filter { gamma } | Inverse::Regularised { gamma } => {
                positive("differentiate.inverse.gamma", gamma.unwrap_or(1.0))?;
            }
            Inverse::Penalty { sigma } => positive("differentiate.inverse.sigma", sigma)?,
        }
        ConfigError::require(
            self.extrapolations <= 3,
            "differentiate.extrapolations",
            self.extrapolations,
            "give 0, 1, 2 or 3; more amplifies rounding",
        )
    }

    /// The hypergradient at a selected point.
    pub fn run<P: Problem>(
        &self,
        at: &At<P>,
        point: &SelectedPoint<P::Y>,
        land: &Land,
        refine: &Refine,
        rank: &Rank,
    ) -> OracleResult<Hypergradient<P::X>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let default_gamma =
            1e-4 * if point.geometry.range_min.is_finite() { point.geometry.range_min } else { 1.0 };
        let mut is_solved = point.is_solved;
        let mut gradient = match self.inverse {
            Inverse::Pseudoinverse => implicit(at, point, &point.v)?,
            Inverse::Filter { gamma } => {
                let v = self.extrapolate(gamma.unwrap_or(default_gamma), 2.0, |gamma| {
                    let (v, solved) = filtered(at, point, gamma, rank)?;
                    is_solved &= solved;
                    Ok(v)
                })?;
                implicit(at, point, &v)?
            }
            Inverse::Regularised { gamma } => {
                let v = self.extrapolate(gamma.unwrap_or(default_gamma), 1.0, |gamma| {
                    let (v, solved) = regularised(at, point, gamma, rank)?;
                    is_solved &= solved;
                    Ok(v)
                })?;
                implicit(at, point, &v)?
            }
            Inverse::Penalty { sigma } => self.extrapolate(sigma, 1.0, |sigma| {
                let (gradient, landed) = penalty(at, point, sigma, land, rank)?;
                is_solved &= landed;
                Ok(gradient)
            })?,
        };
        let mut correction = 0.0;
        // The penalty form moves y itself and needs no correction.
        if self.correct && !matches!(self.inverse, Inverse::Penalty { .. }) {
            let floor = point.alpha_floor(refine);
            let tau = point
                .model
                .pseudoinverse(at, &point.geometry, &point.y, &point.v, &point.tangent, floor)?
                .scaled(-1.0);
            if tau.norm() > 0.0 {
                let change = along(at, point, &tau)?;
                correction = change.norm();
                gradient.axpy(1.0, &change);
            }
        }
        Ok(Hypergradient { gradient, correction, is_solved })
    }

    /// Richardson: `form` has an expansion in powers order, order + step, … of its parameter, which is halved.
    fn extrapolate<V: Vector>(
        &self,
        parameter: f64,
        order: f64,
        mut form: impl FnMut(f64) -> OracleResult<V>,
    ) -> OracleResult<V> {
        let mut row = vec![form(parameter)?];
        for level in 1..=self.extrapolations {
            let mut next = vec![form(parameter * 0.5f64.powf(f64::from(level)))?];
            for (k, coarse) in row.iter().enumerate() {
                // the filter's bias has even powers only: orders 2, 4, 6; the others 1, 2, 3
                let weight = 2f64.powf(order * (k as f64 + 1.0));
                let fine = next.last().expect("starts with one entry");
                let better = fine.scaled(weight / (weight - 1.0)).plus(-1.0 / (weight - 1.0), coarse);
                next.push(better);
            }
            row = next;
        }
        Ok(row.pop().expect("starts with one entry"))
    }
}

/// ∇_x f − J v.
fn implicit<P: Problem>(at: &At<P>, point: &SelectedPoint<P::Y>, v: &P::Y) -> OracleResult<P::X>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    Ok(at.f_x(&point.y)?.plus(-1.0, &at.j(&point.y, v)?))
}

/// E t = C t − J H⁺A t: the derivative of the hypergradient along t, v frozen in C = ∇²_xy f − ∇³_xyy g·v and
/// A = ∇²_yy f − ∇³_yyy g·v.
pub fn along<P: Problem>(at: &At<P>, point: &SelectedPoint<P::Y>, t: &P::Y) -> OracleResult<P::X>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let (y, v) = (&point.y, &point.v);
    let c_t = differential(y, t, |y| Ok(at.f_x(y)?.plus(-1.0, &at.j(y, v)?)))?;
    let a_t = ambient_product(at, y, v, t)?;
    // what is computed is a correction: three digits of it are enough
    let s = point.geometry.pseudoinverse_to(at, y, &a_t, 1e-2)?.v;
    Ok(c_t.plus(-1.0, &at.j(y, &s)?))
}

/// (H² + γ²I)⁻¹Hb.
fn filtered<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    gamma: f64,
    rank: &Rank,
) -> OracleResult<(P::Y, bool)>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    if let Some(spectrum) = point.geometry.spectrum() {
        return Ok((spectrum.function(|value| value / (value * value + gamma * gamma), &point.b), true));
    }
    let lsmr = Lsmr { tolerance: rank.tol_solve, max_iterations: rank.max_products, damping: gamma };
    let solve = lsmr.solve(&mut |v| at.hessian_product(&point.y, v), &point.b, &point.b.zeros_like())?;
    Ok((solve.solution, solve.status.is_least_squares()))
}

/// (H + γI)⁻¹b; not solved when H + γI is not positive definite.
fn regularised<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    gamma: f64,
    rank: &Rank,
) -> OracleResult<(P::Y, bool)>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    if let Some(spectrum) = point.geometry.spectrum() {
        return Ok((
            spectrum.function(|value| (value + gamma).recip(), &point.b),
            point.geometry.smallest + gamma > 0.0,
        ));
    }
    let cg = Cg { tolerance: rank.tol_solve, max_iterations: rank.max_products, ..Cg::default() };
    let solve = cg.solve(
        &mut |v| Ok(at.hessian_product(&point.y, v)?.plus(gamma, v)),
        &point.b,
        &point.b.zeros_like(),
    )?;
    let solved = solve.status == LinearStatus::Solved;
    Ok((solve.solution, solved))
}

/// G_σ = ∇_x f(x, y_σ) + (∇_x g(x, y_σ) − ∇_x g(x, y))/σ with y_σ the minimiser of f + g/σ near y.
fn penalty<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    sigma: f64,
    land: &Land,
    rank: &Rank,
) -> OracleResult<(P::X, bool)>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let level = PenalisedLevel { at: *at, sigma };
    // y_σ enters divided by σ, so its gradient is driven that much further down
    let landing = land.with_tol(land.tol * sigma.min(1.0)).run(
        &level,
        point.y.clone(),
        rank.is_dense(point.y.dim()),
        rank.tol,
    )?;
    let mut gradient = at.f_x(&landing.y)?;
    gradient.axpy(sigma.recip(), &at.g_x(&landing.y)?);
    gradient.axpy(-sigma.recip(), &at.g_x(&point.y)?);
    Ok((gradient, landing.end == LandingEnd::Landed))
}
