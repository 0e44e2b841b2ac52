//! BA: the bilevel approximation method, with its stochastic form BSA and an accelerated one.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    implicit::{VStart, descend_lower, implicit_gradient},
    penalty::{Batches, at_least_one, batch, positive, report, step_x, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    linear::{AnyLinear, LinearSolver},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, SecondOrder},
    rng::Stream,
    vector::Vector,
};

/// How many lower steps a step takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Growth {
    /// `lower_steps` at every step.
    Constant,
    /// ⌈(k + 1)^(1/4)/2⌉ at step k, for a nonconvex F.
    #[default]
    Nonconvex,
    /// ⌈√(k + 1)/2⌉ at step k, for a convex F.
    Convex,
}

/// How v is obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inverse {
    /// By the linear solver.
    #[default]
    Solve,
    /// By one random term of the Neumann series, as BSA does: q uniform in 0..terms, q products, each on its own batch.
    RandomNeumann,
}

/// Which variable moves first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The lower loop, then x at the new y, as published.
    #[default]
    YThenX,
    /// x at the old y, then the lower loop at the new x, as the benchmark of BSA does.
    XThenY,
}

/// Approximate hypergradients: some lower steps, one linear solve, one step in x.
///
/// # Problem
///
/// g(x, ·) strongly convex and twice differentiable, f and g smooth, ∇²g Lipschitz; F strongly convex, convex or nonconvex. On a PŁ
/// lower level the inverse does not exist and the pseudoinverse stands for it. X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  lower_steps times  y ← prox(y − step_y ∇_y g(x, y));   y is kept for the next step
/// 2  solve H v = ∇_y f at (x, y)
/// 3  x ← prox(x − step_x(∇_x f − J v))
/// BSA, in place of line 2:  q uniform in {0, …, terms − 1};  r ← ∇_y f on a batch;
///    q times  r ← r − step_v H r, a fresh batch each;  v ← terms·step_v·r
/// accelerated:  a = 2/(k + 2),  m = (1 − a)x + a u;  lines 1 and 2 at m;  d = ∇_x f − J v there
///    u ← prox(u − (k + 1)(step_x/2) d),  x ← prox(m − step_x d)
/// ```
///
/// # Parameters
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `step_y` | γ | 0.5; the paper: 2/(L_g + μ) | ours, for L_g near 1 |
/// | `growth`, `lower_steps` | t_k | nonconvex; 10 where constant | the paper; BSA: benchopt/benchmark_bilevel |
/// | `step_x` | λ | 0.1; at most 1/L_F | ours |
/// | `decay` | – | 0; BSA 0.5: steps of x and y are multiplied by (k + 1)^−decay | benchopt/benchmark_bilevel |
/// | `linear` | – | MINRES, least squares on a singular H; CG when H is positive definite | ours |
/// | `v_start` | – | zero: the solve starts there and its limit is H⁺∇_y f | ours |
/// | `inverse` | – | solve | the paper's BA; random-neumann is BSA |
/// | `terms`, `step_v` | b, – | 10, 0.5 | benchopt/benchmark_bilevel; step_v below 1/L_g |
/// | `batch` | – | everything; BSA 64 | benchopt/benchmark_bilevel |
/// | `order` | – | y-then-x | the paper; released: x-then-y |
/// | `accelerated` | – | false | the paper's ABA, our reading |
/// | `tol` | – | none | ends the run when the prox-gradients in x and y are at most this |
///
/// # Cost
///
/// T `grad_y` of g, one gradient of f, one solve (about √κ log(1/ε) `hvp_yy`), one `jvp_xy`. BSA: q products in place of the solve,
/// (terms − 1)/2 on average.
///
/// # Guarantee
///
/// Nonconvex F: O(1/ε) upper and O(ε^-1.25) lower gradients to a squared norm ε; BSA: O(ε^-2) upper and O(ε^-3) lower samples
/// (recalled from the paper).
///
/// # Target
///
/// Selected, without bias once y and v are exact.
///
/// # Deviations
///
/// The paper inverts H; here a least-squares solve serves the singular H of a PŁ lower level as well. The released BSA of the
/// benchmark updates x before y (`order = "x-then-y"`). The published ABA was not available: `accelerated` is the accelerated
/// gradient method of Ghadimi and Lan on approximate hypergradients, for convex F, and is to be quoted as our reading.
///
/// # Source
///
/// S. Ghadimi, M. Wang, *Approximation Methods for Bilevel Programming*, arXiv 1802.02246; benchopt/benchmark_bilevel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ba {
    /// Step of x.
    pub step_x: f64,
    /// Step of y.
    pub step_y: f64,
    /// Power of the decay of both steps.
    pub decay: f64,
    /// How the number of lower steps grows.
    pub growth: Growth,
    /// Lower steps of each step, when the number is constant.
    pub lower_steps: u64,
    /// How v is obtained.
    pub inverse: Inverse,
    /// The linear solver.
    pub linear: AnyLinear,
    /// Where the solve starts.
    pub v_start: VStart,
    /// Terms of the Neumann series.
    pub terms: u64,
    /// Step of the Neumann series.
    pub step_v: f64,
    /// Batch size; `None`: everything.
    pub batch: Option<u64>,
    /// Which variable moves first.
    pub order: Order,
    /// Whether x follows the accelerated scheme.
    pub accelerated: bool,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for Ba {
    fn default() -> Self {
        Self {
            step_x: 0.1,
            step_y: 0.5,
            decay: 0.0,
            growth: Growth::Nonconvex,
            lower_steps: 10,
            inverse: Inverse::Solve,
            linear: AnyLinear::default(),
            v_start: VStart::Zero,
            terms: 10,
            step_v: 0.5,
            batch: None,
            order: Order::YThenX,
            accelerated: false,
            tol: None,
        }
    }
}

