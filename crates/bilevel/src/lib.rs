//! Bilevel optimisation when the lower level has a manifold of minimisers.
//!
//! ```text
//! min_x F(x),   F(x) = min { f(x, y) : y ∈ S(x) },   S(x) = argmin_y g(x, y)
//! ```

pub mod certificate;
pub mod check;
pub mod error;
pub mod hyper_hessian;
pub mod hypergradient;
pub mod linear;
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
pub use oracles::{OracleCounts, Oracles, Tally};
pub use problem::{Objective, Problem, Sample, SecondOrder, SecondOrderCost};
pub use run::{Budget, Checkpoint, Event, Observer, Report, Run, RunError, Status, Trace};
pub use solvers::{HyperObjective, Solver, State, StepInfo};
pub use vector::{Dense, Vector};
