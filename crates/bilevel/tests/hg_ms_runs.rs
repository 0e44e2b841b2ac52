//! HG-MS as a whole run, against the printed minimisers of the zoo (specification §15, items 12 to 17 and 19).

use bilevel::{
    Budget, Oracles, Run, Solver, Status, StepInfo, Vector,
    problems::{
        Zoo, chain::Chain, circle::Circle, factorisation::Factorisation, least_squares::LeastSquares,
        secular::Secular, sources::Sources, torus::Torus,
    },
    solvers::hg_ms::{HgMs, HgMsState, Target, UpperStep},
};

/// A run from several seeds of y at once: the last step's information and the end point.
fn descend(
    settings: &HgMs,
    problem: &Zoo,
    x: &[f64],
    seeds: &[&[f64]],
    seed: u64,
) -> (Status, Vec<StepInfo>, Vec<f64>) {
    let oracles = Oracles::new(problem);
    let seeds: Vec<Vec<f64>> = seeds.iter().map(|y| y.to_vec()).collect();
    let mut state = HgMsState::new(x.to_vec(), seeds, seed);
    let mut trace = vec![];
    for _ in 0..300 {
        let info = settings.step(&oracles, &mut state).expect("the zoo's oracles do not fail");
        trace.push(info);
        if let Some(end) = &trace.last().unwrap().end {
            return (end.clone(), trace.clone(), state.x);
        }
    }
    (Status::OutOfSteps, trace, state.x)
}

fn local() -> HgMs {
    let mut settings = HgMs::default();
    settings.explore.enabled = false;
    settings
}

fn assert_end(what: &str, found: (&[f64], f64), printed: (&[f64], f64)) {
    assert!(
        found.0.to_vec().distance(&printed.0.to_vec()) <= 1e-6,
        "{what}: x = {:?}, printed {:?}",
        found.0,
        printed.0
    );
    assert!((found.1 - printed.1).abs() <= 1e-10 * (1.0 + printed.1.abs()), "{what}: F = {}", found.1);
}

fn r2() -> Zoo {
    Zoo::new(Circle::default()).anchored(2.0, vec![0.8])
}
fn r6() -> Zoo {
    Zoo::new(Torus::square_quadratic(3, 4)).anchored(3.0, vec![1.2, 1.0, 0.8])
}
fn r10() -> Zoo {
    Zoo::new(Secular::square_quadratic()).anchored(4.0, vec![0.5, -0.4, 0.8])
}
/// Branch (s₁, s₂, s₃) of R6 at x = (½, ½, ½), moved by 0.05 off S(x).
fn r6_seed(signs: [f64; 3]) -> Vec<f64> {
    let r = 1.05_f64.sqrt();
    let mut y: Vec<f64> = signs.iter().flat_map(|s| [s * r, 0.0]).collect();
    y.extend([0.0; 4]);
    y.iter().map(|y| y + 0.05).collect()
}

/// Items 12, 15: the printed minimisers, the wrong-branch runs with exploration on.
#[test]
fn item_15_runs_reach_the_printed_minimisers() {
    // name, problem, start of x and y, minimiser, F*
    type Case = (&'static str, Zoo, Vec<f64>, Vec<f64>, Vec<f64>, f64);
    let cases: Vec<Case> = vec![
        ("R2", r2(), vec![0.5], vec![1.0, 0.0], vec![1.3], -1.05),
        (
            "R4",
            Zoo::new(Chain { links: 4 }).anchored(2.0, vec![3.0]),
            vec![2.0],
            vec![1.0, 1.0, 1.0, 2.0],
            vec![2.2645930503614256],
            7.2024132509327547,
        ),
        (
            "R8",
            Zoo::new(Factorisation).anchored(1.0, vec![4.0, 1.0, -0.6, 3.0]),
            vec![2.0, 0.5, -0.3, 1.0],
            vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0],
            vec![2.0502829868562654, 0.55435039699571781, -0.15435039699571781, 1.0502829868562654],
            10.361058456812994,
        ),
        ("R9", Zoo::new(Sources::default()), vec![0.0], vec![0.0; 5], vec![0.56452980273785174], 0.016875),
        (
            "R10",
            r10(),
            vec![0.5, -0.4, 0.8],
            vec![1.0, 0.0, 0.0],
            vec![0.76783329393082952, -0.42884580808063989, 0.9750947058075038],
            -1.9294155799352737,
        ),
    ];
    for (name, problem, x, y, minimiser, value) in cases {
        let (status, trace, end) = descend(&HgMs::default(), &problem, &x, &[&y], 7);
        let last = trace.last().unwrap();
        assert_eq!(status, Status::Converged, "{name} after {} steps: {last:?}", trace.len());
        assert_end(name, (&end, last.value.unwrap()), (&minimiser, value));
        let certificate = last.certificate.as_ref().unwrap();
        assert!(certificate.is_explored && certificate.is_certified(), "{name}: {certificate}");
    }
}

