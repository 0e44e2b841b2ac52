//! Trees of candle tensors as vectors of `bilevel`, and objectives by automatic differentiation.

mod base64;
pub mod check;
pub mod error;
pub mod loss;
pub mod objective;
pub mod tree;

pub use check::DerivativeError;
pub use error::TensorError;
pub use loss::{Composite, Loss, Params};
pub use objective::{SecondOrderMode, TensorObjective};
pub use tree::TensorTree;
