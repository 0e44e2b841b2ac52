//! Weights that a recipe gives: numbers, or those that another run found.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Method, Recipe,
    reweight::{need_simplex, need_start},
};
use crate::{error::ReweightError, result::RunResult};

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

impl Recipe {
    /// The recipe with numbers in place of a file of weights, so that a run can be resumed, and repeated, without the file.
    ///
    /// # Errors
    /// When the file cannot be read, is not the result of a run, has not that method, or has other sources than the recipe.
    pub fn with_given_weights(&self) -> Result<Self, ReweightError> {
        type Need = fn(&str, &BTreeMap<String, f64>, &[&str]) -> Result<(), ConfigError>;
        let names: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
        let mut recipe = self.clone();
        let fields: [(&str, Need, &mut Option<Given>); 2] = [
            ("reweight.given", need_simplex, &mut recipe.reweight.given),
            ("reweight.initial", need_start, &mut recipe.reweight.initial),
        ];
        for (field, need, given) in fields {
            let (file, method) = match given {
                Some(Given::File(file)) => (file, None),
                Some(Given::OfMethod { file, method }) => (file, Some(*method)),
                Some(Given::Weights(_)) | None => continue,
            };
            let weights = read(field, file, method)?;
            need(field, &weights, &names).map_err(|error| ConfigError {
                remedy: format!("{} (weights of {})", error.remedy, file.display()),
                ..error
            })?;
            *given = Some(Given::Weights(weights));
        }
        Ok(recipe)
    }
}

fn read(field: &str, file: &Path, method: Option<Method>) -> Result<BTreeMap<String, f64>, ReweightError> {
    let refuse = |remedy: String| ConfigError::new(field, file.display(), remedy);
    let text = std::fs::read_to_string(file).map_err(|error| {
        refuse(format!("{error}; give the weights.json of a run that has ended, or numbers"))
    })?;
    let result: RunResult = serde_json::from_str(&text).map_err(|error| {
        refuse(format!(
            "not the weights.json of a run ({error}); give that of one that has ended, or numbers"
        ))
    })?;
    let Some(found) = result.of(method) else {
        let method = method.map_or("any method", Method::name);
        return Err(
            refuse(format!("it has no weights of {method}; it has those of {}", result.known())).into()
        );
    };
    let names = result.sources.iter().map(|source| source.name.clone());
    Ok(names.zip(found.weights.iter().map(|weight| weight.mean)).collect())
}
