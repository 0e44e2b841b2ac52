use super::*;
use crate::{
    problems::{Zoo, circle::Circle},
    vector::Dense,
};

/// Uniform on the unit sphere of R^n.
fn on_sphere(stream: &mut Stream, n: usize) -> Dense {
    let mut y = stream.normal_like(&vec![0.0; n]);
    y.scale(y.norm().recip());
    y
}

#[test]
fn the_superquantile_solves_its_minimisation() {
    let mut stream = Stream::new(4, 0);
    for n in [1_u32, 7, 40] {
        let values: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        for level in [1.0 / f64::from(n), 0.3_f64.max(1.0 / f64::from(n)), 1.0] {
            let tail = level * f64::from(n);
            let objective = |beta: f64| beta + values.iter().map(|v| (v - beta).max(0.0)).sum::<f64>() / tail;
            // piecewise linear: the minimum is at one of the values
            let least = values.iter().map(|&v| objective(v)).fold(f64::INFINITY, f64::min);
            assert!((superquantile(&values, level) - least).abs() < 1e-13, "{n} {level}");
        }
    }
    assert_eq!(superquantile(&[1.0, 4.0, 2.0, 3.0], 0.5), 3.5);
    assert_eq!(superquantile(&[1.0, 4.0, 2.0, 3.0], 0.25), 4.0);
}

/// A linear function with unit gradient on a uniformly sampled sphere: the bias is known exactly.
#[test]
fn the_bias_on_spheres_is_the_known_one() {
    let n = 100_000;
    // (dimension of the space, level, 1 − superquantile)
    let circle = |level: f64| 1.0 - (std::f64::consts::PI * level).sin() / (std::f64::consts::PI * level);
    assert!((circle(0.1) - 0.01636835692).abs() < 1e-11);
    for (dim, level, bias) in [(2, 0.1, circle(0.1)), (2, 0.01, circle(0.01)), (3, 0.1, 0.1), (3, 0.01, 0.01)]
    {
        let mut stream = Stream::new(8, dim as u64);
        let values: Vec<f64> = (0..n).map(|_| on_sphere(&mut stream, dim)[0]).collect();
        let tail = level * f64::from(n);
        // the values of the tail lie between 1 − spread and 1; standard error at most spread/√tail
        let spread = 3.0 * bias;
        let error = (1.0 - superquantile(&values, level) - bias).abs();
        assert!(error <= 3.0 * spread / tail.sqrt(), "dim {dim}, level {level}: {error:e}");
    }
}

#[test]
fn the_best_of_many_on_a_sphere_misses_by_the_known_mean() {
    // k = 2: E[1 − max] = 2/(N + 1), standard deviation about the same
    let (n, repeats) = (50, 4000);
    let mut stream = Stream::new(2, 9);
    let mean = (0..repeats)
        .map(|_| {
            let values: Vec<f64> = (0..n).map(|_| on_sphere(&mut stream, 3)[0]).collect();
            1.0 - superquantile(&values, 1.0 / f64::from(n))
        })
        .sum::<f64>()
        / f64::from(repeats);
    let expected = 2.0 / f64::from(n + 1);
    assert!((mean - expected).abs() <= 3.0 * expected / f64::from(repeats).sqrt(), "{mean}");
}

/// The estimate of F on the circle at x = 0.7, F = −0.7, from chains spread over the circle. The expected numbers are
/// superquantiles under the exact Gibbs measure exp(−g/ε) on the plane, by quadrature; the standard error of the estimate is
/// 0.001 to 0.005, the rest of the tolerance is the step of the Langevin walk.
#[test]
fn the_estimate_on_the_circle_is_the_known_one() {
    let problem = Zoo::new(Circle::default());
    let x = vec![0.7];
    let mut stream = Stream::new(1, 77);
    let start: Vec<Dense> = (0..20_000).map(|_| on_sphere(&mut stream, 2)).collect();
    for (temperature, expected) in
        [(1e-1, [-0.67388, -0.88515]), (1e-2, [-0.65712, -0.75570]), (1e-3, [-0.65634, -0.71386])]
    {
        for (level, expected) in [0.1, 0.01].into_iter().zip(expected) {
            let solver = SuperquantileGibbs {
                target: HyperObjective::Optimistic,
                chains: start.len(),
                level,
                temperature,
                step_y: 0.03,
                walk: 100,
                ..SuperquantileGibbs::default()
            };
            let oracles = Oracles::new(&problem);
            let (estimate, best) = solver.value(&oracles, &x, &mut start.clone(), Stream::new(5, 0)).unwrap();
            assert!((estimate - expected).abs() <= 0.01, "ε {temperature}, δ {level}: {estimate}");
            assert!(best < start.len());
        }
    }
}

