//! Tasks of this repository: `cargo xtask test`, `cargo xtask generate-all`, `cargo xtask peers`.

mod generate;
mod lanes;
mod peers;
mod which_solver;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

const HELP: &str = "\
Tasks of this repository.

  cargo xtask test [LANE…]            every check that a change must pass, or only the lanes named
  cargo xtask generate-all [--check]  write the generated pages; with --check, fail if one is out of date
  cargo xtask peers [NAME…] [--data FOLDER] [--check] [--publish FILE]
                                      the library beside other software, in one run; needs Python (`--help` says more)

Lanes: fmt, clippy, tests, docs, generated, bench";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["test", lanes @ ..] => lanes::run(lanes),
        ["generate-all"] => generate::run(false),
        ["generate-all", "--check"] => generate::run(true),
        ["peers", rest @ ..] => peers::run(rest),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        other => bail!("no task `{}`\n\n{HELP}", other.join(" ")),
    }
}

/// The root of the repository, whatever folder the task was called from.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
