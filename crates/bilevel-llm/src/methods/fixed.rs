//! Weights that are known without a search.

use bilevel::rng::Stream;

use super::{Advance, End, Job, Learner, Search, Start, Tools, job::purpose};
use crate::{
    error::ReweightError,
    ledger::Entry,
    recipe::{Given, Method, Recipe},
    train::Network,
};

/// Weights that are known without a search: equal, proportional to the sources' tokens or to a power of them, given, or drawn
/// at random for each seed.
#[derive(Clone, Copy, Debug)]
pub struct Fixed(pub Method);

impl Fixed {
    fn weights(self, job: &Job) -> Vec<f64> {
        let sources = &job.setting.sources;
        match self.0 {
            Method::Proportional => {
                let total: u64 = sources.iter().map(|s| s.info.tokens).sum();
                sources.iter().map(|s| s.info.tokens as f64 / total as f64).collect()
            }
            Method::Temperature => {
                let sizes: Vec<u64> = sources.iter().map(|s| s.info.tokens).collect();
                tempered(&sizes, job.setting.recipe.reweight.exponent)
            }
            Method::Given => match &job.setting.recipe.reweight.given {
                Some(Given::Weights(given)) => sources.iter().map(|s| given[&s.name]).collect(),
                // a file is read before anything runs, and its weights stand in its place
                Some(_) | None => job.uniform(),
            },
            Method::Random => dirichlet(sources.len(), &mut Stream::new(job.seed, purpose::RANDOM)),
            _ => job.uniform(),
        }
    }
}

impl Learner for Fixed {
    type Memory = ();

    fn start(&self, job: &Job) -> Start<()> {
        Start { weights: self.weights(job), memory: (), networks: None }
    }

    fn advance(
        &self,
        _job: &Job,
        _search: &mut Search<()>,
        _networks: &mut Vec<Network>,
        _tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        Ok(Advance::Spent)
    }

    fn end(
        &self,
        job: &Job,
        _search: &mut Search<()>,
        _networks: &mut Vec<Network>,
        _validation_loss: f64,
    ) -> End {
        End::Found { weights: self.weights(job), ledger: None, is_online: false, predicted: None }
    }

    fn budgets(&self, _recipe: &Recipe) -> f64 {
        0.0
    }

    fn entries(&self) -> &'static [Entry] {
        &[]
    }
}

/// Weights in proportion to a power of the sizes: sampling by temperature 1/exponent (arXiv 1907.05019, section 3).
fn tempered(sizes: &[u64], exponent: f64) -> Vec<f64> {
    let powers: Vec<f64> = sizes.iter().map(|&n| (n as f64).powf(exponent)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// A draw from Dirichlet(1, …, 1): independent exponentials over their sum.
pub fn dirichlet(k: usize, stream: &mut Stream) -> Vec<f64> {
    let draws: Vec<f64> = (0..k).map(|_| -(1.0 - stream.uniform()).ln()).collect();
    let sum: f64 = draws.iter().sum();
    draws.iter().map(|draw| draw / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_lies_between_uniform_and_proportional() {
        for (exponent, expected) in
            [(0.0, [1.0 / 3.0; 3]), (0.5, [0.1, 0.3, 0.6]), (1.0, [1.0 / 46.0, 9.0 / 46.0, 36.0 / 46.0])]
        {
            let weights = tempered(&[100, 900, 3600], exponent);
            assert!(
                weights.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15),
                "{exponent}: {weights:?}"
            );
        }
    }
}
