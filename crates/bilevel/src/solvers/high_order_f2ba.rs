//! One-sided high-order F2BA: forward differences in the weight of f.

use serde::{Deserialize, Serialize};

use super::{
    HyperObjective, Solver, State, StepInfo,
    penalty::{Descent, at_least_one, descend, positive, report, step_x, tolerance},
    registry::{Card, Registered},
};
use crate::{
    error::{ConfigError, OracleResult},
    oracles::{Oracle, Oracles},
    problem::{Objective, Problem, Sample},
    vector::Vector,
};

/// Descends F by a one-sided difference of order q of ∇_x min_y (g + s f) in s at 0; all nodes have s ≥ 0 and so stay inside the
/// PŁ range.
///
/// # Problem
///
/// g + s f is PŁ in y for 0 ≤ s ≤ qσ, and ∇_x min_y (g + s f) is q + 1 times one-sided differentiable in s at 0, which holds where the
/// optimistic point is unique and not degenerate along S(x). X and Y may be constrained by their prox.
///
/// # Method
///
/// ```text
/// 1  for j = 0 … q, lower_steps times:  y_j ← prox(y_j − step_y(∇_y g(x, y_j) + jσ∇_y f(x, y_j))),   every y_j kept
/// 2  G_j = ∇_x g(x, y_j) + jσ∇_x f(x, y_j)
/// 3  x ← prox(x − step_x Σ_j c_j G_j/σ)
///    c = (−1, 1),  (−3/2, 2, −1/2),  (−11/6, 3, −3/2, 1/3)   for q = 1, 2, 3;   q = 1 is F2BA with λ = 1/σ
/// ```
///
/// # Parameters
///
/// All ours.
///
/// | field | symbol | default | from |
/// |---|---|---|---|
/// | `order` | q | 2 | 1, 2 or 3 |
/// | `sigma` | σ | 0.05 | qσ within the PŁ range |
/// | `lower_steps` | K | 10 | grows with q and 1/σ |
/// | `step_y` | – | 0.5 | below 2/L of g + qσf |
/// | `step_x` | – | 0.1 | 1/L_F, independent of σ |
/// | `tol` | – | none | ends the run at this joint prox-gradient norm of x and every `y_j` |
///
/// # Cost
///
/// (q + 1)K `grad_y` and q + 1 `grad_x` of g, qK `grad_y` and q `grad_x` of f.
///
/// # Guarantee
///
/// Bias O(σ^q); no complexity is proved. `G_0` is well defined although its `y_0` is not: ∇_x g(x, ·) is constant on S(x) under PŁ.
///
/// # Target
///
/// Penalised: optimistic with bias O(σ^q).
///
/// # Deviations
///
/// A construction of this project; novelty is not established (a commented line of the released code of F2SA-p has the weights of
/// q = 3 for strongly convex lower levels). Errors of the lower loops are multiplied by Σ|c_j|/σ, that is 2/σ, 4/σ, 6.7/σ.
///
/// # Source
///
/// This project, after F2BA (arXiv 2301.00712) and F2SA-p (arXiv 2509.02937).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HighOrderF2ba {
    /// Order q of the difference.
    pub order: u64,
    /// Distance σ of the nodes.
    pub sigma: f64,
    /// Step of x.
    pub step_x: f64,
    /// Step of every `y_j`.
    pub step_y: f64,
    /// Lower steps K in each step.
    pub lower_steps: u64,
    /// Ends the run at this norm.
    pub tol: Option<f64>,
}

impl Default for HighOrderF2ba {
    fn default() -> Self {
        Self { order: 2, sigma: 0.05, step_x: 0.1, step_y: 0.5, lower_steps: 10, tol: None }
    }
}

impl HighOrderF2ba {
    /// c_0 … c_q; the weights of order 1 when the order is not one of the table's, which `validate` refuses.
    fn weights(&self) -> &'static [f64] {
        match self.order {
            2 => &[-1.5, 2.0, -0.5],
            3 => &[-11.0 / 6.0, 3.0, -1.5, 1.0 / 3.0],
            _ => &[-1.0, 1.0],
        }
    }
}

/// State of [`HighOrderF2ba`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "X: Vector, Y: Vector")]
pub struct HighOrderF2baState<X, Y> {
    /// Upper iterate.
    pub x: X,
    /// `y_0` … `y_q`; the lower iterate that is shown is `y_1`, the minimiser of g + σf.
    pub nodes: Vec<Y>,
}

impl<X: Vector, Y: Vector> State<X, Y> for HighOrderF2baState<X, Y> {
    fn iterate(&self) -> (&X, &Y) {
        (&self.x, &self.nodes[1])
    }
}

impl<P: Problem> Solver<P> for HighOrderF2ba {
    type State = HighOrderF2baState<P::X, P::Y>;
    const NAME: &'static str = "high-order-f2ba";

    fn target(&self) -> HyperObjective {
        HyperObjective::Penalised
    }

    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::require((1..=3).contains(&self.order), "order", self.order, "give 1, 2 or 3")?;
        positive("sigma", self.sigma)?;
        positive("step_x", self.step_x)?;
        positive("step_y", self.step_y)?;
        at_least_one("lower_steps", self.lower_steps)?;
        tolerance(self.tol)
    }

    fn init(&self, _: &Oracles<P>, x: P::X, y: P::Y, _: u64) -> OracleResult<Self::State> {
        Ok(HighOrderF2baState { x, nodes: vec![y; self.weights().len()] })
    }

    fn step(&self, oracles: &Oracles<P>, state: &mut Self::State) -> OracleResult<StepInfo> {
        let HighOrderF2baState { x, nodes } = state;
        let prox = |y: &mut P::Y, step: f64| oracles.prox_y(y, step);
        let mut residuals = Vec::with_capacity(nodes.len() + 1);
        let mut d = x.zeros_like();
        for (j, (y, weight)) in nodes.iter_mut().zip(self.weights()).enumerate() {
            let shift = j as f64 * self.sigma;
            // ∇_y g + jσ∇_y f
            let mut gradient = |y: &P::Y| {
                let mut gradient = oracles.lower.grad_y(x, y, Sample::Full)?;
                if j > 0 {
                    gradient.axpy(shift, &oracles.upper.grad_y(x, y, Sample::Full)?);
                }
                Ok(gradient)
            };
            let rule = Descent::plain(self.lower_steps, self.step_y);
            residuals.push(descend(y, rule, &mut gradient, &prox)?);
            // c_j G_j/σ
            d.axpy(weight / self.sigma, &oracles.lower.grad_x(x, y, Sample::Full)?);
            if j > 0 {
                d.axpy(weight * j as f64, &oracles.upper.grad_x(x, y, Sample::Full)?);
            }
        }
        residuals.push(step_x(oracles, x, &d, self.step_x));
        Ok(report(&residuals, self.tol, &[("lambda", self.sigma.recip())]))
    }
}

impl Registered for HighOrderF2ba {
    const CARD: Card = Card {
        title: "one-sided high-order F2BA",
        summary: "forward differences of order 1 to 3 in the weight of f, inside the PŁ range",
        paper: "this project, after F2BA",
        targets: &[HyperObjective::Penalised],
        oracles: &[Oracle::UpperGradX, Oracle::UpperGradY, Oracle::LowerGradX, Oracle::LowerGradY],
    };
    fn small() -> Self {
        Self { step_x: 0.01, step_y: 0.02, ..Self::default() }
    }
}
