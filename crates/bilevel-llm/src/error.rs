//! What can go wrong in a reweighting run, with the place and the remedy.

use std::path::PathBuf;

use bilevel::{CheckpointError, ConfigError, OracleError};

use crate::pretrained::error::PretrainedError;

/// A reweighting run could not be set up, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ReweightError {
    /// A field of the recipe is out of its range, unknown, or missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A data file is not what the recipe says.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A product with the Gauss–Newton matrix failed.
    #[error(transparent)]
    Oracle(#[from] OracleError),
    /// The file system refused.
    #[error("{path}: {source}; check that the folder exists, is writable and has room")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A loss became NaN or infinite.
    #[error(
        "the loss on source {name} is not finite in step {step} of {method}, seed {seed}{}; lower train.lr, set train.clip, or look at the data of that source. The last checkpoint before it is kept",
        in_examples(.examples)
    )]
    NonFinite {
        /// The source, or `validation`, or `test`.
        name: String,
        /// Step, from 1.
        step: u64,
        /// The method that was running.
        method: String,
        /// Its seed.
        seed: u64,
        /// The batch: places of its examples in that set, from 1 in the order in which they were read; what was left out does
        /// not count, and each window of running text does. Empty when it is not one batch that is to blame.
        examples: Vec<usize>,
    },
    /// The damped curvature is not positive.
    #[error(
        "the curvature along the direction of the solve in step {step} of {method}, seed {seed}, is not positive, which only rounding can make it; raise reweight.damping. The last checkpoint before it is kept"
    )]
    Curvature {
        /// Steps of the search so far.
        step: u64,
        /// The method that was running.
        method: String,
        /// Its seed.
        seed: u64,
    },
    /// Parameters or moments of the optimiser became NaN or infinite.
    #[error(
        "the parameters are not finite after step {step} of {method}, seed {seed}, although the losses were; lower train.lr or set train.clip. The last checkpoint before it is kept"
    )]
    Diverged {
        /// Step, from 1.
        step: u64,
        /// The method that was running.
        method: String,
        /// Its seed.
        seed: u64,
    },
    /// The machine does not have the memory that the run would take.
    #[error(
        "the run needs about {} of memory beside the {} that its data and its checkpoint take, and {} are available; train less of the checkpoint (tune.kind), keep the rest in bf16 (model.storage), work on fewer threads (run.threads), cut batches into more parts (train.accumulation), compute blocks anew (train.recompute), or shorten model.context",
        in_bytes(*more), in_bytes(*held), in_bytes(*available)
    )]
    Memory {
        /// Bytes that data and checkpoint take.
        held: u64,
        /// Bytes that the run would take on top.
        more: u64,
        /// Bytes that are available.
        available: u64,
    },
    /// The run's device failed.
    #[error(
        "{name} failed: {said}; the last checkpoint before it is kept, and `bilevel resume` goes on from there. If it has too little memory, cut batches into more parts (train.accumulation)"
    )]
    Device {
        /// The device.
        name: String,
        /// What it said.
        said: String,
    },
    /// The machine does not have the memory that reading the checkpoint would take.
    #[error(
        "reading the checkpoint of {parameters} parameters would take about {} of memory, and {} are available; give a smaller checkpoint, free memory, or leave model.storage = \"bf16\" out, with which it is there in f32 as well for a moment",
        in_bytes(*needed), in_bytes(*available)
    )]
    CheckpointMemory {
        /// Parameters of the checkpoint.
        parameters: u64,
        /// Bytes that reading it would take at the peak.
        needed: u64,
        /// Bytes that are available.
        available: u64,
    },
    /// The tokenizer could not be read, trained, or written.
    #[error("tokenizer: {detail}; {remedy}")]
    Tokenizer {
        /// What failed.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// A model that others trained could not be read or written.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The run was interrupted from outside; a checkpoint is written.
    #[error("interrupted; the run is saved in {out} and `bilevel resume {out}` goes on from there")]
    Interrupted {
        /// The result folder.
        out: PathBuf,
    },
}

impl ReweightError {
    /// Wraps a refusal of the file system.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}

/// Bytes in words.
fn in_bytes(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

/// `, with its examples 3, 17` in words.
fn in_examples(examples: &[usize]) -> String {
    let list: Vec<String> = examples.iter().map(ToString::to_string).collect();
    if list.is_empty() { String::new() } else { format!(", with its examples {}", list.join(", ")) }
}

/// A data file is not what the recipe says.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file is missing or cannot be read.
    #[error("{path}: {source}; check the path (relative paths start at run.data, or at the recipe's folder)")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A record is not JSON.
    #[error("{path}, line {line}: broken JSON ({detail}); mend or delete the line")]
    Broken {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What the parser said.
        detail: String,
    },
    /// A record lacks a field, or has another type there.
    #[error(
        "{path}, {place}: no text in field `{field}`; the record has {found}. Set prompt and response, messages, or text of this source to the names that the file uses"
    )]
    MissingField {
        /// The file.
        path: PathBuf,
        /// `line 12` of JSONL, `record 12` of a JSON list.
        place: String,
        /// The field that was looked for.
        field: String,
        /// The fields that the record has.
        found: String,
    },
    /// Answers are to be shuffled, and there are none, or one.
    #[error(
        "{path}: shuffle_answers needs two records or more, each of a prompt and a response; leave it out for running text"
    )]
    NoAnswers {
        /// The first file of the set.
        path: PathBuf,
    },
    /// A line is not UTF-8.
    #[error("{path}, line {line}: not UTF-8 (byte {byte} of the line); convert the file to UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Position of the first bad byte in the line, from 1.
        byte: usize,
    },
    /// A line is longer than is read.
    #[error("{path}, line {line}: longer than the limit of {limit} bytes; split the record")]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The limit.
        limit: usize,
    },
    /// A record cannot be written by the model's chat template.
    #[error("{name}, record {record} of those in use: {error}")]
    Chat {
        /// Source's name, or `validation`, or `test`.
        name: String,
        /// Number of the record, from 1.
        record: usize,
        /// What the template said.
        error: Box<PretrainedError>,
    },
    /// A set holds examples of the validation or test set, and the recipe does not allow it.
    #[error(
        "{count} of {of} examples of {subject} also stand in the {other} set; take them out of the files, or set data.overlap to \"remove\" (or to \"warn\")"
    )]
    Overlap {
        /// `source NAME`, or the validation set.
        subject: String,
        /// Examples that overlap.
        count: u64,
        /// All of its examples.
        of: u64,
        /// `validation` or `test`.
        other: String,
    },
    /// Nothing to train on.
    #[error("source {name} is empty: {detail}; give it data or delete it from the recipe")]
    Empty {
        /// The source's name.
        name: String,
        /// Which files were read and how many records they have.
        detail: String,
    },
}
