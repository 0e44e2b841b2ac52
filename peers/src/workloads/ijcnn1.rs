//! Strengths of regularisation of a logistic model: 49,990 and 91,701 rows of 22 features.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use bilevel::{
    problem::Problem,
    solvers::hg_ms::{HgMs, Target},
};
use serde_json::json;

use super::{case, command};
use crate::{
    hypergradients,
    python::Python,
    results::Hypergradient,
    workload::{SEED, Variant, Workload},
};

/// Ours takes at most 1.3 times as long as the other side's SOBA.
const AIM: f64 = 1.0 / 1.3;

/// The workload, on the files of LIBSVM in a folder or on rows that are made.
pub fn workload(data: Option<&Path>) -> Result<Workload> {
    let none = json!({});
    let indices = Variant::both(["JAX, f64", "JAX, f32"], "indices", &none);
    let blocks = Variant::both(["JAX, blocks, f64", "JAX, blocks, f32"], "blocks", &none);
    let gathered = [indices.clone(), blocks].concat();
    let rows = if data.is_some() { "rows of LIBSVM's ijcnn1" } else { "made rows of the shape of ijcnn1" };
    let options = json!({"tolerance": 1e-8, "max_steps": 2_000});
    Ok(Workload {
        name: "ijcnn1",
        title: format!(
            "logistic regression with a strength for each of 22 features, 49,990 and 91,701 {rows}, batches of 64"
        ),
        problem: bilevel_data::by_name("ijcnn1")?.build(&BTreeMap::new(), data)?,
        constants: none,
        cases: vec![
            case(
                "soba",
                json!({"step_x": 0.03, "step_y": 0.03, "step_v": 0.03}),
                8_192,
                64,
                &gathered,
                Some(AIM),
            ),
            case("saba", json!({"step_x": 0.03, "step_y": 0.03, "step_v": 0.03}), 4_096, 64, &indices, None),
            case("f2sa", json!({}), 256, 64, &gathered, None),
            case("bome", json!({}), 4, 0, &indices, None),
        ],
        implicit: vec![("jaxopt lbfgs", options.clone()), ("optimistix", options)],
        command: Some(command("ijcnn1", data)),
    })
}

/// Ours and theirs from the start, all to |∇_y g| ≤ 1e-8 as each of them measures it, timed in turns.
pub fn hypergradients(
    workload: &Workload,
    python: &mut Python,
    repetitions: usize,
) -> Result<Vec<Hypergradient>> {
    let (x, _) = workload.problem.start(SEED);
    let answer = workload.problem.known(&x).and_then(|known| known.gradient);
    let answer = answer.context("the lower level is strongly convex and small")?;
    let answers = BTreeMap::from([("Newton's method".to_owned(), answer)]);
    let mut settings = HgMs { target: Target::Selected, ..HgMs::default() };
    settings.land.tol = 1e-8;
    let found = hypergradients::ours(&workload.problem, &settings)?;
    let mut rows = vec![hypergradients::row_of_ours(workload, "hg-ms, selected", &found, &answers)?];
    rows.extend(hypergradients::others(workload, &answers, python, &settings, repetitions)?);
    Ok(rows)
}
