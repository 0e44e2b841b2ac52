//! One hypergradient each: ours and those of other libraries, against closed forms.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context, Result};
use bilevel::{
    Oracles, Vector,
    problem::{Objective, Problem, Sample},
    problems::Zoo,
    rng::Stream,
    solvers::hg_ms::{Exploration, HgMs},
    vector::Dense,
};
use serde_json::json;

use crate::{
    python::Python,
    race::numbers,
    results::{Hypergradient, Spread},
    workload::{SEED, Workload},
};

/// What our own evaluation gave.
#[derive(Debug)]
pub struct Ours {
    /// F.
    pub value: f64,
    /// ∇F.
    pub gradient: Dense,
    /// The selected lower point.
    pub y: Dense,
    /// Seconds of the evaluation, certificate included.
    pub seconds: f64,
    /// Whether the certificate holds.
    pub is_certified: bool,
}

/// F and ∇F of our own, from the start of the workload.
pub fn ours(problem: &Zoo, settings: &HgMs) -> Result<Ours> {
    let (x, y) = problem.start(SEED);
    let clock = Instant::now();
    let oracles = Oracles::new(problem);
    let mut stream = Stream::new(SEED, 0);
    let found =
        settings.evaluate(&oracles, &x, std::slice::from_ref(&y), Exploration::None, &mut stream, None)?;
    let seconds = clock.elapsed().as_secs_f64();
    Ok(Ours {
        value: found.value().context("no value was found")?,
        gradient: found.gradient().context("no hypergradient was found")?,
        y: found.selection().context("no selection was found")?.clone(),
        seconds,
        is_certified: found.certificate.is_certified(),
    })
}

/// A row for our own evaluation, held against these answers.
pub fn row_of_ours(
    workload: &Workload,
    method: &str,
    found: &Ours,
    answers: &BTreeMap<String, Dense>,
) -> Result<Hypergradient> {
    let (x, _) = workload.problem.start(SEED);
    let lower_gradient = workload.problem.lower().grad_y(&x, &found.y, Sample::Full)?.norm();
    let words = if found.is_certified { Vec::new() } else { vec!["not certified".to_owned()] };
    Ok(Hypergradient {
        workload: workload.name.into(),
        method: method.into(),
        value: Some(found.value),
        lower_gradient: Some(lower_gradient),
        errors: errors(&found.gradient, answers),
        warnings: words,
        ratio: None,
    })
}

/// Rows for every method of other libraries, timed so many times in turns with ours of these settings.
pub fn others(
    workload: &Workload,
    answers: &BTreeMap<String, Dense>,
    python: &mut Python,
    settings: &HgMs,
    repetitions: usize,
) -> Result<Vec<Hypergradient>> {
    let mut rows = Vec::new();
    for (method, options) in &workload.implicit {
        let request = json!({
            "do": "implicit",
            "workload": workload.name,
            "problem": workload.constants,
            "dtype": "f64",
            "method": method,
            "options": options,
        });
        let mut row = Hypergradient {
            workload: workload.name.into(),
            method: (*method).into(),
            value: None,
            lower_gradient: None,
            errors: BTreeMap::new(),
            warnings: Vec::new(),
            ratio: None,
        };
        match python.ask(&request) {
            Ok(answer) => {
                row.value = answer["value"].as_f64();
                row.lower_gradient = answer["lower_gradient"].as_f64();
                row.errors = errors(&numbers(&answer["gradient"]), answers);
                row.warnings = words(&answer["warnings"]);
                let mut ratios = Vec::new();
                for _ in 0..repetitions {
                    let seconds = ours(&workload.problem, settings)?.seconds;
                    ratios.push(python.seconds(&request)? / seconds);
                }
                row.ratio = Spread::of(ratios);
            }
            // a method that raises has said that it failed
            Err(error) => row.warnings = vec![error.to_string()],
        }
        rows.push(row);
    }
    Ok(rows)
}

fn words(list: &serde_json::Value) -> Vec<String> {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Relative errors against each answer; `None` where they are no number.
fn errors(gradient: &Dense, answers: &BTreeMap<String, Dense>) -> BTreeMap<String, Option<f64>> {
    answers
        .iter()
        .map(|(name, answer)| {
            let error = gradient.distance(answer) / answer.norm();
            (name.clone(), Some(error).filter(|error| error.is_finite()))
        })
        .collect()
}