fn small(target: HyperObjective) -> SuperquantileGibbs {
    SuperquantileGibbs {
        target,
        chains: 30,
        level: 0.1,
        walk: 5,
        first_walk: 10,
        ..SuperquantileGibbs::default()
    }
}

#[test]
fn a_step_costs_exactly_what_is_written() {
    let problem = Zoo::new(Circle::default());
    let solver = small(HyperObjective::Pessimistic);
    let oracles = Oracles::new(&problem);
    let mut state = solver.init(&oracles, vec![0.7], vec![1.0, 0.0], 3).unwrap();
    assert_eq!((oracles.counts().lower.grad_y, oracles.counts().calls()), (30 * 10, 30 * 10));
    for step in 1..=3 {
        solver.step(&oracles, &mut state).unwrap();
        let counts = oracles.counts();
        assert_eq!(counts.lower.grad_y, 300 + step * 2 * 30 * 5);
        assert_eq!(counts.upper.value, step * 2 * 30);
        assert_eq!(counts.calls(), counts.lower.grad_y + counts.upper.value);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_also_after_a_restart() {
    let problem = Zoo::new(Circle::default());
    let solver = small(HyperObjective::Optimistic);
    let oracles = Oracles::new(&problem);
    let run = |seed: u64, restart: bool| {
        let mut state = solver.init(&oracles, vec![0.7], vec![1.0, 0.0], seed).unwrap();
        for _ in 0..4 {
            if restart {
                state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            }
            solver.step(&oracles, &mut state).unwrap();
        }
        serde_json::to_string(&state).unwrap()
    };
    assert_eq!(run(1, false), run(1, false));
    assert_eq!(run(1, false), run(1, true));
    assert_ne!(run(1, false), run(2, false));
}

/// T2 with an anchor: F has its only minimum at x = 1.3, the local selection of the start would stop at 0.3.
#[test]
fn it_finds_the_right_basin_and_stays_imprecise() {
    let problem = Zoo::new(Circle::default()).anchored(2.0, vec![0.8]);
    let solver = SuperquantileGibbs {
        target: HyperObjective::Optimistic,
        chains: 200,
        level: 0.05,
        ..SuperquantileGibbs::default()
    };
    let oracles = Oracles::new(&problem);
    let mut state = solver.init(&oracles, vec![0.5], vec![1.0, 0.0], 0).unwrap();
    for _ in 0..80 {
        solver.step(&oracles, &mut state).unwrap();
    }
    let (x, y) = <_ as State<Dense, Dense>>::iterate(&state);
    assert!((x[0] - 1.3).abs() < 0.15, "{x:?}");
    assert!(y[0] < 0.0, "{y:?}");
}

#[test]
fn settings_out_of_range_name_the_field() {
    let field = |solver: SuperquantileGibbs| Solver::<Zoo>::validate(&solver).unwrap_err().field;
    let good = SuperquantileGibbs::default();
    assert!(Solver::<Zoo>::validate(&good).is_ok());
    assert_eq!(field(SuperquantileGibbs { target: HyperObjective::Selected, ..good.clone() }), "target");
    assert_eq!(field(SuperquantileGibbs { level: 0.0, ..good.clone() }), "level");
    assert_eq!(field(SuperquantileGibbs { chains: 50, ..good.clone() }), "level");
    assert_eq!(field(SuperquantileGibbs { temperature: f64::NAN, ..good.clone() }), "temperature");
    assert_eq!(field(SuperquantileGibbs { walk: 0, ..good.clone() }), "walk");
    assert_eq!(field(SuperquantileGibbs { step_x: (-1.0).into(), ..good }), "step_x.value");
}
