//! Seconds of both sides in turns, after both were found to compute the same.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use bilevel::{Objective, Problem, Sample, SecondOrder, Vector, vector::Dense};
use serde_json::Value;

use crate::{
    environment::Environment,
    python::Python,
    results::{Agreement, Cold, Race, Spread},
    workload::{Case, SEED, Variant, Workload},
};

/// Steps after which iterates are compared.
const COMPARED: u64 = 50;

/// What rounding explains of a difference relative to 1 + the norm: sums of this many terms, taken in another order, by the
/// first-order bound of summation on both sides, and twice that for the products inside.
fn allowed(terms: u64, times: u64) -> f64 {
    4.0 * (terms * times.max(1)) as f64 * f64::EPSILON
}

/// A list of numbers of an answer; what is no number is NaN.
pub fn numbers(answer: &Value) -> Vec<f64> {
    let entries = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().map(|entry| entry.as_f64().unwrap_or(f64::NAN)).collect()
}

fn difference(ours: &Dense, theirs: &Dense) -> f64 {
    if ours.len() == theirs.len() { ours.distance(theirs) / (1.0 + ours.norm()) } else { f64::NAN }
}

/// Values and directions at the start over all terms.
pub fn start(workload: &Workload, python: &mut Python) -> Result<Vec<Agreement>> {
    let problem = &workload.problem;
    let ((x, y), v) = (problem.start(SEED), workload.direction());
    let (f, g, all) = (problem.upper(), problem.lower(), Sample::Full);
    let (f_x, f_y) = f.grad(&x, &y, all)?;
    let ours = [
        ("f", vec![f.value(&x, &y, all)?]),
        ("g", vec![g.value(&x, &y, all)?]),
        ("grad_y g", g.grad_y(&x, &y, all)?),
        ("H v", g.hvp_yy(&x, &y, &v, all)?),
        ("J v", g.jvp_xy(&x, &y, &v, all)?),
        ("grad_x f", f_x),
        ("grad_y f", f_y),
    ];
    let terms = f.n_samples().max(g.n_samples()).unwrap_or(1) + (x.len() + y.len()) as u64;
    let request = serde_json::json!({
        "do": "start", "workload": workload.name, "problem": workload.constants, "dtype": "f64",
    });
    let theirs = python.ask(&request)?;
    Ok(ours
        .into_iter()
        .map(|(what, ours)| Agreement {
            workload: workload.name.into(),
            what: format!("{what} at the start"),
            difference: difference(&ours, &numbers(&theirs[what])),
            allowed: allowed(terms, 1),
        })
        .collect())
}

/// Iterates of a case after some steps on the same batches.
pub fn iterates(workload: &Workload, case: &Case, python: &mut Python) -> Result<Vec<Agreement>> {
    let steps = case.comparable(&workload.problem, COMPARED.min(case.steps))?;
    let (x, y) = case.iterates(&workload.problem, steps)?;
    let mut found = Vec::new();
    for variant in case.variants.iter().filter(|variant| variant.is_the_same()) {
        let theirs = python.ask(&case.request(workload, variant, steps, "iterates")?)?;
        let full = workload.problem.lower().n_samples().unwrap_or(1);
        let terms = (if case.batch > 0 { case.batch } else { full }) + (x.len() + y.len()) as u64;
        for (what, ours) in [("x", &x), ("y", &y)] {
            found.push(Agreement {
                workload: workload.name.into(),
                what: format!("{what} after {steps} steps of {}, {}", case.solver, variant.label),
                difference: difference(ours, &numbers(&theirs[what])),
                allowed: allowed(terms, steps),
            });
        }
    }
    Ok(found)
}

/// Both sides in turns: ours, theirs, ours, theirs, …
pub fn race(
    workload: &Workload,
    case: &Case,
    variant: &Variant,
    python: &mut Python,
    repetitions: usize,
) -> Result<Race> {
    let run = case.request(workload, variant, case.steps, "run")?;
    // compiles, and runs twice
    python.ask(&Python::verb(&run, "prepare"))?;
    case.seconds(&workload.problem)?;
    let mut pairs = Vec::new();
    for _ in 0..repetitions {
        pairs.push([case.seconds(&workload.problem)?, python.seconds(&run)?]);
    }
    let spread = |of: &dyn Fn(&[f64; 2]) -> f64| {
        Spread::of(pairs.iter().map(of)).context("at least one repetition is needed")
    };
    let by_step = 1e6 / case.steps as f64;
    Ok(Race {
        workload: workload.name.into(),
        solver: case.solver.into(),
        other: variant.label.into(),
        steps: case.steps,
        ratio: spread(&|[ours, theirs]| theirs / ours)?,
        aim: case.aim,
        microseconds: Some([spread(&|pair| by_step * pair[0])?, spread(&|pair| by_step * pair[1])?]),
    })
}

/// From the start of a process to its first step, both sides in turns; ours is the command from its start to its end.
pub fn cold(
    workload: &Workload,
    case: &Case,
    environment: &Environment,
    folder: &Path,
    repetitions: usize,
) -> Result<Option<Cold>> {
    let (Some(arguments), Some(variant)) = (&workload.command, case.variants.first()) else {
        return Ok(None);
    };
    let command =
        std::env::current_exe()?.with_file_name(if cfg!(windows) { "bilevel.exe" } else { "bilevel" });
    let out = folder.join("cold");
    let request = case.request(workload, variant, 1, "run")?.to_string();
    let data = folder.join("data").join(workload.name);
    let mut pairs = Vec::new();
    for _ in 0..repetitions {
        let clock = Instant::now();
        let output = Command::new(&command)
            .args(arguments)
            .arg("--out")
            .arg(&out)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} is missing; `cargo xtask peers` builds it", command.display()))?;
        let ours = clock.elapsed().as_secs_f64();
        ensure!(
            out.join("result.json").exists(),
            "`bilevel {}` left no result: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::remove_dir_all(&out)?;
        let clock = Instant::now();
        let mut child = environment.worker(&["cold", &data.display().to_string(), &request]).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let theirs = clock.elapsed().as_secs_f64();
        child.wait()?;
        ensure!(line.trim() == "done", "the cold start of {} failed", workload.name);
        pairs.push([ours, theirs]);
    }
    let spread = |of: &dyn Fn(&[f64; 2]) -> f64| Spread::of(pairs.iter().map(of)).context("no repetition");
    let ours = spread(&|pair| pair[0])?;
    Ok(Some(Cold {
        workload: workload.name.into(),
        solver: case.solver.into(),
        other: variant.label.into(),
        ratio: spread(&|[ours, theirs]| theirs / ours)?,
        is_below_a_tenth_of_a_second: ours.median < 0.1,
        seconds: Some([ours, spread(&|pair| pair[1])?]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_another_length_agree_with_nothing() {
        assert!(difference(&vec![1.0], &vec![1.0, 2.0]).is_nan());
        assert_eq!(difference(&vec![3.0, 4.0], &vec![3.0, 4.0]), 0.0);
        assert!(numbers(&serde_json::json!([1.0, null]))[1].is_nan());
    }
}
