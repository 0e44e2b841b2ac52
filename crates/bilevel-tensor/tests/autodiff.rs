//! Objectives by automatic differentiation: right in all three ways, and refused where candle is silently wrong.

use bilevel::{Objective, Sample, SecondOrder, SecondOrderCost, rng::Stream, vector::Vector};
use bilevel_tensor::{
    Composite, DerivativeError, Loss, Params, SecondOrderMode, TensorObjective, TensorTree,
    objective::double_backward_works,
};
use candle_core::{DType, Device, Result, Tensor};

const VARIABLE: &str = "CANDLE_GRAD_DO_NOT_DETACH";

/// Runs the named test of this binary in a process of its own, with or without candle's variable.
fn in_a_process(test: &str, with_variable: bool) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads=1"]).env_remove(VARIABLE);
    if with_variable {
        command.env(VARIABLE, "1");
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Source reweighting in miniature: x = logits of two sources, y = (w, b), and
/// g = Σ softmax(x)_s · mse_s(y) + ½ μ|y|², μ = 1e-3; the second source has the wrong sign.
struct Reweighting {
    sources: Vec<(Tensor, Tensor)>,
}

const MU: f64 = 1e-3;

impl Reweighting {
    fn new(dtype: DType) -> Self {
        let cpu = &Device::Cpu;
        let truth = Tensor::new(&[[1.0], [-2.0]], cpu).unwrap().to_dtype(dtype).unwrap();
        let source = |phase: f32, sign: f64| {
            let a: Vec<f32> = (0..64).map(|i| ((i as f32 + phase) * 1.7).sin()).collect();
            let a = Tensor::from_vec(a, (32, 2), cpu).unwrap().to_dtype(dtype).unwrap();
            let t = (a.matmul(&truth).unwrap() * sign).unwrap();
            (a, t)
        };
        Self { sources: vec![source(0.1, 1.0), source(5.3, -1.0)] }
    }
    fn weights(x: &Params) -> Result<Tensor> {
        let e = x.get("logits")?.exp()?;
        e.broadcast_div(&e.sum_all()?)
    }
}

impl Composite for Reweighting {
    fn outputs(&self, _: &Params, y: &Params, _: Sample) -> Result<Tensor> {
        let predictions = self
            .sources
            .iter()
            .map(|(a, _)| a.matmul(y.get("w")?)?.broadcast_add(y.get("b")?))
            .collect::<Result<Vec<_>>>()?;
        Tensor::stack(&predictions, 0)
    }
    fn loss_of(&self, x: &Params, outputs: &Tensor, _: Sample) -> Result<Tensor> {
        let targets = Tensor::stack(&self.sources.iter().map(|(_, t)| t).collect::<Vec<_>>(), 0)?;
        let errors = (outputs - targets)?.sqr()?.mean((1, 2))?;
        errors.mul(&Self::weights(x)?)?.sum_all()
    }
    fn weight_decay(&self) -> f64 {
        MU
    }
}

impl Loss for Reweighting {
    fn loss(&self, x: &Params, y: &Params, s: Sample) -> Result<Tensor> {
        let fit = self.loss_of(x, &self.outputs(x, y, s)?, s)?;
        let decay = (y.get("w")?.sqr()?.sum_all()? + y.get("b")?.sqr()?.sum_all()?)?;
        fit + (decay * (0.5 * MU))?
    }
    fn composite(&self) -> Option<&dyn Composite> {
        Some(self)
    }
}

fn tree(entries: &[(&str, &[f64], &[usize])], dtype: DType) -> TensorTree {
    let make = |&(name, values, shape): &(&str, &[f64], &[usize])| {
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        (name.to_owned(), tensor)
    };
    TensorTree::new(entries.iter().map(make).collect()).unwrap()
}

/// x, y, and the direction (1, 0) of w.
fn point(dtype: DType) -> (TensorTree, TensorTree, TensorTree) {
    (
        tree(&[("logits", &[0.0, 0.0], &[2])], dtype),
        tree(&[("w", &[0.3, 0.4], &[2, 1]), ("b", &[0.0], &[1])], dtype),
        tree(&[("w", &[1.0, 0.0], &[2, 1]), ("b", &[0.0], &[1])], dtype),
    )
}

fn entries(tree: &TensorTree, name: &str) -> Vec<f64> {
    let tensor = tree.get(name).unwrap().to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The second derivative of the toy along (1, 0), and its mixed product, by the formulas, in f64.
fn exact() -> ([f64; 2], [f64; 2]) {
    let toy = Reweighting::new(DType::F64);
    let (mut hessian, mut slopes) = ([MU, 0.0], [0.0; 2]);
    for (s, (a, t)) in toy.sources.iter().enumerate() {
        let (a, t) = (a.to_vec2::<f64>().unwrap(), t.to_vec2::<f64>().unwrap());
        for (a, t) in a.iter().zip(&t) {
            let residual = 0.3 * a[0] + 0.4 * a[1] - t[0];
            slopes[s] += 2.0 / 32.0 * residual * a[0];
            for j in 0..2 {
                hessian[j] += 0.5 * 2.0 / 32.0 * a[0] * a[j];
            }
        }
    }
    // (diag p − ppᵀ) slopes at p = (½, ½)
    let mixed = 0.25 * (slopes[0] - slopes[1]);
    (hessian, [mixed, -mixed])
}

fn assert_close(got: &[f64], wanted: &[f64], tolerance: f64) {
    assert_eq!(got.len(), wanted.len());
    assert!(got.iter().zip(wanted).all(|(g, w)| (g - w).abs() <= tolerance), "{got:?} is not {wanted:?}");
}

fn assert_products(mode: SecondOrderMode, dtype: DType, tolerance: f64) {
    let (x, y, v) = point(dtype);
    let g = TensorObjective::checked(Reweighting::new(dtype), mode, &x, &y, Sample::Full, 1).unwrap();
    let (hessian, mixed) = exact();
    assert_close(&entries(&g.hvp_yy(&x, &y, &v, Sample::Full).unwrap(), "w"), &hessian, tolerance);
    assert_close(&entries(&g.jvp_xy(&x, &y, &v, Sample::Full).unwrap(), "logits"), &mixed, tolerance);
    // the Hessian is symmetric
    let mut stream = Stream::new(3, 0);
    let (u, v): (TensorTree, TensorTree) = (stream.normal_like(&y), stream.normal_like(&y));
    let (hu, hv) = (g.hvp_yy(&x, &y, &u, Sample::Full).unwrap(), g.hvp_yy(&x, &y, &v, Sample::Full).unwrap());
    assert!((v.dot(&hu) - u.dot(&hv)).abs() <= 10.0 * tolerance * u.norm() * v.norm());
    assert_eq!(g.hvp_yy(&x, &y, &y.zeros_like(), Sample::Full).unwrap().norm(), 0.0);
    assert_eq!(g.jvp_xy(&x, &y, &y.zeros_like(), Sample::Full).unwrap().norm(), 0.0);
}

#[test]
fn the_formulas_are_the_printed_ones() {
    assert_close(&exact().0, &[0.99279, -0.03562], 1e-5);
}

// Central differences err by about resolution^(2/3) times the size of the gradient, which is about 4 here and whose
// third derivative vanishes; 10 of those.
#[test]
fn products_by_differences() {
    for (dtype, resolution) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
        let tolerance = 10.0 * resolution.powf(2.0 / 3.0);
        assert_products(SecondOrderMode::differences(&point(dtype).1), dtype, tolerance);
    }
}

#[test]
fn products_by_gauss_newton_are_exact_where_outputs_are_linear() {
    for (dtype, resolution) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
        let tolerance = 10.0 * resolution.powf(2.0 / 3.0);
        assert_products(SecondOrderMode::gauss_newton(&point(dtype).1), dtype, tolerance);
    }
}

