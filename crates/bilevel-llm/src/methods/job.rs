//! What every method works with: the setting, the orders of examples, the buffers, and a plain training step.

use std::collections::BTreeMap;

use super::{Search, limits};
use crate::{
    error::ReweightError,
    ledger::{Entry, Ledger},
    model::{Batch, BatchShape, Decoder, Weights, Workspace},
    recipe::{Given, Method},
    source::{Dataset, Order},
    train::{Buffers, Network, Setting, StepBatch, StepLosses, step_size, weighted_gradient},
};

/// Validation examples of the trace and of selections.
pub const TRACED: usize = 64;

/// Purposes of a seed's random streams. A search and a retraining start from different parameters and see different orders, so
/// that weights are not judged on the very run that they were fitted to.
pub mod purpose {
    /// The search's initial parameters.
    pub const SEARCH: u64 = 0;
    /// The retraining's initial parameters.
    pub const RETRAINING: u64 = 1;
    /// Weights at random.
    pub const RANDOM: u64 = 2;
    /// Mixtures at which a regression is read off.
    pub const SIMULATION: u64 = 3;
    /// A random projection of gradients.
    pub const PROJECTION: u64 = 4;
    /// Sources that a bandit draws in the first step; those of others follow.
    pub const DRAWS: u64 = 1 << 32;
    /// The mixture of the first proxy; those of others follow.
    pub const PROXIES: u64 = 1 << 16;
}

/// Numbers of orders of examples; different ones are independent.
pub mod order {
    /// Training in the search; a method may use the numbers up to [`RETRAINING`] as well.
    pub const SEARCH: u64 = 0;
    /// Training in the retraining.
    pub const RETRAINING: u64 = 1 << 16;
    /// Validation examples of hypergradients.
    pub const VALIDATION: u64 = 1 << 32;
    /// The sources' examples of hypergradients.
    pub const SOURCE: u64 = VALIDATION + 1;
    /// The sources' examples of curvature products.
    pub const CURVATURE: u64 = VALIDATION + 2;
}

/// One method with one seed.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What does not change.
    pub setting: &'a Setting,
    /// The method.
    pub method: Method,
    /// The seed.
    pub seed: u64,
}

