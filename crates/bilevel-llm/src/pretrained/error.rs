//! What can be wrong with a checkpoint of somebody else's.

use std::path::PathBuf;

/// A checkpoint could not be read, or written.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// The file system refused.
    #[error("{path}: {source}; check the path and its permissions")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not keep to its format.
    #[error("{path}: {place}: {found}; {remedy}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The key, tensor or part of the file.
        place: String,
        /// What stands there.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A file keeps to its format, and asks for something that this decoder does not compute.
    #[error("{path}: {what} is not supported; {remedy}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The architecture, number format or setting.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The tensors are not those of the architecture.
    #[error(
        "{path}: the tensors are not those of the architecture that it declares: {detail}; the file is damaged or cut, or its configuration belongs to another model: fetch both again"
    )]
    Tensors {
        /// The file, or the folder.
        path: PathBuf,
        /// Which are missing, extra, or wrongly shaped.
        detail: String,
    },
    /// The tokenizer could not be read or built, or belongs to another model.
    #[error("{path}: tokenizer: {detail}; {remedy}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What failed.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// The chat template could not be read, or failed on these messages.
    #[error("chat template: {detail}; {remedy}")]
    Template {
        /// What failed, with the line.
        detail: String,
        /// What to do.
        remedy: String,
    },
}

impl PretrainedError {
    /// Wraps a refusal of the file system.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}
