//! `bilevel bench`: solvers on problems over seeds, every run done once, whatever stops in between.

pub mod cell;
pub mod experiment;
pub mod measure;
pub mod summary;
mod table;
mod tuning;

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use bilevel::solvers::registry::{self as solvers, AnySolver};
use serde::{Deserialize, Serialize};

use crate::{
    exit::usage,
    output::{Output, Progress},
    recipe::{self, ProblemSpec},
    registry, run_folder,
};
use cell::{Cell, Outcome, Problems};
use experiment::{Experiment, ProblemEntry, SolverEntry};
use summary::Summary;
use tuning::{Point, Search};

/// One run of the comparison, under the labels of its experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    /// Label of the problem.
    pub problem: String,
    /// Label of the solver.
    pub solver: String,
    /// Settings that tuning chose.
    pub tuned: BTreeMap<String, toml::Value>,
    /// What it gave.
    pub outcome: Outcome,
}

/// An experiment and the folder of its results.
#[derive(Debug)]
pub struct Bench<'a> {
    experiment: &'a Experiment,
    folder: PathBuf,
    problems: Problems,
    interrupt: &'a AtomicBool,
}

impl<'a> Bench<'a> {
    /// Checks every name, key and setting, before anything runs.
    pub fn new(experiment: &'a Experiment, folder: PathBuf, interrupt: &'a AtomicBool) -> Result<Self> {
        let bench = Self { experiment, folder, problems: Problems::default(), interrupt };
        for problem in &experiment.problem {
            bench
                .problems
                .get(&problem.spec(experiment.run.seeds[0]))
                .map_err(|error| usage(format!("[[problem]] {}: {error}", problem.label())))?;
        }
        for solver in &experiment.solver {
            let points = Search::grid(&solver.grid);
            for point in &points {
                let spec = experiment.problem[0].spec(0);
                Cell::new(spec, build(solver, point)?, 0, experiment.budget)
                    .map_err(|error| usage(format!("[[solver]] {}: {error}", solver.label())))?;
            }
        }
        Ok(bench)
    }

    /// Every solver with every problem that it runs on.
    fn pairs(&self) -> impl Iterator<Item = (&'a ProblemEntry, &'a SolverEntry)> {
        let experiment = self.experiment;
        experiment.problem.iter().flat_map(move |problem| {
            let runs_here = move |solver: &&SolverEntry| solver.runs_on(problem.label());
            experiment.solver.iter().filter(runs_here).map(move |solver| (problem, solver))
        })
    }

    /// Number of runs, at most.
    pub fn runs(&self) -> usize {
        let searched = self.pairs().filter(|(_, solver)| !solver.grid.is_empty()).count();
        let tuning_runs = self.experiment.tuning.as_ref().map_or(0, |tuning| tuning.runs);
        self.pairs().count() * self.experiment.run.seeds.len() + searched * tuning_runs
    }

    /// Does every run that is not done yet; `None` when interrupted.
    pub fn run(&self, output: Output) -> Result<Option<Vec<Finished>>> {
        fs::create_dir_all(self.cells()).with_context(|| {
            format!(
                "the result folder {} cannot be made; give a folder that can be written with --out",
                self.folder.display()
            )
        })?;
        let pairs = || self.pairs();
        let work = self.runs() as f64;
        let board = Board::new(output.progress(Some(work)), self.experiment.run.threads);

        let mut chosen = Vec::new();
        for (problem, solver) in pairs() {
            let point = if solver.grid.is_empty() {
                Some(Point::new())
            } else {
                self.tune(problem.label(), solver, &|seed| problem.spec(seed), &board)?
            };
            let Some(point) = point else {
                board.finish();
                return Ok(None);
            };
            chosen.push((problem, solver, point));
        }
        let mut cells = Vec::new();
        let mut labels = Vec::new();
        for problem in &self.experiment.problem {
            for &seed in &self.experiment.run.seeds {
                for (_, solver, point) in chosen.iter().filter(|(p, ..)| p.label() == problem.label()) {
                    let budget = solver.budget.unwrap_or(self.experiment.budget);
                    let certify = solver.certify.or(self.experiment.run.certify);
                    let cell = Cell::new(problem.spec(seed), build(solver, point)?, seed, budget)?;
                    cells.push(cell.certified(certify));
                    labels.push((problem.label().to_owned(), solver.label().to_owned(), point.clone()));
                }
            }
        }
        let outcomes = self.all(&cells, &board)?;
        board.finish();
        let Some(outcomes) = outcomes else { return Ok(None) };
        let finished = labels
            .into_iter()
            .zip(outcomes)
            .map(|((problem, solver, tuned), outcome)| Finished { problem, solver, tuned, outcome })
            .collect();
        Ok(Some(finished))
    }

    /// Writes what was found: a line per run, a table of all measurements, the summary, the report.
    pub fn write(&self, finished: &[Finished]) -> Result<(Summary, PathBuf)> {
        let mut lines = String::new();
        for run in finished {
            let _ = writeln!(lines, "{}", serde_json::to_string(run)?);
        }
        run_folder::write(&self.folder.join("results.jsonl"), lines.as_bytes())?;
        run_folder::write(&self.folder.join("results.csv"), table::csv(finished).as_bytes())?;
        let summary = Summary::new(self.experiment, finished);
        let mut json = serde_json::to_vec_pretty(&summary)?;
        json.push(b'\n');
        run_folder::write(&self.folder.join("summary.json"), &json)?;
        let report = crate::report::bench(&self.folder)?;
        Ok((summary, report))
    }

