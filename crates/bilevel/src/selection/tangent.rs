//! The second-order model of f along S(x): M_T = P (∇²_yy f − ∇³_yyy g·v) P on the tangent space T.

use super::{
    geometry::{Geometry, Kernel},
    level::{At, Level, differential},
};
use crate::{
    error::OracleResult,
    linear::{dense::Spectrum, lanczos::extremes},
    problem::{Problem, SecondOrder},
    rng::Stream,
    vector::Vector,
};
use nalgebra::DMatrix;

/// A t = (∇²_yy f − ∇³_yyy g·v) t by a central difference of ∇_y f − H v with v frozen: two `grad_y` f, two `hvp_yy`.
///
/// The third-derivative term is compulsory: it carries the curvature of S(x), without which the sign of M_T can be
/// wrong (arXiv 2605.09209, eq. 8).
pub fn ambient_product<P: Problem>(at: &At<P>, y: &P::Y, v: &P::Y, t: &P::Y) -> OracleResult<P::Y>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    differential(y, t, |y| Ok(at.f_y(y)?.plus(-1.0, &at.hessian_product(y, v)?)))
}

/// M_T at one point of S(x).
#[derive(Clone, Debug)]
pub enum TangentModel<Y> {
    /// In an orthonormal basis of T.
    Explicit {
        /// The basis.
        basis: Vec<Y>,
        /// Eigendecomposition of M_T in it.
        spectrum: Spectrum,
    },
    /// By products only, T being too large for a basis.
    Implicit {
        /// Estimate of λ_min(M_T) from above, where it was asked for.
        alpha: Option<f64>,
    },
}

