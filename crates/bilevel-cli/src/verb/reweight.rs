//! `bilevel reweight`

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bilevel_llm::{
    ProgressEvent, Recipe, ReweightError, RunResult,
    demo::{DEMO_RECIPE, Demo},
    result::{Phase, Verdict},
};
use clap::Args;

use crate::{
    exit::{Exit, usage},
    interrupt,
    output::{Output, Progress, duration},
    report,
};

const EXAMPLES: &str = "\
Examples:
  bilevel reweight --demo                      generates its data and shows the whole way in minutes
  bilevel init reweight --to recipe.toml       a recipe for your own sources
  bilevel check recipe.toml                    what is wrong with it, and what the run will need
  bilevel reweight recipe.toml --out runs/a    the run
  bilevel resume runs/a                        go on after an interruption
  bilevel reweight recipe.toml --out runs/a --seeds 1,2,3,4,5 --extend
                                               two seeds more; what is done stays
  bilevel export runs/a --to axolotl           the mixture as a trainer reads it

The result folder holds weights.json, trace.jsonl, checkpoints, the model and report.html.";

/// Learn on which data sources a language model should be trained, against a validation set
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Reweight {
    /// A recipe (see `bilevel init reweight`)
    #[arg(required_unless_present = "demo", conflicts_with = "demo")]
    recipe: Option<PathBuf>,
    /// Generate five sources of worded arithmetic and weigh them
    #[arg(long)]
    demo: bool,
    /// Result folder; that of the recipe without
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seeds; those of the recipe without
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    seeds: Option<Vec<u64>>,
    /// Token budget of each method and seed, in forward-token units
    #[arg(long, value_name = "UNITS")]
    budget: Option<u64>,
    /// Replace an earlier run in the result folder
    #[arg(long)]
    force: bool,
    /// Keep what an earlier run in the result folder computed, and compute what the recipe has more: seeds, methods, questions of
    /// `[evaluate]`
    #[arg(long, conflicts_with_all = ["force", "demo"])]
    extend: bool,
}

/// Reads a recipe; what is wrong with it is the user's to mend.
pub fn load(path: &Path) -> Result<Recipe> {
    Recipe::load(path).map_err(|error| match error {
        ReweightError::Config(error) => usage(format!("recipe {}: {error}", path.display())),
        error => anyhow::Error::new(error).context("the recipe cannot be read"),
    })
}

impl Reweight {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let mut recipe = if let Some(path) = &self.recipe {
            load(path)?
        } else {
            let out = self.out.clone().unwrap_or_else(|| PathBuf::from("runs/demo"));
            refuse_or_clear(&out, self.force)?;
            // Generating takes a moment; a resumed demonstration finds the same files.
            let data = out.join("data");
            Demo::default().write(&data).context("the demonstration's data cannot be written")?;
            output.note(&format!("wrote the demonstration's data to {}", data.display()));
            let mut recipe = Recipe::parse(DEMO_RECIPE, &data).context("the demonstration's recipe")?;
            recipe.run.out = out;
            recipe
        };
        if let Some(out) = &self.out {
            recipe.run.out.clone_from(out);
        }
        if let Some(seeds) = &self.seeds {
            recipe.run.seeds.clone_from(seeds);
        }
        if let Some(budget) = self.budget {
            recipe.run.budget = budget;
        }
        recipe.validate().map_err(|error| usage(error.to_string()))?;
        if !self.demo && !self.extend {
            refuse_or_clear(&recipe.run.out, self.force)?;
        }
        drive(&recipe.run.out.clone(), output, |progress, flag| {
            bilevel_llm::reweight(&recipe, progress, flag)
        })
    }
}

/// Goes on with the run in a folder.
pub fn resume(folder: &Path, output: Output) -> Result<Exit> {
    drive(folder, output, |progress, flag| bilevel_llm::resume(folder, progress, flag))
}

