//! The synthetic stress test of LancBiO: a strongly convex lower level of condition number 1e5.
//!
//! ```text
//! f = 0.1 cos(xᵀDy) + ½|Bx − y|²,   D = diag, U(−5, 5);  B = diag, U(0.1, 1.1)
//! g = γ Σ sin(x_i + y_i) + log Σ exp(x_iy_i) + ½yᵀ(D' + G)y,   D' = diag, U(0, γ)
//! G = U diag(1, …, smoothness) Uᵀ, the spectrum in equal steps,   x, y ∈ R^n
//! H = −γ diag(sin) + diag(x)(diag(p) − ppᵀ)diag(x) + D' + G ⪰ 1 − γ,   p = softmax(x∘y)
//! ```
//!
//! Domain: all (x, y). γ < 1 makes the lower level strongly convex, so S(x) is one point and all targets agree. There is no closed
//! form. Starts are N(0, I), x from the seed of the data.
//!
//! U is a product of three Householder reflections with random normals, so that G needs 4n numbers and a product with it some
//! 12n multiplications: n = 10,000, the size of the experiment, would need 800 MB for G as a matrix. Where released, U is
//! a dense random basis; the spectrum, which is what Krylov methods see of G alone, is the same. The default n is 100.
//!
//! Source: released code of LancBiO, UCAS-YanYang/LancBiO (arXiv 2404.03331), constants included.

use super::{
    algebra::{dot, normals, stream},
    formulas::{Formulas, KnownAnswer},
};
use crate::error::ConfigError;

/// An instance; see the [module](self).
#[derive(Clone, Debug)]
pub struct LancbioSynthetic {
    gamma: f64,
    /// D.
    angle: Vec<f64>,
    /// B.
    scale: Vec<f64>,
    /// D'.
    ridge: Vec<f64>,
    /// Eigenvalues of G.
    spectrum: Vec<f64>,
    /// Unit normals of the reflections whose product is U, the first one outermost.
    reflections: [Vec<f64>; 3],
    x0: Vec<f64>,
}

/// Purposes of the random streams; the start of y has purpose 0.
const DIAGONALS: u64 = 1;
const REFLECTIONS: u64 = 2;
const START_X: u64 = 5;

impl LancbioSynthetic {
    /// Draws an instance of n coordinates above and below.
    ///
    /// # Errors
    /// γ outside [0, 1), with which the lower level need not be strongly convex; a largest eigenvalue below 1.
    pub fn new(n: usize, gamma: f64, smoothness: f64, seed: u64) -> Result<Self, ConfigError> {
        ConfigError::require(
            (0.0..1.0).contains(&gamma),
            "gamma",
            gamma,
            "give 0 to below 1, so that H ⪰ 1 − gamma",
        )?;
        ConfigError::require(
            smoothness >= 1.0 && smoothness.is_finite(),
            "smoothness",
            smoothness,
            "the largest eigenvalue of G is at least its smallest, 1",
        )?;
        let mut random = stream(seed, DIAGONALS);
        let mut uniform = |low: f64, high: f64| -> Vec<f64> {
            (0..n).map(|_| low + (high - low) * random.uniform()).collect()
        };
        let step = (smoothness - 1.0) / (n.max(2) - 1) as f64;
        Ok(Self {
            gamma,
            angle: uniform(-5.0, 5.0),
            scale: uniform(0.1, 1.1),
            ridge: uniform(0.0, gamma),
            spectrum: (0..n).map(|i| 1.0 + step * i as f64).collect(),
            reflections: [0, 1, 2].map(|number| unit(normals(seed, REFLECTIONS + number, n))),
            x0: normals(seed, START_X, n),
        })
    }

    /// xᵀDy.
    fn phase(&self, x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).zip(&self.angle).map(|((x, y), d)| x * d * y).sum()
    }
    /// Bx − y.
    fn residual(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.scale.iter().zip(x).zip(y).map(|((b, x), y)| b * x - y).collect()
    }
    /// (D' + G)u.
    fn quadratic(&self, u: &[f64]) -> Vec<f64> {
        let mut image = u.to_vec();
        for normal in &self.reflections {
            reflect(&mut image, normal);
        }
        for (image, value) in image.iter_mut().zip(&self.spectrum) {
            *image *= value;
        }
        for normal in self.reflections.iter().rev() {
            reflect(&mut image, normal);
        }
        for ((image, d), u) in image.iter_mut().zip(&self.ridge).zip(u) {
            *image += d * u;
        }
        image
    }
    /// −γ sin(x_i + y_i) u_i, the derivative of γ cos(x_i + y_i) along u in either variable.
    fn bend(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        x.iter().zip(y).zip(u).map(|((x, y), u)| -self.gamma * (x + y).sin() * u).collect()
    }
}

/// u/|u|.
fn unit(mut u: Vec<f64>) -> Vec<f64> {
    let norm = dot(&u, &u).sqrt();
    for u in &mut u {
        *u /= norm;
    }
    u
}

/// u ← u − 2⟨h, u⟩h.
fn reflect(u: &mut [f64], normal: &[f64]) {
    let along = 2.0 * dot(u, normal);
    for (u, h) in u.iter_mut().zip(normal) {
        *u -= along * h;
    }
}

