use std::{cell::Cell, fs};

use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    error::OracleResult,
    problem::{Objective, Sample},
    rng::Stream,
    solvers::HyperObjective,
    vector::Dense,
};

/// f = ½|y − 1|² + ½|x|², g = ½|y − x|²; so F(x) = ½|x − 1|² + ½|x|² with its minimum at ½.
/// The lower gradient answers with what `fault` says from call `fault_at` on.
struct Parabolas {
    upper: Upper,
    lower: Lower,
}
struct Upper;
struct Lower {
    calls: Cell<u64>,
    fault_at: u64,
    fault: Fault,
}
#[derive(Clone, Copy)]
enum Fault {
    None,
    NaN,
    Broken,
}

impl Objective<Dense, Dense> for Upper {
    fn value(&self, x: &Dense, y: &Dense, _: Sample) -> OracleResult<f64> {
        Ok(y.iter().map(|y| 0.5 * (y - 1.0).powi(2)).sum::<f64>() + 0.5 * x.dot(x))
    }
    fn grad_x(&self, x: &Dense, _: &Dense, _: Sample) -> OracleResult<Dense> {
        Ok(x.clone())
    }
    fn grad_y(&self, _: &Dense, y: &Dense, _: Sample) -> OracleResult<Dense> {
        Ok(y.iter().map(|y| y - 1.0).collect())
    }
}
impl Objective<Dense, Dense> for Lower {
    fn value(&self, x: &Dense, y: &Dense, _: Sample) -> OracleResult<f64> {
        Ok(0.5 * y.distance(x).powi(2))
    }
    fn grad_x(&self, x: &Dense, y: &Dense, _: Sample) -> OracleResult<Dense> {
        Ok(x.plus(-1.0, y))
    }
    fn grad_y(&self, x: &Dense, y: &Dense, _: Sample) -> OracleResult<Dense> {
        self.calls.set(self.calls.get() + 1);
        match self.fault {
            Fault::NaN if self.calls.get() >= self.fault_at => Ok(y.scaled(f64::NAN)),
            Fault::Broken if self.calls.get() >= self.fault_at => {
                Err(OracleError::failed("lower.grad_y", "the simulator hung up"))
            }
            _ => Ok(y.plus(-1.0, x)),
        }
    }
    fn n_samples(&self) -> Option<u64> {
        Some(10)
    }
}
impl Problem for Parabolas {
    type X = Dense;
    type Y = Dense;
    type Upper = Upper;
    type Lower = Lower;
    fn upper(&self) -> &Upper {
        &self.upper
    }
    fn lower(&self) -> &Lower {
        &self.lower
    }
    fn start(&self, seed: u64) -> (Dense, Dense) {
        let mut stream = Stream::new(seed, 0);
        (vec![stream.normal(), stream.normal()], vec![0.0, 0.0])
    }
}
fn faulty(fault: Fault, fault_at: u64) -> Parabolas {
    Parabolas { upper: Upper, lower: Lower { calls: Cell::new(0), fault_at, fault } }
}
fn parabolas() -> Parabolas {
    faulty(Fault::None, 0)
}

