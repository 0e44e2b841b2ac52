//! MGBiO: one loop with the inverse of the clipped Hessian, and its two momentum forms with batches.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    implicit::{
        Clip, ClippedInverse, Derivatives, MirrorMap, SpectrumCache, hessian_columns, implicit_gradient,
    },
    penalty::{Batches, batch, positive, report, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, SecondOrder},
    vector::Vector,
};

/// How the derivatives of a step are estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Momentum {
    /// At the present point, as MGBiO.
    #[default]
    None,
    /// Moving averages, as MSGBiO.
    MovingAverage,
    /// Recursive corrections (STORM), as VR-MSGBiO.
    Storm,
}

/// Implicit steps with the inverse of the clipped H in place of H⁻¹, x and y moved together.
///
/// # Problem
///
/// PŁ or local PŁ lower level, the non-zero spectrum of H on S(x) in [μ, L]. X and Y may be constrained by their prox; x may lie on
/// a simplex with entropic steps.
///
/// # Method
///
/// Everything at the old (x, y).
///
/// ```text
/// 1  v = S(H)⁻¹ ∇_y f, S clipping every eigenvalue to [μ, L];   w = ∇_x f − J v
/// 2  x̃ = argmin_X ⟨w, x'⟩ + |x' − x|²/2step_x,   x ← x + mix(x̃ − x)
/// 3  ỹ = prox(y − step_y ∇_y g),   y ← y + mix(ỹ − y)
/// moving-average:  each of ∇_x f, ∇_y f, ∇_y g, J, H ← (1 − β)old + β new,  mix ← mix/(offset + t)^(1/2),  β = averaging·mix
/// storm:  each ← new + (1 − β)(old − the new batch at the old point),  mix ← mix/(offset + t)^(1/3),  β = averaging·mix²
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_x`, `step_y` | γ, λ | 0.1, 0.5 | ours |
/// | `mix` | η_t (k for the momentum forms) | 1 | ours |
/// | `mu`, `smoothness` | μ, L | 0.1, 10 | ours; mu must not exceed the least non-zero eigenvalue of the instance |
/// | `clip` | – | all | slides; non-zero is ours |
/// | `rank_tol` | – | 1e-8, for non-zero alone | ours |
/// | `mirror` | ψ | euclidean | the paper of AdaPAG |
/// | `momentum` | – | none | slides; the other two recalled from the paper |
/// | `averaging`, `offset` | c, m | 1, 1 | ours: the published constants are not known here |
/// | `gradient_bound`, `cross_bound` | C_fy, C_gxy | none: not projected | recalled from the paper |
/// | `batch` | – | everything | – |
/// | `tol` | – | none | ends the run when the moves of x and y are at most this |
///
/// # Cost
///
/// One `grad_y` of g, one gradient of f, p `hvp_yy` for a y of p coordinates and an eigendecomposition, O(p³), which is left out
/// while H does not change; one `jvp_xy`. The momentum forms need J itself: p `jvp_xy`; storm all of it twice.
///
/// # Guarantee
///
/// Gradients to a norm ε: O(ε^-2), with batches Õ(ε^-4) and Õ(ε^-3) (as stated by the paper).
///
/// # Target
///
/// Selected, without bias when the clip leaves the non-zero spectrum alone: on S(x) the range of the cross derivative lies in that
/// of H, so what the clip does to the kernel is not seen.
///
/// # Deviations
///
/// A mu above the least non-zero eigenvalue of H biases the limit; `clip = "non-zero"` with a small mu is H⁺. Outside the PŁ
/// class the clip acts on the kernel with weight 1/μ and is wrong. Published output is a uniformly drawn iterate; here it is the
/// last one. No released code is known, nor the constants of the momentum forms; H is averaged unclipped and clipped where it is
/// inverted.
///
/// # Source
///
/// F. Huang, *On Momentum-Based Gradient Methods for Bilevel Optimization with Nonconvex Lower-Level*, arXiv 2303.03944, and the
/// slides on HJFBiO, Algorithm 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mgbio {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Share of the way to the step's end that is gone.
    pub mix: f64,
    /// Lower end of the clipped spectrum.
    pub mu: f64,
    /// Upper end of the clipped spectrum.
    pub smoothness: f64,
    /// Which eigenvalues are clipped.
    pub clip: Clip,
    /// Relative size below which an eigenvalue is zero.
    pub rank_tol: f64,
    /// Geometry of the step in x.
    pub mirror: MirrorMap,
    /// How derivatives are estimated.
    pub momentum: Momentum,
    /// Constant c of the averages.
    pub averaging: f64,
    /// Offset m of the decay of `mix`.
    pub offset: f64,
    /// Bound of the averaged ∇_y f.
    pub gradient_bound: Option<f64>,
    /// Bound of the averaged ∇²_xy g.
    pub cross_bound: Option<f64>,
    /// Batch size of both levels; `None`: everything.
    pub batch: Option<u64>,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Mgbio {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.5,
            mix: 1.0,
            mu: 0.1,
            smoothness: 10.0,
            clip: Clip::All,
            rank_tol: 1e-8,
            mirror: MirrorMap::Euclidean,
            momentum: Momentum::None,
            averaging: 1.0,
            offset: 1.0,
            gradient_bound: None,
            cross_bound: None,
            batch: None,
            tol: None,
        }
    }
}

/// State of [`Mgbio`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct MgbioState<X, Y> {
    x: X,
    y: Y,
    /// The estimates of the momentum forms, and the point at which they were last renewed.
    estimate: Option<(Derivatives<X, Y>, X, Y)>,
    step: u64,
    batches: Batches,
    /// Worked out again after the state was restored.
    #[serde(skip)]
    cache: SpectrumCache,
}

impl<X: Vector, Y: Vector> State<X, Y> for MgbioState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl Mgbio {
    fn inverse(&self) -> ClippedInverse {
        ClippedInverse { clip: self.clip, mu: self.mu, smoothness: self.smoothness, rank_tol: self.rank_tol }
    }
    /// (mix, β) of step t.
    fn weights(&self, t: u64) -> (f64, f64) {
        let since = self.offset + t as f64;
        match self.momentum {
            Momentum::None => (self.mix, 1.0),
            Momentum::MovingAverage => {
                let mix = self.mix / since.sqrt();
                (mix.min(1.0), (self.averaging * mix).min(1.0))
            }
            Momentum::Storm => {
                let mix = self.mix / since.cbrt();
                (mix.min(1.0), (self.averaging * mix * mix).min(1.0))
            }
        }
    }

    /// (w, ∇_y g, v) of the step, the latter two as far as they are estimated.
    fn directions<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &mut MgbioState<P::X, P::Y>,
        weight: f64,
    ) -> OracleResult<(P::X, P::Y, P::Y)>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let MgbioState { x, y, estimate, batches, cache, .. } = state;
        let (upper, lower, second) = (batches.upper(), batches.lower(), batches.lower());
        let (upper, lower, second) = (upper.sample(), lower.sample(), second.sample());
        if self.momentum == Momentum::None {
            let (f_x, f_y) = oracles.upper.grad(x, y, upper)?;
            let g_y = oracles.lower.grad_y(x, y, lower)?;
            let v = self.inverse().apply(cache.of(&hessian_columns(oracles, x, y, second)?), &f_y);
            return Ok((implicit_gradient(oracles, (x, y), f_x, &v, second)?, g_y, v));
        }
        let samples = (upper, lower, second);
        let mut new = Derivatives::at(oracles, x, y, samples)?;
        if let Some((old, old_x, old_y)) = estimate.take() {
            if self.momentum == Momentum::MovingAverage {
                new.scale(weight);
            } else if weight < 1.0 {
                new.axpy(weight - 1.0, &Derivatives::at(oracles, &old_x, &old_y, samples)?);
            }
            new.axpy(1.0 - weight, &old);
        }
        new.bound(self.gradient_bound, self.cross_bound);
        let (w, v) = new.direction(&self.inverse(), cache);
        let g_y = new.g_y.clone();
        *estimate = Some((new, x.clone(), y.clone()));
        Ok((w, g_y, v))
    }
}

impl<P: Problem> Solver<P> for Mgbio
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = MgbioState<P::X, P::Y>;
    const NAME: &'static str = "mgbio";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        ConfigError::require(
            self.mix > 0.0 && (self.mix <= 1.0 || self.momentum != Momentum::None) && self.mix.is_finite(),
            "mix",
            self.mix,
            "give a number above 0, and at most 1 when momentum is none",
        )?;
        self.inverse().validate()?;
        positive("averaging", self.averaging)?;
        ConfigError::require(
            self.offset >= 1.0 && self.offset.is_finite(),
            "offset",
            self.offset,
            "give at least 1",
        )?;
        self.gradient_bound.map_or(Ok(()), |bound| positive("gradient_bound", bound))?;
        self.cross_bound.map_or(Ok(()), |bound| positive("cross_bound", bound))?;
        batch("batch", self.batch)?;
        tolerance(self.tol)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let batches = Batches::new(oracles, self.batch, seed, 0)?;
        Ok(MgbioState { x, y, estimate: None, step: 0, batches, cache: SpectrumCache::default() })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let (mix, weight) = self.weights(state.step);
        let (w, g_y, v) = self.directions(oracles, state, weight)?;
        let MgbioState { x, y, step, .. } = state;
        // x ← x + mix(x̃ − x),  y ← y + mix(ỹ − y)
        let move_x = self.mirror.step(oracles, x, &w, self.step_x).plus(-1.0, x);
        let mut move_y = y.plus(-self.step_y, &g_y);
        oracles.prox_y(&mut move_y, self.step_y);
        move_y.axpy(-1.0, y);
        x.axpy(mix, &move_x);
        y.axpy(mix, &move_y);
        *step += 1;
        let residuals = [move_x.norm() / self.step_x, move_y.norm() / self.step_y];
        Ok(report(&residuals, self.tol, &[("lower_gradient", g_y.norm()), ("v_norm", v.norm())]))
    }
}

impl Registered for Mgbio {
    const CARD: Card = Card {
        title: "MGBiO, MSGBiO, VR-MSGBiO",
        summary: "clipped inverse of the lower Hessian, x and y moved together; two momentum forms with batches",
        paper: "arXiv 2303.03944",
        targets: &[HyperObjective::Selected],
        oracles: &[
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerGradY,
            Oracle::LowerHvpYy,
            Oracle::LowerJvpXy,
        ],
    };
    fn small() -> Self {
        // the problems of the tests have lower Hessians of norm 10
        Self { step_y: 0.05, ..Self::default() }
    }
}