/// log Σ exp(x_iy_i) and its derivatives p in the products, free of overflow.
fn log_sum_exp(x: &[f64], y: &[f64]) -> (f64, Vec<f64>) {
    let products: Vec<f64> = x.iter().zip(y).map(|(x, y)| x * y).collect();
    let largest = products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut shares: Vec<f64> = products.iter().map(|product| (product - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    for share in &mut shares {
        *share /= sum;
    }
    (largest + sum.ln(), shares)
}

/// (diag(p) − ppᵀ)diag(x)u, the derivative of p along u in y.
fn along(p: &[f64], x: &[f64], u: &[f64]) -> Vec<f64> {
    let moved: Vec<f64> = x.iter().zip(u).map(|(x, u)| x * u).collect();
    let mean = dot(p, &moved);
    p.iter().zip(&moved).map(|(p, moved)| p * (moved - mean)).collect()
}

impl Formulas for LancbioSynthetic {
    fn dims(&self) -> (usize, usize) {
        (self.x0.len(), self.x0.len())
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(0)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        let residual = self.residual(x, y);
        0.1 * self.phase(x, y).cos() + 0.5 * dot(&residual, &residual)
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let turn = -0.1 * self.phase(x, y).sin();
        let residual = self.residual(x, y);
        (0..x.len()).map(|i| turn * self.angle[i] * y[i] + self.scale[i] * residual[i]).collect()
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let turn = -0.1 * self.phase(x, y).sin();
        let residual = self.residual(x, y);
        (0..x.len()).map(|i| turn * self.angle[i] * x[i] - residual[i]).collect()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        let waves: f64 = x.iter().zip(y).map(|(x, y)| (x + y).sin()).sum();
        self.gamma * waves + log_sum_exp(x, y).0 + 0.5 * dot(y, &self.quadratic(y))
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (_, p) = log_sum_exp(x, y);
        (0..x.len()).map(|i| self.gamma * (x[i] + y[i]).cos() + p[i] * y[i]).collect()
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (_, p) = log_sum_exp(x, y);
        let quadratic = self.quadratic(y);
        (0..x.len()).map(|i| self.gamma * (x[i] + y[i]).cos() + p[i] * x[i] + quadratic[i]).collect()
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let (_, p) = log_sum_exp(x, y);
        let (bend, moved, quadratic) = (self.bend(x, y, u), along(&p, x, u), self.quadratic(u));
        (0..x.len()).map(|i| bend[i] + x[i] * moved[i] + quadratic[i]).collect()
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let (_, p) = log_sum_exp(x, y);
        let (bend, moved) = (self.bend(x, y, u), along(&p, x, u));
        (0..x.len()).map(|i| bend[i] + y[i] * moved[i] + p[i] * u[i]).collect()
    }
    fn default_x(&self) -> Vec<f64> {
        self.x0.clone()
    }
    fn start_y(&self, x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, x.len())
    }
    fn known(&self, _x: &[f64]) -> Option<KnownAnswer> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Checker,
        linear::dense::Spectrum,
        problem::Problem,
        problems::Zoo,
        run::{Budget, Run, Status},
        solvers::hg_ms::HgMs,
        vector::Vector,
    };

    fn instance(n: usize, smoothness: f64) -> LancbioSynthetic {
        LancbioSynthetic::new(n, 0.5, smoothness, 3).unwrap()
    }
    fn spectrum(n: usize, mut product: impl FnMut(&Vec<f64>) -> Vec<f64>) -> Spectrum {
        Spectrum::of(&mut |u: &Vec<f64>| Ok(product(u)), &vec![0.0; n]).unwrap()
    }

    #[test]
    fn derivatives_are_those_of_the_values() {
        // a spectrum of the size of the other terms, so that none hides behind another
        let zoo = Zoo::new(instance(6, 2.0));
        let (x, y) = zoo.start(5);
        for report in Checker::default().problem(&zoo, &x, &y).unwrap() {
            assert!(report.passed(), "{report:?}");
        }
    }

    #[test]
    fn the_lower_level_has_the_stated_spectrum() {
        let (n, problem) = (20, instance(20, 1e5));
        let of_g = spectrum(n, |u| {
            let mut image = problem.quadratic(u);
            for ((image, d), u) in image.iter_mut().zip(&problem.ridge).zip(u) {
                *image -= d * u;
            }
            image
        });
        for (i, value) in of_g.values().iter().enumerate() {
            let expected = 1.0 + (1e5 - 1.0) * i as f64 / 19.0;
            assert!((value - expected).abs() < 1e-9 * 1e5, "{value} {expected}");
        }
        for seed in 0..20 {
            let (x, y) = (normals(seed, 1, n), normals(seed, 2, n));
            assert!(spectrum(n, |u| problem.g_hvp_yy(&x, &y, u)).min() >= 0.5 - 1e-9);
        }
    }

    #[test]
    fn ten_thousand_coordinates_fit_into_a_few_lists() {
        let problem = instance(10_000, 1e5);
        let (x, y) = (problem.default_x(), problem.start_y(&vec![0.0; 10_000], 1));
        // |Gy| of a normal y: √(Σλ²) = √(n/3)·1e5 to a few per cent
        let slope = problem.g_grad_y(&x, &y).norm();
        assert!((slope / (1e5 * (1e4_f64 / 3.0).sqrt()) - 1.0).abs() < 0.1, "{slope}");
        assert!(problem.g(&x, &y).is_finite());
    }

    #[test]
    fn hg_ms_ends_where_the_gradient_vanishes() {
        let zoo = Zoo::new(instance(12, 1e5));
        let report = Run::new(&zoo, &HgMs::default()).budget(Budget::steps(300)).start(0).unwrap();
        assert_eq!(report.status, Status::Converged);
        let certificate = report.certificate().unwrap();
        assert_eq!(certificate.kernel_dim, Some(0.0));
        assert!(certificate.is_certified(), "{certificate}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        assert_eq!(LancbioSynthetic::new(5, 1.0, 10.0, 0).unwrap_err().field, "gamma");
        assert_eq!(LancbioSynthetic::new(5, 0.5, 0.5, 0).unwrap_err().field, "smoothness");
    }
}
