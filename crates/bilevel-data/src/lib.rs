//! Small data sets, and the bilevel problems of the literature that are made of them.
//!
//! Readers ([`Images`], [`libsvm`], [`table`], [`newsgroups`]) give [`Examples`]; [`HyperCleaning`] and [`Strengths`] make
//! problems of examples; [`entries`] lists the problems by name, as `bilevel solve` and `bilevel bench` run them. Every problem
//! has a stand-in of its own making where no folder with data is given.

#[cfg(test)]
mod checks;
pub mod classifier;
pub mod cleaning;
mod error;
pub mod features;
pub mod images;
pub mod libsvm;
pub mod newsgroups;
mod protocols;
mod registry;
pub mod strengths;
mod synthetic;
pub mod table;

pub use classifier::{Classifier, Examples, Link};
pub use cleaning::HyperCleaning;
pub use error::DataError;
pub use features::Features;
pub use images::Images;
pub use registry::{Entry, by_name, entries, names};
pub use strengths::Strengths;
