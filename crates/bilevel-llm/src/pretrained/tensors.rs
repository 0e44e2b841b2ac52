//! The tensors of a checkpoint held against those of its architecture.

use std::{collections::BTreeMap, path::Path};

use super::PretrainedError;

/// Names of a kind that a message shows.
const SHOWN: usize = 6;

/// Refuses tensors that are missing, extra, or of another shape, with their names.
pub(super) fn compare(
    path: &Path,
    expected: &BTreeMap<String, Vec<usize>>,
    found: &BTreeMap<String, Vec<usize>>,
) -> Result<(), PretrainedError> {
    let missing: Vec<String> = expected.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
    let extra: Vec<String> = found.keys().filter(|name| !expected.contains_key(*name)).cloned().collect();
    let misshapen: Vec<String> = expected
        .iter()
        .filter_map(|(name, shape)| {
            let other = found.get(name)?;
            (other != shape).then(|| format!("{name} is {other:?} and should be {shape:?}"))
        })
        .collect();
    let kinds = [("missing", missing), ("of no use", extra), ("wrongly shaped", misshapen)];
    let detail: Vec<String> = kinds
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| {
            let shown = names[..names.len().min(SHOWN)].join(", ");
            let more = names.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{} {kind} ({shown}{more})", names.len())
        })
        .collect();
    if detail.is_empty() {
        return Ok(());
    }
    Err(PretrainedError::Tensors { path: path.into(), detail: detail.join(", ") })
}
