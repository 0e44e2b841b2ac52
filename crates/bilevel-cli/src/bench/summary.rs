//! What the runs of a grid come to: medians with quartiles over seeds, the price of each accuracy, and whether what was
//! to come out did.

use std::collections::BTreeMap;

use bilevel::solvers::HyperObjective;
use serde::{Deserialize, Serialize};

use super::{
    Finished,
    experiment::{Experiment, Judge},
    measure::Row,
};

/// Median with the quartiles round it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quartiles {
    /// First quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub high: f64,
}

impl Quartiles {
    /// Of these numbers, with straight lines between them; infinite ones count as largest. `None` of none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().filter(|n| !n.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        if sorted.is_empty() {
            return None;
        }
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            // also right between two infinities
            if below == above { below } else { below + place.fract() * (above - below) }
        };
        Some(Self { low: at(0.25), median: at(0.5), high: at(0.75) })
    }
}

/// The price of one accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The accuracy.
    pub level: f64,
    /// Seeds that came to it.
    pub seeds: usize,
    /// Median over all seeds of what was spent, as [`Judge`] counts it; absent when half of them or more did not come to it.
    pub price: Option<f64>,
    /// Median of the steps.
    pub steps: Option<f64>,
    /// Median of the seconds.
    pub seconds: Option<f64>,
}

/// One solver on one problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Label of the problem.
    pub problem: String,
    /// Label of the solver.
    pub solver: String,
    /// Name of the solver.
    pub name: String,
    /// What it descends.
    pub target: HyperObjective,
    /// Settings that tuning chose.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tuned: BTreeMap<String, serde_json::Value>,
    /// Seeds.
    pub seeds: usize,
    /// How they ended, and how many so.
    pub ends: BTreeMap<String, usize>,
    /// Final numbers by name, over the seeds that have them.
    pub metrics: BTreeMap<String, Quartiles>,
    /// Prices of the accuracies that the experiment asks for.
    pub reached: Vec<Reached>,
    /// What a whole run spent.
    pub price: Option<Quartiles>,
}

/// Whether an expectation holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Label of the problem.
    pub problem: String,
    /// Label of the solver.
    pub solver: String,
    /// The number.
    pub metric: String,
    /// What was to come out.
    pub wanted: String,
    /// What did, seed by seed.
    pub found: String,
    /// Whether every seed agrees.
    pub holds: bool,
}

/// The whole experiment in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this file's form.
    pub schema: u32,
    /// Title of the experiment.
    pub title: String,
    /// What it is about.
    pub about: String,
    /// How runs are compared.
    pub judge: Judge,
    /// Solvers on problems, in the experiment's order.
    pub lines: Vec<Line>,
    /// Expectations.
    pub verdicts: Vec<Verdict>,
}

/// The number by which a run is compared, at one of its rows.
pub fn judged(judge: &Judge, row: &Row) -> Option<f64> {
    row.metrics.get(&judge.metric).copied()
}

/// The first row that has come to a level.
fn first_at<'a>(judge: &Judge, rows: &'a [Row], level: f64) -> Option<&'a Row> {
    rows.iter().find(|row| {
        judged(judge, row).is_some_and(|n| if judge.larger_is_better { n >= level } else { n <= level })
    })
}

impl Summary {
    /// Labels of the problems, in the experiment's order.
    pub fn problems(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = self.lines.iter().map(|line| line.problem.as_str()).collect();
        // the lines of one problem stand together
        labels.dedup();
        labels
    }

