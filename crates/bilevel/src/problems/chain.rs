//! T4, a deep linear chain (m 1, d L, k L − 1).
//!
//! ```text
//! g = ½(Πyᵢ − x)²,   f = ½Σaᵢyᵢ², aᵢ = i,   π = Πaᵢ
//! F = (L/2) π^(1/L) x^(2/L),   yᵢ = √(π^(1/L) x^(2/L)/aᵢ) and its even sign changes
//! ```
//!
//! Domain of the closed form: x > 0. The 2^(L−1) sign copies of y* share value and gradient. Outside S, g is critical
//! where two of the yᵢ vanish (a saddle) or more (H = 0). At x = 0 the set S is a cross, not a manifold.

use nalgebra::DMatrix;

use super::{
    algebra::{dot, norm_sq, normals, restricted_eigenvalues, scaled, vector},
    formulas::{Formulas, KnownAnswer},
};

/// T4; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// L ≥ 2, the number of links.
    pub links: usize,
}

impl Chain {
    /// aᵢ.
    fn weights(self) -> Vec<f64> {
        (1..=self.links).map(|i| i as f64).collect()
    }
    fn excess(x: &[f64], y: &[f64]) -> f64 {
        y.iter().product::<f64>() - x[0]
    }
    /// pᵢ = Π_{j≠i} yⱼ.
    fn slopes(y: &[f64]) -> Vec<f64> {
        (0..y.len()).map(|i| product_without(y, &[i])).collect()
    }
    /// Q u with Q_ij = Π_{l≠i,j} y_l off the diagonal and 0 on it.
    fn bend(y: &[f64], u: &[f64]) -> Vec<f64> {
        (0..y.len())
            .map(|i| (0..y.len()).filter(|&j| j != i).map(|j| product_without(y, &[i, j]) * u[j]).sum())
            .collect()
    }
}

fn product_without(y: &[f64], left_out: &[usize]) -> f64 {
    y.iter().enumerate().filter(|(l, _)| !left_out.contains(l)).map(|(_, y)| y).product()
}

impl Formulas for Chain {
    fn dims(&self) -> (usize, usize) {
        (1, self.links)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(self.links - 1)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        self.weights().iter().zip(y).map(|(a, y)| 0.5 * a * y * y).sum()
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        self.weights().iter().zip(y).map(|(a, y)| a * y).collect()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * Self::excess(x, y).powi(2)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-Self::excess(x, y)]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        scaled(Self::excess(x, y), &Self::slopes(y))
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let (e, p) = (Self::excess(x, y), Self::slopes(y));
        let along = dot(&p, u);
        p.iter().zip(Self::bend(y, u)).map(|(p, q)| p * along + e * q).collect()
    }
    fn g_jvp_xy(&self, _x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        vec![-dot(&Self::slopes(y), u)]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![2.0]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, self.links)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let x = x[0];
        if x <= 0.0 {
            return None;
        }
        let l = self.links as f64;
        let weights = self.weights();
        // a_i y_i² is the same for every i, and Πyᵢ = x
        let root = weights.iter().product::<f64>().powf(1.0 / l);
        let energy = root * x.powf(2.0 / l);
        let y: Vec<f64> = weights.iter().map(|a| (energy / a).sqrt()).collect();
        let p = Self::slopes(&y);
        let stiffness = norm_sq(&p);
        // ∇_y f = (energy/x) p and H = p pᵀ
        let v = scaled(energy / (x * stiffness), &p);
        // on T = p⊥ the third-derivative term ∇³g[v] reduces to (p·v) Q
        let along = dot(&p, &v);
        let form = DMatrix::from_fn(self.links, self.links, |i, j| {
            if i == j { weights[i] } else { -along * product_without(&y, &[i, j]) }
        });
        let constraint = DMatrix::from_rows(&[vector(&p).transpose()]);
        Some(KnownAnswer {
            value: 0.5 * l * energy,
            gradient: Some(vec![energy / x]),
            selection: Some(y),
            v: Some(v),
            curvatures: Some(restricted_eigenvalues(&form, &constraint)),
            lower_spectrum: Some(vec![stiffness]),
            hyper_hessian: Some(vec![vec![(2.0 / l - 1.0) * energy / (x * x)]]),
        })
    }
}
