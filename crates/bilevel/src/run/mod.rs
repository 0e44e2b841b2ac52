//! Driving a solver: budget, observers, checkpoints, trace.

mod status;

pub use status::Status;
