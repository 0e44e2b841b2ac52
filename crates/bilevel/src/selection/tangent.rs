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

    /// M_T t for tangent t: from the basis, or by differences and one projection of this accuracy.
    pub fn product<P: Problem<Y = Y>>(
        &self,
        at: &At<P>,
        geometry: &Geometry<Y>,
        y: &Y,
        v: &Y,
        t: &Y,
        accuracy: f64,
    ) -> OracleResult<Y>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        if let Some(image) = self.function(|value| value, t) {
            return Ok(image);
        }
        // P(A − θ)t + θt is P A t for tangent t whatever θ is. What t has outside T by inexact projections meets
        // curvature θ there instead of none, which an eigenvalue or a step would be made of.
        let image = ambient_product(at, y, v, t)?;
        let theta = image.norm() / t.norm().max(f64::MIN_POSITIVE);
        let shifted = image.plus(-theta, t);
        Ok(geometry.project_to(at, y, &shifted, accuracy)?.part.plus(theta, t))
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
        let r = geometry.project_to(at, y, r, 1e-3)?.part;
        let path = NewtonPath::new(self, at, geometry, y, v, &r, f64::INFINITY, 1e-3, floor)?;
        Ok(path.within(f64::INFINITY).0)
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
        let random = Stream::new(0, TANGENT_PURPOSE).normal_like(y);
        let search = |accuracy: f64| {
            let start = geometry.project_to(at, y, &random, accuracy)?.part;
            let noise = accuracy.max(DIFFERENCE_NOISE);
            extremes(&mut |t| self.product(at, geometry, y, v, t, accuracy), &start, 8, noise)
        };
        // Ritz values move by at most the error of a product. Only a curvature that this could hide is looked at closer.
        let mut found = search(ROUGH)?;
        if found.as_ref().is_some_and(|e| e.smallest.abs() <= 100.0 * ROUGH * e.norm) {
            found = search(0.0)?;
        }
        *self = Self::Implicit { alpha: found.as_ref().map(|e| e.smallest) };
        Ok(found.map(|e| e.vector))
    }
}

/// Relative error that a product by differences and an iterative projection stays below.
const DIFFERENCE_NOISE: f64 = 1e-6;
/// Accuracy of projections while the curvature in T is only told from none.
const ROUGH: f64 = 1e-4;
/// Purpose of the random stream that starts Lanczos processes in T.
const TANGENT_PURPOSE: u64 = 0x7a;

/// The way of conjugate gradients in T towards the minimum of the model rᵀτ + ½τᵀM_Tτ of f along S(x), which Steihaug's
/// truncated Newton method follows up to its trust radius. The way does not depend on the radius: a smaller one after a
/// rejected step costs nothing.
///
/// Projections are as exact as the step needs them: iteration j may err by forcing·|r₀|/|r_j| relatively without keeping
/// the residual above forcing·|r₀| (V. Simoncini and D. Szyld, SIAM J. Sci. Comput. 25 (2003)), so they become
/// cheaper along the way. A tenth of that is allowed.
#[derive(Clone, Debug)]
pub struct NewtonPath<Y> {
    zero: Y,
    legs: Vec<Leg<Y>>,
}

/// One direction of the way: the model falls by s·slope − ½s²·curvature along s·direction.
#[derive(Clone, Debug)]
struct Leg<Y> {
    direction: Y,
    slope: f64,
    curvature: f64,
    /// Whether the curvature is too small or negative, so that the model falls up to any radius.
    is_flat: bool,
}

/// Most products with M_T on one way.
const MAX_LEGS: usize = 200;

