//! The failure cases: the status is the answer (specification §15, items 18 and 20).

use bilevel::{
    Oracles, Solver, Status,
    certificate::Finding,
    problems::{
        Zoo,
        chain::Chain,
        circle::Circle,
        failures::{DecayingSpectrum, DoubleWell, FlatValley, Unbounded},
        hoelder::Hoelder,
        reference::row,
        secular::Secular,
        sources::Sources,
        sphere::Sphere,
    },
    rng::Stream,
    solvers::hg_ms::{Evaluation, Exploration, HgMs, HgMsState},
};

type Found = Evaluation<Vec<f64>, Vec<f64>>;

fn look(settings: &HgMs, problem: &Zoo, x: &[f64], seeds: &[&[f64]], how: Exploration) -> Found {
    let oracles = Oracles::new(problem);
    let seeds: Vec<Vec<f64>> = seeds.iter().map(|y| y.to_vec()).collect();
    settings
        .evaluate(&oracles, &x.to_vec(), &seeds, how, &mut Stream::new(3, 0), None)
        .expect("the zoo's oracles do not fail")
}

fn verdict(found: &Found) -> &Finding {
    found.certificate.verdict().unwrap_or_else(|| panic!("nothing was found: {}", found.certificate))
}

/// How a whole run ends.
fn end(settings: &HgMs, problem: &Zoo, x: &[f64], y: &[f64]) -> Status {
    let oracles = Oracles::new(problem);
    let mut state = HgMsState::new(x.to_vec(), vec![y.to_vec()], 3);
    for _ in 0..200 {
        if let Some(end) = settings.step(&oracles, &mut state).unwrap().end {
            return end;
        }
    }
    Status::OutOfSteps
}

fn near(a: f64, b: f64, tol: f64) -> bool {
    (a - b).abs() <= tol
}

#[test]
fn e01_a_lower_level_that_falls_without_bound() {
    let found = look(&HgMs::default(), &Zoo::new(Unbounded), &[0.5], &[&[0.3, 0.2]], Exploration::None);
    let Finding::LowerLevelUnbounded { direction, slope } = verdict(&found) else {
        panic!("{}", found.certificate)
    };
    assert!(near(direction[0], 0.0, 1e-6) && near(direction[1], -1.0, 1e-9), "{direction:?}");
    assert!(near(*slope, 0.5, 1e-9));
    assert!(found.branches.is_empty());
    // and a run says so, never "converged"
    let end = end(&HgMs::default(), &Zoo::new(Unbounded), &[0.5], &[0.3, 0.2]);
    assert_eq!(end.name(), "LowerLevelUnbounded");
}

#[test]
fn e02_a_solution_set_that_is_not_stable_in_x() {
    let found = look(&HgMs::default(), &Zoo::new(Unbounded), &[0.0], &[&[0.0, 0.0]], Exploration::None);
    let Finding::OutOfClass { ratio } = verdict(&found) else { panic!("{}", found.certificate) };
    assert!(near(*ratio, 1.0, 1e-9));
}

#[test]
fn e03_a_lower_maximum_and_the_escape_from_it() {
    let mut settings = HgMs::default();
    let row = row("T1");
    let escaped = look(&settings, &row.problem, &row.x, &[&[0.0; 3]], Exploration::None);
    assert!(escaped.certificate.is_certified(), "{}", escaped.certificate);
    assert!(near(escaped.value().unwrap(), row.value, 1e-11));
    settings.land.escape_saddles = false;
    let found = look(&settings, &row.problem, &row.x, &[&[0.0; 3]], Exploration::None);
    let Finding::LowerSaddle { eigenvalue } = verdict(&found) else { panic!("{}", found.certificate) };
    assert!(near(*eigenvalue, -1.311025, 1e-9), "{eigenvalue}");
}

#[test]
fn e04_a_spectrum_without_a_gap() {
    let found = look(&HgMs::default(), &Zoo::new(DecayingSpectrum), &[1.0], &[&[0.0; 6]], Exploration::None);
    let Finding::RankUncertain { k_low, k_high, gap, gradient_low, gradient_high } = verdict(&found) else {
        panic!("{}", found.certificate)
    };
    assert_eq!((*k_low, *k_high), (2, 4));
    assert!(near(*gap, 1e2, 1e-6), "{gap}");
    // the coordinate with λ = 1e-7 lands within |∇_y g|/λ of x
    assert!(near(gradient_low[0], 4.0, 1e-3) && near(gradient_high[0], 2.0, 1e-6));
}

