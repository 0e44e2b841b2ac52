//! What a benchmark may ask of a problem beyond one answer at one x: gradients and minimisers of every target.

/// A stationary pair of one target, in closed form.
#[derive(Clone, Debug, PartialEq)]
pub struct Minimiser {
    /// The upper point.
    pub x: Vec<f64>,
    /// The lower point that belongs to it.
    pub y: Vec<f64>,
    /// f(x, y).
    pub value: f64,
}

/// Closed forms of the hyper-objectives that the methods descend, for problems whose S(x) is an affine space.
///
/// Every method answers `None` where the target has no closed form or no minimiser; so do, unless they are stated, those that
/// give minimisers.
pub trait ClosedForm {
    /// ∇F_n(x), the gradient of the selected hyper-objective F_n(x) = f(x, y_r(x) + n), with y_r(x) the minimiser of
    /// g(x, ·) of least norm and n the part of y in ker H, which the lower iteration does not move.
    fn selected_gradient(&self, x: &[f64], y: &[f64]) -> Option<Vec<f64>>;
    /// ∇φ(x), the gradient of the optimistic hyper-objective.
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>>;
    /// The minimiser of F_n, n the part of `y` in ker H; of least norm when there are several.
    fn selected_minimiser(&self, _y: &[f64]) -> Option<Minimiser> {
        None
    }
    /// The minimiser of φ; of least norm when there are several.
    fn optimistic_minimiser(&self) -> Option<Minimiser> {
        None
    }
    /// The minimiser of f + lambda·(g − min g): the limit of the penalty methods at this multiplier.
    fn penalty_minimiser(&self, _lambda: f64) -> Option<Minimiser> {
        None
    }
    /// The minimiser of f + (lambda/2)|∇_y g|²: the limit of G-PBGD at this multiplier.
    fn gradient_penalty_minimiser(&self, _lambda: f64) -> Option<Minimiser> {
        None
    }
    /// The zero of Σ_j c_j ∇_x(g + jσf)(x, y_j)/σ with y_j = argmin g + jσf and forward weights of this order
    /// (1, 2 or 3): the limit of one-sided F2BA. Its y is y_0, the least-norm point of S(x).
    fn one_sided_minimiser(&self, _order: usize, _sigma: f64) -> Option<Minimiser> {
        None
    }
}

/// Norms of the gradients of both targets at one point of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradientNorms {
    /// |∇F_n(x)|, the selected target at the kernel part of the present y; `None` without a closed form.
    pub selected: Option<f64>,
    /// |∇φ(x)|, the optimistic target; `None` without a closed form, or where φ has a kink.
    pub optimistic: Option<f64>,
}
