//! T8, matrix factorisation: an orbit of selections, degenerate yet with a smooth F (m 4, d 8, k 4).
//!
//! ```text
//! y = (U, V), both 2×2 row-major; X = x row-major;  R = UVᵀ − X,  g = ½|R|²,  f = ½a|U|² + ½b|V|², a = 1, b = 4
//! F = √(ab)‖X‖_*,  ∇F = √(ab) U_X V_Xᵀ,  U = τU_XΣ^½O, V = V_XΣ^½O/τ, τ = (b/a)^¼, any orthogonal O
//! ```
//!
//! Domain of the closed form: det X ≠ 0. S has two components (det O = ±1 up to the rest of the fibre), with the same
//! F. For a 2×2 matrix ‖X‖_* = |ℓ|, ℓ = (x₁ + x₄, x₂ − x₃) if det X > 0 and (x₁ − x₄, x₂ + x₃) if det X < 0.

use nalgebra::{DMatrix, Matrix2};

use super::{
    algebra::{dot, norm_sq, normals, restricted_eigenvalues, rows, vector},
    formulas::{Formulas, KnownAnswer},
};

/// T8; see the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct Factorisation;

const A: f64 = 1.0;
const B: f64 = 4.0;

fn matrix(entries: &[f64]) -> Matrix2<f64> {
    Matrix2::from_row_slice(entries)
}
fn entries(m: Matrix2<f64>) -> Vec<f64> {
    vec![m[(0, 0)], m[(0, 1)], m[(1, 0)], m[(1, 1)]]
}
fn factors(y: &[f64]) -> (Matrix2<f64>, Matrix2<f64>) {
    (matrix(&y[..4]), matrix(&y[4..]))
}
fn joined(u: Matrix2<f64>, v: Matrix2<f64>) -> Vec<f64> {
    [entries(u), entries(v)].concat()
}
fn residual(x: &[f64], y: &[f64]) -> Matrix2<f64> {
    let (u, v) = factors(y);
    u * v.transpose() - matrix(x)
}
/// dU Vᵀ + U dVᵀ.
fn change(y: &[f64], direction: &[f64]) -> Matrix2<f64> {
    let ((u, v), (du, dv)) = (factors(y), factors(direction));
    du * v.transpose() + u * dv.transpose()
}

impl Factorisation {
    /// The selection with O the rotation by `angle`, composed with a reflection if `reflected`; `None` if det X = 0.
    pub fn selection(&self, x: &[f64], angle: f64, reflected: bool) -> Option<Vec<f64>> {
        let x = matrix(x);
        if x.determinant() == 0.0 {
            return None;
        }
        let svd = DMatrix::from_fn(2, 2, |i, j| x[(i, j)]).svd(true, true);
        let (left, right) = (svd.u?, svd.v_t?);
        let side = if reflected { -1.0 } else { 1.0 };
        let (sin, cos) = angle.sin_cos();
        let rotation = Matrix2::new(cos, -sin * side, sin, cos * side);
        let root = Matrix2::from_diagonal(&nalgebra::Vector2::new(
            svd.singular_values[0].sqrt(),
            svd.singular_values[1].sqrt(),
        ));
        let tau = (B / A).powf(0.25);
        let left = Matrix2::from_fn(|i, j| left[(i, j)]);
        let right = Matrix2::from_fn(|i, j| right[(j, i)]);
        Some(joined(left * root * rotation * tau, right * root * rotation / tau))
    }
}

impl Formulas for Factorisation {
    fn dims(&self) -> (usize, usize) {
        (4, 8)
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(4)
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * A * norm_sq(&y[..4]) + 0.5 * B * norm_sq(&y[4..])
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0; 4]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        y.iter().enumerate().map(|(i, y)| if i < 4 { A * y } else { B * y }).collect()
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * residual(x, y).norm_squared()
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        entries(-residual(x, y))
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let (u, v) = factors(y);
        let r = residual(x, y);
        joined(r * v, r.transpose() * u)
    }
    fn g_hvp_yy(&self, x: &[f64], y: &[f64], direction: &[f64]) -> Vec<f64> {
        let ((u, v), (du, dv)) = (factors(y), factors(direction));
        let (r, d) = (residual(x, y), change(y, direction));
        joined(d * v + r * dv, d.transpose() * u + r.transpose() * du)
    }
    fn g_jvp_xy(&self, _x: &[f64], y: &[f64], direction: &[f64]) -> Vec<f64> {
        entries(-change(y, direction))
    }
    fn default_x(&self) -> Vec<f64> {
        vec![2.0, 0.5, -0.3, 1.0]
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, 8)
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let y = self.selection(x, 0.0, false)?;
        let side = (x[0] * x[3] - x[1] * x[2]).signum();
        let frame = DMatrix::from_row_slice(2, 4, &[1.0, 0.0, 0.0, side, 0.0, 1.0, -side, 0.0]);
        let ell = &frame * vector(x);
        let nuclear = ell.norm();
        let unit = &ell / nuclear;
        let slope = frame.tr_mul(&unit);
        // ∇²|ℓ| = frameᵀ (I − ℓ̂ℓ̂ᵀ) frame/|ℓ|
        let bend = (frame.tr_mul(&frame) - &slope * slope.transpose()) / nuclear;
        let weight = (A * B).sqrt();
        let gradient: Vec<f64> = slope.iter().map(|s| weight * s).collect();

        // the constraint's derivative and, with its multiplier ∇F, the Hessian of the Lagrangian
        // a|dU|² + b|dV|² − 2⟨dU dVᵀ, ∇F⟩
        let unit_direction = |j: usize| (0..8).map(|i| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
        let columns: Vec<_> = (0..8).map(|j| vector(&entries(change(&y, &unit_direction(j))))).collect();
        let constraint = DMatrix::from_columns(&columns);
        let multiplier = matrix(&gradient);
        let lagrangian = |t: &[f64]| {
            let (du, dv) = factors(t);
            let (bent_u, bent_v) = (multiplier * dv, multiplier.transpose() * du);
            joined(A * du - bent_u, B * dv - bent_v)
        };
        let form = DMatrix::from_fn(8, 8, |i, j| dot(&unit_direction(i), &lagrangian(&unit_direction(j))));

        // at the selection UUᵀ has eigenvalues τ²σ and VVᵀ σ/τ²; H has all their sums
        let (sum, difference) =
            (nuclear, (norm_sq(x) - 2.0 * (x[0] * x[3] - x[1] * x[2]).abs()).max(0.0).sqrt());
        let sigma = [0.5 * (sum + difference), 0.5 * (sum - difference)];
        let stretch = (B / A).sqrt();
        let mut lower_spectrum: Vec<f64> =
            sigma.iter().flat_map(|s| sigma.map(|t| stretch * s + t / stretch)).collect();
        lower_spectrum.sort_by(f64::total_cmp);
        Some(KnownAnswer {
            value: weight * nuclear,
            gradient: Some(gradient),
            selection: None,
            v: None,
            curvatures: Some(restricted_eigenvalues(&form, &constraint)),
            lower_spectrum: Some(lower_spectrum),
            hyper_hessian: Some(rows(&(bend * weight))),
        })
    }
}
