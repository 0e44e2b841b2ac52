//! What is done about records that stand in the data more than once.

use std::path::PathBuf;

use bilevel::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::need;

/// `[data]`: duplicates, overlaps, and where tokens are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CleaningSpec {
    /// Which records of the sources are left out because an earlier one (in the same source, or in one that comes earlier by
    /// name) is the same.
    pub deduplicate: Deduplicate,
    /// With `deduplicate = "near"`: the least Jaccard similarity of two records' runs of five words, in (0, 1].
    pub similarity: f64,
    /// What is done about records that overlap with the validation or the test set.
    pub overlap: OnOverlap,
    /// Words of a run by which overlaps are found.
    pub overlap_words: usize,
    /// Share of the runs of a validation or test text that a record must hold to overlap with it, in (0, 1].
    pub overlap_share: f64,
    /// Folder in which the tokens are kept (four bytes each, in files without a name that end with the process); in memory
    /// when absent. For sources whose tokens do not fit into memory; no number depends on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
}

impl Default for CleaningSpec {
    fn default() -> Self {
        Self {
            deduplicate: Deduplicate::None,
            similarity: 0.8,
            overlap: OnOverlap::Warn,
            overlap_words: 13,
            overlap_share: 0.5,
            scratch: None,
        }
    }
}

/// Which duplicates are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deduplicate {
    /// None; exact ones are counted.
    None,
    /// Records with the same text, case and white space evened out.
    Exact,
    /// These, and records that are similar.
    Near,
}

/// What is done about overlaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnOverlap {
    /// They stay, and the result says how many there are.
    Warn,
    /// They are left out: from sources what stands in validation or test, from validation what stands in test.
    Remove,
    /// The run does not start.
    Refuse,
}

impl CleaningSpec {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in
            [("data.similarity", self.similarity), ("data.overlap_share", self.overlap_share)]
        {
            need(value > 0.0 && value <= 1.0, field, value, "above 0 and at most 1")?;
        }
        need(
            self.overlap_words >= 2,
            "data.overlap_words",
            self.overlap_words,
            "at least 2; single words stand in every text",
        )
    }
}
