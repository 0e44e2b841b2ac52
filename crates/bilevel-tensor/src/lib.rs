//! Trees of candle tensors as vectors of `bilevel`, and objectives by automatic differentiation.

mod base64;
pub mod error;
pub mod tree;

pub use error::TensorError;
pub use tree::TensorTree;
