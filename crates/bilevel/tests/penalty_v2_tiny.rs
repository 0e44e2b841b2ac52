//! Where the penalty methods end on the PŁ game V2-tiny, which has no random numbers, and what the released codes make of it.

use bilevel::{
    Budget, Run, Solver, Status,
    problems::{self, Parameters, Zoo},
    solvers::{
        acc_f2ba::AccF2ba,
        af2ba::Af2ba,
        alt_pbgd::AltPbgd,
        bome::Bome,
        f2ba::F2ba,
        f2ba_plus::F2baPlus,
        f2sa_p::F2saP,
        g_pbgd::GPbgd,
        gradient_norm_barrier::GradientNormBarrier,
        high_order_f2ba::HighOrderF2ba,
        meha::Meha,
        pbgd_free::PbgdFree,
        penalised_gradient::PenalisedGradient,
        penalty::{Variant, ZStart},
        prox_f2ba::ProxF2ba,
        prox_f2ba_single_loop::ProxF2baSingleLoop,
        slm_reconstructed::SlmReconstructed,
        v_pbgd::VPbgd,
    },
};

/// Where a run ended: (x, y), |∇φ(x)|, and the first number that the solver reports of itself, its λ.
#[derive(Debug)]
struct End {
    x: Vec<f64>,
    y: Vec<f64>,
    optimistic: f64,
    lambda: f64,
}

fn steps(n: u64) -> Budget {
    Budget { steps: Some(n), ..Budget::default() }
}

fn tiny() -> Zoo {
    problems::by_name("pl-game-v2-tiny", &Parameters::new()).unwrap()
}

fn end<S: Solver<Zoo>>(solver: &S, n: u64) -> End {
    let zoo = tiny();
    let report = Run::new(&zoo, solver).budget(steps(n)).start(0).unwrap();
    assert_eq!((&report.status, report.steps), (&Status::OutOfSteps, n), "{}", S::NAME);
    let optimistic = zoo.gradient_norms(&report.x, &report.y).optimistic.unwrap();
    let lambda = report.last.unwrap().extras[0].1;
    End { x: report.x, y: report.y, optimistic, lambda }
}

/// Half a unit of the last of ten printed decimals.
const PRINTED: f64 = 0.5001e-10;

fn assert_printed(what: &str, got: &[f64], printed: &[f64]) {
    assert_eq!(got.len(), printed.len());
    for (g, p) in got.iter().zip(printed) {
        assert!((g - p).abs() <= PRINTED, "{what}: {got:.12?}, printed {printed:.10?}");
    }
}
/// Printed to `digits` significant digits.
fn assert_significant(what: &str, got: f64, printed: f64, digits: i32) {
    let unit = 10f64.powi(printed.abs().log10().floor() as i32 + 1 - digits);
    assert!((got - printed).abs() <= 0.501 * unit, "{what}: {got:e}, printed {printed:e}");
}
/// "About": a number of a run at the edge of stability, which goes on swinging by a tenth of itself.
fn assert_about(what: &str, got: f64, printed: f64) {
    assert!((got / printed - 1.0).abs() <= 0.1, "{what}: {got:e}, printed about {printed:e}");
}

/// The penalty limit at this λ: x, y and |∇φ|.
fn assert_penalty_limit(what: &str, end: &End, lambda: u32) {
    let (x, y, optimistic) = match lambda {
        10 => (
            [-2.1328176625, 3.5418072029, -2.5930249745],
            [1.5098644795, -1.2788276503, 6.2747238740],
            3.587424e-2,
        ),
        100 => (
            [-2.0916838867, 3.5017350237, -2.5842124745],
            [1.5386854863, -1.1904856933, 6.2298208062],
            3.841437e-3,
        ),
        1000 => (
            [-2.0873012085, 3.4975005489, -2.5833290614],
            [1.5416979405, -1.1810698438, 6.2250853434],
            3.868587e-4,
        ),
        _ => unreachable!("no printed limit"),
    };
    assert_printed(&format!("{what} x"), &end.x, &x);
    assert_printed(&format!("{what} y"), &end.y, &y);
    assert_significant(&format!("{what} |dphi|"), end.optimistic, optimistic, 7);
}

