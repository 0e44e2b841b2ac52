//! `RegMix`: losses of proxies at random mixtures, regressed on the mixtures.

use bilevel::{ConfigError, rng::Stream};
use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::{
    Advance, End, Job, Learner, Search, Start, Tools, UpperState,
    boosting::{Boosted, Growth, Seen},
    fixed::dirichlet,
    job::{order, purpose},
    limits::within,
};
use crate::{
    error::ReweightError,
    eval::score,
    ledger::{Entry, Ledger},
    recipe::{RegMixSpec, Regression},
    train::{Network, StepBatch, step_size},
};

/// Mixtures at which the regression is read off.
const SIMULATED: usize = 10_000;
/// The weights are the mean of so many of the best of them.
const BEST: usize = 100;
/// The most of a proxy's share that its validation loss may cost: what is left trains it.
const SCORING: f64 = 0.25;

/// The most trees, the share of each that is added, the leaves, and the trees in a row without a gain after which growth ends: those of
/// the paper's released code, which leaves the number of leaves to the default of `LightGBM`.
const TREES: Growth = Growth { trees: 1000, rate: 0.01, leaves: 31, least: 20, patience: 3 };

/// `RegMix` (arXiv 2407.01492): proxies are trained at mixtures from Dirichlet(1, …, 1), their validation loss is regressed on
/// the mixture, and the weights are the mean of the 100 mixtures with the least predicted loss among many random
/// ones.
///
/// The regression is one of the paper's two: linear, or of boosted trees ([`Regression`]), which the paper prefers with its 512 proxies.
///
/// Where the paper differs: its proxies are small models with a budget of their own, here they are the recipe's model and share
/// one budget; what is regressed is the logarithm of the loss, linearly with a ridge; trees are grown as `boosting.rs` says instead of
/// by `LightGBM`, and as in the released code (1,000 trees at a rate of 0.01, 31 leaves of 20 proxies at least, an eighth of the
/// proxies to end the growth) but for the proxies in a leaf, which the recipe may set; it simulates a million mixtures around the
/// sources' sizes, here ten thousand of the whole simplex. The validation loss is that of as many of the first examples as a quarter of a
/// proxy's share pays for.
#[derive(Clone, Copy, Debug)]
pub struct RegMix;

/// The proxies trained so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proxies {
    /// Mixtures and validation losses.
    seen: Vec<Seen>,
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
fn regress(seen: &[Seen]) -> Vec<f64> {
    let k = seen[0].0.len();
    let mean = seen.iter().map(|(_, loss)| loss.ln()).sum::<f64>() / seen.len() as f64;
    let a = DMatrix::from_fn(seen.len(), k, |row, column| seen[row].0[column]);
    let b = DVector::from_fn(seen.len(), |row, _| seen[row].1.ln() - mean);
    let normal = a.transpose() * &a + DMatrix::identity(k, k) * (1e-6 * seen.len() as f64);
    let slopes = normal.cholesky().map_or_else(|| DVector::zeros(k), |c| c.solve(&(a.transpose() * b)));
    slopes.iter().map(|slope| slope + mean).collect()
}

/// What was learned of the proxies.
#[derive(Clone, Debug)]
enum Fit {
    /// log loss ≈ Σ w_i p_i with these w.
    Line(Vec<f64>),
    Trees(Boosted),
}

impl Fit {
    /// `None` when the proxies are too few: a line needs as many points as it has slopes and one more, and a tree without a
    /// split tells no mixtures apart.
    fn of(seen: &[Seen], spec: RegMixSpec) -> Option<Self> {
        match spec.regression {
            Regression::Linear => {
                let k = seen.first()?.0.len();
                (seen.len() > k).then(|| Self::Line(regress(seen)))
            }
            Regression::Trees => {
                let logs: Vec<Seen> = seen.iter().map(|(p, loss)| (p.clone(), loss.ln())).collect();
                let growth = Growth { least: spec.leaf, ..TREES };
                (logs.len() >= spec.least_proxies()).then(|| {
                    let (judges, train) = logs.split_at(RegMixSpec::judges(logs.len()));
                    Self::Trees(Boosted::fit(train, judges, growth))
                })
            }
        }
    }