/// Noisy descent: one lower step, one upper step along x + (y − 1) and a little noise that fades.
struct Descent {
    step_x: f64,
    tolerance: f64,
    /// After this step the state holds a NaN beside its finite iterate.
    spoils_at: Option<u64>,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Walk {
    x: Dense,
    y: Dense,
    stream: Stream,
    taken: u64,
    memory: f64,
}
impl State<Dense, Dense> for Walk {
    fn iterate(&self) -> (&Dense, &Dense) {
        (&self.x, &self.y)
    }
}
fn descent() -> Descent {
    Descent { step_x: 0.2, tolerance: 1e-3, spoils_at: None }
}
impl Solver<Parabolas> for Descent {
    type State = Walk;
    const NAME: &'static str = "descent";
    fn target(&self) -> HyperObjective {
        HyperObjective::Selected
    }
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::require(self.step_x > 0.0, "step_x", self.step_x, "give a positive step")
    }
    fn init(&self, oracles: &Oracles<Parabolas>, x: Dense, y: Dense, seed: u64) -> OracleResult<Walk> {
        let y = y.plus(-0.5, &oracles.lower.grad_y(&x, &y, Sample::Full)?);
        Ok(Walk { x, y, stream: Stream::new(seed, 1), taken: 0, memory: 0.0 })
    }
    fn step(&self, oracles: &Oracles<Parabolas>, state: &mut Walk) -> OracleResult<StepInfo> {
        let Walk { x, y, stream, taken, memory } = state;
        y.axpy(-0.5, &oracles.lower.grad_y(x, y, Sample::Full)?);
        let value = oracles.upper.value(x, y, Sample::Full)?;
        let mut d = oracles.upper.grad_x(x, y, Sample::Full)?;
        d.axpy(1.0, &oracles.upper.grad_y(x, y, Sample::Full)?);
        let noise = 0.1 * 0.9_f64.powi(i32::try_from(*taken).unwrap_or(i32::MAX));
        d.axpy(noise, &stream.normal_like(&d));
        x.axpy(-self.step_x, &d);
        *taken += 1;
        if self.spoils_at == Some(*taken) {
            *memory = f64::NAN;
        }
        Ok(StepInfo {
            value: Some(value),
            stationarity: d.norm(),
            end: (d.norm() < self.tolerance).then_some(Status::Converged),
            extras: vec![("noise".into(), noise)],
            ..StepInfo::default()
        })
    }
}

/// Everything of a report that must not depend on where the run was stopped. Time is not among it.
fn essence(report: &ReportOf<Parabolas, Descent>) -> String {
    let state = report.checkpoint.as_ref().map(|at| &at.state);
    format!(
        "{:?} {} {:?} {:?} {:?} {:?} {:?} {state:?}",
        report.status, report.steps, report.x, report.y, report.best, report.last, report.counts
    )
}

#[test]
fn a_run_ends_where_the_solver_says() {
    let report = Run::new(&parabolas(), &descent()).start(1).unwrap();
    assert_eq!(report.status, Status::Converged);
    // The step is 0.2 of a gradient below 1e-3 and F has curvature 2: x is within 1e-3 of ½.
    assert!(report.x.distance(&vec![0.5, 0.5]) < 1e-3);
    assert_eq!(report.checkpoint.unwrap().end, Some(Status::Converged));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str, seed| {
        let path = folder.path().join(name);
        let report = Run::new(&parabolas(), &descent()).observe(Trace::new(&path)).start(seed).unwrap();
        (fs::read(path).unwrap(), essence(&report))
    };
    assert_eq!(bytes("a", 3), bytes("b", 3));
    assert_ne!(bytes("a", 3), bytes("c", 4));
}

#[test]
fn resuming_after_any_step_equals_not_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let (file, whole, cut) =
        (folder.path().join("checkpoint"), folder.path().join("whole"), folder.path().join("cut"));
    let uninterrupted = Run::new(&parabolas(), &descent()).observe(Trace::new(&whole)).start(5).unwrap();
    for k in 0..=uninterrupted.steps {
        let problem = parabolas();
        let stopped = Run::new(&problem, &descent())
            .budget(Budget::steps(k))
            .observe(Trace::new(&cut))
            .checkpoint(&file, 1_000)
            .start(5)
            .unwrap();
        assert_eq!(stopped.steps, k);
        // What a process killed after the checkpoint may leave behind: more rows, the last one torn.
        let mut rows = fs::read(&whole).unwrap();
        if k < uninterrupted.steps {
            rows.truncate(rows.len() - 7);
        }
        fs::write(&cut, rows).unwrap();
        let solver = descent();
        let resumed = Run::new(&problem, &solver).observe(Trace::new(&cut)).resume_file(&file).unwrap();
        assert_eq!(essence(&resumed), essence(&uninterrupted), "stopped after step {k}");
        assert_eq!(
            fs::read_to_string(&cut).unwrap(),
            fs::read_to_string(&whole).unwrap(),
            "stopped after step {k}"
        );
    }
}