/// State of [`Ba`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct BaState<X, Y> {
    x: X,
    y: Y,
    v: Y,
    /// The second sequence u of the accelerated scheme.
    aggregate: Option<X>,
    step: u64,
    batches: Batches,
    /// Draws q.
    terms: Stream,
}

impl<X: Vector, Y: Vector> State<X, Y> for BaState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.y)
    }
}

/// Purpose of the random stream of q.
const TERMS_PURPOSE: u64 = 1 << 42;

impl Ba {
    /// Lower steps of step k.
    fn lower_steps_at(&self, k: u64) -> u64 {
        let grown = |power: f64| (((k + 1) as f64).powf(power) / 2.0).ceil() as u64;
        match self.growth {
            Growth::Constant => self.lower_steps,
            Growth::Nonconvex => grown(0.25),
            Growth::Convex => grown(0.5),
        }
    }

    /// Line 2 and the direction d = ∇_x f − J v at (x, y); returns it with |H v − ∇_y f| where that is known.
    fn direction<P: Problem>(
        &self,
        oracles: &Oracles<P>,
        (x, y): (&P::X, &P::Y),
        v: &mut P::Y,
        batches: &mut Batches,
        terms: &mut Stream,
    ) -> OracleResult<(P::X, Option<f64>)>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let indices = batches.upper();
        let (f_x, f_y) = oracles.upper.grad(x, y, indices.sample())?;
        let mut residual = None;
        match self.inverse {
            Inverse::Solve => {
                let indices = batches.lower();
                let s = indices.sample();
                let guess = if self.v_start == VStart::Warm { v.clone() } else { y.zeros_like() };
                let solve = self.linear.solve(&mut |p| oracles.lower.hvp_yy(x, y, p, s), &f_y, &guess)?;
                residual = Some(solve.residual);
                *v = solve.solution;
            }
            Inverse::RandomNeumann => {
                let mut term = f_y;
                for _ in 0..terms.below(self.terms) {
                    let indices = batches.lower();
                    let product = oracles.lower.hvp_yy(x, y, &term, indices.sample())?;
                    term.axpy(-self.step_v, &product);
                }
                *v = term.scaled(self.terms as f64 * self.step_v);
            }
        }
        let indices = batches.lower();
        Ok((implicit_gradient(oracles, (x, y), f_x, v, indices.sample())?, residual))
    }
}

