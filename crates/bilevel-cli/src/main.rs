//! The `bilevel` command.

// Texts for people are put together a piece at a time, once a run.
#![allow(clippy::format_push_string)]

mod bench;
mod exit;
mod interrupt;
mod output;
mod recipe;
mod registry;
mod report;
mod run_folder;
mod verb;

use clap::Parser;

use exit::{Exit, Usage};
use output::Output;

const EXAMPLES: &str = "\
Examples:
  bilevel reweight --demo                 weigh the data sources of a small language model, end to end
  bilevel init reweight > recipe.toml     a commented recipe, to be filled in
  bilevel check recipe.toml               files, fields, derivatives, and what the run will cost
  bilevel reweight recipe.toml            the run itself
  bilevel resume runs/recipe              go on after an interruption, exactly where it stopped
  bilevel solve --problem r6              a dense problem with a known answer
  bilevel bench experiment.toml           solvers side by side on problems with known answers

Exit codes:
  0    done; a solve converged
  1    an error: a file, an oracle, a data set
  2    the command line or the recipe is wrong
  3    a solve ended without convergence, or its certificate found a fault
  130  interrupted; a checkpoint is written";

/// Bilevel optimisation when the lower level has a manifold of minimisers: select, then differentiate,
/// with a certificate.
#[derive(Parser)]
#[command(name = "bilevel", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: verb::Verb,
    /// Print results only: no progress, no advice
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    json: bool,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.quiet, cli.json);
    let exit = match cli.verb.run(output) {
        Ok(exit) => exit,
        Err(error) => {
            // `head` and friends close the pipe; that is the reader's choice and no error.
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            {
                return Exit::Done.into();
            }
            eprintln!("error: {error:#}");
            if error.is::<Usage>() { Exit::Usage } else { Exit::Error }
        }
    };
    exit.into()
}
