//! The verbs, one file each.

mod bench;
mod check;
mod completions;
mod export;
mod generate;
mod init;
mod list;
mod model;
mod report;
mod resume;
mod reweight;
mod schema;
mod solve;

use anyhow::Result;
use clap::Subcommand;

use crate::{exit::Exit, output::Output};

/// What the command can do.
#[derive(Subcommand)]
pub enum Verb {
    Init(init::Init),
    Check(check::Check),
    Solve(solve::Solve),
    Reweight(reweight::Reweight),
    Bench(bench::BenchVerb),
    Resume(resume::Resume),
    Report(report::Report),
    Export(export::Export),
    Model(model::Model),
    Generate(generate::Generate),
    List(list::List),
    Schema(schema::Schema),
    Completions(completions::Completions),
}

impl Verb {
    pub fn run(self, output: Output) -> Result<Exit> {
        match self {
            Self::Init(verb) => verb.run(output),
            Self::Check(verb) => verb.run(output),
            Self::Solve(verb) => verb.run(output),
            Self::Reweight(verb) => verb.run(output),
            Self::Bench(verb) => verb.run(output),
            Self::Resume(verb) => verb.run(output),
            Self::Report(verb) => verb.run(output),
            Self::Export(verb) => verb.run(output),
            Self::Model(verb) => verb.run(output),
            Self::Generate(verb) => verb.run(output),
            Self::List(verb) => verb.run(output),
            Self::Schema(verb) => verb.run(output),
            Self::Completions(verb) => verb.run(),
        }
    }
}
