//! T10, an indefinite quadratic on a sphere: the secular equation (m 3, d 3, k 2).
//!
//! ```text
//! g = ¼(|y|² − r²)²,  r = 1 + 0.1x₃²  or  r² = 1 + 0.2x₃²;   f = ½yᵀQ y + x·y, Q = diag(−2, 1, 3)
//! y* = −(Q + νI)⁻¹x,  ν > 2 the root of |(Q + νI)⁻¹x| = r;   F = f(x, y*),  ∇F = y* − ν r∇r
//! ```
//!
//! Domain: all x. A second strict minimiser on S may exist with −1 < ν < 2. Hard case: x₁ = 0 and
//! |(x₂/3, x₃/5)| < r give ν = 2 and two selections that differ in the sign of y₁; F has a kink there.

use nalgebra::DMatrix;

use super::{
    algebra::{norm_sq, normals, plus, restricted_eigenvalues, scaled, vector},
    formulas::{Branch, Formulas, KnownAnswer},
    shell::{RadiusLaw, Shell},
};

/// T10; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Secular {
    /// How the radius depends on x₃.
    pub radius: RadiusLaw,
}

impl Default for Secular {
    /// T10: r = 1 + 0.1x₃².
    fn default() -> Self {
        Self { radius: RadiusLaw::Quadratic }
    }
}

const Q: [f64; 3] = [-2.0, 1.0, 3.0];
/// Q + 2I, whose smallest entry is zero: roots are found in w = ν − 2, where the hard case is well scaled.
const SHIFTED: [f64; 3] = [0.0, 3.0, 5.0];

