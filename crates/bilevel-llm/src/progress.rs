//! What a run tells while it goes on.

use crate::{
    recipe::Method,
    result::{Phase, TraceRow},
};

/// Something that a run says about itself.
#[derive(Clone, Debug)]
pub enum ProgressEvent<'a> {
    /// Data are read, the model is made; the run starts.
    Started {
        /// Work units of the chains that have not ended; `Advanced` adds up to about this many.
        total_units: f64,
        /// Parameters of the model.
        parameters: u64,
        /// Everything the user should know before waiting.
        warnings: &'a [String],
    },
    /// Work was done.
    Advanced {
        /// The method.
        method: Method,
        /// The seed.
        seed: u64,
        /// The phase.
        phase: Phase,
        /// Work units done since the last event, counting what a resumed run had done before.
        units: f64,
    },
    /// A row of the trace was made.
    Row(&'a TraceRow),
    /// A method's phase ended.
    Finished {
        /// The method.
        method: Method,
        /// The seed.
        seed: u64,
        /// The phase.
        phase: Phase,
        /// Seconds it took.
        seconds: f64,
    },
}

/// A listener. Called from one thread at a time.
pub trait Progress: Send {
    /// Takes note.
    fn report(&mut self, event: &ProgressEvent);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _event: &ProgressEvent) {}
}
