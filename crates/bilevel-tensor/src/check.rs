//! The self-check: derivatives compared with differences, so that nothing is silently wrong.

use bilevel::{Sample, rng::Stream, vector::Vector};

use crate::{
    loss::{Loss, Params},
    objective::{
        DOUBLE_BACKWARD_REMEDY, SecondOrderMode, TensorObjective, curvature, curvature_by_differences,
        double_backward_works,
    },
    tree::TensorTree,
};

/// The derivative of a loss is wrong, or cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DerivativeError {
    /// An oracle disagrees with differences.
    #[error(
        "{oracle} is wrong in tensor \"{tensor}\": it gives {got:.6e} where differences give {expected:.6e} \
         (allowed: {tolerance:.1e} apart). {remedy}"
    )]
    Wrong {
        /// The oracle: `grad_x`, `grad_y`, `hvp_yy`, `jvp_xy`, or a part of a Gauss–Newton product.
        oracle: &'static str,
        /// The tensor of x or y.
        tensor: String,
        /// What the oracle gives: a directional derivative, or the entry with the largest error.
        got: f64,
        /// What differences give.
        expected: f64,
        /// Apart by how much they may be: the relative tolerance plus the estimated error of the differences.
        tolerance: f64,
        /// What to do.
        remedy: &'static str,
    },
    /// The loss, its gradient or a product is not a number at the point of the check.
    #[error("{oracle} is not finite at the point of the check; start elsewhere or bound the loss")]
    NonFinite {
        /// The oracle.
        oracle: &'static str,
    },
    /// Double backward was asked for, and candle does not keep the graph.
    #[error(
        "hvp_yy by double backward: the second derivative of a³ at 2 comes out wrong, not 12. {DOUBLE_BACKWARD_REMEDY}"
    )]
    DoubleBackwardUnavailable,
    /// The loss, or the way to its products, failed.
    #[error("{oracle} failed: {source}")]
    Failed {
        /// The oracle.
        oracle: &'static str,
        /// Candle's, or the user's, error.
        source: candle_core::Error,
    },
}

const GRADIENT_REMEDY: &str = "An operation in the loss drops its gradient: candle's fused softmax_last_dim, \
     rms_norm, layer_norm and rope, anything named no_bwd, and detach do. Build it of differentiable operations";
const PRODUCT_REMEDY: &str = "The gradient is right, its derivative is not: choose SecondOrderMode::differences, \
     another radius, or a loss with two derivatives";
const COMPOSITE_REMEDY: &str =
    "Loss::composite does not describe the loss: loss = loss_of(outputs) + ½ μ |y|²";
const CURVATURE_REMEDY: &str =
    "Composite::curvature is not the second derivative of Composite::loss_of in the outputs";
const CONVEX_REMEDY: &str = "Composite::loss_of is not convex in the outputs, so Gauss–Newton products are not \
     positive semidefinite: choose SecondOrderMode::differences";

/// Two estimates of the same number, and how far the second may be off.
struct Comparison {
    got: f64,
    expected: f64,
    uncertainty: f64,
}

impl Comparison {
    fn tolerance(&self, relative: f64) -> f64 {
        relative * self.got.abs().max(self.expected.abs()) + self.uncertainty
    }
    fn holds(&self, relative: f64) -> bool {
        (self.got - self.expected).abs() <= self.tolerance(relative)
    }
    fn or_wrong(
        &self,
        relative: f64,
        oracle: &'static str,
        tensor: &str,
        remedy: &'static str,
    ) -> Result<(), DerivativeError> {
        if self.holds(relative) {
            return Ok(());
        }
        Err(DerivativeError::Wrong {
            oracle,
            tensor: tensor.to_owned(),
            got: self.got,
            expected: self.expected,
            tolerance: self.tolerance(relative),
            remedy,
        })
    }
}

/// A dropped term is an error of the order of the derivative itself; the fourth part of the digits that the storage
/// has leaves room for everything else: 2 % in f32, 1e-4 in f64.
fn relative_tolerance(resolution: f64) -> f64 {
    resolution.powf(0.25)
}

fn failed(oracle: &'static str) -> impl Fn(candle_core::Error) -> DerivativeError {
    move |source| DerivativeError::Failed { oracle, source }
}

