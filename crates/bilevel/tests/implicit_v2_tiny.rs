//! Where the implicit methods end on the PŁ game V2-tiny, which has no random numbers.

use bilevel::{
    Budget, Run, Solver, State, Status,
    linear::{AnyLinear, lsmr::Lsmr},
    problems::{self, Parameters, Zoo},
    solvers::{
        adapag::{Adapag, Estimator},
        ba::{Ba, Growth, Inverse, Order},
        galet::Galet,
        hjfbio::{Hjfbio, Projections},
        implicit::{Clip, Direction, VStart},
        lancbio::{Lancbio, SubspaceSolve},
        mgbio::{Mgbio, Momentum},
        penalty::Variant,
        residual_corrected::ResidualCorrected,
        soba::Soba,
        subbio::Subbio,
    },
};

const STEPS: u64 = 20_000;
const SELECTED_X: [f64; 3] = [0.3677266910, -0.1856683404, -0.0137015523];
const SELECTED_Y: [f64; 3] = [-0.0880017065, -0.1518492993, -1.0];
const SELECTED_V: [f64; 3] = [-0.4495093696, 0.6975977159, 0.0];
const OPTIMISTIC_X: [f64; 3] = [-2.0868110222, 3.4970273398, -2.5832308898];
const OPTIMISTIC_Y: [f64; 3] = [1.5420342054, -1.1800166785, 6.2245562577];
const OPTIMISTIC_V: [f64; 3] = [0.5113227080, 1.1195102839, 0.0];

/// Where a run ended.
#[derive(Debug)]
struct End {
    x: Vec<f64>,
    y: Vec<f64>,
    /// The solver's state as it would be written to a checkpoint.
    state: serde_json::Value,
    /// |∇F_n(x)|.
    selected: f64,
    /// |∇φ(x)|.
    optimistic: f64,
}

impl End {
    fn v(&self) -> Vec<f64> {
        self.state["v"].as_array().unwrap().iter().map(|entry| entry.as_f64().unwrap()).collect()
    }
}

fn tiny() -> Zoo {
    problems::by_name("pl-game-v2-tiny", &Parameters::new()).unwrap()
}

fn end_after<S: Solver<Zoo>>(solver: &S, steps: u64) -> End {
    let zoo = tiny();
    let budget = Budget { steps: Some(steps), ..Budget::default() };
    let report = Run::new(&zoo, solver).budget(budget).start(0).unwrap();
    assert_eq!((&report.status, report.steps), (&Status::OutOfSteps, steps), "{}", S::NAME);
    let norms = zoo.gradient_norms(&report.x, &report.y);
    let state = report.checkpoint.unwrap().state;
    assert_eq!(state.iterate().0, &report.x);
    End {
        x: report.x,
        y: report.y,
        state: serde_json::to_value(&state).unwrap(),
        selected: norms.selected.unwrap(),
        optimistic: norms.optimistic.unwrap(),
    }
}
fn end<S: Solver<Zoo>>(solver: &S) -> End {
    end_after(solver, STEPS)
}

/// Half a unit of the last of ten printed decimals.
fn assert_printed(what: &str, got: &[f64], printed: &[f64]) {
    assert_eq!(got.len(), printed.len());
    for (g, p) in got.iter().zip(printed) {
        assert!((g - p).abs() <= 0.501e-10, "{what}: {got:.12?}, printed {printed:.10?}");
    }
}
/// Printed to `digits` significant digits.
fn assert_significant(what: &str, got: f64, printed: f64, digits: i32) {
    let unit = 10f64.powi(printed.abs().log10().floor() as i32 + 1 - digits);
    assert!((got - printed).abs() <= 0.501 * unit, "{what}: {got:e}, printed {printed:e}");
}
/// The selected limit, "to 1e-13 or better", with the printed digits and |∇φ| there.
fn assert_selected(what: &str, end: &End) {
    assert!(end.selected <= 1e-13, "{what}: |dF_n| = {:e}", end.selected);
    assert_printed(&format!("{what} x"), &end.x, &SELECTED_X);
    assert_printed(&format!("{what} y"), &end.y, &SELECTED_Y);
    assert_significant(&format!("{what} |dphi|"), end.optimistic, 1.2058376594, 11);
}

fn exact(tolerance: f64) -> AnyLinear {
    AnyLinear::Lsmr(Lsmr { tolerance, ..Lsmr::default() })
}

