//! The files of a result folder, and what `solve` writes in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use bilevel::{
    OracleCounts, Status,
    certificate::Certificate,
    run::{Best, checkpoint::write_atomically},
    solvers::HyperObjective,
};
use serde::{Deserialize, Serialize};

use crate::exit::usage;

/// A result folder of `solve`.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The recipe with everything that the command line changed; from it `resume` goes on.
    pub fn recipe(&self) -> PathBuf {
        self.path.join("recipe.toml")
    }
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.json")
    }
    /// A row per step; equal runs give equal bytes.
    pub fn trace(&self) -> PathBuf {
        self.path.join("trace.jsonl")
    }
    /// Time in the solver at each step.
    pub fn times(&self) -> PathBuf {
        self.path.join("times.jsonl")
    }
    /// A [`SolveResult`]; equal runs give equal bytes.
    pub fn result(&self) -> PathBuf {
        self.path.join("result.json")
    }

    /// Makes the folder for a new run. What an earlier run left there is removed when `force` allows it.
    pub fn create(&self, force: bool) -> Result<()> {
        let folder = self.path.display();
        if self.recipe().exists() || self.checkpoint().exists() {
            if !force {
                return Err(usage(format!(
                    "{folder} holds a run; go on with it by `bilevel resume {folder}`, give another --out, or --force to replace it"
                )));
            }
            let report = self.path.join("report.html");
            for old in [self.recipe(), self.checkpoint(), self.trace(), self.times(), self.result(), report] {
                match fs::remove_file(&old) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("{} cannot be removed", old.display()));
                    }
                    _ => {}
                }
            }
        }
        fs::create_dir_all(&self.path).with_context(|| {
            format!("the result folder {folder} cannot be made; give a folder that can be written with --out")
        })
    }
}

/// Writes a file of a result folder, whole or not at all.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    write_atomically(path, content).with_context(|| {
        format!("{} cannot be written; check that its folder is writable and has room", path.display())
    })
}

/// `result.json` of a solve.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SolveResult {
    /// Version of this file's form.
    pub schema: u32,
    /// Version of the command.
    pub version: String,
    /// Name of the problem.
    pub problem: String,
    /// Name of the solver.
    pub solver: String,
    /// Which hyper-objective it descends.
    pub target: HyperObjective,
    /// Seed of the run.
    pub seed: u64,
    /// How the run ended.
    pub end: Status,
    /// The same in words.
    pub end_in_words: String,
    /// Steps done.
    pub steps: u64,
    /// Upper iterate.
    pub x: Vec<f64>,
    /// Lower iterate.
    pub y: Vec<f64>,
    /// Hyper-objective at the iterate from which the last step started.
    pub value: Option<f64>,
    /// The solver's measure of stationarity there.
    pub stationarity: Option<f64>,
    /// The iterate with the lowest hyper-objective.
    pub best: Option<Best<Vec<f64>, Vec<f64>>>,
    /// The hyper-objective at x by the problem's closed form, where it has one for this target.
    pub known_value: Option<f64>,
    /// Oracle calls.
    pub counts: OracleCounts,
    /// Gradients, with two for each second-order product.
    pub gradient_equivalents: u64,
    /// The certificate of the last hypergradient.
    pub certificate: Option<Certificate>,
}