impl<Y: Vector> NewtonPath<Y> {
    /// The way from 0 until |residual| ≤ forcing·|r|, |τ| ≥ radius, or curvature of at most `floor`.
    #[expect(clippy::too_many_arguments, reason = "the operator is known by its oracles")]
    pub fn new<P: Problem<Y = Y>>(
        model: &TangentModel<Y>,
        at: &At<P>,
        geometry: &Geometry<Y>,
        y: &Y,
        v: &Y,
        r: &Y,
        radius: f64,
        forcing: f64,
        floor: f64,
    ) -> OracleResult<Self>
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let mut path = Self { zero: r.zeros_like(), legs: vec![] };
        let (mut tau, mut residual) = (r.zeros_like(), r.clone());
        let mut direction = residual.clone();
        let mut rr = residual.dot(&residual);
        let start = rr.sqrt();
        while rr > 0.0 && rr.sqrt() > forcing * start && path.legs.len() < MAX_LEGS {
            let accuracy = (0.1 * forcing * start / rr.sqrt()).min(MOST_ERROR);
            let image = model.product(at, geometry, y, v, &direction, accuracy)?;
            let (curvature, length) = (direction.dot(&image), direction.norm());
            let is_flat = curvature <= floor * length * length;
            path.legs.push(Leg { direction: direction.clone(), slope: rr, curvature, is_flat });
            if is_flat {
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
        Ok(path)
    }

    /// Radius to begin with: twice the length of the first leg, along which f falls steepest. Infinite when that leg is flat.
    pub fn first_radius(&self) -> f64 {
        self.legs
            .first()
            .filter(|leg| !leg.is_flat)
            .map_or(f64::INFINITY, |leg| 2.0 * leg.slope / leg.curvature * leg.direction.norm())
    }

    /// The step inside the radius, and by how much the model changes along it. Negative curvature leads to the radius, or
    /// ends the way when there is none. The radius must not be larger than that of [`NewtonPath::new`].
    pub fn within(&self, radius: f64) -> (Y, f64) {
        let mut tau = self.zero.clone();
        let mut change = 0.0;
        for leg in &self.legs {
            let newton = if leg.is_flat { f64::INFINITY } else { leg.slope / leg.curvature };
            // |τ + s d| = radius
            let (tt, td, dd) = (tau.dot(&tau), tau.dot(&leg.direction), leg.direction.dot(&leg.direction));
            let boundary = if radius.is_finite() {
                (-td + (td * td + dd * (radius * radius - tt)).max(0.0).sqrt()) / dd
            } else {
                f64::INFINITY
            };
            let s = newton.min(boundary);
            if s.is_infinite() {
                break;
            }
            tau.axpy(s, &leg.direction);
            change += s * (0.5 * s * leg.curvature - leg.slope);
            if boundary <= newton {
                break;
            }
        }
        (tau, change)
    }
}

/// Most relative error of a projection, however little is asked of it.
const MOST_ERROR: f64 = 0.05;

/// Σ weights_i basis_i.
fn combine<Y: Vector>(basis: &[Y], weights: &[f64]) -> Y {
    let mut sum = basis[0].zeros_like();
    for (weight, t) in weights.iter().zip(basis) {
        sum.axpy(*weight, t);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way of conjugate gradients on a diagonal model, without a problem: legs by the textbook.
    fn path(diagonal: &[f64], r: &[f64], legs: usize) -> NewtonPath<Vec<f64>> {
        let (mut residual, mut direction) = (r.to_vec(), r.to_vec());
        let mut path = NewtonPath { zero: vec![0.0; r.len()], legs: vec![] };
        for _ in 0..legs {
            let rr = residual.dot(&residual);
            let image: Vec<f64> = direction.iter().zip(diagonal).map(|(d, a)| d * a).collect();
            let curvature = direction.dot(&image);
            let is_flat = curvature <= 0.0;
            path.legs.push(Leg { direction: direction.clone(), slope: rr, curvature, is_flat });
            if is_flat {
                break;
            }
            residual.axpy(-rr / curvature, &image);
            direction = residual.plus(residual.dot(&residual) / rr, &direction);
        }
        path
    }
    fn model(diagonal: &[f64], r: &[f64], tau: &[f64]) -> f64 {
        diagonal.iter().zip(r).zip(tau).map(|((a, r), t)| 0.5 * a * t * t - r * t).sum()
    }

    #[test]
    fn a_large_radius_gives_the_newton_step_and_a_small_one_its_boundary() {
        let (diagonal, r) = ([1.0, 4.0, 10.0], [1.0, -2.0, 0.5]);
        let path = path(&diagonal, &r, 3);
        let (step, change) = path.within(1e3);
        for ((t, r), a) in step.iter().zip(&r).zip(&diagonal) {
            assert!((t - r / a).abs() < 1e-12);
        }
        assert!((change - model(&diagonal, &r, &step)).abs() < 1e-12);
        let mut last = 0.0;
        for radius in [0.01, 0.1, 0.5, 1.0] {
            let (step, change) = path.within(radius);
            assert!((step.norm() - radius).abs() < 1e-12 && change < last);
            assert!((change - model(&diagonal, &r, &step)).abs() < 1e-12);
            last = change;
        }
        assert!((path.first_radius() - 2.0 * path.within(path.first_radius() / 2.0).0.norm()).abs() < 1e-12);
    }

    #[test]
    fn negative_curvature_leads_to_the_radius_and_ends_the_way_without_one() {
        let (diagonal, r) = ([1.0, -1.0], [1.0, 0.5]);
        let path = path(&diagonal, &r, 2);
        assert!(!path.legs[0].is_flat && path.legs[1].is_flat);
        let (step, change) = path.within(7.0);
        assert!((step.norm() - 7.0).abs() < 1e-12);
        assert!((change - model(&diagonal, &r, &step)).abs() < 1e-10);
        let (step, _) = path.within(f64::INFINITY);
        assert!(step.norm() < 7.0);
    }
}
