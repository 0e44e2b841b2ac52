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
                "y is about {distance:.3e} from S(x); the hypergradient error is of that size. Raise land.max_steps or start closer"
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
                "between {k_low} and {k_high} directions are flat (gap {gap:.3e}); the hypergradient depends on the choice: {} or {}. Set rank.tol by what you know of the problem, or regularise the lower level",
                short(gradient_low),
                short(gradient_high)
            ),
            Self::OutOfClass { ratio } => write!(
                f,
                "S(x) is not stable in x here (|JP|/|J| = {ratio:.3e}); no hypergradient formula applies"
            ),
            Self::NotSelected { residual } => write!(
                f,
                "f can still be lowered along S(x): its gradient there is {residual:.3e}. Raise refine.max_steps, or the lower level is flat without being a manifold"
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
                "about {:.0} % of S(x) may lie in basins not seen; F may differ from what is reported. Raise explore.samples",
                100.0 * mass
            ),
            Self::SolveFailed { residual, iterations } => write!(
                f,
                "the linear solve ended at relative residual {residual:.3e} after {iterations} iterations. Raise rank.max_products or the damping"
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

impl Finding {
    /// Whether the hypergradient must not be trusted: rows 1 to 8 and 12 of the certificate.
    pub fn is_fatal(&self) -> bool {
        self.severity() < FIRST_INFORMATION
    }
    /// Rank of seriousness, 0 the most serious: what makes F undefined comes before what makes its gradient wrong,
    /// and that before what is only worth knowing.
    fn severity(&self) -> u8 {
        match self {
            Self::LowerLevelUnbounded { .. } => 0,
            Self::LowerSaddle { .. } => 1,
            Self::NotLanded { .. } => 2,
            Self::RankUncertain { .. } => 3,
            Self::SelectionUnbounded { .. } => 4,
            Self::NotSelected { .. } => 5,
            Self::OutOfClass { .. } => 6,
            Self::SolveFailed { .. } => 7,
            Self::LowerValueSplit { .. } => 8,
            Self::Degenerate { .. } => FIRST_INFORMATION,
            Self::Tie { .. } => 11,
            Self::NoSignal { .. } => 12,
            Self::Orbit { .. } => 13,
            Self::Underexplored { .. } => 14,
        }
    }
}

/// Findings from this severity on inform and do not take the certificate away.
const FIRST_INFORMATION: u8 = 10;

/// The certificate of one hypergradient: every quantity that was computed, and what failed.
///
/// A quantity that was not computed is `None` and counts neither as passed nor as failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Row 1: δ̂ = (2/c)|∇_y g|, upper estimate of the distance of y from S(x).
    pub distance: Option<f64>,
    /// Row 3: λ_min of the lower Hessian.
    pub smallest_eigenvalue: Option<f64>,
    /// ‖H‖ of the lower Hessian.
    pub hessian_norm: Option<f64>,
    /// c: the smallest non-zero eigenvalue of the lower Hessian; `None` also when there is none.
    pub range_min: Option<f64>,
    /// Row 4: spread of g over the landed candidates.
    pub value_spread: Option<f64>,
    /// Row 5: dimension of S(x), the number of flat directions. An estimate when it is not whole.
    pub kernel_dim: Option<f64>,
    /// Row 5: standard deviation of `kernel_dim` where it is an estimate; `None` where it is counted.
    #[serde(default)]
    pub kernel_dim_spread: Option<f64>,
    /// Row 5: ratio of the eigenvalues next to the rank cut; `None` also when one side is empty.
    pub rank_gap: Option<f64>,
    /// Row 6: |J P| / |J|.
    pub range_ratio: Option<f64>,
    /// Row 7: |P ∇_y f|.
    pub tangent_residual: Option<f64>,
    /// Row 9: smallest curvature of f along S(x); `None` also when S(x) is a point.
    pub alpha: Option<f64>,
    /// Row 10: how much higher the next selection with another hypergradient lies.
    pub tie_gap: Option<f64>,
    /// Row 11: share of S(x) in basins not seen, after an exploration at this x.
    pub missing_mass: Option<f64>,
    /// Row 12: |H(H v − b)| / (‖H‖|b|).
    pub solve_residual: Option<f64>,
    /// Row 13: |J|, estimated.
    pub jacobian: Option<f64>,
    /// ê: estimate of the error of the hypergradient, selection, solve and landing parts added.
    pub error: Option<f64>,
    /// Selections known at this x.
    pub branches: usize,
    /// Whether S(x) was explored at this x.
    pub is_explored: bool,
    /// What was found, the most serious first; empty when everything passed.
    pub findings: Vec<Finding>,
}

