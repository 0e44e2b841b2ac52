//! Large and rotating manifolds, the matrix-free and the first-order path.

use bilevel::{
    Oracles, Solver, Status, Vector,
    problems::{Zoo, least_squares::LargeLeastSquares, rotating_manifold::RotatingManifold, torus::Torus},
    rng::Stream,
    selection::geometry::Factorise,
    solvers::hg_ms::{Exploration, HgMs, HgMsState},
};

fn matrix_free() -> HgMs {
    let mut settings = HgMs::default();
    settings.rank.factorise = Factorise::MatrixFree;
    settings
}

/// Where implicit differentiation through any one point of S(x) is 160 % wrong: 5 × 10 with 3 upper variables.
#[test]
fn the_rotating_manifold_is_right_to_1e_8_and_its_dimension_is_named() {
    for seed in 0..5 {
        let problem = Zoo::new(RotatingManifold::small(seed));
        let x = problem.formulas().default_x();
        let y = problem.formulas().start_y(&x, seed);
        let truth = problem.known(&x).unwrap();
        for settings in [HgMs::default(), matrix_free()] {
            let found = settings
                .evaluate(
                    &Oracles::new(&problem),
                    &x,
                    std::slice::from_ref(&y),
                    Exploration::Full,
                    &mut Stream::new(1, 0),
                    None,
                )
                .unwrap();
            assert!(found.certificate.is_certified(), "{}", found.certificate);
            let gradient = truth.gradient.clone().unwrap();
            let error = found.gradient().unwrap().distance(&gradient) / gradient.norm();
            assert!(error <= 1e-8, "{error:e}");
            assert!((found.value().unwrap() - truth.value).abs() <= 1e-10 * (1.0 + truth.value));
            assert_eq!(found.certificate.kernel_dim, Some(5.0));
        }
    }
}

/// 200 × 1,000 with 20 upper variables, matrix-free: the kernel has dimension 800, known by its projection.
#[test]
fn the_large_rotating_manifold_is_right_to_1e_8() {
    let problem = Zoo::new(RotatingManifold::large(1));
    let x = problem.formulas().default_x();
    let y = problem.formulas().start_y(&x, 1);
    let truth = problem.known(&x).unwrap().gradient.unwrap();
    let found = matrix_free()
        .evaluate(
            &Oracles::new(&problem),
            &x,
            std::slice::from_ref(&y),
            Exploration::None,
            &mut Stream::new(1, 0),
            None,
        )
        .unwrap();
    assert!(found.certificate.is_certified(), "{}", found.certificate);
    let error = found.gradient().unwrap().distance(&truth) / truth.norm();
    assert!(error <= 1e-8, "{error:e}");
    // mean of 8 draws of 1,000·Beta(400, 100): standard deviation √(2·800·200/1,002/8) ≈ 6.3
    let k = found.certificate.kernel_dim.unwrap();
    let spread = found.certificate.kernel_dim_spread.unwrap();
    assert!((spread - 6.3).abs() < 0.3, "{spread}");
    assert!((k - 800.0).abs() < 4.0 * spread, "{k}");
}

/// 5 equations in 400 unknowns, one probe: Hutchinson's ζᵀPζ has a standard deviation of √(2·395) ≈ 28 and exceeds 400
/// every other time; the share of ζ in the kernel has 400·√(2·395·5/402)/400 ≈ 3.1, and stays below 400.
#[test]
fn an_estimated_dimension_stays_below_dim_y_and_within_its_spread() {
    let mut settings = matrix_free();
    settings.rank.probes = 1;
    for seed in 0..10 {
        let problem = Zoo::new(RotatingManifold::new(5, 400, 3, seed));
        let x = problem.formulas().default_x();
        let y = problem.formulas().start_y(&x, seed);
        let found = settings
            .evaluate(
                &Oracles::new(&problem),
                &x,
                std::slice::from_ref(&y),
                Exploration::None,
                &mut Stream::new(1, 0),
                None,
            )
            .unwrap();
        let certificate = &found.certificate;
        assert!(certificate.is_certified(), "{certificate}");
        let (k, spread) = (certificate.kernel_dim.unwrap(), certificate.kernel_dim_spread.unwrap());
        assert!(k <= 400.0 && (k - 395.0).abs() <= 4.0 * spread && spread < 8.0, "{k} ± {spread}");
        let truth = problem.known(&x).unwrap().gradient.unwrap();
        let error = found.gradient().unwrap().distance(&truth) / truth.norm();
        assert!(error <= 1e-8, "{error:e}");
    }
}

/// T3 large, d = 400, k = 200, without factorisation.
#[test]
fn large_least_squares_without_factorisation() {
    for condition in [1e2, 1e4] {
        let problem = Zoo::new(LargeLeastSquares::new(200, condition));
        let x = vec![0.3, -0.7];
        let y = problem.formulas().start_y(&x, 1);
        let found = matrix_free()
            .evaluate(
                &Oracles::new(&problem),
                &x,
                std::slice::from_ref(&y),
                Exploration::None,
                &mut Stream::new(1, 0),
                None,
            )
            .unwrap();
        assert!(found.certificate.is_certified(), "{}", found.certificate);
        let error = found.gradient().unwrap().distance(&vec![30.13289402582658, -69.627823897422461]) / 75.0;
        assert!(error <= 1e-7, "condition {condition:e}: {error:e}");
    }
}

/// Oracle calls of a whole run on the torus with k circles in dimension d.
fn torus_run(k: usize, d: usize) -> (Status, f64, u64) {
    let problem = Zoo::new(Torus::square_quadratic(k, d - 2 * k)).anchored(3.0 + d as f64, vec![1.0; k]);
    let solver = matrix_free();
    let oracles = Oracles::new(&problem);
    let x = vec![0.5; k];
    // every circle in its wrong half, 0.05 off S(x)
    let y: Vec<f64> =
        (0..d).map(|j| if j < 2 * k && j % 2 == 0 { 1.05_f64.sqrt() + 0.05 } else { 0.05 }).collect();
    let mut state = HgMsState::new(x, vec![y], 5);
    for _ in 0..60 {
        let info = solver.step(&oracles, &mut state).unwrap();
        if let Some(end) = info.end {
            let truth = problem.known(&state.x).unwrap();
            return (end, truth.gradient.unwrap().norm(), oracles.counts().calls());
        }
    }
    panic!("the run did not end");
}

/// The cost of a run grows with the dimension k of S(x) and not with the dimension d of y.
#[test]
fn on_the_torus_the_cost_follows_k_and_not_d() {
    let mut costs = vec![];
    for k in [1, 2] {
        let row: Vec<u64> = [20, 200, 2_000]
            .iter()
            .map(|&d| {
                let (end, gradient, calls) = torus_run(k, d);
                assert_eq!(end, Status::Converged, "k = {k}, d = {d}");
                assert!(gradient <= 1e-5, "k = {k}, d = {d}: true |dF| = {gradient:e}");
                calls
            })
            .collect();
        let (low, high) = (*row.iter().min().unwrap(), *row.iter().max().unwrap());
        assert!(high < 3 * low, "k = {k}: {row:?}");
        costs.push(low);
    }
    assert!(costs[1] > costs[0], "{costs:?}");
}