impl Job<'_> {
    /// A network at the start of a purpose.
    pub fn fresh(&self, purpose: u64) -> Network {
        self.setting.fresh(self.seed, purpose)
    }

    /// A ledger with nothing spent.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.setting.recipe.run.budget as f64, self.setting.ledger())
    }

    /// Number of sources.
    pub fn sources(&self) -> usize {
        self.setting.sources.len()
    }

    /// Largest weight of each source; `None` without a bound.
    pub fn limits(&self) -> Option<Vec<f64>> {
        let tokens: Vec<u64> = self.setting.sources.iter().map(|s| s.info.tokens).collect();
        limits::limits(&self.setting.recipe, &tokens)
    }

    /// These weights, or the nearest that keep to the recipe's bounds.
    pub fn limited(&self, p: Vec<f64>) -> Vec<f64> {
        limits::within(p, self.limits().as_deref())
    }

    /// Equal weights.
    pub fn uniform(&self) -> Vec<f64> {
        let k = self.sources() as f64;
        self.setting.sources.iter().map(|_| 1.0 / k).collect()
    }

    /// The recipe's starting weights, or equal ones, within its bounds.
    pub fn initial(&self) -> Vec<f64> {
        self.limited(match &self.setting.recipe.reweight.initial {
            Some(Given::Weights(initial)) => self.setting.sources.iter().map(|s| initial[&s.name]).collect(),
            // a file was read before the run began
            Some(Given::File(_) | Given::OfMethod { .. }) | None => self.uniform(),
        })
    }

    /// The error of a loss that is not finite on these examples of `name`.
    pub fn non_finite(&self, name: &str, step: u64, examples: &[usize]) -> ReweightError {
        ReweightError::NonFinite {
            name: name.to_owned(),
            step,
            method: self.method.to_string(),
            seed: self.seed,
            examples: examples.iter().map(|example| example + 1).collect(),
        }
    }

    /// The same of examples of a source.
    pub fn non_finite_in(&self, source: usize, step: u64, examples: &[usize]) -> ReweightError {
        self.non_finite(&self.setting.sources[source].name, step, examples)
    }

    /// Refuses losses or gradients on a batch that are not finite; `step` counts from 1.
    pub fn require_finite(
        &self,
        losses: &StepLosses,
        batch: &StepBatch,
        step: u64,
    ) -> Result<(), ReweightError> {
        let pairs = losses.losses.iter().zip(&losses.gradient_norms);
        let is_spoilt = |(loss, norm): (&Option<f64>, &Option<f64>)| {
            [loss, norm].into_iter().flatten().any(|number| !number.is_finite())
        };
        match pairs.map(is_spoilt).position(|is_spoilt| is_spoilt) {
            Some(i) => Err(self.non_finite_in(i, step, batch.examples(i))),
            None => Ok(()),
        }
    }

    /// Updates the network once by the weighted gradient on the batch. `step` counts from 0.
    pub fn update(
        &self,
        step: u64,
        network: &mut Network,
        batch: &StepBatch,
        p: &[f64],
        size: f64,
        buffers: &mut Buffers,
    ) -> Result<StepLosses, ReweightError> {
        self.setting.wake(network, self.seed, step);
        let losses = weighted_gradient(self.setting, network, batch, p, buffers);
        self.require_finite(&losses, batch, step + 1)?;
        network.update(&self.setting.decoder, &self.setting.recipe.train, size, &mut buffers.total);
        Ok(losses)
    }

    /// One training step with the weights as they are, charged to [`Entry::Training`]; `None` when the budget does not reach.
    pub fn train<M>(
        &self,
        search: &mut Search<M>,
        network: &mut Network,
        order: u64,
        tools: &mut Tools,
    ) -> Result<Option<StepLosses>, ReweightError> {
        let batch = StepBatch::draw(self.setting, tools.orders.sources(self, order), search.step);
        if search.ledger.price(Entry::Training, batch.tokens) > search.ledger.left() {
            return Ok(None);
        }
        let p = search.upper.weights();
        let size = step_size(&self.setting.recipe.train, search.step, search.ledger.progress());
        self.step(search, network, &batch, &p, size, &mut tools.buffers).map(Some)
    }

    /// [`Job::update`] as the search's next step, charged to [`Entry::Training`] and counted.
    pub fn step<M>(
        &self,
        search: &mut Search<M>,
        network: &mut Network,
        batch: &StepBatch,
        p: &[f64],
        size: f64,
        buffers: &mut Buffers,
    ) -> Result<StepLosses, ReweightError> {
        let losses = self.update(search.step, network, batch, p, size, buffers)?;
        search.ledger.charge(Entry::Training, batch.tokens);
        search.count(1, &losses);
        Ok(losses)
    }
}

/// Examples that were drawn, in parts that go through the model one after the other.
#[derive(Clone, Debug)]
pub struct Drawn {
    parts: Vec<Batch>,
    /// Their places in the set.
    pub examples: Vec<usize>,
}

impl Drawn {
    /// These examples of a set, as many to a part as [`Setting::tokens_at_once`] holds.
    pub fn of(setting: &Setting, set: &Dataset, examples: Vec<usize>) -> Self {
        let most = setting.tokens_at_once();
        let mut tokens = examples.first().map_or(0, |&first| set.length(first));
        let fits = |_: &usize, &next: &usize| {
            let length = set.length(next);
            let fits = tokens + length <= most;
            tokens = length + if fits { tokens } else { 0 };
            fits
        };
        let parts = examples.chunk_by(fits).map(|part| set.batch(part.iter().copied())).collect();
        Self { parts, examples }
    }

    /// Tokens that go through a model.
    pub fn tokens(&self) -> u64 {
        self.parts.iter().map(|part| part.tokens.len() as u64).sum()
    }

    /// Tokens under the loss.
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }

    /// The parts.
    pub fn parts(&self) -> &[Batch] {
        &self.parts
    }

    /// The shapes of the parts.
    pub fn shapes(&self) -> Vec<BatchShape> {
        self.parts.iter().map(BatchShape::of).collect()
    }

    /// The mean loss over all tokens under it; `None` without such tokens.
    pub fn mean_loss(&self, decoder: &Decoder, y: Weights<f32>, work: &mut Workspace<f32>) -> Option<f64> {
        let rows = self.rows();
        let sum: f64 = self.parts.iter().flat_map(|part| decoder.row_losses(y, part, work)).sum();
        (rows > 0).then(|| sum / rows as f64)
    }

    /// The mean loss; adds `share` times its gradient. Without tokens under the loss it is 0, and nothing is added.
    pub fn add_gradient(
        &self,
        decoder: &Decoder,
        y: Weights<f32>,
        share: f64,
        gradient: &mut [f32],
        work: &mut Workspace<f32>,
    ) -> f64 {
        let rows = self.rows().max(1) as f64;
        let parts = self.parts.iter().filter(|part| !part.rows.is_empty());
        let sum: f64 = parts.map(|part| decoder.loss_gradient(y, part, share / rows, gradient, work)).sum();
        sum / rows
    }
}

