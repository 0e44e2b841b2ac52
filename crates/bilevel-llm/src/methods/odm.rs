//! Online data mixing: a bandit draws the source of each batch, and its reward is the loss.

use bilevel::rng::Stream;
use serde::{Deserialize, Serialize};

use super::{
    Advance, End, Job, Learner, Search, Tools,
    job::{order, purpose},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    recipe::OdmSpec,
    train::{Network, StepBatch, step_size},
};

/// Online data mixing (arXiv 2312.02406, algorithm 1): sources are the arms of Exp3. In step t the source of a batch is drawn from
///
/// π_t(i) = (1 − K ε_t) exp(ε_{t−1} R̂_i) / Σ_j exp(ε_{t−1} R̂_j) + ε_t,  ε_t = min(1/K, √(ln K / (K t))),
///
/// and each source that was drawn has its reward averaged, R̂_i ← α R̂_i + (1 − α) L_i / π_t(i), so that what is hard to predict is
/// drawn more. The starting weights take the place of π in the first steps. Neither the validation set nor any source's gradient
/// has a part in it: it is for a model that does well everywhere, not on one target. The weights found are the mean of π
/// over the steps after the first ones.
///
/// A step draws as many batches as there are sources (`reweight.odm.draws`), so that it costs what a step with fixed
/// weights does; each adds its mean gradient.
///
/// A moving average of rewards is bounded and ε falls, so that π goes back to equal weights at the rate of √(ln K / (K t)) [from the
/// formulas above]: in a long run it is the early steps that differ.
///
/// Where the released code (`alon-albalak/online-data-mixing`, and those that took its class over) differs: the reward
/// is the exponential of the loss, without the division by π. `[reweight.odm]` has the paper's rule only. In both, what a batch
/// costs is not part of its reward, so that sources with long examples take a larger share of the tokens than π says.
#[derive(Clone, Copy, Debug)]
pub struct Odm;

/// What the bandit knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bandit {
    /// R̂.
    rewards: Vec<f64>,
    /// Batches drawn of each source.
    drawn: Vec<u64>,
    /// Sum of π over the steps that followed it.
    sum: Vec<f64>,
}

/// ε_t of K sources.
fn exploration(k: usize, t: u64) -> f64 {
    let k = k as f64;
    // before the first step, where the formula has no value, as in it
    (1.0 / k).min((k.ln() / (k * t.max(1) as f64)).sqrt())
}

/// π_t.
fn policy(rewards: &[f64], t: u64) -> Vec<f64> {
    let k = rewards.len();
    let (rate, before) = (exploration(k, t), if t > 1 { exploration(k, t - 1) } else { 1.0 / k as f64 });
    let scaled: Vec<f64> = rewards.iter().map(|reward| before * reward).collect();
    super::softmax(&scaled).iter().map(|share| (1.0 - k as f64 * rate) * share + rate).collect()
}

/// R̂ of a source after a reward.
fn averaged(reward: f64, loss: f64, probability: f64, smoothing: f64) -> f64 {
    smoothing * reward + (1.0 - smoothing) * loss / probability
}

/// How often each source is drawn in a step.
fn draw(p: &[f64], draws: usize, stream: &mut Stream) -> Vec<usize> {
    let mut counts = vec![0; p.len()];
    for _ in 0..draws {
        let mut left = stream.uniform();
        // rounding may leave a last bit of the unit interval to nobody: it is the last source's
        let i = p.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        counts[i.unwrap_or(p.len() - 1)] += 1;
    }
    counts
}

impl Learner for Odm {
    type Memory = Bandit;

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Bandit>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let setting = job.setting;
        let train = &setting.recipe.train;
        let OdmSpec { smoothing, warmup, draws } = setting.recipe.reweight.odm;
        let k = job.sources();
        let memory = &mut search.memory;
        memory.rewards.resize(k, 0.0);
        memory.drawn.resize(k, 0);
        memory.sum.resize(k, 0.0);

