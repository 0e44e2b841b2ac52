//! The network problem: derivatives against automatic differentiation, batches, and the hypergradient of HG-MS.

use bilevel::{
    Objective, Oracles, Problem, Sample, SecondOrder,
    rng::Stream,
    selection::geometry::{Factorise, Rank},
    solvers::hg_ms::{Exploration, HgMs},
    vector::Vector,
};
use bilevel_tensor::{
    Images, Network, NetworkSettings, Params, SecondOrderMode, TensorObjective, TensorTree,
};
use candle_core::{DType, Device, Result, Tensor};

const SIDE: usize = 2;
const TRAINING: usize = 4;
const HIDDEN: usize = 8;

fn network(dtype: DType) -> (Images, Network) {
    let images = Images::synthetic(TRAINING + 12, SIDE, 1);
    let (training, validation) = (images.clone().take(TRAINING), images.skip(TRAINING));
    let settings = NetworkSettings { hidden: HIDDEN, dtype, ..NetworkSettings::default() };
    let network = Network::new(&training, &validation, settings).unwrap();
    (training, network)
}

/// The lower loss once more, from its formula, for automatic differentiation.
fn by_autodiff(training: &Images, dtype: DType) -> impl Fn(&Params, &Params, Sample) -> Result<Tensor> {
    let (n, p) = (training.len(), training.size);
    let pixels = Tensor::from_slice(&training.pixels, (n, p), &Device::Cpu).unwrap();
    let pixels = pixels.to_dtype(DType::F64).unwrap();
    let centred = pixels.broadcast_sub(&pixels.mean_keepdim(0).unwrap()).unwrap();
    let square: f64 = centred.sqr().unwrap().mean_all().unwrap().to_scalar().unwrap();
    let inputs = centred.affine(1.0 / square.sqrt(), 0.0).unwrap().to_dtype(dtype).unwrap();
    let labels: Vec<i64> = training.labels.iter().map(|&l| i64::from(l)).collect();
    let labels = Tensor::from_vec(labels, n, &Device::Cpu).unwrap();
    move |x, y, _| {
        let hidden = inputs.matmul(&y.get("w1")?.t()?)?.broadcast_add(y.get("b1")?)?.tanh()?;
        let outputs = hidden.matmul(&y.get("w2")?.t()?)?.broadcast_add(y.get("b2")?)?;
        let targets = x.get("codes")?.index_select(&labels, 0)?;
        (outputs - targets)?.sqr()?.sum_all()? * (0.5 / n as f64)
    }
}

fn random_point(network: &Network) -> (TensorTree, TensorTree, TensorTree, Stream) {
    let (x, y) = network.start(0);
    let mut stream = Stream::new(9, 0);
    let x = x.plus(0.3, &stream.normal_like(&x));
    let y = y.plus(0.2, &stream.normal_like(&y));
    let v = stream.normal_like(&y);
    (x, y, v, stream)
}

fn assert_near(what: &str, got: &TensorTree, wanted: &TensorTree, relative: f64) {
    let error = got.distance(wanted) / wanted.norm();
    assert!(error <= relative, "{what}: relative error {error:.1e}");
}

#[test]
fn derivatives_by_hand_are_those_of_automatic_differentiation() {
    for (dtype, eps) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
        let (training, network) = network(dtype);
        let (x, y, v, _) = random_point(&network);
        let mode = SecondOrderMode::differences(&y);
        let loss = by_autodiff(&training, dtype);
        let auto = TensorObjective::checked(loss, mode, &x, &y, Sample::Full, 0).unwrap();
        let (g, s) = (network.lower(), Sample::Full);
        let (own, other) = (g.value(&x, &y, s).unwrap(), auto.value(&x, &y, s).unwrap());
        // sums of up to 192 rounded terms; differences lose a third of the digits, and their unit is the gradient's size
        assert!((own - other).abs() <= 100.0 * eps * other, "{own} is not {other}");
        assert_near("grad_x", &g.grad_x(&x, &y, s).unwrap(), &auto.grad_x(&x, &y, s).unwrap(), 100.0 * eps);
        assert_near("grad_y", &g.grad_y(&x, &y, s).unwrap(), &auto.grad_y(&x, &y, s).unwrap(), 100.0 * eps);
        let products = 100.0 * eps.powf(2.0 / 3.0);
        assert_near("hvp", &g.hvp_yy(&x, &y, &v, s).unwrap(), &auto.hvp_yy(&x, &y, &v, s).unwrap(), products);
        assert_near("jvp", &g.jvp_xy(&x, &y, &v, s).unwrap(), &auto.jvp_xy(&x, &y, &v, s).unwrap(), products);
    }
}

#[test]
fn the_hessian_is_symmetric_and_the_mixed_product_its_own_transpose() {
    let (_, network) = network(DType::F64);
    let (x, y, v, mut stream) = random_point(&network);
    let (g, s) = (network.lower(), Sample::Full);
    let u = stream.normal_like(&y);
    let (hu, hv) = (g.hvp_yy(&x, &y, &u, s).unwrap(), g.hvp_yy(&x, &y, &v, s).unwrap());
    assert!((v.dot(&hu) - u.dot(&hv)).abs() <= 1e-13 * v.norm() * hu.norm());
    // ⟨J v, w⟩ = d/dh ⟨∇_y g(x + h w), v⟩; ∇_y g is linear in x, so the difference is exact for any h
    let w = stream.normal_like(&x);
    let mut difference = g.grad_y(&x.plus(1.0, &w), &y, s).unwrap();
    difference.axpy(-1.0, &g.grad_y(&x, &y, s).unwrap());
    let jv = g.jvp_xy(&x, &y, &v, s).unwrap();
    assert!((jv.dot(&w) - difference.dot(&v)).abs() <= 1e-12 * jv.norm() * w.norm());
}

