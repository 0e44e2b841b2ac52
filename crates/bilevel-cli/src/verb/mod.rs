//! The verbs, one file each.

mod completions;
mod init;
mod list;
mod resume;
mod solve;

use anyhow::Result;
use clap::Subcommand;

use crate::{exit::Exit, output::Output};

/// What the command can do.
#[derive(Subcommand)]
pub enum Verb {
    Init(init::Init),
    Solve(solve::Solve),
    Resume(resume::Resume),
    List(list::List),
    Completions(completions::Completions),
}

impl Verb {
    pub fn run(self, output: &Output) -> Result<Exit> {
        match self {
            Self::Init(verb) => verb.run(output),
            Self::Solve(verb) => verb.run(output),
            Self::Resume(verb) => verb.run(output),
            Self::List(verb) => verb.run(output),
            Self::Completions(verb) => verb.run(),
        }
    }
}
