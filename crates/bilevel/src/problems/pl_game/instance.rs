//! Random PŁ games, checked before they are used.

use nalgebra::{DMatrix, DVector};

use super::{Data, LowerStart, PlGame, Pull, RANK_TOLERANCE, basis, function};
use crate::{
    error::ConfigError,
    linear::dense::Spectrum,
    problems::algebra::{normal_matrix, stream},
    rng::Stream,
};

/// Which game; the formulas are in the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As printed in the slides: the lower level is unbounded below for almost every x.
    Literal,
    /// Compatible: f is constant on S(x).
    V1,
    /// Selection-sensitive.
    V2,
    /// V2 with f constant on S(x), so that v does not drift.
    V3,
}

/// Size, constants and seed of a random game.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Dimension of x and of y.
    pub d: usize,
    /// Rank of P (before the shift) and of Q.
    pub l: usize,
    /// Samples that P, Q, R¹ and R² are means of.
    pub n: usize,
    /// Least entry of D: the spectrum of the population of Q is uniform on [mu, smoothness].
    pub mu: f64,
    /// Largest entry of D.
    pub smoothness: f64,
    /// ‖R¹‖ = ‖R²‖, for V1 after projecting, for V2 and V3 before; not used by the literal game.
    pub scale: f64,
    /// Multiple of I added to P; V2 and V3 only.
    pub shift: f64,
    /// Weight ρ of the pull to the centre; V2 and V3 only.
    pub rho: f64,
    /// Smallest multiplier with which a penalty method will be run; the penalised objective must be convex there.
    pub lambda: f64,
    /// Seed of the data.
    pub seed: u64,
}

/// Draws after which the settings are called hopeless; about half of the draws pass at the settings of the reference table.
const ATTEMPTS: u64 = 64;
/// Least eigenvalue that the Hessian of each target must have.
const CONVEXITY: f64 = 0.01;

impl PlGame {
    /// A random game. The draws are, in order for P then Q: N(0, 1) of d×l, orthonormalised by QR to U; uniform diagonal D;
    /// N(0, 1) of n×l. For R¹ then R²: N(0, 1) of d×d; N(0, 1) of n×d. Then c and x₀.
    ///
    /// A draw of V1, V2 or V3 is kept only when every target is strongly convex (on range P for V1) with a constant above
    /// 0.01, the penalised one at the smallest multiplier included, and when no non-zero eigenvalue of Q is below mu,
    /// which is what a solver that clips the spectrum at mu relies on; else the next one is drawn.
    ///
    /// # Errors
    /// A field out of its range, or no draw of 64 that passes.
    pub fn random(variant: Variant, instance: &Instance) -> Result<Self, ConfigError> {
        instance.validate()?;
        let mut refusal = String::new();
        for attempt in 0..ATTEMPTS {
            let mut random = stream(instance.seed, PURPOSE + attempt);
            let (p, q) = (instance.low_rank(&mut random), instance.low_rank(&mut random));
            let smallest = smallest_nonzero(&q);
            // the draws of R¹ and R² are the dear ones: a Q that cannot be used saves them
            if variant != Variant::Literal && smallest < instance.mu {
                refusal = format!("smallest non-zero eigenvalue of Q {smallest:.4}, below mu");
                continue;
            }
            let game = instance.complete(variant, (p, q), &mut random);
            match game.flaw(variant, instance) {
                None => return Ok(game),
                Some(flaw) => refusal = flaw,
            }
        }
        Err(ConfigError::new(
            "scale",
            instance.scale,
            format!(
                "none of {ATTEMPTS} draws is well-posed (the last: {refusal}); lower scale, or raise shift or lambda"
            ),
        ))
    }

    /// Why this draw cannot be used.
    fn flaw(&self, variant: Variant, instance: &Instance) -> Option<String> {
        if variant == Variant::Literal {
            return None;
        }
        let spectrum = Spectrum::of_matrix(&self.p);
        let cut = RANK_TOLERANCE * spectrum.norm();
        let kernel = spectrum.values().iter().take_while(|value| **value <= cut).count();
        let range = basis(&spectrum, kernel..self.dim());
        let least = |hessian: DMatrix<f64>| Spectrum::of_matrix(&range.tr_mul(&(hessian * &range))).min();
        [
            ("selected", self.selected_hessian()),
            ("optimistic", self.optimistic_hessian()),
            ("penalised", self.penalty_hessian(instance.lambda)),
        ]
        .into_iter()
        .map(|(target, hessian)| (target, least(hessian)))
        .find(|(_, least)| *least <= CONVEXITY)
        .map(|(target, least)| format!("smallest eigenvalue {least:.4} of the {target} target"))
    }
}

