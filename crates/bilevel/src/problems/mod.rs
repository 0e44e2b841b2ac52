//! The zoo: problems with a closed-form hyper-objective, for tests, benches and the command's `solve`.
//!
//! One file per problem, with its formula, domain and known answer on top; all of them behind one type, [`Zoo`].

mod algebra;
mod arrays;
mod closed_form;
mod combinators;
mod finite_sum;
mod formulas;
mod parameters;
mod registry;
mod shell;
mod zoo;

pub mod bome_coreset;
pub mod bome_minimax;
pub mod bome_non_singleton;
pub mod cases;
pub mod chain;
pub mod circle;
pub mod curved_graph;
pub mod dropped_value_function;
pub mod factorisation;
pub mod failures;
pub mod hoelder;
pub mod lancbio_synthetic;
pub mod least_squares;
pub mod matrix_sensing;
pub mod pbgd_toy;
pub mod pl_game;
pub mod quadratics;
pub mod reference;
pub mod rotating_manifold;
pub mod runs;
pub mod secular;
pub mod sources;
pub mod sphere;
pub mod stiefel;
pub mod torus;

pub use arrays::DataArray;
pub use closed_form::{ClosedForm, GradientNorms, Minimiser};
pub use combinators::Anchored;
pub use finite_sum::{FiniteSum, Sum};
pub use formulas::{Branch, Formulas, KnownAnswer};
pub use parameters::{Parameter, Parameters, Values};
pub use registry::{Entry, by_name, entries, names};
pub use shell::RadiusLaw;
pub use zoo::{Lower, Upper, Zoo};
