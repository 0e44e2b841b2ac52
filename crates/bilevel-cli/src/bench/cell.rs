//! One run of a grid: a solver with settings on a problem with a seed. Done once; its file answers for it afterwards.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, atomic::AtomicBool},
};

use anyhow::{Context, Result, anyhow};
use bilevel::{
    Budget, Event, OracleCounts, Problem, Run, Solver,
    lower_level::LowerLevelCheck,
    problems::Zoo,
    solvers::{HyperObjective, registry::AnySolver},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::measure::{Measure, Row, metrics};
use crate::{exit::usage, interrupt, recipe::ProblemSpec, registry, run_folder};

/// Everything that decides the numbers of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Version of the library.
    pub version: String,
    /// The problem.
    pub problem: ProblemSpec,
    /// The solver with all of its settings.
    pub solver: Value,
    /// The seed.
    pub seed: u64,
    /// The limits.
    pub budget: Budget,
    /// The lower level is looked at every so many steps and at the end; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certify: Option<u64>,
}

impl Key {
    /// Name of the run's files: what it is, and a hash of the rest (FNV-1a, which does not change between releases).
    fn file_name(&self) -> Result<String> {
        let hash = serde_json::to_vec(self)?.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let solver = self.solver.get("name").and_then(Value::as_str).unwrap_or("solver");
        Ok(format!("{}-{solver}-{}-{hash:016x}", self.problem.name, self.seed))
    }
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was run.
    pub key: Key,
    /// Which hyper-objective the solver descends.
    pub target: HyperObjective,
    /// Name of its end: that of a status, or `Failed` or `Crashed`.
    pub end: String,
    /// The end in words.
    pub end_in_words: String,
    /// Steps done.
    pub steps: u64,
    /// Measurements, from the start to the end.
    pub rows: Vec<Row>,
}

impl Outcome {
    /// A number at the end, if it was measured there.
    pub fn last(&self, metric: &str) -> Option<f64> {
        self.rows.last()?.metrics.get(metric).copied()
    }
    /// Oracle calls of the whole run.
    pub fn counts(&self) -> OracleCounts {
        self.rows.last().map(|row| row.counts).unwrap_or_default()
    }
}

/// A run that is to be done.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What is run.
    pub key: Key,
    solver: AnySolver,
}

/// The problem that was built last: cells in a row share theirs.
#[derive(Debug, Default)]
pub struct Problems(Mutex<Option<(ProblemSpec, Zoo)>>);

impl Problems {
    /// The problem of a specification.
    pub fn get(&self, spec: &ProblemSpec) -> Result<Zoo> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, zoo)) = &*last
            && known == spec
        {
            return Ok(zoo.clone());
        }
        // the old one may be large
        *last = None;
        let zoo = registry::problem(spec)?;
        *last = Some((spec.clone(), zoo.clone()));
        Ok(zoo)
    }
}

impl Cell {
    /// A solver with its settings on a problem.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(problem: ProblemSpec, solver: AnySolver, seed: u64, budget: Budget) -> Result<Self> {
        Solver::<Zoo>::validate(&solver)
            .map_err(|error| usage(format!("solver {}: {error}", Solver::<Zoo>::name(&solver))))?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let key =
            Key { version, problem, solver: serde_json::to_value(&solver)?, seed, budget, certify: None };
        Ok(Self { key, solver })
    }

    /// The same run, its lower level looked at every so many steps.
    #[must_use]
    pub fn certified(mut self, every: Option<u64>) -> Self {
        self.key.certify = every;
        self
    }

    /// The outcome that an earlier call left in this folder.
    pub fn cached(&self, folder: &Path) -> Result<Option<Outcome>> {
        let path = folder.join(self.key.file_name()?).with_extension("json");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let outcome: Outcome = serde_json::from_str(&text).map_err(|error| {
            anyhow!("{}: {error}; the file is damaged, remove it and the run is done again", path.display())
        })?;
        Ok((outcome.key == self.key).then_some(outcome))
    }

    /// Runs to the end, from the checkpoint of an interrupted call if there is one; `None` when interrupted again.
    /// `share` hears which part of the budget is spent. A solver that fails or panics has an outcome too.
    pub fn run(
        &self,
        problem: &Zoo,
        folder: &Path,
        checkpoint_every: u64,
        flag: &AtomicBool,
        share: impl Fn(f64),
    ) -> Result<Option<Outcome>> {
        let files = Files::new(folder, &self.key.file_name()?);
        let target = Solver::<Zoo>::target(&self.solver);
        let budget = self.key.budget;
        let (x, y) = problem.start(self.key.seed);
        let first = Row {
            step: 0,
            seconds: 0.0,
            counts: OracleCounts::default(),
            metrics: metrics(problem, target, &x, &y),
        };
        let (measure, rows) = Measure::new(problem, target, files.rows.clone());
        let check = LowerLevelCheck::default();
        let mut run = Run::new(problem, &self.solver)
            .named(&self.key.problem.name)
            .budget(budget)
            .observe(measure)
            .observe(|event: &Event<Zoo>| {
                share(budget.share(event.step, &event.counts, event.wall));
                interrupt::stop(flag)
            })
            .checkpoint(&files.checkpoint, checkpoint_every);
        if let Some(every) = self.key.certify {
            run = run.certify(&check, every);
        }
        let report = catch_unwind(AssertUnwindSafe(|| {
            if files.checkpoint.exists() {
                run.resume_file(&files.checkpoint)
            } else {
                run.start(self.key.seed)
            }
        }));
        let mut all = vec![first];
        all.append(&mut rows.borrow_mut());
        let (end, end_in_words, steps) = match report {
            Ok(Ok(report)) => {
                if interrupt::is_cause(&report.status) {
                    return Ok(None);
                }
                // The end is measured wherever it falls; a run that broke off is left at its last good point.
                if all.last().is_none_or(|row| row.step < report.steps) {
                    let metrics = metrics(problem, target, &report.x, &report.y);
                    let seconds = report.wall.as_secs_f64();
                    all.push(Row { step: report.steps, seconds, counts: report.counts, metrics });
                }
                (report.status.name().to_owned(), report.status.to_string(), report.steps)
            }
            Ok(Err(error)) => {
                let steps = all.last().map_or(0, |row| row.step);
                ("Failed".into(), error.to_string(), steps)
            }
            Err(panic) => {
                let words = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("a panic without words");
                ("Crashed".into(), words.to_owned(), all.last().map_or(0, |row| row.step))
            }
        };
        let outcome = Outcome { key: self.key.clone(), target, end, end_in_words, steps, rows: all };
        run_folder::write(&files.outcome, &serde_json::to_vec(&outcome)?)?;
        for path in [&files.checkpoint, &files.rows] {
            if path.exists() {
                fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))?;
            }
        }
        Ok(Some(outcome))
    }
}

