//! The workloads, one file each.

mod hyper_cleaning;
mod ijcnn1;
mod quadratics;
mod rotating_manifold;

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{
    Arguments,
    python::Python,
    results::Hypergradient,
    workload::{Case, Variant, Workload},
};

/// Their names, in the order in which they run.
pub const NAMES: &[&str] = &["quadratics", "ijcnn1", "hyper-cleaning", "rotating-manifold"];

/// A workload by its name, on the data of a folder where it needs some.
pub fn build(name: &str, data: Option<&Path>) -> Result<Workload> {
    let part = |name| data.map(|folder| folder.join(name));
    match name {
        "quadratics" => quadratics::workload(),
        "ijcnn1" => ijcnn1::workload(part("libsvm").as_deref()),
        "hyper-cleaning" => hyper_cleaning::workload(part("mnist").as_deref()),
        "rotating-manifold" => Ok(rotating_manifold::workload()),
        _ => bail!("no workload `{name}`; there are {}", NAMES.join(", ")),
    }
}

/// Hypergradients of ours and of other libraries on a workload; none where it has no such comparison.
pub fn hypergradients(
    workload: &Workload,
    python: &mut Python,
    arguments: &Arguments,
) -> Result<Vec<Hypergradient>> {
    let repetitions = if arguments.check { 0 } else { arguments.repetitions };
    match workload.name {
        "rotating-manifold" => rotating_manifold::hypergradients(workload, python),
        "ijcnn1" => ijcnn1::hypergradients(workload, python, repetitions),
        _ => Ok(Vec::new()),
    }
}

/// A solver with settings against some statements.
fn case(
    solver: &'static str,
    settings: Value,
    steps: u64,
    batch: u64,
    variants: &[Variant],
    aim: Option<f64>,
) -> Case {
    Case { solver, settings, steps, batch, variants: variants.to_vec(), aim }
}

/// Arguments of `bilevel solve` for the first SOBA step on a problem.
fn command(problem: &str, data: Option<&Path>) -> Vec<String> {
    let mut arguments = ["solve", "--problem", problem, "--solver", "soba", "--steps", "1", "--quiet"]
        .map(String::from)
        .to_vec();
    arguments.extend(["--set".into(), "solver.batch=64".into()]);
    if let Some(folder) = data {
        arguments.extend(["--set".into(), format!("problem.data={}", folder.display())]);
    }
    arguments
}
