//! The linear solver chosen in a configuration file.

use serde::{Deserialize, Serialize};

use super::{Apply, LinearSolution, LinearSolver, cg::Cg, lsmr::Lsmr, minres::Minres, neumann::Neumann};
use crate::{
    error::{ConfigError, OracleResult},
    vector::Vector,
};

/// One of the iterative solvers; in a configuration file `method = "minres"` and its fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum AnyLinear {
    /// Conjugate gradients.
    Cg(Cg),
    /// Smallest residual.
    Minres(Minres),
    /// Damped least squares.
    Lsmr(Lsmr),
    /// Truncated Neumann series.
    Neumann(Neumann),
}

impl Default for AnyLinear {
    fn default() -> Self {
        Self::Minres(Minres::default())
    }
}

impl AnyLinear {
    /// Checks the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Cg(solver) => solver.validate(),
            Self::Minres(solver) => solver.validate(),
            Self::Lsmr(solver) => solver.validate(),
            Self::Neumann(solver) => solver.validate(),
        }
    }
}

impl<V: Vector> LinearSolver<V> for AnyLinear {
    fn solve(&self, apply: Apply<V>, rhs: &V, guess: &V) -> OracleResult<LinearSolution<V>> {
        match self {
            Self::Cg(solver) => solver.solve(apply, rhs, guess),
            Self::Minres(solver) => solver.solve(apply, rhs, guess),
            Self::Lsmr(solver) => solver.solve(apply, rhs, guess),
            Self::Neumann(solver) => solver.solve(apply, rhs, guess),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_the_method_and_its_fields() {
        let chosen: AnyLinear = serde_json::from_str(r#"{"method": "lsmr", "damping": 0.5}"#).unwrap();
        assert_eq!(chosen, AnyLinear::Lsmr(Lsmr { damping: 0.5, ..Lsmr::default() }));
        let json = serde_json::to_string(&chosen).unwrap();
        assert_eq!(serde_json::from_str::<AnyLinear>(&json).unwrap(), chosen);
        let unknown = serde_json::from_str::<AnyLinear>(r#"{"method": "cg", "dampness": 1}"#).unwrap_err();
        assert!(unknown.to_string().contains("dampness"));
    }

    #[test]
    fn every_method_solves_and_validates() {
        let apply = |v: &Vec<f64>| Ok(vec![2.0 * v[0], v[1]]);
        for solver in [
            AnyLinear::Cg(Cg::default()),
            AnyLinear::default(),
            AnyLinear::Lsmr(Lsmr::default()),
            AnyLinear::Neumann(Neumann { step: 0.5, ..Neumann::default() }),
        ] {
            solver.validate().unwrap();
            let answer = solver.solve(&mut { apply }, &vec![1.0, 3.0], &vec![0.0, 0.0]).unwrap();
            assert!(answer.solution.distance(&vec![0.5, 3.0]) < 1e-6, "{solver:?}");
        }
    }
}
