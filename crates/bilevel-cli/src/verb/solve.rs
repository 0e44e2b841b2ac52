//! `bilevel solve`

use std::{
    fmt::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Result;
use bilevel::{
    Budget, Event, Run, RunError, Solver, Status, Trace, Vector,
    lower_level::LowerLevelCheck,
    problems::Zoo,
    run::ReportOf,
    solvers::{HyperObjective, registry::AnySolver},
};
use clap::Args;
use toml::Value;

use crate::{
    exit::{Exit, usage},
    interrupt,
    output::{Output, Progress, duration},
    recipe::{self, Overrides, Recipe},
    registry,
    run_folder::{self, RunFolder, SolveResult},
};

const EXAMPLES: &str = "\
Examples:
  bilevel solve --problem r6                           a problem of the zoo, at its own start
  bilevel solve --problem r3 --x=-1,0 --steps 50       another start and a budget
  bilevel solve recipe.toml --set solver.upper.tol=1e-9 a recipe with one setting changed
  bilevel solve --problem pl-game-literal --solver hjfbio --certify 100
                                                       does the lower level have a solution at all?
  bilevel solve recipe.toml --json | jq .value         the result for another program

The result folder holds the recipe, a trace with a row per step, checkpoints, the result and a report.
`bilevel list problems` and `bilevel list solvers` say what there is.";

/// Solve a dense bilevel problem and say what the answer is worth
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Solve {
    /// A recipe (see `bilevel init solve`)
    #[arg(required_unless_present = "problem")]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Result folder; `runs/` and the name of recipe or problem without
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace an earlier run in the result folder
    #[arg(long)]
    force: bool,
}

/// Settings of a recipe that have an option of their own.
#[derive(Args)]
pub struct Settings {
    /// The problem, one of `bilevel list problems`
    #[arg(long, value_name = "NAME")]
    problem: Option<String>,
    /// The solver, one of `bilevel list solvers`
    #[arg(long, value_name = "NAME")]
    solver: Option<String>,
    /// Upper start
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
    x: Option<Vec<f64>>,
    /// Lower start
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
    y: Option<Vec<f64>>,
    /// Seed of every random number
    #[arg(long)]
    seed: Option<u32>,
    /// Look at the lower level every so many steps and at the end; one that falls without bound ends the run
    #[arg(long, value_name = "STEPS")]
    certify: Option<u32>,
    #[command(flatten)]
    limits: Limits,
    /// Any other setting, by its key in the recipe
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = recipe::parse_setting)]
    set: Vec<(String, Value)>,
}

/// The budget on the command line.
#[derive(Args, Clone, Debug)]
pub struct Limits {
    /// Most upper steps
    #[arg(long)]
    pub steps: Option<u32>,
    /// Most gradients, a second-order product counted as two
    #[arg(long)]
    pub gradients: Option<u32>,
    /// Most seconds in the solver
    #[arg(long)]
    pub seconds: Option<f64>,
}

impl Limits {
    /// The limits as settings of the recipe.
    pub fn overrides(&self) -> Overrides {
        let mut list = Overrides::new();
        let mut add = |key: &str, value: Option<Value>| {
            list.extend(value.map(|value| (format!("budget.{key}"), value)));
        };
        add("steps", self.steps.map(Value::from));
        add("gradients", self.gradients.map(Value::from));
        add("seconds", self.seconds.map(Value::from));
        list
    }
}

impl Settings {
    pub fn overrides(&self) -> Overrides {
        let mut list = Overrides::new();
        let mut add =
            |key: &str, value: Option<Value>| list.extend(value.map(|value| (key.to_owned(), value)));
        add("problem.name", self.problem.clone().map(Value::from));
        add("solver.name", self.solver.clone().map(Value::from));
        add("problem.x", self.x.clone().map(Value::from));
        add("problem.y", self.y.clone().map(Value::from));
        add("run.seed", self.seed.map(Value::from));
        add("run.certify", self.certify.map(Value::from));
        list.extend(self.limits.overrides());
        list.extend(self.set.iter().cloned());
        list
    }
}

impl Solve {
    pub fn run(&self, output: Output) -> Result<Exit> {
        let overrides = self.settings.overrides();
        let mut recipe = match &self.recipe {
            Some(path) => Recipe::parse(path, &recipe::read(path)?, &overrides)?,
            None => Recipe::parse(Path::new("of the command line"), "", &overrides)?,
        };
        let out = self.out.clone().or(recipe.run.out.take()).unwrap_or_else(|| {
            let name = self.recipe.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy());
            Path::new("runs").join(name.as_deref().unwrap_or(&recipe.problem.name))
        });
        let job = Job::new(recipe)?;
        let folder = RunFolder::new(out);
        folder.create(self.force)?;
        run_folder::write(&folder.recipe(), job.recipe.to_toml()?.as_bytes())?;
        job.run(&folder, output)
    }
}

/// A recipe whose problem and solver are found and whose settings are in range.
pub struct Job {
    pub recipe: Recipe,
    pub problem: Zoo,
    pub solver: AnySolver,
}

impl Job {
    pub fn new(recipe: Recipe) -> Result<Self> {
        let problem = registry::problem(&recipe.problem)?;
        let solver = registry::solver(&recipe.solver)?;
        recipe.budget.validate().map_err(|error| usage(error.to_string()))?;
        recipe::check_certify("run.certify", recipe.run.certify)?;
        Ok(Self { recipe, problem, solver })
    }

