//! The network problem: derivatives against automatic differentiation, batches, and the hypergradient of HG-MS.

use bilevel::{
    Objective, Oracles, Problem, Sample, SecondOrder,
    rng::Stream,
    selection::{
        geometry::{Factorise, Rank},
        land::{Land, LandingEnd},
        level::At,
        refine::Refine,
    },
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
const OUTPUT_SCALE: f64 = 1.5;

fn network(dtype: DType) -> (Images, Network) {
    let images = Images::synthetic(TRAINING + 12, SIDE, 1);
    let (training, validation) = (images.clone().take(TRAINING), images.skip(TRAINING));
    let network = Network::new(&training, &validation, settings(dtype)).unwrap();
    (training, network)
}

fn settings(dtype: DType) -> NetworkSettings {
    NetworkSettings { hidden: HIDDEN, dtype, output_scale: OUTPUT_SCALE, ..NetworkSettings::default() }
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
    let initial = Network::new(training, training, settings(dtype)).unwrap().start(0).1;
    let of = move |w1: &Tensor, b1: &Tensor, w2: &Tensor, b2: &Tensor| -> Result<Tensor> {
        inputs.matmul(&w1.t()?)?.broadcast_add(b1)?.tanh()?.matmul(&w2.t()?)?.broadcast_add(b2)
    };
    let start = |name: &str| initial.get(name).unwrap().clone();
    let before = of(&start("w1"), &start("b1"), &start("w2"), &start("b2")).unwrap();
    move |x, y, _| {
        let outputs = (of(y.get("w1")?, y.get("b1")?, y.get("w2")?, y.get("b2")?)? - &before)? * OUTPUT_SCALE;
        let targets = x.get("codes")?.index_select(&labels, 0)?;
        (outputs? - targets)?.sqr()?.sum_all()? * (0.5 / n as f64)
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

/// Whether this process works with one thread; if not, the test is run in one that does.
///
/// Thousands of products of small matrices: handing each to a second thread costs more than the product, many times more
/// where the processor is shared. The number of threads is read from the environment once.
fn alone(test: &str) -> bool {
    if std::env::var_os("RAYON_NUM_THREADS").is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn the_hypergradient_is_the_derivative_of_the_re_solved_hyper_objective() {
    if !alone("the_hypergradient_is_the_derivative_of_the_re_solved_hyper_objective") {
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

/// 50 synthetic images of 784 pixels and 64 hidden units: 50,890 weights, 500 equations, products only. The
/// hypergradient against a central difference of F along it, F landed and refined again at both ends.
#[test]
fn fifty_images_without_factorisation_match_re_solved_differences() {
    if !alone("fifty_images_without_factorisation_match_re_solved_differences") {
        return;
    }
    let images = Images::synthetic(100, 28, 0);
    let (training, validation) = (images.clone().take(50), images.skip(50));
    let settings = NetworkSettings {
        hidden: 64,
        dtype: DType::F64,
        validation: 0.0,
        output_scale: 10.0,
        ..NetworkSettings::default()
    };
    let network = Network::new(&training.with_label_noise(0.3, 0), &validation, settings).unwrap();
    let (x, y) = network.start(0);
    let solver = HgMs {
        land: Land { tol: 1e-9, ..Land::default() },
        refine: Refine { tol: 1e-6, ..Refine::default() },
        rank: Rank { factorise: Factorise::MatrixFree, tol_solve: 1e-11, probes: 1, ..Rank::default() },
        ..HgMs::default()
    };
    let evaluate = |x: &TensorTree, seed: &TensorTree| {
        let (oracles, seeds) = (Oracles::new(&network), std::slice::from_ref(seed));
        let found =
            solver.evaluate(&oracles, x, seeds, Exploration::None, &mut Stream::new(0, 0), None).unwrap();
        assert!(found.certificate.findings.is_empty(), "{}", found.certificate);
        (found, oracles.counts().lower.hvp_yy)
    };
    let (found, products) = evaluate(&x, &network.interpolate(&x, &y, 1e-20, 50).unwrap());
    // 3,000 at 50 Fashion-MNIST images and 256 hidden units, where solves to full tolerance everywhere took 27,859
    assert!(products < 6_000, "{products} products");
    let certificate = &found.certificate;
    let (k, spread) = (certificate.kernel_dim.unwrap(), certificate.kernel_dim_spread.unwrap());
    assert_eq!(y.dim() - network.kernel_dim(), 500);
    assert!(k <= y.dim() as f64 && (k - network.kernel_dim() as f64).abs() <= 4.0 * spread, "{k} ± {spread}");

    let gradient = found.gradient().unwrap();
    let (size, selection) = (gradient.norm(), found.selection().unwrap());
    let h = 1e-3;
    let value = |h: f64| evaluate(&x.plus(h / size, &gradient), selection).0.value().unwrap();
    let difference = (value(h) - value(-h)) / (2.0 * h);
    // F is known to |P∇_y f|²/α ≤ 1e-12, which is divided by h and by |∇F| ≈ 1e-3; codes are of size 1, so that the
    // truncation is of the order of h² = 1e-6
    assert!((difference / size - 1.0).abs() <= 1e-5, "{difference} is not {size}");
    assert!(size > 1e-4, "x acts on F: |∇F| = {size:e}");
    // and the certificate's own estimate of the error is small
    assert!(certificate.error.unwrap() <= 1e-3 * size, "{certificate}");
}

/// From y₀ the Hessian is indefinite, and LAND works without a factorisation: 4 × 4 pixels, 12 hidden units, 334 weights.
#[test]
fn landing_without_factorisation_from_an_indefinite_start() {
    if !alone("landing_without_factorisation_from_an_indefinite_start") {
        return;
    }
    let images = Images::synthetic(16, 4, 1);
    let (training, validation) = (images.clone().take(8), images.skip(8));
    for (seed, size) in [(0, 1.0), (1, 1.0), (2, 1.0), (0, 3.0), (1, 3.0)] {
        let settings = NetworkSettings { hidden: 12, dtype: DType::F64, seed, ..NetworkSettings::default() };
        let network = Network::new(&training, &validation, settings).unwrap();
        let (x, y) = network.start(0);
        assert_eq!(y.dim(), 334);
        // larger codes are further away and the Hessian at y₀ is more indefinite
        let x = x.scaled(size);
        let oracles = Oracles::new(&network);
        let at = At { oracles: &oracles, x: &x, sign: 1.0 };
        let look = Land { max_steps: 0, escape_saddles: false, ..Land::default() };
        let start = look.run(&at, y.clone(), false, 1e-6).unwrap().curvature.smallest();
        assert!(start < -0.05, "the Hessian at y₀ is indefinite: {start}");
        let landing = Land { tol: 1e-9, ..Land::default() }.run(&at, y, false, 1e-6).unwrap();
        assert_eq!(landing.end, LandingEnd::Landed, "seed {seed}: {:e}", landing.gradient.norm());
        let value = network.lower().value(&x, &landing.y, Sample::Full).unwrap();
        assert!(value <= 1e-16, "seed {seed}: g = {value:e} after {} steps", landing.steps);
    }
}
