//! What every registered solver must do, whatever it computes: same seed, same bytes; resume equals not stopping; budgets;
//! failing oracles; NaN; the oracles that it declares and no others; the answers that it claims; settings out of range.

use std::cell::Cell;

use bilevel::{
    Budget, Objective, Oracle, OracleError, OracleResult, Problem, Run, RunError, Sample, SecondOrder,
    Solver, Status, Vector,
    problems::{Zoo, circle::Circle, reference::table, runs, sphere::Sphere, torus::Torus},
    solvers::{hg_ms::HgMs, registry},
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

/// Which oracle call goes wrong, and how.
#[derive(Clone, Copy, Default)]
struct Fault {
    fail_at: Option<u64>,
    nan_at: Option<u64>,
}

/// The sphere with faults in the oracles of f and g.
fn fragile(upper: Fault, lower: Fault) -> Fragile {
    let zoo = || Zoo::new(Sphere);
    let level = |is_upper: bool, fault: Fault| FragileLevel {
        inner: zoo(),
        is_upper,
        calls: Cell::new(0),
        fail_at: fault.fail_at,
        nan_at: fault.nan_at,
    };
    Fragile { inner: zoo(), upper: level(true, upper), lower: level(false, lower) }
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
    for entry in registry::entries() {
        let solver = entry.small();
        for problem in problems() {
            let run = || {
                let report = Run::new(&problem, &solver).budget(Budget::steps(6)).start(5).unwrap();
                serde_json::to_string(&report.checkpoint.unwrap().state).unwrap()
            };
            assert_eq!(run(), run(), "{}", entry.name);
        }
    }
}

#[test]
fn resuming_at_any_step_equals_not_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for entry in registry::entries() {
        let solver = entry.small();
        for problem in problems() {
            let whole = Run::new(&problem, &solver).budget(Budget::steps(7)).start(5).unwrap();
            for stop in 1..7 {
                Run::new(&problem, &solver)
                    .budget(Budget::steps(stop))
                    .checkpoint(&path, 1)
                    .start(5)
                    .unwrap();
                let resumed =
                    Run::new(&problem, &solver).budget(Budget::steps(7)).resume_file(&path).unwrap();
                assert_eq!(resumed.status, whole.status);
                assert_eq!(resumed.counts, whole.counts, "{} stopped at {stop}", entry.name);
                assert_eq!(
                    serde_json::to_string(&resumed.checkpoint.unwrap().state).unwrap(),
                    serde_json::to_string(&whole.checkpoint.as_ref().unwrap().state).unwrap()
                );
            }
        }
    }
}

#[test]
fn a_checkpoint_of_another_solver_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let problem = Zoo::new(Sphere);
    for (entry, other) in registry::entries().iter().zip(registry::entries().iter().skip(1)) {
        let solver = entry.small();
        Run::new(&problem, &solver).budget(Budget::steps(1)).checkpoint(&path, 1).start(0).unwrap();
        let error = Run::new(&problem, &other.small()).resume_file(&path).unwrap_err().to_string();
        assert!(error.contains(entry.name) && error.contains(other.name), "{error}");
    }
}

#[test]
fn a_budget_is_overshot_by_less_than_one_step() {
    for entry in registry::entries() {
        let solver = entry.small();
        let problem = &problems()[0];
        let spent = |budget: Budget| Run::new(problem, &solver).budget(budget).start(5).unwrap();
        let before = spent(Budget::steps(1)).counts.gradient_equivalents();
        let after = spent(Budget::steps(2)).counts.gradient_equivalents();
        assert!(after > before, "{}: a second step without a gradient", entry.name);
        let limited = spent(Budget { gradients: Some(before + 1), ..Budget::default() });
        assert_eq!((limited.status, limited.steps), (Status::OutOfGradients, 2), "{}", entry.name);
    }
}

#[test]
fn a_failing_oracle_surfaces_with_its_cause() {
    for entry in registry::entries() {
        for call in [1, 7, 40] {
            let problem = fragile(Fault::default(), Fault { fail_at: Some(call), ..Fault::default() });
            let solver = entry.small();
            let error = Run::new(&problem, &solver).budget(Budget::steps(60)).start(1).unwrap_err();
            let RunError::Oracle { source, .. } = error else { panic!("{}: {error}", entry.name) };
            assert!(source.to_string().contains("the disk is on fire"), "{source}");
        }
    }
}

#[test]
fn a_nan_ends_the_run_with_step_and_oracle_named_or_is_only_a_bad_trial() {
    for entry in registry::entries() {
        let solver = entry.small();
        for is_upper in [true, false] {
            let (mut met, mut named) = (0, 0);
            for call in 1..60 {
                let (fault, none) = (Fault { nan_at: Some(call), ..Fault::default() }, Fault::default());
                let (problem, level) = if is_upper {
                    (fragile(fault, none), "upper.")
                } else {
                    (fragile(none, fault), "lower.")
                };
                let report = Run::new(&problem, &solver).budget(Budget::steps(3)).start(1).unwrap();
                assert!(report.x.iter().chain(&report.y).all(|v| v.is_finite()), "{} {call}", entry.name);
                let calls = if is_upper { problem.upper.calls.get() } else { problem.lower.calls.get() };
                met += u32::from(calls >= call);
                if let Status::NonFinite { step, oracle } = &report.status {
                    assert!(*step <= 3 && oracle.starts_with(level), "{}: {step} {oracle}", entry.name);
                    named += 1;
                }
            }
            // Values at trial points of a line search may be anything; gradients and products may not.
            assert!(2 * named >= met, "{}: {named} of {met} were named", entry.name);
        }
    }
}

