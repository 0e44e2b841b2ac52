//! T1, a sphere whose radius depends on x (m 2, d 3, k 2).
//!
//! ```text
//! g = ¼(|y|² − r²)²,  r = 1 + ¼|x|²
//! f = c·y + ½|x|²,    c = B x + c₀,  B = [[1/3, 2/3], [1, 4/3], [5/3, 2]],  c₀ = (0.5, 1, 1.5)
//! F = ½|x|² − r|c|,   y* = −r c/|c|
//! ```
//!
//! Domain: all x. At c = 0, that is x = (0, −0.75), f is constant on S(x): a continuum of selections, and F has a
//! cone there. Outside S the only critical point of g is the maximum y = 0.

use super::{
    algebra::{dot, norm_sq, normals, plus, scaled},
    formulas::{Formulas, KnownAnswer},
    shell::Shell,
};

/// T1; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sphere;

const B: [[f64; 2]; 3] = [[1.0 / 3.0, 2.0 / 3.0], [1.0, 4.0 / 3.0], [5.0 / 3.0, 2.0]];
const C0: [f64; 3] = [0.5, 1.0, 1.5];

fn radius(x: &[f64]) -> f64 {
    1.0 + 0.25 * norm_sq(x)
}
fn slope(x: &[f64]) -> Vec<f64> {
    (0..3).map(|i| dot(&B[i], x) + C0[i]).collect()
}
/// Bᵀy.
fn transposed(y: &[f64]) -> Vec<f64> {
    (0..2).map(|j| (0..3).map(|i| B[i][j] * y[i]).sum()).collect()
}
fn shell(x: &[f64]) -> Shell {
    let r = radius(x);
    Shell { radius_sq: r * r, half_slope: scaled(0.5 * r, x) }
}

impl Formulas for Sphere {
    fn dims(&self) -> (usize, usize) {
        (2, 3)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(2)
    }
    fn f(&self, x: &[f64], y: &[f64]) -> f64 {
        dot(&slope(x), y) + 0.5 * norm_sq(x)
    }
    fn f_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        plus(&transposed(y), 1.0, x)
    }
    fn f_grad_y(&self, x: &[f64], _y: &[f64]) -> Vec<f64> {
        slope(x)
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        shell(x).value(y)
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        shell(x).grad_x(y)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        shell(x).grad_y(y)
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        shell(x).hvp_yy(y, u)
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        shell(x).jvp_xy(y, u)
    }
    fn default_x(&self) -> Vec<f64> {
        vec![0.3, -0.7]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 3)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let (c, r) = (slope(x), radius(x));
        let length = norm_sq(&c).sqrt();
        let value = 0.5 * norm_sq(x) - r * length;
        let lower_spectrum = Some(vec![2.0 * r * r]);
        if length == 0.0 {
            let curvatures = Some(vec![0.0, 0.0]);
            return Some(KnownAnswer { value, curvatures, lower_spectrum, ..KnownAnswer::default() });
        }
        let unit = scaled(1.0 / length, &c);
        // ∇|c| = Bᵀc/|c|, ∇²|c| = (BᵀB − ∇|c| ∇|c|ᵀ)/|c|, ∇r = x/2, ∇²r = ½I
        let length_slope = transposed(&unit);
        let gradient: Vec<f64> = (0..2).map(|i| x[i] - 0.5 * length * x[i] - r * length_slope[i]).collect();
        let hyper_hessian = (0..2)
            .map(|i| {
                (0..2)
                    .map(|j| {
                        let gram: f64 = B.iter().map(|row| row[i] * row[j]).sum();
                        let bend = (gram - length_slope[i] * length_slope[j]) / length;
                        let cross = 0.5 * (x[i] * length_slope[j] + x[j] * length_slope[i]);
                        f64::from(u8::from(i == j)) * (1.0 - 0.5 * length) - cross - r * bend
                    })
                    .collect()
            })
            .collect();
        Some(KnownAnswer {
            value,
            gradient: Some(gradient),
            selection: Some(scaled(-r, &unit)),
            v: Some(scaled(0.5 / (r * r), &c)),
            curvatures: Some(vec![length / r; 2]),
            lower_spectrum,
            hyper_hessian: Some(hyper_hessian),
        })
    }
}
