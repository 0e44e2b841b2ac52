//! Least squares whose affine manifold of solutions turns with x (m outer, d unknowns, k = d − rows).
//!
//! ```text
//! g = ½|A(x) y − b|²,  A(x) = A₀ + Σ xₖAₖ (rows × unknowns, rows < unknowns),   f = ½|y − t|²
//! optimistic:  ρ = b − A t, w = (AAᵀ)⁻¹ρ:  y* = t + Aᵀw,  F = ½ρᵀw,  v = Aᵀ(AAᵀ)⁻¹w,  ∂ₖF = −wᵀAₖy*
//! selected:    gradient descent on g from y₀ ends at y₀ + A⁺(b − A y₀); another value and another gradient
//! ```
//!
//! With a fixed A every implicit method is right by accident: the part of y in ker A never moves. Here it must.
//! Domain: every x with A(x) of full row rank. b, t, A₀ and Aₖ/0.3 have standard normal entries.

use std::sync::{Arc, Mutex, PoisonError};

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use super::{
    algebra::{list, normals, vector},
    arrays::DataArray,
    formulas::{Formulas, KnownAnswer},
};
use crate::linear::dense::Spectrum;

/// The rotating manifold; see the [module](self).
#[derive(Debug)]
pub struct RotatingManifold {
    base: DMatrix<f64>,
    /// Aₖ.
    turns: Vec<DMatrix<f64>>,
    labels: DVector<f64>,
    target: DVector<f64>,
    /// A at the x asked for last: a solver asks for many products at one x, and forming A costs m of them.
    last: Mutex<Option<Formed>>,
}

/// A(x) and its x.
#[derive(Debug)]
struct Formed {
    x: Vec<f64>,
    matrix: Arc<DMatrix<f64>>,
}

/// What an iteration that descends g from y₀ selects, and the derivative of f there.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// The limit point y₀ + A⁺(b − A y₀).
    pub point: Vec<f64>,
    /// f there.
    pub value: f64,
    /// Its gradient in x, with y₀ fixed.
    pub gradient: Vec<f64>,
}

impl RotatingManifold {
    /// Random data of this size: `rows` equations in `unknowns` > `rows` unknowns, `outer` upper variables.
    pub fn new(rows: usize, unknowns: usize, outer: usize, seed: u64) -> Self {
        assert!(rows < unknowns, "a manifold of solutions needs fewer rows than unknowns");
        let matrix = |purpose: u64, scale: f64| {
            DMatrix::from_row_slice(rows, unknowns, &normals(seed, purpose, rows * unknowns)) * scale
        };
        Self {
            base: matrix(3, 1.0),
            turns: (0..outer).map(|k| matrix(4 + k as u64, 0.3)).collect(),
            labels: vector(&normals(seed, 1, rows)),
            target: vector(&normals(seed, 2, unknowns)),
            last: Mutex::new(None),
        }
    }
    /// 5 × 10 with 3 upper variables.
    pub fn small(seed: u64) -> Self {
        Self::new(5, 10, 3, seed)
    }
    /// 200 × 1,000 with 20 upper variables.
    pub fn large(seed: u64) -> Self {
        Self::new(200, 1000, 20, seed)
    }
    /// A(x).
    fn matrix(&self, x: &[f64]) -> Arc<DMatrix<f64>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(formed) if formed.x == x => Arc::clone(&formed.matrix),
            _ => {
                let mut matrix = self.base.clone();
                for (turn, x) in self.turns.iter().zip(x) {
                    matrix.zip_apply(turn, |a, t| *a += x * t);
                }
                let matrix = Arc::new(matrix);
                *last = Some(Formed { x: x.to_vec(), matrix: Arc::clone(&matrix) });
                matrix
            }
        }
    }
    fn residual(&self, x: &[f64], y: &DVector<f64>) -> DVector<f64> {
        &*self.matrix(x) * y - &self.labels
    }
    /// (⟨left, Aₖ right⟩)ₖ.
    fn turn(&self, left: &DVector<f64>, right: &DVector<f64>) -> Vec<f64> {
        self.turns.iter().map(|a| left.dot(&(a * right))).collect()
    }
    /// The Cholesky factors of AAᵀ; `None` without full row rank.
    fn gram(a: &DMatrix<f64>) -> Option<Cholesky<f64, Dyn>> {
        (a * a.transpose()).cholesky()
    }
    /// What gradient descent on g (or any iteration in the row space) selects from y₀; `None` without full row rank.
    ///
    /// The derivative keeps y₀ fixed, so it has two parts: the limit moves, and with S(x) the row space turns that y₀ is
    /// projected along. From a y₀ on S(x) the second part vanishes and the gradient is −J H⁺∇_y f at y₀: that of a
    /// solver which lands from its last point.
    pub fn selected(&self, x: &[f64], y0: &[f64]) -> Option<Selected> {
        let a = self.matrix(x);
        let gram = Self::gram(&a)?;
        let y0 = vector(y0);
        let q = gram.solve(&(&self.labels - &*a * &y0));
        let y = y0 + a.tr_mul(&q);
        let e = &y - &self.target;
        // dy = dAᵀq + Aᵀdq with (AAᵀ)dq = −dA y − A dAᵀq
        let pulled = gram.solve(&(&*a * &e));
        let outside = &e - a.tr_mul(&pulled);
        let (turning, moving) = (self.turn(&q, &outside), self.turn(&pulled, &y));
        Some(Selected {
            value: 0.5 * e.norm_squared(),
            gradient: turning.iter().zip(&moving).map(|(t, m)| t - m).collect(),
            point: list(&y),
        })
    }
}