/// Compares all derivatives of the objective at (x, y) with differences.
pub(crate) fn derivatives<L: Loss>(
    objective: &TensorObjective<L>,
    x: &TensorTree,
    y: &TensorTree,
    s: Sample,
    seed: u64,
) -> Result<(), DerivativeError> {
    let value = objective.try_value(x, y, s).map_err(failed("value"))?;
    if !value.is_finite() {
        return Err(DerivativeError::NonFinite { oracle: "value" });
    }
    let mut stream = Stream::new(seed, 0);
    let grad_x = objective.try_grad_x(x, y, s).map_err(failed("grad_x"))?;
    gradient("grad_x", &grad_x, x, &mut stream, |x| objective.try_value(x, y, s))?;
    let grad_y = objective.try_grad_y(x, y, s).map_err(failed("grad_y"))?;
    gradient("grad_y", &grad_y, y, &mut stream, |y| objective.try_value(x, y, s))?;

    let v = stream.normal_like(y);
    if objective.mode() == SecondOrderMode::DoubleBackward && !double_backward_works() {
        // the numbers of this loss say more than the general fact, where they differ
        let dropped = objective.double_backward(x, y, &v, s, false).map_err(failed("hvp_yy"))?;
        product("hvp_yy", &dropped, y, &v, DOUBLE_BACKWARD_REMEDY, |y| objective.try_grad_y(x, y, s))?;
        return Err(DerivativeError::DoubleBackwardUnavailable);
    }
    let mixed = objective.try_jvp_xy(x, y, &v, s).map_err(failed("jvp_xy"))?;
    product("jvp_xy", &mixed, y, &v, PRODUCT_REMEDY, |y| objective.try_grad_x(x, y, s))?;
    let hessian = objective.try_hvp_yy(x, y, &v, s).map_err(failed("hvp_yy"))?;
    if let SecondOrderMode::GaussNewton { radius } = objective.mode() {
        gauss_newton(objective, x, y, &v, &hessian, radius, s)
    } else {
        product("hvp_yy", &hessian, y, &v, PRODUCT_REMEDY, |y| objective.try_grad_y(x, y, s))
    }
}

/// Relative radii of the differences: around the one that balances truncation and rounding.
fn radii(resolution: f64) -> [f64; 4] {
    let usual = SecondOrderMode::radius_for(resolution);
    [8.0, 2.0, 0.5, 0.125].map(|factor| factor * usual)
}

/// ⟨gradient, d⟩ against differences of the value, with d supported on one tensor at a time: once along the gradient
/// itself, where wrong sizes show, and once along a random direction, where a part that is zero by mistake shows.
fn gradient(
    oracle: &'static str,
    gradient: &TensorTree,
    at: &TensorTree,
    stream: &mut Stream,
    value: impl Fn(&TensorTree) -> candle_core::Result<f64>,
) -> Result<(), DerivativeError> {
    if !gradient.is_finite() {
        return Err(DerivativeError::NonFinite { oracle });
    }
    let resolution = at.resolution();
    let random = stream.normal_like(at);
    for (i, (name, _)) in at.iter().enumerate() {
        for direction in [restricted(gradient, i), restricted(&random, i)] {
            let norm = direction.norm();
            if norm == 0.0 {
                continue;
            }
            let direction = direction.scaled(1.0 / norm);
            let slope = |radius: f64| -> candle_core::Result<(f64, f64)> {
                let h = radius * (1.0 + at.norm());
                let (up, down) = (value(&at.plus(h, &direction))?, value(&at.plus(-h, &direction))?);
                // a value that is a mean of many terms carries a few roundings of its own size
                let rounding = 8.0 * resolution * up.abs().max(down.abs()) / h;
                Ok(((up - down) / (2.0 * h), rounding))
            };
            let mut best: Option<(f64, f64)> = None;
            for radius in radii(resolution) {
                let ((wide, _), (narrow, rounding)) =
                    (slope(radius).map_err(failed(oracle))?, slope(radius / 2.0).map_err(failed(oracle))?);
                let estimate = (narrow, (wide - narrow).abs() + rounding);
                if estimate.1.is_finite() && best.is_none_or(|b| estimate.1 < b.1) {
                    best = Some(estimate);
                }
            }
            let (expected, uncertainty) = best.ok_or(DerivativeError::NonFinite { oracle: "value" })?;
            let got = gradient.dot(&direction);
            Comparison { got, expected, uncertainty }.or_wrong(
                relative_tolerance(resolution),
                oracle,
                name,
                GRADIENT_REMEDY,
            )?;
        }
    }
    Ok(())
}

/// The tree that is zero but for its tensor number `i`.
fn restricted(tree: &TensorTree, i: usize) -> TensorTree {
    let zeros = tree.zeros_like();
    let parts = tree
        .iter()
        .zip(zeros.iter())
        .enumerate()
        .map(|(j, ((_, own), (_, zero)))| if i == j { own.clone() } else { zero.clone() });
    tree.with_tensors(parts).expect("tensors of one tree")
}