/// R3 has two minimisers with F* = 0; which one a start leads to is not prescribed.
#[test]
fn item_15_r3_reaches_one_of_its_two_minimisers() {
    for start in [[0.2, -0.5], [-1.0, 0.0]] {
        let (status, trace, end) =
            descend(&HgMs::default(), &Zoo::new(LeastSquares), &start, &[&[0.0; 4]], 7);
        assert_eq!(status, Status::Converged, "{:?}", trace.last());
        let near = [vec![1.0, -0.5], vec![-1.5, 0.75]].iter().any(|m| end.distance(m) < 1e-6);
        assert!(near, "{end:?}");
        assert!(trace.last().unwrap().value.unwrap().abs() < 1e-10);
    }
}

/// Item 12: with exploration off the wrong branch is kept, and its printed value is what is claimed.
#[test]
fn item_12_without_exploration_the_wrong_branch_is_kept() {
    let (status, trace, end) = descend(&local(), &r2(), &[0.5], &[&[1.0, 0.0]], 7);
    assert_eq!(status, Status::LocallyConverged);
    assert_end("R2", (&end, trace.last().unwrap().value.unwrap()), (&[0.3], 0.55));

    let (status, trace, end) = descend(&local(), &r10(), &[0.5, -0.4, 0.8], &[&[1.0, 0.0, 0.0]], 7);
    assert_eq!(status, Status::LocallyConverged, "{:?}", trace.last());
    let printed = [0.23656223608994971, -0.43959604703296682, 0.93145180672520365];
    assert_end("R10", (&end, trace.last().unwrap().value.unwrap()), (&printed, -0.86631427806924252));
}

/// Item 13: every seed finds the best of the eight branches of the torus from the all-wrong one; without exploration each
/// wrong branch is a trap.
#[test]
fn item_13_exploration_beats_local_selection_on_the_torus() {
    let best = [1.631197299034, 1.549113236176, 1.42122932892];
    for seed in 0..20 {
        let y = r6_seed([1.0, 1.0, 1.0]);
        let (status, trace, end) = descend(&HgMs::default(), &r6(), &[0.5; 3], &[&y], seed);
        assert_eq!(status, Status::Converged, "seed {seed}: {:?}", trace.last());
        assert!(end.distance(&best.to_vec()) < 1e-6, "seed {seed}: {end:?}");
        assert!((trace.last().unwrap().value.unwrap() + 4.24062721362).abs() < 1e-8);
    }
}

#[test]
fn item_13_without_exploration_each_branch_of_the_torus_is_a_trap() {
    let rows: [([f64; 3], [f64; 3], f64); 8] = [
        ([-1., -1., -1.], [1.631197299034, 1.549113236176, 1.42122932892], -4.24062721362),
        ([1., 1., 1.], [0.7111142000352, 0.6394895819699, 0.5334368935618], 2.646329322696),
        ([1., 1., -1.], [0.8303844280907, 0.7592309438671, 1.05985328007], 0.9844584872713),
        ([1., -1., 1.], [0.8822529372311, 1.128147254168, 0.6570559240976], 0.773191507751),
        ([1., -1., -1.], [1.016044005258, 1.281536561698, 1.21955840566], -1.223411680256),
        ([-1., 1., 1.], [1.215504741178, 0.8170213418918, 0.6611767964779], 0.5799062699666),
        ([-1., 1., -1.], [1.370404786562, 0.9520588617154, 1.225206192911], -1.42853828222),
        ([-1., -1., 1.], [1.445987283666, 1.36439436797, 0.8051120885629], -1.806211711692),
    ];
    let problem = r6();
    for (signs, x, claimed) in rows {
        let (status, trace, end) = descend(&local(), &problem, &[0.5; 3], &[&r6_seed(signs)], 3);
        let last = trace.last().unwrap();
        assert_eq!(status, Status::LocallyConverged, "{signs:?}: {last:?}");
        assert!(last.stationarity <= 1e-6);
        assert!(end.distance(&x.to_vec()) < 1e-5, "{signs:?}: {end:?}");
        assert!((last.value.unwrap() - claimed).abs() < 1e-9, "{signs:?}: {:?}", last.value);
        if signs != [-1.0; 3] {
            let truth = problem.known(&end).unwrap().gradient.unwrap();
            assert!(truth.norm() >= 2.3, "{signs:?}: the true gradient is {}", truth.norm());
        }
    }
}