impl Formulas for RotatingManifold {
    fn dims(&self) -> (usize, usize) {
        (self.turns.len(), self.base.ncols())
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(self.base.ncols() - self.base.nrows())
    }
    fn f(&self, _x: &[f64], y: &[f64]) -> f64 {
        0.5 * (vector(y) - &self.target).norm_squared()
    }
    fn f_grad_x(&self, _x: &[f64], _y: &[f64]) -> Vec<f64> {
        vec![0.0; self.turns.len()]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64]) -> Vec<f64> {
        list(&(vector(y) - &self.target))
    }
    fn g(&self, x: &[f64], y: &[f64]) -> f64 {
        0.5 * self.residual(x, &vector(y)).norm_squared()
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        let y = vector(y);
        self.turn(&self.residual(x, &y), &y)
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64]) -> Vec<f64> {
        list(&self.matrix(x).tr_mul(&self.residual(x, &vector(y))))
    }
    fn g_hvp_yy(&self, x: &[f64], _y: &[f64], u: &[f64]) -> Vec<f64> {
        let a = self.matrix(x);
        list(&a.tr_mul(&(&*a * vector(u))))
    }
    fn g_jvp_xy(&self, x: &[f64], y: &[f64], u: &[f64]) -> Vec<f64> {
        let (y, u) = (vector(y), vector(u));
        let stretched = self.turn(&(&*self.matrix(x) * &u), &y);
        let turned = self.turn(&self.residual(x, &y), &u);
        stretched.iter().zip(&turned).map(|(s, t)| s + t).collect()
    }
    fn default_x(&self) -> Vec<f64> {
        (1..=self.turns.len()).map(|k| 0.3 * (k as f64).sin()).collect()
    }
    fn start_y(&self, _x: &[f64], seed: u64) -> Vec<f64> {
        normals(seed, 0, self.base.ncols())
    }

    fn arrays(&self) -> Vec<DataArray> {
        let by_rows = |matrix: &DMatrix<f64>| matrix.transpose().as_slice().to_vec();
        let (rows, unknowns) = self.base.shape();
        let turns: Vec<f64> = self.turns.iter().flat_map(by_rows).collect();
        vec![
            DataArray::new("base", &[rows, unknowns], by_rows(&self.base)),
            DataArray::new("turns", &[self.turns.len(), rows, unknowns], turns),
            DataArray::new("labels", &[rows], list(&self.labels)),
            DataArray::new("target", &[unknowns], list(&self.target)),
        ]
    }

    fn known(&self, x: &[f64]) -> Option<KnownAnswer> {
        let a = self.matrix(x);
        let gram = Self::gram(&a)?;
        let rho = &self.labels - &*a * &self.target;
        let w = gram.solve(&rho);
        let y = &self.target + a.tr_mul(&w);
        // dρ = −dA t and d(AAᵀ) = dA Aᵀ + A dAᵀ give dF = −wᵀdA(t + Aᵀw), dw = −(AAᵀ)⁻¹(dA y* + A dAᵀw)
        let moved: Vec<(DVector<f64>, DVector<f64>)> = self
            .turns
            .iter()
            .map(|turn| {
                let back = turn.tr_mul(&w);
                let dw = -gram.solve(&(turn * &y + &*a * &back));
                let dy = back + a.tr_mul(&dw);
                (dw, dy)
            })
            .collect();
        let hyper_hessian = self
            .turns
            .iter()
            .map(|turn| {
                let (ahead, back) = (turn * &y, turn.tr_mul(&w));
                moved.iter().map(|(dw, dy)| -dw.dot(&ahead) - back.dot(dy)).collect()
            })
            .collect();
        Some(KnownAnswer {
            value: 0.5 * rho.dot(&w),
            gradient: Some(self.turn(&w, &y).iter().map(|g| -g).collect()),
            v: Some(list(&a.tr_mul(&gram.solve(&w)))),
            curvatures: Some(vec![1.0; a.ncols() - a.nrows()]),
            lower_spectrum: Some(Spectrum::of_matrix(&(&*a * a.transpose())).values().to_vec()),
            hyper_hessian: Some(hyper_hessian),
            selection: Some(list(&y)),
        })
    }
}
