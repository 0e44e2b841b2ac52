//! Exhaustive grid on the simplex.

use serde::{Deserialize, Serialize};

use super::{
    Advance, End, Job, Learner, Search, Start, Tools,
    job::{order, purpose},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    recipe::{Recipe, grid_points},
    train::Network,
};

/// Trains a model at every point of a grid on the simplex, each with a whole budget, and takes the point with the least
/// validation loss. For at most three sources.
#[derive(Clone, Copy, Debug)]
pub struct Grid;

/// Points tried so far and the best of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    count: usize,
    best: Option<(f64, Vec<f64>)>,
}

impl Learner for Grid {
    type Memory = Tried;

    fn start(&self, job: &Job) -> Start<Tried> {
        Start {
            weights: points(job).swap_remove(0),
            memory: Tried::default(),
            networks: Some(vec![job.fresh(purpose::SEARCH)]),
        }
    }

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Tried>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        Ok(match job.train(search, &mut networks[0], order::SEARCH, tools)? {
            Some(losses) => Advance::Stepped { losses, certificate: None },
            None => Advance::Spent,
        })
    }

    fn end(
        &self,
        job: &Job,
        search: &mut Search<Tried>,
        networks: &mut Vec<Network>,
        validation_loss: f64,
    ) -> End {
        let points = points(job);
        let tried = &mut search.memory;
        if tried.best.as_ref().is_none_or(|(best, _)| validation_loss < *best) {
            tried.best = Some((validation_loss, points[tried.count].clone()));
        }
        tried.count += 1;
        if let Some(next) = points.get(tried.count) {
            search.restart(job, next);
            *networks = vec![job.fresh(purpose::SEARCH)];
            return End::Again;
        }
        let best = tried.best.as_ref().map_or_else(|| job.uniform(), |(_, weights)| weights.clone());
        // every point spent a whole budget
        let mut report = search.ledger.report(search.step);
        let n = points.len() as f64;
        report.budget *= n;
        report.spent *= n;
        report.steps *= points.len() as u64;
        for line in &mut report.entries {
            line.tokens *= points.len() as u64;
            line.units *= n;
        }
        End::Found { weights: best, ledger: Some(report), is_online: false, predicted: None }
    }

    fn budgets(&self, recipe: &Recipe) -> f64 {
        grid_points(recipe.sources.len(), recipe.reweight.grid_step)
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training]
    }
}

/// Points of the simplex with the recipe's spacing, moved into its bounds, none twice.
fn points(job: &Job) -> Vec<Vec<f64>> {
    let n = (1.0 / job.setting.recipe.reweight.grid_step).round() as usize;
    let mut points = Vec::new();
    fill_simplex(&mut vec![0; job.sources()], 0, n, n, &mut points);
    let mut kept: Vec<Vec<f64>> = Vec::new();
    for point in points {
        let point = job.limited(point);
        // what a bound moves to one place differs by rounding
        let is_near = |other: &Vec<f64>| other.iter().zip(&point).all(|(a, b)| (a - b).abs() < 1e-9);
        if !kept.iter().any(is_near) {
            kept.push(point);
        }
    }
    kept
}

/// All ways to write `left` as a sum over the places from `at` on, as shares of `n`.
fn fill_simplex(counts: &mut [usize], at: usize, left: usize, n: usize, out: &mut Vec<Vec<f64>>) {
    if at + 1 == counts.len() {
        counts[at] = left;
        out.push(counts.iter().map(|&c| c as f64 / n as f64).collect());
        return;
    }
    for c in 0..=left {
        counts[at] = c;
        fill_simplex(counts, at + 1, left - c, n, out);
    }
}
