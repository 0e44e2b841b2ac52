//! SABA and SRBA on a finite sum with a known answer: where constant steps lead, what a step costs, resuming.

use bilevel::{
    Budget, OracleCounts, Run, RunError, Sample, Solver, Status,
    problems::{self, FiniteSum, Parameters, Sum, Zoo},
    solvers::{implicit::Direction, saba::Saba, soba::Soba, srba::Srba},
};

/// f_i = ½(y₁ − a_i)² + ½(y₂ − 1)² + ½x², i < 7, and g_j = ½h_j(y₁ − x − b_j)² + ½floor·y₂², j < 10: the terms of g differ in
/// curvature, and H is singular with the floor at 0.
#[derive(Debug)]
struct Lines {
    floor: f64,
}

const TERMS: (u64, u64) = (7, 10);

/// a_i.
fn a(i: u64) -> f64 {
    (i as f64).sin()
}
/// (h_j, b_j).
fn line(j: u64) -> (f64, f64) {
    (0.2 + 0.25 * j as f64, (2.0 * j as f64).cos())
}

/// x*: y₁ = x + c on S with c = Σh_jb_j/Σh_j, and F = mean of ½(x + c − a_i)² + ½x² + constant.
fn minimiser() -> f64 {
    let (curvature, weighted) =
        (0..TERMS.1).map(line).fold((0.0, 0.0), |(h, hb), (hj, bj)| (h + hj, hb + hj * bj));
    let centre = (0..TERMS.0).map(a).sum::<f64>() / TERMS.0 as f64;
    (centre - weighted / curvature) / 2.0
}

fn mean(s: Sample, n: u64, term: impl Fn(u64) -> f64) -> f64 {
    match s {
        Sample::Full => (0..n).map(term).sum::<f64>() / n as f64,
        Sample::Batch(list) => list.iter().map(|&i| term(i)).sum::<f64>() / list.len() as f64,
    }
}

impl FiniteSum for Lines {
    fn dims(&self) -> (usize, usize) {
        (1, 2)
    }
    fn terms(&self) -> (u64, u64) {
        TERMS
    }
    fn intrinsic_dim(&self) -> Option<usize> {
        Some(usize::from(self.floor == 0.0))
    }
    fn f(&self, x: &[f64], y: &[f64], s: Sample) -> f64 {
        mean(s, TERMS.0, |i| 0.5 * (y[0] - a(i)).powi(2)) + 0.5 * (y[1] - 1.0).powi(2) + 0.5 * x[0] * x[0]
    }
    fn f_grad_x(&self, x: &[f64], _y: &[f64], _s: Sample) -> Vec<f64> {
        vec![x[0]]
    }
    fn f_grad_y(&self, _x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        vec![mean(s, TERMS.0, |i| y[0] - a(i)), y[1] - 1.0]
    }
    fn g(&self, x: &[f64], y: &[f64], s: Sample) -> f64 {
        let lines = mean(s, TERMS.1, |j| 0.5 * line(j).0 * (y[0] - x[0] - line(j).1).powi(2));
        lines + 0.5 * self.floor * y[1] * y[1]
    }
    fn g_grad_x(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        vec![-mean(s, TERMS.1, |j| line(j).0 * (y[0] - x[0] - line(j).1))]
    }
    fn g_grad_y(&self, x: &[f64], y: &[f64], s: Sample) -> Vec<f64> {
        vec![mean(s, TERMS.1, |j| line(j).0 * (y[0] - x[0] - line(j).1)), self.floor * y[1]]
    }
    fn g_hvp_yy(&self, _x: &[f64], _y: &[f64], u: &[f64], s: Sample) -> Vec<f64> {
        vec![mean(s, TERMS.1, |j| line(j).0) * u[0], self.floor * u[1]]
    }
    fn g_jvp_xy(&self, _x: &[f64], _y: &[f64], u: &[f64], s: Sample) -> Vec<f64> {
        vec![-mean(s, TERMS.1, |j| line(j).0) * u[0]]
    }
    fn default_x(&self) -> Vec<f64> {
        vec![2.0]
    }
    fn start_y(&self, _x: &[f64], _seed: u64) -> Vec<f64> {
        vec![0.0, 0.0]
    }
}