    /// Starts the run, or goes on from the folder's checkpoint if there is one.
    pub fn run(&self, folder: &RunFolder, output: Output) -> Result<Exit> {
        let flag = interrupt::flag()?;
        let progress = output.progress(Some(1.0));
        let check = LowerLevelCheck::default();
        let mut run = Run::new(&self.problem, &self.solver)
            .named(&self.recipe.problem.name)
            .budget(self.recipe.budget)
            .observe(Trace::new(folder.trace()).with_times(folder.times()))
            .observe(watch(&progress, self.recipe.budget, Arc::clone(&flag)))
            .checkpoint(folder.checkpoint(), self.recipe.run.checkpoint_every);
        if let Some(every) = self.recipe.run.certify {
            run = run.certify(&check, every);
        }
        let report = if folder.checkpoint().exists() {
            run.resume_file(&folder.checkpoint())
        } else {
            run.start(self.recipe.run.seed)
        };
        progress.finish();
        let report = report.map_err(|error| match error {
            RunError::Config(error) => usage(error.to_string()),
            error => anyhow::Error::new(error),
        })?;
        if interrupt::is_cause(&report.status) {
            output.note(&format!(
                "interrupted after step {}; go on with: bilevel resume {}",
                report.steps,
                folder.path().display()
            ));
            return Ok(Exit::Interrupted);
        }
        let result = self.result(&report);
        let mut json = serde_json::to_vec_pretty(&result)?;
        json.push(b'\n');
        run_folder::write(&folder.result(), &json)?;
        let page = crate::report::solve(folder.path())?;
        output.result(&in_words(&result), &result)?;
        output.note(&format!("time in the solver: {}; report: {}", duration(report.wall), page.display()));
        Ok(if report.status == Status::Converged { Exit::Done } else { Exit::Unconverged })
    }

    fn result(&self, report: &ReportOf<Zoo, AnySolver>) -> SolveResult {
        let target = Solver::<Zoo>::target(&self.solver);
        let known = match target {
            HyperObjective::Optimistic => self.problem.known(&report.x),
            HyperObjective::Pessimistic => self.problem.known_pessimistic(&report.x),
            HyperObjective::Selected | HyperObjective::Penalised => None,
        };
        let finite = |number: f64| number.is_finite().then_some(number);
        let last = report.last.as_ref();
        SolveResult {
            schema: 1,
            version: env!("CARGO_PKG_VERSION").into(),
            problem: self.recipe.problem.name.clone(),
            solver: Solver::<Zoo>::name(&self.solver).into(),
            target,
            seed: self.recipe.run.seed,
            end: report.status.clone(),
            end_in_words: report.status.to_string(),
            steps: report.steps,
            x: report.x.clone(),
            y: report.y.clone(),
            value: last.and_then(|info| info.value).and_then(finite),
            stationarity: last.and_then(|info| finite(info.stationarity)),
            best: report.best.clone(),
            known_value: known.and_then(|known| finite(known.value)),
            counts: report.counts,
            gradient_equivalents: report.counts.gradient_equivalents(),
            certificate: report.certificate().cloned(),
        }
    }
}

/// Observer that moves the progress bar and looks for Ctrl-C.
fn watch(
    progress: &Progress,
    budget: Budget,
    flag: Arc<AtomicBool>,
) -> impl FnMut(&Event<Zoo>) -> ControlFlow<String> {
    move |event| {
        progress.set(budget.share(event.step, &event.counts, event.wall), || {
            let value = event.info.value.map_or_else(String::new, |value| format!("F = {value:.8}, "));
            format!("step {}: {value}stationarity {:.2e}", event.step, event.info.stationarity)
        });
        interrupt::stop(&flag)
    }
}

/// The result for people.
fn in_words(result: &SolveResult) -> String {
    let mut text = format!("{} after {} steps\n", result.end_in_words, result.steps);
    // Writing to a string cannot fail.
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<14}{value}");
    };
    row("problem", &format!("{}, {} by {}", result.problem, result.target, result.solver));
    if let Some(value) = result.value {
        row("F(x)", &format!("{value:.10}"));
    }
    if let (Some(known), Some(value)) = (result.known_value, result.value) {
        row("closed form", &format!("{known:.10} (difference {:.1e})", value - known));
    }
    if let Some(stationarity) = result.stationarity {
        row("stationarity", &format!("{stationarity:.2e}"));
    }
    row("x", &numbers(&result.x));
    row("y", &numbers(&result.y));
    row("price", &format!("{} gradients (a second-order product is two)", result.gradient_equivalents));
    match &result.certificate {
        None => row("certificate", "none: this solver does not certify"),
        Some(certificate) => text += &certificate.to_string(),
    }
    text
}

/// At most eight numbers of a list.
fn numbers(list: &[f64]) -> String {
    let shown: Vec<String> = list.iter().take(8).map(|number| format!("{number:.8}")).collect();
    let rest = if list.len() > 8 {
        format!(", … {} in all, norm {:.6}", list.len(), list.to_vec().norm())
    } else {
        String::new()
    };
    format!("({}{rest})", shown.join(", "))
}
