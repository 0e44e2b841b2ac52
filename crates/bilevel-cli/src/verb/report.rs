//! `bilevel report`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{
    exit::{Exit, usage},
    output::Output,
    recipe::{self, Kind},
    report,
    run_folder::RunFolder,
};

const EXAMPLES: &str = "\
Examples:
  bilevel report runs/demo      draws runs/demo/report.html again and prints its path";

/// Draw the report of a run again, from the files of its result folder
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Report {
    /// The result folder
    folder: PathBuf,
}

impl Report {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let path = RunFolder::new(&self.folder).recipe();
        if !path.exists() {
            return Err(usage(format!(
                "{} holds no run (it has no recipe.toml); give the result folder of a `solve`, `reweight` or `bench`",
                self.folder.display()
            )));
        }
        let page = match recipe::kind(&path, &recipe::read(&path)?)? {
            Kind::Solve => report::solve(&self.folder)?,
            Kind::Reweight => report::reweight(&self.folder)?,
            Kind::Bench => report::bench(&self.folder)?,
        };
        output.result(&page.display().to_string(), &serde_json::json!({ "report": page }))?;
        Ok(Exit::Done)
    }
}
