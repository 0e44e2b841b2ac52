//! An experiment file: which solvers on which problems, at which price, judged by what, and what is to come out.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use bilevel::{Budget, OracleCounts};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{
    exit::usage,
    recipe::{self, ProblemSpec},
};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Heading of the report.
    pub title: String,
    /// What it compares and why, for the report.
    #[serde(default)]
    pub about: String,
    /// Seeds, result folder, threads.
    #[serde(default)]
    pub run: RunSpec,
    /// What one run may spend.
    pub budget: Budget,
    /// The number by which runs are compared.
    #[serde(default)]
    pub judge: Judge,
    /// How grids of settings are searched; needed as soon as a solver has a grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
    /// The problems.
    pub problem: Vec<ProblemEntry>,
    /// The solvers.
    pub solver: Vec<SolverEntry>,
    /// Numbers that are to come out.
    #[serde(default)]
    pub expect: Vec<Expectation>,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSpec {
    /// Every solver runs once for each seed on each problem.
    pub seeds: Vec<u64>,
    /// Result folder; `runs/<name of the file>` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Runs at a time. Seconds are comparable when each run has a core for itself.
    pub threads: usize,
    /// A checkpoint of a run in progress is written every so many steps.
    pub checkpoint_every: u64,
    /// The lower level of every run is looked at every so many steps and at the end, off the clock and the counts; one that
    /// falls without bound ends the run. Runs of a search are not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certify: Option<u64>,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self { seeds: vec![0, 1, 2], out: None, threads: 1, checkpoint_every: 5_000, certify: None }
    }
}

/// `[judge]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Judge {
    /// `target`, the norm of the gradient of the hyper-objective that the solver descends, by closed form; `selected`,
    /// `optimistic`, the same of a named target; `stationarity`, the solver's own; `lower-gradient`, |∇_y g|; `value`,
    /// f(x, y); or a number that the problem measures.
    pub metric: String,
    /// The larger the better, as of an accuracy.
    pub larger_is_better: bool,
    /// The price is told at which the metric first comes to each of these.
    pub reach: Vec<f64>,
    /// What is counted as the price.
    pub price: Price,
}

/// What the price of a result is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Price {
    /// Gradients, two for each second-order product; values are free.
    #[default]
    Gradients,
    /// Terms touched by all calls of both levels: the price for methods that run on batches.
    Samples,
}

impl Price {
    /// The price of these calls.
    pub fn of(self, counts: &OracleCounts) -> f64 {
        match self {
            Self::Gradients => counts.gradient_equivalents() as f64,
            Self::Samples => counts.samples() as f64,
        }
    }
    /// What is counted, in words.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Gradients => "gradients (a second-order product is two)",
            Self::Samples => "samples (terms touched by all oracle calls)",
        }
    }
}

/// A level as people write it: 0.905, 1e-8.
pub fn level_in_words(level: f64) -> String {
    if (1e-2..1e4).contains(&level.abs()) { format!("{level}") } else { format!("{level:e}") }
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            metric: "target".into(),
            larger_is_better: false,
            reach: vec![1e-1, 1e-3, 1e-8],
            price: Price::Gradients,
        }
    }
}

/// `[tuning]`: the same number of runs for every solver that has a grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Most runs for one solver on one problem. What the grid leaves of them goes to values beyond its edges, as long
    /// as the best value lies at one.
    pub runs: usize,
    /// Seed of these runs; not one of those that are reported.
    pub seed: u64,
    /// What one of these runs may spend; the budget of the experiment when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// `[[problem]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemEntry {
    /// How the report calls it; its name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its name, one of `bilevel list problems`.
    pub name: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, f64>,
    /// Folder with its data, for problems that are made of data; a stand-in of their own making when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Draws another instance for each seed, by the problem's parameter `seed`.
    #[serde(default)]
    pub redraw: bool,
    /// Upper start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<Vec<f64>>,
    /// Lower start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<Vec<f64>>,
}

impl ProblemEntry {
    /// How the report calls it.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
    /// The problem of a seed.
    pub fn spec(&self, seed: u64) -> ProblemSpec {
        let mut parameters = self.parameters.clone();
        if self.redraw {
            parameters.insert("seed".into(), seed as f64);
        }
        ProblemSpec {
            name: self.name.clone(),
            parameters,
            data: self.data.clone(),
            x: self.x.clone(),
            y: self.y.clone(),
        }
    }
}

