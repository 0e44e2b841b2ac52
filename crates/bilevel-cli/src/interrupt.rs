//! Ctrl-C: the step in progress is finished, a checkpoint written, and the way back told.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use bilevel::Status;

/// Why an observer stops a run; its status says it.
const REASON: &str = "interrupted";

/// Raised by the first Ctrl-C (or a polite `kill`); the second one ends the process at once.
///
/// May be called once in a process, by the verb that runs something.
pub fn flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!(
            "\ninterrupted: finishing the step and writing a checkpoint (Ctrl-C again to leave at once)"
        );
    })
    .context("the handler for Ctrl-C cannot be installed")?;
    Ok(flag)
}

/// What an observer answers: to stop, once the flag is raised.
pub fn stop(flag: &AtomicBool) -> ControlFlow<String> {
    if flag.load(Ordering::SeqCst) { ControlFlow::Break(REASON.into()) } else { ControlFlow::Continue(()) }
}

/// Whether a run ended for that reason.
pub fn is_cause(end: &Status) -> bool {
    matches!(end, Status::Stopped { why } if why == REASON)
}