#[test]
fn resuming_keeps_counts_and_time() {
    let stopped = Run::new(&parabolas(), &descent()).budget(Budget::steps(4)).start(5).unwrap();
    let at = stopped.checkpoint.unwrap();
    let (counts, wall) = (at.counts, at.wall);
    let resumed = Run::new(&parabolas(), &descent()).budget(Budget::steps(6)).resume(at).unwrap();
    assert_eq!(resumed.counts.lower.grad_y, counts.lower.grad_y + 2);
    assert!(resumed.wall > wall);
}

#[test]
fn a_run_that_ended_by_itself_ends_at_once_when_resumed() {
    let report = Run::new(&parabolas(), &descent()).start(1).unwrap();
    let (steps, at) = (report.steps, report.checkpoint.unwrap());
    let resumed = Run::new(&parabolas(), &descent()).resume(at).unwrap();
    assert_eq!((resumed.status, resumed.steps), (Status::Converged, steps));
}

#[test]
fn every_kind_of_budget_is_overshot_by_less_than_one_step() {
    let run = |budget| Run::new(&parabolas(), &descent()).budget(budget).start(1).unwrap();
    let report = run(Budget::steps(7));
    assert_eq!((report.status, report.steps), (Status::OutOfSteps, 7));

    // One lower gradient before the first step and three gradients in each: 1 + 3·7 = 22 is the first past 20.
    let report = run(Budget { gradients: Some(20), ..Budget::default() });
    assert_eq!((report.status, report.counts.gradients()), (Status::OutOfGradients, 22));

    // Ten samples before the first step; per step ten of the lower and three of the upper level.
    let report = run(Budget { samples: Some(40), ..Budget::default() });
    assert_eq!((report.status, report.counts.samples()), (Status::OutOfSamples, 49));

    let report = run(Budget { seconds: Some(0.0), ..Budget::default() });
    assert_eq!((report.status, report.steps), (Status::OutOfTime, 0));
}

#[test]
fn the_clock_stands_still_while_observers_look() {
    let slow = |_: &Event<Parabolas>| {
        std::thread::sleep(Duration::from_millis(50));
        ControlFlow::Continue(())
    };
    let problem = parabolas();
    let solver = descent();
    let report = Run::new(&problem, &solver).budget(Budget::steps(4)).observe(slow).start(1).unwrap();
    // The observer alone sleeps 200 ms; four steps on two numbers take microseconds.
    assert!(report.wall < Duration::from_millis(100), "{:?}", report.wall);
}

#[test]
fn settings_out_of_range_are_refused_before_the_first_oracle_call() {
    let problem = parabolas();
    let error = Run::new(&problem, &Descent { step_x: -1.0, ..descent() }).start(1).unwrap_err();
    assert_eq!(error.to_string(), "step_x = -1 is not allowed: give a positive step");
    let budget = Budget { seconds: Some(-2.0), ..Budget::default() };
    let error = Run::new(&problem, &descent()).budget(budget).start(1).unwrap_err();
    assert!(error.to_string().starts_with("budget.seconds = -2 is not allowed"), "{error}");
    let error = Run::new(&problem, &descent()).checkpoint("unused", 0).start(1).unwrap_err();
    assert!(error.to_string().starts_with("checkpoint_every = 0 is not allowed"), "{error}");
    assert_eq!(problem.lower.calls.get(), 0);
}