fn lines() -> Zoo {
    Zoo::new(Sum(Lines { floor: 1.0 }))
}
fn saba() -> Saba {
    Saba { batch: Some(2), ..Saba::default() }
}
fn srba() -> Srba {
    Srba { batch: Some(2), ..Srba::default() }
}
fn soba() -> Soba {
    Soba { batch: Some(2), decay: 0.0, ..Soba::default() }
}

fn error_after<S: Solver<Zoo>>(solver: &S, steps: u64) -> f64 {
    let report = Run::new(&lines(), solver).budget(Budget::steps(steps)).start(3).unwrap();
    (report.x[0] - minimiser()).abs()
}

#[test]
fn constant_steps_converge_linearly_where_soba_stalls() {
    let least_squares = Direction::LeastSquares;
    let errors = |n| {
        [
            error_after(&saba(), n),
            error_after(&srba(), n),
            error_after(&Saba { direction: least_squares, ..saba() }, n),
            error_after(&Srba { direction: least_squares, ..srba() }, n),
        ]
    };
    // the slowest rate of the mean iteration is 1 − 0.1·1, that of y₂; noise costs a share of it
    for (early, (late, end)) in errors(100).into_iter().zip(errors(300).into_iter().zip(errors(1_000))) {
        assert!(late < 1e-3 * early, "{early:e} {late:e}");
        // rounding of an average that began with numbers of about 1
        assert!(end < 1e-13, "{end:e}");
    }
    // the noise of a batch, times √step: never near the answer for long
    let stalled = [2_000, 2_500, 3_000].map(|n| error_after(&soba(), n));
    assert!(stalled.iter().all(|error| *error > 1e-3), "{stalled:?}");
}

#[test]
fn one_block_is_soba_with_constant_steps() {
    let problem = lines();
    let trajectory = |n: u64| {
        let soba = Soba { batch: None, ..soba() };
        Run::new(&problem, &soba).budget(Budget::steps(n)).start(0).unwrap()
    };
    for n in [1, 2, 30] {
        let expected = trajectory(n);
        for batch in [None, Some(10)] {
            let saba = Saba { batch, ..saba() };
            let got = Run::new(&problem, &saba).budget(Budget::steps(n)).start(0).unwrap();
            assert_eq!((&got.x, &got.y, got.counts), (&expected.x, &expected.y, expected.counts));
        }
        let got =
            Run::new(&problem, &Srba { batch: None, ..srba() }).budget(Budget::steps(n)).start(0).unwrap();
        assert_eq!((&got.x, &got.y, got.counts), (&expected.x, &expected.y, expected.counts));
    }
}

/// (calls of [grad_x f, grad_y f, grad_y g, hvp_yy, jvp_xy], samples of f and of g).
fn calls(counts: OracleCounts) -> ([u64; 5], [u64; 2]) {
    let OracleCounts { upper, lower } = counts;
    ([upper.grad_x, upper.grad_y, lower.grad_y, lower.hvp_yy, lower.jvp_xy], [upper.samples, lower.samples])
}
fn counts<S: Solver<Zoo>>(solver: &S, n: u64) -> ([u64; 5], [u64; 2]) {
    calls(Run::new(&lines(), solver).budget(Budget::steps(n)).start(1).unwrap().counts)
}

#[test]
fn a_step_of_saba_costs_one_block_after_a_full_pass() {
    // 4 blocks of f, the last of one term; 5 of g
    assert_eq!(counts(&saba(), 0), ([0; 5], [0, 0]));
    assert_eq!(counts(&saba(), 1), ([4, 4, 5, 5, 5], [2 * 7, 3 * 10]));
    let (calls, [_, of_g]) = counts(&saba(), 4);
    assert_eq!((calls, of_g), ([7, 7, 8, 8, 8], 3 * 10 + 3 * 3 * 2));
    let twice = Saba { direction: Direction::LeastSquares, ..saba() };
    assert_eq!(counts(&twice, 4).0, [7, 7, 8, 16, 8]);
}