#[test]
fn products_by_double_backward_are_exact_with_the_variable() {
    if !double_backward_works() {
        return in_a_process("products_by_double_backward_are_exact_with_the_variable", true);
    }
    // sums of 64 terms of size about 4
    assert_products(SecondOrderMode::DoubleBackward, DType::F64, 64.0 * f64::EPSILON);
    assert_products(SecondOrderMode::DoubleBackward, DType::F32, 64.0 * f64::from(f32::EPSILON));
}

#[test]
fn double_backward_is_refused_without_the_variable() {
    if double_backward_works() {
        return in_a_process("double_backward_is_refused_without_the_variable", false);
    }
    let (x, y, v) = point(DType::F32);
    let mode = SecondOrderMode::DoubleBackward;
    let toy = Reweighting::new(DType::F32);
    let error = TensorObjective::checked(toy, mode, &x, &y, Sample::Full, 1).map(|_| ()).unwrap_err();
    let DerivativeError::Wrong { oracle: "hvp_yy", got, expected, tolerance, .. } = error else {
        panic!("{error}")
    };
    assert!((got - expected).abs() > 10.0 * tolerance);
    assert!(error.to_string().contains("CANDLE_GRAD_DO_NOT_DETACH=1"), "{error}");
    // and so is every product of an objective that was not checked
    let g = TensorObjective::unchecked(Reweighting::new(DType::F32), mode);
    for error in
        [g.hvp_yy(&x, &y, &v, Sample::Full).unwrap_err(), g.jvp_xy(&x, &y, &v, Sample::Full).unwrap_err()]
    {
        assert!(error.to_string().contains("CANDLE_GRAD_DO_NOT_DETACH=1"), "{error}");
    }
    // gradients do not need it
    assert!(g.grad_y(&x, &y, Sample::Full).unwrap().norm() > 0.1);
}

