//! Trees of candle tensors as vectors of `bilevel`, and objectives by automatic differentiation.
//!
//! - [`TensorTree`]: named tensors as one variable; safetensors in and out, exact in checkpoints.
//! - [`TensorObjective`]: a level of a problem from its loss. [`TensorObjective::checked`] compares every derivative with
//!   differences first, since candle drops gradients without an error: in its fused operations, and in a second
//!   backward pass.
//! - [`Network`] on [`Images`]: an over-parameterised network that interpolates, with derivatives by hand.
//!
//! | [`SecondOrderMode`] | error | price of H v | needs |
//! |---|---|---|---|
//! | `FiniteDifference` | resolution^(2/3): 1e-5 in f32, 1e-10 in f64 | two gradients | – |
//! | `DoubleBackward` | rounding | about two gradients, four times the memory | `CANDLE_GRAD_DO_NOT_DETACH=1` |
//! | `GaussNewton` | as differences, and the residual's curvature is left out | three passes forward, one back | [`Loss::composite`] |
//!
//! Products of tiny matrices (tens of rows) are fastest with `RAYON_NUM_THREADS=1`.
//!
//! # Example
//!
//! The minimisers of g = ½(a·b − x)² are a hyperbola; the one of least norm is a = b = √x, so that
//! F(x) = min ½(a² + b²) = x for x > 0.
//!
//! ```
//! use bilevel::{Oracles, Problem, Sample, rng::Stream, solvers::hg_ms::{Exploration, HgMs}};
//! use bilevel_tensor::{Params, SecondOrderMode, TensorObjective, TensorTree};
//! use candle_core::{Device, Result, Tensor};
//!
//! type Loss = fn(&Params, &Params, Sample) -> Result<Tensor>;
//!
//! fn norm(_: &Params, y: &Params, _: Sample) -> Result<Tensor> {
//!     (y.get("a")?.sqr()? + y.get("b")?.sqr()?)?.sum_all()? * 0.5
//! }
//! fn product(x: &Params, y: &Params, _: Sample) -> Result<Tensor> {
//!     (y.get("a")?.mul(y.get("b")?)? - x.get("x")?)?.sqr()?.sum_all()? * 0.5
//! }
//!
//! struct Hyperbola {
//!     f: TensorObjective<Loss>,
//!     g: TensorObjective<Loss>,
//!     start: (TensorTree, TensorTree),
//! }
//! impl Problem for Hyperbola {
//!     type X = TensorTree;
//!     type Y = TensorTree;
//!     type Upper = TensorObjective<Loss>;
//!     type Lower = TensorObjective<Loss>;
//!     fn upper(&self) -> &Self::Upper {
//!         &self.f
//!     }
//!     fn lower(&self) -> &Self::Lower {
//!         &self.g
//!     }
//!     fn start(&self, _seed: u64) -> (TensorTree, TensorTree) {
//!         self.start.clone()
//!     }
//! }
//!
//! let scalar = |name: &str, value: f64| (name.to_owned(), Tensor::new(&[value], &Device::Cpu).unwrap());
//! let x = TensorTree::new(vec![scalar("x", 1.0)])?;
//! let y = TensorTree::new(vec![scalar("a", 2.0), scalar("b", 0.7)])?;
//! let mode = SecondOrderMode::differences(&y);
//! let problem = Hyperbola {
//!     f: TensorObjective::checked(norm as Loss, mode, &x, &y, Sample::Full, 0)?,
//!     g: TensorObjective::checked(product as Loss, mode, &x, &y, Sample::Full, 0)?,
//!     start: (x.clone(), y.clone()),
//! };
//! let oracles = Oracles::new(&problem);
//! let found = HgMs::default().evaluate(&oracles, &x, &[y], Exploration::None, &mut Stream::new(0, 0), None)?;
//! let gradient = found.gradient().unwrap().get("x").unwrap().to_vec1::<f64>()?[0];
//! assert!((found.value().unwrap() - 1.0).abs() < 1e-8);
//! assert!((gradient - 1.0).abs() < 1e-6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod base64;
pub mod check;
pub mod error;
pub mod loss;
pub mod network;
pub mod objective;
pub mod tree;

pub use bilevel_data::images::{self, Images};
pub use check::DerivativeError;
pub use error::TensorError;
pub use loss::{Composite, Loss, Params};
pub use network::{Network, NetworkSettings};
pub use objective::{SecondOrderMode, TensorObjective};
pub use tree::TensorTree;