#[test]
fn e05_a_cross_has_no_tangent_space_at_its_centre() {
    let found =
        look(&HgMs::default(), &Zoo::new(Chain { links: 2 }), &[0.0], &[&[0.0, 0.0]], Exploration::None);
    let Finding::RankUncertain { k_low, k_high, .. } = verdict(&found) else {
        panic!("{}", found.certificate)
    };
    assert_eq!((*k_low, *k_high), (1, 2));
}

#[test]
fn e06_a_flat_minimum_that_is_not_a_manifold() {
    let found = look(&HgMs::default(), &Zoo::new(FlatValley), &[0.0], &[&[0.3, 0.2]], Exploration::None);
    let Finding::NotSelected { residual } = verdict(&found) else { panic!("{}", found.certificate) };
    assert!(near(*residual, 1.0, 1e-2), "{residual}");
}

#[test]
fn e07_degenerate_selections_are_reported_from_on_and_off_them() {
    for problem in [Hoelder::quartic(), Hoelder::Flat] {
        for start in [[0.0, 0.0], [0.4, 0.1]] {
            let found = look(&HgMs::default(), &Zoo::new(problem), &[0.0], &[&start], Exploration::None);
            let Finding::Degenerate { alpha, directions } = verdict(&found) else {
                panic!("{problem:?} from {start:?}: {}", found.certificate)
            };
            assert!(alpha.abs() <= 1e-6 && *directions == 1, "{alpha}");
        }
        // yet from x = 0.1 a solver descends
        let problem = Zoo::new(problem);
        let oracles = Oracles::new(&problem);
        let mut state = HgMsState::new(vec![0.1], vec![vec![0.4, 0.1]], 3);
        let mut values = vec![];
        for _ in 0..3 {
            values.push(HgMs::default().step(&oracles, &mut state).unwrap().value.unwrap());
        }
        assert!(values[2] < values[1] && values[1] < values[0], "{values:?}");
    }
}

#[test]
fn e08_a_continuum_of_selections_that_moves_the_gradient_is_degenerate_not_an_orbit() {
    let found =
        look(&HgMs::default(), &Zoo::new(Sphere), &[0.0, -0.75], &[&[0.7, 0.6, -0.5]], Exploration::None);
    let Finding::Degenerate { alpha, directions } = verdict(&found) else { panic!("{}", found.certificate) };
    assert!(alpha.abs() < 1e-9 && *directions == 2);
    assert!(near(found.value().unwrap(), 0.28125, 1e-12));
    assert!(!found.certificate.has("Orbit"));
    // while the orbit of T8 is one, and harmless
    let row = row("T8");
    let orbit = look(&HgMs::default(), &row.problem, &row.x, &[&row.start_off_s()], Exploration::None);
    assert_eq!(verdict(&orbit), &Finding::Orbit { dim: 1 });
    assert!(orbit.certificate.is_certified());
}

#[test]
fn e09_ties_are_reported_with_all_their_gradients() {
    let found =
        look(&HgMs::default(), &Zoo::new(Circle::default()), &[0.0], &[&[1.0, 0.2]], Exploration::Full);
    let Finding::Tie { values, gradients } = verdict(&found) else { panic!("{}", found.certificate) };
    let mut slopes: Vec<f64> = gradients.iter().map(|g| g[0]).collect();
    slopes.sort_by(f64::total_cmp);
    assert!(near(slopes[0], -1.0, 1e-9) && near(slopes[1], 1.0, 1e-9) && slopes.len() == 2, "{slopes:?}");
    assert!(values.iter().all(|value| near(*value, 0.0, 1e-12)));

    let x = [0.0, -0.4, 0.8];
    let found =
        look(&HgMs::default(), &Zoo::new(Secular::default()), &x, &[&[1.0, 0.2, 0.1]], Exploration::Full);
    let Finding::Tie { values, gradients } = verdict(&found) else { panic!("{}", found.certificate) };
    assert!(values.iter().all(|value| near(*value, -1.222762666666667, 1e-11)));
    let mut slopes: Vec<f64> = gradients.iter().map(|g| g[0]).collect();
    slopes.sort_by(f64::total_cmp);
    assert!(near(slopes[0], -1.043416610095039, 1e-9) && near(slopes[1], 1.043416610095039, 1e-9));
    for gradient in gradients {
        assert!(near(gradient[1], 2.0 / 15.0, 1e-9) && near(gradient[2], -0.50048, 1e-9), "{gradient:?}");
    }
}

