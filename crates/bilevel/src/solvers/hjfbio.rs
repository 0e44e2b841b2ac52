//! HJFBiO: Hessian- and Jacobian-free, one loop, products by differences of gradients.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, StepInfo,
    implicit::{Difference, Direction, ImplicitState},
    penalty::{Variant, not_negative, positive, report, step_x, step_y, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    rng::Stream,
    vector::Vector,
};

/// Whether v is kept in a ball.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Projections {
    /// |v| ≤ `v_radius`, and |H̃| ≤ `hvp_radius` where that is given.
    Published,
    /// Not at all.
    None,
}

/// Where v starts the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstV {
    /// At 0.
    Zero,
    /// Uniform on [0, 1]^p.
    Uniform,
}

/// One step of y, x and v each, with both second-order products from two gradients of g.
///
/// # Problem
///
/// min f(x, y) + φ(x) with φ convex, by the problem's prox (an indicator included); PŁ or local PŁ lower level; f with a Lipschitz
/// gradient. Deterministic, first derivatives only.
///
/// # Method
///
/// All right-hand sides at the old (x, y, v).
///
/// ```text
/// 1  J̃ = (∇_x g(x, y + δv) − ∇_x g(x, y − δv))/2δ,   H̃ likewise with ∇_y g
/// 2  y ← prox(y − step_y ∇_y g(x, y))
/// 3  x ← prox(x − step_x(∇_x f − J̃))
/// 4  v ← P(v − step_v(H̃ − ∇_y f)),   P the projection on |v| ≤ v_radius
/// least-squares, in place of line 4:  v ← P(v + step_v(H̃[∇_y f − H̃[v]] − damping·v))
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_y`, `step_v` | λ, τ | 0.1; at most 1/2L_g and 1/6L_g, for least squares step_v below 2/L_g² | released |
/// | `step_x` | γ | 0.1; released: 500, for weights averaged over 5,000 samples | ours |
/// | `variant` | – | library | sets the next three where they are not given |
/// | `fd_radius` | δ | (1 + \|y\|)ε^(1/3)/\|v\|; published and released: 1e-5 whatever v | ours |
/// | `projections` | – | published; released: none | slides |
/// | `first_v` | v_1 | zero; released: uniform | slides leave it free |
/// | `v_radius` | r_v | 1e3; has to exceed \|H⁺∇_y f\| | ours |
/// | `hvp_radius` | r_h | none | slides; see Deviations |
/// | `direction` | – | plain | slides |
/// | `damping` | – | 0, for least squares alone | ours |
/// | `tol` | – | none | ends the run when all three moves are at most this |
///
/// # Cost
///
/// 3 `grad_y` and 2 `grad_x` of g (5 and 2 for least squares), one gradient of f; 2 `grad_y` fewer and no `grad_x` while v = 0.
///
/// # Guarantee
///
/// O(1/T), that is O(1/ε) gradients to a squared norm ε, for PŁ and local PŁ lower levels (as stated by the slides).
///
/// # Target
///
/// Selected, without bias while the ball is inactive.
///
/// # Deviations
///
/// Where ∇_y f leaves the range of H the kernel part of v grows by step_v·Π_k∇_y f a step until it meets the ball, whose *radial*
/// projection then shrinks the good part: the result is biased. `projections = "none"` lets it grow, and
/// `direction = "least-squares"` keeps it out. The published operator M_{r_h} clips the spectrum of H inside a product that is
/// only known as a difference, which cannot be done without H; `hvp_radius` clips the norm of H̃ instead, and is off. Published
/// output is a uniformly drawn x; here it is the last one. There is no official code: *released* is the implementation among the
/// baselines of LancBiO, which has no projections. A fixed δ with a growing v leaves the region in which the difference is
/// accurate; the relative one does not.
///
/// # Source
///
/// F. Huang, *Optimal Hessian/Jacobian-Free Nonconvex-PL Bilevel Optimization*, ICML 2024, arXiv 2407.17823, and its slides;
/// UCAS-YanYang/LancBiO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hjfbio {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Step of v.
    pub step_v: f64,
    /// Which text is run.
    pub variant: Variant,
    /// Fixed radius of the differences; `None`: as the variant says.
    pub fd_radius: Option<f64>,
    /// Whether v is projected; `None`: as the variant says.
    pub projections: Option<Projections>,
    /// Where v starts; `None`: as the variant says.
    pub first_v: Option<FirstV>,
    /// Radius of the ball of v.
    pub v_radius: f64,
    /// Bound of |H̃|; `None`: none.
    pub hvp_radius: Option<f64>,
    /// How v moves.
    pub direction: Direction,
    /// Tikhonov term of the least-squares direction.
    pub damping: f64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Hjfbio {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.1,
            step_v: 0.1,
            variant: Variant::Library,
            fd_radius: None,
            projections: None,
            first_v: None,
            v_radius: 1e3,
            hvp_radius: None,
            direction: Direction::Plain,
            damping: 0.0,
            tol: None,
        }
    }
}

/// Purpose of the random stream of the first v.
const FIRST_V_PURPOSE: u64 = 1 << 43;

impl Hjfbio {
    fn difference(&self) -> Difference {
        match (self.fd_radius, self.variant) {
            (Some(radius), _) => Difference::Fixed(radius),
            (None, Variant::Library) => Difference::Relative,
            (None, Variant::AsPublished | Variant::AsReleased) => Difference::Fixed(1e-5),
        }
    }
    /// Whether v is projected, after the variant.
    pub fn projections(&self) -> Projections {
        self.projections.unwrap_or(match self.variant {
            Variant::Library | Variant::AsPublished => Projections::Published,
            Variant::AsReleased => Projections::None,
        })
    }
    /// Where v starts, after the variant.
    pub fn first_v(&self) -> FirstV {
        self.first_v.unwrap_or(match self.variant {
            Variant::Library | Variant::AsPublished => FirstV::Zero,
            Variant::AsReleased => FirstV::Uniform,
        })
    }
}

/// Projects on the ball of this radius.
fn project<Y: Vector>(v: &mut Y, radius: f64) {
    let norm = v.norm();
    if norm > radius {
        v.scale(radius / norm);
    }
}

impl<P: Problem> Solver<P> for Hjfbio {
    type State = ImplicitState<P::X, P::Y>;
    const NAME: &'static str = "hjfbio";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        positive("v_radius", self.v_radius)?;
        self.fd_radius.map_or(Ok(()), |radius| positive("fd_radius", radius))?;
        self.hvp_radius.map_or(Ok(()), |radius| positive("hvp_radius", radius))?;
        not_negative("damping", self.damping)?;
        ConfigError::require(
            self.damping == 0.0 || self.direction == Direction::LeastSquares,
            "damping",
            self.damping,
            "damping belongs to the least-squares direction: set direction = \"least-squares\" or leave it at 0",
        )?;
        tolerance(self.tol)
    }

    fn init(&self, _oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        let mut state = ImplicitState::new(x, y);
        if self.first_v() == FirstV::Uniform {
            let mut stream = Stream::new(seed, FIRST_V_PURPOSE);
            let entries: Vec<f64> = (0..state.v.dim()).map(|_| stream.uniform()).collect();
            state.v = state.v.with_coordinates(&entries);
        }
        Ok(state)
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let ImplicitState { x, y, v } = state;
        let difference = self.difference();
        let (jacobian_product, mut hessian_product) = difference.products(oracles, x, y, v)?;
        if self.projections() == Projections::Published
            && let Some(radius) = self.hvp_radius
        {
            project(&mut hessian_product, radius);
        }
        let g_y = oracles.lower.grad_y(x, y, Sample::Full)?;
        let (mut d_x, f_y) = oracles.upper.grad(x, y, Sample::Full)?;
        d_x.axpy(-1.0, &jacobian_product);
        let mut d_v = f_y.plus(-1.0, &hessian_product);
        if self.direction == Direction::LeastSquares {
            d_v = difference.hvp_yy(oracles, x, y, &d_v)?;
            d_v.axpy(-self.damping, v);
        }

        let by_y = step_y(oracles, y, &g_y, self.step_y);
        let by_x = step_x(oracles, x, &d_x, self.step_x);
        let old = v.clone();
        v.axpy(self.step_v, &d_v);
        if self.projections() == Projections::Published {
            project(v, self.v_radius);
        }
        let by_v = old.distance(v) / self.step_v;
        let extras = [("hypergradient", d_x.norm()), ("lower_gradient", by_y), ("v_norm", v.norm())];
        Ok(report(&[by_x, by_y, by_v], self.tol, &extras))
    }
}

impl Registered for Hjfbio {
    const CARD: Card = Card {
        title: "HJFBiO",
        summary: "one step each of y, x and v, products by differences of gradients",
        paper: "arXiv 2407.17823",
        targets: &[HyperObjective::Selected],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        // the problems of the tests have lower Hessians of norm 10
        Self { step_y: 0.05, step_v: 0.05, ..Self::default() }
    }
}