#[test]
fn f2ba_ends_at_the_penalty_limit() {
    // the errors of y and z enter x multiplied by λ: λ = 1000 needs longer loops than 10
    for (lambda, lower_steps) in [(10, 10), (100, 10), (1000, 100)] {
        let solver = F2ba { lambda: f64::from(lambda), lower_steps, ..F2ba::default() };
        assert_penalty_limit("f2ba", &end(&solver, 20_000), lambda);
    }
    // published and library form are one
    let published = F2ba { variant: Variant::AsPublished, ..F2ba::default() };
    assert_eq!(end(&published, 300).x, end(&F2ba::default(), 300).x);
}

#[test]
fn accelerated_f2ba_ends_at_the_penalty_limit() {
    for lambda in [10, 100] {
        let weight = f64::from(lambda);
        assert_penalty_limit(
            "plus",
            &end(&F2baPlus { lambda: weight, ..F2baPlus::default() }, 20_000),
            lambda,
        );
        assert_penalty_limit("acc", &end(&AccF2ba { lambda: weight, ..AccF2ba::default() }, 20_000), lambda);
        assert_penalty_limit(
            "acc plus",
            &end(&AccF2ba { lambda: weight, ..AccF2ba::plus() }, 20_000),
            lambda,
        );
    }
}

#[test]
fn the_other_methods_of_the_value_gap_end_at_the_penalty_limit() {
    assert_penalty_limit("prox-f2ba", &end(&ProxF2ba::default(), 20_000), 10);
    // exact gradients: the estimators are the gradients, whatever their momentum
    assert_penalty_limit("single loop", &end(&ProxF2baSingleLoop::default(), 20_000), 10);
    assert_penalty_limit("v-pbgd", &end(&VPbgd::default(), 20_000), 10);
    assert_penalty_limit("template", &end(&PenalisedGradient::default(), 20_000), 10);
    let alternating =
        AltPbgd { step_x: 0.1, step_y: 0.5, step_z: 0.5, lower_tol: 1e-12, ..AltPbgd::default() };
    assert_penalty_limit("alt-pbgd", &end(&alternating, 5_000), 10);
    let accelerated = Af2ba { accelerated: true, ..Af2ba::default() };
    assert_penalty_limit("a2f2ba", &end(&accelerated, 5_000), 10);
}

#[test]
fn prox_f2ba_at_a_tenth_of_sigma_needs_more_steps_for_the_same_limit() {
    // the kernel part of y goes βσ/2 = 0.0025 of its way in a step, slower than x: 20 000 steps leave 3e-8
    let solver = ProxF2ba { sigma: 0.01, ..ProxF2ba::default() };
    assert_penalty_limit("prox-f2ba", &end(&solver, 40_000), 100);
}

#[test]
fn af2ba_comes_near_the_penalty_limit_with_steps_that_shrink() {
    let end = end(&Af2ba::default(), 20_000);
    // the accuracy of its lower loops is 1/20 000 here, and is multiplied by λ
    let limit = [-2.1328176625, 3.5418072029, -2.5930249745];
    let distance = end.x.iter().zip(limit).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    assert!(distance <= 10.0 * 10.0 / 20_000.0, "{end:?}: {distance:e}");
}

#[test]
fn released_f2ba_is_wrong_by_the_printed_amount() {
    for (lambda, printed) in [(10.0, 0.577), (100.0, 0.647)] {
        let solver = F2ba { lambda, variant: Variant::AsReleased, ..F2ba::default() };
        assert_significant("released", end(&solver, 20_000).optimistic, printed, 3);
    }
}

#[test]
fn g_pbgd_ends_at_a_limit_of_its_own() {
    for (lambda, step, n, x, optimistic) in [
        (10.0, 0.05, 20_000, [-2.1659117525, 3.5578760513, -2.5745259627], 8.199837e-2),
        (100.0, 0.01, 40_000, [-2.0955948025, 3.5036822547, -2.5821027465], 9.240200e-3),
    ] {
        let solver = GPbgd { lambda, step_x: step, step_y: step, ..GPbgd::default() };
        let end = end(&solver, n);
        assert_printed("g-pbgd", &end.x, &x);
        assert_significant("g-pbgd", end.optimistic, optimistic, 7);
    }
}

#[test]
fn one_sided_orders_end_at_their_printed_points() {
    let solver = |order| HighOrderF2ba { order, sigma: 0.1, ..HighOrderF2ba::default() };
    let first = end(&solver(1), 20_000);
    assert_printed("order 1", &first.x, &[-2.1328176625, 3.5418072029, -2.5930249745]);
    for (order, x, optimistic) in [
        (2, [-2.0936776858, 3.5024318702, -2.5826687625], 6.957615e-3),
        (3, [-2.0883107004, 3.4980341031, -2.5828334412], 1.750749e-3),
    ] {
        let end = end(&solver(order), 20_000);
        assert_printed("one-sided", &end.x, &x);
        assert_significant("one-sided", end.optimistic, optimistic, 7);
    }
}

