//! The workloads, one file each.

mod rotating_manifold;

use std::path::Path;

use anyhow::{Result, bail};

use crate::{Arguments, python::Python, results::Hypergradient, workload::Workload};

/// Their names, in the order in which they run.
pub const NAMES: &[&str] = &["rotating-manifold"];

/// A workload by its name, on the data of a folder where it needs some.
pub fn build(name: &str, _data: Option<&Path>) -> Result<Workload> {
    match name {
        "rotating-manifold" => Ok(rotating_manifold::workload()),
        _ => bail!("no workload `{name}`; there are {}", NAMES.join(", ")),
    }
}

/// Hypergradients of ours and of other libraries on a workload; none where it has no such comparison.
pub fn hypergradients(
    workload: &Workload,
    python: &mut Python,
    _arguments: &Arguments,
) -> Result<Vec<Hypergradient>> {
    match workload.name {
        "rotating-manifold" => rotating_manifold::hypergradients(workload, python),
        _ => Ok(Vec::new()),
    }
}