#[test]
fn a_nan_ends_the_run_with_its_step_and_oracle_and_the_last_good_iterate() {
    // Call 1 is before the first step, call n + 1 in step n.
    let report = Run::new(&faulty(Fault::NaN, 6), &descent()).start(1).unwrap();
    assert_eq!(report.status, Status::NonFinite { step: 5, oracle: "lower.grad_y".into() });
    assert!(report.checkpoint.is_none());
    let good = Run::new(&parabolas(), &descent()).budget(Budget::steps(4)).start(1).unwrap();
    assert_eq!((report.steps, &report.x, &report.y), (4, &good.x, &good.y));
    assert_eq!(report.best, good.best);

    let report = Run::new(&faulty(Fault::NaN, 1), &descent()).start(1).unwrap();
    assert_eq!(report.status, Status::NonFinite { step: 0, oracle: "lower.grad_y".into() });
    assert_eq!(report.x, parabolas().start(1).0);
}

#[test]
fn an_iterate_that_overflows_is_not_finite() {
    let report = Run::new(&parabolas(), &Descent { step_x: 1e308, ..descent() }).start(1).unwrap();
    assert!(matches!(report.status, Status::NonFinite { step: 1.., .. }), "{:?}", report.status);
    assert!(report.x.is_finite() && report.y.is_finite());
}

#[test]
fn a_failing_oracle_surfaces_with_its_cause() {
    for call in 1..5 {
        let error = Run::new(&faulty(Fault::Broken, call), &descent()).start(1).unwrap_err();
        let expected = format!("step {}: oracle lower.grad_y failed: the simulator hung up", call - 1);
        assert_eq!(error.to_string(), expected);
        let RunError::Oracle { counts, .. } = error else { panic!("{error:?}") };
        assert_eq!(counts.lower.grad_y, call);
    }
}

#[test]
fn an_observer_can_stop_the_run_and_it_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint");
    let stop = |event: &Event<Parabolas>| match event.step {
        3 => ControlFlow::Break("seen enough".to_owned()),
        _ => ControlFlow::Continue(()),
    };
    let problem = parabolas();
    let solver = descent();
    let report = Run::new(&problem, &solver).observe(stop).checkpoint(&file, 100).start(2).unwrap();
    assert_eq!(report.status, Status::Stopped { why: "seen enough".into() });
    assert_eq!(report.steps, 3);
    let resumed = Run::new(&parabolas(), &descent()).resume_file(&file).unwrap();
    let uninterrupted = Run::new(&parabolas(), &descent()).start(2).unwrap();
    assert_eq!(essence(&resumed), essence(&uninterrupted));
}

#[test]
fn the_best_iterate_is_the_one_of_the_lowest_value() {
    let mut values = Vec::new();
    let problem = parabolas();
    let solver = descent();
    let report = Run::new(&problem, &solver)
        .budget(Budget::steps(20))
        .observe(|event: &Event<Parabolas>| {
            values.push(event.info.value.unwrap());
            ControlFlow::Continue(())
        })
        .start(2)
        .unwrap();
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let best = report.best.unwrap();
    assert_eq!(best.value, lowest);
    assert_eq!(values[usize::try_from(best.step).unwrap()], lowest);
}

/// A checkpoint file in a folder of its own.
fn written() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.json");
    Run::new(&parabolas(), &descent()).budget(Budget::steps(3)).checkpoint(&file, 2).start(1).unwrap();
    (folder, file)
}
fn resume_error(file: &Path) -> String {
    Run::new(&parabolas(), &descent()).resume_file(file).unwrap_err().to_string()
}

#[test]
fn a_checkpoint_cut_short_anywhere_is_damaged() {
    let (_folder, file) = written();
    let bytes = fs::read(&file).unwrap();
    // Without the last byte, the line's end, nothing is lost.
    for length in [0, 1, 40, bytes.len() / 2, bytes.len() - 2] {
        fs::write(&file, &bytes[..length]).unwrap();
        let error = resume_error(&file);
        assert!(error.contains("checkpoint.json is damaged"), "{length} bytes: {error}");
        assert!(error.contains("resume from another checkpoint"), "{error}");
    }
}

#[test]
fn a_changed_checkpoint_is_damaged() {
    let (_folder, file) = written();
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replacen("\"step\":3", "\"step\":2", 1);
    assert_ne!(text, changed);
    fs::write(&file, changed).unwrap();
    let error = resume_error(&file);
    assert!(error.contains("is damaged: its checksum is"), "{error}");
}

