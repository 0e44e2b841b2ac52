//! What can go wrong with trees of tensors and their files.

use std::path::PathBuf;

use candle_core::DType;

/// A tree of tensors could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// Two tensors of one tree have the same name.
    #[error("two tensors are named \"{name}\"; every name in a tree is used once")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A tensor has a storage type that is not a real variable's.
    #[error("tensor \"{name}\" has the type {dtype}; only f32 and f64 can be varied, convert it first")]
    UnsupportedDType {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// A tensor that is needed is not there.
    #[error("tensor \"{name}\" is missing; it is needed, with shape {shape:?}")]
    Missing {
        /// The tensor.
        name: String,
        /// The shape it should have.
        shape: Vec<usize>,
    },
    /// A tensor is there that nobody knows.
    #[error("tensor \"{name}\" is not expected here; it belongs to another model")]
    Unexpected {
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than it should.
    #[error("tensor \"{name}\" has the shape {found:?}, {expected:?} is needed; it belongs to another model")]
    WrongShape {
        /// The tensor.
        name: String,
        /// The shape that is needed.
        expected: Vec<usize>,
        /// The shape that was found.
        found: Vec<usize>,
    },
    /// A tensor has another storage type than it should.
    #[error(
        "tensor \"{name}\" is stored as {found:?}, {expected:?} is needed; convert with TensorTree::to_dtype"
    )]
    WrongDType {
        /// The tensor.
        name: String,
        /// The type that is needed.
        expected: DType,
        /// The type that was found.
        found: DType,
    },
    /// Bytes that are not a whole safetensors file.
    #[error("damaged or truncated safetensors data: {detail}; write or copy it again")]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The file system refused.
    #[error("{path}: {source}; check that the folder exists, is writable and has room")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An error about the contents of a file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<TensorError>,
    },
    /// Candle refused an operation.
    #[error("tensor operation failed: {0}")]
    Candle(#[from] candle_core::Error),
}
