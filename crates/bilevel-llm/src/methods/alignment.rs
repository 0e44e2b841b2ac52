//! One-step gradient alignment.

use super::{
    Advance, Footprint, Job, Learner, Search, Tools,
    estimate::{Direction, GradientBatches, Half, differentiate},
    job::order,
};
use crate::{error::ReweightError, ledger::Entry, model::Workspace, recipe::Recipe, train::Network};

/// v = ∇L_val: what one step of gradient descent along ∇L_i would do to the target's loss. The horizon of HG-MS shortened to one
/// step, with the same batches and the same update of x.
#[derive(Clone, Copy, Debug)]
pub struct Alignment;

/// v is the gradient itself.
struct Itself;

impl Direction for Itself {
    fn of(
        &mut self,
        _half: &Half,
        gradient: Vec<f32>,
        _work: &mut Workspace<f32>,
    ) -> Result<Vec<f32>, ReweightError> {
        Ok(gradient)
    }
}

impl Learner for Alignment {
    type Memory = ();

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<()>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let Some(losses) = job.train(search, &mut networks[0], order::SEARCH, tools)? else {
            return Ok(Advance::Spent);
        };
        let mut certificate = None;
        if search.step.is_multiple_of(job.setting.recipe.reweight.cycle) {
            let batches = GradientBatches::draw(job, &mut tools.orders, search.upper.cycles);
            certificate = differentiate(job, search, &networks[0], tools, &batches, None, &mut Itself)?;
        }
        Ok(Advance::Stepped { losses, certificate })
    }

    fn footprint(&self, _recipe: &Recipe) -> Footprint {
        // a step's gradients, or v and the two displaced lists
        Footprint { vectors: 3, ..Footprint::TRAINING }
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::ValidationGradient, Entry::Directional]
    }
}