#[test]
fn a_checkpoint_of_something_else_is_foreign() {
    let (_folder, file) = written();
    let error = Run::new(&parabolas(), &descent()).named("t5").resume_file(&file).unwrap_err().to_string();
    assert!(
        error.contains(
            "belongs to solver descent on problem unnamed, not to solver descent on problem t5; give the recipe"
        ),
        "{error}"
    );
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("\"schema\":1", "\"schema\":7", 1)).unwrap();
    let error = resume_error(&file);
    assert!(error.contains("bilevel-checkpoint schema 7"), "{error}");
}

#[test]
fn a_checkpoint_of_another_dimension_is_foreign() {
    let stopped = Run::new(&parabolas(), &descent()).budget(Budget::steps(1)).start(1).unwrap();
    let mut at = stopped.checkpoint.unwrap();
    at.state.x.push(0.0);
    let error = Run::new(&parabolas(), &descent()).resume(at).unwrap_err().to_string();
    assert!(error.contains("3 upper and 2 lower coordinates"), "{error}");
}

#[test]
fn a_missing_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = resume_error(&folder.path().join("nowhere.json"));
    assert!(error.contains("nowhere.json") && error.contains("check that the folder exists"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_found_before_the_first_step() {
    // A file where a folder should be refuses everyone, the superuser included.
    let folder = tempfile::tempdir().unwrap();
    let not_a_folder = folder.path().join("file");
    fs::write(&not_a_folder, "").unwrap();
    let problem = parabolas();
    let file = not_a_folder.join("checkpoint.json");
    let error = Run::new(&problem, &descent()).checkpoint(&file, 1).start(1).unwrap_err();
    assert!(error.to_string().contains("check that the folder exists, is writable"), "{error}");
    assert_eq!(problem.lower.calls.get(), 1, "only the call before the first step");
    let file = not_a_folder.join("trace.jsonl");
    let error = Run::new(&problem, &descent()).observe(Trace::new(&file)).start(1).unwrap_err();
    assert!(error.to_string().contains("trace.jsonl"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_the_step() {
    let error = Run::new(&parabolas(), &descent()).observe(Trace::new("/dev/full")).start(1).unwrap_err();
    assert!(error.to_string().starts_with("step 1: trace /dev/full"), "{error}");
}

#[test]
fn a_state_that_json_cannot_hold_is_refused_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.json");
    let solver = Descent { spoils_at: Some(3), ..descent() };
    let error = Run::new(&parabolas(), &solver).checkpoint(&file, 1).start(1).unwrap_err();
    assert!(error.to_string().contains("of step 3 cannot hold the solver's state"), "{error}");
    let old = Checkpoint::<Dense, Dense, Walk>::read(&file, "descent", "unnamed").unwrap();
    assert_eq!(old.step, 2);
}

#[test]
fn a_checkpoint_tells_whose_it_is() {
    let (_folder, file) = written();
    let origin = checkpoint::origin(&file).unwrap();
    assert_eq!((origin.solver.as_str(), origin.problem.as_str()), ("descent", "unnamed"));
    assert_eq!(origin.version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn no_partial_file_is_left_behind() {
    let (folder, _) = written();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn trace_rows_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (rows, times) = (folder.path().join("trace.jsonl"), folder.path().join("times.jsonl"));
    let report = Run::new(&parabolas(), &descent())
        .observe(Trace::new(&rows).with_times(&times))
        .budget(Budget::steps(5))
        .start(1)
        .unwrap();
    let read = trace::read(&rows).unwrap();
    assert_eq!(read.iter().map(|row| row.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let last = read.last().unwrap();
    assert_eq!((last.counts, last.x.clone()), (report.counts, Some(report.x)));
    assert!((last.extras["noise"].unwrap() - 0.1 * 0.9_f64.powi(4)).abs() < 1e-15);
    assert_eq!(fs::read_to_string(times).unwrap().lines().count(), 5);
}