#[test]
fn a_fused_softmax_drops_the_gradient_and_is_refused() {
    let (x, y, _) = point(DType::F32);
    let toy = Reweighting::new(DType::F32);
    let loss = |fused: bool| {
        let toy = &toy;
        move |x: &Params, y: &Params, s: Sample| -> Result<Tensor> {
            let logits = x.get("logits")?.unsqueeze(0)?;
            let p = if fused {
                candle_nn::ops::softmax_last_dim(&logits)?
            } else {
                candle_nn::ops::softmax(&logits, 1)?
            };
            let outputs = toy.outputs(x, y, s)?;
            let targets = Tensor::stack(&[&toy.sources[0].1, &toy.sources[1].1], 0)?;
            (outputs - targets)?.sqr()?.mean((1, 2))?.mul(&p.squeeze(0)?)?.sum_all()
        }
    };
    let mode = SecondOrderMode::differences(&y);
    TensorObjective::checked(loss(false), mode, &x, &y, Sample::Full, 1).map(|_| ()).unwrap();
    let error = TensorObjective::checked(loss(true), mode, &x, &y, Sample::Full, 1).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, DerivativeError::Wrong { oracle: "grad_x", tensor, got, expected, .. }
            if tensor == "logits" && *got == 0.0 && expected.abs() > 0.01),
        "{error}"
    );
    assert!(error.to_string().contains("softmax_last_dim"), "{error}");
}

#[test]
fn a_detached_path_through_one_of_two_tensors_is_refused() {
    let (x, y, _) = point(DType::F64);
    let toy = Reweighting::new(DType::F64);
    let loss = |x: &Params, y: &Params, s: Sample| -> Result<Tensor> {
        // the scale of w is a constant to the gradient, though it is not one
        let scale = y.get("w")?.sqr()?.sum_all()?.detach();
        toy.loss(x, y, s)? + scale
    };
    let mode = SecondOrderMode::differences(&y);
    let error = TensorObjective::checked(loss, mode, &x, &y, Sample::Full, 1).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, DerivativeError::Wrong { oracle: "grad_y", tensor, .. } if tensor == "w"),
        "{error}"
    );
}

/// The toy with one lie in its composite form.
struct Lying(Reweighting, Lie);
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    None,
    Decay,
    Curvature,
    DetachedOutputs,
}
impl Loss for Lying {
    fn loss(&self, x: &Params, y: &Params, s: Sample) -> Result<Tensor> {
        self.0.loss(x, y, s)
    }
    fn composite(&self) -> Option<&dyn Composite> {
        Some(self)
    }
}
impl Composite for Lying {
    fn outputs(&self, x: &Params, y: &Params, s: Sample) -> Result<Tensor> {
        let outputs = self.0.outputs(x, y, s)?;
        Ok(if self.1 == Lie::DetachedOutputs { outputs.detach() } else { outputs })
    }
    fn loss_of(&self, x: &Params, outputs: &Tensor, s: Sample) -> Result<Tensor> {
        self.0.loss_of(x, outputs, s)
    }
    fn weight_decay(&self) -> f64 {
        if self.1 == Lie::Decay { 1.0 } else { MU }
    }
    fn curvature(&self, x: &Params, _: &Tensor, u: &Tensor, _: Sample) -> Option<Result<Tensor>> {
        let weight = if self.1 == Lie::Curvature { 1.0 / 32.0 } else { 2.0 / 32.0 };
        let product = || u.broadcast_mul(&Reweighting::weights(x)?.reshape((2, 1, 1))?)?.affine(weight, 0.0);
        Some(product())
    }
}

