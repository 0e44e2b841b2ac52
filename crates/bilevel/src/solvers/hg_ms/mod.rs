//! HG-MS: select, then differentiate.

mod certify;
mod evaluate;
mod simplex_qp;
mod update;

pub use evaluate::{Evaluation, Exploration};
pub use update::{Upper, UpperStep};

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    registry::{Card, Claim, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    hypergradient::Differentiate,
    oracles::{Oracle, Oracles},
    problem::{Problem, SecondOrder},
    rng::Stream,
    selection::{explore::Explore, geometry::Rank, land::Land, refine::Refine},
    vector::Vector,
};

/// Which point of S(x) the upper level sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The minimiser of f on S(x).
    #[default]
    Optimistic,
    /// The maximiser of f on S(x).
    Pessimistic,
    /// The point that LAND reaches from the previous one: f is not minimised along S(x), and the component of y in the
    /// tangent space stays where it is. The hypergradient is that of landing from the current y. The limit of gradient
    /// descent from a point fixed off S(x) has one term more where S(x) turns with x; this target does not claim it.
    Selected,
}

/// Hypergradient descent with minima selection on a manifold of lower-level minimisers.
///
/// # Problem
///
/// min_x F(x), F(x) = min { f(x, y) : y ∈ S(x) }, S(x) = argmin g(x, ·) a manifold of positive dimension k. g is C³ and locally
/// PŁ near S(x) uniformly in x, the lower level is unconstrained, oracles are deterministic, x may carry a prox.
///
/// # Method
///
/// ```text
///  1  SELECT         from the tracked branches and, now and then, random walks on S(x):
///  2                 LAND: regularised Newton on g        REFINE: Riemannian Newton on f along S(x)
///  3                 equal branches are merged, the lowest corrected values F̂ = f − ⟨v, ∇_y g⟩ kept
///  4  CERTIFY        thirteen conditions, each with a name when it fails
///  5  DIFFERENTIATE  v = H⁺∇_y f,  ∇F = ∇_x f − J v,  one Newton step on S(x) without moving as correction
///  6  UPDATE         Armijo along every active branch from a Barzilai–Borwein step, branches predicted by dy*/dx
/// ```
///
/// # Parameters
///
/// Each part is a field and its settings are plain data: [`Land`], [`Explore`], [`Refine`], [`Rank`], [`Differentiate`],
/// [`Upper`]. The paper gives no values; the defaults are this project's, tuned on the zoo's known answers.
///
/// # Cost
///
/// A step is M·(LAND + REFINE) a trial point for M branches, plus the hypergradient of each active one, plus the
/// certificate; exploration adds N·`walk_len` landings. Nothing grows with the dimension of y but the price of one oracle
/// call, unless the Hessian is factorised ([`Rank::factorise`]); N grows with the dimension of S(x).
///
/// # Guarantee
///
/// Descent of F at every accepted step; ends as `Converged` only where every active branch has |∇F_i| ≤ tol, S(x) was explored
/// at this x, and the certificate holds.
///
/// # Target
///
/// Optimistic by default; pessimistic by prox-linear steps over all branches; or the selected point.
///
/// # Deviations
///
/// The paper fixes the principle (select, then differentiate with the pseudoinverse) and its theory; it leaves the selection
/// routine, step sizes and the pseudoinverse routine open, and there is no released code. All of those are this project's:
/// an implementation of the select-then-differentiate principle, not the authors' algorithm.
///
/// # Source
///
/// S. Masiha, Z. Shen, N. Kiyavash, N. He, *Select-then-differentiate: Solving Bilevel Optimization with Manifold Lower-level
/// Solution Sets*, arXiv 2605.09209.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HgMs {
    /// Which point of S(x) the upper level sees.
    pub target: Target,
    /// How y is brought to S(x).
    pub land: Land,
    /// How S(x) is searched for other selections.
    pub explore: Explore,
    /// How f is minimised along S(x).
    pub refine: Refine,
    /// How kernel and range of the lower Hessian are told apart.
    pub rank: Rank,
    /// How the hypergradient is formed.
    pub differentiate: Differentiate,
    /// How x moves.
    pub upper: Upper,
    /// Branches kept.
    pub max_branches: usize,
    /// Points closer than this, relative to 1 + |y|, are one.
    pub r_merge: f64,
    /// Values closer than this, relative to 1 + |F|, are tied.
    pub tie_tol: f64,
    /// Lower values closer than this, relative to 1 + |g|, are equal.
    pub value_tol: f64,
    /// y counts as landed within this distance of S(x), relative to 1 + |y|.
    pub land_dist: f64,
}

