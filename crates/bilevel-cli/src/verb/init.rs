//! `bilevel init`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{
    exit::{Exit, usage},
    output::Output,
};

const EXAMPLES: &str = "\
Examples:
  bilevel init reweight                    print a recipe for weighing data sources
  bilevel init reweight --to recipe.toml   write it to a file
  bilevel init solve --to t5.toml          a recipe for a dense problem";

/// Write a commented recipe, ready to be changed and run
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// What the recipe is for
    #[arg(value_enum)]
    kind: Kind,
    /// The file to write; standard output without
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "to")]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// Weights of a language model's data sources
    Reweight,
    /// A dense problem with a known answer
    Solve,
}

impl Kind {
    fn recipe(self) -> &'static str {
        match self {
            Self::Reweight => include_str!("../../recipes/reweight.toml"),
            Self::Solve => include_str!("../../recipes/solve.toml"),
        }
    }
}

impl Init {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let recipe = self.kind.recipe();
        let Some(path) = &self.to else {
            std::io::Write::write_all(&mut std::io::stdout(), recipe.as_bytes())?;
            return Ok(Exit::Done);
        };
        if path.exists() && !self.force {
            return Err(usage(format!(
                "{} exists; give another name, or --force to replace it",
                path.display()
            )));
        }
        std::fs::write(path, recipe).with_context(|| {
            format!("{} cannot be written; check that its folder exists and is writable", path.display())
        })?;
        output.note(&format!("wrote {0}; look it over, then `bilevel check {0}`", path.display()));
        Ok(Exit::Done)
    }
}