impl Certificate {
    /// Adds a finding, once a name, in order of seriousness.
    pub fn add(&mut self, finding: Finding) {
        if self.findings.iter().any(|known| known.name() == finding.name()) {
            return;
        }
        let place = self.findings.partition_point(|known| known.severity() <= finding.severity());
        self.findings.insert(place, finding);
    }
    /// Whether rows 1 to 8 and 12 passed.
    pub fn is_certified(&self) -> bool {
        self.distance.is_some() && !self.findings.iter().any(Finding::is_fatal)
    }
    /// The most serious finding.
    pub fn verdict(&self) -> Option<&Finding> {
        self.findings.first()
    }
    /// Whether a finding of this name was made.
    pub fn has(&self, name: &str) -> bool {
        self.findings.iter().any(|finding| finding.name() == name)
    }
}

/// The certificate in words.
impl std::fmt::Display for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "certificate: {}", if self.is_certified() { "certified" } else { "NOT certified" })?;
        let number = |value: Option<f64>| match value {
            Some(value) if value == 0.0 || (1e-3..1e4).contains(&value.abs()) => format!("{value:.6}"),
            Some(value) => format!("{value:.3e}"),
            None => "not computed".into(),
        };
        writeln!(f, "  distance of y from S(x)            {}", number(self.distance))?;
        writeln!(
            f,
            "  dimension of S(x)                  {}  (rank gap {})",
            match (self.kernel_dim, self.kernel_dim_spread) {
                (Some(k), None) => format!("{k:.0}"),
                (Some(k), Some(spread)) => format!("about {k:.0} ± {spread:.0}"),
                (None, _) => "not computed".into(),
            },
            self.rank_gap.map_or("unbounded or not computed".into(), |gap| number(Some(gap)))
        )?;
        writeln!(f, "  S(x) stable in x, |JP|/|J|         {}", number(self.range_ratio))?;
        writeln!(f, "  gradient of f left along S(x)      {}", number(self.tangent_residual))?;
        writeln!(f, "  smallest curvature of f along S(x) {}", number(self.alpha))?;
        writeln!(f, "  residual of the linear solve       {}", number(self.solve_residual))?;
        writeln!(f, "  estimated error of the gradient    {}", number(self.error))?;
        writeln!(
            f,
            "  selections known                   {}{}",
            self.branches,
            match self.missing_mass {
                Some(mass) => format!("  (explored; share not seen about {:.0} %)", 100.0 * mass),
                None => "  (S(x) not explored at this x)".into(),
            }
        )?;
        for finding in &self.findings {
            writeln!(f, "  {} {finding}", if finding.is_fatal() { "FAILED" } else { "note" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_stand_in_order_of_seriousness_and_once() {
        let mut certificate = Certificate { distance: Some(0.0), ..Certificate::default() };
        certificate.add(Finding::NoSignal { jacobian: 0.0 });
        certificate.add(Finding::Degenerate { alpha: 0.0, directions: 1 });
        assert!(certificate.is_certified());
        certificate.add(Finding::NotSelected { residual: 1.0 });
        certificate.add(Finding::NotSelected { residual: 2.0 });
        assert_eq!(certificate.verdict(), Some(&Finding::NotSelected { residual: 1.0 }));
        assert_eq!(certificate.findings.len(), 3);
        assert!(!certificate.is_certified());
    }

    #[test]
    fn an_estimated_dimension_is_told_with_its_spread() {
        let counted = Certificate { kernel_dim: Some(3.0), ..Certificate::default() };
        assert!(counted.to_string().contains("dimension of S(x)                  3  (rank"));
        let estimated = Certificate { kernel_dim_spread: Some(14.2), kernel_dim: Some(803.7), ..counted };
        assert!(estimated.to_string().contains("about 804 ± 14"), "{estimated}");
    }

    #[test]
    fn nothing_computed_is_not_certified() {
        assert!(!Certificate::default().is_certified());
    }

    #[test]
    fn the_words_say_what_failed() {
        let mut certificate = Certificate { distance: Some(1e-12), ..Certificate::default() };
        certificate.add(Finding::LowerLevelUnbounded { direction: vec![0.0, -1.0], slope: 0.5 });
        let words = certificate.to_string();
        assert!(words.contains("NOT certified") && words.contains("falls without bound"), "{words}");
    }
}