    /// The logarithm of the loss at a mixture.
    fn at(&self, p: &[f64]) -> f64 {
        match self {
            Self::Line(slopes) => p.iter().zip(slopes).map(|(p, w)| p * w).sum(),
            Self::Trees(trees) => trees.at(p),
        }
    }
}

/// The mean of the mixtures of `k` sources within the limits with the least predicted loss.
fn best(k: usize, fit: &Fit, limits: Option<&[f64]>, stream: &mut Stream) -> Vec<f64> {
    let mut simulated: Vec<(f64, Vec<f64>)> = (0..SIMULATED)
        .map(|_| {
            let p = within(dirichlet(k, stream), limits);
            (fit.at(&p), p)
        })
        .collect();
    simulated.sort_by(|a, b| a.0.total_cmp(&b.0));
    (0..k).map(|i| simulated[..BEST].iter().map(|(_, p)| p[i]).sum::<f64>() / BEST as f64).collect()
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
        let mut predicted = None;
        let weights = match Fit::of(&search.memory.seen, job.setting.recipe.reweight.regmix) {
            Some(fit) => {
                let limits = job.limits();
                let mut stream = Stream::new(job.seed, purpose::SIMULATION);
                let weights = best(job.sources(), &fit, limits.as_deref(), &mut stream);
                predicted = Some(fit.at(&weights).exp() - fit.at(&job.initial()).exp());
                weights
            }
            None => job.uniform(),
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
        let weights = best(3, &Fit::Line(slopes), None, &mut stream);
        assert!(weights[0] > 0.9 && weights[1] < weights[2], "{weights:?}");
    }

    #[test]
    fn sources_that_make_no_difference_get_equal_weight_within_the_noise_of_the_draws() {
        let weights = best(3, &Fit::Line(vec![1.0; 3]), None, &mut Stream::new(2, 0));
        // the mean of 100 draws of variance 1/18: a standard error of 0.024
        assert!(weights.iter().all(|p| (p - 1.0 / 3.0).abs() < 0.1), "{weights:?}");
    }

    /// Two of four sources help together only, a third helps alone: the best mixture is half and half of the two, at a log loss of
    /// −0.3 against −0.22 of the third. Of the pair a line sees what it does on average, which is no more than the third does.
    #[test]
    fn trees_find_two_sources_that_help_together_and_a_line_does_not() {
        let log_loss = |p: &[f64]| -1.2 * p[0] * p[1] - 0.22 * p[2];
        let mut sums = (0.0, 0.0);
        for seed in 3..8 {
            let mut stream = Stream::new(seed, 0);
            let seen: Vec<Seen> = (0..120)
                .map(|_| {
                    let p = dirichlet(4, &mut stream);
                    let loss = log_loss(&p).exp();
                    (p, loss)
                })
                .collect();
            let found = |regression| {
                let fit = Fit::of(&seen, RegMixSpec { regression, leaf: 5 }).unwrap();
                best(4, &fit, None, &mut Stream::new(seed, 1))
            };
            let (line, trees) = (found(Regression::Linear), found(Regression::Trees));
            let [of_line, of_trees] = [line, trees].map(|p| log_loss(&p));
            assert!(of_trees < of_line, "{seed}: {of_trees} {of_line}");
            sums = (sums.0 + of_line, sums.1 + of_trees);
        }
        // of five draws of the proxies
        assert!(sums.0 > 5.0 * -0.15 && sums.1 < 5.0 * -0.23, "{sums:?}");
    }

    #[test]
    fn too_few_proxies_teach_nothing() {
        let mut stream = Stream::new(4, 0);
        let seen: Vec<Seen> = (0..46).map(|_| (dirichlet(3, &mut stream), 2.0 + stream.uniform())).collect();
        let trees = RegMixSpec { regression: Regression::Trees, ..RegMixSpec::default() };
        assert!(Fit::of(&seen, trees).is_some() && Fit::of(&seen[..45], trees).is_none());
        assert!(Fit::of(&seen[..4], RegMixSpec::default()).is_some());
        assert!(Fit::of(&seen[..3], RegMixSpec::default()).is_none());
        assert!(Fit::of(&[], trees).is_none() && Fit::of(&[], RegMixSpec::default()).is_none());
    }
}
