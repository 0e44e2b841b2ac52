//! Influence of single examples on the target, by their gradients at a few places of a training.

use bilevel::rng::Stream;
use serde::{Deserialize, Serialize};

use super::{
    Advance, End, Job, Learner, Orders, Search, Tools,
    job::{Drawn, order, purpose, tokens},
    softmax,
};
use crate::{
    error::ReweightError,
    ledger::Entry,
    source::mix,
    train::{Buffers, Network, StepBatch, norm, step_size},
};

/// `LESS` (arXiv 2402.04333): a model is trained with the starting weights, and at a few places c of the way the influence of an
/// example is the cosine between the gradient of its loss, as the optimiser would move along it (Adam's moments after a step with it
/// alone), and the gradient of the target, the mean over validation examples of the gradients of their mean losses. Influences
/// at different places count by η̄_c, the mean step size on the way to c.
///
/// The paper selects examples (5 % of them), not weights. Ours is the way from influences to weights: with the mean influence m_i of
/// source i and the standard deviation s of single influences within sources, p_i ∝ exp(m_i/(τ s)). Two sources whose
/// means differ by as much as examples of one source do among themselves are a factor e apart at τ = 1, whatever the scale of influences.
/// Since only means over sources count, each place has `reweight.source_batch` examples of its own of each source (and
/// `reweight.validation_batch` of the target), where the paper follows one example over all places.
///
/// Where the paper differs otherwise:
/// - It trains low-rank factors on 5 % of the data for four epochs; here it is the recipe's model and its `tune`, and the places
///   stand at equal distances in the budget.
/// - It projects gradients at random to 8192 numbers, since it stores those of every example. Here nothing is stored, so that the
///   cosine is of whole gradients unless `reweight.less.dimension` asks for the projection. That one is a count sketch (each
///   coordinate goes to one place with a random sign, arXiv 0902.2206), whose cosines have the variance 1/dimension of the
///   paper's dense signs at a cost that does not depend on the dimension.
/// - The target is one task, not several of which the best counts.
/// - Gradients are clipped as in training (`train.clip`) before they meet the moments.
///
/// Where the released code (`princeton-nlp/LESS`) differs from the paper: it averages the cosines with single validation
/// examples rather than taking the one with their mean gradient, and has no bias correction of moments.
///
/// Influences of single examples are paid as gradients of their tokens.
#[derive(Clone, Copy, Debug)]
pub struct Less;

/// Influences taken so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Influences {
    /// Σ_c η̄_c times the mean influence, of each source.
    means: Vec<f64>,
    /// Σ_c η̄_c times the variance of single influences within sources.
    variance: f64,
    /// Σ_c η̄_c.
    total: f64,
    /// Places at which they were taken.
    taken: usize,
    /// Places in all, once their price is known.
    places: Option<usize>,
    /// Units that the next place costs, once they are known.
    price: Option<f64>,
    /// Sum and number of the step sizes since the last place.
    sizes: (f64, u64),
}

impl Influences {
    /// Takes in the influences of each source's examples at a place that counts by `size`.
    fn add(&mut self, influences: &[Vec<f64>], size: f64) {
        self.means.resize(influences.len(), 0.0);
        let (mut within, mut freedom) = (0.0, 0);
        for (sum, own) in self.means.iter_mut().zip(influences) {
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            *sum += size * mean;
            within += own.iter().map(|a| (a - mean).powi(2)).sum::<f64>();
            // one mean is taken from each source
            freedom += own.len() - 1;
        }
        self.variance += size * within / freedom.max(1) as f64;
        self.total += size;
        self.taken += 1;
    }

    /// The weights; `None` when single influences do not differ, or were not taken.
    fn weights(&self, temperature: f64) -> Option<Vec<f64>> {
        let deviation = (self.variance / self.total).sqrt();
        (deviation > 0.0).then(|| {
            let scale = 1.0 / (self.total * temperature * deviation);
            softmax(&self.means.iter().map(|mean| mean * scale).collect::<Vec<f64>>())
        })
    }
}

