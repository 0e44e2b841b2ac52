//! Stochastic quadratics: 1,024 terms a level, 100 upper and 100 lower variables.

use anyhow::Result;
use bilevel::problems;
use serde_json::json;

use super::{case, command};
use crate::workload::{Variant, Workload};

/// The least ratio that is aimed at.
const AIM: f64 = 5.0;

/// The workload.
pub fn workload() -> Result<Workload> {
    let (factors, matrices) = (json!({}), json!({"dense": true}));
    let of_factors = Variant::both(["JAX, factors, f64", "JAX, factors, f32"], "indices", &factors);
    let of_matrices = Variant::both(["JAX, matrices, f64", "JAX, matrices, f32"], "indices", &matrices);
    let blocks =
        Variant::both(["JAX, factors, blocks, f64", "JAX, factors, blocks, f32"], "blocks", &factors);
    let gathered = [of_factors.clone(), of_matrices.clone(), blocks].concat();
    let in_blocks = [of_factors.clone(), of_matrices].concat();
    let decaying = json!({"step_x": 0.1, "step_y": 0.1, "step_v": 0.1});
    let constant = json!({"step_x": 0.05, "step_y": 0.05, "step_v": 0.05});
    Ok(Workload {
        name: "quadratics",
        title:
            "1,024 quadratics with Hessians of rank one on each level, 100 and 100 variables, batches of 64"
                .into(),
        problem: problems::by_name("quadratics", &problems::Parameters::new())?,
        constants: factors,
        cases: vec![
            case("soba", decaying, 512, 64, &gathered, Some(AIM)),
            case("saba", constant, 512, 64, &in_blocks, Some(AIM)),
            case("f2sa", json!({}), 32, 64, &gathered, Some(AIM)),
            case("bome", json!({}), 16, 0, &of_factors, Some(AIM)),
        ],
        implicit: Vec::new(),
        command: Some(command("quadratics", None)),
    })
}
