//! What every registered solver must do, whatever it computes: same seed, same bytes; resume equals not stopping; budgets;
//! failing oracles; NaN; settings out of range.

use std::cell::Cell;

use bilevel::{
    Budget, Checkpoint, Objective, OracleError, OracleResult, Problem, Run, RunError, Sample, SecondOrder,
    Solver, Status,
    problems::{Zoo, circle::Circle, reference::table, sphere::Sphere, torus::Torus},
    solvers::hg_ms::HgMs,
};

/// A problem of the zoo whose oracles can be told to fail or to answer NaN at the n-th call.
struct Fragile {
    inner: Zoo,
    upper: FragileLevel,
    lower: FragileLevel,
}
struct FragileLevel {
    inner: Zoo,
    is_upper: bool,
    calls: Cell<u64>,
    fail_at: Option<u64>,
    nan_at: Option<u64>,
}

impl FragileLevel {
    fn touch(&self) -> OracleResult<f64> {
        self.calls.set(self.calls.get() + 1);
        if self.fail_at == Some(self.calls.get()) {
            return Err(OracleError::failed("lower.grad_y", "the disk is on fire"));
        }
        Ok(if self.nan_at == Some(self.calls.get()) { f64::NAN } else { 1.0 })
    }
    fn times(factor: f64, v: Vec<f64>) -> Vec<f64> {
        v.into_iter().map(|a| a * factor).collect()
    }
}

type V = Vec<f64>;
impl Objective<V, V> for FragileLevel {
    fn value(&self, x: &V, y: &V, s: Sample) -> OracleResult<f64> {
        let factor = self.touch()?;
        let value = if self.is_upper {
            self.inner.upper().value(x, y, s)?
        } else {
            self.inner.lower().value(x, y, s)?
        };
        Ok(factor * value)
    }
    fn grad_x(&self, x: &V, y: &V, s: Sample) -> OracleResult<V> {
        let factor = self.touch()?;
        let gradient = if self.is_upper {
            self.inner.upper().grad_x(x, y, s)?
        } else {
            self.inner.lower().grad_x(x, y, s)?
        };
        Ok(Self::times(factor, gradient))
    }
    fn grad_y(&self, x: &V, y: &V, s: Sample) -> OracleResult<V> {
        let factor = self.touch()?;
        let gradient = if self.is_upper {
            self.inner.upper().grad_y(x, y, s)?
        } else {
            self.inner.lower().grad_y(x, y, s)?
        };
        Ok(Self::times(factor, gradient))
    }
}
impl SecondOrder<V, V> for FragileLevel {
    fn hvp_yy(&self, x: &V, y: &V, v: &V, s: Sample) -> OracleResult<V> {
        let factor = self.touch()?;
        Ok(Self::times(factor, self.inner.lower().hvp_yy(x, y, v, s)?))
    }
    fn jvp_xy(&self, x: &V, y: &V, v: &V, s: Sample) -> OracleResult<V> {
        let factor = self.touch()?;
        Ok(Self::times(factor, self.inner.lower().jvp_xy(x, y, v, s)?))
    }
}
impl Problem for Fragile {
    type X = V;
    type Y = V;
    type Upper = FragileLevel;
    type Lower = FragileLevel;
    fn upper(&self) -> &FragileLevel {
        &self.upper
    }
    fn lower(&self) -> &FragileLevel {
        &self.lower
    }
    fn start(&self, seed: u64) -> (V, V) {
        self.inner.start(seed)
    }
}

fn fragile(fail_at: Option<u64>, nan_at: Option<u64>) -> Fragile {
    let zoo = || Zoo::new(Sphere);
    let level = |is_upper: bool, fail_at, nan_at| FragileLevel {
        inner: zoo(),
        is_upper,
        calls: Cell::new(0),
        fail_at,
        nan_at,
    };
    Fragile { inner: zoo(), upper: level(true, None, None), lower: level(false, fail_at, nan_at) }
}

fn steps(n: u64) -> Budget {
    Budget { steps: Some(n), ..Budget::default() }
}

fn problems() -> Vec<Zoo> {
    vec![
        Zoo::new(Circle::default()).anchored(2.0, vec![0.8]),
        Zoo::new(Torus::square_quadratic(2, 3)).anchored(3.0, vec![1.2, 1.0]),
        Zoo::new(Sphere).anchored(4.0, vec![0.3, -0.7]),
    ]
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let solver = HgMs::default();
    for problem in problems() {
        let run = || {
            let report = Run::new(&problem, &solver).budget(steps(6)).start(5).unwrap();
            serde_json::to_string(&report.checkpoint.unwrap().state).unwrap()
        };
        assert_eq!(run(), run());
    }
}