    fn cells(&self) -> PathBuf {
        self.folder.join("cells")
    }

    /// The best settings of a solver on a problem; `None` when interrupted.
    fn tune(
        &self,
        problem: &str,
        solver: &SolverEntry,
        spec: &dyn Fn(u64) -> ProblemSpec,
        board: &Board,
    ) -> Result<Option<Point>> {
        let tuning = self.experiment.tuning.as_ref().expect("checked: a grid comes with [tuning]");
        let judge = &self.experiment.judge;
        let budget = tuning.budget.or(solver.budget).unwrap_or(self.experiment.budget);
        let mut search = Search::default();
        let mut points = Search::grid(&solver.grid);
        let mut left = tuning.runs;
        while left > 0 && !points.is_empty() {
            points.truncate(left);
            left -= points.len();
            let cells = points
                .iter()
                .map(|point| Cell::new(spec(tuning.seed), build(solver, point)?, tuning.seed, budget))
                .collect::<Result<Vec<Cell>>>();
            // a value beyond an edge may be out of a setting's range, which ends the search there
            let Ok(cells) = cells else { break };
            let Some(outcomes) = self.all(&cells, board)? else { return Ok(None) };
            for (point, outcome) in points.iter().zip(outcomes) {
                let broke_off = ["NonFinite", "Failed", "Crashed"].contains(&outcome.end.as_str());
                let score = outcome
                    .last(&judge.metric)
                    .filter(|_| !broke_off)
                    .map_or(f64::INFINITY, |n| if judge.larger_is_better { -n } else { n });
                search.record(point.clone(), score);
            }
            points = search.beyond();
        }
        board.skip(left);
        let best = search.best().map(|(point, _)| point.clone()).unwrap_or_default();
        let words: Vec<String> = best.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        board.line(&format!("{} on {problem}: tuned to {}", solver.label(), words.join(", ")));
        Ok(Some(best))
    }

    /// The outcomes of these cells, in their order; `None` when interrupted.
    fn all(&self, cells: &[Cell], board: &Board) -> Result<Option<Vec<Outcome>>> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<Option<Result<Option<Outcome>>>>> =
            Mutex::new(cells.iter().map(|_| None).collect());
        std::thread::scope(|scope| {
            for worker in 0..self.experiment.run.threads {
                let (next, results) = (&next, &results);
                scope.spawn(move || {
                    while !self.interrupt.load(Ordering::SeqCst) {
                        let index = next.fetch_add(1, Ordering::SeqCst);
                        let Some(cell) = cells.get(index) else { return };
                        let result = self.one(cell, worker, board);
                        results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
                        board.done(worker);
                    }
                });
            }
        });
        // an error counts more than an interruption
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut outcomes = Vec::new();
        let mut is_whole = true;
        for result in results {
            match result.transpose()?.flatten() {
                Some(outcome) => outcomes.push(outcome),
                None => is_whole = false,
            }
        }
        Ok(is_whole.then_some(outcomes))
    }

    fn one(&self, cell: &Cell, worker: usize, board: &Board) -> Result<Option<Outcome>> {
        if let Some(outcome) = cell.cached(&self.cells())? {
            return Ok(Some(outcome));
        }
        let problem = self.problems.get(&cell.key.problem)?;
        let words = format!(
            "{} on {}, seed {}",
            cell.key.solver.get("name").and_then(|name| name.as_str()).unwrap_or_default(),
            cell.key.problem.name,
            cell.key.seed
        );
        cell.run(&problem, &self.cells(), self.experiment.run.checkpoint_every, self.interrupt, |share| {
            board.share(worker, share, &words);
        })
    }
}

/// A solver of an experiment with the settings of one point of its grid.
fn build(entry: &SolverEntry, point: &Point) -> Result<AnySolver> {
    let label = entry.label();
    let named = solvers::by_name(&entry.name).map_err(|error| {
        usage(format!("[[solver]] {label}: {error}; `bilevel list solvers` shows what each of them does"))
    })?;
    let mut settings = entry.settings.clone();
    for (key, value) in point {
        recipe::set(&mut settings, key, value.clone())?;
    }
    let settings = registry::json(settings)
        .ok_or_else(|| usage(format!("[[solver]] {label}: a setting is no number, word, list or table")))?;
    named.build(&settings).map_err(|error| usage(format!("[[solver]] {label}: {error}")))
}

/// The progress bar, shared by the threads.
struct Board {
    state: Mutex<(Progress, f64, Vec<f64>)>,
}

impl Board {
    fn new(progress: Progress, threads: usize) -> Self {
        Self { state: Mutex::new((progress, 0.0, vec![0.0; threads])) }
    }
    fn with(&self, change: impl FnOnce(&mut f64, &mut Vec<f64>), words: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (progress, done, shares) = &mut *state;
        change(done, shares);
        let sum = *done + shares.iter().sum::<f64>();
        progress.set(sum, || words.to_owned());
    }
    /// A worker has spent this share of its run's budget.
    fn share(&self, worker: usize, share: f64, words: &str) {
        self.with(|_, shares| shares[worker] = share, words);
    }
    /// A worker has done its run.
    fn done(&self, worker: usize) {
        self.with(
            |done, shares| {
                shares[worker] = 0.0;
                *done += 1.0;
            },
            "",
        );
    }
    /// So many runs will not be needed.
    fn skip(&self, runs: usize) {
        self.with(|done, _| *done += runs as f64, "");
    }
    fn line(&self, text: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.line(text);
    }
    fn finish(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.finish();
    }
}
