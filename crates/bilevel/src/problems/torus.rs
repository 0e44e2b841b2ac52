//! T6, a torus with padding: k and d apart, and 2ᵏ local minimisers (m k, d 2k + p).
//!
//! ```text
//! y = (y⁽¹⁾, …, y⁽ᵏ⁾ ∈ R², z ∈ Rᵖ),  w = W x,  W_ij = ((i + 2j) mod 3) − 1 with i, j from 0
//! g = ¼Σ(|y⁽ⁱ⁾|² − rᵢ²)² + ½|z − w|²,   rᵢ = 1 + 0.1xᵢ²  or  rᵢ² = 1 + 0.2xᵢ²
//! f = Σ[xᵢ y₁⁽ⁱ⁾ + (c/2)(y₂⁽ⁱ⁾)²] + ½|z|²,   c = 2
//! F = −Σ|xᵢ|rᵢ + ½|W x|²,   y⁽ⁱ⁾ = (−sgn xᵢ rᵢ, 0),  z = W x,   M_T = c + |xᵢ|/rᵢ
//! ```
//!
//! Branch s ∈ {±1}ᵏ: y⁽ⁱ⁾ = (sᵢrᵢ, 0) with value Σsᵢxᵢrᵢ + ½|W x|² and curvatures c − sᵢxᵢ/rᵢ, a strict minimiser on S
//! while they are positive. Domain: all x; a kink of F wherever some xᵢ = 0. Outside S, g has strict saddles at
//! y⁽ⁱ⁾ = 0. Row i of W depends on i mod 3 alone, so every product costs O(d).

use super::{
    algebra::{norm_sq, normals},
    formulas::{Branch, Formulas, KnownAnswer},
    shell::{Radius, RadiusLaw},
};

/// T6; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Torus {
    /// k, the number of circles.
    pub k: usize,
    /// p, the number of padding coordinates.
    pub padding: usize,
    /// How the radii depend on x.
    pub radius: RadiusLaw,
}

/// c, the weight of (y₂⁽ⁱ⁾)²/2 in f.
const C: f64 = 2.0;
/// The 2ᵏ branches are listed up to this k.
const MAX_LISTED: usize = 12;

impl Torus {
    /// k circles and p padding coordinates with rᵢ = 1 + 0.1xᵢ².
    pub fn new(k: usize, padding: usize) -> Self {
        Self { k, padding, radius: RadiusLaw::Quadratic }
    }
    /// The same with rᵢ² = 1 + 0.2xᵢ².
    pub fn square_quadratic(k: usize, padding: usize) -> Self {
        Self { k, padding, radius: RadiusLaw::SquareQuadratic }
    }
    /// φᵢ = |y⁽ⁱ⁾|² − rᵢ².
    fn excess(self, x: &[f64], y: &[f64], i: usize) -> f64 {
        y[2 * i] * y[2 * i] + y[2 * i + 1] * y[2 * i + 1] - self.radius.squared(x[i])
    }
    /// W_ij.
    fn weight(i: usize, j: usize) -> f64 {
        ((i + 2 * j) % 3) as f64 - 1.0
    }
    /// W x, from its three distinct entries.
    fn lift(self, x: &[f64]) -> Vec<f64> {
        let entry = |class: usize| (0..self.k).map(|j| Self::weight(class, j) * x[j]).sum::<f64>();
        let classes = [entry(0), entry(1), entry(2)];
        (0..self.padding).map(|i| classes[i % 3]).collect()
    }
    /// Wᵀu, from the sums of u over the three classes of rows.
    fn lift_transposed(self, u: &[f64]) -> Vec<f64> {
        let mut classes = [0.0; 3];
        u.iter().enumerate().for_each(|(i, u)| classes[i % 3] += u);
        (0..self.k).map(|j| (0..3).map(|i| Self::weight(i, j) * classes[i]).sum()).collect()
    }
    /// The minimiser on S of the branch with these signs.
    fn point(self, x: &[f64], signs: &[f64]) -> Vec<f64> {
        let mut y: Vec<f64> =
            (0..self.k).flat_map(|i| [signs[i] * self.radius.at(x[i]).value, 0.0]).collect();
        y.extend(self.lift(x));
        y
    }
    /// The branch with these signs (−1 or 1), minimiser or not.
    pub fn branch(&self, x: &[f64], signs: &[f64]) -> Branch {
        let lift = self.lift(x);
        let mut gradient = self.lift_transposed(&lift);
        let mut value = 0.5 * norm_sq(&lift);
        let mut curvatures = Vec::with_capacity(self.k);
        for i in 0..self.k {
            let Radius { value: r, slope, .. } = self.radius.at(x[i]);
            value += signs[i] * x[i] * r;
            gradient[i] += signs[i] * (r + x[i] * slope);
            curvatures.push(C - signs[i] * x[i] / r);
        }
        curvatures.sort_by(f64::total_cmp);
        Branch { point: self.point(x, signs), value, gradient, curvatures }
    }
}