/// A random projection to a few numbers: inner products are kept in the mean, and those of unit vectors to about 1/√places.
struct Sketch {
    places: u64,
    key: u64,
}

impl Sketch {
    fn new(places: usize, stream: &mut Stream) -> Self {
        Self { places: places as u64, key: mix(stream.below(1 << 53)) }
    }
    fn of(&self, v: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0_f64; self.places as usize];
        for (i, &v) in v.iter().enumerate() {
            let hash = mix(self.key.wrapping_add(i as u64));
            // the upper bits choose the place, the lowest one the sign
            let place = (u128::from(hash >> 1) * u128::from(self.places)) >> 63;
            let v = f64::from(v);
            out[place as usize] += if hash & 1 == 0 { v } else { -v };
        }
        out.iter().map(|&a| a as f32).collect()
    }
}

/// The cosine between two lists; 0 when one of them is zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let lengths = norm(a) * norm(b);
    if lengths > 0.0 { product / lengths } else { 0.0 }
}

/// The examples whose gradients are taken at a place.
struct Examples {
    sources: Vec<Vec<Drawn>>,
    validation: Vec<Drawn>,
}

impl Examples {
    fn draw(job: &Job, orders: &mut Orders, place: usize) -> Self {
        let setting = job.setting;
        let spec = &setting.recipe.reweight;
        let sources = setting
            .sources
            .iter()
            .zip(orders.sources(job, order::SOURCE))
            .map(|(source, order)| {
                let count = spec.source_batch.min(source.len());
                let drawn = order.take((place * count) as u64, count);
                drawn.into_iter().map(|example| Drawn::of(setting, source, vec![example])).collect()
            })
            .collect();
        let validation = &setting.validation;
        let count = spec.validation_batch.min(validation.len());
        let drawn = orders.validation(job, order::VALIDATION).take((place * count) as u64, count);
        let validation =
            drawn.into_iter().map(|example| Drawn::of(setting, validation, vec![example])).collect();
        Self { sources, validation }
    }

    fn charges(&self) -> [(Entry, u64); 2] {
        let of_sources = self.sources.iter().map(|batches| tokens(batches)).sum();
        [(Entry::ValidationGradient, tokens(&self.validation)), (Entry::Examples, of_sources)]
    }
}

/// The influences of each source's examples at one place; `step` is for errors.
fn influences(
    job: &Job,
    network: &Network,
    examples: &Examples,
    step: u64,
    buffers: &mut Buffers,
) -> Result<Vec<Vec<f64>>, ReweightError> {
    let recipe = &job.setting.recipe;
    let decoder = &job.setting.decoder;
    let len = network.y.len();
    // the buffers of a training step stand idle here
    let Buffers { work, source: gradient, total: target } = buffers;
    target.clear();
    target.resize(len, 0.0);
    let share = 1.0 / examples.validation.len() as f64;
    for example in &examples.validation {
        if !example.add_gradient(decoder, network.weights(), share, target, work).is_finite() {
            return Err(job.non_finite("validation", step, &example.examples));
        }
    }
    let stream = || Stream::new(job.seed, purpose::PROJECTION);
    let sketch = recipe.reweight.less.dimension.map(|dimension| Sketch::new(dimension, &mut stream()));
    let projected = sketch.as_ref().map(|sketch| sketch.of(target));

    let mut out = Vec::new();
    for (source, batches) in job.setting.sources.iter().zip(&examples.sources) {
        let mut own = Vec::new();
        for example in batches {
            gradient.clear();
            gradient.resize(len, 0.0);
            if !example.add_gradient(decoder, network.weights(), 1.0, gradient, work).is_finite() {
                return Err(job.non_finite(&source.name, step, &example.examples));
            }
            network.direction(&recipe.train, gradient);
            own.push(match (&sketch, &projected) {
                (Some(sketch), Some(target)) => cosine(target, &sketch.of(gradient)),
                _ => cosine(target, gradient),
            });
        }
        out.push(own);
    }
    Ok(out)
}

