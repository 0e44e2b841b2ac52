//! The practical HG-MS on source weights: select among short continuations, differentiate, update.

use bilevel::linear::LinearStatus;
use serde::{Deserialize, Serialize};

use super::{
    Advance, Footprint, Job, Learner, Search, TRACED, Tools,
    damped::{Damped, Solved},
    estimate::{Direction, GradientBatches, Half, differentiate, displacement},
    job::order,
};
use crate::{
    error::ReweightError,
    eval::score,
    ledger::Entry,
    model::Workspace,
    recipe::{Damping, Recipe},
    result::{Continuation, CycleCertificate},
    train::{Metric, Network, StepBatch, StepLosses, Trained, mean_step_size, norm, step_size},
};

/// Every R training steps: run short continuations in other data orders and go on with the best of those that train well; solve
/// (H_GN + damping) v = ∇L_val by a few steps of conjugate gradients on Gauss–Newton products; move x along
/// ∂F/∂p_i = −⟨∇L_i, v⟩.
#[derive(Clone, Copy, Debug)]
pub struct HgMs;

/// The last selection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selected {
    /// The step at which it began.
    at: Option<u64>,
    continuations: Vec<Continuation>,
}

impl Learner for HgMs {
    type Memory = Selected;

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Selected>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let spec = &job.setting.recipe.reweight;
        let network = &mut networks[0];
        let mut losses = None;
        if spec.continuations > 1
            && search.step.is_multiple_of(spec.cycle)
            && search.memory.at != Some(search.step)
        {
            search.memory = Selected { at: Some(search.step), continuations: Vec::new() };
            losses = continuations(job, search, network, tools)?;
        }
        if losses.is_none() {
            losses = job.train(search, network, order::SEARCH, tools)?;
        }
        let Some(losses) = losses else { return Ok(Advance::Spent) };
        let mut certificate = None;
        if search.step.is_multiple_of(spec.cycle) {
            certificate = self.differentiate(job, search, network, tools)?;
        }
        Ok(Advance::Stepped { losses, certificate })
    }

    fn footprint(&self, recipe: &Recipe) -> Footprint {
        // Selection holds its continuations and a step's two gradients. The solve holds one network, the residual and the product
        // where these gradients were, the direction, and the solution where there is more than one step.
        let spec = &recipe.reweight;
        let selection = Footprint { models: spec.continuations, optimisers: spec.continuations, vectors: 2 };
        let solve = Footprint { models: 1, optimisers: 1, vectors: if spec.cg_steps > 1 { 4 } else { 3 } };
        if selection.lists() > solve.lists() { selection } else { solve }
    }

    fn entries(&self) -> &'static [Entry] {
        &[
            Entry::Training,
            Entry::LosingContinuations,
            Entry::Selection,
            Entry::ValidationGradient,
            Entry::GaussNewton,
            Entry::Directional,
        ]
    }
}

impl HgMs {
    /// DIFFERENTIATE and UPDATE. `None` when the budget does not reach.
    #[expect(clippy::unused_self, reason = "a part of the method")]
    fn differentiate(
        self,
        job: &Job,
        search: &mut Search<Selected>,
        network: &Network,
        tools: &mut Tools,
    ) -> Result<Option<CycleCertificate>, ReweightError> {
        let spec = &job.setting.recipe.reweight;
        let batches = GradientBatches::draw(job, &mut tools.orders, search.upper.cycles);
        let curvature = (Entry::GaussNewton, spec.cg_steps * batches.curvature_tokens());
        let mut solve = Solve::new(job, search, network);
        let certificate = differentiate(job, search, network, tools, &batches, Some(curvature), &mut solve)?;
        Ok(certificate.map(|certificate| CycleCertificate {
            solve_residual: solve.residual,
            damping: Some(solve.damped.gamma),
            continuations: search.memory.continuations.clone(),
            ..certificate
        }))
    }
}

/// The damped solve (H_GN + γD) v = ∇L_val.
struct Solve<'a> {
    job: &'a Job<'a>,
    network: &'a Network,
    p: Vec<f64>,
    damped: Damped<'a>,
    /// Steps of the search so far.
    step: u64,
    /// |y|.
    size: f64,
    /// Larger relative residual of the solves so far.
    residual: Option<f64>,
}

impl<'a> Solve<'a> {
    fn new(job: &'a Job, search: &Search<Selected>, network: &'a Network) -> Self {
        let recipe = &job.setting.recipe;
        let (metric, gamma) = match recipe.reweight.damping {
            Damping::Fixed(gamma) => (Metric::Constant(1.0), gamma),
            Damping::Horizon => {
                let ledger = &search.ledger;
                let left = ledger.left().max(0.0) / (ledger.spent() / search.step.max(1) as f64).max(1.0);
                let eta = mean_step_size(&recipe.train, ledger.progress());
                // at least one step remains, or there would be nothing to weigh
                (network.metric(recipe.train.optimizer), 1.0 / (eta * left.max(1.0)))
            }
        };
        let damped = Damped { metric, gamma, steps: recipe.reweight.cg_steps };
        let p = search.upper.weights();
        Self { job, network, p, damped, step: search.step, size: norm(&network.y), residual: None }
    }
}

