//! Driving a solver: budget, observers, checkpoints, trace.
//!
//! ```text
//! Run::new(&problem, &solver).budget(…).observe(…).checkpoint(path, every).start(seed)
//! ```
//!
//! The solver decides about one step and about the end it came to; everything around it is here. Before each step the
//! budget is looked at; after each step the observers see it and, when it is time, the checkpoint is written. The clock
//! runs during the solver's steps only.

mod budget;
pub mod checkpoint;
mod observer;
mod report;
mod status;
pub mod trace;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use budget::Budget;
pub use checkpoint::{Best, Checkpoint};
pub use observer::{Event, Observer, ObserverError};
pub use report::Report;
pub use status::Status;
pub use trace::Trace;

use crate::{
    certificate::Finding,
    error::{CheckpointError, ConfigError, OracleError},
    lower_level::LowerLevelCheck,
    oracles::{OracleCounts, Oracles},
    problem::{Problem, SecondOrder},
    solvers::{Solver, State, StepInfo},
    vector::Vector,
};

/// A run that could not go on. Ends that have to do with the mathematics are a [`Status`] instead.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting of the solver or of the run is out of its range; no oracle was called.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An oracle failed. The step it broke off leaves no state: go on from the last checkpoint.
    #[error("step {step}: {source}")]
    Oracle {
        /// The step (from 1) during which it failed; 0 before the first.
        step: u64,
        /// Oracle calls so far, the failed one included.
        counts: Box<OracleCounts>,
        /// What failed.
        source: OracleError,
    },
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An observer failed, for instance to write its file.
    #[error("step {step}: {source}")]
    Observer {
        /// Steps done.
        step: u64,
        /// What failed.
        source: ObserverError,
    },
}

/// Checkpoint of a solver on a problem.
pub type CheckpointOf<P, S> = Checkpoint<<P as Problem>::X, <P as Problem>::Y, <S as Solver<P>>::State>;
/// Report of a solver on a problem.
pub type ReportOf<P, S> = Report<<P as Problem>::X, <P as Problem>::Y, <S as Solver<P>>::State>;

/// A look at the lower level: whether the present (x, y) belongs to a problem that has an answer.
type Judge<'a, P> =
    Box<dyn Fn(&P, &<P as Problem>::X, &<P as Problem>::Y) -> Result<Option<Finding>, OracleError> + 'a>;

/// The check of [`Run::certify`], and its bound on the problem folded into a closure.
struct Certify<'a, P: Problem> {
    check: &'a LowerLevelCheck,
    judge: Judge<'a, P>,
    every: u64,
}

/// One run of a solver on a problem, about to start.
pub struct Run<'a, P: Problem, S: Solver<P>> {
    problem: &'a P,
    solver: &'a S,
    name: String,
    budget: Budget,
    observers: Vec<Box<dyn Observer<P> + 'a>>,
    checkpoint: Option<(PathBuf, u64)>,
    certify: Option<Certify<'a, P>>,
}

impl<P: Problem, S: Solver<P>> std::fmt::Debug for Run<'_, P, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("solver", &self.solver.name())
            .field("problem", &self.name)
            .field("budget", &self.budget)
            .field("observers", &self.observers.len())
            .field("checkpoint", &self.checkpoint)
            .field("certify", &self.certify.as_ref().map(|certify| certify.every))
            .finish_non_exhaustive()
    }
}

impl<'a, P: Problem, S: Solver<P>> Run<'a, P, S> {
    /// A run without limit, observers or checkpoints: it ends when the solver says so.
    pub fn new(problem: &'a P, solver: &'a S) -> Self {
        let (budget, observers) = (Budget::default(), Vec::new());
        Self { problem, solver, name: "unnamed".into(), budget, observers, checkpoint: None, certify: None }
    }
    /// Names the problem. Checkpoints bear the name, and those of another name are refused.
    #[must_use]
    pub fn named(mut self, problem: impl Into<String>) -> Self {
        self.name = problem.into();
        self
    }
    /// Sets the limits.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }
    /// Adds an observer; observers are called in the order in which they were added.
    #[must_use]
    pub fn observe(mut self, observer: impl Observer<P> + 'a) -> Self {
        self.observers.push(Box::new(observer));
        self
    }
    /// Writes a checkpoint to this file before the first step, after every so many steps, and at the end.
    #[must_use]
    pub fn checkpoint(mut self, path: impl Into<PathBuf>, every: u64) -> Self {
        self.checkpoint = Some((path.into(), every));
        self
    }