impl<P: Problem> Solver<P> for Ba
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    type State = BaState<P::X, P::Y>;
    const NAME: &'static str = "ba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }

    fn validate(&self) -> Result<(), ConfigError> {
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        positive("step_v", self.step_v)?;
        ConfigError::require(
            (0.0..=1.0).contains(&self.decay),
            "decay",
            self.decay,
            "give 0 for constant steps, or a power up to 1; 0.5 is usual with batches",
        )?;
        at_least_one("lower_steps", self.lower_steps)?;
        at_least_one("terms", self.terms)?;
        batch("batch", self.batch)?;
        tolerance(self.tol)?;
        ConfigError::require(
            !(self.accelerated && self.order == Order::XThenY),
            "accelerated",
            self.accelerated,
            "the accelerated scheme takes the lower steps first: leave order at y-then-x",
        )?;
        self.linear
            .validate()
            .map_err(|error| ConfigError { field: format!("linear.{}", error.field), ..error })
    }

    fn init(&self, oracles: &Oracles<P>, x: P::X, y: P::Y, seed: u64) -> OracleResult<Self::State> {
        Ok(BaState {
            aggregate: self.accelerated.then(|| x.clone()),
            x,
            v: y.zeros_like(),
            y,
            step: 0,
            batches: Batches::new(oracles, self.batch, seed, 0)?,
            terms: Stream::new(seed, TERMS_PURPOSE),
        })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let BaState { x, y, v, aggregate, step, batches, terms } = state;
        let shrink = ((*step + 1) as f64).powf(-self.decay);
        let (along_x, along_y) = (self.step_x * shrink, self.step_y * shrink);
        let lower = (self.lower_steps_at(*step), along_y);

        let (by_x, by_y, residual);
        if let Some(aggregate) = aggregate {
            // m = (1 − a)x + a u
            let share = 2.0 / (*step + 2) as f64;
            let mut middle = x.scaled(1.0 - share);
            middle.axpy(share, aggregate);
            by_y = descend_lower(oracles, &middle, y, lower, batches)?;
            let (d, solved) = self.direction(oracles, (&middle, y), v, batches, terms)?;
            residual = solved;
            // u ← prox(u − (k + 1)(step/2) d),  x ← prox(m − step·d)
            step_x(oracles, aggregate, &d, 0.5 * (*step + 1) as f64 * along_x);
            by_x = step_x(oracles, &mut middle, &d, along_x);
            *x = middle;
        } else if self.order == Order::YThenX {
            by_y = descend_lower(oracles, x, y, lower, batches)?;
            let (d, solved) = self.direction(oracles, (x, y), v, batches, terms)?;
            residual = solved;
            by_x = step_x(oracles, x, &d, along_x);
        } else {
            let (d, solved) = self.direction(oracles, (x, y), v, batches, terms)?;
            residual = solved;
            by_x = step_x(oracles, x, &d, along_x);
            by_y = descend_lower(oracles, x, y, lower, batches)?;
        }
        *step += 1;
        let mut extras = vec![("lower_gradient", by_y), ("v_norm", v.norm())];
        // the part of ∇_y f outside the range of H: 0 where selection does not matter
        extras.extend(residual.map(|residual| ("outside_range", residual)));
        Ok(report(&[by_x, by_y], self.tol, &extras))
    }
}

impl Registered for Ba {
    const CARD: Card = Card {
        title: "BA, BSA",
        summary: "some lower steps, one linear solve, one step in x; with batches and a random Neumann series as BSA",
        paper: "arXiv 1802.02246",
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