impl Direction for Solve<'_> {
    fn of(
        &mut self,
        half: &Half,
        gradient: &mut Vec<f32>,
        spare: &mut Vec<f32>,
        work: &mut Workspace<f32>,
    ) -> Result<(), ReweightError> {
        let Self { job, network, p, size, step, .. } = self;
        let decoder = &job.setting.decoder;
        let product = |d: &[f32], product: &mut [f32]| {
            let h = displacement(*size, d);
            for (i, (drawn, p)) in half.curvature.iter().zip(&*p).enumerate() {
                let scale = p / drawn.rows().max(1) as f64;
                for part in drawn.parts().iter().filter(|part| !part.rows.is_empty()) {
                    decoder.gauss_newton(network.weights(), d, h, part, scale, product, work);
                }
                if !norm(product).is_finite() {
                    return Err(job.non_finite_in(i, *step, &drawn.examples));
                }
            }
            Ok(())
        };
        let Solved { status, residual } = self.damped.solve(product, gradient, spare)?;
        if status == LinearStatus::NegativeCurvature {
            return Err(ReweightError::Curvature {
                step: *step,
                method: job.method.to_string(),
                seed: job.seed,
            });
        }
        self.residual = Some(self.residual.map_or(residual, |r: f64| r.max(residual)));
        Ok(())
    }
}

/// SELECT: short continuations in different data orders; the winner goes on. `None` when the budget does not reach.
fn continuations(
    job: &Job,
    search: &mut Search<Selected>,
    network: &mut Network,
    tools: &mut Tools,
) -> Result<Option<StepLosses>, ReweightError> {
    let setting = job.setting;
    let spec = &setting.recipe.reweight;
    let steps = spec.continuation_steps;
    let batches: Vec<Vec<StepBatch>> = (0..spec.continuations as u64)
        .map(|c| {
            let orders = tools.orders.sources(job, order::SEARCH + c);
            (search.step..search.step + steps).map(|s| StepBatch::draw(setting, orders, s)).collect()
        })
        .collect();
    let tokens: Vec<u64> = batches.iter().map(|b| b.iter().map(|b| b.tokens).sum()).collect();
    let validation = setting.validation.batch(0..setting.validation.len().min(TRACED)).tokens.len() as u64;
    let price = search.ledger.price(Entry::Training, tokens.iter().sum())
        + search.ledger.price(Entry::Selection, validation * tokens.len() as u64);
    if price > search.ledger.left() {
        return Ok(None);
    }
    let p = search.upper.weights();
    let size = step_size(&setting.recipe.train, search.step, search.ledger.progress());
    let mut candidates: Vec<(Network, StepLosses)> = Vec::new();
    for (i, batches) in batches.iter().enumerate() {
        // the last continuation goes on with the network itself: one copy less at the peak
        let mut candidate = if i + 1 == tokens.len() {
            std::mem::replace(network, Network::new(Trained::All, Vec::new()))
        } else {
            network.clone()
        };
        let mut last = StepLosses::default();
        let mut sum = 0.0;
        for (i, batch) in batches.iter().enumerate() {
            last = job.update(search.step + i as u64, &mut candidate, batch, &p, size, &mut tools.buffers)?;
            sum += last.total;
        }
        let work = &mut tools.buffers.work;
        let scores = score(&setting.decoder, candidate.weights(), &setting.validation, TRACED, work);
        search.ledger.charge(Entry::Selection, scores.tokens);
        search.memory.continuations.push(Continuation {
            train_loss: sum / steps as f64,
            validation_loss: scores.mean(),
            is_winner: false,
        });
        candidates.push((candidate, last));
    }
    let winner = select(&search.memory.continuations, spec.loss_tolerance);
    search.memory.continuations[winner].is_winner = true;
    for (i, &tokens) in tokens.iter().enumerate() {
        search.ledger.charge(if i == winner { Entry::Training } else { Entry::LosingContinuations }, tokens);
    }
    let (best, losses) = candidates.swap_remove(winner);
    *network = best;
    search.count(steps, &losses);
    Ok(Some(losses))
}

/// The winner among continuations: of those with a training loss within the tolerance of the least, the one with
/// the least validation loss; the first of equals.
fn select(continuations: &[Continuation], tolerance: f64) -> usize {
    let least = continuations.iter().map(|c| c.train_loss).fold(f64::INFINITY, f64::min);
    let mut winner: Option<usize> = None;
    for (i, c) in continuations.iter().enumerate() {
        let is_better = winner.is_none_or(|w| c.validation_loss < continuations[w].validation_loss);
        if c.train_loss <= least + tolerance && is_better {
            winner = Some(i);
        }
    }
    winner.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        methods::estimate::tests::{named, setting},
        recipe::Method,
    };

    #[test]
    fn a_curvature_product_that_is_not_finite_names_the_examples_of_the_batch() {
        let setting = setting();
        let job = Job { setting: &setting, method: Method::HgMs, seed: 3 };
        let mut tools = Tools::new(&setting);
        let batches = GradientBatches::draw(&job, &mut tools.orders, 0);
        let mut network = job.fresh(0);
        let of = |network: &Network, tools: &mut Tools| {
            let p = job.uniform();
            let damped = Damped { metric: Metric::Constant(1.0), gamma: 0.1, steps: 2 };
            let size = norm(&network.y);
            let mut solve = Solve { job: &job, network, p, damped, step: 7, size, residual: None };
            let mut v = vec![1e-3; network.y.len()];
            solve.of(&batches.halves[1], &mut v, &mut Vec::new(), &mut tools.buffers.work).map(|()| v)
        };
        assert!(of(&network, &mut tools).unwrap().iter().all(|a| a.is_finite()));
        network.y[7] = f32::NAN;
        let error = of(&network, &mut tools).unwrap_err().to_string();
        assert!(error.contains(&named("a", Method::HgMs, &batches.halves[1].curvature[0])), "{error}");
    }
}