#[test]
fn a_composite_form_that_is_not_the_loss_is_refused() {
    let (x, y, _) = point(DType::F64);
    let mode = SecondOrderMode::gauss_newton(&y);
    let check = |lie: Lie| {
        let loss = Lying(Reweighting::new(DType::F64), lie);
        TensorObjective::checked(loss, mode, &x, &y, Sample::Full, 1).map(|_| ())
    };
    check(Lie::None).unwrap();
    for (lie, word) in [
        (Lie::Decay, "loss = loss_of(outputs) + ½ μ |y|²"),
        (Lie::Curvature, "Composite::curvature is not"),
        (Lie::DetachedOutputs, "drops its gradient"),
    ] {
        let error = check(lie).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn gauss_newton_needs_the_composite_form() {
    let (x, y, v) = point(DType::F64);
    let loss = |_: &Params, y: &Params, _: Sample| y.get("w")?.sqr()?.sum_all();
    let mode = SecondOrderMode::gauss_newton(&y);
    let error = TensorObjective::checked(loss, mode, &x, &y, Sample::Full, 1).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("Loss::composite"), "{error}");
    let g = TensorObjective::unchecked(loss, mode);
    assert!(g.hvp_yy(&x, &y, &v, Sample::Full).is_err());
}

#[test]
fn a_variable_that_the_loss_does_not_reach_has_gradient_zero() {
    let (x, y, v) = point(DType::F64);
    let loss = |_: &Params, y: &Params, _: Sample| y.get("w")?.sqr()?.sum_all();
    let mode = SecondOrderMode::differences(&y);
    let g = TensorObjective::checked(loss, mode, &x, &y, Sample::Full, 1).unwrap();
    let (grad_x, grad_y) = g.grad(&x, &y, Sample::Full).unwrap();
    assert_eq!((grad_x.norm(), entries(&grad_y, "b")), (0.0, vec![0.0]));
    assert_eq!(entries(&grad_y, "w"), [0.6, 0.8]);
    assert_eq!(g.jvp_xy(&x, &y, &v, Sample::Full).unwrap().norm(), 0.0);
}

#[test]
fn losses_that_are_no_number_or_no_scalar_are_refused() {
    let (x, y, _) = point(DType::F64);
    let mode = SecondOrderMode::differences(&y);
    let check = |loss: fn(&Params, &Params, Sample) -> Result<Tensor>| {
        TensorObjective::checked(loss, mode, &x, &y, Sample::Full, 1).map(|_| ()).unwrap_err()
    };
    let error = check(|_, y, _| y.get("b")?.log()?.sum_all());
    assert!(matches!(error, DerivativeError::NonFinite { oracle: "value" }), "{error}");
    let error = check(|_, y, _| y.get("w")?.sqr());
    assert!(error.to_string().contains("one element"), "{error}");
    let error = check(|_, y, _| y.get("weight")?.sqr());
    assert!(error.to_string().contains("there is no tensor \"weight\"; there are b, w"), "{error}");
}

#[test]
fn the_price_of_a_product_is_declared() {
    let like = point(DType::F64).1;
    let cost = |mode| TensorObjective::unchecked(Reweighting::new(DType::F64), mode).second_order_cost();
    assert_eq!(cost(SecondOrderMode::differences(&like)), SecondOrderCost::Gradients(2));
    assert_eq!(cost(SecondOrderMode::DoubleBackward), SecondOrderCost::Exact);
    assert_eq!(cost(SecondOrderMode::gauss_newton(&like)), SecondOrderCost::Exact);
}
