//! What a check found, in numbers and in words.

use serde::{Deserialize, Serialize};

/// What a check was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// `grad_x` against differences of `value`.
    GradX,
    /// `grad_y` against differences of `value`.
    GradY,
    /// ⟨u, H v⟩ = ⟨H u, v⟩.
    HessianSymmetry,
    /// `hvp_yy` against differences of `grad_y` along y.
    HvpYy,
    /// `jvp_xy` against differences of `grad_x` along y.
    JvpXy,
    /// ⟨J v, u⟩ against differences of `grad_y` along x.
    Adjoint,
    /// A proximal map is firmly non-expansive: |p − q|² ≤ ⟨p − q, a − b⟩.
    Prox,
    /// The mean over batches is the full sum.
    Batches,
    /// A hypergradient against differences of the hyper-objective.
    Hypergradient,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Self::GradX => "grad_x",
            Self::GradY => "grad_y",
            Self::HessianSymmetry => "symmetry of hvp_yy",
            Self::HvpYy => "hvp_yy",
            Self::JvpXy => "jvp_xy",
            Self::Adjoint => "adjoint of jvp_xy",
            Self::Prox => "prox",
            Self::Batches => "mean over batches",
            Self::Hypergradient => "hypergradient",
        }
    }
    /// What the two numbers of a failure are.
    fn sides(self) -> (&'static str, &'static str) {
        match self {
            Self::GradX | Self::GradY => ("the oracle gives", "the central difference of value"),
            Self::HessianSymmetry => ("⟨u, H v⟩ is", "⟨H u, v⟩"),
            Self::HvpYy => ("the oracle gives", "the central difference of grad_y along y"),
            Self::JvpXy => ("the oracle gives", "the central difference of grad_x along y"),
            Self::Adjoint => ("⟨J v, u⟩ is", "the central difference of ⟨grad_y, v⟩ along x"),
            Self::Prox => ("|p − q|² is", "its bound ⟨p − q, a − b⟩"),
            Self::Batches => ("the mean over batches is", "the full sum"),
            Self::Hypergradient => ("the hypergradient gives", "the central difference of F"),
        }
    }
    /// What to do about a failure.
    fn remedy(self) -> &'static str {
        match self {
            Self::GradX | Self::GradY => {
                "derive value by hand for this direction and compare term by term; a wrong exponent, sign or factor shows in one coordinate, a forgotten term in all"
            }
            Self::HessianSymmetry => {
                "second derivatives of a smooth function are symmetric: look for a product with a Jacobian in place of its transpose, or for a graph cut by an automatic derivative"
            }
            Self::HvpYy => {
                "differentiate grad_y once more along v; Gauss–Newton products leave out the curvature of the residuals and fail here on purpose"
            }
            Self::JvpXy | Self::Adjoint => {
                "jvp_xy(v) is the derivative of ⟨grad_y, v⟩ in x, a vector of X with the sign of grad_y; check sign and transpose"
            }
            Self::Prox => {
                "the map is not the proximal map of a convex function; a projection on a set that is not convex fails here too"
            }
            Self::Batches => {
                "Batch must average its terms, not sum them, and Full must be the average over all terms"
            }
            Self::Hypergradient => {
                "compare the values of F on both sides of the step: a jump of the selection is a kink of F, noise in F wants a longer step, a steady difference is a wrong hypergradient"
            }
        }
    }
}

/// The probe with the largest error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worst {
    /// Its direction (unit, in coordinates of the variable that was moved; for a prox the difference of the two
    /// points, for batches empty).
    pub direction: Vec<f64>,
    /// What the oracle claims.
    pub claimed: f64,
    /// What was measured.
    pub measured: f64,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was checked.
    pub subject: Subject,
    /// Whose oracle: `upper`, `lower`, or what the caller chose.
    pub label: String,
    /// Largest error beyond rounding, relative to the derivative.
    pub relative_error: f64,
    /// The largest that is allowed.
    pub tolerance: f64,
    /// Step of the differences, if there were any.
    pub step: Option<f64>,
    /// Number of probes.
    pub probes: u64,
    /// The probe with the largest error.
    pub worst: Option<Worst>,
}

impl Report {
    /// Whether every probe was within the tolerance.
    pub fn passed(&self) -> bool {
        self.relative_error <= self.tolerance
    }
}

/// The coordinate of a coordinate axis, or the first numbers of the direction.
fn describe(direction: &[f64]) -> String {
    let large: Vec<usize> = (0..direction.len()).filter(|&i| direction[i] != 0.0).collect();
    if let [only] = large[..] {
        return format!("along coordinate {only}");
    }
    let shown: Vec<String> = direction.iter().take(6).map(|d| format!("{d:.4}")).collect();
    format!("along ({}{})", shown.join(", "), if direction.len() > 6 { ", …" } else { "" })
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { label, relative_error, tolerance, probes, .. } = self;
        let name = self.subject.name();
        if self.passed() {
            return write!(f, "{label} {name}: right to {relative_error:.1e} in {probes} probes");
        }
        write!(f, "{label} {name} is wrong: ")?;
        if let Some(worst) = &self.worst {
            if !worst.direction.is_empty() {
                write!(f, "{} ", describe(&worst.direction))?;
            }
            let (claimed, measured) = self.subject.sides();
            write!(f, "{claimed} {:.6e}, {measured}", worst.claimed)?;
            if let Some(step) = self.step {
                write!(f, " with step {step:.1e}")?;
            }
            write!(f, " {:.6e} ", worst.measured)?;
        }
        write!(
            f,
            "(relative error {relative_error:.1e}, allowed {tolerance:.1e}). What to do: {}",
            self.subject.remedy()
        )
    }
}