/// The files of one run: the outcome at its end, checkpoint and rows as long as it is under way.
struct Files {
    outcome: PathBuf,
    checkpoint: PathBuf,
    rows: PathBuf,
}

impl Files {
    fn new(folder: &Path, name: &str) -> Self {
        let path = |extension: &str| folder.join(format!("{name}.{extension}"));
        Self { outcome: path("json"), checkpoint: path("checkpoint"), rows: path("rows") }
    }
}

#[cfg(test)]
mod tests {
    use bilevel::{
        problems::{Formulas, KnownAnswer},
        solvers::registry::by_name,
    };

    use super::*;

    /// A problem whose gradient in x panics.
    #[derive(Debug)]
    struct Broken;
    impl Formulas for Broken {
        fn dims(&self) -> (usize, usize) {
            (1, 1)
        }
        fn intrinsic_dim(&self) -> Option<usize> {
            None
        }
        fn f(&self, _: &[f64], y: &[f64]) -> f64 {
            y[0]
        }
        fn f_grad_x(&self, _: &[f64], _: &[f64]) -> Vec<f64> {
            panic!("index out of range: a bug of the problem")
        }
        fn f_grad_y(&self, _: &[f64], _: &[f64]) -> Vec<f64> {
            vec![1.0]
        }
        fn g(&self, _: &[f64], y: &[f64]) -> f64 {
            0.5 * y[0] * y[0]
        }
        fn g_grad_x(&self, _: &[f64], _: &[f64]) -> Vec<f64> {
            vec![0.0]
        }
        fn g_grad_y(&self, _: &[f64], y: &[f64]) -> Vec<f64> {
            y.to_vec()
        }
        fn g_hvp_yy(&self, _: &[f64], _: &[f64], u: &[f64]) -> Vec<f64> {
            u.to_vec()
        }
        fn g_jvp_xy(&self, _: &[f64], _: &[f64], _: &[f64]) -> Vec<f64> {
            vec![0.0]
        }
        fn default_x(&self) -> Vec<f64> {
            vec![0.0]
        }
        fn start_y(&self, _: &[f64], _: u64) -> Vec<f64> {
            vec![1.0]
        }
        fn known(&self, _: &[f64]) -> Option<KnownAnswer> {
            None
        }
    }

    #[test]
    fn a_panic_is_the_end_of_its_run_alone() {
        let folder = tempfile::tempdir().unwrap();
        let spec = ProblemSpec {
            name: "broken".into(),
            parameters: std::collections::BTreeMap::new(),
            data: None,
            x: None,
            y: None,
        };
        let solver = by_name("f2ba").unwrap().default_solver();
        let cell = Cell::new(spec, solver, 3, Budget::steps(5)).unwrap();
        let problem = Zoo::new(Broken);
        let outcome =
            cell.run(&problem, folder.path(), 10, &AtomicBool::new(false), |_| {}).unwrap().unwrap();
        assert_eq!(outcome.end, "Crashed");
        assert_eq!(outcome.end_in_words, "index out of range: a bug of the problem");
        assert_eq!(outcome.last("value"), Some(1.0));
        // and it is recorded, without anything of a run under way
        assert_eq!(cell.cached(folder.path()).unwrap(), Some(outcome));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