/// Item 14: a tie is no place to stay, and all of its gradients are reported.
#[test]
fn item_14_kinks_are_left() {
    let problem = Zoo::new(Circle::default()).anchored(2.0, vec![0.0]);
    let (status, trace, end) = descend(&HgMs::default(), &problem, &[0.0], &[&[1.0, 0.2]], 7);
    assert_eq!(status, Status::Converged, "{:?}", trace.last());
    assert!((end[0].abs() - 0.5).abs() < 1e-6, "{end:?}");
    assert!((trace.last().unwrap().value.unwrap() + 0.25).abs() < 1e-10);
    let first = trace[0].certificate.as_ref().unwrap();
    assert!(first.has("Tie"), "{first}");

    // many kinks: F = −|sin 5x| + (x − 0.55)²; the branches cross at multiples of π/5
    let problem = Zoo::new(Circle::many_kinks(5.0)).anchored(2.0, vec![0.55]);
    let (status, trace, end) =
        descend(&HgMs::default(), &problem, &[std::f64::consts::PI / 5.0], &[&[1.0, 0.2]], 7);
    assert_eq!(status, Status::Converged, "{:?}", trace.last());
    let stationary = -5.0 * (5.0 * end[0]).cos() * (5.0 * end[0]).sin().signum() + 2.0 * (end[0] - 0.55);
    assert!(stationary.abs() < 1e-5, "{end:?}");
}

/// Item 16: the pessimistic target, its value, its gradient and its kinks.
#[test]
fn item_16_pessimistic_runs_end_at_their_kinks() {
    let settings = HgMs { target: Target::Pessimistic, ..HgMs::default() };
    let (status, trace, end) =
        descend(&settings, &Zoo::new(Circle::concave()), &[0.7], &[&[1.0, 0.1], &[-1.0, 0.1]], 7);
    assert_eq!(status, Status::Converged, "{:?}", trace.last());
    assert!(end[0].abs() < 1e-6, "{end:?}");
    assert!(trace.last().unwrap().value.unwrap().abs() < 1e-6);
    let shares = weights(trace.last().unwrap());
    assert!((shares[0] - 0.5).abs() < 1e-3 && (shares[1] - 0.5).abs() < 1e-3, "{shares:?}");

    let r2p = Zoo::new(Circle::concave()).anchored(1.0, vec![0.8]);
    for start in [0.7, -1.3] {
        let (status, trace, end) = descend(&settings, &r2p, &[start], &[&[1.0, 0.1], &[-1.0, 0.1]], 7);
        assert_eq!(status, Status::Converged, "{:?}", trace.last());
        assert!(end[0].abs() < 1e-6, "{end:?}");
        assert!((trace.last().unwrap().value.unwrap() - 0.32).abs() < 1e-6);
        let mut weights = weights(trace.last().unwrap());
        weights.sort_by(f64::total_cmp);
        assert!((weights[0] - 0.1).abs() < 1e-3 && (weights[1] - 0.9).abs() < 1e-3, "{weights:?}");
    }
}

fn weights(info: &StepInfo) -> Vec<f64> {
    info.extras.iter().filter(|(name, _)| name.starts_with("weight_")).map(|(_, w)| *w).collect()
}

/// Item 17: the Newton upper step from the printed starts with exact branches.
#[test]
fn item_17_newton_takes_at_most_six_steps() {
    let mut settings = local();
    settings.upper.step = UpperStep::Newton;
    settings.upper.tol = 1e-9;
    settings.land.tol = 1e-13;
    settings.refine.tol = 1e-11;
    let chain = Zoo::new(Chain { links: 4 }).anchored(2.0, vec![3.0]);
    let factors = Zoo::new(Factorisation).anchored(1.0, vec![4.0, 1.0, -0.6, 3.0]);
    let cases: Vec<(&str, Zoo, Vec<f64>, Vec<f64>)> = vec![
        ("R4", chain, vec![2.0], vec![1.0, 1.0, 1.0, 2.0]),
        ("R6", r6(), vec![0.5; 3], r6_seed([-1.0; 3])),
        ("R8", factors, vec![2.0, 0.5, -0.3, 1.0], vec![1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]),
        ("R9", Zoo::new(Sources::default()), vec![0.0], vec![0.0; 5]),
        ("R10", r10(), vec![0.5, -0.4, 0.8], vec![-1.0, 0.1, -0.1]),
    ];
    for (name, problem, x, y) in cases {
        let (status, trace, _) = descend(&settings, &problem, &x, &[&y], 7);
        let sizes: Vec<f64> = trace.iter().map(|info| info.stationarity).collect();
        assert_eq!(status, Status::LocallyConverged, "{name}: {sizes:?}");
        // the last pass only looks
        assert!(trace.len() <= 7, "{name}: {sizes:?}");
    }
}

/// Item 19: no end is called Converged without a last look at its x.
#[test]
fn item_19_converged_means_explored() {
    let problem = r2();
    let solver = HgMs::default();
    let report = Run::new(&problem, &solver)
        .budget(Budget { steps: Some(200), ..Budget::default() })
        .start(3)
        .unwrap();
    assert_eq!(report.status, Status::Converged);
    let certificate = report.last.unwrap().certificate.unwrap();
    assert!(certificate.is_explored && certificate.is_certified());
}