impl Default for HgMs {
    fn default() -> Self {
        Self {
            target: Target::Optimistic,
            land: Land::default(),
            explore: Explore::default(),
            refine: Refine::default(),
            rank: Rank::default(),
            differentiate: Differentiate::default(),
            upper: Upper::default(),
            max_branches: 8,
            r_merge: 1e-4,
            tie_tol: 1e-6,
            value_tol: 1e-10,
            land_dist: 1e-6,
        }
    }
}

/// What one step of HG-MS changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct HgMsState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// Tracked branches, the best first.
    pub branches: Vec<Y>,
    stream: Stream,
    step: u64,
    /// The last iterate and its hypergradient, for the Barzilai–Borwein step.
    previous: Option<(X, X)>,
    /// The last accepted step.
    eta: Option<f64>,
    explore_now: bool,
    /// Steps in a row without an acceptable trial.
    stalls: u32,
    /// How often the tolerances were divided by 100.
    tightening: u32,
    /// Steps in a row whose certificate failed.
    doubts: u32,
    jacobian_start: Option<f64>,
}

impl<X: Vector, Y: Vector> HgMsState<X, Y> {
    /// A start from several points of y at once, one for each basin that is known.
    pub fn new(x: X, branches: Vec<Y>, seed: u64) -> Self {
        assert!(!branches.is_empty(), "HG-MS needs at least one starting point of y");
        Self {
            x,
            branches,
            stream: Stream::new(seed, EXPLORE_PURPOSE),
            step: 0,
            previous: None,
            eta: None,
            explore_now: false,
            stalls: 0,
            tightening: 0,
            doubts: 0,
            jacobian_start: None,
        }
    }
}

/// Purpose of the random stream of exploration.
const EXPLORE_PURPOSE: u64 = 0xe8;

impl<X: Vector, Y: Vector> State<X, Y> for HgMsState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.branches[0])
    }
}

impl<P: Problem> Solver<P> for HgMs
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = HgMsState<P::X, P::Y>;
    const NAME: &'static str = "hg-ms";

    fn target(&self) -> HyperObjective {
        match self.target {
            Target::Optimistic => HyperObjective::Optimistic,
            Target::Pessimistic => HyperObjective::Pessimistic,
            Target::Selected => HyperObjective::Selected,
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.check_settings()
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        Ok(HgMsState::new(x, vec![y], seed))
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        self.upper_step(oracles, state)
    }
}

impl Registered for HgMs {
    const CARD: Card = Card {
        title: "HG-MS",
        summary: "select a point of S(x), then differentiate with the pseudoinverse; certified",
        paper: "arXiv 2605.09209",
        targets: &[HyperObjective::Optimistic, HyperObjective::Pessimistic, HyperObjective::Selected],
        oracles: &[
            Oracle::UpperValue,
            Oracle::UpperGradX,
            Oracle::UpperGradY,
            Oracle::LowerValue,
            Oracle::LowerGradY,
            Oracle::LowerHvpYy,
            Oracle::LowerJvpXy,
        ],
    };
    fn small() -> Self {
        let mut settings = Self::default();
        settings.explore.enabled = false;
        settings
    }
    fn claims() -> Vec<Claim<Self>> {
        ["R2", "R3", "R9", "R10"]
            .map(|run| Claim { run, solver: Self::default(), steps: 300, distance: 1e-6 })
            .into()
    }
}

impl HgMs {
    /// Checks every setting.
    pub fn check_settings(&self) -> Result<(), ConfigError> {
        self.land.validate()?;
        self.explore.validate()?;
        self.refine.validate()?;
        self.rank.validate()?;
        self.differentiate.validate()?;
        self.upper.validate()?;
        ConfigError::require(self.max_branches >= 1, "max_branches", self.max_branches, "give at least 1")?;
        for (field, value) in [
            ("r_merge", self.r_merge),
            ("tie_tol", self.tie_tol),
            ("value_tol", self.value_tol),
            ("land_dist", self.land_dist),
        ] {
            ConfigError::require(value > 0.0 && value < 1.0, field, value, "give a number between 0 and 1")?;
        }
        Ok(())
    }

    /// These settings with the tolerances of selection divided by 100, `times` times.
    fn tightened(&self, times: u32) -> Self {
        let factor = 100f64.powf(-f64::from(times.min(2)));
        let mut settings = self.clone();
        settings.land.tol *= factor;
        settings.refine.tol *= factor;
        settings
    }
}
