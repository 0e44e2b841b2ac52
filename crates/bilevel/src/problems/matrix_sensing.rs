//! Matrix sensing: a low-rank matrix from random linear measurements, its factor split between the levels.
//!
//! ```text
//! M* = U*U*ᵀ, U* ∈ R^{d×r} with N(0, 1/d) entries;   e_i = ⟨C_i, M*⟩ + ν N(0, 1), C_i standard normal
//! U = (x, y): x its first r − 1 columns, y the last;   a_i = ⟨S_i, UUᵀ⟩ − e_i, S_i = (C_i + C_iᵀ)/2
//! g = mean of ½a_i² over the training measurements,   f = the same over the validation measurements
//! ∇_x = 2Ax, ∇_y = 2Ay with A = mean of a_i S_i
//! H v = 4By + 2Av,  J v = 4Bx with B = mean of (yᵀS_i v) S_i
//! ```
//!
//! Domain: all (x, y). y = 0 is stationary for every x and never a start. With more training measurements than unknowns
//! the lower minimisers ±y* are isolated and f is the same at both; with `train` < d they fill a manifold of dimension
//! d − `train` (at a fitted point). Known answer: without noise the optimistic minimum is 0, attained at U*; `recovery` =
//! |UUᵀ − M*|/|M*| (Frobenius) measures the way there.
//!
//! Only the symmetric halves S_i are kept, packed and in single precision (322 MB at d = 200 with 4,000 measurements); sums
//! are in double precision. The measurements are made with the stored entries, so noiseless data are fitted exactly.
//!
//! The experiment is that of F. Huang, *Optimal Hessian/Jacobian-Free Nonconvex-PL Bilevel Optimization*
//! (arXiv 2407.17823); rank, start and noise there are not known.

use std::ops::Range;

use super::formulas::{Formulas, KnownAnswer};
use crate::{error::ConfigError, rng::Stream, vector::Vector};

/// Sizes of an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Rows of U.
    pub d: usize,
    /// Columns of U, at least 2.
    pub rank: usize,
    /// Training measurements.
    pub train: usize,
    /// Validation measurements.
    pub validation: usize,
    /// Deviation ν of the noise.
    pub noise: f64,
    /// Seed of the data.
    pub seed: u64,
}

/// An instance; see the [module](self).
#[derive(Clone, Debug)]
pub struct MatrixSensing {
    sizes: Sizes,
    /// Packed upper triangles, row by row, one measurement after the other.
    measurements: Vec<f32>,
    data: Vec<f64>,
    /// Packed M*.
    truth: Vec<f64>,
    x0: Vec<f64>,
}

/// Purposes of the random streams.
const FACTOR: u64 = 0;
const MEASUREMENTS: u64 = 1;
const NOISE: u64 = 2;
const START_X: u64 = 3;
const START_Y: u64 = 4;

impl MatrixSensing {
    /// Draws an instance.
    ///
    /// # Errors
    /// A rank below 2, which leaves one level without variables, or above d.
    pub fn new(sizes: Sizes) -> Result<Self, ConfigError> {
        let Sizes { d, rank, train, validation, noise, seed } = sizes;
        ConfigError::require(
            (2..=d).contains(&rank),
            "rank",
            rank,
            &format!("give 2 to d = {d}: x has rank − 1 columns, y one"),
        )?;
        let deviation = 1.0 / (d as f64).sqrt();
        let columns = |purpose, columns: usize| -> Vec<f64> {
            let mut stream = Stream::new(seed, purpose);
            (0..columns * d).map(|_| deviation * stream.normal()).collect()
        };
        let truth = gram(&columns(FACTOR, rank), d);
        let mut stream = Stream::new(seed, MEASUREMENTS);
        let mut measurements = Vec::with_capacity((train + validation) * truth.len());
        for _ in 0..train + validation {
            for i in 0..d {
                for j in i..d {
                    // the mean of two standard normals off the diagonal
                    let deviation = if i == j { 1.0 } else { std::f64::consts::FRAC_1_SQRT_2 };
                    measurements.push((deviation * stream.normal()) as f32);
                }
            }
        }
        let mut instance =
            Self { sizes, measurements, data: Vec::new(), truth, x0: columns(START_X, rank - 1) };
        let mut noises = Stream::new(seed, NOISE);
        instance.data = instance
            .inner_products(0..train + validation, &instance.truth)
            .into_iter()
            .map(|inner| inner + noise * noises.normal())
            .collect();
        Ok(instance)
    }

    /// Training measurements come first.
    fn training(&self) -> Range<usize> {
        0..self.sizes.train
    }
    fn validation(&self) -> Range<usize> {
        self.sizes.train..self.sizes.train + self.sizes.validation
    }
    fn measurement(&self, index: usize) -> &[f32] {
        let size = self.truth.len();
        &self.measurements[index * size..(index + 1) * size]
    }

