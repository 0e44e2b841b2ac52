//! The named runs: their minimisers are stationary with the printed value, their traps are what they say.

use bilevel::{
    Problem,
    problems::runs::{self, NamedRun},
    solvers::HyperObjective,
};

fn norm(a: &[f64]) -> f64 {
    a.iter().map(|a| a * a).sum::<f64>().sqrt()
}

#[test]
fn every_run_starts_where_it_says() {
    for run in runs::all() {
        let (x, y) = run.problem.start(0);
        assert_eq!((&x, &y), (&run.starts[0], &run.seeds[0]), "{}", run.name);
        let next = run.problem.start(1).1;
        assert_eq!(&next, &run.seeds[1 % run.seeds.len()], "{}", run.name);
    }
}

#[test]
fn minimisers_are_stationary_with_the_printed_value() {
    for run in runs::all().iter().filter(|run| run.target == HyperObjective::Optimistic) {
        for x in &run.minimisers {
            let known = run.problem.known(x).unwrap();
            // x is printed to at least twelve digits, ∇F is Lipschitz with a constant below 10
            let slope = norm(&known.gradient.unwrap());
            assert!(slope <= 1e-11, "{}: |dF| = {slope}", run.name);
            assert!((known.value - run.value).abs() <= 1e-11, "{}: F = {}", run.name, known.value);
        }
    }
}

#[test]
fn minimisers_are_minimisers_nearby() {
    for run in runs::all() {
        let value = |x: &[f64]| match run.target {
            HyperObjective::Pessimistic => run.problem.known_pessimistic(x).unwrap().value,
            _ => run.problem.known(x).unwrap().value,
        };
        for x in &run.minimisers {
            assert!((value(x) - run.value).abs() <= 1e-11, "{}", run.name);
            for i in 0..x.len() {
                for step in [-1e-3, 1e-3] {
                    let mut near = x.clone();
                    near[i] += step;
                    assert!(value(&near) > run.value, "{} along {i}", run.name);
                }
            }
        }
    }
}

#[test]
fn traps_are_stationary_on_a_wrong_branch_only() {
    let mut seen = 0;
    for run in runs::all() {
        for trap in &run.traps {
            // the table prints ten to twelve digits
            let branches = run.problem.branches(&trap.x);
            let branch = branches
                .iter()
                .find(|branch| (branch.value - trap.claimed).abs() <= 1e-10)
                .unwrap_or_else(|| panic!("{}: no branch has the claimed value {}", run.name, trap.claimed));
            assert!(norm(&branch.gradient) <= 1e-10, "{}: {:?}", run.name, branch.gradient);
            if let Some(curvature) = trap.curvature {
                assert!((branch.curvatures[0] - curvature).abs() <= 5.1e-5, "{}", run.name);
            }
            assert!(branch.curvatures[0] > 0.0);
            let known = run.problem.known(&trap.x).unwrap();
            assert!((known.value - trap.true_value).abs() <= 1e-8, "{}: F = {}", run.name, known.value);
            let slope = norm(&known.gradient.unwrap());
            assert!((slope - trap.true_gradient_norm).abs() <= 5.1e-6, "{}: |dF| = {slope}", run.name);
            seen += 1;
        }
    }
    assert_eq!(seen, 9);
}

#[test]
fn the_source_weights_of_r9_are_the_closed_form_ones() {
    let run = runs::by_name("r9").unwrap();
    let x = run.minimisers[0][0];
    assert!((x - (0.6375_f64 / 0.3625).ln()).abs() <= 1e-15);
    let bend = run.problem.known(&[x]).unwrap().hyper_hessian.unwrap()[0][0];
    assert!((bend - 0.2563407421875).abs() <= 1e-13, "{bend}");
}

#[test]
fn the_anchored_chain_of_r4_has_the_printed_second_derivative() {
    let run: NamedRun = runs::by_name("R4").unwrap();
    let bend = run.problem.known(&run.minimisers[0]).unwrap().hyper_hessian.unwrap()[0][0];
    assert!((bend - 1.6752586741705294).abs() <= 1e-13, "{bend}");
}

#[test]
fn the_pessimistic_kink_of_r2p_has_the_printed_weights() {
    let run = runs::by_name("R2p").unwrap();
    assert_eq!(run.target, HyperObjective::Pessimistic);
    // F_max = |x| + ½(x − 0.8)²: one-sided slopes 0.2 and −1.8 at 0, and 0.9·0.2 = 0.1·1.8
    let slope = |x: f64| run.problem.known_pessimistic(&[x]).unwrap().gradient.unwrap()[0];
    let (right, left) = (slope(1e-12), slope(-1e-12));
    assert!((right - 0.2).abs() <= 1e-11 && (left + 1.8).abs() <= 1e-11);
    assert!((0.9 * right + 0.1 * left).abs() <= 1e-11);
}
