//! One-step gradient alignment, by our rule and by two published ones.

use std::ops::Range;

use super::{
    Advance, End, Job, Learner, Search, Tools,
    adam::Moments,
    estimate::{Direction, GradientBatches, Half, differentiate, estimate},
    job::order,
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    model::{Decoder, Part, Workspace},
    result::CycleCertificate,
    train::{Network, Trained, step_size},
};

/// Of `DoGE`: how far weights move; and the largest score, in units of the mean length of the sources' gradients.
const MU: f64 = 0.05;

/// Of `FastMix`: `AdamW`'s second rate, and its step size in the published scripts.
const BETA2: f64 = 0.95;
const STEP: f64 = 1e-2;

/// v = ∇L_val: what one step of gradient descent along ∇L_i would do to the target's loss, W_i = ⟨∇L_i, ∇L_val⟩. The horizon of
/// HG-MS shortened to one step, once in `reweight.cycle` training steps, with the same batches.
///
/// An inner product of gradients is no change of a loss before it is multiplied by a step size and a number of steps, so that there
/// is no prediction.
#[derive(Clone, Copy, Debug)]
pub struct Alignment {
    /// How x moves along W.
    pub rule: Rule,
}

/// How x moves along W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// By the recipe, as in HG-MS: averaged over cycles, scaled, and not at all where nothing rises above the noise.
    Recipe,
    /// `DoGE` (arXiv 2310.15393): x_i ← x_i + η W_i/μ with the step size η of the training and μ = 0.05; the weights found are the mean
    /// over all updates.
    ///
    /// The paper updates in every step of training, from the gradients of its batches; here that is once in a cycle of R steps, on
    /// batches of its own, and counts R times. The released code (`Olivia-fsm/DoGE`) also divides W by the mean length of the
    /// sources' gradients, and cuts it to [0, 5]: then all sources of negative alignment are alike.
    DoGe,
    /// `FastMix` (ICLR 2026), as its released code does it (`hrtan/fastmix`): W is of the gradients of the head alone, and x descends
    /// −η p_i (W_i − Σ_l p_l W_l) by `AdamW` with β = (0.9, 0.95), without decay and by 1e-2 in an update. An update moves no
    /// logit by much more than that whatever W is, so that few cycles find weights near the starting ones. Its entropy term is
    /// zero in the release, and absent here.
    ///
    /// Where the head is not trained, W is of all that is.
    FastMix,
}

/// v is the gradient itself, or its part that belongs to the head.
struct Itself {
    /// The head's place in the list of trained parameters, when the rest does not count.
    head: Option<Range<usize>>,
}

impl Direction for Itself {
    fn of(
        &mut self,
        _half: &Half,
        gradient: &mut Vec<f32>,
        _spare: &mut Vec<f32>,
        _work: &mut Workspace<f32>,
    ) -> Result<(), ReweightError> {
        if let Some(head) = &self.head {
            gradient[..head.start].fill(0.0);
            gradient[head.end..].fill(0.0);
        }
        Ok(())
    }
}

/// Where the head stands in a network's list of trained parameters; `None` when it is not trained as a whole.
fn head(decoder: &Decoder, network: &Network) -> Option<Range<usize>> {
    let place = decoder.select(&[Part::Head]).parts()[0].clone();
    match &network.trained {
        Trained::All => Some(place),
        Trained::Part { selection, .. } => selection.place(&place),
        Trained::Lora { .. } => None,
    }
}

/// x after an update by `DoGE`, from −W on two half-batches.
fn by_doge(x: &[f64], estimates: &[Vec<f64>; 2], rate: f64) -> Vec<f64> {
    let [a, b] = estimates;
    x.iter().zip(a.iter().zip(b)).map(|(x, (a, b))| x - rate / MU * 0.5 * (a + b)).collect()
}

/// x after an update by `FastMix`, from −W on two half-batches.
fn by_fastmix(x: &[f64], p: &[f64], estimates: &[Vec<f64>; 2], rate: f64, moments: &mut Moments) -> Vec<f64> {
    let [a, b] = estimates;
    let slope: Vec<f64> = a.iter().zip(b).map(|(a, b)| rate * 0.5 * (a + b)).collect();
    let mean: f64 = slope.iter().zip(p).map(|(s, p)| s * p).sum();
    let gradient: Vec<f64> = slope.iter().zip(p).map(|(s, p)| p * (s - mean)).collect();
    moments.step(x, &gradient, STEP, 0.0, BETA2)
}