impl Formulas for Torus {
    fn dims(&self) -> (usize, usize) {
        (self.k, 2 * self.k + self.padding)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(self.k)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        let circles: f64 = (0..self.k).map(|i| x[i] * y[2 * i] + 0.5 * C * y[2 * i + 1].powi(2)).sum();
        circles + 0.5 * norm_sq(&y[2 * self.k..])
    }
    fn f_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        (0..self.k).map(|i| y[2 * i]).collect()
    }
    fn f_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let mut gradient = y.to_vec();
        for i in 0..self.k {
            gradient[2 * i] = x[i];
            gradient[2 * i + 1] = C * y[2 * i + 1];
        }
        gradient
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        let circles: f64 = (0..self.k).map(|i| 0.25 * self.excess(x, y, i).powi(2)).sum();
        let padding: f64 = y[2 * self.k..].iter().zip(self.lift(x)).map(|(z, w)| (z - w).powi(2)).sum();
        circles + 0.5 * padding
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let gap: Vec<f64> = y[2 * self.k..].iter().zip(self.lift(x)).map(|(z, w)| w - z).collect();
        let mut gradient = self.lift_transposed(&gap);
        for i in 0..self.k {
            gradient[i] -= self.excess(x, y, i) * self.radius.half_slope(x[i]);
        }
        gradient
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let mut gradient = Vec::with_capacity(y.len());
        for i in 0..self.k {
            let excess = self.excess(x, y, i);
            gradient.extend([excess * y[2 * i], excess * y[2 * i + 1]]);
        }
        gradient.extend(y[2 * self.k..].iter().zip(self.lift(x)).map(|(z, w)| z - w));
        gradient
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let mut product = u.to_vec();
        for i in 0..self.k {
            let (a, b) = (2 * i, 2 * i + 1);
            let (excess, along) = (self.excess(x, y, i), y[a] * u[a] + y[b] * u[b]);
            product[a] = excess * u[a] + 2.0 * y[a] * along;
            product[b] = excess * u[b] + 2.0 * y[b] * along;
        }
        product
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let mut product: Vec<f64> = self.lift_transposed(&u[2 * self.k..]).iter().map(|w| -w).collect();
        for i in 0..self.k {
            let (a, b) = (2 * i, 2 * i + 1);
            product[i] -= 2.0 * self.radius.half_slope(x[i]) * (y[a] * u[a] + y[b] * u[b]);
        }
        product
    }
    fn default_x(&self) -> Vec<f64> {
        (0..self.k).map(|i| [0.5, -0.8, 1.2][i % 3]).collect()
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 2 * self.k + self.padding)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let signs: Vec<f64> = x.iter().map(|x| -x.signum()).collect();
        let best = self.branch(x, &signs);
        let mut lower_spectrum = vec![1.0; self.padding];
        lower_spectrum.extend((0..self.k).map(|i| 2.0 * self.radius.squared(x[i])));
        lower_spectrum.sort_by(f64::total_cmp);
        let answer = KnownAnswer {
            value: best.value,
            curvatures: Some(best.curvatures),
            lower_spectrum: Some(lower_spectrum),
            ..KnownAnswer::default()
        };
        if x.contains(&0.0) {
            return Some(answer);
        }
        // on a circle H = 2 y yᵀ with |y| = r, so H⁺(xᵢ, 0) = (xᵢ/2r², 0); the padding has H = I
        let mut v = best.point.clone();
        for i in 0..self.k {
            v[2 * i] = 0.5 * x[i] / self.radius.squared(x[i]);
        }
        let columns: Vec<Vec<f64>> = (0..self.k)
            .map(|j| {
                let unit: Vec<f64> = (0..self.k).map(|i| f64::from(u8::from(i == j))).collect();
                let mut column = self.lift_transposed(&self.lift(&unit));
                let Radius { slope, bend, .. } = self.radius.at(x[j]);
                column[j] += signs[j] * (2.0 * slope + x[j] * bend);
                column
            })
            .collect();
        Some(KnownAnswer {
            gradient: Some(best.gradient),
            selection: Some(best.point),
            v: Some(v),
            hyper_hessian: Some(columns),
            ..answer
        })
    }
    fn branches(&self, x: &[f64]) -> Vec<Branch> {
        if self.k > MAX_LISTED {
            return Vec::new();
        }
        let mut branches: Vec<Branch> = (0..1usize << self.k)
            .map(|bits| {
                let signs: Vec<f64> =
                    (0..self.k).map(|i| if bits >> i & 1 == 0 { 1.0 } else { -1.0 }).collect();
                self.branch(x, &signs)
            })
            .filter(|branch| branch.curvatures.first().is_none_or(|&alpha| alpha > 0.0))
            .collect();
        branches.sort_by(|p, q| p.value.total_cmp(&q.value));
        branches
    }
}
