//! Choosing the point of S(x) at which to differentiate.
//!
//! [`land`] brings y to S(x), [`geometry`] says what S(x) is like there, [`tangent`] models f along it, [`refine`] minimises
//! f on it, [`explore`] looks for other minimisers, [`branches`] keeps them apart. [`level`] is what they see of a problem.

pub mod branches;
pub mod explore;
pub mod geometry;
pub mod land;
pub mod level;
pub mod recession;
pub mod refine;
pub mod tangent;
