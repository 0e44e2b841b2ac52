//! Trees of candle tensors as vectors of `bilevel`, and objectives by automatic differentiation.

mod base64;
pub mod check;
pub mod error;
pub mod images;
pub mod loss;
pub mod network;
pub mod objective;
pub mod tree;

pub use check::DerivativeError;
pub use error::TensorError;
pub use images::Images;
pub use loss::{Composite, Loss, Params};
pub use network::{Network, NetworkSettings};
pub use objective::{SecondOrderMode, TensorObjective};
pub use tree::TensorTree;