        let p = search.upper.weights();
        let draws = draws.unwrap_or(k);
        let mut stream = Stream::new(job.seed, purpose::DRAWS + search.step);
        let counts = draw(&p, draws, &mut stream);
        let places: Vec<(u64, usize)> = memory
            .drawn
            .iter()
            .zip(&counts)
            .map(|(drawn, count)| (drawn * train.batch as u64, count * train.batch))
            .collect();
        let batch = StepBatch::of(setting, tools.orders.sources(job, order::SEARCH), &places);
        if search.ledger.price(Entry::Training, batch.tokens) > search.ledger.left() {
            return Ok(Advance::Spent);
        }
        let shares: Vec<f64> = counts.iter().map(|&count| count as f64 / draws as f64).collect();
        let size = step_size(train, search.step, search.ledger.progress());
        let losses = job.step(search, &mut networks[0], &batch, &shares, size, &mut tools.buffers)?;

        let memory = &mut search.memory;
        let pairs = losses.losses.iter().zip(&p);
        for (reward, (loss, p)) in memory.rewards.iter_mut().zip(pairs) {
            if let Some(loss) = loss {
                *reward = averaged(*reward, *loss, *p, smoothing);
            }
        }
        for (drawn, &count) in memory.drawn.iter_mut().zip(&counts) {
            *drawn += count as u64;
        }
        let next = search.step + 1;
        if next > warmup.unwrap_or(train.warmup) {
            let x: Vec<f64> = policy(&memory.rewards, next).iter().map(|p| p.ln()).collect();
            search.upper.place(&x, job.limits().as_deref());
            for (sum, p) in search.memory.sum.iter_mut().zip(search.upper.weights()) {
                *sum += p;
            }
        }
        Ok(Advance::Stepped { losses, certificate: None })
    }

    fn end(
        &self,
        job: &Job,
        search: &mut Search<Bandit>,
        _networks: &mut Vec<Network>,
        _validation_loss: f64,
    ) -> End {
        // a budget that ends within the first steps says nothing about the sources
        End::of_sum(job, search, &search.memory.sum)
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: &[f64], b: &[f64]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14)
    }

    #[test]
    fn policies_for_given_rewards_are_those_computed_by_hand() {
        // K = 2: √(ln 2 / 2t) falls below 1/2 from t = 2 on
        assert_eq!(policy(&[5.0, 1.0], 1), [0.5, 0.5]);
        // t = 9: ε_9 = √(ln 2)/√18 and ε_8 = √(ln 2)/4, and rewards apart by r/ε_8 make the odds exp(r)
        let root = 2.0_f64.ln().sqrt();
        let (now, before) = (root / 18.0_f64.sqrt(), root / 4.0);
        let got = policy(&[3.0_f64.ln() / before + 7.0, 7.0], 9);
        assert!(near(&got, &[(1.0 - 2.0 * now) * 0.75 + now, (1.0 - 2.0 * now) * 0.25 + now]), "{got:?}");
        // K = 4, equal rewards; one source
        assert!(near(&policy(&[2.0; 4], 100), &[0.25; 4]));
        assert_eq!(policy(&[3.0], 5), [1.0]);
    }

    #[test]
    fn rewards_are_averages_of_losses_over_probabilities() {
        // 0.9 · 2 + 0.1 · 3/0.25
        assert!((averaged(2.0, 3.0, 0.25, 0.9) - 3.0).abs() < 1e-15);
        assert!((averaged(2.0, 3.0, 0.25, 0.0) - 12.0).abs() < 1e-15);
    }

    #[test]
    fn steady_losses_lead_back_to_equal_weights() {
        let rewards = [30.0, 2.0, 2.0];
        let apart = |t| {
            let p = policy(&rewards, t);
            p[0] - p[1]
        };
        assert!(apart(30) > 0.5 && apart(30_000) < 0.1, "{} {}", apart(30), apart(30_000));
    }

    #[test]
    fn sources_are_drawn_as_often_as_the_policy_says() {
        let (p, mut stream) = ([0.1, 0.6, 0.3], Stream::new(1, 0));
        let counts = draw(&p, 20_000, &mut stream);
        assert_eq!(counts.iter().sum::<usize>(), 20_000);
        for (count, p) in counts.iter().zip(p) {
            // four standard deviations of a binomial
            let bound = 4.0 * (20_000.0 * p * (1.0 - p)).sqrt();
            assert!((*count as f64 - 20_000.0 * p).abs() < bound, "{counts:?}");
        }
        // a policy that sums to less than one by rounding
        assert_eq!(draw(&[0.0, 0.0], 3, &mut stream), [0, 3]);
    }
}