/// A product against differences of the gradient along v, tensor by tensor.
fn product(
    oracle: &'static str,
    product: &TensorTree,
    y: &TensorTree,
    v: &TensorTree,
    remedy: &'static str,
    of: impl Fn(&TensorTree) -> candle_core::Result<TensorTree>,
) -> Result<(), DerivativeError> {
    if !product.is_finite() {
        return Err(DerivativeError::NonFinite { oracle });
    }
    let resolution = y.resolution();
    let mut best: Option<(TensorTree, TensorTree, f64)> = None;
    for radius in radii(resolution) {
        let slope = |radius: f64| -> candle_core::Result<TensorTree> {
            let h = radius * (1.0 + y.norm()) / v.norm();
            let mut difference = of(&y.plus(h, v))?;
            difference.axpy(-1.0, &of(&y.plus(-h, v))?);
            difference.scale(0.5 / h);
            Ok(difference)
        };
        let (wide, narrow) =
            (slope(radius).map_err(failed(oracle))?, slope(radius / 2.0).map_err(failed(oracle))?);
        let error = wide.distance(&narrow);
        if error.is_finite() && best.as_ref().is_none_or(|b| error < b.2) {
            best = Some((wide, narrow, error));
        }
    }
    let (wide, narrow, error) = best.ok_or(DerivativeError::NonFinite { oracle })?;
    let relative = relative_tolerance(resolution);
    for (i, (name, _)) in product.iter().enumerate() {
        let own = |tree: &TensorTree| restricted(tree, i).coordinates();
        let (got, wide, narrow) = (own(product), own(&wide), own(&narrow));
        let size = |a: &[f64]| a.iter().map(|a| a * a).sum::<f64>().sqrt();
        let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        // the estimate by two radii can be small by luck in one tensor: never below a share of the whole one
        let uncertainty = 2.0 * apart(&wide, &narrow) + 0.5 * error;
        let tolerance = relative * size(&got).max(size(&narrow)) + uncertainty;
        if apart(&got, &narrow) > tolerance {
            let worst = (0..got.len())
                .max_by(|&i, &j| (got[i] - narrow[i]).abs().total_cmp(&(got[j] - narrow[j]).abs()));
            let worst = worst.expect("a tensor with an error has entries");
            return Err(DerivativeError::Wrong {
                oracle,
                tensor: name.to_owned(),
                got: got[worst],
                expected: narrow[worst],
                tolerance,
                remedy,
            });
        }
    }
    Ok(())
}

/// The three statements that make a Gauss–Newton product: the composite form gives the loss; the curvature is the
/// derivative of ∇ℓ and is positive; ⟨v, H v⟩ = ⟨J v, (∇²ℓ) J v⟩ + μ|v|², which a gradient dropped on the way back
/// through the outputs would break.
fn gauss_newton<L: Loss>(
    objective: &TensorObjective<L>,
    x: &TensorTree,
    y: &TensorTree,
    v: &TensorTree,
    hessian: &TensorTree,
    radius: f64,
    s: Sample,
) -> Result<(), DerivativeError> {
    let oracle = "hvp_yy (Gauss–Newton)";
    let fail = failed(oracle);
    if !hessian.is_finite() {
        return Err(DerivativeError::NonFinite { oracle });
    }
    let relative = relative_tolerance(y.resolution());
    let composite = objective.composite().map_err(&fail)?;
    let constants = Params::constants(x);
    let outputs_at = |y: &TensorTree| -> candle_core::Result<TensorTree> {
        let outputs = composite.outputs(&constants, &Params::constants(y), s)?;
        TensorTree::new(vec![("outputs".into(), outputs)]).map_err(candle_core::Error::wrap)
    };
    let outputs = outputs_at(y).map_err(&fail)?;

    let value = objective.try_value(x, y, s).map_err(&fail)?;
    let whole = || -> candle_core::Result<f64> {
        let loss = composite.loss_of(&constants, outputs.get("outputs").expect("one tensor"), s)?;
        let loss: f64 = loss.to_dtype(candle_core::DType::F64)?.flatten_all()?.get(0)?.to_scalar()?;
        Ok(loss + 0.5 * composite.weight_decay() * y.dot(y))
    };
    let composed = Comparison { got: whole().map_err(&fail)?, expected: value, uncertainty: 0.0 };
    composed.or_wrong(relative, oracle, "the loss itself", COMPOSITE_REMEDY)?;

    let h = radius * (1.0 + y.norm()) / v.norm();
    let tangent = || -> candle_core::Result<TensorTree> {
        let mut tangent = outputs_at(&y.plus(h, v))?;
        tangent.axpy(-1.0, &outputs_at(&y.plus(-h, v))?);
        tangent.scale(0.5 / h);
        Ok(tangent)
    };
    let tangent = tangent().map_err(&fail)?;
    let given = curvature(composite, &constants, &outputs, &tangent, radius, s).map_err(&fail)?;
    let differences =
        curvature_by_differences(composite, &constants, &outputs, &tangent, radius, s).map_err(&fail)?;
    // compared along the larger of the two, so that neither can hide in the other's null space
    let along = if given.norm() > differences.norm() { &given } else { &differences };
    if along.norm() > 0.0 {
        let unit = along.scaled(1.0 / along.norm());
        let curvatures =
            Comparison { got: given.dot(&unit), expected: differences.dot(&unit), uncertainty: 0.0 };
        curvatures.or_wrong(relative, "Composite::curvature", "outputs", CURVATURE_REMEDY)?;
    }

    let forward = tangent.dot(&given);
    let scale = tangent.norm() * given.norm();
    if forward < -relative * scale {
        return Err(DerivativeError::Wrong {
            oracle,
            tensor: "outputs".into(),
            got: forward,
            expected: 0.0,
            tolerance: relative * scale,
            remedy: CONVEX_REMEDY,
        });
    }
    let forms = Comparison {
        got: v.dot(hessian),
        expected: forward + composite.weight_decay() * v.dot(v),
        uncertainty: relative * scale,
    };
    forms.or_wrong(relative, oracle, "all of y", GRADIENT_REMEDY)
}
