//! What a hypergradient is worth: one row per condition of the theory, each computed, and each failure with a name.

use serde::{Deserialize, Serialize};

/// Something that the certificate found. Fatal ones mean that the hypergradient must not be trusted;
/// the others inform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// Row 1: y did not reach S(x).
    NotLanded {
        /// Upper estimate of the distance of y from S(x).
        distance: f64,
    },
    /// Row 2: g(x, ·) falls without bound; S(x) is empty.
    LowerLevelUnbounded {
        /// Unit direction of descent, in coordinates.
        direction: Vec<f64>,
        /// Decrease of g per unit length along it.
        slope: f64,
    },
    /// Row 3: y is a saddle or a maximum of g(x, ·), not a minimiser.
    LowerSaddle {
        /// Smallest eigenvalue of the lower Hessian.
        eigenvalue: f64,
    },
    /// Row 4: landed points have different lower values; the higher ones were dropped.
    LowerValueSplit {
        /// The distinct lower values, ascending.
        values: Vec<f64>,
    },
    /// Row 5: the rank of the lower Hessian cannot be told.
    RankUncertain {
        /// Kernel dimension at the lowered cut.
        k_low: usize,
        /// Kernel dimension at the raised cut.
        k_high: usize,
        /// Ratio of the eigenvalues next to the cut.
        gap: f64,
        /// Hypergradient at the lowered cut, in coordinates.
        gradient_low: Vec<f64>,
        /// Hypergradient at the raised cut, in coordinates.
        gradient_high: Vec<f64>,
    },
    /// Row 6: the range condition J P = 0 fails; S(·) is not Lipschitz here.
    OutOfClass {
        /// |J P| / |J|.
        ratio: f64,
    },
    /// Row 7: y is not stationary for f along S(x).
    NotSelected {
        /// |P ∇_y f|.
        residual: f64,
    },
    /// Row 8: f falls without bound along S(x); F(x) = −∞ (+∞ for the pessimistic target).
    SelectionUnbounded {
        /// Norm of y when the search was given up.
        norm: f64,
        /// Value of f there.
        value: f64,
    },
    /// Row 9: the selection is degenerate, and the null directions change the hypergradient.
    Degenerate {
        /// Smallest eigenvalue of the Riemannian Hessian of f on S(x).
        alpha: f64,
        /// Number of null directions.
        directions: usize,
    },
    /// Row 9: a continuum of selections with one hypergradient; harmless.
    Orbit {
        /// Its dimension.
        dim: usize,
    },
    /// Row 10: several selections with equal value and different hypergradients; F has a kink at x.
    Tie {
        /// Values of the tied branches.
        values: Vec<f64>,
        /// Their hypergradients, in coordinates.
        gradients: Vec<Vec<f64>>,
    },
    /// Row 11: exploration may have missed a branch.
    Underexplored {
        /// Good–Turing estimate of the mass of basins not seen.
        mass: f64,
    },
    /// Row 12: the linear solve missed its tolerance.
    SolveFailed {
        /// |H(H v − b)| / (‖H‖ |b|).
        residual: f64,
        /// Iterations spent.
        iterations: u64,
    },
    /// Row 13: x does not act on the lower solution; a zero hypergradient says nothing about x.
    NoSignal {
        /// Norm of J.
        jacobian: f64,
    },
}

impl Finding {
    /// The name of the finding, as tests and users know it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotLanded { .. } => "NotLanded",
            Self::LowerLevelUnbounded { .. } => "LowerLevelUnbounded",
            Self::LowerSaddle { .. } => "LowerSaddle",
            Self::LowerValueSplit { .. } => "LowerValueSplit",
            Self::RankUncertain { .. } => "RankUncertain",
            Self::OutOfClass { .. } => "OutOfClass",
            Self::NotSelected { .. } => "NotSelected",
            Self::SelectionUnbounded { .. } => "SelectionUnbounded",
            Self::Degenerate { .. } => "Degenerate",
            Self::Orbit { .. } => "Orbit",
            Self::Tie { .. } => "Tie",
            Self::Underexplored { .. } => "Underexplored",
            Self::SolveFailed { .. } => "SolveFailed",
            Self::NoSignal { .. } => "NoSignal",
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::NotLanded { distance } => write!(
                f,
                "y is about {distance:.3e} from S(x); the hypergradient error is of that size. Raise max_land or start closer"
            ),
            Self::LowerLevelUnbounded { direction, slope } => write!(
                f,
                "g(x, ·) falls without bound at slope {slope:.6} along {}; S(x) is empty and F is not defined. Bound or regularise the lower level",
                short(direction)
            ),
            Self::LowerSaddle { eigenvalue } => write!(
                f,
                "y is not a minimiser of g(x, ·): its Hessian has the eigenvalue {eigenvalue:.6}. Allow the escape from saddles or start elsewhere"
            ),
            Self::LowerValueSplit { values } => write!(
                f,
                "g(x, ·) has local minima of different value, {}; only the lowest were kept",
                short(values)
            ),
            Self::RankUncertain { k_low, k_high, gap, gradient_low, gradient_high } => write!(
                f,
                "between {k_low} and {k_high} directions are flat (gap {gap:.3e}); the hypergradient depends on the choice: {} or {}. Set rank_tol by what you know of the problem, or regularise the lower level",
                short(gradient_low),
                short(gradient_high)
            ),
            Self::OutOfClass { ratio } => write!(
                f,
                "S(x) is not stable in x here (|JP|/|J| = {ratio:.3e}); no hypergradient formula applies"
            ),
            Self::NotSelected { residual } => write!(
                f,
                "f can still be lowered along S(x): its gradient there is {residual:.3e}. Raise max_refine, or the lower level is flat without being a manifold"
            ),
            Self::SelectionUnbounded { norm, value } => write!(
                f,
                "f is unbounded on S(x): {value:.3e} at |y| = {norm:.3e}; F(x) is infinite. Bound or regularise the upper level in y"
            ),
            Self::Degenerate { alpha, directions } => write!(
                f,
                "the selection is degenerate in {directions} direction(s) (smallest curvature {alpha:.3e}); the hypergradient may be only Hölder or worse here, and steps are shortened"
            ),
            Self::Orbit { dim } => {
                write!(
                    f,
                    "the selections form a continuum of dimension {dim} with one hypergradient; harmless"
                )
            }
            Self::Tie { values, gradients } => {
                write!(f, "{} selections have equal value; F has a kink here, with gradients", values.len())?;
                for gradient in gradients {
                    write!(f, " {}", short(gradient))?;
                }
                Ok(())
            }
            Self::Underexplored { mass } => write!(
                f,
                "about {:.0} % of S(x) may lie in basins not seen; F may differ from what is reported. Raise explore_samples",
                100.0 * mass
            ),
            Self::SolveFailed { residual, iterations } => write!(
                f,
                "the linear solve ended at relative residual {residual:.3e} after {iterations} iterations. Raise max_products or the damping"
            ),
            Self::NoSignal { jacobian } => write!(
                f,
                "the lower solution does not react to x (|J| = {jacobian:.3e}); a zero hypergradient says nothing about x"
            ),
        }
    }
}

/// A list for a sentence: at most six numbers.
fn short(values: &[f64]) -> String {
    let shown: Vec<String> = values.iter().take(6).map(|v| format!("{v:.6}")).collect();
    format!("({}{})", shown.join(", "), if values.len() > 6 { ", …" } else { "" })
}

/// The certificate of one hypergradient.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// What was found, the most serious first; empty when everything passed.
    pub findings: Vec<Finding>,
}