/// `[[solver]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SolverEntry {
    /// How the report calls it; its name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its name, one of `bilevel list solvers`.
    pub name: String,
    /// Settings that are not to have their default.
    #[serde(default)]
    pub settings: Table,
    /// Settings to search: a dotted key and its values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grid: BTreeMap<String, Vec<Value>>,
    /// A budget of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// In place of `run.certify`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certify: Option<u64>,
    /// Labels of the problems on which it runs; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
}

impl SolverEntry {
    /// How the report calls it.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
    /// Whether it runs on this problem.
    pub fn runs_on(&self, problem: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|label| label == problem)
    }
}

/// `[[expect]]`: the final number of every seed is to lie in a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Label of the problem.
    pub problem: String,
    /// Label of the solver.
    pub solver: String,
    /// The number, as in `judge.metric`.
    pub metric: String,
    /// Least value; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Largest value; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// How the run is to end, by the name of a status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

impl Experiment {
    /// Reads an experiment of this text (of a file, for messages).
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let experiment: Self = toml::from_str(text).map_err(|error| recipe::explain(&error, path, text))?;
        experiment.check()?;
        Ok(experiment)
    }

    /// Checks labels, grids and ranges.
    pub fn check(&self) -> Result<()> {
        let need = |holds: bool, what: String| if holds { Ok(()) } else { Err(usage(what)) };
        need(
            !self.run.seeds.is_empty(),
            "run.seeds = [] leaves nothing to run; give at least one seed".into(),
        )?;
        need(self.run.threads > 0, "run.threads = 0; give 1 or more".into())?;
        need(self.run.checkpoint_every > 0, "run.checkpoint_every = 0; give 1 or more".into())?;
        recipe::check_certify("run.certify", self.run.certify)?;
        need(!self.problem.is_empty(), "there is no [[problem]]; give at least one".into())?;
        need(!self.solver.is_empty(), "there is no [[solver]]; give at least one".into())?;
        self.budget.validate().map_err(|error| usage(error.to_string()))?;
        need(
            self.budget != Budget::default(),
            "[budget] sets no limit; give steps, gradients, samples or seconds".into(),
        )?;
        let problems = distinct("problem", self.problem.iter().map(ProblemEntry::label))?;
        let solvers = distinct("solver", self.solver.iter().map(SolverEntry::label))?;
        for solver in &self.solver {
            recipe::check_certify(&format!("solver {}: certify", solver.label()), solver.certify)?;
            for label in &solver.only {
                known("solver.only", label, &problems)?;
            }
            for (key, values) in &solver.grid {
                need(
                    !values.is_empty(),
                    format!(
                        "solver {}: grid.{key} = [] leaves no run; give values or remove it",
                        solver.label()
                    ),
                )?;
            }
            if solver.grid.is_empty() {
                continue;
            }
            let Some(tuning) = &self.tuning else {
                return Err(usage(format!(
                    "solver {} has a grid and there is no [tuning]; give tuning.runs and tuning.seed",
                    solver.label()
                )));
            };
            let points: usize = solver.grid.values().map(Vec::len).product();
            need(
                points <= tuning.runs,
                format!(
                    "solver {}: its grid has {points} points and tuning.runs = {}; take values out, or raise it for every solver",
                    solver.label(),
                    tuning.runs
                ),
            )?;
            need(
                !self.run.seeds.contains(&tuning.seed),
                format!(
                    "tuning.seed = {} is one of run.seeds; a seed that settings were chosen on tells nothing, give another",
                    tuning.seed
                ),
            )?;
        }
        for expectation in &self.expect {
            known("expect.problem", &expectation.problem, &problems)?;
            known("expect.solver", &expectation.solver, &solvers)?;
            need(
                expectation.low.is_some() || expectation.high.is_some() || expectation.end.is_some(),
                format!(
                    "expect of {} on {}: it says nothing; give low, high or end",
                    expectation.solver, expectation.problem
                ),
            )?;
        }
        Ok(())
    }
}

fn distinct<'a>(what: &str, labels: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>> {
    let mut seen = Vec::new();
    for label in labels {
        if seen.contains(&label) {
            return Err(usage(format!("two tables [[{what}]] are called {label}; give each its own label")));
        }
        seen.push(label);
    }
    Ok(seen)
}

fn known(field: &str, label: &str, labels: &[&str]) -> Result<()> {
    if labels.contains(&label) {
        return Ok(());
    }
    let nearest = bilevel::names::nearest(label, labels.iter().copied()).unwrap_or_default();
    Err(usage(format!("{field} = \"{label}\" is no label here; did you mean `{nearest}`?")))
}
