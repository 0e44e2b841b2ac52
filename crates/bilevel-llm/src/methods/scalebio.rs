//! `ScaleBiO`: two networks, one of which also sees the target, and weights that follow the difference of their losses.

use super::{
    Advance, Footprint, Job, Learner, Search, Start, Tools,
    adam::Moments,
    penalty::{self, Descent, differences, penalty_gradient},
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    recipe::{Recipe, ScaleBioSpec},
    train::Network,
};

/// Of `AdamW` on x, as in the released code.
const BETA2: f64 = 0.999;

/// `ScaleBiO` (arXiv 2406.19976): min over x and y, max over u, of f(y) + α (g(x, y) − g(x, u)), with f the loss on the target
/// and g = Σ p_i L_i, p = softmax(x). A step draws one batch of all sources and one of the target; u descends g, y descends
/// g + f/α, and x moves along α (∇ₓg(x, y) − ∇ₓg(x, u)), which needs the losses of the two forward passes only.
///
/// Where the released code (`research4pan/scalebio`) differs from this:
/// - The objectives are divided by α throughout, so that `train.clip` bounds what the release clips at α, and descent without
///   adaptive steps does not need a step size that depends on α.
/// - f is the mean over the target's tokens under the loss and L_i that over the source's; the release divides f by the
///   number of tokens and does not divide the penalty, so that its α depends on the batch.
/// - The validation examples are never trained on, other than through f as above.
/// - The weights are those of the last step; a fresh model is trained with them.
///
/// The search costs two training steps and a validation gradient for every step of y.
#[derive(Clone, Copy, Debug)]
pub struct ScaleBio {
    /// How x moves.
    pub variant: Variant,
}

/// How x moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// A plain step along the gradient.
    AsPublished,
    /// `AdamW` with decoupled decay. A coordinate of x moves by about its step size in every step whatever the size of its gradient, so
    /// that no two log-weights differ by more than about twice the sum of the step sizes: the ranking of the weights says
    /// something, their spread does not. α has no effect on x but through y.
    AsReleased,
}

impl Variant {
    /// x after a step of size `size` along a gradient.
    fn moved(self, x: &[f64], gradient: &[f64], size: f64, decay: f64, moments: &mut Moments) -> Vec<f64> {
        match self {
            Self::AsPublished => x.iter().zip(gradient).map(|(x, g)| x - size * g).collect(),
            Self::AsReleased => moments.step(x, gradient, size, decay, BETA2),
        }
    }
}

impl Learner for ScaleBio {
    type Memory = Moments;

    fn start(&self, job: &Job) -> Start<Moments> {
        penalty::start(job)
    }

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Moments>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let recipe = &job.setting.recipe;
        let ScaleBioSpec { alpha, step, weight_decay, validation_batch } = recipe.reweight.scalebio;
        let count = validation_batch.unwrap_or(recipe.train.batch);
        let p = search.upper.weights();
        let Some(Descent { at_y, at_z, size }) =
            penalty::descend(job, search, networks, tools, alpha, count)?
        else {
            return Ok(Advance::Spent);
        };
        let apart = differences(&p, &at_y.losses, &at_z.losses);
        let gradient = penalty_gradient(alpha, &p, &apart);
        let x = self.variant.moved(
            &search.upper.x,
            &gradient,
            step * size / recipe.train.lr,
            weight_decay,
            &mut search.memory,
        );
        let derivative: Vec<f64> = apart.iter().map(|d| alpha * d).collect();
        search.upper.follow(&x, job.limits().as_deref(), &derivative);
        Ok(Advance::Stepped { losses: at_y, certificate: None })
    }

    fn footprint(&self, _recipe: &Recipe) -> Footprint {
        Footprint::PAIR
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::ValidationGradient]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::{
        penalty::ridge::{Ridge, apart},
        softmax,
    };

    #[test]
    fn plain_steps_reach_the_minimum_of_weighted_ridge() {
        let ridge = Ridge::new();
        let mut x = vec![0.0; 5];
        for _ in 0..100_000 {
            x = Variant::AsPublished.moved(&x, &ridge.exact(&x).1, 1.0, 0.0, &mut Moments::default());
        }
        let value = ridge.exact(&x).0;
        assert!((value - 0.005_223_03).abs() < 0.51e-8, "{value}");
        let printed = [0.8521, 0.0020, 0.0850, 0.0604, 0.0004];
        let p = softmax(&x);
        assert!(p.iter().zip(printed).all(|(a, b)| (a - b).abs() < 0.51e-4), "{p:?}");
    }

    /// 234 steps of a cosine from 1e-2, decay 1e-2.
    fn released(ridge: &Ridge, scale: f64) -> Vec<f64> {
        let (mut x, mut moments) = (vec![0.0; 5], Moments::default());
        for t in 0..234 {
            let size = 0.5e-2 * (1.0 + (std::f64::consts::PI * f64::from(t) / 234.0).cos());
            let gradient: Vec<f64> = ridge.exact(&x).1.iter().map(|g| scale * g).collect();
            x = Variant::AsReleased.moved(&x, &gradient, size, 1e-2, &mut moments);
        }
        x
    }

    #[test]
    fn the_released_steps_end_where_their_sum_lets_them_whatever_the_size_of_the_gradient() {
        let ridge = Ridge::new();
        let x = released(&ridge, 1.0);
        let value = ridge.exact(&x).0;
        assert!((value - 0.008_59).abs() < 0.51e-5, "{value}");
        let p = softmax(&x);
        let printed = [0.3726, 0.2925, 0.0624, 0.1954, 0.0772];
        assert!(p.iter().zip(printed).all(|(a, b)| (a - b).abs() < 0.51e-4), "{p:?}");
        let hundredfold = softmax(&released(&ridge, 100.0));
        assert!(apart(&p, &hundredfold) < 1e-6, "{p:?} {hundredfold:?}");
        // the steps sum to 1.175
        let spread = x.iter().copied().fold(f64::MIN, f64::max) - x.iter().copied().fold(f64::MAX, f64::min);
        assert!(spread < 2.0 * 1.175, "{spread}");
    }
}