impl<Y: Vector> TangentModel<Y> {
    /// Builds the model at y. A basis costs two `grad_y` f and two `hvp_yy` a tangent direction.
    pub fn new<P: Problem<Y = Y>>(at: &At<P>, geometry: &Geometry<Y>, y: &Y, v: &Y) -> OracleResult<Self>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let Kernel::Basis(basis) = &geometry.kernel else { return Ok(Self::Implicit { alpha: None }) };
        let mut matrix = DMatrix::zeros(basis.len(), basis.len());
        for (j, t) in basis.iter().enumerate() {
            let image = ambient_product(at, y, v, t)?;
            for (i, s) in basis.iter().enumerate() {
                matrix[(i, j)] = s.dot(&image);
            }
        }
        Ok(Self::Explicit { basis: basis.clone(), spectrum: Spectrum::of_matrix(&matrix) })
    }

    /// λ_min(M_T); infinite when S(x) is a point, `None` when it is not known.
    pub fn alpha(&self) -> Option<f64> {
        match self {
            Self::Explicit { spectrum, .. } => {
                Some(spectrum.values().first().copied().unwrap_or(f64::INFINITY))
            }
            Self::Implicit { alpha } => *alpha,
        }
    }
    /// λ_max(M_T); 0 when S(x) is a point or when it is not known.
    pub fn largest(&self) -> f64 {
        match self {
            Self::Explicit { spectrum, .. } => spectrum.values().last().copied().unwrap_or(0.0),
            Self::Implicit { .. } => 0.0,
        }
    }
    /// Eigenvalues of M_T, ascending, when it was formed.
    pub fn eigenvalues(&self) -> Option<&[f64]> {
        match self {
            Self::Explicit { spectrum, .. } => Some(spectrum.values()),
            Self::Implicit { .. } => None,
        }
    }
    /// The unit tangent eigenvectors with |eigenvalue| ≤ `threshold`.
    pub fn null_directions(&self, threshold: f64) -> Vec<Y> {
        match self {
            Self::Explicit { basis, spectrum } => {
                spectrum.kernel(threshold).into_iter().map(|i| combine(basis, &spectrum.vector(i))).collect()
            }
            Self::Implicit { .. } => vec![],
        }
    }
    /// The unit tangent eigenvector of λ_min.
    pub fn lowest_direction(&self) -> Option<Y> {
        match self {
            Self::Explicit { basis, spectrum } if !basis.is_empty() => {
                Some(combine(basis, &spectrum.vector(0)))
            }
            _ => None,
        }
    }

    /// φ(M_T) r for tangent r, with a basis; `None` without.
    pub fn function(&self, phi: impl Fn(f64) -> f64, r: &Y) -> Option<Y> {
        let Self::Explicit { basis, spectrum } = self else { return None };
        let coordinates: Vec<f64> = basis.iter().map(|t| t.dot(r)).collect();
        let image = spectrum.function(phi, &coordinates);
        Some(if basis.is_empty() { r.zeros_like() } else { combine(basis, &image) })
    }

    /// M_T t for tangent t: from the basis, or by differences and one projection.
    pub fn product<P: Problem<Y = Y>>(
        &self,
        at: &At<P>,
        geometry: &Geometry<Y>,
        y: &Y,
        v: &Y,
        t: &Y,
    ) -> OracleResult<Y>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        match self.function(|value| value, t) {
            Some(image) => Ok(image),
            None => geometry.project(at, y, &ambient_product(at, y, v, t)?),
        }
    }

    /// M_T⁺ r for tangent r; eigenvalues of modulus up to `floor` are left out. Without a basis by conjugate
    /// gradients in T, to three digits, since what it corrects is small; or until curvature at most `floor` is met.
    pub fn pseudoinverse<P: Problem<Y = Y>>(
        &self,
        at: &At<P>,
        geometry: &Geometry<Y>,
        y: &Y,
        v: &Y,
        r: &Y,
        floor: f64,
    ) -> OracleResult<Y>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        if let Some(image) = self.function(|value| if value.abs() > floor { value.recip() } else { 0.0 }, r) {
            return Ok(image);
        }
        // what the solve for r left outside T has no curvature there and would be amplified
        let r = geometry.project(at, y, r)?;
        self.conjugate_gradients(at, geometry, y, v, &r, f64::INFINITY, 1e-3, floor)
    }

    /// Solves M_T τ = r in T by conjugate gradients, inside |τ| ≤ radius; negative curvature leads to the boundary
    /// (Steihaug), or ends the iteration when there is no boundary.
    #[expect(clippy::too_many_arguments, reason = "the operator is known by its oracles")]
    pub fn conjugate_gradients<P: Problem<Y = Y>>(
        &self,
        at: &At<P>,
        geometry: &Geometry<Y>,
        y: &Y,
        v: &Y,
        r: &Y,
        radius: f64,
        tolerance: f64,
        floor: f64,
    ) -> OracleResult<Y>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let mut tau = r.zeros_like();
        let mut residual = r.clone();
        let mut direction = residual.clone();
        let mut rr = residual.dot(&residual);
        let goal = tolerance * rr.sqrt();
        for _ in 0..200 {
            if rr.sqrt() <= goal || rr == 0.0 {
                break;
            }
            let image = self.product(at, geometry, y, v, &direction)?;
            let (curvature, length) = (direction.dot(&image), direction.norm());
            if curvature <= floor * length * length {
                if radius.is_finite() {
                    tau.axpy(radius / length, &direction);
                }
                break;
            }
            let step = rr / curvature;
            tau.axpy(step, &direction);
            if tau.norm() >= radius {
                break;
            }
            residual.axpy(-step, &image);
            let next = residual.dot(&residual);
            direction.scale(next / rr);
            direction.axpy(1.0, &residual);
            rr = next;
        }
        let norm = tau.norm();
        if norm > radius {
            tau.scale(radius / norm);
        }
        Ok(tau)
    }

    /// Estimates λ_min(M_T) by a short Lanczos process in T where there is no basis; gives its direction too.
    pub fn probe<P: Problem<Y = Y>>(
        &mut self,
        at: &At<P>,
        geometry: &Geometry<Y>,
        y: &Y,
        v: &Y,
    ) -> OracleResult<Option<Y>>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        if matches!(self, Self::Explicit { .. }) {
            return Ok(self.lowest_direction());
        }
        let start = geometry.project(at, y, &Stream::new(0, TANGENT_PURPOSE).normal_like(y))?;
        let found = extremes(&mut |t| self.product(at, geometry, y, v, t), &start, 8, DIFFERENCE_NOISE)?;
        *self = Self::Implicit { alpha: found.as_ref().map(|e| e.smallest) };
        Ok(found.map(|e| e.vector))
    }
}

/// Relative error that a product by differences and an iterative projection stays below.
const DIFFERENCE_NOISE: f64 = 1e-6;
/// Purpose of the random stream that starts Lanczos processes in T.
const TANGENT_PURPOSE: u64 = 0x7a;

/// Σ weights_i basis_i.
fn combine<Y: Vector>(basis: &[Y], weights: &[f64]) -> Y {
    let mut sum = basis[0].zeros_like();
    for (weight, t) in weights.iter().zip(basis) {
        sum.axpy(*weight, t);
    }
    sum
}
