//! Weights that another run found, in place of the file that a recipe names.

use std::{collections::BTreeMap, path::Path};

use bilevel::ConfigError;

use crate::{
    error::ReweightError,
    recipe::{Given, Method, Recipe},
    result::RunResult,
};

/// The recipe with numbers in place of a file of weights, so that a run can be resumed, and repeated, without the file.
///
/// # Errors
/// When the file cannot be read, is not the result of a run, has not that method, or has other sources than the recipe.
pub fn resolved(recipe: &Recipe) -> Result<Recipe, ReweightError> {
    type Field = fn(&mut Recipe) -> &mut Option<Given>;
    let mut recipe = recipe.clone();
    let fields: [(&str, Field); 2] = [
        ("reweight.given", |recipe| &mut recipe.reweight.given),
        ("reweight.initial", |recipe| &mut recipe.reweight.initial),
    ];
    for (name, field) in fields {
        let (file, method) = match field(&mut recipe).clone() {
            Some(Given::File(file)) => (file, None),
            Some(Given::OfMethod { file, method }) => (file, Some(method)),
            Some(Given::Weights(_)) | None => continue,
        };
        *field(&mut recipe) = Some(Given::Weights(read(name, &file, method)?));
        recipe.validate().map_err(|error| ConfigError {
            remedy: format!("{} (weights of {})", error.remedy, file.display()),
            ..error
        })?;
    }
    Ok(recipe)
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
