//! The bilevel PŁ game: quadratic levels whose lower Hessian is singular, literal and in three well-posed variants.
//!
//! ```text
//! f(x, y) = ½xᵀP x + xᵀR¹y + ½(y − c)ᵀW(y − c),   g(x, y) = ½yᵀQ y + xᵀR²y,   x, y ∈ R^d, rank Q = l < d
//! y_r(x) = −Q⁺R²ᵀx,   S(x) = y_r(x) + ker Q when R²ᵀx ∈ range Q, else empty
//! literal: W = 0, R² full     S(x) is empty for almost every x: g falls without bound
//! V1: W = 0, R^j ← Π_P R^j Π_Q                  f is constant on S(x), all targets agree
//! V2: W = ρI, P ← P + shift·I, R² ← R²Π_Q       selection matters: F_n ≠ φ
//! V3: W = ρΠ_Q, P ← P + shift·I, R^j ← R^jΠ_Q   as V2, but f is constant on S(x)
//! ```
//!
//! Domain: all x. Closed forms for every target are in [`ClosedForm`]. V2-tiny has d = 3 and no random
//! numbers. The game is that of F. Huang, *Optimal Hessian/Jacobian-Free Nonconvex-PL Bilevel Optimization*
//! (arXiv 2407.17823); the variants are this project's, since a ranking on the literal game ranks nothing.

mod closed_form;
mod instance;
mod tiny;

pub use instance::{Instance, Variant};

use nalgebra::{DMatrix, DVector, DVectorView};

use super::{
    algebra::{normals, rows},
    closed_form::ClosedForm,
    formulas::{Formulas, KnownAnswer},
};
use crate::linear::dense::Spectrum;

/// The pull W of y to the centre c in f.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pull {
    /// W = 0.
    None,
    /// W = ρI.
    Everywhere(f64),
    /// W = ρΠ_Q.
    OnRange(f64),
}

/// Where the lower iteration starts.
#[derive(Clone, Debug)]
enum LowerStart {
    /// A standard normal of the run's seed.
    Normal,
    /// The same for every seed.
    Fixed(Vec<f64>),
}

/// A bilevel PŁ game; see the [module](self).
#[derive(Clone, Debug)]
pub struct PlGame {
    p: DMatrix<f64>,
    q: DMatrix<f64>,
    r1: DMatrix<f64>,
    r2: DMatrix<f64>,
    pull: Pull,
    c: DVector<f64>,
    x0: Vec<f64>,
    start: LowerStart,
    /// Q⁺.
    q_inverse: DMatrix<f64>,
    /// Π_Q.
    range: DMatrix<f64>,
    /// The non-zero eigenvalues of Q, ascending.
    spectrum: Vec<f64>,
    /// Whether S(x) is non-empty for every x: Π_k R²ᵀ = 0.
    is_bounded: bool,
}

/// Eigenvalues below this multiple of the largest are zero: those of a random instance are above 1e-2 of it or
/// rounding, 1e-15.
const RANK_TOLERANCE: f64 = 1e-9;

/// Data of a game, as generated or printed.
struct Data {
    p: DMatrix<f64>,
    q: DMatrix<f64>,
    r1: DMatrix<f64>,
    r2: DMatrix<f64>,
    pull: Pull,
    c: DVector<f64>,
    x0: Vec<f64>,
    start: LowerStart,
}

impl PlGame {
    fn new(data: Data) -> Self {
        let spectrum = Spectrum::of_matrix(&data.q);
        let cut = RANK_TOLERANCE * spectrum.norm();
        let q_inverse = function(&spectrum, |value| if value > cut { value.recip() } else { 0.0 });
        let range = function(&spectrum, |value| f64::from(u8::from(value > cut)));
        let leak = (&data.r2 - &data.r2 * &range).norm();
        Self {
            is_bounded: leak <= 1e-12 * data.r2.norm(),
            spectrum: spectrum.values().iter().copied().filter(|value| *value > cut).collect(),
            p: data.p,
            q: data.q,
            r1: data.r1,
            r2: data.r2,
            pull: data.pull,
            c: data.c,
            x0: data.x0,
            start: data.start,
            q_inverse,
            range,
        }
    }

    fn dim(&self) -> usize {
        self.c.len()
    }
    /// W u.
    fn pulled(&self, u: DVector<f64>) -> DVector<f64> {
        match self.pull {
            Pull::None => DVector::zeros(u.len()),
            Pull::Everywhere(rho) => u * rho,
            Pull::OnRange(rho) => &self.range * u * rho,
        }
    }
    /// W.
    fn pull_matrix(&self) -> DMatrix<f64> {
        match self.pull {
            Pull::None => DMatrix::zeros(self.dim(), self.dim()),
            Pull::Everywhere(rho) => DMatrix::identity(self.dim(), self.dim()) * rho,
            Pull::OnRange(rho) => &self.range * rho,
        }
    }

