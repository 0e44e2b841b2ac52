//! Problem and solver of a recipe.

use anyhow::Result;
use bilevel::{
    ConfigError, names,
    problems::{self, Zoo},
    solvers::registry::{self as solvers, AnySolver},
};
use toml::{Table, Value};

use crate::{exit::usage, recipe::ProblemSpec};

/// The problem of a recipe, with its start.
pub fn problem(spec: &ProblemSpec) -> Result<Zoo> {
    let mut problem = named(spec).map_err(|error| usage(format!("problem: {error}")))?;
    let (m, d) = problem.dims();
    let check = |field: &str, start: &[f64], dim: usize| {
        if start.len() != dim {
            return Err(usage(format!(
                "problem.{field} = {start:?} has {} numbers; {} has {dim} {} coordinates",
                start.len(),
                spec.name,
                if field == "x" { "upper" } else { "lower" }
            )));
        }
        match start.iter().find(|number| !number.is_finite()) {
            Some(number) => {
                Err(usage(format!("problem.{field} has the entry {number}; give finite numbers")))
            }
            None => Ok(()),
        }
    };
    if let Some(x) = &spec.x {
        check("x", x, m)?;
        problem = problem.starting_at(x.clone());
    }
    if let Some(y) = &spec.y {
        check("y", y, d)?;
        problem = problem.with_seeds(vec![y.clone()]);
    }
    Ok(problem)
}

/// A problem of the zoo, or one that is made of data.
fn named(spec: &ProblemSpec) -> Result<Zoo, ConfigError> {
    if let Ok(entry) = bilevel_data::by_name(&spec.name) {
        return entry.build(&spec.parameters, spec.data.as_deref());
    }
    let all = problems::names().into_iter().chain(bilevel_data::names());
    let problem = problems::by_name(&spec.name, &spec.parameters).map_err(|error| {
        match names::nearest(&spec.name, all) {
            Some(nearest) if error.field == "problem" && bilevel_data::by_name(nearest).is_ok() => {
                ConfigError::new("problem", &spec.name, format!("did you mean {nearest}?"))
            }
            _ => error,
        }
    })?;
    match &spec.data {
        Some(folder) => Err(ConfigError::new(
            "data",
            folder.display(),
            format!(
                "{} is not made of data, leave it out; those that are: {}",
                spec.name,
                bilevel_data::names().join(", ")
            ),
        )),
        None => Ok(problem),
    }
}

/// A problem's dimensions in words.
pub fn dimensions(problem: &Zoo) -> String {
    let (m, d) = problem.dims();
    let k = problem.intrinsic_dim().map_or_else(|| "unknown".into(), |k| k.to_string());
    format!("{m} upper and {d} lower coordinates, S(x) of dimension {k}")
}

/// The solver of a table `[solver]`: its name, `hg-ms` without, and settings for what is not to have its default.
pub fn solver(table: &Table) -> Result<AnySolver> {
    let mut settings = table.clone();
    let name = match settings.remove("name") {
        None => "hg-ms".into(),
        Some(Value::String(name)) => name,
        Some(other) => return Err(usage(format!("solver.name = {other} is not a name in quotes"))),
    };
    let entry = solvers::by_name(&name).map_err(|error| {
        usage(format!("recipe: {error}; `bilevel list solvers` shows what each of them does"))
    })?;
    let settings =
        json(settings).ok_or_else(|| usage("[solver] has a value that is no number, word, list or table"))?;
    entry.build(&settings).map_err(|error| usage(format!("solver.{error}")))
}

/// Settings as the registry takes them; `None` when one of them is a date.
pub fn json(settings: Table) -> Option<serde_json::Map<String, serde_json::Value>> {
    match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(settings)) => Some(settings),
        _ => None,
    }
}