impl Learner for Less {
    type Memory = Influences;

    fn advance(
        &self,
        job: &Job,
        search: &mut Search<Influences>,
        networks: &mut Vec<Network>,
        tools: &mut Tools,
    ) -> Result<Advance, ReweightError> {
        let setting = job.setting;
        let train = &setting.recipe.train;
        let batch = StepBatch::draw(setting, tools.orders.sources(job, order::SEARCH), search.step);
        let step = search.ledger.price(Entry::Training, batch.tokens);
        let budget = search.ledger.budget();
        loop {
            let price = search.memory.price.unwrap_or_else(|| {
                let examples = Examples::draw(job, &mut tools.orders, search.memory.taken);
                search.ledger.price_of(&examples.charges())
            });
            search.memory.price = Some(price);
            // training gets half of the budget at least, as far as the first place tells
            let affordable = ((0.5 * budget / price) as usize).max(1);
            let most = setting.recipe.reweight.less.checkpoints.min(affordable);
            let places = *search.memory.places.get_or_insert(most);
            if search.memory.taken == places {
                return Ok(Advance::Spent);
            }
            let end = (budget * (search.memory.taken + 1) as f64 / places as f64).min(budget);
            if search.ledger.spent() + step + price <= end {
                break;
            }
            let (sum, count) = std::mem::take(&mut search.memory.sizes);
            if count == 0 || price > search.ledger.left() {
                return Ok(Advance::Spent);
            }
            let examples = Examples::draw(job, &mut tools.orders, search.memory.taken);
            let found = influences(job, &networks[0], &examples, search.step, &mut tools.buffers)?;
            search.memory.add(&found, sum / count as f64);
            search.memory.price = None;
            search.ledger.charge_all(&examples.charges());
        }
        let p = search.upper.weights();
        let size = step_size(train, search.step, search.ledger.progress());
        let losses = job.step(search, &mut networks[0], &batch, &p, size, &mut tools.buffers)?;
        search.memory.sizes.0 += size;
        search.memory.sizes.1 += 1;
        Ok(Advance::Stepped { losses, certificate: None })
    }

    fn end(
        &self,
        job: &Job,
        search: &mut Search<Influences>,
        _networks: &mut Vec<Network>,
        _validation_loss: f64,
    ) -> End {
        let temperature = job.setting.recipe.reweight.less.temperature;
        // a budget too small for one place, or examples without any difference, say nothing
        let weights = search.memory.weights(temperature).unwrap_or_else(|| job.initial());
        End::Found {
            weights,
            ledger: Some(search.ledger.report(search.step)),
            is_online: false,
            predicted: None,
        }
    }