/// z reset to y leaves a bias of the unfinished loop.
#[test]
fn a_reset_z_ends_off_the_penalty_limit() {
    let v_pbgd = VPbgd { lower_steps: 10, variant: Variant::AsPublished, ..VPbgd::default() };
    assert_significant("v-pbgd reset", end(&v_pbgd, 20_000).optimistic, 5.76e-2, 3);
    // which is the template with equal steps
    let template = PenalisedGradient { z_start: ZStart::Reset, ..PenalisedGradient::default() };
    assert_eq!(end(&template, 500).x, end(&v_pbgd, 500).x);
}

#[test]
fn bome_ends_at_the_edge_of_stability() {
    let persistent = Bome { step_z: 0.5, ..Bome::default() };
    let found = end(&persistent, 20_000);
    assert_about("bome", found.optimistic, 1.1e-2);
    assert_about("bome lambda", found.lambda, 37.7);
    let found = end(&Bome { step_x: 0.01, step_y: 0.01, ..persistent.clone() }, 100_000);
    assert_about("bome, small steps", found.optimistic, 2.1e-3);
    assert_about("bome, small steps, lambda", found.lambda, 189.4);
    let found = end(&Bome { variant: Variant::AsPublished, ..persistent }, 20_000);
    assert_about("bome reset", found.optimistic, 3.6e-2);
}

#[test]
fn the_reconstructed_slm_ends_at_the_lambda_of_its_leak() {
    for (leak, optimistic, lambda) in [(1e-3, 0.227, 0.842), (1e-4, 0.128, 2.220)] {
        let solver = SlmReconstructed { leak, prox_weight: 123.0, ..SlmReconstructed::default() };
        let end = end(&solver, 200_000);
        assert_significant("slm", end.optimistic, optimistic, 3);
        assert_significant("slm lambda", end.lambda, lambda, if leak < 5e-4 { 4 } else { 3 });
    }
}

#[test]
fn meha_comes_as_near_as_its_weight_has_grown() {
    for (exponent, optimistic, weight) in [(0.25, 0.145, 11.9), (0.49, 0.017, 128.0)] {
        let end = end(&Meha { exponent, ..Meha::default() }, 20_000);
        assert_significant("meha", end.optimistic, optimistic, if exponent < 0.3 { 3 } else { 2 });
        assert_significant("meha weight", end.lambda, weight, 3);
    }
}

#[test]
fn the_gradient_norm_barrier_ends_like_bome() {
    let end = end(&GradientNormBarrier::default(), 200_000);
    assert_about("barrier", end.optimistic, 4.1e-3);
    assert_about("barrier multiplier", end.lambda, 112.0);
}

#[test]
fn pbgd_free_ends_somewhere_else() {
    let solver = PbgdFree {
        drops_implicit_term: true,
        step_x: 0.1,
        step_y: 0.5,
        lower_tol: 1e-12,
        ..PbgdFree::default()
    };
    assert_significant("pbgd-free", end(&solver, 20_000).optimistic, 0.60, 2);
}

#[test]
fn central_differences_in_the_weight_run_off_with_a_status_that_says_so() {
    let zoo = tiny();
    // |y_0| = 1, so that half of 1e8 is meant by 1e8
    let plain = F2saP { normalises_step: false, max_norm: 0.5e8, ..F2saP::default() };
    let report = Run::new(&zoo, &plain).budget(steps(20_000)).start(0).unwrap();
    let Status::PenaltyUnbounded { weight, norm } = report.status else { panic!("{}", report.status) };
    assert!(weight == -0.1 && norm > 1e8, "{weight} {norm:e}");
    // step 75 counted from 0
    assert_eq!(report.steps, 76);
    for order in [2, 3, 5, 8, 10] {
        let solver = F2saP { order, ..F2saP::default() };
        let report = Run::new(&zoo, &solver).budget(steps(20_000)).start(0).unwrap();
        assert_eq!(report.status.name(), "PenaltyUnbounded", "order {order}");
        assert!(report.status.to_string().contains("high-order-f2ba"));
    }
}