#[test]
fn only_the_declared_oracles_are_called_and_each_of_them() {
    for entry in registry::entries() {
        let solver = entry.small();
        let mut total = [0; Oracle::ALL.len()];
        for problem in problems() {
            let report = Run::new(&problem, &solver).budget(Budget::steps(6)).start(5).unwrap();
            for (sum, oracle) in total.iter_mut().zip(Oracle::ALL) {
                *sum += oracle.calls(&report.counts);
            }
        }
        for (calls, oracle) in total.into_iter().zip(Oracle::ALL) {
            let is_declared = entry.card.oracles.contains(&oracle);
            assert_eq!(calls > 0, is_declared, "{}: {calls} calls of {}", entry.name, oracle.name());
        }
    }
}

#[test]
fn every_claimed_answer_is_reached() {
    for entry in registry::entries() {
        for claim in entry.claims() {
            let run = runs::by_name(claim.run).unwrap();
            let target = Solver::<Zoo>::target(&claim.solver);
            assert_eq!(target, run.target, "{} claims {}", entry.name, claim.run);
            let report =
                Run::new(&run.problem, &claim.solver).budget(Budget::steps(claim.steps)).start(0).unwrap();
            let distances = run.minimisers.iter().map(|minimiser| report.x.distance(minimiser));
            let nearest = distances.fold(f64::INFINITY, f64::min);
            assert!(
                nearest <= claim.distance,
                "{} on {}: {nearest:e} after {}",
                entry.name,
                claim.run,
                report.status
            );
        }
    }
}

#[test]
fn settings_out_of_range_name_the_field_before_any_oracle_call() {
    let mut settings = HgMs::default();
    settings.upper.armijo = 0.7;
    let error = settings.check_settings().unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("upper.armijo", "0.7"));
    let mut settings = HgMs::default();
    settings.land.tol = -1.0;
    assert_eq!(settings.check_settings().unwrap_err().field, "land.tol");
    let problem = fragile(Fault::default(), Fault { fail_at: Some(1), ..Fault::default() });
    let error = Run::new(&problem, &settings).start(0).unwrap_err();
    assert!(matches!(error, RunError::Config(_)), "{error}");
}

/// Every number of the settings at −1: out of range, or (a tolerance that may have any sign) harmless, but never a
/// panic; and no oracle is called before the refusal.
#[test]
fn a_negative_number_is_refused_by_name() {
    for entry in registry::entries() {
        let defaults = serde_json::to_value(entry.default_solver()).unwrap();
        let mut refused = 0;
        for (field, value) in defaults.as_object().unwrap().iter().filter(|(_, value)| value.is_f64()) {
            let settings = serde_json::json!({ field: -1.0 });
            let solver = entry.build(settings.as_object().unwrap()).unwrap();
            let problem = fragile(Fault::default(), Fault { fail_at: Some(1), ..Fault::default() });
            match Run::new(&problem, &solver).start(0).unwrap_err() {
                RunError::Config(error) => {
                    assert_eq!(&error.field, field, "{}", entry.name);
                    refused += 1;
                }
                error => panic!("{}.{field} = -1, default {value}: {error}", entry.name),
            }
        }
        assert!(refused > 0, "{}: no setting was tried", entry.name);
    }
}

/// Oracle calls of the first three steps: a changed number is a changed algorithm. One snapshot a solver, which its
/// author holds against the paper's cost per step.
#[test]
fn oracle_counts_per_step_are_as_recorded() {
    for entry in registry::entries() {
        let solver = entry.small();
        let mut lines = vec![];
        for row in
            table().into_iter().filter(|row| ["T1", "T2", "T5a", "T6", "T9", "T10"].contains(&row.name))
        {
            let mut line = format!("{:4}", row.name);
            for n in 1..=3 {
                let report = Run::new(&row.problem, &solver).budget(Budget::steps(n)).start(2).unwrap();
                let (u, l) = (report.counts.upper, report.counts.lower);
                let per_step = [u.value, u.grad_x, u.grad_y, l.value, l.grad_x, l.grad_y, l.hvp_yy, l.jvp_xy];
                let numbers: Vec<String> = per_step.iter().map(u64::to_string).collect();
                line = line + " | f " + &numbers[..3].join(" ") + " g " + &numbers[3..].join(" ");
            }
            lines.push(line);
        }
        insta::with_settings!({ snapshot_suffix => entry.name, omit_expression => true }, {
            insta::assert_snapshot!("counts", lines.join("\n"));
        });
    }
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