    fn entries(&self) -> &'static [Entry] {
        &[Entry::Training, Entry::ValidationGradient, Entry::Examples]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Decoder, recipe::TrainSpec, train::Trained};

    #[test]
    fn a_standard_deviation_between_sources_is_a_factor_e_between_weights() {
        // within each source ±1 about the mean: with one mean taken, the variance is 4 · 1/(4 − 2)
        let s = 2.0_f64.sqrt();
        let at = |scale: f64, place: f64| {
            [vec![4.0, 6.0], vec![5.0 + s + 1.0, 5.0 + s - 1.0]]
                .map(|own| own.iter().map(|a| scale * a + place).collect())
        };
        let mut influences = Influences::default();
        assert_eq!(influences.weights(1.0), None);
        influences.add(&at(1.0, 0.0), 0.25);
        influences.add(&at(1.0, 0.0), 1.0);
        for temperature in [1.0, 0.5] {
            let p = influences.weights(temperature).unwrap();
            assert!(((p[1] / p[0]).ln() - 1.0 / temperature).abs() < 1e-12, "{p:?}");
        }
        // neither scale nor place of the influences counts
        let mut moved = Influences::default();
        moved.add(&at(1e-3, -7.0), 0.5);
        let p = moved.weights(1.0).unwrap();
        assert!(((p[1] / p[0]).ln() - 1.0).abs() < 1e-9, "{p:?}");
        // a place counts by its step size: means (0, 2) and (1, 0) at 3 : 1, variance 0 and 8
        let mut two = Influences::default();
        two.add(&[vec![0.0; 2], vec![2.0; 2]], 3.0);
        two.add(&[vec![3.0, -1.0], vec![-2.0, 2.0]], 1.0);
        let p = two.weights(1.0).unwrap();
        // within: 2 · 2² + 2 · 2² over 4 − 2 is 8, a quarter of it 2; means 1/4 and 6/4
        assert!(((p[1] / p[0]).ln() - 1.25 / 2.0_f64.sqrt()).abs() < 1e-12, "{p:?}");
        let mut alike = Influences::default();
        alike.add(&[vec![1.0, 1.0], vec![1.0]], 1.0);
        assert_eq!(alike.weights(1.0), None);
    }

    #[test]
    fn projected_cosines_are_those_of_the_lists_within_the_noise_of_the_places() {
        let mut stream = Stream::new(5, 0);
        let mut normal = || (0..3000).map(|_| stream.normal() as f32).collect::<Vec<f32>>();
        let (a, noise) = (normal(), normal());
        let b: Vec<f32> = a.iter().zip(&noise).map(|(a, n)| 0.6 * a + 0.8 * n).collect();
        let whole = cosine(&a, &b);
        assert!((whole - 0.6).abs() < 0.05);
        let (places, keys) = (500, 40);
        let errors: Vec<f64> = (0..keys)
            .map(|key| {
                let sketch = Sketch::new(places, &mut Stream::new(key, purpose::PROJECTION));
                cosine(&sketch.of(&a), &sketch.of(&b)) - whole
            })
            .collect();
        let mean = errors.iter().sum::<f64>() / keys as f64;
        let square = errors.iter().map(|e| e * e).sum::<f64>() / keys as f64;
        // the variance of a projected cosine c is (1 − c²)²/places: 0.8/500^½ · 0.8 = 0.029; four standard errors of a mean of
        // 40, and a factor of two for the spread
        assert!(mean.abs() < 4.0 * 0.029 / 40.0_f64.sqrt(), "{mean}");
        assert!(square.sqrt() < 2.0 * 0.029 && square.sqrt() > 0.5 * 0.029, "{}", square.sqrt());
    }

    #[test]
    fn a_direction_is_where_the_next_update_goes() {
        let decoder = Decoder::new(
            crate::model::ModelSizes {
                layers: 1,
                width: 4,
                heads: 1,
                kv_heads: 1,
                ffn: 4,
                context: 4,
                rope_base: 1e4,
            },
            5,
        );
        let y: Vec<f32> = decoder.initial(&mut Stream::new(1, 0));
        let mut stream = Stream::new(2, 0);
        let mut gradient = || y.iter().map(|_| stream.normal() as f32).collect::<Vec<f32>>();
        let train = TrainSpec { weight_decay: 0.0, ..TrainSpec::default() };
        let mut network = Network::new(Trained::All, y.clone());
        for _ in 0..3 {
            network.update(&decoder, &train, 1e-2, &mut gradient());
        }
        let before = network.y.clone();
        let mut direction = gradient();
        let mut same = direction.clone();
        network.direction(&train, &mut direction);
        network.update(&decoder, &train, 1e-2, &mut same);
        for ((after, before), direction) in network.y.iter().zip(&before).zip(&direction) {
            // the update rounds y, of size 1 at most, to 2^-24, and its moments to 1e-7 of a step of about 1e-2
            assert!((before - after - 1e-2 * direction).abs() < 2e-7, "{before} {after} {direction}");
        }
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 2.0]), 0.0);
    }
}
