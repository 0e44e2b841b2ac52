//! `RegMix`: losses of proxies at random mixtures, regressed on the mixtures.

use bilevel::{ConfigError, rng::Stream};
use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::{
    Advance, End, Job, Learner, Search, Start, Tools, UpperState,
    fixed::dirichlet,
    job::{order, purpose},
    limits::within,
};
use crate::{
    error::ReweightError,
    eval::score,
    ledger::{Entry, Ledger},
    train::{Network, StepBatch, step_size},
};

/// Mixtures at which the regression is read off.
const SIMULATED: usize = 10_000;
/// The weights are the mean of so many of the best of them.
const BEST: usize = 100;
/// The most of a proxy's share that its validation loss may cost: what is left trains it.
const SCORING: f64 = 0.25;

/// `RegMix` (arXiv 2407.01492): proxies are trained at mixtures from Dirichlet(1, …, 1), their validation loss is regressed on
/// the mixture, and the weights are the mean of the 100 mixtures with the least predicted loss among many random
/// ones.
///
/// Where the paper differs: its proxies are small models with a budget of their own, here they are the recipe's model and share
/// one budget; of its two regressions this is the linear one (the other is made of boosted trees), of the logarithm of the
/// loss, with a ridge; it simulates a million mixtures around the sources' sizes, here ten thousand of the whole simplex. The
/// validation loss is that of as many of the first examples as a quarter of a proxy's share pays for.
#[derive(Clone, Copy, Debug)]
pub struct RegMix;

/// The proxies trained so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proxies {
    /// Mixtures and validation losses.
    seen: Vec<(Vec<f64>, f64)>,
    /// Steps and units at which the present proxy began.
    began: (u64, f64),
    /// Validation examples on which every proxy is judged, and their tokens.
    judges: Option<(usize, u64)>,
}

/// The first validation examples, all that [`SCORING`] of a proxy's share pays for and one at least, and their tokens.
fn judges(job: &Job, ledger: &Ledger, share: f64) -> (usize, u64) {
    let validation = &job.setting.validation;
    let (mut count, mut tokens) = (0, 0);
    while count < validation.len() {
        let more = tokens + validation.batch([count]).tokens.len() as u64;
        if count > 0 && ledger.price(Entry::Selection, more) > SCORING * share {
            break;
        }
        (count, tokens) = (count + 1, more);
    }
    (count, tokens)
}

/// The mixture of a proxy.
fn mixture(job: &Job, proxy: usize) -> Vec<f64> {
    job.limited(dirichlet(job.sources(), &mut Stream::new(job.seed, purpose::PROXIES + proxy as u64)))
}

/// log loss ≈ Σ w_i p_i (the weights sum to one, so that a constant is part of it), by least squares with a slight ridge
/// around equal slopes.
fn regress(seen: &[(Vec<f64>, f64)]) -> Vec<f64> {
    let k = seen[0].0.len();
    let mean = seen.iter().map(|(_, loss)| loss.ln()).sum::<f64>() / seen.len() as f64;
    let a = DMatrix::from_fn(seen.len(), k, |row, column| seen[row].0[column]);
    let b = DVector::from_fn(seen.len(), |row, _| seen[row].1.ln() - mean);
    let normal = a.transpose() * &a + DMatrix::identity(k, k) * (1e-6 * seen.len() as f64);
    let slopes = normal.cholesky().map_or_else(|| DVector::zeros(k), |c| c.solve(&(a.transpose() * b)));
    slopes.iter().map(|slope| slope + mean).collect()
}

/// The mean of the mixtures within the limits with the least predicted loss.
fn best(slopes: &[f64], limits: Option<&[f64]>, stream: &mut Stream) -> Vec<f64> {
    let mut simulated: Vec<(f64, Vec<f64>)> = (0..SIMULATED)
        .map(|_| {
            let p = within(dirichlet(slopes.len(), stream), limits);
            (p.iter().zip(slopes).map(|(p, w)| p * w).sum(), p)
        })
        .collect();
    simulated.sort_by(|a, b| a.0.total_cmp(&b.0));
    (0..slopes.len())
        .map(|i| simulated[..BEST].iter().map(|(_, p)| p[i]).sum::<f64>() / BEST as f64)
        .collect()
}

impl Learner for RegMix {
    type Memory = Proxies;