    /// Of all runs that were done.
    pub fn new(experiment: &Experiment, finished: &[Finished]) -> Self {
        let mut lines = Vec::new();
        for problem in &experiment.problem {
            for solver in &experiment.solver {
                let runs: Vec<&Finished> = finished
                    .iter()
                    .filter(|run| run.problem == problem.label() && run.solver == solver.label())
                    .collect();
                if !runs.is_empty() {
                    lines.push(line(&experiment.judge, &runs));
                }
            }
        }
        let verdicts = experiment
            .expect
            .iter()
            .map(|expectation| {
                let runs: Vec<&Finished> = finished
                    .iter()
                    .filter(|run| run.problem == expectation.problem && run.solver == expectation.solver)
                    .collect();
                let numbers: Vec<Option<f64>> =
                    runs.iter().map(|run| run.outcome.last(&expectation.metric)).collect();
                let range = expectation.low.is_some() || expectation.high.is_some();
                let low = expectation.low.unwrap_or(f64::NEG_INFINITY);
                let high = expectation.high.unwrap_or(f64::INFINITY);
                let in_range =
                    !range || numbers.iter().all(|number| number.is_some_and(|n| n >= low && n <= high));
                let ends =
                    expectation.end.as_ref().is_none_or(|end| runs.iter().all(|run| run.outcome.end == *end));
                let range_in_words = match (expectation.low, expectation.high) {
                    (Some(low), Some(high)) => format!("{low} to {high}"),
                    (Some(low), None) => format!("at least {low}"),
                    (None, Some(high)) => format!("at most {high}"),
                    (None, None) => String::new(),
                };
                let wanted = match &expectation.end {
                    Some(end) => format!("{range_in_words} ending {end}").trim().to_owned(),
                    None => range_in_words,
                };
                let found: Vec<String> = runs
                    .iter()
                    .zip(&numbers)
                    .map(|(run, number)| match (number, range) {
                        (Some(number), true) => format!("{number:.3e}"),
                        _ => run.outcome.end.clone(),
                    })
                    .collect();
                Verdict {
                    problem: expectation.problem.clone(),
                    solver: expectation.solver.clone(),
                    metric: expectation.metric.clone(),
                    wanted,
                    found: found.join(", "),
                    holds: in_range && ends && !runs.is_empty(),
                }
            })
            .collect();
        Self {
            schema: 1,
            title: experiment.title.clone(),
            about: experiment.about.clone(),
            judge: experiment.judge.clone(),
            lines,
            verdicts,
        }
    }
}

fn line(judge: &Judge, runs: &[&Finished]) -> Line {
    let first = runs[0];
    let mut ends = BTreeMap::new();
    let mut names = std::collections::BTreeSet::new();
    for run in runs {
        *ends.entry(run.outcome.end.clone()).or_insert(0) += 1;
        names.extend(run.outcome.rows.last().into_iter().flat_map(|row| row.metrics.keys().cloned()));
    }
    let metrics = names
        .into_iter()
        .filter_map(|name| {
            let quartiles = Quartiles::of(runs.iter().filter_map(|run| run.outcome.last(&name)))?;
            Some((name, quartiles))
        })
        .collect();
    let reached = judge
        .reach
        .iter()
        .map(|&level| {
            let firsts: Vec<Option<&Row>> =
                runs.iter().map(|run| first_at(judge, &run.outcome.rows, level)).collect();
            // a seed that never comes to the level has an infinite price
            let median = |of: &dyn Fn(&Row) -> f64| {
                Quartiles::of(firsts.iter().map(|row| row.map_or(f64::INFINITY, of)))
                    .map(|quartiles| quartiles.median)
                    .filter(|median| median.is_finite())
            };
            Reached {
                level,
                seeds: firsts.iter().flatten().count(),
                price: median(&|row| judge.price.of(&row.counts)),
                steps: median(&|row| row.step as f64),
                seconds: median(&|row| row.seconds),
            }
        })
        .collect();
    let name = first.outcome.key.solver.get("name").and_then(|name| name.as_str()).unwrap_or_default();
    Line {
        problem: first.problem.clone(),
        solver: first.solver.clone(),
        name: name.to_owned(),
        target: first.outcome.target,
        tuned: first
            .tuned
            .iter()
            .map(|(key, value)| (key.clone(), serde_json::to_value(value).unwrap_or_default()))
            .collect(),
        seeds: runs.len(),
        ends,
        metrics,
        reached,
        price: Quartiles::of(runs.iter().map(|run| judge.price.of(&run.outcome.counts()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_between_sorted_numbers() {
        let q = Quartiles::of([4.0, 1.0, 3.0, 2.0, 5.0]).unwrap();
        assert_eq!((q.low, q.median, q.high), (2.0, 3.0, 4.0));
        let q = Quartiles::of([1.0, 2.0]).unwrap();
        assert_eq!((q.low, q.median, q.high), (1.25, 1.5, 1.75));
        assert!(Quartiles::of([]).is_none());
        // one of three that never arrives does not move the median; two of three do
        assert_eq!(Quartiles::of([1.0, 2.0, f64::INFINITY]).unwrap().median, 2.0);
        assert_eq!(Quartiles::of([1.0, f64::INFINITY, f64::INFINITY]).unwrap().median, f64::INFINITY);
    }
}