fn ba() -> Ba {
    Ba { growth: Growth::Constant, lower_steps: 10, linear: exact(1e-15), ..Ba::default() }
}
fn mgbio(mu: f64) -> Mgbio {
    Mgbio { mu, smoothness: 1.0, ..Mgbio::default() }
}
fn galet(v_start: VStart) -> Galet {
    Galet { step_y: 0.5, step_v: 0.5, lower_steps: 5, v_steps: 3, v_start, ..Galet::default() }
}
fn hjfbio() -> Hjfbio {
    Hjfbio { step_y: 0.5, step_v: 0.5, ..Hjfbio::default() }
}

#[test]
fn ba_ends_at_the_selected_point() {
    let at = end(&ba());
    assert_selected("ba", &at);
    assert_printed("ba v", &at.v(), &SELECTED_V);
    let warm = Ba { v_start: VStart::Warm, ..ba() };
    assert_selected("ba warm", &end(&warm));
    // MINRES gives the least-squares solution of least norm as well
    let minres = Ba { linear: AnyLinear::default(), ..ba() };
    assert!(end_after(&minres, 2_000).selected <= 1e-9);
    assert_selected("ba, x first", &end(&Ba { order: Order::XThenY, ..ba() }));
    let grown = Ba { growth: Growth::Convex, ..ba() };
    assert_selected("ba, growing loops", &end_after(&grown, 2_000));
}

#[test]
fn accelerated_ba_is_faster_and_ends_at_the_selected_point() {
    let accelerated = Ba { accelerated: true, step_x: 0.1, ..ba() };
    // an accelerated gradient method without restart falls like 1/k²
    let slow = end_after(&Ba { step_x: 0.005, ..ba() }, 300).selected;
    let fast = end_after(&Ba { step_x: 0.005, ..accelerated.clone() }, 300).selected;
    assert!(fast < 0.2 * slow, "{fast:e}, plain {slow:e}");
    assert!(end(&accelerated).selected <= 1e-7);
}

#[test]
fn the_random_neumann_series_of_bsa_is_right_on_average_in_the_range() {
    // V2-tiny has no samples: only q is random. Averaged over q the series is step_v Σ_{j<b}(I − step_v H)^j, in the range of
    // H within (1 − step_v λ)^b of its inverse, 0.75^40 = 1e-5; steps that fall like 1/√k average it.
    let bsa = Ba { inverse: Inverse::RandomNeumann, terms: 40, decay: 0.5, step_x: 0.05, ..ba() };
    let at = end(&bsa);
    assert!(at.selected < 0.05, "{:e}", at.selected);
    assert!(end(&Ba { terms: 1, ..bsa }).selected > 0.2);
}

#[test]
fn mgbio_and_adapag_end_at_the_selected_point() {
    assert_selected("mgbio", &end(&mgbio(0.5)));
    assert_selected("mgbio non-zero", &end(&Mgbio { clip: Clip::NonZero, ..mgbio(1e-3) }));
    let adapag = Adapag { mu: 0.5, smoothness: 1.0, ..Adapag::default() };
    let at = end(&adapag);
    assert_selected("adapag", &at);
    // the two agree to rounding
    let gap = at.x.iter().zip(&end(&mgbio(0.5)).x).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(gap <= 1e-14, "{gap:e}");
    // on one deterministic term the differences of spider add up to the derivative itself
    assert_selected("adavspag", &end(&Adapag { estimator: Estimator::Spider, ..adapag }));
}

#[test]
fn the_momentum_forms_of_mgbio_tend_to_the_selected_point() {
    // β = mix: averages of a converging sequence converge with it, as fast as Σ mix grows: t^(1/2), t^(2/3)
    for (momentum, bound) in [(Momentum::MovingAverage, 1e-4), (Momentum::Storm, 1e-12)] {
        let solver = Mgbio { momentum, ..mgbio(0.5) };
        let at = end_after(&solver, 5_000);
        assert!(at.selected <= bound, "{momentum:?}: {:e}", at.selected);
    }
}

#[test]
fn a_clip_above_the_spectrum_is_biased_as_printed() {
    let at = end(&mgbio(0.7));
    assert_printed("x", &at.x, &[0.3305393458, -0.2309078215, 0.0226867260]);
    assert_significant("|dF_n|", at.selected, 8.8256e-2, 5);
}

