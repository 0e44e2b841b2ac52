//! Bilevel optimisation when the lower level has a manifold of minimisers.
//!
//! ```text
//! min_x F(x),   F(x) = min { f(x, y) : y ∈ S(x) },   S(x) = argmin_y g(x, y)
//! ```
//!
//! State a [`Problem`], choose a [`Solver`] (see [`solvers`]), and let a [`Run`] drive it.

pub mod certificate;
pub mod check;
pub mod error;
pub mod hyper_hessian;
pub mod hypergradient;
pub mod linear;
pub mod lower_level;
pub mod names;
pub mod objective;
pub mod oracles;
pub mod problem;
pub mod problems;
pub mod prox;
pub mod rng;
pub mod run;
pub mod sampling;
pub mod schedule;
pub mod selection;
pub mod solvers;
pub mod vector;

pub use error::{CheckpointError, ConfigError, OracleError, OracleResult};
pub use oracles::{Oracle, OracleCounts, Oracles, Tally};
pub use problem::{Objective, Problem, Sample, SecondOrder, SecondOrderCost};
pub use run::{Budget, Checkpoint, Event, Observer, Report, Run, RunError, Status, Trace};
pub use solvers::{HyperObjective, Solver, State, StepInfo};
pub use vector::{Dense, Vector};

/// The code of README and book, run as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../book/src/problem.md")]
    struct StateAProblem;
    #[doc = include_str!("../../../book/src/run.md")]
    struct RunIt;
    #[doc = include_str!("../../../book/src/certificate.md")]
    struct ReadACertificate;
}
