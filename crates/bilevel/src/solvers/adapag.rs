//! AdaPAG: MGBiO in adaptive metrics, and AdaVSPAG, its form with variance reduction.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    implicit::{
        Clip, ClippedInverse, Derivatives, MirrorMap, SpectrumCache, hessian_columns, implicit_gradient,
    },
    penalty::{Batches, at_least_one, batch, fraction, positive, report, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample, SecondOrder},
    vector::Vector,
};

/// How the derivatives of a step are estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// At the present point, as AdaPAG.
    #[default]
    Exact,
    /// Differences between neighbouring points added up from a full renewal every `period` steps (SPIDER), as AdaVSPAG.
    Spider,
}

/// Implicit steps with the clipped inverse, x in a diagonal metric and y in a scalar one, both made of past directions.
///
/// # Problem
///
/// PŁ lower level, the non-zero spectrum of H on S(x) in [μ, L]; f may carry a nonsmooth convex regulariser of x by its prox. Y may
/// be constrained by its prox; x may lie on a simplex with entropic steps.
///
/// # Method
///
/// Everything at the old (x, y).
///
/// ```text
/// 1  v = S(H)⁻¹ ∇_y f, S clipping every eigenvalue to [μ, L];   w = ∇_x f − J v
/// 2  a ← decay·a + (1 − decay)w∘w,  A = diag(√a + rho);   b ← decay·b + (1 − decay)|∇_y g|,  B = (b + rho)I
/// 3  x̃ = argmin ⟨w, x'⟩ + φ(x') + |x' − x|²_A/2step_x,   ỹ = argmin ⟨∇_y g, y'⟩ + |y' − y|²_B/2step_y
/// 4  x ← x + mix(x̃ − x),   y ← y + mix(ỹ − y)
/// spider:  each of ∇_x f, ∇_y f, ∇_y g, J, H ← old + batch at the new point − the same batch at the old point,
///          and everything anew in every period-th step
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_x`, `step_y` | γ, λ | 0.02, 0.05 | ours |
/// | `mix` | η | 1 | ours |
/// | `decay` | ϱ | 0.9 | recalled from the paper |
/// | `rho` | ρ | 0.1 | recalled from the paper: 1e-3 to 1e-1 |
/// | `mu`, `smoothness`, `clip`, `rank_tol` | μ, L, –, – | 0.1, 10, all, 1e-8 | as for MGBiO |
/// | `mirror` | ψ | euclidean | the paper |
/// | `estimator`, `period`, `batch` | –, q, – | exact, 10, everything | ours |
/// | `tol` | – | none | ends the run when the moves of x and y, over their steps, are at most this |
///
/// # Cost
///
/// As MGBiO: one `grad_y` of g, one gradient of f, p `hvp_yy` and an eigendecomposition, which is left out while H does not change;
/// one `jvp_xy`. Spider: p `jvp_xy`, and everything twice except at a renewal.
///
/// # Guarantee
///
/// O(1/ε) gradients to a squared norm ε, with batches O(ε^-1.5) (as stated by the paper), for the gradient mapping in the metric A,
/// which is not comparable with |∇F|.
///
/// # Target
///
/// Selected; the metric changes the way and not the limit.
///
/// # Deviations
///
/// A prox in a diagonal metric is not what a problem offers: where x is constrained, or moves by entropic steps, A is the scalar
/// √(mean a) + rho. a and b start at 0. The published constants are not known here, and no released code.
///
/// # Source
///
/// F. Huang, *Adaptive Mirror Descent Bilevel Optimization*, arXiv 2311.04520.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adapag {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Share of the way to the step's end that is gone.
    pub mix: f64,
    /// Memory of the metrics.
    pub decay: f64,
    /// Floor of the metrics.
    pub rho: f64,
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
    pub estimator: Estimator,
    /// Steps from one renewal to the next.
    pub period: u64,
    /// Batch size of both levels; `None`: everything.
    pub batch: Option<u64>,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Adapag {
    fn default() -> Self {
        Self {
            step_x: 0.02,
            step_y: 0.05,
            mix: 1.0,
            decay: 0.9,
            rho: 0.1,
            mu: 0.1,
            smoothness: 10.0,
            clip: Clip::All,
            rank_tol: 1e-8,
            mirror: MirrorMap::Euclidean,
            estimator: Estimator::Exact,
            period: 10,
            batch: None,
            tol: None,
        }
    }
}

/// State of [`Adapag`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct AdapagState<X, Y> {
    x: X,
    y: Y,
    /// a.
    squares: X,
    /// b.
    size: f64,
    /// The estimates of spider, and the point at which they were last moved.
    estimate: Option<(Derivatives<X, Y>, X, Y)>,
    step: u64,
    batches: Batches,
    /// Worked out again after the state was restored.
    #[serde(skip)]
    cache: SpectrumCache,
}

impl<X: Vector, Y: Vector> State<X, Y> for AdapagState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

impl Adapag {
    fn inverse(&self) -> ClippedInverse {
        ClippedInverse { clip: self.clip, mu: self.mu, smoothness: self.smoothness, rank_tol: self.rank_tol }
    }

    /// Line 1: (w, ∇_y g, v).
    fn directions<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        state: &mut AdapagState<P::X, P::Y>,
    ) -> OracleResult<(P::X, P::Y, P::Y)>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let AdapagState { x, y, estimate, step, batches, cache, .. } = state;
        let (upper, lower, second) = (batches.upper(), batches.lower(), batches.lower());
        let samples = (upper.sample(), lower.sample(), second.sample());
        if self.estimator == Estimator::Exact {
            let (f_x, f_y) = oracles.upper.grad(x, y, samples.0)?;
            let g_y = oracles.lower.grad_y(x, y, samples.1)?;
            let v = self.inverse().apply(cache.of(&hessian_columns(oracles, x, y, samples.2)?), &f_y);
            return Ok((implicit_gradient(oracles, (x, y), f_x, &v, samples.2)?, g_y, v));
        }
        let new = match estimate.take().filter(|_| !step.is_multiple_of(self.period)) {
            None => Derivatives::at(oracles, x, y, (Sample::Full, Sample::Full, Sample::Full))?,
            Some((mut moved, old_x, old_y)) => {
                moved.axpy(1.0, &Derivatives::at(oracles, x, y, samples)?);
                moved.axpy(-1.0, &Derivatives::at(oracles, &old_x, &old_y, samples)?);
                moved
            }
        };
        let (w, v) = new.direction(&self.inverse(), cache);
        let g_y = new.g_y.clone();
        *estimate = Some((new, x.clone(), y.clone()));
        Ok((w, g_y, v))
    }
}

impl<P: Problem> Solver<P> for Adapag
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = AdapagState<P::X, P::Y>;
    const NAME: &'static str = "adapag";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        ConfigError::require(
            self.mix > 0.0 && self.mix <= 1.0,
            "mix",
            self.mix,
            "give a number above 0 and at most 1",
        )?;
        fraction("decay", self.decay)?;
        positive("rho", self.rho)?;
        self.inverse().validate()?;
        at_least_one("period", self.period)?;
        batch("batch", self.batch)?;
        tolerance(self.tol)
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        Ok(AdapagState {
            squares: x.zeros_like(),
            x,
            y,
            size: 0.0,
            estimate: None,
            step: 0,
            batches: Batches::new(oracles, self.batch, seed, 0)?,
            cache: SpectrumCache::default(),
        })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let (w, g_y, v) = self.directions(oracles, state)?;
        let AdapagState { x, y, squares, size, step, .. } = state;

        // a ← decay·a + (1 − decay)w∘w,  b ← decay·b + (1 − decay)|∇_y g|
        let entries = w.coordinates();
        let squared: Vec<f64> = entries.iter().map(|w| w * w).collect();
        squares.scale(self.decay);
        squares.axpy(1.0 - self.decay, &w.with_coordinates(&squared));
        *size = self.decay * *size + (1.0 - self.decay) * g_y.norm();

        let list = squares.coordinates();
        let move_x = if oracles.is_x_constrained() || self.mirror == MirrorMap::Entropy {
            let metric = (list.iter().sum::<f64>() / list.len() as f64).sqrt() + self.rho;
            self.mirror.step(oracles, x, &w, self.step_x / metric).plus(-1.0, x)
        } else {
            let scaled: Vec<f64> =
                entries.iter().zip(&list).map(|(w, a)| -self.step_x * w / (a.sqrt() + self.rho)).collect();
            x.with_coordinates(&scaled)
        };
        let along_y = self.step_y / (*size + self.rho);
        let mut move_y = y.plus(-along_y, &g_y);
        oracles.prox_y(&mut move_y, along_y);
        move_y.axpy(-1.0, y);
        x.axpy(self.mix, &move_x);
        y.axpy(self.mix, &move_y);
        *step += 1;
        let residuals = [move_x.norm() / self.step_x, move_y.norm() / along_y];
        let extras = [("hypergradient", w.norm()), ("lower_gradient", g_y.norm()), ("v_norm", v.norm())];
        Ok(report(&residuals, self.tol, &extras))
    }
}

impl Registered for Adapag {
    const CARD: Card = Card {
        title: "AdaPAG, AdaVSPAG",
        summary: "clipped inverse of the lower Hessian, x and y moved in adaptive metrics; with batches as AdaVSPAG",
        paper: "arXiv 2311.04520",
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
        Self { step_y: 0.005, ..Self::default() }
    }
}
