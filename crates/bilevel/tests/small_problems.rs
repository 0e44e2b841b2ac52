//! The toys of the released codes: what the methods that they were made for find on them.

use bilevel::{
    Budget, Report, Run, Solver, State,
    problems::{self, Parameters, Zoo, bome_coreset::BomeCoreset},
    rng::Stream,
    solvers::{
        alt_pbgd::AltPbgd, ba::Ba, bome::Bome, f2ba::F2ba, g_pbgd::GPbgd, high_order_f2ba::HighOrderF2ba,
        pbgd_free::PbgdFree, penalty::Variant, v_pbgd::VPbgd,
    },
};

type V = Vec<f64>;

fn zoo(name: &str) -> Zoo {
    problems::by_name(name, &Parameters::new()).unwrap()
}

fn run<S: Solver<Zoo>>(problem: &Zoo, solver: &S, steps: u64, seed: u64) -> Report<V, V, S::State>
where
    S::State: State<V, V>,
{
    Run::new(problem, solver).budget(Budget::steps(steps)).start(seed).unwrap()
}

fn assert_near(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= tolerance, "{what}: {got:?}, expected {expected:?}");
    }
}

/// V-PBGD at the settings of the toy. Its script knows that min g = 0; here a loop of z takes that place, long enough to be
/// finished, which leaves the trajectory of (x, y) what it is there.
fn toy_solver(lambda: f64, tol: f64) -> VPbgd {
    let step = 0.1 / lambda;
    VPbgd {
        lambda,
        step_x: step,
        step_y: step,
        step_z: 0.1,
        lower_steps: 50,
        tol: Some(tol),
        ..VPbgd::default()
    }
}

fn toy(released: bool) -> Zoo {
    let flag = f64::from(u8::from(released));
    problems::by_name("pbgd-toy", &[("released_gradient".to_owned(), flag)].into()).unwrap()
}

#[test]
fn v_pbgd_ends_at_the_printed_points_of_its_toy() {
    // starts on F's own stationary points
    let starts = [0.38236007, 1.21514548, 2.82964180];
    for (released, lambda, ends) in [
        (
            false,
            10.0,
            [[0.3669719383, -0.3335197913], [1.188492533, -1.213024319], [2.823998306, -2.829559517]],
        ),
        (
            false,
            100.0,
            [[0.3809096103, -0.3783142107], [1.212569392, -1.214945746], [2.829079790, -2.829633627]],
        ),
        (
            true,
            10.0,
            [[0.3064151159, -0.2677065395], [1.191299718, -1.215124023], [2.823998311, -2.829559522]],
        ),
    ] {
        for (start, [x, y]) in starts.into_iter().zip(ends) {
            let problem = toy(released).starting_at(vec![start]).with_seeds(vec![vec![-start]]);
            let report = run(&problem, &toy_solver(lambda, 1e-11), 100_000, 0);
            assert_eq!(report.status.name(), "LocallyConverged");
            // half a unit of nine decimals
            assert_near("toy", &[report.x[0], report.y[0]], &[x, y], 0.51e-9);
        }
    }
}

/// Shares of the three ends and mean steps over 300 random starts.
fn census(released: bool) -> ([u32; 3], f64) {
    let ends = if released { [0.3064, 1.1913, 2.8240] } else { [0.3670, 1.1885, 2.8240] };
    let mut stream = Stream::new(7, 0);
    let (mut shares, mut steps) = ([0; 3], 0);
    for seed in 0..300 {
        let problem = toy(released).starting_at(vec![3.5 * stream.uniform()]);
        let report = run(&problem, &toy_solver(10.0, 1e-5), 20_000, seed);
        assert_eq!(report.status.name(), "LocallyConverged", "start {seed}");
        let found = ends.iter().position(|end| (report.x[0] - end).abs() < 1e-4);
        shares[found.expect("one of the three ends")] += 1;
        steps += report.steps;
    }
    (shares, steps as f64 / 300.0)
}

#[test]
fn random_starts_of_the_toy_share_out_as_printed() {
    let (shares, steps) = census(false);
    // three standard errors of a share of 300: 8 % at 64 %, 7 % at 18 %
    for (share, (printed, error)) in shares.iter().zip([(0.64, 0.08), (0.18, 0.07), (0.18, 0.07)]) {
        assert!((f64::from(*share) / 300.0 - printed).abs() <= error, "{shares:?}");
    }
    // the mean follows the shares, whose basins differ in their speed
    assert!((steps / 336.2 - 1.0).abs() <= 0.05, "{steps}");
    let (_, steps) = census(true);
    assert!((steps / 258.6 - 1.0).abs() <= 0.05, "{steps}");
}

fn published(eta: f64, step: f64, lower_steps: u64) -> Bome {
    Bome {
        variant: Variant::AsPublished,
        eta,
        step_x: step,
        step_y: step,
        step_z: step,
        lower_steps,
        ..Bome::default()
    }
}