/// Tokens that go through a model.
pub fn tokens(drawn: &[Drawn]) -> u64 {
    drawn.iter().map(Drawn::tokens).sum()
}

/// What a worker needs beside the state: nothing here has to be saved.
#[derive(Debug)]
pub struct Tools {
    /// Of the model's passes.
    pub buffers: Buffers,
    /// Orders of examples, made as they are asked for.
    pub orders: Orders,
}

impl Tools {
    /// Nothing drawn yet.
    pub fn new(setting: &Setting) -> Self {
        let buffers = Buffers::new(setting);
        Self { buffers, orders: Orders::default() }
    }
}

/// Orders of examples by number, with the permutation of the present pass kept.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    sources: BTreeMap<u64, Vec<Order>>,
    validation: BTreeMap<u64, Order>,
}

impl Orders {
    /// The order of this number, one for each source.
    pub fn sources(&mut self, job: &Job, number: u64) -> &mut [Order] {
        self.sources.entry(number).or_insert_with(|| {
            job.setting.sources.iter().map(|source| Order::new(job.seed, source, number)).collect()
        })
    }
    /// The order of this number of the validation set.
    pub fn validation(&mut self, job: &Job, number: u64) -> &mut Order {
        self.validation.entry(number).or_insert_with(|| Order::new(job.seed, &job.setting.validation, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::estimate::tests::setting;

    #[test]
    fn parts_of_a_batch_fit_where_a_training_batch_does_and_sum_to_the_whole() {
        let mut setting = setting();
        let network = setting.fresh(3, 0);
        let set = &setting.sources[1].clone();
        let examples: Vec<usize> = (0..11).rev().collect();
        let whole = set.batch(examples.iter().copied());
        let mut work = setting.workspace();
        let mut of = |batch: &Batch| {
            let mut gradient = vec![0.0; network.y.len()];
            let scale = 0.5 / batch.rows.len() as f64;
            let loss =
                setting.decoder.loss_gradient(network.weights(), batch, scale, &mut gradient, &mut work);
            (loss / batch.rows.len() as f64, gradient)
        };
        let (loss, gradient) = of(&whole);
        for context in [2, 7, 24] {
            (setting.context, setting.recipe.train.batch, setting.recipe.train.accumulation) =
                (context, 4, 4);
            let drawn = Drawn::of(&setting, set, examples.clone());
            assert_eq!((drawn.tokens(), drawn.rows()), (whole.tokens.len() as u64, whole.rows.len()));
            let tokens: Vec<u32> = drawn.parts().iter().flat_map(|part| part.tokens.clone()).collect();
            assert_eq!(tokens, whole.tokens);
            // no part is larger than it may be, but for one example, and no two neighbours would fit into one
            let lengths: Vec<usize> = drawn.parts().iter().map(|part| part.tokens.len()).collect();
            assert!(drawn.parts().iter().all(|part| part.lengths.len() == 1 || part.tokens.len() <= context));
            let next = drawn.parts().iter().skip(1).map(|part| part.lengths[0]);
            assert!(lengths.iter().zip(next).all(|(tokens, next)| tokens + next > context), "{lengths:?}");

            let decoder = &setting.decoder;
            let mut work = setting.workspace();
            let mut sum = vec![0.0; network.y.len()];
            let mean = drawn.add_gradient(decoder, network.weights(), 0.5, &mut sum, &mut work);
            assert!((mean - loss).abs() < 1e-6 * loss, "{mean} {loss}");
            assert!(
                (drawn.mean_loss(decoder, network.weights(), &mut work).unwrap() - loss).abs() < 1e-6 * loss
            );
            for (a, b) in sum.iter().zip(&gradient) {
                // sums of a few dozen terms below one in f32, in another order
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
    }
}
