//! Closed forms of a pair of quadratics whose lower one is strongly convex in y.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

use crate::problems::{
    algebra::{list, vector},
    closed_form::{ClosedForm, Minimiser},
};

/// ½yᵀAy + ½xᵀBx + xᵀCy + aᵀy + bᵀx.
#[derive(Clone, Debug)]
pub(super) struct Quadratic {
    pub a_matrix: DMatrix<f64>,
    pub b_matrix: DMatrix<f64>,
    pub c_matrix: DMatrix<f64>,
    pub a: DVector<f64>,
    pub b: DVector<f64>,
}

impl Quadratic {
    /// The quadratic plus `factor` times the other.
    fn plus(&self, factor: f64, other: &Self) -> Self {
        Self {
            a_matrix: &self.a_matrix + &other.a_matrix * factor,
            b_matrix: &self.b_matrix + &other.b_matrix * factor,
            c_matrix: &self.c_matrix + &other.c_matrix * factor,
            a: &self.a + &other.a * factor,
            b: &self.b + &other.b * factor,
        }
    }
    /// ½|Ay + Cᵀx + a|², up to a constant.
    fn squared_slope(&self) -> Self {
        let Self { a_matrix, c_matrix, a, .. } = self;
        Self {
            a_matrix: a_matrix * a_matrix,
            b_matrix: c_matrix * c_matrix.transpose(),
            c_matrix: c_matrix * a_matrix,
            a: a_matrix * a,
            b: c_matrix * a,
        }
    }
    pub(super) fn value(&self, x: &DVector<f64>, y: &DVector<f64>) -> f64 {
        0.5 * (y.dot(&(&self.a_matrix * y)) + x.dot(&(&self.b_matrix * x)))
            + x.dot(&(&self.c_matrix * y))
            + self.a.dot(y)
            + self.b.dot(x)
    }
    pub(super) fn grad_x(&self, x: &DVector<f64>, y: &DVector<f64>) -> DVector<f64> {
        &self.b_matrix * x + &self.c_matrix * y + &self.b
    }
    pub(super) fn grad_y(&self, x: &DVector<f64>, y: &DVector<f64>) -> DVector<f64> {
        &self.a_matrix * y + self.c_matrix.tr_mul(x) + &self.a
    }
    /// The minimiser over y as y₀ + Yx; `None` when A is not positive definite.
    fn response(&self) -> Option<Response> {
        let factor = self.a_matrix.clone().cholesky()?;
        Some(Response { at_zero: -factor.solve(&self.a), slope: -factor.solve(&self.c_matrix.transpose()) })
    }
    /// Hessian and slope at x = 0 of the minimum over y.
    fn minimum(&self) -> Option<(DMatrix<f64>, DVector<f64>)> {
        let Response { at_zero, slope } = self.response()?;
        Some((&self.b_matrix + &self.c_matrix * slope, &self.b + &self.c_matrix * at_zero))
    }
}

/// y₀ + Yx.
#[derive(Clone, Debug)]
struct Response {
    at_zero: DVector<f64>,
    slope: DMatrix<f64>,
}

impl Response {
    fn at(&self, x: &DVector<f64>) -> DVector<f64> {
        &self.at_zero + &self.slope * x
    }
}

/// f, g and what follows from them.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub upper: Quadratic,
    pub lower: Quadratic,
    /// y*(x), the one point of S(x).
    response: Response,
    lower_factor: Cholesky<f64, Dyn>,
    /// ∇²F.
    pub hessian: DMatrix<f64>,
    /// ∇F(0).
    slope: DVector<f64>,
}

impl Pair {
    /// `None` when g is not strongly convex in y.
    pub(super) fn new(upper: Quadratic, lower: Quadratic) -> Option<Self> {
        let response = lower.response()?;
        let lower_factor = lower.a_matrix.clone().cholesky()?;
        // ∇F = ∇_x f + Yᵀ∇_y f at y*(x)
        let Response { at_zero, slope: y } = &response;
        let mixed = &upper.c_matrix * y;
        let hessian = &upper.b_matrix + &mixed + mixed.transpose() + y.tr_mul(&(&upper.a_matrix * y));
        let zero = DVector::zeros(upper.b.len());
        let slope = upper.grad_x(&zero, at_zero) + y.tr_mul(&upper.grad_y(&zero, at_zero));
        Some(Self { upper, lower, response, lower_factor, hessian, slope })
    }
    pub(super) fn selection(&self, x: &DVector<f64>) -> DVector<f64> {
        self.response.at(x)
    }
    /// A_g⁻¹u.
    pub(super) fn solve(&self, u: &DVector<f64>) -> DVector<f64> {
        self.lower_factor.solve(u)
    }
    pub(super) fn gradient(&self, x: &DVector<f64>) -> DVector<f64> {
        &self.hessian * x + &self.slope
    }

    fn minimiser(&self, x: &DVector<f64>, y: &DVector<f64>) -> Minimiser {
        Minimiser { value: self.upper.value(x, y), x: list(x), y: list(y) }
    }
    /// The zero of `hessian`·x + `slope`; `None` unless it is the only minimum.
    fn stationary(hessian: DMatrix<f64>, slope: &DVector<f64>) -> Option<DVector<f64>> {
        Some(-hessian.cholesky()?.solve(slope))
    }
}

impl ClosedForm for Pair {
    fn selected_gradient(&self, x: &[f64], _y: &[f64]) -> Option<Vec<f64>> {
        self.optimistic_gradient(x)
    }
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>> {
        Some(list(&self.gradient(&vector(x))))
    }
    fn selected_minimiser(&self, _y: &[f64]) -> Option<Minimiser> {
        self.optimistic_minimiser()
    }
    fn optimistic_minimiser(&self) -> Option<Minimiser> {
        let x = Self::stationary(self.hessian.clone(), &self.slope)?;
        Some(self.minimiser(&x, &self.selection(&x)))
    }
    fn penalty_minimiser(&self, lambda: f64) -> Option<Minimiser> {
        let penalised = self.upper.plus(lambda, &self.lower);
        let ((h, s), (below_h, below_s)) = (penalised.minimum()?, self.lower.minimum()?);
        let x = Self::stationary(h - below_h * lambda, &(s - below_s * lambda))?;
        Some(self.minimiser(&x, &penalised.response()?.at(&x)))
    }
    fn gradient_penalty_minimiser(&self, lambda: f64) -> Option<Minimiser> {
        let penalised = self.upper.plus(lambda, &self.lower.squared_slope());
        let (hessian, slope) = penalised.minimum()?;
        let x = Self::stationary(hessian, &slope)?;
        Some(self.minimiser(&x, &penalised.response()?.at(&x)))
    }
    fn one_sided_minimiser(&self, order: usize, sigma: f64) -> Option<Minimiser> {
        let weights: &[f64] = match order {
            1 => &[-1.0, 1.0],
            2 => &[-1.5, 2.0, -0.5],
            3 => &[-11.0 / 6.0, 3.0, -1.5, 1.0 / 3.0],
            _ => return None,
        };
        // ∇_x(g + jσf)(x, y_j) is the gradient of the minimum of g + jσf
        let m = self.slope.len();
        let (mut hessian, mut slope) = (DMatrix::zeros(m, m), DVector::zeros(m));
        for (j, weight) in weights.iter().enumerate() {
            let (h, s) = self.lower.plus(j as f64 * sigma, &self.upper).minimum()?;
            hessian += h * (weight / sigma);
            slope += s * (weight / sigma);
        }
        let x = Self::stationary(hessian, &slope)?;
        Some(self.minimiser(&x, &self.selection(&x)))
    }
}
