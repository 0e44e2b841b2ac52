//! `bilevel resume`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::solve::{Job, Limits};
use crate::{
    exit::{Exit, usage},
    output::Output,
    recipe::{self, Kind, Recipe},
    run_folder::{self, RunFolder},
};

const EXAMPLES: &str = "\
Examples:
  bilevel resume runs/t5               after Ctrl-C, a crash, a power cut
  bilevel resume runs/t5 --steps 500   a solve that ran out of budget, with a larger one

A resumed run gives the same files, byte for byte, as one that was never stopped.";

/// Go on with an interrupted run, exactly where its last checkpoint is
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Resume {
    /// The result folder
    folder: PathBuf,
    #[command(flatten)]
    limits: Limits,
}

impl Resume {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let folder = RunFolder::new(&self.folder);
        let path = folder.recipe();
        if !path.exists() {
            return Err(usage(format!(
                "{} holds no run (it has no recipe.toml); give the result folder of a `solve`, `reweight` or `bench`",
                self.folder.display()
            )));
        }
        let text = recipe::read(&path)?;
        match recipe::kind(&path, &text)? {
            Kind::Solve => {
                let overrides = self.limits.overrides();
                let job = Job::new(Recipe::parse(&path, &text, &overrides)?)?;
                if !overrides.is_empty() {
                    run_folder::write(&path, job.recipe.to_toml()?.as_bytes())?;
                }
                job.run(&folder, output)
            }
            Kind::Reweight => super::reweight::resume(&self.folder, output),
            Kind::Bench => super::bench::resume(&self.folder, &path, &text, output),
        }
    }
}
