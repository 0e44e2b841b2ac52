//! HG-MS answers every named failure case with its finding.

use bilevel::{
    Oracles, Problem,
    problems::cases::{self, Restriction},
    rng::Stream,
    solvers::hg_ms::{Exploration, HgMs},
};

#[test]
fn every_case_has_its_finding() {
    for case in cases::all() {
        let mut settings = HgMs::default();
        match case.needs {
            None => {}
            Some(Restriction::NoEscape) => settings.land.escape_saddles = false,
            Some(Restriction::OneLandingStep) => settings.land.max_steps = 1,
        }
        let oracles = Oracles::new(&case.problem);
        let mut stream = Stream::new(3, 0);
        let found = settings
            .evaluate(&oracles, &case.x, &case.seeds, Exploration::None, &mut stream, None)
            .expect("the zoo's oracles do not fail");
        let verdict = found.certificate.verdict().map(bilevel::certificate::Finding::name);
        assert_eq!(verdict, Some(case.finding), "{}: {}", case.name, found.certificate);
    }
}

#[test]
fn every_case_starts_where_it_says() {
    for case in cases::all() {
        for (seed, y) in case.seeds.iter().enumerate() {
            assert_eq!(case.problem.start(seed as u64), (case.x.clone(), y.clone()), "{}", case.name);
        }
    }
    let names: Vec<String> = cases::all().iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(names, (1..=13).map(|i| format!("E{i}")).collect::<Vec<_>>());
}
