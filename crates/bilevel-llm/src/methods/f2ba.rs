//! `F2BA`: the penalty with two time scales.

use super::{
    Advance, Footprint, Job, Learner, Search, Start, Tools,
    estimate::source_halves,
    job::{Drawn, order, tokens},
    penalty::{self, Descent, differences},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    recipe::{F2baSpec, Recipe},
    result::CycleCertificate,
    train::{Buffers, Network},
};

/// The fully first-order bilevel approximation (arXiv 2301.00712, algorithm 1; with noise F2BSA of arXiv 2306.14853), for weights
/// p = softmax(x). y and z persist; `reweight.cycle` times (the paper's K) a batch is drawn, and
///
/// 1. z descends g, y descends g + f/λ, by the optimiser of the recipe;
/// 2. after these steps x moves along λ (∇ₓg(x, y) − ∇ₓg(x, z)) on batches of its own, larger ones and the same at y and at z, as
///    F2BSA asks for (`reweight.source_batch`).
///
/// The two time scales are that x moves once in a cycle, and by a step that does not depend on λ: `ScaleBiO` moves it at every
/// step along the same batch. The multiplier is constant or grows with the spent share of the budget from `lambda` to `lambda_end`
/// geometrically, as penalty methods of this family let it (F2SA, arXiv 2301.10945): first steps with little noise, last ones with
/// little bias.
///
/// Ours, not the papers':
/// - x moves by the rule that is common to HG-MS and alignment (`reweight.upper`, `reweight.step`), and its derivatives on two
///   half-batches give the certificate and the noise test. The papers take plain steps.
/// - y and z descend by the optimiser of the recipe, with its schedule, rather than by plain gradient steps.
///
/// The halves of a certificate share y and z, so that its noise is that of the batches only. Two networks drift apart
/// for reasons that have nothing to do with the target, since training is chaotic; that part is multiplied by λ and is not seen by
/// the certificate. A large λ wants a long cycle.
///
/// The search costs two training steps and a validation gradient for every step of y, and two losses of `source_batch`
/// sequences of each source in a cycle.
#[derive(Clone, Copy, Debug)]
pub struct F2ba;

/// λ after this share of the budget.
fn multiplier(spec: F2baSpec, progress: f64) -> f64 {
    spec.lambda_end.map_or(spec.lambda, |end| spec.lambda * (end / spec.lambda).powf(progress))
}

/// L_i of each batch, where there are tokens under the loss; refused where it is not finite, in the named step.
fn mean_losses(
    job: &Job,
    network: &Network,
    batches: &[Drawn],
    buffers: &mut Buffers,
    step: u64,
) -> Result<Vec<Option<f64>>, ReweightError> {
    let of = |(i, drawn): (usize, &Drawn)| {
        let loss = drawn.mean_loss(&job.setting.decoder, network.weights(), &mut buffers.work);
        if loss.is_some_and(|loss| !loss.is_finite()) {
            return Err(job.non_finite_in(i, step, &drawn.examples));
        }
        Ok(loss)
    };
    batches.iter().enumerate().map(of).collect()
}

/// One step of x. `None` when the budget does not reach.
fn move_weights(
    job: &Job,
    search: &mut Search<()>,
    networks: &[Network],
    tools: &mut Tools,
    lambda: f64,
) -> Result<Option<CycleCertificate>, ReweightError> {
    let spec = &job.setting.recipe.reweight;
    let cycle = search.upper.cycles;
    let halves = source_halves(job, &mut tools.orders, order::SOURCE, cycle, spec.source_batch);
    let through = 2 * halves.iter().map(|half| tokens(half)).sum::<u64>();
    if search.ledger.price(Entry::Pairs, through) > search.ledger.left() {
        return Ok(None);
    }
    let p = search.upper.weights();
    let mut estimates = [Vec::new(), Vec::new()];
    for (half, estimate) in halves.iter().zip(&mut estimates) {
        let mut of = |network: &Network| mean_losses(job, network, half, &mut tools.buffers, search.step);
        let (at_y, at_z) = (of(&networks[0])?, of(&networks[1])?);
        *estimate = differences(&p, &at_y, &at_z).iter().map(|d| lambda * d).collect();
    }
    search.ledger.charge(Entry::Pairs, through);
    let (r, limits) = (search.relative_gradient(), job.limits());
    Ok(Some(search.upper.update(spec, limits.as_deref(), &estimates, r, &search.ledger)))
}

impl Learner for F2ba {
    type Memory = ();

    fn start(&self, job: &Job) -> Start<()> {
        penalty::start(job)
    }

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<()>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let recipe = &job.setting.recipe;
        let spec = recipe.reweight.f2ba;
        let lambda = multiplier(spec, search.ledger.progress());
        let count = spec.validation_batch.unwrap_or(recipe.train.batch);
        let Some(Descent { at_y, .. }) = penalty::descend(job, search, networks, tools, lambda, count)?
        else {
            return Ok(Advance::Spent);
        };
        let mut certificate = None;
        if search.step.is_multiple_of(recipe.reweight.cycle) {
            certificate = move_weights(job, search, networks, tools, lambda)?;
        }
        Ok(Advance::Stepped { losses: at_y, certificate })
    }

    fn footprint(&self, _recipe: &Recipe) -> Footprint {
        Footprint::PAIR
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::ValidationGradient, Entry::Pairs]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::Ledger,
        methods::{
            UpperState,
            penalty::ridge::{Ridge, apart},
        },
        recipe::{LedgerSpec, ReweightSpec, UpperStep},
    };

    #[test]
    fn the_multiplier_grows_geometrically_with_the_budget_or_stays() {
        let constant = F2baSpec { lambda: 7.0, ..F2baSpec::default() };
        assert_eq!(multiplier(constant, 0.6), 7.0);
        let growing = F2baSpec { lambda: 1.0, lambda_end: Some(100.0), ..constant };
        for (progress, expected) in [(0.0, 1.0), (0.5, 10.0), (1.0, 100.0)] {
            assert!((multiplier(growing, progress) - expected).abs() < 1e-12, "{progress}");
        }
    }

    /// At uniform weights with averaging off, a cycle's certificate holds λ p_i (D_i − Σ p_l D_l), whose distance from the exact
    /// hypergradient of weighted ridge regression is printed in the specification.
    #[test]
    fn a_cycle_on_weighted_ridge_certifies_the_hypergradient_up_to_the_bias_of_the_multiplier() {
        let ridge = Ridge::new();
        let exact = ridge.exact(&[0.0; 5]).1;
        let length = apart(&exact, &[0.0; 5]);
        let spec =
            ReweightSpec { averaging: 0.0, step: UpperStep::PerCycle(1e-3), ..ReweightSpec::default() };
        for (lambda, error, digit) in [(10.0, 0.1586, 1e-4), (1e3, 1.867e-3, 1e-6)] {
            let estimate: Vec<f64> =
                ridge.differences(lambda, &[0.0; 5]).iter().map(|d| lambda * d).collect();
            let mut upper = UpperState::new(&[0.2; 5]);
            let before = ridge.exact(&upper.x).0;
            let ledger = Ledger::new(1.0, LedgerSpec::default());
            let certificate = upper.update(&spec, None, &[estimate.clone(), estimate], 1.0, &ledger);
            let relative = apart(&certificate.gradient, &exact) / length;
            assert!((relative - error).abs() < 0.51 * digit, "λ = {lambda}: {relative}");
            assert!(ridge.exact(&upper.x).0 < before);
        }
    }
}