impl Alignment {
    /// A cycle's end. `None` when the budget does not reach.
    fn move_weights(
        self,
        job: &Job,
        search: &mut Search<Moments>,
        network: &Network,
        tools: &mut Tools,
    ) -> Result<Option<CycleCertificate>, ReweightError> {
        let recipe = &job.setting.recipe;
        let batches = GradientBatches::draw(job, &mut tools.orders, search.upper.cycles);
        let is_head_only = self.rule == Rule::FastMix;
        let head = if is_head_only { head(&job.setting.decoder, network) } else { None };
        let mut direction = Itself { head };
        if self.rule == Rule::Recipe {
            return differentiate(job, search, network, tools, &batches, None, &mut direction);
        }
        let Some(estimates) = estimate(job, search, network, tools, &batches, None, &mut direction)? else {
            return Ok(None);
        };
        let rate = step_size(&recipe.train, search.step, search.ledger.progress());
        let (x, p) = (&search.upper.x, search.upper.weights());
        let x = if self.rule == Rule::DoGe {
            by_doge(x, &estimates, recipe.reweight.cycle as f64 * rate)
        } else {
            by_fastmix(x, &p, &estimates, rate, &mut search.memory)
        };
        let r = search.relative_gradient();
        Ok(Some(search.upper.go(&x, job.limits().as_deref(), &estimates, r)))
    }
}

impl Learner for Alignment {
    type Memory = Moments;

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Moments>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let Some(losses) = job.train(search, &mut networks[0], order::SEARCH, tools)? else {
            return Ok(Advance::Spent);
        };
        let mut certificate = None;
        if search.step.is_multiple_of(job.setting.recipe.reweight.cycle) {
            certificate = self.move_weights(job, search, &networks[0], tools)?;
        }
        Ok(Advance::Stepped { losses, certificate })
    }

    fn end(
        &self,
        job: &Job,
        search: &mut Search<Moments>,
        _networks: &mut Vec<Network>,
        _validation_loss: f64,
    ) -> End {
        let weights = match self.rule {
            Rule::Recipe => search.upper.final_weights(job.setting.recipe.reweight.average_last),
            Rule::DoGe => search.upper.final_weights(1.0),
            Rule::FastMix => search.upper.weights(),
        };
        let ledger = Some(search.ledger.report(search.step));
        End::Found { weights, ledger, is_online: true, predicted: None }
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::ValidationGradient, Entry::Directional]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::softmax;

    #[test]
    fn doge_multiplies_weights_by_the_exponential_of_the_aligned_step() {
        let p: [f64; 2] = [0.25, 0.75];
        // W = (3, 1) in the mean of the halves, and a rate by which η (3 − 1)/μ = ln 6
        let estimates = [vec![-2.0, -1.0], vec![-4.0, -1.0]];
        let moved = softmax(&by_doge(&p.map(f64::ln), &estimates, MU * 6.0_f64.ln() / 2.0));
        // odds 1 : 3 become 6 : 3
        assert!((moved[0] - 2.0 / 3.0).abs() < 1e-12, "{moved:?}");
    }

    #[test]
    fn fastmix_moves_a_logit_by_its_step_whatever_the_alignment_is() {
        let (x, p) = ([0.0; 2], [0.5; 2]);
        for scale in [1e-3, 1.0, 1e3] {
            let estimates = [vec![-2.0 * scale, scale], vec![-2.0 * scale, scale]];
            let mut moments = Moments::default();
            let moved = by_fastmix(&x, &p, &estimates, 1.0, &mut moments);
            // to what ε = 1e-8 leaves of a gradient of 0.75e-3
            assert!(
                (moved[0] - STEP).abs() < 2e-5 * STEP && (moved[1] + STEP).abs() < 2e-5 * STEP,
                "{moved:?}"
            );
        }
    }
}
