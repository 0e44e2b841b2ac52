//! Closed forms of the PŁ game: every target is a quadratic in x, so its gradient is affine and its minimiser a linear solve.

use nalgebra::{DMatrix, DVector, DVectorView};

use super::{PlGame, Pull, RANK_TOLERANCE, view};
use crate::{
    linear::dense::Spectrum,
    problems::{
        algebra::list,
        closed_form::{ClosedForm, Minimiser},
        formulas::Formulas,
    },
};

impl PlGame {
    /// y_r(x) = −Q⁺R²ᵀx.
    pub(super) fn least_norm_y(&self, x: &DVector<f64>) -> DVector<f64> {
        -(&self.q_inverse * self.r2.tr_mul(x))
    }
    /// Π_k u.
    fn kernel_part(&self, u: &DVector<f64>) -> DVector<f64> {
        u - &self.range * u
    }
    /// y_r + Π_k(c − R¹ᵀx/ρ); y_r where f is constant on S(x).
    pub(super) fn optimistic_y(&self, x: &DVector<f64>) -> DVector<f64> {
        let y = self.least_norm_y(x);
        match self.pull {
            Pull::Everywhere(rho) => y + self.kernel_part(&(&self.c - self.r1.tr_mul(x) / rho)),
            Pull::None | Pull::OnRange(_) => y,
        }
    }
    /// P x + R¹y − R²Q⁺(R¹ᵀx + W(y − c)), the implicit formula at y.
    fn implicit_gradient(&self, x: &DVector<f64>, y: &DVector<f64>) -> DVector<f64> {
        let f_y = self.r1.tr_mul(x) + self.pulled(y - &self.c);
        &self.p * x + &self.r1 * y - &self.r2 * (&self.q_inverse * f_y)
    }

    /// P − R¹Q⁺R²ᵀ − R²Q⁺R¹ᵀ + R²Q⁺WQ⁺R²ᵀ.
    pub(super) fn selected_hessian(&self) -> DMatrix<f64> {
        let response = &self.q_inverse * self.r2.transpose();
        let mixed = &self.r1 * &response;
        &self.p - &mixed - mixed.transpose() + response.tr_mul(&(self.pull_matrix() * &response))
    }
    /// ∇²F_n − R¹Π_kR¹ᵀ/ρ; ∇²F_n where f is constant on S(x).
    pub(super) fn optimistic_hessian(&self) -> DMatrix<f64> {
        let hessian = self.selected_hessian();
        match self.pull {
            Pull::Everywhere(rho) => {
                let across = &self.r1 - &self.r1 * &self.range;
                hessian - &across * across.transpose() / rho
            }
            Pull::None | Pull::OnRange(_) => hessian,
        }
    }
    /// (lambda·Q + W)⁺; both terms are zero on ker Q unless W = ρI.
    fn penalised_inverse(&self, lambda: f64) -> DMatrix<f64> {
        pseudoinverse(&(&self.q * lambda + self.pull_matrix()))
    }
    /// P − (R¹ + lambda·R²)(lambda·Q + W)⁺(R¹ + lambda·R²)ᵀ + lambda·R²Q⁺R²ᵀ.
    pub(super) fn penalty_hessian(&self, lambda: f64) -> DMatrix<f64> {
        let coupling = &self.r1 + &self.r2 * lambda;
        &self.p - &coupling * self.penalised_inverse(lambda) * coupling.transpose()
            + &self.r2 * &self.q_inverse * self.r2.transpose() * lambda
    }

    fn minimiser(&self, x: &DVector<f64>, y: &DVector<f64>) -> Minimiser {
        Minimiser { value: self.f(x.as_slice(), y.as_slice()), x: list(x), y: list(y) }
    }
    /// The zero x of `hessian`·x + `slope`, of least norm; `None` when there is none or it is not a minimum.
    fn stationary(hessian: &DMatrix<f64>, slope: &DVector<f64>) -> Option<DVector<f64>> {
        let spectrum = Spectrum::of_matrix(hessian);
        let cut = RANK_TOLERANCE * spectrum.norm();
        let x = -DVector::from_vec(spectrum.pseudoinverse(cut, &list(slope)));
        // a slope that is only rounding, as for V1, counts as solved
        let is_solved = (hessian * &x + slope).norm() <= 1e-8 * slope.norm() + 1e-12 * spectrum.norm();
        (spectrum.min() >= -cut && is_solved).then_some(x)
    }
}

/// A⁺ of a symmetric A.
fn pseudoinverse(a: &DMatrix<f64>) -> DMatrix<f64> {
    let spectrum = Spectrum::of_matrix(a);
    let cut = RANK_TOLERANCE * spectrum.norm();
    super::function(&spectrum, |value| if value.abs() > cut { value.recip() } else { 0.0 })
}