#[test]
fn resuming_at_any_step_equals_not_stopping() {
    let solver = HgMs::default();
    let folder = tempfile::tempdir().unwrap();
    for problem in problems() {
        let whole = Run::new(&problem, &solver).budget(steps(7)).start(5).unwrap();
        for stop in 1..7 {
            let path = folder.path().join("state.json");
            Run::new(&problem, &solver).budget(steps(stop)).checkpoint(&path, 1).start(5).unwrap();
            let run = Run::new(&problem, &solver).budget(steps(7));
            let at = Checkpoint::read(&path, "hg-ms", "unnamed").unwrap();
            let resumed = run.resume(at).unwrap();
            assert_eq!(resumed.status, whole.status);
            assert_eq!(resumed.counts, whole.counts, "stopped at {stop}");
            assert_eq!(
                serde_json::to_string(&resumed.checkpoint.unwrap().state).unwrap(),
                serde_json::to_string(&whole.checkpoint.as_ref().unwrap().state).unwrap()
            );
        }
    }
}

#[test]
fn a_failing_oracle_surfaces_with_its_cause() {
    for call in [1, 7, 40, 200] {
        let error = Run::new(&fragile(Some(call), None), &HgMs::default()).start(1).unwrap_err();
        let RunError::Oracle { step, source, .. } = error else { panic!("{error}") };
        assert!(step >= 1);
        assert!(source.to_string().contains("the disk is on fire"), "{source}");
    }
}

#[test]
fn a_nan_ends_the_run_with_step_and_oracle_named_or_is_only_a_bad_trial() {
    let mut named = 0;
    for call in 1..60 {
        let report =
            Run::new(&fragile(None, Some(call)), &HgMs::default()).budget(steps(3)).start(1).unwrap();
        assert!(report.x.iter().chain(&report.y).all(|v| v.is_finite()), "call {call}");
        if let Status::NonFinite { step, oracle } = &report.status {
            assert!(*step >= 1 && oracle.starts_with("lower."), "{step} {oracle}");
            named += 1;
        }
    }
    // values at trial points of a line search may be anything; gradients and products may not
    assert!(named > 30, "only {named} of 59 calls were named");
}

#[test]
fn settings_out_of_range_name_the_field() {
    let mut settings = HgMs::default();
    settings.upper.armijo = 0.7;
    let error = settings.check_settings().unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("upper.armijo", "0.7"));
    let mut settings = HgMs::default();
    settings.land.tol = -1.0;
    assert_eq!(settings.check_settings().unwrap_err().field, "land.tol");
    // and no oracle is called before
    let problem = fragile(Some(1), None);
    let error = Run::new(&problem, &settings).start(0).unwrap_err();
    assert!(matches!(error, RunError::Config(_)), "{error}");
}

/// Oracle calls of the first three steps without exploration: a changed number is a changed algorithm.
#[test]
fn oracle_counts_per_step_are_as_recorded() {
    let mut settings = HgMs::default();
    settings.explore.enabled = false;
    let mut lines = vec![];
    for row in table().into_iter().filter(|row| ["T1", "T2", "T5a", "T6", "T9", "T10"].contains(&row.name)) {
        let mut line = format!("{:4}", row.name);
        for n in 1..=3 {
            let report = Run::new(&row.problem, &settings).budget(steps(n)).start(2).unwrap();
            let (u, l) = (report.counts.upper, report.counts.lower);
            let per_step = [u.value, u.grad_x, u.grad_y, l.value, l.grad_x, l.grad_y, l.hvp_yy, l.jvp_xy];
            let numbers: Vec<String> = per_step.iter().map(u64::to_string).collect();
            line = line + " | f " + &numbers[..3].join(" ") + " g " + &numbers[3..].join(" ");
        }
        lines.push(line);
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// First derivatives only: differences stand for products, and the penalty form for the pseudoinverse.
#[test]
fn first_order_problems_run_and_say_what_was_not_computed() {
    use bilevel::{hypergradient::Inverse, objective::FirstOrder, solvers::hg_ms::Exploration};
    for row in table().into_iter().filter(|row| ["T1", "T2", "T5a", "T6", "T7", "T10"].contains(&row.name)) {
        let problem = FirstOrder::new(&row.problem);
        let mut settings = HgMs::default();
        // a difference is right to about 1e-10 of ‖H‖, and so are its zero eigenvalues
        settings.land.tol = 1e-10;
        settings.differentiate.inverse = Inverse::Penalty { sigma: 1e-3 };
        let oracles = bilevel::Oracles::new(&problem);
        let found = settings
            .evaluate(
                &oracles,
                &row.x,
                &[row.start_off_s()],
                Exploration::None,
                &mut bilevel::rng::Stream::new(1, 0),
                None,
            )
            .unwrap();
        let certificate = &found.certificate;
        assert!(certificate.is_certified(), "{}: {certificate}", row.name);
        assert_eq!((certificate.kernel_dim, certificate.range_ratio, certificate.alpha), (None, None, None));
        let error: f64 =
            found.gradient().unwrap().iter().zip(&row.gradient).map(|(a, b)| (a - b).abs()).sum();
        assert!(error <= 2e-5, "{}: {error:e}", row.name);
        let counts = oracles.counts();
        assert_eq!((counts.lower.hvp_yy, counts.lower.jvp_xy), (0, 0));
    }
}

#[test]
fn the_name_is_the_one_in_files() {
    assert_eq!(<HgMs as Solver<Zoo>>::NAME, "hg-ms");
}
