//! `DoReMi`: group distributionally robust optimisation against a reference model.

use serde::{Deserialize, Serialize};

use super::{
    Advance, End, Footprint, Job, Learner, Search, Tools, UpperState,
    job::{order, purpose},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    recipe::{LedgerSpec, Recipe},
    train::{Network, StepBatch, step_size},
};

/// Step size of the logarithms of the weights.
const ETA: f64 = 1.0;
/// Share of equal weights that is mixed in after every step.
const SMOOTHING: f64 = 1e-3;

/// `DoReMi` (arXiv 2305.10429, algorithm 1). A reference model is trained with the starting weights; then a proxy model is trained
/// with weights that grow with the excess of its loss on a source over the reference's, token by token and never below
/// zero: α ← α exp(η λ), normalised, with a share c of equal weights; η = 1, c = 1e-3. The weights found are the mean of α over the proxy's
/// steps. The validation set has no part in it: it is for a model that does well everywhere, not on one target.
///
/// Both models make the same number of steps out of one budget, each with its own schedule. A step of the proxy costs a forward
/// pass of both models more than a training step, since the weights are updated before the gradient is taken.
#[derive(Clone, Copy, Debug)]
pub struct DoReMi;

/// Where the search stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Excess {
    /// Steps and units of the reference, once it is trained.
    reference: Option<(u64, f64)>,
    /// Sum of α over the proxy's steps.
    sum: Vec<f64>,
}

/// α after a step with these excess losses.
fn reweighed(alpha: &[f64], excess: &[f64]) -> Vec<f64> {
    let top = excess.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let grown: Vec<f64> = alpha.iter().zip(excess).map(|(a, e)| a * (ETA * (e - top)).exp()).collect();
    let sum: f64 = grown.iter().sum();
    let equal = SMOOTHING / alpha.len() as f64;
    grown.iter().map(|a| (1.0 - SMOOTHING) * a / sum + equal).collect()
}

/// The reference's share of the budget, by which both models make as many steps.
fn share(ledger: &LedgerSpec) -> f64 {
    ledger.training / (2.0 * ledger.training + 2.0 * ledger.evaluation)
}

impl Learner for DoReMi {
    type Memory = Excess;

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Excess>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let setting = job.setting;
        let train = &setting.recipe.train;
        let batch = StepBatch::draw(setting, tools.orders.sources(job, order::SEARCH), search.step);
        let price = search.ledger.price(Entry::Training, batch.tokens);
        let first = share(&setting.ledger());
        if search.memory.reference.is_none() && search.ledger.spent() + price > first * search.ledger.budget()
        {
            search.memory = Excess {
                reference: Some((search.step, search.ledger.spent())),
                sum: vec![0.0; job.sources()],
            };
            search.upper = UpperState::new(&job.limited(job.uniform()));
            networks.insert(0, job.fresh(purpose::SEARCH));
        }
        let p = search.upper.weights();
        let Some((steps, spent)) = search.memory.reference else {
            let size = step_size(train, search.step, search.ledger.progress() / first);
            let losses = job.step(search, &mut networks[0], &batch, &p, size, &mut tools.buffers)?;
            return Ok(Advance::Stepped { losses, certificate: None });
        };
        let price = price + search.ledger.price(Entry::Pairs, 2 * batch.tokens);
        if price > search.ledger.left() {
            return Ok(Advance::Spent);
        }
        let [proxy, reference] = &mut networks[..] else { unreachable!("a proxy and its reference") };
        let mut excess = Vec::new();
        for parts in batch.parts() {
            let (mut sum, mut count) = (0.0, 0);
            for part in parts {
                let work = &mut tools.buffers.work;
                let ours = setting.decoder.row_losses(proxy.weights(), part, work);
                let theirs = setting.decoder.row_losses(reference.weights(), part, work);
                sum += ours.iter().zip(&theirs).map(|(a, b)| (a - b).max(0.0)).sum::<f64>();
                count += ours.len();
            }
            // no token under the loss, no excess
            excess.push(sum / count.max(1) as f64);
        }
        let alpha = reweighed(&p, &excess);
        let done = (search.ledger.spent() - spent) / (search.ledger.budget() - spent);
        let size = step_size(train, search.step - steps, done);
        let losses = job.step(search, proxy, &batch, &alpha, size, &mut tools.buffers)?;
        search.ledger.charge(Entry::Pairs, 2 * batch.tokens);
        for (sum, alpha) in search.memory.sum.iter_mut().zip(&alpha) {
            *sum += alpha;
        }
        let x: Vec<f64> = alpha.iter().map(|a| a.ln()).collect();
        search.upper.place(&x, job.limits().as_deref());
        Ok(Advance::Stepped { losses, certificate: None })
    }

    fn end(
        &self,
        job: &Job,
        search: &mut Search<Excess>,
        _networks: &mut Vec<Network>,
        _validation_loss: f64,
    ) -> End {
        // a budget too small for a step of the proxy says nothing about the sources
        End::of_sum(job, search, &search.memory.sum)
    }

    fn footprint(&self, _recipe: &Recipe) -> Footprint {
        Footprint::PAIR
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::Pairs]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_grow_with_the_exponential_of_the_excess_and_equal_ones_stay_equal() {
        let c = SMOOTHING;
        let got = reweighed(&[0.5, 0.25, 0.25], &[0.0, 2.0_f64.ln(), 0.0]);
        // in proportion 0.5 : 0.5 : 0.25
        for (a, b) in got.iter().zip([0.4, 0.4, 0.2]) {
            assert!((a - ((1.0 - c) * b + c / 3.0)).abs() < 1e-15, "{got:?}");
        }
        assert_eq!(reweighed(&[0.5, 0.5], &[7.0, 7.0]), [0.5, 0.5]);
        // repeated excess ends at the bound that the smoothing leaves
        let mut alpha = vec![0.5, 0.5];
        for _ in 0..100 {
            alpha = reweighed(&alpha, &[1e3, 0.0]);
        }
        assert!((alpha[1] - c / 2.0).abs() < 1e-15, "{alpha:?}");
    }

    #[test]
    fn both_models_make_as_many_steps() {
        let ledger = LedgerSpec::default();
        let first = share(&ledger);
        assert!(
            (first / ledger.training - (1.0 - first) / (ledger.training + 2.0 * ledger.evaluation)).abs()
                < 1e-15
        );
    }
}