impl ClosedForm for PlGame {
    fn selected_gradient(&self, x: &[f64], y: &[f64]) -> Option<Vec<f64>> {
        let x: DVector<f64> = view(x).into();
        let y = self.least_norm_y(&x) + self.kernel_part(&view(y).into());
        Some(list(&self.implicit_gradient(&x, &y)))
    }
    fn optimistic_gradient(&self, x: &[f64]) -> Option<Vec<f64>> {
        let x: DVector<f64> = view(x).into();
        self.is_bounded.then(|| list(&self.implicit_gradient(&x, &self.optimistic_y(&x))))
    }

    fn selected_minimiser(&self, y: &[f64]) -> Option<Minimiser> {
        let kernel_part = self.kernel_part(&view(y).into());
        let slope = self.implicit_gradient(&DVector::zeros(self.dim()), &kernel_part);
        let x = Self::stationary(&self.selected_hessian(), &slope)?;
        let y = self.least_norm_y(&x) + kernel_part;
        self.is_bounded.then(|| self.minimiser(&x, &y))
    }
    fn optimistic_minimiser(&self) -> Option<Minimiser> {
        let zero = DVector::zeros(self.dim());
        let slope = self.implicit_gradient(&zero, &self.optimistic_y(&zero));
        let x = Self::stationary(&self.optimistic_hessian(), &slope)?;
        let y = self.optimistic_y(&x);
        self.is_bounded.then(|| self.minimiser(&x, &y))
    }
    fn penalty_minimiser(&self, lambda: f64) -> Option<Minimiser> {
        // y(x) = (lambda·Q + W)⁺(W c − (R¹ + lambda·R²)ᵀx)
        let coupling = &self.r1 + &self.r2 * lambda;
        let inverse = self.penalised_inverse(lambda);
        let offset = &inverse * self.pulled(self.c.clone());
        let x = Self::stationary(&self.penalty_hessian(lambda), &(&coupling * &offset))?;
        let y = offset - inverse * coupling.tr_mul(&x);
        self.is_bounded.then(|| self.minimiser(&x, &y))
    }
    fn gradient_penalty_minimiser(&self, lambda: f64) -> Option<Minimiser> {
        // stationarity of f + (lambda/2)|Q y + R²ᵀx|² in (x, y) at once
        let d = self.dim();
        let mut hessian = DMatrix::zeros(2 * d, 2 * d);
        let mixed = &self.r1 + &self.r2 * &self.q * lambda;
        hessian.view_mut((0, 0), (d, d)).copy_from(&(&self.p + &self.r2 * self.r2.transpose() * lambda));
        hessian.view_mut((0, d), (d, d)).copy_from(&mixed);
        hessian.view_mut((d, 0), (d, d)).copy_from(&mixed.transpose());
        hessian.view_mut((d, d), (d, d)).copy_from(&(self.pull_matrix() + &self.q * &self.q * lambda));
        let mut slope = DVector::zeros(2 * d);
        slope.rows_mut(d, d).copy_from(&-self.pulled(self.c.clone()));
        let pair = Self::stationary(&hessian, &slope)?;
        let part = |part: DVectorView<f64>| part.into_owned();
        self.is_bounded.then(|| self.minimiser(&part(pair.rows(0, d)), &part(pair.rows(d, d))))
    }
    fn one_sided_minimiser(&self, order: usize, sigma: f64) -> Option<Minimiser> {
        let weights: &[f64] = match order {
            1 => &[-1.0, 1.0],
            2 => &[-1.5, 2.0, -0.5],
            3 => &[-11.0 / 6.0, 3.0, -1.5, 1.0 / 3.0],
            _ => return None,
        };
        // y_j(x) = (Q + jσW)⁺(jσWc − (R² + jσR¹)ᵀx),  G_j = jσP x + (R² + jσR¹)y_j
        let d = self.dim();
        let (mut hessian, mut slope) = (DMatrix::zeros(d, d), DVector::zeros(d));
        for (j, weight) in weights.iter().enumerate() {
            let share = j as f64 * sigma;
            let coupling = &self.r2 + &self.r1 * share;
            let inverse = pseudoinverse(&(&self.q + self.pull_matrix() * share));
            hessian += (&self.p * share - &coupling * &inverse * coupling.transpose()) * (weight / sigma);
            slope += &coupling * (inverse * self.pulled(self.c.clone())) * (share * weight / sigma);
        }
        let x = Self::stationary(&hessian, &slope)?;
        let y = self.least_norm_y(&x);
        self.is_bounded.then(|| self.minimiser(&x, &y))
    }
}
