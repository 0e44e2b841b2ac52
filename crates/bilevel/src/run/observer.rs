//! Looking on while a solver runs.

use std::{ops::ControlFlow, time::Duration};

use crate::{oracles::OracleCounts, problem::Problem, solvers::StepInfo};

/// What can go wrong in an observer: its own files, mostly.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// What an observer sees after each step.
#[derive(Debug)]
pub struct Event<'a, P: Problem> {
    /// Steps done so far, this one included.
    pub step: u64,
    /// Upper iterate after the step.
    pub x: &'a P::X,
    /// Lower iterate after the step.
    pub y: &'a P::Y,
    /// What the solver knows of the step.
    pub info: &'a StepInfo,
    /// Oracle calls since the start of the run.
    pub counts: OracleCounts,
    /// Time spent in the solver since the start of the run.
    pub wall: Duration,
}

/// Sees every step of a run; the clock stands still meanwhile, and oracles it calls itself are not counted.
///
/// Every closure from an [`Event`] to a [`ControlFlow`] is an observer: `Break` with a reason ends the run as
/// [`Status::Stopped`](super::Status::Stopped), after the checkpoint is written.
pub trait Observer<P: Problem> {
    /// Called once, before the first step of a run (`step` = 0) or of its resumption from a checkpoint of `step`.
    fn begin(&mut self, step: u64) -> Result<(), ObserverError> {
        let _ = step;
        Ok(())
    }
    /// Called after each step. An error ends the run with [`RunError::Observer`](super::RunError::Observer).
    fn observe(&mut self, event: &Event<P>) -> Result<ControlFlow<String>, ObserverError>;
}

impl<P: Problem, F: FnMut(&Event<P>) -> ControlFlow<String>> Observer<P> for F {
    fn observe(&mut self, event: &Event<P>) -> Result<ControlFlow<String>, ObserverError> {
        Ok(self(event))
    }
}
