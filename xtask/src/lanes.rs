//! `cargo xtask test`: the lanes, one after the other, and what they said at the end.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::root;

/// One check: a name, the cargo command, and what it needs in its environment.
struct Lane {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const LANES: &[Lane] = &[
    Lane { name: "fmt", arguments: &["fmt", "--all", "--check"], environment: &[] },
    Lane {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
        environment: &[],
    },
    // What is not built by default; CUDA's libraries are looked for at run time only.
    Lane {
        name: "cuda",
        arguments: &[
            "clippy",
            "-p",
            "bilevel-llm",
            "--all-targets",
            "--features",
            "cuda",
            "--",
            "-D",
            "warnings",
        ],
        environment: &[],
    },
    // Unit, integration and snapshot tests, then the code of README, book and documentation.
    Lane { name: "tests", arguments: &["test", "--workspace"], environment: &[("INSTA_UPDATE", "no")] },
    Lane {
        name: "docs",
        arguments: &["doc", "--workspace", "--no-deps"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
    // Oracle counts of small rows against recorded ones; no clock is looked at.
    Lane {
        name: "bench",
        arguments: &["bench", "-p", "bilevel", "--bench", "torus_cost", "--", "--smoke"],
        environment: &[],
    },
    Lane { name: "generated", arguments: &["xtask", "generate-all", "--check"], environment: &[] },
];

/// Runs the lanes named, or all of them, and stops at the first that fails.
pub fn run(names: &[&str]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| LANES.iter().all(|lane| lane.name != **name)) {
        let known: Vec<&str> = LANES.iter().map(|lane| lane.name).collect();
        bail!("no lane `{unknown}`; there are {}", known.join(", "));
    }
    let mut closing = Vec::new();
    for lane in LANES.iter().filter(|lane| names.is_empty() || names.contains(&lane.name)) {
        let clock = Instant::now();
        eprintln!("== {}: cargo {}", lane.name, lane.arguments.join(" "));
        let results = call(lane)?;
        closing.push(format!("{:<10} passed in {:.0} s", lane.name, clock.elapsed().as_secs_f64()));
        closing.extend(results);
    }
    println!("\n{}", closing.join("\n"));
    Ok(())
}

/// Calls cargo, passes its output on, and returns its closing lines.
fn call(lane: &Lane) -> Result<Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut child = Command::new(cargo)
        .args(lane.arguments)
        .envs(lane.environment.iter().copied())
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;
    let mut results = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            writeln!(std::io::stdout(), "{line}")?;
            if line.starts_with("test result:") {
                results.push(line);
            }
        }
    }
    if !child.wait()?.success() {
        bail!("lane `{0}` failed; run it alone with `cargo xtask test {0}`", lane.name);
    }
    Ok(results)
}
