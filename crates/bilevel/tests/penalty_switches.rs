//! The switches of the penalty methods: what each variant runs, and constraints on both variables.

use bilevel::{
    Budget, Oracles, Problem, Run, Solver, State,
    problems::{self, Formulas, Parameters, Zoo},
    solvers::{
        bome::{Barrier, Bome},
        f2ba::F2ba,
        penalty::{LambdaSchedule, LowerGradient, Variant, ZStart},
        registry,
        v_pbgd::VPbgd,
    },
};

fn zoo(name: &str) -> Zoo {
    problems::by_name(name, &Parameters::new()).unwrap()
}

const METHODS: [&str; 18] = [
    "acc-f2ba",
    "af2ba",
    "alt-pbgd",
    "bome",
    "f2ba",
    "f2ba-plus",
    "f2sa",
    "f2sa-p",
    "g-pbgd",
    "gradient-norm-barrier",
    "high-order-f2ba",
    "meha",
    "pbgd-free",
    "penalised-gradient",
    "prox-f2ba",
    "prox-f2ba-single-loop",
    "slm-reconstructed",
    "v-pbgd",
];

/// The iterates of the first steps, the start included.
fn trajectory<S: Solver<Zoo>>(problem: &Zoo, solver: &S, steps: usize) -> Vec<(Vec<f64>, Vec<f64>)> {
    let oracles = Oracles::new(problem);
    let (x, y) = problem.start(0);
    let mut state = solver.init(&oracles, x, y, 0).unwrap();
    let mut points = vec![];
    for step in 0..=steps {
        let (x, y) = state.iterate();
        points.push((x.clone(), y.clone()));
        if step < steps {
            solver.step(&oracles, &mut state).unwrap();
        }
    }
    points
}

fn plus(a: &[f64], c: f64, b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + c * b).collect()
}
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn assert_near(what: &str, got: &[f64], expected: &[f64]) {
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= 1e-13 * (1.0 + e.abs()), "{what}: {got:?}, expected {expected:?}");
    }
}

#[test]
fn variants_set_the_switches_and_explicit_ones_win() {
    let v = |variant| VPbgd { variant, ..VPbgd::default() };
    let switches = |s: &VPbgd| (s.z_start(), s.schedule(), s.scale_loss());
    assert_eq!(switches(&v(Variant::Library)), (ZStart::Persistent, LambdaSchedule::Constant, false));
    assert_eq!(switches(&v(Variant::AsPublished)), (ZStart::Reset, LambdaSchedule::Constant, false));
    assert_eq!(switches(&v(Variant::AsReleased)), (ZStart::Persistent, LambdaSchedule::Ramp, true));
    let b = |variant| Bome { variant, ..Bome::default() };
    let switches = |s: &Bome| (s.z_start(), s.barrier(), s.momentum());
    assert_eq!(switches(&b(Variant::Library)), (ZStart::Persistent, Barrier::GradNorm, 0.0));
    assert_eq!(switches(&b(Variant::AsPublished)), (ZStart::Reset, Barrier::GradNorm, 0.0));
    assert_eq!(switches(&b(Variant::AsReleased)), (ZStart::Reset, Barrier::ValueGap, 0.9));
    let f = |variant| F2ba { variant, ..F2ba::default() };
    let switches = |s: &F2ba| (s.z_start(), s.lower_gradient());
    assert_eq!(switches(&f(Variant::Library)), (ZStart::Persistent, LowerGradient::AtY));
    assert_eq!(switches(&f(Variant::AsPublished)), (ZStart::Persistent, LowerGradient::AtY));
    assert_eq!(switches(&f(Variant::AsReleased)), (ZStart::Reset, LowerGradient::AtZ));

    // as a configuration file says it
    let settings = serde_json::json!({
        "variant": "as-released", "lower_gradient": "at-y", "z_start": "persistent"
    });
    let chosen: F2ba = serde_json::from_value(settings).unwrap();
    assert_eq!((chosen.z_start(), chosen.lower_gradient()), (ZStart::Persistent, LowerGradient::AtY));
    assert_eq!(
        trajectory(&zoo("pl-game-v2-tiny"), &chosen, 5),
        trajectory(&zoo("pl-game-v2-tiny"), &F2ba::default(), 5)
    );
}

/// One step of V-PBGD by hand, with z at y_r(x) as a long loop leaves it.
fn v_pbgd_step(
    p: &dyn Formulas,
    (x, y): (&[f64], &[f64]),
    z: &[f64],
    lambda: f64,
    step: f64,
) -> (Vec<f64>, Vec<f64>) {
    let gap_x = plus(&p.g_grad_x(x, y), -1.0, &p.g_grad_x(x, z));
    let d_x = plus(&p.f_grad_x(x, y), lambda, &gap_x);
    let d_y = plus(&p.f_grad_y(x, y), lambda, &p.g_grad_y(x, y));
    (plus(x, -step, &d_x), plus(y, -step, &d_y))
}

