//! Weights that a recipe gives: numbers, or those that another run found.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Method;

/// Weights: of the method `given`, or those at which a search starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "weights by source name, the path of a weights.json, or { file = \"…/weights.json\", method = \"hg-ms\" }"
)]
pub enum Given {
    /// By source name.
    Weights(BTreeMap<String, f64>),
    /// Those of another run, the path of its `weights.json`: of HG-MS if it ran there, or else of its first method.
    File(PathBuf),
    /// Those of one method of another run.
    OfMethod {
        /// The path of its `weights.json`.
        file: PathBuf,
        /// The method.
        method: Method,
    },
}
