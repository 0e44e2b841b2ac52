//! The problems and solvers that the command knows, by name.

use anyhow::Result;
use bilevel::{
    problems::{self, Zoo},
    solvers::hg_ms::HgMs,
};
use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    exit::usage,
    recipe::{self, ProblemSpec},
};

/// The problem of a recipe, with its start.
pub fn problem(spec: &ProblemSpec) -> Result<Zoo> {
    let mut problem = problems::by_name(&spec.name, &spec.parameters)
        .map_err(|error| usage(format!("problem: {error}")))?;
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

/// A problem's dimensions in words.
pub fn dimensions(problem: &Zoo) -> String {
    let (m, d) = problem.dims();
    let k = problem.intrinsic_dim().map_or_else(|| "unknown".into(), |k| k.to_string());
    format!("{m} upper and {d} lower coordinates, S(x) of dimension {k}")
}

/// One row of the table of solvers.
pub struct SolverEntry {
    pub name: &'static str,
    pub what: &'static str,
    /// What the problem must offer.
    pub needs: &'static str,
    /// Which hyper-objectives it can descend.
    pub targets: &'static str,
    /// The type in the library.
    pub path: &'static str,
}

/// Every solver.
pub const SOLVERS: &[SolverEntry] = &[SolverEntry {
    name: "hg-ms",
    what: "select a point of S(x), then differentiate with the pseudoinverse; certified",
    needs: "gradients of f; gradients and second-order products of g",
    targets: "optimistic, pessimistic, selected",
    path: "bilevel::solvers::hg_ms::HgMs",
}];

/// The solver of a recipe with its settings.
#[derive(Clone, Debug)]
pub enum AnySolver {
    HgMs(HgMs),
}

impl AnySolver {
    /// The solver of a table `[solver]`: its name, and settings for what is not to have its default.
    pub fn new(table: &Table) -> Result<Self> {
        let mut settings = table.clone();
        let name = match settings.remove("name") {
            None => "hg-ms".into(),
            Some(Value::String(name)) => name,
            Some(other) => return Err(usage(format!("solver.name = {other} is not a name in quotes"))),
        };
        if name == "hg-ms" {
            return Ok(Self::HgMs(HgMs::deserialize(settings).map_err(|error| wrong_setting(&error))?));
        }
        let names: Vec<&str> = SOLVERS.iter().map(|entry| entry.name).collect();
        Err(usage(format!(
            "solver.name = \"{name}\" is not known; did you mean `{}`? `bilevel list solvers` shows all",
            recipe::nearest(&name, &names)
        )))
    }
}

/// A setting that the solver does not know, or of the wrong type.
fn wrong_setting(error: &toml::de::Error) -> anyhow::Error {
    usage(format!("[solver]: {}", recipe::detail(error)))
}