#[test]
fn released_v_pbgd_starts_without_penalty_and_scales_its_steps() {
    let problem = zoo("pl-game-v2-tiny");
    let p = problem.formulas();
    let solver = VPbgd {
        lambda: 4.0,
        ramp_steps: 2,
        lower_steps: 400,
        variant: Variant::AsReleased,
        ..VPbgd::default()
    };
    let points = trajectory(&problem, &solver, 4);
    // λ = 0, 2, 4, 4; steps 0.05 divided by λ where it is above 1
    for (k, lambda) in [0.0, 2.0, 4.0, 4.0].into_iter().enumerate() {
        let (x, y) = &points[k];
        // min g at fixed x, by a loop of its own
        let mut z = y.clone();
        for _ in 0..400 {
            z = plus(&z, -0.5, &p.g_grad_y(x, &z));
        }
        let (x, y) = v_pbgd_step(p, (x, y), &z, lambda, 0.05 / lambda.max(1.0));
        assert_near("x", &points[k + 1].0, &x);
        assert_near("y", &points[k + 1].1, &y);
    }
}

/// Two steps of BOME as released, by hand: reset z, value-gap barrier, momentum 0.9 on x and y together.
#[test]
fn released_bome_is_its_formulas() {
    let problem = zoo("pl-game-v2-tiny");
    let p = problem.formulas();
    for momentum_z in [0.0, 0.9] {
        let solver = Bome { variant: Variant::AsReleased, lower_steps: 4, momentum_z, ..Bome::default() };
        let points = trajectory(&problem, &solver, 3);
        let mut buffer: Option<(Vec<f64>, Vec<f64>)> = None;
        for k in 0..3 {
            let (x, y) = &points[k];
            let (mut z, mut velocity) = (y.clone(), vec![0.0; 3]);
            for _ in 0..4 {
                velocity = plus(&p.g_grad_y(x, &z), momentum_z, &velocity);
                z = plus(&z, -0.05, &velocity);
            }
            let gap_x = plus(&p.g_grad_x(x, y), -1.0, &p.g_grad_x(x, &z));
            let gap_y = p.g_grad_y(x, y);
            let (f_x, f_y) = (p.f_grad_x(x, y), p.f_grad_y(x, y));
            let barrier = 0.5 * (p.g(x, y) - p.g(x, &z));
            let slope = dot(&f_x, &gap_x) + dot(&f_y, &gap_y);
            let squared = dot(&gap_x, &gap_x) + dot(&gap_y, &gap_y);
            let lambda = ((barrier - slope) / (squared + 1e-8)).max(0.0);
            let (mut d_x, mut d_y) = (plus(&f_x, lambda, &gap_x), plus(&f_y, lambda, &gap_y));
            if let Some((b_x, b_y)) = &buffer {
                d_x = plus(&d_x, 0.9, b_x);
                d_y = plus(&d_y, 0.9, b_y);
            }
            assert_near("x", &points[k + 1].0, &plus(x, -0.05, &d_x));
            assert_near("y", &points[k + 1].1, &plus(y, -0.05, &d_y));
            buffer = Some((d_x, d_y));
        }
    }
}

/// The game on a box runs off without its constraints; with them every penalty method stays inside.
#[test]
fn constraints_on_both_variables_hold_after_every_step() {
    let problem = zoo("bome-minimax");
    let is_inside = |v: &[f64]| v.iter().all(|v| v.abs() <= 10.0);
    for name in METHODS {
        let solver = registry::by_name(name).unwrap().small();
        for steps in [1, 5, 40, 600] {
            let report = Run::new(&problem, &solver).budget(Budget::steps(steps)).start(0).unwrap();
            assert_eq!(report.steps, steps, "{name}: {}", report.status);
            assert!(is_inside(&report.x) && is_inside(&report.y), "{name}: {:?} {:?}", report.x, report.y);
        }
    }
}

/// On the literal PŁ game S(x) is empty at almost every x. z runs off there, and its residual is part of every measure of
/// stationarity, so that no tolerance is ever met.
#[test]
fn an_empty_solution_set_is_never_called_converged() {
    let size = [("d".to_owned(), 10.0), ("l".to_owned(), 8.0), ("n".to_owned(), 100.0)].into();
    let problem = problems::by_name("pl-game-literal", &size).unwrap();
    for name in METHODS {
        let entry = registry::by_name(name).unwrap();
        let mut settings = serde_json::to_value(entry.default_solver()).unwrap();
        let settings = settings.as_object_mut().unwrap();
        settings.remove("name");
        match name {
            "pbgd-free" => settings.insert("drops_implicit_term".into(), true.into()),
            // it has no tolerance
            "prox-f2ba-single-loop" => continue,
            _ => settings.insert("tol".into(), 1e-7.into()),
        };
        let solver = entry.build(settings).unwrap();
        let report = Run::new(&problem, &solver).budget(Budget::steps(1_500)).start(0).unwrap();
        assert_ne!(report.status.name(), "LocallyConverged", "{name}");
    }
}