/// Makes sure that a new run does not mix with an old one.
fn refuse_or_clear(out: &Path, force: bool) -> Result<()> {
    if !out.join("recipe.toml").exists() {
        return Ok(());
    }
    let folder = out.display();
    if !force {
        return Err(usage(format!(
            "{folder} holds a run; go on with it by `bilevel resume {folder}`, add seeds, methods or questions by --extend, give another --out, or --force to replace it"
        )));
    }
    for old in ["recipe.toml", "weights.json", "trace.jsonl", "timings.json", "report.html"] {
        let path = out.join(old);
        if path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    let checkpoints = out.join("checkpoints");
    if checkpoints.exists() {
        std::fs::remove_dir_all(&checkpoints)
            .with_context(|| format!("{} cannot be removed", checkpoints.display()))?;
    }
    Ok(())
}

type Outcome = std::result::Result<RunResult, ReweightError>;

fn drive(
    out: &Path,
    output: Output,
    run: impl FnOnce(&mut dyn bilevel_llm::Progress, &AtomicBool) -> Outcome,
) -> Result<Exit> {
    let flag = interrupt::flag()?;
    let clock = Instant::now();
    let mut listener = Listener { output, progress: output.progress(None) };
    let outcome = run(&mut listener, &flag);
    listener.progress.finish();
    let result = match outcome {
        Ok(result) => result,
        Err(ReweightError::Interrupted { .. }) => {
            output.note(&format!("interrupted; go on with: bilevel resume {}", out.display()));
            return Ok(Exit::Interrupted);
        }
        Err(ReweightError::Config(error)) => return Err(usage(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let page = report::reweight(out)?;
    output.result(&in_words(&result), &result)?;
    output.note(&format!("took {}; report: {}", duration(clock.elapsed()), page.display()));
    Ok(Exit::Done)
}

/// Turns what a run tells into progress.
struct Listener {
    output: Output,
    progress: Progress,
}

impl bilevel_llm::Progress for Listener {
    fn report(&mut self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Started { total_units, parameters, warnings } => {
                for warning in *warnings {
                    self.output.note(&format!("warning: {warning}"));
                }
                self.output.note(&format!("a decoder of {parameters} parameters"));
                self.progress = self.output.progress(Some(*total_units));
            }
            ProgressEvent::Advanced { method, seed, phase, units } => {
                self.progress.advance(*units, || format!("{method}, seed {seed}: {}", words(*phase)));
            }
            ProgressEvent::Finished { method, seed, phase, seconds } => {
                let took = duration(Duration::from_secs_f64(seconds.max(0.0)));
                self.progress.line(&format!("{method}, seed {seed}: {} took {took}", words(*phase)));
            }
            ProgressEvent::Row(_) => {}
        }
    }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Search => "learning the weights",
        Phase::Retraining => "training with the final weights",
    }
}

/// The result for people: losses by method, then weights by source.
/// A verdict in words.
fn said(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::NoDifference => "no difference that could be told from noise",
        Verdict::Worse => "worse",
        Verdict::OneSeed => "one seed gives no verdict; run three or more",
    }
}

fn in_words(result: &RunResult) -> String {
    let spread = |sd: Option<f64>| sd.map_or_else(String::new, |sd| format!(" ± {sd:.4}"));
    let mut text = format!(
        "{:<14} {:<22} tokens spent   (budget {} units)\n",
        "method", "test loss (nats/token)", result.budget
    );
    for method in &result.methods {
        let spent: f64 = method.seeds.iter().map(|seed| seed.retraining.spent).sum::<f64>()
            / method.seeds.len().max(1) as f64;
        let loss = format!("{:.4}{}", method.test_loss, spread(method.test_loss_sd));
        text += &format!("{:<14} {loss:<22} {spent:.0}\n", method.method.name());
    }
    for method in &result.methods {
        let exact = method.evaluation.as_ref().and_then(|evaluation| evaluation.exact_match.as_ref());
        let Some(exact) = exact else { continue };
        let (low, high) = exact.share.interval;
        text += &format!(
            "{:<14} {:.1} % of {} final answers are right (95 %: {:.1} to {:.1})\n",
            method.method.name(),
            100.0 * exact.share.mean,
            exact.examples,
            100.0 * low,
            100.0 * high
        );
    }
    text += "\nweights, mean ± standard deviation over the seeds\n";
    let width = result.sources.iter().map(|source| source.name.len()).max().unwrap_or(0).max(6);
    text += &format!("{:width$}", "source");
    for method in &result.methods {
        text += &format!("  {:<15}", method.method.name());
    }
    text += "\n";
    for (index, source) in result.sources.iter().enumerate() {
        text += &format!("{:width$}", source.name);
        for method in &result.methods {
            let cell = method.weights.get(index).map_or_else(String::new, |bar| {
                format!("{:.3}{}", bar.mean, bar.sd.map_or_else(String::new, |sd| format!(" ± {sd:.3}")))
            });
            text += &format!("  {cell:<15}");
        }
        text += "\n";
    }
    if !result.comparisons.is_empty() {
        text += "\ndifferences in test loss, paired over test examples and seeds; negative is better\n";
    }
    for comparison in &result.comparisons {
        text += &format!(
            "{} against {}: {:+.4} ± {:.4}, {}\n",
            comparison.method.name(),
            comparison.baseline.name(),
            comparison.difference,
            comparison.standard_error,
            said(comparison.verdict)
        );
    }
    let answers = result.comparisons.iter().filter_map(|c| Some((c, c.exact_match?)));
    for (i, (comparison, exact)) in answers.enumerate() {
        if i == 0 {
            text += "\ndifferences in right final answers, paired in the same way; positive is better\n";
        }
        text += &format!(
            "{} against {}: {:+.1} % ± {:.1} %, {}\n",
            comparison.method.name(),
            comparison.baseline.name(),
            100.0 * exact.difference,
            100.0 * exact.standard_error,
            said(exact.verdict)
        );
    }
    let silent: BTreeMap<&str, u64> = result
        .methods
        .iter()
        .map(|method| (method.method.name(), method.seeds.iter().map(|seed| seed.no_signal).sum()))
        .filter(|(_, count)| *count > 0)
        .collect();
    for (method, count) in silent {
        text += &format!(
            "{method}: in {count} cycles the hypergradient was below its noise, and the weights stayed\n"
        );
    }
    text
}