    /// ⟨S_i, M⟩ for a packed symmetric M.
    fn inner_products(&self, set: Range<usize>, m: &[f64]) -> Vec<f64> {
        // entries off the diagonal count twice
        let mut weighted = m.iter().map(|entry| 2.0 * entry).collect::<Vec<f64>>();
        for i in diagonal(self.sizes.d) {
            weighted[i] *= 0.5;
        }
        set.map(|index| self.measurement(index).iter().zip(&weighted).map(|(&s, m)| f64::from(s) * m).sum())
            .collect()
    }

    /// Packed mean of w_i S_i.
    fn mean(&self, set: Range<usize>, weights: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.truth.len()];
        let share = 1.0 / set.len() as f64;
        for (index, weight) in set.zip(weights) {
            let weight = weight * share;
            for (sum, &s) in sum.iter_mut().zip(self.measurement(index)) {
                *sum += weight * f64::from(s);
            }
        }
        sum
    }

    /// a_i = ⟨S_i, UUᵀ⟩ − e_i.
    fn residuals(&self, set: Range<usize>, x: &[f64], y: &[f64]) -> Vec<f64> {
        let mut inner = self.inner_products(set.clone(), &self.product(x, y));
        inner.iter_mut().zip(&self.data[set]).for_each(|(a, e)| *a -= e);
        inner
    }
    /// Packed UUᵀ.
    fn product(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        gram(&[x, y].concat(), self.sizes.d)
    }
    fn value(&self, set: Range<usize>, x: &[f64], y: &[f64]) -> f64 {
        let share = 0.5 / set.len() as f64;
        share * self.residuals(set, x, y).iter().map(|a| a * a).sum::<f64>()
    }
    /// 2A z, column by column.
    fn gradient(&self, set: Range<usize>, x: &[f64], y: &[f64], z: &[f64]) -> Vec<f64> {
        let a = self.mean(set.clone(), &self.residuals(set, x, y));
        self.times(&a, z, 2.0)
    }
    /// Packed B: the mean of (yᵀS_i v) S_i over the training measurements.
    fn curvature(&self, y: &[f64], v: &[f64]) -> Vec<f64> {
        let d = self.sizes.d;
        let mut outer = Vec::with_capacity(self.truth.len());
        for i in 0..d {
            outer.extend((i..d).map(|j| 0.5 * (y[i] * v[j] + y[j] * v[i])));
        }
        let inner = self.inner_products(self.training(), &outer);
        self.mean(self.training(), &inner)
    }
    /// factor · M z for a packed M, column by column.
    fn times(&self, m: &[f64], z: &[f64], factor: f64) -> Vec<f64> {
        let d = self.sizes.d;
        let mut out = vec![0.0; z.len()];
        for (z, out) in z.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            let mut at = 0;
            for i in 0..d {
                out[i] += factor * m[at] * z[i];
                at += 1;
                for j in i + 1..d {
                    out[i] += factor * m[at] * z[j];
                    out[j] += factor * m[at] * z[i];
                    at += 1;
                }
            }
        }
        out
    }
}

/// Packed upper triangle of UUᵀ, U by columns of d numbers.
fn gram(u: &[f64], d: usize) -> Vec<f64> {
    let mut packed = Vec::with_capacity(d * (d + 1) / 2);
    for i in 0..d {
        packed.extend((i..d).map(|j| u.chunks_exact(d).map(|column| column[i] * column[j]).sum::<f64>()));
    }
    packed
}

/// Places of the diagonal in a packed triangle.
fn diagonal(d: usize) -> impl Iterator<Item = usize> {
    (0..d).scan(0, move |at, i| {
        let here = *at;
        *at += d - i;
        Some(here)
    })
}