#[test]
fn e10_an_upper_level_that_falls_without_bound_on_the_manifold() {
    let problem = Zoo::new(bilevel::problems::curved_graph::CurvedGraph::c());
    let saddle = [-0.45, 0.58375];
    let found = look(&HgMs::default(), &problem, &[0.4, 0.9], &[&saddle], Exploration::None);
    assert_eq!(verdict(&found).name(), "SelectionUnbounded", "{}", found.certificate);
    assert!(!found.certificate.is_certified());
    // at the stationary point itself the curvature along S is negative, though the ambient one is positive
    let mut settings = HgMs::default();
    settings.refine.max_steps = 0;
    let stuck = look(&settings, &problem, &[0.4, 0.9], &[&saddle], Exploration::None);
    assert!(near(stuck.certificate.alpha.unwrap(), -0.70859167404782994, 1e-8), "{}", stuck.certificate);
    assert_eq!(verdict(&stuck).name(), "NotSelected");
}

/// Item 20 too: equal sources give no signal, and a zero gradient is not taken for stationarity.
#[test]
fn e11_sources_that_agree_give_no_signal() {
    let problem = Zoo::new(Sources::agreeing());
    let found = look(&HgMs::default(), &problem, &[0.4], &[&[0.0; 5]], Exploration::None);
    assert_eq!(verdict(&found), &Finding::NoSignal { jacobian: 0.0 });
    assert!(near(found.value().unwrap(), 0.041, 1e-12));
    assert_eq!(end(&HgMs::default(), &problem, &[0.4], &[0.0; 5]).name(), "NoSignal");
}

#[test]
fn e12_a_spurious_lower_minimum_is_dropped_even_where_its_f_is_lower() {
    let problem = Zoo::new(DoubleWell);
    let [low, high] = DoubleWell::wells();
    // at x = −1 the false minimum has f = ½(0.945649 − 1)², far below the true ½(1.04668 + 1)²
    let x = -1.0;
    let found = look(&HgMs::default(), &problem, &[x], &[&[x + low], &[x + high]], Exploration::None);
    let Finding::LowerValueSplit { values } = verdict(&found) else { panic!("{}", found.certificate) };
    assert!(near(values[0], -0.1023860738, 1e-9) && near(values[1], 0.0973605582, 1e-9), "{values:?}");
    assert!(near(found.value().unwrap(), 0.5 * (x - 1.046680531804602_f64).powi(2), 1e-11));
}

#[test]
fn e13_too_few_steps_to_land() {
    let mut settings = HgMs::default();
    settings.land.max_steps = 1;
    let row = row("T1");
    let found = look(&settings, &row.problem, &row.x, &[&[3.0, 0.0, 0.0]], Exploration::None);
    let Finding::NotLanded { distance } = verdict(&found) else { panic!("{}", found.certificate) };
    assert!(*distance > 1e-3, "{distance}");
}

/// Item 6: an inconsistent system is solved in the least-squares sense by the paths that claim it.
#[test]
fn item_06_a_right_hand_side_outside_the_range() {
    use bilevel::linear::{LinearSolver, LinearStatus, cg::Cg, dense::Spectrum};
    use bilevel::selection::level::Level;
    let row = row("T3");
    let oracles = Oracles::new(&row.problem);
    let at = bilevel::selection::level::At { oracles: &oracles, x: &row.x, sign: 1.0 };
    let y = row.selection.clone().unwrap();
    let mut apply = |v: &Vec<f64>| at.hessian_product(&y, v);
    let spectrum = Spectrum::of(&mut apply, &y).unwrap();
    let mut b = at.f_y(&y).unwrap();
    for (entry, kernel) in b.iter_mut().zip(spectrum.vector(0)) {
        *entry += 2.9 * kernel;
    }
    let plain = Cg::default().solve(&mut apply, &b, &vec![0.0; 4]).unwrap();
    assert_ne!(plain.status, LinearStatus::Solved, "plain CG must not claim a solution");
    let v = spectrum.pseudoinverse(1e-6 * spectrum.norm(), &b);
    let error = v.iter().zip(row.v.unwrap()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error < 1e-12, "{error}");
}
