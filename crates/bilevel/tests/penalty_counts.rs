//! Oracle calls of the penalty methods: per step as their documentation says, samples as their batches say; and settings out of range.

use bilevel::{
    Budget, Objective, OracleCounts, OracleResult, Problem, Run, Sample, Solver, Tally,
    problems::{self, Parameters, Zoo},
    solvers::{
        acc_f2ba::AccF2ba,
        af2ba::Af2ba,
        alt_pbgd::AltPbgd,
        bome::{Barrier, Bome},
        f2ba::F2ba,
        f2ba_plus::F2baPlus,
        f2sa::F2sa,
        f2sa_p::F2saP,
        g_pbgd::GPbgd,
        gradient_norm_barrier::GradientNormBarrier,
        high_order_f2ba::HighOrderF2ba,
        meha::Meha,
        pbgd_free::PbgdFree,
        penalised_gradient::PenalisedGradient,
        penalty::{LowerGradient, Variant},
        prox_f2ba::ProxF2ba,
        prox_f2ba_single_loop::ProxF2baSingleLoop,
        slm_reconstructed::SlmReconstructed,
        v_pbgd::VPbgd,
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn steps(n: u64) -> Budget {
    Budget { steps: Some(n), ..Budget::default() }
}

fn tiny() -> Zoo {
    problems::by_name("pl-game-v2-tiny", &Parameters::new()).unwrap()
}

fn counts<S: Solver<Zoo>>(solver: &S, n: u64) -> OracleCounts {
    Run::new(&tiny(), solver).budget(steps(n)).start(1).unwrap().counts
}

/// One step costs these calls, [f: `grad_x`, `grad_y`] and [g: value, `grad_x`, `grad_y`, `hvp_yy`, `jvp_xy`], and nothing else;
/// so does every other step, and a start costs nothing.
fn assert_cost<S: Solver<Zoo>>(solver: &S, upper: [u64; 2], lower: [u64; 5]) {
    for n in [0, 1, 3] {
        let got = counts(solver, n);
        let [f_x, f_y] = upper.map(|calls| calls * n);
        let [value, g_x, g_y, hvp_yy, jvp_xy] = lower.map(|calls| calls * n);
        let tally = |value, grad_x, grad_y, hvp_yy, jvp_xy| {
            let samples = value + grad_x + grad_y + hvp_yy + jvp_xy;
            Tally { value, grad_x, grad_y, hvp_yy, jvp_xy, samples }
        };
        let expected =
            OracleCounts { upper: tally(0, f_x, f_y, 0, 0), lower: tally(value, g_x, g_y, hvp_yy, jvp_xy) };
        assert_eq!(got, expected, "{} after {n} steps", S::NAME);
    }
}

#[test]
fn a_step_costs_what_the_table_says() {
    const T: u64 = 7;
    assert_cost(
        &PenalisedGradient { lower_steps: T, ..PenalisedGradient::default() },
        [1, 1],
        [0, 2, T + 1, 0, 0],
    );
    assert_cost(&VPbgd { lower_steps: T, ..VPbgd::default() }, [1, 1], [0, 2, T + 1, 0, 0]);
    let bome = Bome { lower_steps: T, ..Bome::default() };
    assert_cost(&bome, [1, 1], [0, 2, T + 1, 0, 0]);
    assert_cost(&Bome { barrier: Some(Barrier::ValueGap), ..bome.clone() }, [1, 1], [2, 2, T + 1, 0, 0]);
    assert_cost(&Bome { variant: Variant::AsReleased, ..bome }, [1, 1], [2, 2, T + 1, 0, 0]);
    assert_cost(&GPbgd::default(), [1, 1], [0, 0, 1, 1, 1]);
    assert_cost(
        &SlmReconstructed { lower_steps: T, ..SlmReconstructed::default() },
        [1, 1],
        [2, 2, T + 1, 0, 0],
    );
    let f2ba = F2ba { lower_steps: T, ..F2ba::default() };
    assert_cost(&f2ba, [1, T], [0, 2, 2 * T, 0, 0]);
    assert_cost(&F2ba { lower_gradient: Some(LowerGradient::AtZ), ..f2ba }, [1, T], [0, 2, T, 0, 0]);
    assert_cost(&F2baPlus { lower_steps: T, ..F2baPlus::default() }, [1, T], [0, 2, 2 * T, 0, 0]);
    assert_cost(&AccF2ba { lower_steps: T, ..AccF2ba::plus() }, [1, T], [0, 2, 2 * T, 0, 0]);
    assert_cost(&ProxF2ba { lower_steps: T, ..ProxF2ba::default() }, [1, T], [0, 2, 2 * T, 0, 0]);
    assert_cost(&F2sa { lower_steps: T, ..F2sa::default() }, [1, T], [0, 2, 2 * T, 0, 0]);
    assert_cost(&Meha::default(), [1, 1], [0, 2, 2, 0, 0]);
    assert_cost(&GradientNormBarrier::default(), [1, 1], [0, 0, 1, 1, 1]);
    for order in 1..=3 {
        let solver = HighOrderF2ba { order, lower_steps: T, ..HighOrderF2ba::default() };
        assert_cost(&solver, [order, order * T], [0, order + 1, (order + 1) * T, 0, 0]);
    }
    for (order, nodes, shifted) in [(2, 2, 2), (3, 4, 3), (5, 6, 5), (8, 8, 8), (10, 10, 10)] {
        let solver = F2saP { order, lower_steps: T, ..F2saP::default() };
        assert_cost(&solver, [shifted, shifted * T], [0, nodes, nodes * T, 0, 0]);
    }
}

/// The recursive estimators look at the step before too, once there is one and unless its weight is 0.
#[test]
fn recursive_momentum_costs_a_second_gradient_from_the_second_step_on() {
    let calls = |solver: &ProxF2baSingleLoop, n: u64| {
        let OracleCounts { upper, lower } = counts(solver, n);
        [upper.grad_x, upper.grad_y, lower.grad_x, lower.grad_y, upper.calls() + lower.calls()]
    };
    let momentum = ProxF2baSingleLoop::default();
    assert_eq!(
        [1, 2, 3].map(|n| calls(&momentum, n)),
        [[1, 1, 2, 2, 6], [3, 3, 6, 6, 18], [5, 5, 10, 10, 30]]
    );
    let without = ProxF2baSingleLoop { momentum: 1.0.into(), ..momentum };
    assert_eq!(calls(&without, 3), [3, 3, 6, 6, 18]);
}

/// The noise of the estimators is that of an average over 1/η batches, less what (1 − η) of the changes adds: y strays less from
/// its place (10(x + ½) + 1)/11 at the present x.
#[test]
fn recursive_momentum_lowers_the_noise() {
    let problem = means();
    let spread = |momentum: f64| {
        let solver = ProxF2baSingleLoop {
            step_x: 0.02.into(),
            momentum: momentum.into(),
            batch: Some(1),
            ..ProxF2baSingleLoop::default()
        };
        let stray = |seed: u64| {
            let report = Run::new(&problem, &solver).budget(steps(600)).start(seed).unwrap();
            report.y[0] - (10.0 * (report.x[0] + 0.5) + 1.0) / 11.0
        };
        (0..40).map(|seed| stray(seed).powi(2)).sum::<f64>().sqrt()
    };
    let (with, without) = (spread(0.05), spread(1.0));
    assert!(with < 0.7 * without, "{with} with, {without} without");
}

#[test]
fn loops_of_variable_length_cost_what_they_need() {
    // a tolerance that is never reached: the bound on the loops is their length
    let never = 1e-300;
    assert_cost(
        &AltPbgd { lower_tol: never, max_lower_steps: 7, ..AltPbgd::default() },
        [1, 7],
        [0, 2, 14, 0, 0],
    );
    let free =
        PbgdFree { drops_implicit_term: true, lower_tol: never, max_lower_steps: 7, ..PbgdFree::default() };
    assert_cost(&free, [1, 7], [0, 0, 7, 0, 0]);
    assert_cost(&Af2ba { accuracy: never, max_lower_steps: 7, ..Af2ba::default() }, [1, 7], [0, 2, 14, 0, 0]);
    // one that is: one gradient each
    let loose = AltPbgd { lower_tol: 1e3, ..AltPbgd::default() };
    assert_cost(&loose, [1, 1], [0, 2, 2, 0, 0]);
    assert_cost(&Af2ba { accuracy: 1e6, ..Af2ba::default() }, [1, 1], [0, 2, 2, 0, 0]);
}

/// g = ½ mean (y − x − a_i)², f = ½ mean (y − b_i)² + ½x²: sums over 40 and 30 terms with one lower solution.
struct Means {
    upper: Mean,
    lower: Mean,
}
/// ½ mean over i of (y − slope·x − c_i)², plus ½·pull·x².
struct Mean {
    terms: Vec<f64>,
    slope: f64,
    pull: f64,
}

impl Mean {
    fn residual(&self, x: &[f64], y: &[f64], s: Sample) -> f64 {
        let mean = match s {
            Sample::Full => self.terms.iter().sum::<f64>() / self.terms.len() as f64,
            Sample::Batch(of) => of.iter().map(|&i| self.terms[i as usize]).sum::<f64>() / of.len() as f64,
        };
        y[0] - self.slope * x[0] - mean
    }
}

impl Objective<Vec<f64>, Vec<f64>> for Mean {
    fn value(&self, x: &Vec<f64>, y: &Vec<f64>, _: Sample) -> OracleResult<f64> {
        let square = |c: &f64| 0.5 * (y[0] - self.slope * x[0] - c).powi(2);
        Ok(self.terms.iter().map(square).sum::<f64>() / self.terms.len() as f64
            + 0.5 * self.pull * x[0] * x[0])
    }
    fn grad_x(&self, x: &Vec<f64>, y: &Vec<f64>, s: Sample) -> OracleResult<Vec<f64>> {
        Ok(vec![self.pull * x[0] - self.slope * self.residual(x, y, s)])
    }
    fn grad_y(&self, x: &Vec<f64>, y: &Vec<f64>, s: Sample) -> OracleResult<Vec<f64>> {
        Ok(vec![self.residual(x, y, s)])
    }
    fn n_samples(&self) -> Option<u64> {
        Some(self.terms.len() as u64)
    }
}

impl Problem for Means {
    type X = Vec<f64>;
    type Y = Vec<f64>;
    type Upper = Mean;
    type Lower = Mean;
    fn upper(&self) -> &Mean {
        &self.upper
    }
    fn lower(&self) -> &Mean {
        &self.lower
    }
    fn start(&self, _: u64) -> (Vec<f64>, Vec<f64>) {
        (vec![0.0], vec![0.0])
    }
}

/// Terms of mean 1 (upper) and 0.5 (lower) that differ by up to 0.2.
fn means() -> Means {
    let terms = |n: u32, mean: f64| {
        (0..n).map(|i| mean + 0.2 * (2.0 * f64::from(i) / f64::from(n - 1) - 1.0)).collect()
    };
    Means {
        upper: Mean { terms: terms(30, 1.0), slope: 0.0, pull: 1.0 },
        lower: Mean { terms: terms(40, 0.5), slope: 1.0, pull: 0.0 },
    }
}

/// Runs a stochastic method on [`means`], where y(x) = x + 0.5 and F = ½(x − 0.5)² + ½x² has its minimum at 0.25; checks that
/// every call took one batch, that a run is a function of its seed, and the mean of x over the last half of the run.
fn check_stochastic<S: Solver<Means>>(solver: &S, batch: u64, n: u64, tolerance: f64) {
    let problem = means();
    let run = |seed: u64, n: u64| Run::new(&problem, solver).budget(steps(n)).start(seed).unwrap();
    let report = run(1, 50);
    let counts = report.counts;
    assert_eq!(counts.upper.samples, batch * counts.upper.calls(), "{}", S::NAME);
    assert_eq!(counts.lower.samples, batch * counts.lower.calls(), "{}", S::NAME);
    assert_eq!(run(1, 50).x, report.x);
    assert_ne!(run(2, 50).x, report.x, "{}: batches do not depend on the seed", S::NAME);
    // 20 runs; the penalty's own bias is part of the tolerance
    let mean = (0..20).map(|seed| run(seed, n).x[0]).sum::<f64>() / 20.0;
    assert!((mean - 0.25).abs() <= tolerance, "{}: {mean}", S::NAME);
}

#[test]
fn stochastic_forms_take_batches_and_find_the_minimum_in_the_mean() {
    // the spread of one batch of 8 is about 0.12/√8 = 0.04; times λ step_x, over 20 runs, it leaves about 0.01.
    // The bias of the penalty, by setting y = (λ(x + ½) + 1)/(λ + 1): the minimum at λ = 10 is 0.2381
    let (batch, lambda) = (8, 10.0);
    let f2ba = F2ba { lambda, step_x: 0.02, batch: Some(batch), batch_x: Some(batch), ..F2ba::default() };
    check_stochastic(&f2ba, batch, 600, 0.05);
    let prox = ProxF2ba { step_x: 0.02, batch: Some(batch), batch_x: Some(batch), ..ProxF2ba::default() };
    check_stochastic(&prox, batch, 600, 0.05);
    let single =
        ProxF2baSingleLoop { step_x: 0.02.into(), batch: Some(batch), ..ProxF2baSingleLoop::default() };
    check_stochastic(&single, batch, 600, 0.05);
    let growing = F2sa {
        step_x: 0.02.into(),
        step_y: 0.02.into(),
        step_z: 0.1.into(),
        lambda,
        growth: 0.01,
        batch: Some(batch),
        ..F2sa::default()
    };
    check_stochastic(&growing, batch, 600, 0.05);
    let central = F2saP { step_x: 0.02, normalises_step: false, batch: Some(batch), ..F2saP::default() };
    check_stochastic(&central, batch, 600, 0.05);
}

#[test]
fn without_noise_the_methods_for_one_lower_solution_reach_the_bias_of_their_order() {
    // min_y g + s f has the slope s(x − ½)/(1 + s) + s x in x. Its derivative in s is 2x − ½ at 0; a difference of order p
    // with nodes of size σ misses 1 − s + s² − … by about σ^p
    let problem = means();
    let x = |solver: &F2saP| Run::new(&problem, solver).budget(steps(2_000)).start(0).unwrap().x[0];
    for order in [2, 3, 5, 8, 10] {
        // averaging throws each node back at every step: loops that end at 0.5^60 undo it
        let solver = F2saP { order, normalises_step: false, lower_steps: 60, ..F2saP::default() };
        let bias = (x(&solver) - 0.25).abs();
        // nodes reach to order/2, which the constant of the remainder has to make up for
        let constant = f64::from(order as u32 / 2 + 1).powi(order as i32 / 2);
        assert!(bias <= constant * 0.1f64.powi(order as i32) + 1e-13, "order {order}: {bias:e}");
    }
    // exactly, for order 2: (x − ½)/(1 − σ²) + x = 0
    let second = F2saP { normalises_step: false, lower_steps: 60, ..F2saP::default() };
    assert!((x(&second) - 0.5 / (2.0 - 0.01)).abs() <= 1e-13);
    // a step of fixed length circles the minimum within that length
    let normalised = F2saP { step_x: 0.01, lower_steps: 60, ..F2saP::default() };
    assert!((x(&normalised) - 0.25).abs() <= 0.01 + 0.002);

    // (x − ½)λ/(1 + λ) + x = 0 at the λ reached, which still grows
    let growing = F2sa { step_x: 0.02.into(), step_y: 0.02.into(), step_z: 0.1.into(), ..F2sa::default() };
    let report = Run::new(&problem, &growing).budget(steps(20_000)).start(0).unwrap();
    let lambda = report.last.unwrap().extras[0].1;
    // Σ 0.1/(k + 1)^(6/7) ≈ 0.7·20 000^(1/7) + 0.1 ζ(6/7), ζ(6/7) = −6.43
    assert!((lambda - 1.0 - (0.7 * 20_000f64.powf(1.0 / 7.0) - 0.643)).abs() < 1e-3, "{lambda}");
    assert!((report.x[0] - 0.5 / (2.0 + 1.0 / lambda)).abs() <= 1e-4, "{:?} {lambda}", report.x);
}

/// Validation names the field of every setting that is out of range, before any oracle is called.
fn assert_refused<S: Solver<Zoo> + DeserializeOwned>(cases: &[(&str, Value)]) {
    for (field, value) in cases {
        let mut table = serde_json::Map::new();
        if S::NAME == "pbgd-free" {
            table.insert("drops_implicit_term".into(), json!(true));
        }
        table.insert((*field).to_owned(), value.clone());
        let solver: S = serde_json::from_value(Value::Object(table)).unwrap();
        let error = solver.validate().expect_err(&format!("{} {field} = {value}", S::NAME));
        assert!(error.field == *field || error.field.starts_with(&format!("{field}.")), "{error}");
    }
    let unknown = serde_json::from_value::<S>(json!({"no_such_setting": 1}));
    assert!(unknown.is_err_and(|error| error.to_string().contains("no_such_setting")), "{}", S::NAME);
}

#[test]
fn settings_out_of_range_name_the_field() {
    let positive = |names: &[&'static str]| -> Vec<(&'static str, Value)> {
        names.iter().flat_map(|name| [(*name, json!(0.0)), (*name, json!(-1.0))]).collect()
    };
    let common = |more: &[(&'static str, Value)]| {
        let mut all = positive(&["step_x", "tol"]);
        all.extend_from_slice(more);
        all
    };
    let three = positive(&["lambda", "step_y", "step_z"]);
    let loops = ("lower_steps", json!(0));
    assert_refused::<PenalisedGradient>(&common(&[&three[..], std::slice::from_ref(&loops)].concat()));
    assert_refused::<VPbgd>(&common(&[&three[..], &[loops.clone(), ("ramp_steps", json!(0))]].concat()));
    assert_refused::<F2ba>(&common(
        &[&three[..], &[loops.clone(), ("batch", json!(0)), ("batch_x", json!(0))]].concat(),
    ));
    assert_refused::<F2baPlus>(&common(&[&three[..], &[("lower_momentum", json!(1.0))]].concat()));
    assert_refused::<AccF2ba>(&common(
        &[
            &three[..],
            &positive(&["restart", "restart_floor", "restart_decay"]),
            &[("momentum", json!(1.0)), ("lower_momentum", json!(-0.1)), ("restart_decay", json!(1.1))],
        ]
        .concat(),
    ));
    assert_refused::<Bome>(&common(
        &[
            &positive(&["step_y", "step_z", "eta", "floor"])[..],
            &[loops.clone(), ("momentum", json!(1.0)), ("momentum_z", json!(-0.5))],
        ]
        .concat(),
    ));
    assert_refused::<GPbgd>(&common(
        &[&positive(&["lambda", "step_y"])[..], &[("ramp_steps", json!(0))]].concat(),
    ));
    assert_refused::<SlmReconstructed>(
        &[
            &positive(&["prox_weight", "step", "step_lambda", "step_z", "smoothing", "lambda_max", "tol"])[..],
            &[loops.clone(), ("leak", json!(1.0)), ("slack", json!(-1.0)), ("smoothing", json!(1.5))],
        ]
        .concat(),
    );
    assert_refused::<ProxF2ba>(&common(
        &[
            &positive(&["sigma", "step_y", "step_z", "rho", "beta"])[..],
            &[loops.clone(), ("beta", json!(1.5)), ("batch", json!(0)), ("batch_x", json!(0))],
        ]
        .concat(),
    ));
    assert_refused::<HighOrderF2ba>(&common(
        &[&positive(&["sigma", "step_y"])[..], &[loops.clone(), ("order", json!(0)), ("order", json!(4))]]
            .concat(),
    ));
    assert_refused::<Af2ba>(
        &[&positive(&["sigma", "accuracy", "initial", "tol"])[..], &[("max_lower_steps", json!(0))]].concat(),
    );
    let negative = json!({"schedule": "constant", "value": -1.0});
    assert_refused::<F2sa>(&[
        ("step_x", negative.clone()),
        ("step_y", negative.clone()),
        ("step_z", negative),
        ("lambda", json!(0.0)),
        ("growth", json!(-0.1)),
        ("growth_power", json!(-1.0)),
        loops.clone(),
        ("batch", json!(0)),
        ("tol", json!(0.0)),
    ]);
    assert_refused::<ProxF2baSingleLoop>(
        &[
            &positive(&["step_x", "step_y", "step_z", "sigma", "beta", "momentum"])[..],
            &[("beta", json!(1.5)), ("momentum", json!(1.5)), ("batch", json!(0))],
        ]
        .concat(),
    );
    assert_refused::<F2saP>(&common(
        &[
            &positive(&["sigma", "step_y", "max_norm"])[..],
            &[loops, ("order", json!(1)), ("order", json!(4)), ("batch", json!(0))],
        ]
        .concat(),
    ));
    assert_refused::<Meha>(&common(
        &[
            &positive(&["gamma", "weight", "step_y", "step_z"])[..],
            &[("exponent", json!(0.5)), ("exponent", json!(-0.1))],
        ]
        .concat(),
    ));
    let alternating =
        [&positive(&["lambda", "step_y", "lower_tol"])[..], &[("max_lower_steps", json!(0))]].concat();
    assert_refused::<AltPbgd>(&common(&[&alternating[..], &positive(&["step_z"])].concat()));
    assert_refused::<PbgdFree>(&[&alternating[..], &positive(&["step_x"])].concat());
    assert_refused::<GradientNormBarrier>(&common(&positive(&["decrease", "step_y", "floor"])));
}

#[test]
fn pbgd_free_has_to_be_asked_for() {
    let error = Solver::<Zoo>::validate(&PbgdFree::default()).unwrap_err();
    assert_eq!(error.field, "drops_implicit_term");
    assert!(error.remedy.contains("alt-pbgd"), "{error}");
}

#[test]
fn a_tolerance_ends_the_run_where_it_is_met() {
    let solver = F2ba { tol: Some(1e-6), ..F2ba::default() };
    let report = Run::new(&tiny(), &solver).budget(steps(20_000)).start(0).unwrap();
    assert_eq!(report.status.name(), "LocallyConverged");
    assert!(report.last.unwrap().stationarity <= 1e-6 && report.steps < 20_000);
}
