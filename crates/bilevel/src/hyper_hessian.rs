//! Second derivatives of F by implicit differentiation, and the derivative of the selection y*(x).

use nalgebra::DMatrix;

use crate::{
    error::OracleResult,
    problem::{Problem, SecondOrder},
    selection::{
        level::{At, Level, difference_step},
        refine::{Refine, SelectedPoint},
    },
    vector::Vector,
};

/// D_y = ∇_y f − H v and D_x = ∇_x f − J v, v frozen, differentiated along (u, w) by central differences.
struct Frozen<'a, P: Problem> {
    at: At<'a, P>,
    point: &'a SelectedPoint<P::Y>,
}

impl<P: Problem> Frozen<'_, P>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    /// The step h for a direction (u, w), and the points (x ± hu, y ± hw); `None` along zero.
    #[expect(clippy::type_complexity, reason = "two points of X × Y and a step")]
    fn stencil(&self, u: &P::X, w: &P::Y) -> Option<(f64, (P::X, P::Y), (P::X, P::Y))> {
        // one step for both variables: the smaller of the two that each would take alone
        let h = match (difference_step(self.at.x, u), difference_step(&self.point.y, w)) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return None,
        };
        let (x, y) = (self.at.x, &self.point.y);
        Some((h, (x.plus(h, u), y.plus(h, w)), (x.plus(-h, u), y.plus(-h, w))))
    }
    fn d_y(&self, u: &P::X, w: &P::Y) -> OracleResult<P::Y> {
        let v = &self.point.v;
        let Some((h, ahead, behind)) = self.stencil(u, w) else { return Ok(v.zeros_like()) };
        let value = |(x, y): &(P::X, P::Y)| {
            let at = self.at.moved_to(x);
            Ok(at.f_y(y)?.plus(-1.0, &at.hessian_product(y, v)?))
        };
        Ok(value(&ahead)?.plus(-1.0, &value(&behind)?).scaled(0.5 / h))
    }
    fn d_x(&self, u: &P::X, w: &P::Y) -> OracleResult<P::X> {
        let v = &self.point.v;
        let Some((h, ahead, behind)) = self.stencil(u, w) else { return Ok(u.zeros_like()) };
        let value = |(x, y): &(P::X, P::Y)| {
            let at = self.at.moved_to(x);
            Ok(at.f_x(y)?.plus(-1.0, &at.j(y, v)?))
        };
        Ok(value(&ahead)?.plus(-1.0, &value(&behind)?).scaled(0.5 / h))
    }
}

/// dy*/dx · u: how the selection moves. n = −H⁺Jᵀu follows S(x), −M_T⁺P D_y(u, n) moves along it.
pub fn selection_derivative<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    refine: &Refine,
    u: &P::X,
) -> OracleResult<P::Y>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let frozen = Frozen { at: *at, point };
    let (y, geometry) = (&point.y, &point.geometry);
    let n = geometry.pseudoinverse(at, y, &at.j_transposed(y, u)?)?.v.scaled(-1.0);
    let q = geometry.project(at, y, &frozen.d_y(u, &n)?)?;
    let t = point.model.pseudoinverse(at, geometry, y, &point.v, &q, point.alpha_floor(refine))?;
    Ok(n.plus(-1.0, &t))
}

/// ±∇²F · u at a non-degenerate selection. [derived from the implicit function theorem on S(x)]
///
/// Costs, with a basis of T: 2 `grad_y` g, 4 `grad_y` f, 2 `grad_x` f, 4 `hvp_yy`, 3 `jvp_xy`.
pub fn hyper_hessian_product<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    refine: &Refine,
    u: &P::X,
) -> OracleResult<P::X>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let frozen = Frozen { at: *at, point };
    let motion = selection_derivative(at, point, refine, u)?;
    let z = point.geometry.pseudoinverse(at, &point.y, &frozen.d_y(u, &motion)?)?.v;
    Ok(frozen.d_x(u, &motion)?.plus(-1.0, &at.j(&point.y, &z)?))
}

/// ±∇²F as a matrix, symmetrised; one product a coordinate of x.
pub fn hyper_hessian<P: Problem>(
    at: &At<P>,
    point: &SelectedPoint<P::Y>,
    refine: &Refine,
) -> OracleResult<DMatrix<f64>>
where
    P::Lower: SecondOrder<P::X, P::Y>,
{
    let dim = at.x.dim();
    let mut matrix = DMatrix::zeros(dim, dim);
    let mut unit = vec![0.0; dim];
    for j in 0..dim {
        unit[j] = 1.0;
        let column = hyper_hessian_product(at, point, refine, &at.x.with_coordinates(&unit))?;
        matrix.set_column(j, &nalgebra::DVector::from_vec(column.coordinates()));
        unit[j] = 0.0;
    }
    Ok((&matrix + matrix.transpose()) * 0.5)
}