    /// Eigenvalues of ∇²F_n, the Hessian of the selected target, which does not depend on n.
    pub fn selected_spectrum(&self) -> Vec<f64> {
        Spectrum::of_matrix(&self.selected_hessian()).values().to_vec()
    }
    /// Eigenvalues of ∇²φ, the Hessian of the optimistic target.
    pub fn optimistic_spectrum(&self) -> Vec<f64> {
        Spectrum::of_matrix(&self.optimistic_hessian()).values().to_vec()
    }
    /// Eigenvalues of the Hessian of min_y f + lambda·(g − min g).
    pub fn penalty_spectrum(&self, lambda: f64) -> Vec<f64> {
        Spectrum::of_matrix(&self.penalty_hessian(lambda)).values().to_vec()
    }
    /// The non-zero eigenvalues of Q, ascending.
    pub fn lower_spectrum(&self) -> &[f64] {
        &self.spectrum
    }
    /// |Π_k R²ᵀ|, the largest slope along which g can fall for |x| = 1; 0 when S(x) is never empty.
    pub fn unbounded_slope(&self) -> f64 {
        (&self.r2 - &self.r2 * &self.range).svd(false, false).singular_values.max()
    }
}

/// φ(A) from the eigendecomposition of A.
fn function(spectrum: &Spectrum, phi: impl Fn(f64) -> f64) -> DMatrix<f64> {
    let dim = spectrum.values().len();
    let vectors = basis(spectrum, 0..dim);
    let weights = DVector::from_iterator(dim, spectrum.values().iter().map(|value| phi(*value)));
    &vectors * DMatrix::from_diagonal(&weights) * vectors.transpose()
}

/// The eigenvectors of these numbers, as columns.
fn basis(spectrum: &Spectrum, numbers: std::ops::Range<usize>) -> DMatrix<f64> {
    let dim = spectrum.values().len();
    let columns: Vec<f64> = numbers.clone().flat_map(|i| spectrum.vector(i)).collect();
    DMatrix::from_vec(dim, numbers.len(), columns)
}

fn view(a: &[f64]) -> DVectorView<'_, f64> {
    DVectorView::from_slice(a, a.len())
}
/// A v.
fn times(a: &DMatrix<f64>, v: &[f64]) -> Vec<f64> {
    (a * view(v)).data.into()
}
/// Aᵀv.
fn tr_times(a: &DMatrix<f64>, v: &[f64]) -> Vec<f64> {
    a.tr_mul(&view(v)).data.into()
}
/// a + b.
fn add(mut a: Vec<f64>, b: &[f64]) -> Vec<f64> {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    a
}
/// ½uᵀA u.
fn half_form(a: &DMatrix<f64>, u: &[f64]) -> f64 {
    0.5 * view(u).dot(&(a * view(u)))
}

impl Formulas for PlGame {
    fn dims(&self) -> (usize, usize) {
        (self.dim(), self.dim())
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        self.is_bounded.then(|| self.dim() - self.spectrum.len())
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        let off = view(y) - &self.c;
        let coupling = view(x).dot(&(&self.r1 * view(y)));
        half_form(&self.p, x) + coupling + 0.5 * off.dot(&self.pulled(off.clone()))
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        add(times(&self.p, x), &times(&self.r1, y))
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        add(tr_times(&self.r1, x), self.pulled(view(y) - &self.c).as_slice())
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        half_form(&self.q, y) + view(x).dot(&(&self.r2 * view(y)))
    }
    fn g_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        times(&self.r2, y)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        add(times(&self.q, y), &tr_times(&self.r2, x))
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        times(&self.q, u)
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        times(&self.r2, u)
    }
    fn default_x(&self) -> Vec<f64> {
        self.x0.clone()
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        match &self.start {
            LowerStart::Normal => normals(seed, 0, self.dim()),
            LowerStart::Fixed(y) => y.clone(),
        }
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let gradient = self.optimistic_gradient(x)?;
        let y = self.optimistic_y(&view(x).into());
        let kernel = self.dim() - self.spectrum.len();
        // for W = 0 and W = ρΠ_Q every point of S(x) is a selection
        let curvature = if let Pull::Everywhere(rho) = self.pull { rho } else { 0.0 };
        let is_single = curvature > 0.0 || kernel == 0;
        let v = &self.q_inverse * DVector::from_vec(self.f_grad_y(x, y.as_slice()));
        Some(KnownAnswer {
            value: self.f(x, y.as_slice()),
            gradient: Some(gradient),
            selection: is_single.then(|| y.as_slice().to_vec()),
            v: is_single.then(|| v.as_slice().to_vec()),
            curvatures: Some(vec![curvature; kernel]),
            lower_spectrum: Some(self.spectrum.clone()),
            hyper_hessian: Some(rows(&self.optimistic_hessian())),
        })
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
