//! `bilevel completions`

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::exit::Exit;

const EXAMPLES: &str = "\
Examples:
  bilevel completions bash > ~/.local/share/bash-completion/completions/bilevel
  bilevel completions zsh > ~/.zfunc/_bilevel
  bilevel completions fish > ~/.config/fish/completions/bilevel.fish";

/// Print a completion script for a shell
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> Result<Exit> {
        // Into memory first: the generator panics when its writer fails, as a closed pipe does.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "bilevel", &mut script);
        std::io::Write::write_all(&mut std::io::stdout(), &script)?;
        Ok(Exit::Done)
    }
}
