//! `bilevel export`

use std::path::PathBuf;

use anyhow::Result;
use bilevel_llm::{
    export::{self, Target},
    recipe::Method,
};
use clap::Args;

use crate::{exit::Exit, output::Output};

const EXAMPLES: &str = "\
Examples:
  bilevel export runs/demo --to axolotl                 into runs/demo/axolotl
  bilevel export runs/demo --to nemo --out nemo-blend   into another folder
  bilevel export runs/demo --to hf --method uniform     the weights of another method, to compare";

/// Write the learned mixture as a trainer reads it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The result folder of a `reweight` that has ended
    folder: PathBuf,
    /// The trainer: axolotl, llama-factory, hf or nemo
    #[arg(long, value_name = "TRAINER")]
    to: Target,
    /// Whose weights, of the methods that the run compared; those of hg-ms without
    #[arg(long, value_name = "NAME")]
    method: Option<Method>,
    /// Folder for the files; that of the run, and the trainer's name, without
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Export {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let out = self.out.clone().unwrap_or_else(|| self.folder.join(self.to.name()));
        let files = export::write(&self.folder, self.to, self.method, &out)?;
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        output.result(&names.join("\n"), &serde_json::json!({ "files": names }))?;
        Ok(Exit::Done)
    }
}