/// −(Q + νI)⁻¹x at ν = 2 + w; a zero of x stays zero.
fn point_at(x: &[f64], w: f64) -> Vec<f64> {
    (0..3).map(|i| if x[i] == 0.0 { 0.0 } else { -x[i] / (SHIFTED[i] + w) }).collect()
}
/// Bisects a function that changes sign once between `low` (where it is positive) and `high` to the last digit.
fn bisect(mut low: f64, mut high: f64, positive: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low.min(high) || middle >= low.max(high) {
            return middle;
        }
        if positive(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
}

impl Secular {
    /// T10 with r² = 1 + 0.2x₃² (run R10).
    pub fn square_quadratic() -> Self {
        Self { radius: RadiusLaw::SquareQuadratic }
    }
    fn shell(self, x: &[f64]) -> Shell {
        Shell {
            radius_sq: self.radius.squared(x[2]),
            half_slope: vec![0.0, 0.0, self.radius.half_slope(x[2])],
        }
    }
    /// Whether the two selections tie: x₁ = 0 and the rest of y at ν = 2 inside the sphere.
    fn is_tie(self, x: &[f64]) -> bool {
        x[0] == 0.0 && norm_sq(&point_at(x, 0.0)) < self.radius.squared(x[2])
    }
    /// ν − 2 > 0 of the global minimiser outside the hard case.
    fn multiplier(self, x: &[f64]) -> f64 {
        let radius_sq = self.radius.squared(x[2]);
        // |(Q + νI)⁻¹x| ≤ |x|/w, so the root is below |x|/r
        bisect(0.0, (norm_sq(x) / radius_sq).sqrt(), |w| norm_sq(&point_at(x, w)) > radius_sq)
    }
    /// ν − 2 in (−3, 0) of the second strict minimiser, if it exists.
    fn spurious_multiplier(self, x: &[f64]) -> Option<f64> {
        if x[0] == 0.0 {
            return None;
        }
        // |(Q + νI)⁻¹x|² is convex between its poles; the minimiser on S is its upper root
        let slope = |w: f64| (0..3).map(|i| x[i] * x[i] / (SHIFTED[i] + w).powi(3)).sum::<f64>();
        let bottom = bisect(-3.0, 0.0, |w| slope(w) > 0.0);
        let radius_sq = self.radius.squared(x[2]);
        if norm_sq(&point_at(x, bottom)) >= radius_sq {
            return None;
        }
        Some(bisect(bottom, 0.0, |w| norm_sq(&point_at(x, w)) < radius_sq))
    }
    /// The stationary point y of f on S with multiplier ν = 2 + w.
    fn branch(self, x: &[f64], y: Vec<f64>, w: f64) -> Branch {
        let form = DMatrix::from_diagonal(&vector(&SHIFTED.map(|q| q + w)));
        let constraint = DMatrix::from_rows(&[vector(&y).transpose()]);
        Branch {
            value: self.f(x, &y),
            gradient: plus(&y, -(2.0 + w), &self.shell(x).half_slope),
            curvatures: restricted_eigenvalues(&form, &constraint),
            point: y,
        }
    }
    /// The tied selections of the hard case.
    fn tied(self, x: &[f64]) -> Vec<Branch> {
        let rest = point_at(x, 0.0);
        let first = (self.radius.squared(x[2]) - norm_sq(&rest)).sqrt();
        [-first, first].map(|y| self.branch(x, vec![y, rest[1], rest[2]], 0.0)).into()
    }
    /// ∇²F from the derivative of the conditions (Q + νI)y + x = 0, ½|y|² = ½r².
    fn hyper_hessian(self, x: &[f64], y: &[f64], w: f64) -> Option<Vec<Vec<f64>>> {
        let half_slope = self.shell(x).half_slope;
        let mut system = DMatrix::zeros(4, 4);
        let mut rhs = DMatrix::zeros(4, 3);
        for i in 0..3 {
            system[(i, i)] = SHIFTED[i] + w;
            system[(i, 3)] = y[i];
            system[(3, i)] = y[i];
            rhs[(i, i)] = -1.0;
            rhs[(3, i)] = half_slope[i];
        }
        let change = system.lu().solve(&rhs)?;
        let row = |i: usize| {
            (0..3)
                .map(|j| {
                    let bend = if i == 2 && j == 2 { self.radius.half_bend(x[2]) } else { 0.0 };
                    change[(i, j)] - half_slope[i] * change[(3, j)] - (2.0 + w) * bend
                })
                .collect()
        };
        Some((0..3).map(row).collect())
    }
}

impl Formulas for Secular {
    fn dims(&self) -> (usize, usize) {
        (3, 3)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(2)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        (0..3).map(|i| 0.5 * Q[i] * y[i] * y[i] + x[i] * y[i]).sum()
    }
    fn f_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        y.to_vec()
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        (0..3).map(|i| Q[i] * y[i] + x[i]).collect()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        self.shell(x).value(y)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.shell(x).grad_x(y)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        self.shell(x).grad_y(y)
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        self.shell(x).hvp_yy(y, u)
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        self.shell(x).jvp_xy(y, u)
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.5, -0.4, 0.8]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 3)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let radius_sq = self.radius.squared(x[2]);
        let lower_spectrum = Some(vec![2.0 * radius_sq]);
        if self.is_tie(x) {
            let tied = self.tied(x).swap_remove(0);
            return Some(KnownAnswer {
                value: tied.value,
                curvatures: Some(tied.curvatures),
                lower_spectrum,
                ..KnownAnswer::default()
            });
        }
        let w = self.multiplier(x);
        let branch = self.branch(x, point_at(x, w), w);
        Some(KnownAnswer {
            value: branch.value,
            gradient: Some(branch.gradient),
            // H = 2 y yᵀ and ∇_y f = −νy
            v: Some(scaled(-(2.0 + w) / (2.0 * radius_sq), &branch.point)),
            hyper_hessian: self.hyper_hessian(x, &branch.point, w),
            selection: Some(branch.point),
            curvatures: Some(branch.curvatures),
            lower_spectrum,
        })
    }
    fn branches(&self, x: &[f64]) -> Vec<Branch> {
        if self.is_tie(x) {
            return self.tied(x);
        }
        let global = self.multiplier(x);
        let multipliers = [Some(global), self.spurious_multiplier(x)];
        let mut branches: Vec<Branch> =
            multipliers.into_iter().flatten().map(|w| self.branch(x, point_at(x, w), w)).collect();
        branches.sort_by(|p, q| p.value.total_cmp(&q.value));
        branches
    }
}