impl Formulas for MatrixSensing {
    fn dims(&self) -> (usize, usize) {
        let Sizes { d, rank, .. } = self.sizes;
        (d * (rank - 1), d)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(self.sizes.d.saturating_sub(self.sizes.train))
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        self.value(self.validation(), x, y)
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.gradient(self.validation(), x, y, x)
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.gradient(self.validation(), x, y, y)
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        self.value(self.training(), x, y)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.gradient(self.training(), x, y, x)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.gradient(self.training(), x, y, y)
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let mut product = self.gradient(self.training(), x, y, u);
        product.axpy(1.0, &self.times(&self.curvature(y, u), y, 4.0));
        product
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        self.times(&self.curvature(y, u), x, 4.0)
    }
    fn default_x(&self) -> Vec<f64> {
        self.x0.clone()
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        let mut stream = Stream::new(seed, START_Y);
        let deviation = 1.0 / (self.sizes.d as f64).sqrt();
        (0..self.sizes.d).map(|_| deviation * stream.normal()).collect()
    }
    fn known(&self, _x: &[f64]) -> Option<KnownAnswer> {
        None
    }
    fn metrics(&self, x: &[f64], y: &[f64]) -> Vec<(&'static str, f64)> {
        let found = self.product(x, y);
        let norm = |m: &dyn Fn(usize) -> f64| {
            let all: f64 = (0..self.truth.len()).map(|i| 2.0 * m(i).powi(2)).sum();
            (all - diagonal(self.sizes.d).map(|i| m(i).powi(2)).sum::<f64>()).sqrt()
        };
        vec![("recovery", norm(&|i| found[i] - self.truth[i]) / norm(&|i| self.truth[i]))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Budget, Run,
        problems::Zoo,
        solvers::{f2ba::F2ba, hjfbio::Hjfbio},
    };

    fn instance(train: usize, noise: f64) -> MatrixSensing {
        MatrixSensing::new(Sizes { d: 10, rank: 2, train, validation: 120, noise, seed: 1 }).unwrap()
    }
    fn recovery(zoo: &Zoo, x: &[f64], y: &[f64]) -> f64 {
        zoo.formulas().metrics(x, y)[0].1
    }

    #[test]
    fn packed_sums_are_those_of_full_matrices() {
        let sensing = instance(80, 0.3);
        let d = 10;
        let (x, y) = (sensing.default_x(), sensing.start_y(&[], 3));
        let entry = |packed: &dyn Fn(usize) -> f64, i: usize, j: usize| {
            let (i, j) = (i.min(j), i.max(j));
            packed(diagonal(d).nth(i).unwrap() + j - i)
        };
        let mut sum = 0.0;
        for index in sensing.training() {
            let s = |at: usize| f64::from(sensing.measurement(index)[at]);
            let mut a = -sensing.data[index];
            for i in 0..d {
                for j in 0..d {
                    a += entry(&s, i, j) * (x[i] * x[j] + y[i] * y[j]);
                }
            }
            sum += 0.5 * a * a;
        }
        assert!((sensing.g(&x, &y) - sum / 80.0).abs() < 1e-12 * sum);
    }

    #[test]
    fn noiseless_data_are_fitted_by_the_truth_alone() {
        let sensing = instance(80, 0.0);
        // the factor is drawn from the same stream
        let mut stream = Stream::new(1, FACTOR);
        let u: Vec<f64> = (0..20).map(|_| stream.normal() / 10f64.sqrt()).collect();
        let (x, y) = u.split_at(10);
        assert!(sensing.f(x, y) < 1e-28 && sensing.g(x, y) < 1e-28);
        assert!(sensing.metrics(x, y)[0].1 < 1e-14);
        assert!(instance(80, 0.5).f(x, y) > 0.01);
        // y = 0 is stationary for every x
        assert_eq!(sensing.g_grad_y(&sensing.default_x(), &[0.0; 10]), vec![0.0; 10]);
        assert_eq!((sensing.intrinsic_dim(), instance(4, 0.0).intrinsic_dim()), (Some(0), Some(6)));
        let error = MatrixSensing::new(Sizes { rank: 1, ..sensing.sizes }).unwrap_err();
        assert!(error.to_string().contains("rank = 1"), "{error}");
    }

    #[test]
    fn an_implicit_method_recovers_the_matrix() {
        let zoo = Zoo::new(instance(80, 0.0));
        let solver = Hjfbio { step_x: 0.02, step_y: 0.02, step_v: 0.02, v_radius: 10.0, ..Hjfbio::default() };
        let report = Run::new(&zoo, &solver).budget(Budget::steps(4_000)).start(2).unwrap();
        let found = recovery(&zoo, &report.x, &report.y);
        assert!(found < 1e-6, "{found:e}");
    }

    #[test]
    fn with_too_few_measurements_below_the_optimistic_target_still_recovers() {
        let zoo = Zoo::new(instance(5, 0.0));
        let (x, y) = crate::Problem::start(&zoo, 2);
        let solver = F2ba {
            lambda: 10.0,
            step_x: 0.01,
            step_y: 0.02,
            step_z: 0.02,
            lower_steps: 10,
            ..F2ba::default()
        };
        let report = Run::new(&zoo, &solver).budget(Budget::steps(6_000)).start(2).unwrap();
        let found = recovery(&zoo, &report.x, &report.y);
        assert!(found < 1e-5, "{found:e} from {:e}", recovery(&zoo, &x, &y));
    }
}