    /// Looks at the lower level after every so many steps and at the end. Where it falls without bound the run ends as
    /// [`Status::Flagged`] with [`Finding::LowerLevelUnbounded`], whatever the solver or the budget said: S(x) is empty, and no
    /// gradient of F means anything. The oracle calls of the check are not counted, and the clock stands still.
    #[must_use]
    pub fn certify(mut self, check: &'a LowerLevelCheck, every: u64) -> Self
    where
        P::Lower: SecondOrder<P::X, P::Y>,
    {
        let judge = |problem: &P, x: &P::X, y: &P::Y| {
            let found = check.run(&Oracles::new(problem), x, y)?;
            Ok(if found.is_unbounded() { found.finding } else { None })
        };
        self.certify = Some(Certify { check, judge: Box::new(judge), every });
        self
    }

    /// Starts at the problem's own starting point for this seed.
    pub fn start(self, seed: u64) -> Result<ReportOf<P, S>, RunError> {
        let (x, y) = self.problem.start(seed);
        self.start_from(x, y, seed)
    }

    /// Starts at a given point.
    pub fn start_from(mut self, x: P::X, y: P::Y, seed: u64) -> Result<ReportOf<P, S>, RunError> {
        self.validate()?;
        self.begin(0)?;
        let oracles = Oracles::new(self.problem);
        let clock = Instant::now();
        let state = match self.solver.init(&oracles, x.clone(), y.clone(), seed) {
            Ok(state) => state,
            Err(OracleError::NonFinite { oracle }) => {
                return Ok(Report {
                    status: Status::NonFinite { step: 0, oracle: oracle.into() },
                    steps: 0,
                    x,
                    y,
                    best: None,
                    last: None,
                    counts: oracles.counts(),
                    wall: clock.elapsed(),
                    checkpoint: None,
                });
            }
            Err(source) => {
                return Err(RunError::Oracle { step: 0, counts: Box::new(oracles.counts()), source });
            }
        };
        let at = Checkpoint {
            solver: self.solver.name().into(),
            problem: self.name.clone(),
            seed,
            step: 0,
            counts: oracles.counts(),
            wall: clock.elapsed(),
            best: None,
            last: None,
            end: None,
            state,
        };
        if let Some((path, _)) = &self.checkpoint {
            at.write(path)?;
        }
        self.drive(&oracles, at)
    }

    /// Goes on from a checkpoint; the result is that of a run that was never stopped.
    pub fn resume(mut self, at: CheckpointOf<P, S>) -> Result<ReportOf<P, S>, RunError> {
        self.validate()?;
        self.require_own(&at, Path::new("(in memory)"))?;
        self.begin(at.step)?;
        let oracles = Oracles::counting_from(self.problem, at.counts);
        self.drive(&oracles, at)
    }

    /// Goes on from a checkpoint file.
    pub fn resume_file(mut self, path: &Path) -> Result<ReportOf<P, S>, RunError> {
        self.validate()?;
        let at = Checkpoint::read(path, self.solver.name(), &self.name)?;
        self.require_own(&at, path)?;
        self.begin(at.step)?;
        let oracles = Oracles::counting_from(self.problem, at.counts);
        self.drive(&oracles, at)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.solver.validate()?;
        self.budget.validate()?;
        if let Some((_, every)) = self.checkpoint {
            let remedy = "write a checkpoint every 1 or more steps";
            ConfigError::require(every > 0, "checkpoint_every", every, remedy)?;
        }
        if let Some(certify) = &self.certify {
            let remedy = "look at the lower level every 1 or more steps";
            ConfigError::require(certify.every > 0, "certify_every", certify.every, remedy)?;
            certify.check.validate()?;
        }
        Ok(())
    }

    /// Fails unless the checkpoint is of this solver and of a problem of this name and these dimensions.
    fn require_own(&self, at: &CheckpointOf<P, S>, path: &Path) -> Result<(), CheckpointError> {
        checkpoint::require_origin(path, (&at.solver, &at.problem), (self.solver.name(), &self.name))?;
        let (x, y) = self.problem.start(at.seed);
        let (expected, found) =
            ((x.dim(), y.dim()), (at.state.iterate().0.dim(), at.state.iterate().1.dim()));
        if found == expected {
            return Ok(());
        }
        let words = |(x, y)| format!("a problem with {x} upper and {y} lower coordinates");
        Err(CheckpointError::Foreign { path: path.into(), found: words(found), expected: words(expected) })
    }

    fn begin(&mut self, step: u64) -> Result<(), RunError> {
        for observer in &mut self.observers {
            observer.begin(step).map_err(|source| RunError::Observer { step, source })?;
        }
        Ok(())
    }

    fn drive(mut self, oracles: &Oracles<P>, mut at: CheckpointOf<P, S>) -> Result<ReportOf<P, S>, RunError> {
        let mut stopped = None;
        let mut judged_at = None;
        // where the step began, in lists that are used again
        let (mut x, mut y) = (at.state.iterate().0.clone(), at.state.iterate().1.clone());
        let mut status = loop {
            if let Some(end) = at.end.clone().or_else(|| stopped.take()) {
                break end;
            }
            if let Some(end) = self.budget.exhausted(at.step, &at.counts, at.wall) {
                break end;
            }
            x.clone_from(at.state.iterate().0);
            y.clone_from(at.state.iterate().1);
            let clock = Instant::now();
            let info = self.solver.step(oracles, &mut at.state);
            let spent = clock.elapsed();
            let (new_x, new_y) = at.state.iterate();
            let info = match info {
                Ok(info) if new_x.is_finite() && new_y.is_finite() => info,
                Ok(_) => return Ok(broken_off(at, x, y, oracles.counts(), spent, "iterate")),
                Err(OracleError::NonFinite { oracle }) => {
                    return Ok(broken_off(at, x, y, oracles.counts(), spent, oracle));
                }
                Err(source) => {
                    return Err(RunError::Oracle {
                        step: at.step + 1,
                        counts: Box::new(oracles.counts()),
                        source,
                    });
                }
            };
            // The value belongs to the iterate that the step started from.
            if let Some(value) = info.value.filter(|value| value.is_finite())
                && at.best.as_ref().is_none_or(|best| value < best.value)
            {
                at.best = Some(Best { step: at.step, value, x: x.clone(), y: y.clone() });
            }
            at.step += 1;
            at.counts = oracles.counts();
            at.wall += spent;
            at.end.clone_from(&info.end);
            if let Some(certify) = &self.certify
                && at.end.is_none()
                && at.step.is_multiple_of(certify.every)
            {
                at.end = self.judge(&at)?;
                judged_at = Some(at.step);
            }
            stopped = self.show(&at, &info)?;
            at.last = Some(info);
            if let Some((path, every)) = &self.checkpoint
                && at.step.is_multiple_of(*every)
            {
                at.write(path)?;
            }
        };
        if judged_at != Some(at.step)
            && !matches!(status, Status::Flagged { .. })
            && let Some(flag) = self.judge(&at)?
        {
            status = flag;
        }
        if let Some((path, _)) = &self.checkpoint {
            at.write(path)?;
        }
        let (x, y) = at.state.iterate();
        let (x, y) = (x.clone(), y.clone());
        Ok(Report {
            status,
            steps: at.step,
            x,
            y,
            best: at.best.clone(),
            last: at.last.clone(),
            counts: at.counts,
            wall: at.wall,
            checkpoint: Some(at),
        })
    }

    /// The end that the lower level asks for at the present iterate.
    fn judge(&self, at: &CheckpointOf<P, S>) -> Result<Option<Status>, RunError> {
        let Some(certify) = &self.certify else { return Ok(None) };
        let (x, y) = at.state.iterate();
        match (certify.judge)(self.problem, x, y) {
            Ok(finding) => Ok(finding.map(|finding| Status::Flagged { finding })),
            Err(source) => Err(RunError::Oracle { step: at.step, counts: Box::new(at.counts), source }),
        }
    }

    /// Lets every observer see the step; the first one that wants to stop gives the reason.
    fn show(&mut self, at: &CheckpointOf<P, S>, info: &StepInfo) -> Result<Option<Status>, RunError> {
        let (x, y) = at.state.iterate();
        let event = Event { step: at.step, x, y, info, counts: at.counts, wall: at.wall };
        let mut stopped = None;
        for observer in &mut self.observers {
            match observer.observe(&event) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(why)) => stopped = stopped.or(Some(Status::Stopped { why })),
                Err(source) => return Err(RunError::Observer { step: at.step, source }),
            }
        }
        Ok(stopped)
    }
}

/// The report of a run whose last step met a number that is not finite: the iterate before that step is returned.
fn broken_off<X, Y, S>(
    at: Checkpoint<X, Y, S>,
    x: X,
    y: Y,
    counts: OracleCounts,
    spent: Duration,
    oracle: &str,
) -> Report<X, Y, S> {
    Report {
        status: Status::NonFinite { step: at.step + 1, oracle: oracle.into() },
        steps: at.step,
        x,
        y,
        best: at.best,
        last: at.last,
        counts,
        wall: at.wall + spent,
        checkpoint: None,
    }
}

#[cfg(test)]
mod tests;
