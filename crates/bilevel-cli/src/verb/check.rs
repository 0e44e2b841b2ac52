//! `bilevel check`

use std::{
    path::PathBuf,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::Result;
use bilevel::{Budget, Problem, Run, Solver, check::Checker, problems::Zoo, run::RunError};
use clap::Args;

use super::{reweight, solve::Job};
use crate::{
    bench::{Bench, experiment::Experiment},
    exit::{Exit, usage},
    output::{Output, bytes, duration},
    recipe::{self, Kind, Overrides, Recipe},
    registry,
};

const EXAMPLES: &str = "\
Examples:
  bilevel check recipe.toml     looks at files, fields and settings; times a step; says what the run will need";

/// Look at a recipe before a long run: files, fields, derivatives, memory, time
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// The recipe of a `solve` or a `reweight`, or the file of a `bench`
    recipe: PathBuf,
}

impl Check {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let text = recipe::read(&self.recipe)?;
        match recipe::kind(&self.recipe, &text)? {
            Kind::Solve => {
                let job = Job::new(Recipe::parse(&self.recipe, &text, &Overrides::new())?)?;
                check_solve(&job, output)
            }
            Kind::Reweight => check_reweight(&reweight::load(&self.recipe)?, output),
            Kind::Bench => check_bench(&Experiment::parse(&self.recipe, &text)?, output),
        }
    }
}

/// Every name and setting, and the number of runs.
fn check_bench(experiment: &Experiment, output: Output) -> Result<Exit> {
    let runs = Bench::new(experiment, PathBuf::new(), &AtomicBool::new(false))?.runs();
    let text = format!(
        "{}
{} problems, {} solvers, {} seeds: at most {runs} runs
",
        experiment.title,
        experiment.problem.len(),
        experiment.solver.len(),
        experiment.run.seeds.len()
    );
    output.result(&text, &serde_json::json!({ "title": experiment.title, "runs": runs }))?;
    Ok(Exit::Done)
}

/// Derivatives at the start, then one step, timed.
fn check_solve(job: &Job, output: Output) -> Result<Exit> {
    Solver::<Zoo>::validate(&job.solver).map_err(|error| usage(error.to_string()))?;
    let (x, y) = job.problem.start(job.recipe.run.seed);
    let checks = Checker::default().problem(&job.problem, &x, &y)?;
    let clock = Instant::now();
    let report = Run::new(&job.problem, &job.solver)
        .budget(Budget::steps(1))
        .start(job.recipe.run.seed)
        .map_err(|error| match error {
            RunError::Config(error) => usage(error.to_string()),
            error => anyhow::Error::new(error),
        })?;
    let step = clock.elapsed();
    let most = match (job.recipe.budget.steps, job.recipe.budget.seconds) {
        (Some(steps), Some(seconds)) => Some((step.as_secs_f64() * steps as f64).min(seconds)),
        (Some(steps), None) => Some(step.as_secs_f64() * steps as f64),
        (None, seconds) => seconds,
    };
    let (_, d) = job.problem.dims();
    // Hessian, eigenvectors and work space of one factorisation, in 64-bit numbers.
    let memory = 4.0 * 8.0 * (d as f64).powi(2);
    let mut text =
        format!("problem      {}: {}\n", job.recipe.problem.name, registry::dimensions(&job.problem));
    for check in &checks {
        text += &format!("{} {check}\n", if check.passed() { "passed      " } else { "FAILED      " });
    }
    text += &format!(
        "first step   {}, {} gradients; it ends as {}\nforecast     {}, {} of memory\n",
        duration(step),
        report.counts.gradient_equivalents(),
        report.status.name(),
        most.map_or_else(
            || "no limit on time or steps: set [budget]".into(),
            |seconds| format!("at most about {}", duration(Duration::from_secs_f64(seconds)))
        ),
        bytes(memory),
    );
    let json = serde_json::json!({
        "problem": job.recipe.problem.name,
        "checks": checks,
        "step_seconds": step.as_secs_f64(),
        "forecast_seconds": most,
        "memory_bytes": memory,
    });
    output.result(&text, &json)?;
    Ok(if checks.iter().all(bilevel::check::Report::passed) { Exit::Done } else { Exit::Error })
}

/// Every file is read and every example made into tokens; then one training step, timed.
fn check_reweight(recipe: &bilevel_llm::Recipe, output: Output) -> Result<Exit> {
    let prepared = bilevel_llm::prepare(recipe)?;
    prepared.require_memory(bilevel_llm::available_memory())?;
    let forecast = prepared.forecast();
    let mut text = String::new();
    for source in &prepared.sources {
        text += &format!(
            "source {:<16} {:>8} examples, {:>10} tokens, {:>10} under the loss\n",
            source.name, source.data.examples, source.data.tokens, source.data.loss_tokens
        );
        if source.data.removed > 0 {
            text += &format!("       {:<16} {:>8} more were left out\n", "", source.data.removed);
        }
        if let Some(held) = source.held_out {
            text +=
                &format!("       {:<16} {:>8} of them are judged on, not trained on\n", "", held.examples);
        }
    }
    for warning in &prepared.warnings {
        text += &format!("warning: {warning}\n");
    }
    text += &format!(
        "model    {} parameters, of which {} are trained\nforecast {} training steps a method and seed; about {} in all on this machine, {} of memory\n",
        forecast.parameters,
        forecast.trained,
        forecast.steps,
        duration(Duration::from_secs_f64(forecast.seconds.max(0.0))),
        bytes(forecast.memory as f64),
    );
    let device = prepared.setting.accelerator.as_ref().map(|device| device.name());
    if let Some(name) = device {
        text += &format!("device   {name}: it was tried, and multiplies as the processor does\n");
    }
    let json = serde_json::json!({
        "sources": prepared.sources,
        "warnings": prepared.warnings,
        "device": device,
        "forecast": forecast,
    });
    output.result(&text, &json)?;
    Ok(Exit::Done)
}