    fn start(&self, job: &Job) -> Start<Proxies> {
        Start {
            weights: mixture(job, 0),
            memory: Proxies::default(),
            networks: Some(vec![job.fresh(purpose::SEARCH)]),
        }
    }

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Proxies>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let setting = job.setting;
        let proxies = setting.recipe.reweight.proxies;
        let share = search.ledger.budget() / proxies as f64;
        let validation = &setting.validation;
        let (count, tokens) = *search.memory.judges.get_or_insert_with(|| judges(job, &search.ledger, share));
        let scoring = search.ledger.price(Entry::Selection, tokens);
        let mut batch = StepBatch::draw(setting, tools.orders.sources(job, order::SEARCH), search.step);
        let price =
            |search: &Search<Proxies>, batch: &StepBatch| search.ledger.price(Entry::Training, batch.tokens);
        let used = search.ledger.spent() - search.memory.began.1;
        if used + price(search, &batch) + scoring > share {
            if search.step == 0 {
                let remedy = format!(
                    "a proxy's {share:.0} units do not pay for one training step ({:.0}) and its validation loss ({scoring:.0}); give fewer proxies, a larger run.budget, or a smaller train.batch",
                    price(search, &batch)
                );
                return Err(ConfigError::new("reweight.proxies", proxies, remedy).into());
            }
            let work = &mut tools.buffers.work;
            if scoring > search.ledger.left() {
                return Ok(Advance::Spent);
            }
            let scores = score(&setting.decoder, networks[0].weights(), validation, count, work);
            search.ledger.charge(Entry::Selection, scores.tokens);
            search.memory.seen.push((search.upper.weights(), scores.mean()));
            if search.memory.seen.len() == proxies {
                return Ok(Advance::Spent);
            }
            search.memory.began = (search.step, search.ledger.spent());
            search.upper = UpperState::new(&mixture(job, search.memory.seen.len()));
            *networks = vec![job.fresh(purpose::SEARCH)];
            batch = StepBatch::draw(setting, tools.orders.sources(job, order::SEARCH), search.step);
            if price(search, &batch) + scoring > share {
                return Ok(Advance::Spent);
            }
        }
        let (step, spent) = search.memory.began;
        let done = ((search.ledger.spent() - spent) / share).min(1.0);
        let size = step_size(&setting.recipe.train, search.step - step, done);
        let p = search.upper.weights();
        let losses = job.step(search, &mut networks[0], &batch, &p, size, &mut tools.buffers)?;
        Ok(Advance::Stepped { losses, certificate: None })
    }

    fn end(
        &self,
        job: &Job,
        search: &mut Search<Proxies>,
        _networks: &mut Vec<Network>,
        _validation_loss: f64,
    ) -> End {
        let seen = &search.memory.seen;
        let mut predicted = None;
        // a line needs as many points as it has slopes
        let weights = if seen.len() > job.sources() {
            let slopes = regress(seen);
            let limits = job.limits();
            let weights = best(&slopes, limits.as_deref(), &mut Stream::new(job.seed, purpose::SIMULATION));
            let loss = |p: &[f64]| p.iter().zip(&slopes).map(|(p, w)| p * w).sum::<f64>().exp();
            predicted = Some(loss(&weights) - loss(&job.initial()));
            weights
        } else {
            job.uniform()
        };
        End::Found { weights, ledger: Some(search.ledger.report(search.step)), is_online: false, predicted }
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::Selection]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_whose_logarithm_is_linear_in_the_mixture_is_recovered() {
        let truth = [0.3, 1.1, 0.7];
        let mut stream = Stream::new(1, 0);
        let seen: Vec<(Vec<f64>, f64)> = (0..12)
            .map(|_| {
                let p = dirichlet(3, &mut stream);
                let loss = p.iter().zip(truth).map(|(p, w)| p * w).sum::<f64>().exp();
                (p, loss)
            })
            .collect();
        let slopes = regress(&seen);
        // the ridge moves slopes below 1 by 1e-6 over the least eigenvalue of the mean of p pᵀ, here above 0.01
        assert!(slopes.iter().zip(truth).all(|(a, b)| (a - b).abs() < 1e-4), "{slopes:?}");
        let weights = best(&slopes, None, &mut stream);
        assert!(weights[0] > 0.9 && weights[1] < weights[2], "{weights:?}");
    }

    #[test]
    fn sources_that_make_no_difference_get_equal_weight_within_the_noise_of_the_draws() {
        let weights = best(&[1.0; 3], None, &mut Stream::new(2, 0));
        // the mean of 100 draws of variance 1/18: a standard error of 0.024
        assert!(weights.iter().all(|p| (p - 1.0 / 3.0).abs() < 0.1), "{weights:?}");
    }
}
