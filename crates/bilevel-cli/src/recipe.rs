//! The recipe of a solve: a TOML file, with the command line's options on top.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use bilevel::{Budget, names};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::exit::usage;

/// Steps of a run for which no budget was given.
const DEFAULT_STEPS: u64 = 1_000;

/// Everything that decides the numbers of a solve, and where they go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What to solve.
    pub problem: ProblemSpec,
    /// How: the solver's name and its settings.
    #[serde(default)]
    pub solver: Table,
    /// How much may be spent.
    #[serde(default = "default_budget")]
    pub budget: Budget,
    /// Seed, result folder, checkpoints.
    #[serde(default)]
    pub run: RunSpec,
}

/// `[problem]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemSpec {
    /// Its name, one of `bilevel list problems`.
    pub name: String,
    /// Its parameters, where it has some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, f64>,
    /// Folder with its data, for problems that are made of data; a stand-in of their own making when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Upper start; the problem's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<Vec<f64>>,
    /// Lower start; the problem's own for the seed when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<Vec<f64>>,
}

/// `[run]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSpec {
    /// Seed of every random number of the run.
    pub seed: u64,
    /// Result folder; `runs/<name of the recipe or problem>` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// A checkpoint is written every so many steps.
    pub checkpoint_every: u64,
    /// The lower level is looked at every so many steps and at the end, and a run on one that falls without bound ends as
    /// such; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certify: Option<u64>,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self { seed: 0, out: None, checkpoint_every: 10, certify: None }
    }
}

fn default_budget() -> Budget {
    Budget::steps(DEFAULT_STEPS)
}

/// What kind of recipe a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A dense problem: it has a table `[problem]`.
    Solve,
    /// Data sources: it has a list `[[source]]`.
    Reweight,
    /// Solvers side by side: it has lists `[[problem]]` and `[[solver]]`.
    Bench,
}

/// The text of a recipe file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        anyhow!("recipe {}: {error}; check the path, or write one with `bilevel init`", path.display())
    })
}

/// Tells the two kinds apart, without judging the rest.
pub fn kind(path: &Path, text: &str) -> Result<Kind> {
    let table: Table = text.parse().map_err(|error| explain(&error, path, text))?;
    if table.get("problem").is_some_and(Value::is_array) {
        return Ok(Kind::Bench);
    }
    match (table.contains_key("problem"), table.contains_key("source")) {
        (true, false) => Ok(Kind::Solve),
        (false, true) => Ok(Kind::Reweight),
        _ => Err(usage(format!(
            "recipe {}: it must have a table [problem] (for `solve`), tables [[source]] (for `reweight`), or tables [[problem]] and [[solver]] (for `bench`); `bilevel init` writes examples",
            path.display()
        ))),
    }
}

/// Checks a key `certify`.
///
/// # Errors
/// 0 steps, which would never look.
pub fn check_certify(field: &str, every: Option<u64>) -> Result<()> {
    match every {
        Some(0) => Err(usage(format!(
            "{field} = 0 is not allowed: look at the lower level every 1 or more steps, or leave it out"
        ))),
        _ => Ok(()),
    }
}

/// Settings of the command line: a dotted key of the recipe and its value.
pub type Overrides = Vec<(String, Value)>;

impl Recipe {
    /// Reads a recipe of this text (of a file, for messages), with these settings on top.
    pub fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Self> {
        if overrides.is_empty() {
            return toml::from_str(text).map_err(|error| explain(&error, path, text));
        }
        let mut table: Table = text.parse().map_err(|error| explain(&error, path, text))?;
        for (key, value) in overrides {
            set(&mut table, key, value.clone())?;
        }
        // The merged text has lines of its own, which nobody has seen: messages name the key alone.
        let merged = table.to_string();
        toml::from_str(&merged).map_err(|error| explain(&error, path, text))
    }

    /// The recipe as a file that gives the same run.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }
}

/// Sets `a.b.c` to a value, making tables on the way.
pub fn set(table: &mut Table, key: &str, value: Value) -> Result<()> {
    match key.split_once('.') {
        None => {
            table.insert(key.into(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().ok_or_else(|| usage(format!("`{first}` is not a table")))?;
            set(inner, rest, value)
        }
    }
}

/// `key=value` of `--set`, the value as in TOML; what is no TOML value is a string.
pub fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) =
        text.split_once('=').ok_or("give a setting as KEY=VALUE, for instance solver.upper.tol=1e-8")?;
    let (key, value) = (key.trim(), value.trim());
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    Ok((key.into(), parsed.unwrap_or_else(|| Value::String(value.into()))))
}

/// What is wrong with a recipe, with file, line and value, and for an unknown key the nearest one that is known.
pub fn explain(error: &toml::de::Error, path: &Path, text: &str) -> anyhow::Error {
    // The span of an error inside a merged text is of no use; an unknown word itself is where it is written.
    let line = match (names::unknown_word(error.message()), error.span()) {
        (Some((unknown, _)), _) => line_of(text, unknown),
        (None, Some(span)) => text.get(..span.start).map(|before| before.matches('\n').count() + 1),
        (None, None) => None,
    };
    let place = line.map_or_else(String::new, |line| {
        let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
        format!(", line {line} (`{shown}`)")
    });
    usage(format!("recipe {}{place}: {}", path.display(), names::explain(error.message())))
}

/// Number of the first line with this word, from 1.
fn line_of(text: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.lines()
        .position(|line| line.split('#').next().unwrap_or_default().split(|c| !is_part(c)).any(|w| w == word))
        .map(|index| index + 1)
}