#[test]
fn the_upper_gradient_is_that_of_its_value() {
    let (_, network) = network(DType::F64);
    let (x, y, v, _) = random_point(&network);
    let (f, s) = (network.upper(), Sample::Full);
    let h = 1e-5;
    let difference =
        (f.value(&x, &y.plus(h, &v), s).unwrap() - f.value(&x, &y.plus(-h, &v), s).unwrap()) / (2.0 * h);
    let slope = f.grad_y(&x, &y, s).unwrap().dot(&v);
    assert!((difference - slope).abs() <= 1e-7 * slope.abs().max(1.0), "{difference} is not {slope}");
    assert_eq!(f.grad_x(&x, &y, s).unwrap().norm(), 0.0);
}

#[test]
fn batches_average_to_the_whole() {
    let (_, network) = network(DType::F64);
    let (x, y, v, _) = random_point(&network);
    let g = network.lower();
    let (one, two): (Vec<u64>, Vec<u64>) = ((0..2).collect(), (2..4).collect());
    let (one, two) = (Sample::Batch(&one), Sample::Batch(&two));
    let mean = |a: TensorTree, b: TensorTree| a.plus(1.0, &b).scaled(0.5);
    let s = Sample::Full;
    let value = 0.5 * (g.value(&x, &y, one).unwrap() + g.value(&x, &y, two).unwrap());
    assert!((value - g.value(&x, &y, s).unwrap()).abs() <= 1e-14);
    let whole = g.grad_y(&x, &y, s).unwrap();
    assert_near(
        "grad_y",
        &mean(g.grad_y(&x, &y, one).unwrap(), g.grad_y(&x, &y, two).unwrap()),
        &whole,
        1e-13,
    );
    let whole = g.hvp_yy(&x, &y, &v, s).unwrap();
    let halves = mean(g.hvp_yy(&x, &y, &v, one).unwrap(), g.hvp_yy(&x, &y, &v, two).unwrap());
    assert_near("hvp_yy", &halves, &whole, 1e-13);
    let whole = g.jvp_xy(&x, &y, &v, s).unwrap();
    let halves = mean(g.jvp_xy(&x, &y, &v, one).unwrap(), g.jvp_xy(&x, &y, &v, two).unwrap());
    assert_near("jvp_xy", &halves, &whole, 1e-13);
    for bad in [&[][..], &[4]] {
        let error = g.grad_y(&x, &y, Sample::Batch(bad)).unwrap_err().to_string();
        assert!(error.contains("grad_y") && error.contains("below 4"), "{error}");
    }
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let (small, large) = (Images::synthetic(3, 2, 0), Images::synthetic(3, 3, 0));
    let error = Network::new(&small, &large, NetworkSettings::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("4 pixels") && error.contains("of 9"), "{error}");
    assert!(Network::new(&small.clone().take(0), &small, NetworkSettings::default()).is_err());
}

/// F and its hypergradient at x by HG-MS, from y₀; selections refined to 1e-9.
fn hypergradient(network: &Network, x: &TensorTree, factorise: Factorise) -> (f64, TensorTree, f64) {
    let solver = HgMs { rank: Rank { factorise, probes: 1, ..Rank::default() }, ..HgMs::default() };
    let oracles = Oracles::new(network);
    let y = network.interpolate(x, &network.start(0).1, 1e-12, 50).unwrap();
    let found = solver.evaluate(&oracles, x, &[y], Exploration::None, &mut Stream::new(0, 0), None).unwrap();
    assert!(!found.branches.is_empty(), "{:?}", found.certificate.findings);
    let kernel = found.branches[0].point.geometry.kernel_dim();
    (found.value().unwrap(), found.gradient().unwrap(), kernel)
}

#[test]
fn the_hypergradient_is_the_derivative_of_the_re_solved_hyper_objective() {
    // Thousands of products of tiny matrices: handing each to a second thread costs more than the product, many times
    // more where the processor is shared. The number of threads is read from the environment once.
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_hypergradient_is_the_derivative_of_the_re_solved_hyper_objective"])
            .env("RAYON_NUM_THREADS", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let (_, network) = network(DType::F64);
    let x = network.start(0).0;
    let (_, dense, kernel) = hypergradient(&network, &x, Factorise::Dense);
    assert_eq!(kernel, network.kernel_dim() as f64);
    assert_eq!(network.kernel_dim(), HIDDEN * (SIDE * SIDE + 1) + 10 * (HIDDEN + 1) - 10 * TRAINING);
    let (_, free, _) = hypergradient(&network, &x, Factorise::MatrixFree);
    assert_near("without factorisation", &free, &dense, 1e-5);
    let w: TensorTree = Stream::new(2, 0).normal_like(&x);
    // truncation h² and rounding of F over h are both about 1e-8 here
    let h = 1e-4;
    let value = |h: f64| hypergradient(&network, &x.plus(h, &w), Factorise::Dense).0;
    let difference = (value(h) - value(-h)) / (2.0 * h);
    let slope = dense.dot(&w);
    assert!((difference - slope).abs() <= 1e-5 * slope.abs(), "{difference} is not {slope}");
    assert!(slope.abs() > 1e-3, "x acts on F");
}