#[test]
fn galet_needs_a_warm_start() {
    assert_selected("warm", &end(&galet(VStart::Warm)));
    let cold = end(&galet(VStart::Zero));
    assert_printed("cold x", &cold.x, &[0.2900648529, -0.3183830813, 0.1073767818]);
    assert_significant("cold |dF_n|", cold.selected, 2.3439e-1, 5);
}

#[test]
fn hjfbio_without_a_ball_ends_at_the_selected_point_with_a_drifting_v() {
    let free = Hjfbio { projections: Some(Projections::None), ..hjfbio() };
    let at = end(&free);
    // rounding of the differences along v: ε|∇g|/2δ with δ = 6e-6(1 + |y|)/|v|, that is 1e-11·|v|
    assert!(at.selected <= 1.4e-7, "{:e}", at.selected);
    for (got, printed) in at.x.iter().zip(SELECTED_X) {
        assert!((got - printed).abs() <= 1.4e-7, "{got} {printed}");
    }
    assert!((at.v()[2] + 13_742.0).abs() < 0.5, "v = {:?}", at.v());
}

#[test]
fn the_ball_of_hjfbio_biases_it_as_printed() {
    for (v_radius, printed) in [(1000.0, 8.5e-4), (10.0, 7.1e-2)] {
        let at = end(&Hjfbio { v_radius, ..hjfbio() });
        assert_significant(&format!("r_v {v_radius}"), at.selected, printed, 2);
    }
}

#[test]
fn the_least_squares_direction_of_hjfbio_ends_at_the_selected_point() {
    // g is quadratic, so a long radius is as right as a short one, and free of its rounding
    let at = end(&Hjfbio { direction: Direction::LeastSquares, fd_radius: Some(1.0), ..hjfbio() });
    assert_selected("hjfbio", &at);
    // the default radius leaves the rounding ε/2δ, 1e-11
    let short = end(&Hjfbio { direction: Direction::LeastSquares, ..hjfbio() });
    assert!(short.selected <= 1e-11, "{:e}", short.selected);
    assert_printed("v", &at.v(), &SELECTED_V);
    let released = Hjfbio { variant: Variant::AsReleased, direction: Direction::LeastSquares, ..hjfbio() };
    // the kernel part of a random start of v stays, and does no harm
    assert!(end(&released).selected <= 1e-9);
}

#[test]
fn the_residual_corrected_step_ends_at_the_optimistic_point() {
    let at = end(&ResidualCorrected::default());
    assert!(at.optimistic <= 1e-13, "{:e}", at.optimistic);
    assert_printed("x", &at.x, &OPTIMISTIC_X);
    assert_printed("y", &at.y, &OPTIMISTIC_Y);
    assert_printed("v", &at.v(), &OPTIMISTIC_V);
    assert_selected(
        "without it",
        &end(&ResidualCorrected { step_residual: 0.0, ..ResidualCorrected::default() }),
    );
    // stable for 2, unstable for 3
    let stable = ResidualCorrected { step_residual: 2.0, ..ResidualCorrected::default() };
    assert!(end_after(&stable, 5_000).optimistic <= 1e-10);
    let zoo = tiny();
    let unstable = ResidualCorrected { step_residual: 3.0, ..ResidualCorrected::default() };
    let budget = Budget { steps: Some(STEPS), ..Budget::default() };
    let report = Run::new(&zoo, &unstable).budget(budget).start(0).unwrap();
    assert!(matches!(report.status, Status::NonFinite { .. }), "{}", report.status);
}

#[test]
fn soba_and_the_subspace_methods_end_at_the_selected_point() {
    let soba = Soba { decay: 0.0, step_y: 0.5, step_v: 0.5, ..Soba::default() };
    assert_selected("soba", &end(&soba));
    assert_selected(
        "soba, least squares",
        &end(&Soba { direction: Direction::LeastSquares, ..soba.clone() }),
    );
    assert_selected("ma-soba", &end(&Soba { averaging: 0.3, ..soba }));
    assert_selected("lancbio", &end(&Lancbio { step_y: 0.5, ..Lancbio::default() }));
    assert_selected("subbio", &end(&Subbio { step_y: 0.5, ..Subbio::default() }));
    // the Galerkin condition couples the range to what lies outside it
    let published = Subbio { step_y: 0.5, solve: SubspaceSolve::Galerkin, ..Subbio::default() };
    assert!(end(&published).selected > 1e-3);
}