#[test]
fn srba_renews_when_both_levels_have_been_touched_about_once() {
    // ⌈(7 + 10)/(2·2)⌉ = 5 steps: one in full, four on two batches of two
    assert_eq!(counts(&srba(), 1), ([1; 5], [2 * 7, 3 * 10]));
    assert_eq!(counts(&srba(), 5), ([9; 5], [2 * 7 + 4 * 2 * 4, 3 * 10 + 4 * 3 * 4]));
    assert_eq!(counts(&srba(), 6).0, [10; 5]);
    assert_eq!(counts(&Srba { period: Some(2), ..srba() }, 3).0, [4; 5]);
    let twice = Srba { direction: Direction::LeastSquares, ..srba() };
    assert_eq!(counts(&twice, 5).0, [9, 9, 9, 18, 9]);
}

#[test]
fn resuming_on_batches_equals_not_stopping() {
    fn check<S: Solver<Zoo>>(solver: &S) {
        let problem = lines();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let state = |report: bilevel::Report<Vec<f64>, Vec<f64>, S::State>| {
            serde_json::to_string(&report.checkpoint.unwrap().state).unwrap()
        };
        let whole = Run::new(&problem, solver).budget(Budget::steps(13)).start(5).unwrap();
        let (counts, whole) = (whole.counts, state(whole));
        for stop in 1..13 {
            Run::new(&problem, solver).budget(Budget::steps(stop)).checkpoint(&path, 1).start(5).unwrap();
            let resumed = Run::new(&problem, solver).budget(Budget::steps(13)).resume_file(&path).unwrap();
            assert_eq!(resumed.counts, counts, "{} stopped at {stop}", S::NAME);
            assert_eq!(state(resumed), whole, "{} stopped at {stop}", S::NAME);
        }
    }
    check(&saba());
    check(&srba());
    check(&Saba { direction: Direction::LeastSquares, ..saba() });
    check(&Srba { direction: Direction::LeastSquares, ..srba() });
}

#[test]
fn least_squares_keep_v_in_the_range_of_a_singular_hessian() {
    fn v_norm<S: Solver<Zoo>>(problem: &Zoo, solver: &S) -> f64 {
        let report = Run::new(problem, solver).budget(Budget::steps(2_000)).start(0).unwrap();
        let extras = report.last.unwrap().extras;
        extras.into_iter().find(|(name, _)| name == "v_norm").unwrap().1
    }
    let problem = Zoo::new(Sum(Lines { floor: 0.0 }));
    // y₂ stays at 0, so ∇_y f leaves the range of H by 1, and a plain v runs off by 0.1 a step
    // H⁺∇_y f at the answer
    let (h, f_y) = ((0..TERMS.1).map(|j| line(j).0).sum::<f64>() / TERMS.1 as f64, -minimiser());
    let expected = (f_y / h).abs();
    for plain in [v_norm(&problem, &saba()), v_norm(&problem, &srba())] {
        assert!((plain - 200.0).abs() < 1.0, "{plain}");
    }
    let direction = Direction::LeastSquares;
    for kept in
        [v_norm(&problem, &Saba { direction, ..saba() }), v_norm(&problem, &Srba { direction, ..srba() })]
    {
        assert!((kept - expected).abs() < 1e-10, "{kept} {expected}");
    }
}

#[test]
fn batches_of_a_problem_without_terms_are_refused_with_a_remedy() {
    fn refusal<S: Solver<Zoo>>(solver: &S) -> String {
        let problem = problems::by_name("circle", &Parameters::new()).unwrap();
        match Run::new(&problem, solver).budget(Budget::steps(1)).start(0).map(|report| report.status) {
            Err(RunError::Oracle { source, .. }) => source.to_string(),
            other => panic!("{other:?}"),
        }
    }
    assert!(refusal(&saba()).contains("batch = 2 is not allowed"), "{}", refusal(&saba()));
    assert!(refusal(&srba()).contains("give period"), "{}", refusal(&srba()));
    // with a period there is nothing to count
    let problem = problems::by_name("circle", &Parameters::new()).unwrap();
    let given = Srba { period: Some(3), step_y: 0.05, step_v: 0.05, ..srba() };
    let report = Run::new(&problem, &given).budget(Budget::steps(7)).start(0).unwrap();
    assert_eq!(report.status, Status::OutOfSteps);
}
