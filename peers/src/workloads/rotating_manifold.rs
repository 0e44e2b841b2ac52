//! The hypergradient where S(x) is a manifold that turns with x: 5 equations in 10 unknowns, 3 upper variables.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bilevel::{
    problem::Problem,
    problems::{Formulas, Zoo, rotating_manifold::RotatingManifold},
    solvers::hg_ms::{HgMs, Target},
    vector::Dense,
};
use serde_json::json;

use crate::{
    hypergradients,
    python::Python,
    results::Hypergradient,
    workload::{SEED, Workload},
};

/// The closed form's own instance.
fn closed_form() -> RotatingManifold {
    RotatingManifold::small(SEED)
}

/// The workload.
pub fn workload() -> Workload {
    let form = closed_form();
    // gradient descent with a step below 2/‖H‖; all methods end where ‖∇_y g‖ is rounding
    let descent = json!({"step": 0.02, "tolerance": 1e-13, "max_steps": 100_000});
    let bfgs = json!({"tolerance": 1e-12, "max_steps": 10_000});
    let unrolled = json!({"step": 0.02, "max_steps": 6_000});
    Workload {
        name: "rotating-manifold",
        title: "least squares, 5 equations in 10 unknowns, 3 upper variables that turn S(x)".into(),
        problem: Zoo::new(form),
        constants: json!({}),
        cases: Vec::new(),
        implicit: vec![
            ("jaxopt lbfgs", bfgs.clone()),
            ("jaxopt gd cg", descent.clone()),
            ("jaxopt gd normal-cg", descent.clone()),
            ("jaxopt gd gmres", descent.clone()),
            ("jaxopt gd bicgstab", descent.clone()),
            ("jaxopt gd lu", descent.clone()),
            ("jaxopt gd cholesky", descent),
            ("optimistix", bfgs.clone()),
            ("optimistix svd", bfgs),
            ("unrolled", unrolled),
        ],
        command: None,
    }
}

/// Ours for both targets, and theirs. Three rules have an answer in closed form: the optimistic selection; the limit of
/// descent from the start, which stays where it is while x moves; and landing again from that limit, which warm-started
/// solvers do.
pub fn hypergradients(workload: &Workload, python: &mut Python) -> Result<Vec<Hypergradient>> {
    let form = closed_form();
    let (x, y0) = workload.problem.start(SEED);
    let singular = "A(x) has full row rank here";
    let optimistic = form.known(&x).and_then(|known| known.gradient).context(singular)?;
    let descended = form.selected(&x, &y0).context(singular)?;
    // every descent method of both sides comes to this point: its steps lie in the row space of A(x)
    let again = form.selected(&x, &descended.point).context(singular)?;
    let answers: BTreeMap<String, Dense> = BTreeMap::from([
        ("descent from the start".to_owned(), descended.gradient),
        ("landing again".to_owned(), again.gradient),
        ("optimistic".to_owned(), optimistic),
    ]);
    let mut rows = Vec::new();
    for (target, words) in [(Target::Optimistic, "hg-ms, optimistic"), (Target::Selected, "hg-ms, selected")]
    {
        let found = hypergradients::ours(&workload.problem, &HgMs { target, ..HgMs::default() })?;
        rows.push(hypergradients::row_of_ours(workload, words, &found, &answers)?);
    }
    rows.extend(hypergradients::others(workload, &answers, python, &HgMs::default(), 0)?);
    Ok(rows)
}