/// Streams of the draws; the problem's starts have purpose 0.
const PURPOSE: u64 = 0x100;

impl Instance {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = |field: &str, value: f64| {
            ConfigError::require(value > 0.0 && value.is_finite(), field, value, "give a positive number")
        };
        ConfigError::require(
            (1..=self.d).contains(&self.l),
            "l",
            self.l,
            "the rank is at least 1 and at most the dimension d",
        )?;
        ConfigError::require(self.n >= self.l, "n", self.n, "give at least as many samples as the rank l")?;
        positive("mu", self.mu)?;
        positive("scale", self.scale)?;
        positive("rho", self.rho)?;
        positive("lambda", self.lambda)?;
        ConfigError::require(
            self.smoothness >= self.mu && self.smoothness.is_finite(),
            "smoothness",
            self.smoothness,
            "the largest eigenvalue is at least mu",
        )?;
        ConfigError::require(
            self.shift >= 0.0 && self.shift.is_finite(),
            "shift",
            self.shift,
            "give 0 or a positive number",
        )
    }

    /// Draws what is left after P and Q, and changes everything as the variant says.
    fn complete(
        &self,
        variant: Variant,
        (mut p, q): (DMatrix<f64>, DMatrix<f64>),
        random: &mut Stream,
    ) -> PlGame {
        let identity = || DMatrix::identity(self.d, self.d);
        let (mut r1, mut r2) = (self.coupling(random), self.coupling(random));
        let mut vector = || DVector::from_fn(self.d, |_, _| random.normal());
        let (c, x0) = (vector(), vector().data.into());
        let to_scale =
            |r: DMatrix<f64>| &r * (self.scale / r.clone().svd(false, false).singular_values.max());
        let mut pull = Pull::None;
        match variant {
            Variant::Literal => {}
            Variant::V1 => {
                let (left, right) = (projector(&p), projector(&q));
                r1 = to_scale(&left * r1 * &right);
                r2 = to_scale(&left * r2 * &right);
            }
            Variant::V2 => {
                p += identity() * self.shift;
                r1 = to_scale(r1);
                r2 = to_scale(r2) * projector(&q);
                pull = Pull::Everywhere(self.rho);
            }
            Variant::V3 => {
                p += identity() * self.shift;
                let right = projector(&q);
                r1 = to_scale(r1) * &right;
                r2 = to_scale(r2) * &right;
                pull = Pull::OnRange(self.rho);
            }
        }
        PlGame::new(Data { p, q, r1, r2, pull, c, x0, start: LowerStart::Normal })
    }

    /// (1/n) Σ p_i p_iᵀ, p ~ N(0, U D Uᵀ).
    fn low_rank(&self, random: &mut Stream) -> DMatrix<f64> {
        let factor = normal_matrix(self.d, self.l, random).qr().q();
        let spread = self.smoothness - self.mu;
        let roots = DVector::from_fn(self.l, |_, _| (self.mu + spread * random.uniform()).sqrt());
        let factor = factor * DMatrix::from_diagonal(&roots);
        &factor * second_moment(self.n, self.l, random) * factor.transpose()
    }

    /// (1/n) Σ 0.01 r_i r_iᵀ, r ~ N(0, 0.001 V Vᵀ).
    fn coupling(&self, random: &mut Stream) -> DMatrix<f64> {
        let factor = normal_matrix(self.d, self.d, random);
        &factor * second_moment(self.n, self.d, random) * factor.transpose() * (0.01 * 0.001)
    }
}

/// (1/n) ZᵀZ with Z of n×columns standard normals.
fn second_moment(n: usize, columns: usize, random: &mut Stream) -> DMatrix<f64> {
    let z = normal_matrix(n, columns, random);
    z.transpose() * z / n as f64
}

/// The smallest eigenvalue of a positive semidefinite A that is not zero.
fn smallest_nonzero(a: &DMatrix<f64>) -> f64 {
    let spectrum = Spectrum::of_matrix(a);
    let cut = RANK_TOLERANCE * spectrum.norm();
    spectrum.values().iter().copied().find(|value| *value > cut).unwrap_or(0.0)
}

/// A A⁺.
fn projector(a: &DMatrix<f64>) -> DMatrix<f64> {
    let spectrum = Spectrum::of_matrix(a);
    let cut = RANK_TOLERANCE * spectrum.norm();
    function(&spectrum, |value| f64::from(u8::from(value > cut)))
}
