//! T7, scaled orthonormal frames (a Procrustes problem; m 2, d 6, k 3).
//!
//! ```text
//! Y 3×2 (row-major), R = YᵀY − s²I, s = 1 + ½x₁² + 0.2x₂,   g = ¼|R|²
//! f = −⟨C, Y⟩, C = C₀ + x₁C₁ + x₂C₂, C₀ = [[1,0],[0,2],[0.5,−0.5]], C₁ = [[0,1],[1,0],[0,0]], C₂ = [[0,0],[0,0],[1,1]]
//! F = −s‖C‖_* (nuclear norm),  Y* = s·polar(C) = s U Vᵀ,  M_T = {σ₁/s, σ₂/s, (σ₁+σ₂)/2s}
//! ```
//!
//! Domain of the closed form: s > 0 and rank C = 2; there f has one local minimiser on S. Outside S, g has strict
//! saddles (rank Y < 2).

use nalgebra::{DMatrix, DVector};

use super::{
    algebra::{dot, normals, scaled},
    formulas::{Formulas, KnownAnswer},
};

/// T7; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Stiefel;

const C0: [f64; 6] = [1.0, 0.0, 0.0, 2.0, 0.5, -0.5];
const C1: [f64; 6] = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0];
const C2: [f64; 6] = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0];

fn scale(x: &[f64]) -> f64 {
    1.0 + 0.5 * x[0] * x[0] + 0.2 * x[1]
}
/// ∇s.
fn scale_slope(x: &[f64]) -> [f64; 2] {
    [x[0], 0.2]
}
fn target(x: &[f64]) -> Vec<f64> {
    (0..6).map(|i| C0[i] + x[0] * C1[i] + x[1] * C2[i]).collect()
}
/// A symmetric 2×2 matrix [[a, b], [b, c]].
type Symmetric = [f64; 3];
/// AᵀB + BᵀA, halved on request.
fn symmetric_product(a: &[f64], b: &[f64], factor: f64) -> Symmetric {
    let entry = |i: usize, j: usize| (0..3).map(|r| a[2 * r + i] * b[2 * r + j]).sum::<f64>();
    [factor * 2.0 * entry(0, 0), factor * (entry(0, 1) + entry(1, 0)), factor * 2.0 * entry(1, 1)]
}
/// Y M.
fn times(y: &[f64], m: Symmetric) -> Vec<f64> {
    (0..3)
        .flat_map(|r| {
            let (a, b) = (y[2 * r], y[2 * r + 1]);
            [a * m[0] + b * m[1], a * m[1] + b * m[2]]
        })
        .collect()
}
/// R.
fn defect(x: &[f64], y: &[f64]) -> Symmetric {
    let gram = symmetric_product(y, y, 0.5);
    let s = scale(x);
    [gram[0] - s * s, gram[1], gram[2] - s * s]
}

impl Formulas for Stiefel {
    fn dims(&self) -> (usize, usize) {
        (2, 6)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(3)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        -dot(&target(x), y)
    }
    fn f_grad_x(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        vec![-dot(&C1, y), -dot(&C2, y)]
    }
    fn f_grad_y(&self, x: &[f64], _y: &[f64]) -> Vec<f64> {
        scaled(-1.0, &target(x))
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        let r = defect(x, y);
        0.25 * (r[0] * r[0] + 2.0 * r[1] * r[1] + r[2] * r[2])
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let r = defect(x, y);
        scaled(-scale(x) * (r[0] + r[2]), &scale_slope(x))
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        times(y, defect(x, y))
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let outer = times(u, defect(x, y));
        let inner = times(y, symmetric_product(u, y, 1.0));
        outer.iter().zip(&inner).map(|(a, b)| a + b).collect()
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        scaled(-2.0 * scale(x) * dot(y, u), &scale_slope(x))
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.3, -0.2]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 6)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let s = scale(x);
        let c = target(x);
        let svd = DMatrix::from_row_slice(3, 2, &c).svd(true, true);
        let (left, right) = (svd.u?, svd.v_t?);
        let (large, small) = (svd.singular_values[0], svd.singular_values[1]);
        if s <= 0.0 || small <= f64::EPSILON * large {
            return None;
        }
        let polar = &left * &right;
        let polar_list: Vec<f64> = polar.row_iter().flat_map(|row| [row[0], row[1]]).collect();
        let nuclear = large + small;
        // ∂ⱼ‖C‖_* = ⟨Cⱼ, UVᵀ⟩
        let nuclear_slope = [dot(&C1, &polar_list), dot(&C2, &polar_list)];
        let slope = scale_slope(x);
        // derivative of the polar factor along D, with W = UVᵀ: W V Ω Vᵀ + (I − W Wᵀ) D V Σ⁻¹Vᵀ,
        // Ω = skew(Uᵀ D V) divided entrywise by σᵢ + σⱼ
        let polar_slope = |direction: &[f64; 6]| {
            let d = DMatrix::from_row_slice(3, 2, direction);
            let core = left.tr_mul(&d) * right.transpose();
            let turn = (core[(0, 1)] - core[(1, 0)]) / nuclear;
            let skew = DMatrix::from_row_slice(2, 2, &[0.0, turn, -turn, 0.0]);
            let inverse = DMatrix::from_diagonal(&DVector::from_row_slice(&[1.0 / large, 1.0 / small]));
            let outside = (DMatrix::identity(3, 3) - &left * left.transpose()) * &d;
            let moved = &left * skew * &right + outside * right.transpose() * inverse * &right;
            moved.row_iter().flat_map(|row| [row[0], row[1]]).collect::<Vec<f64>>()
        };
        let slopes = [polar_slope(&C1), polar_slope(&C2)];
        let hyper_hessian = (0..2)
            .map(|i| {
                (0..2)
                    .map(|j| {
                        // ∇²s = diag(1, 0)
                        let bend = if i == 0 && j == 0 { nuclear } else { 0.0 };
                        let second = dot(if j == 0 { &C1 } else { &C2 }, &slopes[i]);
                        -bend - slope[i] * nuclear_slope[j] - slope[j] * nuclear_slope[i] - s * second
                    })
                    .collect()
            })
            .collect();
        Some(KnownAnswer {
            value: -s * nuclear,
            gradient: Some((0..2).map(|j| -slope[j] * nuclear - s * nuclear_slope[j]).collect()),
            selection: Some(scaled(s, &polar_list)),
            v: Some(scaled(-0.5 / (s * s), &c)),
            curvatures: Some(vec![small / s, 0.5 * nuclear / s, large / s]),
            lower_spectrum: Some(vec![2.0 * s * s; 3]),
            hyper_hessian: Some(hyper_hessian),
        })
    }
}
