//! Everything that can go wrong outside the mathematics: settings, oracles, files.

use std::path::PathBuf;

/// The result of one oracle call, and of everything made of oracle calls.
pub type OracleResult<T> = Result<T, OracleError>;

/// An oracle of the problem failed or answered with something that is not a number.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The user's code returned an error.
    #[error("oracle {oracle} failed: {source}")]
    Failed {
        /// Level and oracle, for instance `lower.grad_y`.
        oracle: &'static str,
        /// The user's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The user's code returned NaN or an infinity.
    #[error("oracle {oracle} returned a value that is not finite")]
    NonFinite {
        /// Level and oracle, for instance `lower.grad_y`.
        oracle: &'static str,
    },
}

impl OracleError {
    /// Wraps an error of the user's code.
    pub fn failed(oracle: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { oracle, source: source.into() }
    }
}

/// A setting is out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} = {value} is not allowed: {remedy}")]
pub struct ConfigError {
    /// Name of the field, as written in a configuration file.
    pub field: String,
    /// The value that was given.
    pub value: String,
    /// What is allowed, and what to do.
    pub remedy: String,
}

impl ConfigError {
    /// An error about one field.
    pub fn new(field: impl Into<String>, value: impl std::fmt::Display, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), remedy: remedy.into() }
    }
    /// `Ok` when `allowed`, the error otherwise.
    pub fn require(
        allowed: bool,
        field: &str,
        value: impl std::fmt::Display,
        remedy: &str,
    ) -> Result<(), Self> {
        if allowed { Ok(()) } else { Err(Self::new(field, value, remedy)) }
    }
}

/// A checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("checkpoint {path}: {source}; check that the folder exists, is writable and has room")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is cut short or was changed: its checksum does not match.
    #[error("checkpoint {path} is damaged: {detail}; resume from another checkpoint or start the run again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file is a checkpoint of something else.
    #[error("checkpoint {path} belongs to {found}, not to {expected}; give the recipe it was made with")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What the file says it belongs to.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// The state holds something that JSON cannot, a number that is not finite above all; nothing was written.
    #[error(
        "checkpoint {path} of step {step} cannot hold the solver's state: {detail}; a state must keep finite numbers and use an option for what is not known"
    )]
    Unfaithful {
        /// The file.
        path: PathBuf,
        /// Steps done.
        step: u64,
        /// What did not read back.
        detail: String,
    },
}
