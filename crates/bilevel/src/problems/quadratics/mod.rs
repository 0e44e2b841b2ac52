//! Quadratics of many terms: the simulated problem of the stochastic solvers' benchmark.
//!
//! ```text
//! f = mean of ½yᵀA_iy + ½xᵀB_ix + xᵀC_iy + a_iᵀy + b_iᵀx,   g the same with other draws
//! A_i = z_iz_iᵀ, z_i ~ N(0, A):  A with a random basis and a spectrum log-spaced in [mu, smoothness]
//! B_i = w_iw_iᵀ, w_i ~ N(0, B):  B the same, with one eigenvalue 0 in place of a share
//! C_i = p_iq_iᵀ, p_i = cross·Uh_i, q_i = Vh_i, h_i ~ N(0, I):  E C_i = cross·UVᵀ, U and V orthonormal
//! a_i, b_i ~ N(0, I)
//! ```
//!
//! Domain: all (x, y). H = mean of A_i over the terms of g is positive definite, so S(x) is one point and all targets agree.
//! Known answer: y*(x) = −H⁻¹(C_gᵀx + a_g), and F is a quadratic with
//! ∇²F = B_f + C_fY + YᵀC_fᵀ + YᵀA_fY, Y = −H⁻¹C_gᵀ (A_f, … the means over the terms). The data are drawn anew until
//! ∇²F ⪰ 1e-12, at most 64 times.
//!
//! Only factors are kept, 3(m + d) numbers a term in single precision (the means are those of the stored numbers), and the means for the known answer. A gradient over a batch costs some
//! 5(m + d) multiplications a term; so it does over everything: that the mean of quadratics is a quadratic is for the
//! known answer alone, so that seconds compare with those of sums without structure.
//!
//! Objectives, spectra and starts are those of benchopt/benchmark_bilevel ("simulated", 1,024 terms a level, dimensions 100),
//! stated anew. How a C_i of rank one is drawn around its mean is our choice: one normal h_i makes both of its factors. The
//! benchmark means to draw anew until ∇²F ⪰ 1e-12, but tries the same key each time.

mod reduced;
mod terms;
#[cfg(test)]
mod tests;

use nalgebra::{DMatrix, DVector};

use self::{
    reduced::{Pair, Quadratic},
    terms::{Term, Terms},
};
use super::{
    algebra::{list, normal_matrix, rows, stream, vector},
    arrays::DataArray,
    closed_form::ClosedForm,
    finite_sum::FiniteSum,
    formulas::KnownAnswer,
};
use crate::{error::ConfigError, linear::dense::Spectrum, problem::Sample, rng::Stream};

/// Sizes, constants and seed of an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Dimension of x.
    pub m: usize,
    /// Dimension of y.
    pub d: usize,
    /// Terms of f.
    pub upper: usize,
    /// Terms of g, at least d.
    pub lower: usize,
    /// Least eigenvalue of A, and of B but for the one that is 0.
    pub mu: f64,
    /// Largest eigenvalue of A and B.
    pub smoothness: f64,
    /// Every singular value of the mean of C_i.
    pub cross: f64,
    /// Seed of the data.
    pub seed: u64,
}

/// An instance; see the [module](self).
#[derive(Clone, Debug)]
pub struct Quadratics {
    sizes: Sizes,
    upper: Terms,
    lower: Terms,
    pair: Pair,
    /// Eigenvalues of H, ascending.
    lower_spectrum: Vec<f64>,
}

/// Draws after which the settings are called hopeless; at the defaults the first one passes.
const ATTEMPTS: u64 = 64;
/// Least eigenvalue of ∇²F.
const CONVEXITY: f64 = 1e-12;
/// Streams of the draws.
const PURPOSE: u64 = 0x100;

impl Quadratics {
    /// Draws an instance.
    ///
    /// # Errors
    /// Fewer terms below than dimensions of y; mu above smoothness; no draw of 64 whose F is convex.
    pub fn new(sizes: Sizes) -> Result<Self, ConfigError> {
        ConfigError::require(
            sizes.lower >= sizes.d,
            "n",
            sizes.lower,
            &format!("the lower level is strongly convex with at least as many terms as d = {}", sizes.d),
        )?;
        ConfigError::require(
            sizes.smoothness >= sizes.mu,
            "smoothness",
            sizes.smoothness,
            "the largest eigenvalue is at least mu",
        )?;
        for attempt in 0..ATTEMPTS {
            let mut random = stream(sizes.seed, PURPOSE + attempt);
            let (upper, of_f) = sizes.level(sizes.upper, &mut random);
            let (lower, of_g) = sizes.level(sizes.lower, &mut random);
            let pair = Pair::new(of_f, of_g);
            let convex = pair.filter(|pair| Spectrum::of_matrix(&pair.hessian).min() >= CONVEXITY);
            if let Some(pair) = convex {
                let lower_spectrum = Spectrum::of_matrix(&pair.lower.a_matrix).values().to_vec();
                return Ok(Self { sizes, upper, lower, pair, lower_spectrum });
            }
        }
        Err(ConfigError::new(
            "cross",
            sizes.cross,
            format!("none of {ATTEMPTS} draws has a convex F; lower cross, raise n, or take another seed"),
        ))
    }
}