#[test]
fn bome_ends_at_the_printed_values_of_its_coreset() {
    let problem = zoo("bome-coreset");
    for seed in 0..3 {
        let report = run(&problem, &published(0.5, 0.05, 10), 5_000, seed);
        let (x, y) = (&report.x, &report.y);
        // printed with two, three and four digits; the three starts agree to 4e-4
        assert_near("y", y, &[1.82, 0.385], 0.005);
        assert_near("f", &[problem.formulas().f(x, y)], &[0.709], 1e-3);
        let on_s = BomeCoreset::mean(x);
        assert_near("f at the softmax point", &[problem.formulas().f(x, &on_s)], &[0.7265], 2e-4);
        assert_near("gap", &[problem.formulas().g(x, y)], &[1.1e-3], 0.5e-4);
    }
}

#[test]
fn bome_ends_at_the_printed_values_of_its_minimax_game() {
    let problem = zoo("bome-minimax");
    let report = run(&problem, &published(0.5, 0.05, 10), 200, 0);
    assert_near("eta 0.5", &[report.x[0], report.y[0]], &[0.049, -0.016], 0.51e-3);
    // at η = 0.9 the end is as far from 0 as the floor of λ's denominator leaves it: 1e-4 at 1e-8, printed (−2e-5, 8e-6)
    let report = run(&problem, &published(0.9, 0.05, 10), 500, 0);
    assert_near("eta 0.9", &[report.x[0], report.y[0]], &[0.0, 0.0], 1e-4);
    let report = run(&problem, &Bome { floor: 1e-12, ..published(0.9, 0.05, 10) }, 500, 0);
    assert_near("eta 0.9", &[report.x[0], report.y[0]], &[0.0, 0.0], 1e-5);
    // both stay in the box, however large the steps
    let report = run(&problem, &published(0.5, 50.0, 1), 20, 0);
    assert!(report.x[0].abs() <= 10.0 && report.y[0].abs() <= 10.0, "{:?} {:?}", report.x, report.y);
}

#[test]
fn the_non_singleton_toy_tells_the_two_targets_apart() {
    let problem = zoo("bome-non-singleton");
    for lower_steps in [1, 10, 100] {
        let report = run(&problem, &published(0.5, 0.5, lower_steps), 2_000, 0);
        // the floor of λ's denominator keeps it from being exact
        assert_near("bome", &[report.x[0], report.y[0], report.y[1]], &[1.0; 3], 1e-5);
    }
    let selected = run(&problem, &Ba { step_x: 0.2, step_y: 0.5, ..Ba::default() }, 500, 0);
    assert_near("ba", &[selected.x[0], selected.y[0], selected.y[1]], &[0.5, 0.5, 0.0], 1e-12);
    let forms = problem.closed_form().unwrap();
    let known = forms.selected_minimiser(&selected.y).unwrap();
    assert_eq!((known.x, known.y, known.value), (vec![0.5], vec![0.5, 0.0], 0.25));
}

/// Every limit that the two quadratic toys state is where the method of that limit ends.
#[test]
fn stated_limits_are_where_the_methods_end() {
    for name in ["bome-non-singleton", "dropped-value-function"] {
        let problem = zoo(name);
        let forms = problem.closed_form().unwrap();
        let lambda = 10.0;
        let f2ba = F2ba { lambda, step_y: 0.3, step_z: 0.3, lower_steps: 20, ..F2ba::default() };
        let (report, limit) = (run(&problem, &f2ba, 5_000, 0), forms.penalty_minimiser(lambda).unwrap());
        assert_near(name, &report.x, &limit.x, 1e-10);
        assert_near(name, &report.y, &limit.y, 1e-10);
        let gpbgd = GPbgd { lambda, step_x: 0.01, step_y: 0.01, ..GPbgd::default() };
        let (report, limit) =
            (run(&problem, &gpbgd, 10_000, 0), forms.gradient_penalty_minimiser(lambda).unwrap());
        assert_near(name, &report.x, &limit.x, 1e-10);
        assert_near(name, &report.y, &limit.y, 1e-10);
        for order in 1..=3 {
            let solver =
                HighOrderF2ba { order, sigma: 0.1, step_y: 0.3, lower_steps: 20, ..HighOrderF2ba::default() };
            let limit = forms.one_sided_minimiser(order as usize, 0.1).unwrap();
            assert_near(name, &run(&problem, &solver, 5_000, 0).x, &limit.x, 1e-9);
        }
        let optimistic = forms.optimistic_minimiser().unwrap();
        let known = problem.known(&optimistic.x).unwrap();
        assert_eq!((known.value, known.gradient), (optimistic.value, Some(vec![0.0])), "{name}");
    }
}

#[test]
fn dropping_the_value_function_loses_the_minimum() {
    let problem = zoo("dropped-value-function");
    let alternating = AltPbgd { step_y: 0.3, step_z: 0.3, ..AltPbgd::default() };
    assert_near("alt-pbgd", &run(&problem, &alternating, 5_000, 0).x, &[-5.0], 1e-10);
    let free = PbgdFree { step_y: 0.3, drops_implicit_term: true, ..PbgdFree::default() };
    assert_near("pbgd-free", &run(&problem, &free, 5_000, 0).x, &[0.0], 1e-10);
}
