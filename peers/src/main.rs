//! `cargo xtask peers`: the library beside other software, on the same problems with the same data in the same run.
//!
//! One process of Python stands beside this one. Both sides are held against one another first (values and directions at
//! the start, iterates after some steps on the same batches), then timed in turns, every step's work done when its clock
//! stops.

mod environment;
mod hypergradients;
mod npy;
mod python;
mod race;
mod recorder;
mod results;
mod workload;
mod workloads;

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::json;

use environment::Environment;
use python::Python;
use results::Results;

/// The library beside other software, on the same problems with the same data in the same run
#[derive(Debug, Parser)]
#[command(name = "cargo xtask peers")]
struct Arguments {
    /// Workloads; all when none is named
    names: Vec<String>,
    /// Folder with data sets: `libsvm` (ijcnn1) and `mnist` in it; without it rows of the same shape are made
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Repetitions of each side, in turns
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    repetitions: usize,
    /// Threads of each side
    #[arg(long, default_value_t = 2, value_name = "NUMBER")]
    threads: usize,
    /// Folder of the environment, the data and the results
    #[arg(long, default_value = "target/peers", value_name = "FOLDER")]
    folder: PathBuf,
    /// Also writes the ratios, without the numbers of this machine, to this file
    #[arg(long, value_name = "FILE")]
    publish: Option<PathBuf>,
    /// Leaves cold starts out
    #[arg(long)]
    warm: bool,
    /// Holds both sides against one another and times nothing
    #[arg(long)]
    check: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for name in &arguments.names {
        if !workloads::NAMES.contains(&name.as_str()) {
            bail!("no workload `{name}`; there are {}", workloads::NAMES.join(", "));
        }
    }
    let is_asked = |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|n| n == name);
    if arguments.repetitions == 0 || arguments.threads == 0 {
        bail!("--repetitions and --threads are 1 or more");
    }
    let environment = Environment::new(&arguments.folder, arguments.threads)?;
    let mut python = Python::start(&environment)?;
    let mut versions: BTreeMap<String, String> =
        serde_json::from_value(python.ask(&json!({"do": "versions"}))?).context("versions")?;
    versions.insert("bilevel".into(), env!("CARGO_PKG_VERSION").into());
    eprintln!("checking the statements of the other side by differences and on known answers");
    python.ask(&json!({"do": "self-check"}))?;

    let mut results = Results {
        schema: 1,
        versions,
        threads: arguments.threads,
        repetitions: arguments.repetitions,
        workloads: BTreeMap::new(),
        races: Vec::new(),
        cold: Vec::new(),
        agreement: Vec::new(),
        hypergradients: Vec::new(),
    };
    for name in workloads::NAMES.iter().filter(|name| is_asked(name)) {
        run(name, &arguments, &environment, &mut python, &mut results)
            .with_context(|| format!("workload {name}"))?;
    }
    println!("{}", results.in_words());
    let path = arguments.folder.join("peers.json");
    fs::write(&path, pretty(&results)?).with_context(|| path.display().to_string())?;
    println!("results: {}", path.display());
    let disagreements = results.disagreements().count();
    if let Some(path) = &arguments.publish {
        fs::write(path, pretty(&results.ratios_only())?).with_context(|| path.display().to_string())?;
        println!("ratios: {}", path.display());
    }
    if disagreements > 0 {
        bail!(
            "the two sides do not compute the same in {disagreements} comparisons; their times say nothing"
        );
    }
    Ok(())
}

/// One workload: data, agreement, times, cold starts, hypergradients.
fn run(
    name: &str,
    arguments: &Arguments,
    environment: &Environment,
    python: &mut Python,
    results: &mut Results,
) -> Result<()> {
    let workload = workloads::build(name, arguments.data.as_deref())?;
    results.workloads.insert(name.to_owned(), workload.title.clone());
    let folder = arguments.folder.join("data").join(name);
    workload.write(&folder)?;
    // relative paths would be those of another process's folder
    let folder = fs::canonicalize(&folder)?;
    python.ask(&json!({"do": "load", "folder": folder}))?;
    eprintln!("{name}: {}", workload.title);
    results.agreement.extend(race::start(&workload, python)?);
    for case in &workload.cases {
        results.agreement.extend(race::iterates(&workload, case, python)?);
    }
    if !arguments.check {
        for case in &workload.cases {
            for variant in &case.variants {
                eprintln!("{name}: {} against {}", case.solver, variant.label);
                let race = race::race(&workload, case, variant, python, arguments.repetitions)?;
                eprintln!("  {:.2} times its time", race.ratio.median);
                results.races.push(race);
            }
        }
        if let Some(case) = workload.cases.first().filter(|_| !arguments.warm) {
            results.cold.extend(race::cold(
                &workload,
                case,
                environment,
                &fs::canonicalize(&arguments.folder)?,
                arguments.repetitions,
            )?);
        }
    }
    results.hypergradients.extend(workloads::hypergradients(&workload, python, arguments)?);
    Ok(())
}

fn pretty(results: &Results) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(results)?))
}