impl Sizes {
    /// `count` eigenvalues log-spaced from `mu` to `smoothness`; `smoothness` when there is one.
    fn spectrum(&self, count: usize) -> Vec<f64> {
        let ratio = self.mu / self.smoothness;
        (0..count).map(|i| self.smoothness * ratio.powf(i as f64 / (count.max(2) - 1) as f64)).collect()
    }

    /// Terms of one level and their mean. The draws are, in order: basis of A, n×d for z, n×d for a; basis of B, n×m for w, n×m for
    /// b; U, V, and n×min(m, d) for h.
    fn level(&self, n: usize, random: &mut Stream) -> (Terms, Quadratic) {
        let (m, d) = (self.m, self.d);
        let z = factors(&self.spectrum(d), n, random);
        let a = normal_matrix(n, d, random);
        let mut spectrum = self.spectrum(m - 1);
        spectrum.push(0.0);
        let w = factors(&spectrum, n, random);
        let b = normal_matrix(n, m, random);
        let rank = m.min(d);
        let (left, right) = (basis(m, rank, random), basis(d, rank, random));
        let h = normal_matrix(n, rank, random);
        let (p, q) = (&h * left.transpose() * self.cross, &h * right.transpose());

        let [z, q, a, w, p, b] =
            [z, q, a, w, p, b].map(|factors| factors.map(|entry| f64::from(entry as f32)));
        let share = 1.0 / n as f64;
        let mean = Quadratic {
            a_matrix: z.tr_mul(&z) * share,
            b_matrix: w.tr_mul(&w) * share,
            c_matrix: p.tr_mul(&q) * share,
            a: DVector::from_iterator(d, a.column_iter().map(|column| column.mean())),
            b: DVector::from_iterator(m, b.column_iter().map(|column| column.mean())),
        };
        // a term is then a column, which lies in one piece
        let [z, q, a, w, p, b] =
            [z, q, a, w, p, b].map(|factors| factors.transpose().map(|entry| entry as f32));
        let term = |i: usize| {
            let [z, q, a, w, p, b] = [&z, &q, &a, &w, &p, &b].map(|factors| column(factors, i));
            Term { z, q, a, w, p, b }
        };
        (Terms::new((m, d), (0..n).map(term)), mean)
    }
}

/// Column i.
fn column(matrix: &DMatrix<f32>, i: usize) -> &[f32] {
    &matrix.as_slice()[i * matrix.nrows()..(i + 1) * matrix.nrows()]
}

/// `columns` orthonormal columns of `dim` numbers, from normals by QR.
fn basis(dim: usize, columns: usize, random: &mut Stream) -> DMatrix<f64> {
    normal_matrix(dim, columns, random).qr().q()
}

/// `n` rows from N(0, W diag(`spectrum`) Wᵀ), W a random basis.
fn factors(spectrum: &[f64], n: usize, random: &mut Stream) -> DMatrix<f64> {
    let dim = spectrum.len();
    let basis = basis(dim, dim, random);
    let roots = DVector::from_iterator(dim, spectrum.iter().map(|value| value.sqrt()));
    normal_matrix(n, dim, random) * (basis * DMatrix::from_diagonal(&roots)).transpose()
}

impl FiniteSum for Quadratics {
    fn dims(&self) -> (usize, usize) {
        (self.sizes.m, self.sizes.d)
    }
    fn terms(&self) -> (u64, u64) {
        (self.upper.count() as u64, self.lower.count() as u64)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, x: &[f64], y: &[f64], s: Sample) -> f64 {
        self.upper.value(x, y, s)
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.upper.grad_x(x, y, s)
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.upper.grad_y(x, y, s)
    }
    fn f_grad(&self, x: &[f64], y: &[f64], s: Sample) -> (Vec<f64>, Vec<f64>) {
        self.upper.grad(x, y, s)
    }
    fn g(&self, x: &[f64], y: &[f64], s: Sample) -> f64 {
        self.lower.value(x, y, s)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.lower.grad_x(x, y, s)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        self.lower.grad_y(x, y, s)
    }
    fn g_grad(&self, x: &[f64], y: &[f64], s: Sample) -> (Vec<f64>, Vec<f64>) {
        self.lower.grad(x, y, s)
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64], s: Sample) -> Vec<f64> {
        self.lower.hvp_yy(u, s)
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64], s: Sample) -> Vec<f64> {
        self.lower.jvp_xy(u, s)
    }
    /// −2 everywhere, as in the benchmark.
    fn default_x(&self) -> Vec<f64> {
        vec![-2.0; self.sizes.m]
    }
    /// 0 for every seed, as in the benchmark.
    fn start_y(&self, _x: &[f64], _seed: u64) -> Vec<f64> {
        vec![0.0; self.sizes.d]
    }
    fn arrays(&self) -> Vec<DataArray> {
        self.upper.arrays("upper").chain(self.lower.arrays("lower")).collect()
    }
    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let x = vector(x);
        let y = self.pair.selection(&x);
        Some(KnownAnswer {
            value: self.pair.upper.value(&x, &y),
            gradient: Some(list(&self.pair.gradient(&x))),
            v: Some(list(&self.pair.solve(&self.pair.upper.grad_y(&x, &y)))),
            selection: Some(list(&y)),
            curvatures: Some(Vec::new()),
            lower_spectrum: Some(self.lower_spectrum.clone()),
            hyper_hessian: Some(rows(&self.pair.hessian)),
        })
    }
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(&self.pair)
    }
}
