//! `cargo xtask peers`: builds the command and the comparison with optimisations, and runs the latter.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::root;

/// Passes its arguments on.
pub fn run(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let call = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new(&cargo);
        command.args(arguments).current_dir(root());
        if !command.status().context("cargo cannot be started")?.success() {
            bail!("`cargo {}` failed", arguments.join(" "));
        }
        Ok(())
    };
    // the time of a cold start is that of the command
    call(&["build", "--release", "--quiet", "--package", "bilevel-cli", "--package", "bilevel-peers"])?;
    call(&[&["run", "--release", "--quiet", "--package", "bilevel-peers", "--"], arguments].concat())
}
