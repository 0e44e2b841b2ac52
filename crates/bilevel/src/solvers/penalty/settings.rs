//! Settings that several penalty methods have, and their checks.

use serde::{Deserialize, Serialize};

use crate::{error::ConfigError, schedule::Schedule};

/// Where the second lower iterate z starts at every step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZStart {
    /// At y. The loop is never finished, which biases the limit at every λ.
    Reset,
    /// Where it was. Its error vanishes with those of x and y.
    #[default]
    Persistent,
}

/// Which of the differing texts of a method is run. Every switch that is given explicitly overrides this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The published update with a persistent z.
    #[default]
    Library,
    /// The published update, z included.
    AsPublished,
    /// The update of the authors' released code, mistakes included.
    AsReleased,
}

/// Fails unless the value is a positive number.
pub(in crate::solvers) fn positive(field: &str, value: f64) -> Result<(), ConfigError> {
    ConfigError::require(value > 0.0 && value.is_finite(), field, value, "give a positive number")
}

/// Fails unless the value is a number of at least 0.
pub(in crate::solvers) fn not_negative(field: &str, value: f64) -> Result<(), ConfigError> {
    ConfigError::require(value >= 0.0 && value.is_finite(), field, value, "give 0 or a positive number")
}

/// Fails unless 0 ≤ value < 1.
pub(in crate::solvers) fn fraction(field: &str, value: f64) -> Result<(), ConfigError> {
    ConfigError::require((0.0..1.0).contains(&value), field, value, "give a number from 0 to below 1")
}

/// Fails when a schedule is out of range; a constant one is named as the number that a file gives for it.
pub(in crate::solvers) fn schedule(field: &str, schedule: Schedule) -> Result<(), ConfigError> {
    match schedule {
        Schedule::Constant { value } => positive(field, value),
        other => other
            .validate()
            .map_err(|error| ConfigError { field: format!("{field}.{}", error.field), ..error }),
    }
}

/// Fails when a count is 0.
pub(in crate::solvers) fn at_least_one(field: &str, value: u64) -> Result<(), ConfigError> {
    ConfigError::require(value >= 1, field, value, "give at least 1")
}

/// Fails when a batch size is given that is 0.
pub(in crate::solvers) fn batch(field: &str, size: Option<u64>) -> Result<(), ConfigError> {
    size.map_or(Ok(()), |size| at_least_one(field, size))
}

/// Fails when a tolerance is given that is not a positive number.
pub(in crate::solvers) fn tolerance(tol: Option<f64>) -> Result<(), ConfigError> {
    tol.map_or(Ok(()), |tol| positive("tol", tol))
}

/// How the weight λ of a penalty comes to its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LambdaSchedule {
    /// At once.
    #[default]
    Constant,
    /// In a line from 0 over the first steps.
    Ramp,
}

impl LambdaSchedule {
    /// λ at a step, counted from 0.
    pub fn at(self, lambda: f64, ramp_steps: u64, step: u64) -> f64 {
        match self {
            Self::Constant => lambda,
            Self::Ramp => lambda * (step as f64 / ramp_steps as f64).min(1.0),
        }
    }
}
