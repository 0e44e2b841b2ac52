//! Which samples a step sees, as a function of (seed, stream, position), so that a resumed run sees what it would have seen.

use serde::{Deserialize, Serialize};

use crate::{error::ConfigError, rng::Stream};

/// How samples are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "draw", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Draw {
    /// Without replacement: each of `n` terms once in an epoch, in an order of its own for each epoch. The last batch of
    /// an epoch is smaller when the batch size does not divide n.
    EachOnce {
        /// Number of terms.
        n: u64,
    },
    /// With replacement: every index independent and uniform in 0..n.
    Independent {
        /// Number of terms.
        n: u64,
    },
    /// From a stream: indices that have never been used, 0, 1, 2, ….
    Fresh,
}

/// A source of batches. Seed, stream and counters say all of its state; the order of the current epoch is worked out
/// again after it was restored.
///
/// ```
/// use bilevel::sampling::{Draw, Sampler};
/// let mut sampler = Sampler::new(7, 0, Draw::EachOnce { n: 5 }, 2)?;
/// let mut epoch: Vec<u64> = (0..3).flat_map(|_| sampler.next_batch()).collect();
/// epoch.sort();
/// assert_eq!(epoch, [0, 1, 2, 3, 4]);
/// # Ok::<(), bilevel::ConfigError>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    seed: u64,
    stream: u16,
    draw: Draw,
    batch: u64,
    /// Batches given out.
    batches: u64,
    /// Samples given out.
    samples: u64,
    /// Order of an epoch, with its number.
    #[serde(skip)]
    order: Option<(u64, Vec<u64>)>,
}

impl Sampler {
    /// Batches of `batch` indices. Samplers of one seed with different `stream`s are independent, and so are they of every
    /// other use of the seed.
    pub fn new(seed: u64, stream: u16, draw: Draw, batch: u64) -> Result<Self, ConfigError> {
        ConfigError::require(batch >= 1, "batch", batch, "a batch has at least one sample")?;
        if let Draw::EachOnce { n } | Draw::Independent { n } = draw {
            ConfigError::require(n >= 1, "n", n, "there is at least one term to draw")?;
        }
        Ok(Self { seed, stream, draw, batch, batches: 0, samples: 0, order: None })
    }

    /// Samples given out so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Complete passes over the terms so far; 0 for a stream.
    pub fn epoch(&self) -> u64 {
        match self.draw {
            Draw::EachOnce { n } | Draw::Independent { n } => self.samples / n,
            Draw::Fresh => 0,
        }
    }

    /// The random numbers of one epoch or batch: the top bit keeps them apart from the small purposes of solvers.
    fn random(&self, position: u64) -> Stream {
        Stream::new(self.seed, 1 << 63 | u64::from(self.stream) << 47 | position)
    }

    /// The indices of the next batch.
    pub fn next_batch(&mut self) -> Vec<u64> {
        let batch = match self.draw {
            Draw::EachOnce { n } => {
                let (epoch, at) = (self.samples / n, self.samples % n);
                if self.order.as_ref().is_none_or(|(of, _)| *of != epoch) {
                    self.order = Some((epoch, self.random(epoch).permutation(n)));
                }
                let order = self.order.as_ref().map_or(&[][..], |(_, order)| order);
                order[at as usize..(at + self.batch).min(n) as usize].to_vec()
            }
            Draw::Independent { n } => {
                let mut random = self.random(self.batches);
                (0..self.batch).map(|_| random.below(n)).collect()
            }
            Draw::Fresh => (self.samples..self.samples + self.batch).collect(),
        };
        self.batches += 1;
        self.samples += batch.len() as u64;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(sampler: &mut Sampler, batches: usize) -> Vec<Vec<u64>> {
        (0..batches).map(|_| sampler.next_batch()).collect()
    }

    #[test]
    fn every_epoch_has_each_index_once_in_an_order_of_its_own() {
        let mut sampler = Sampler::new(3, 1, Draw::EachOnce { n: 10 }, 4).unwrap();
        let epochs: Vec<Vec<u64>> = (0..3).map(|_| take(&mut sampler, 3).concat()).collect();
        assert_eq!((sampler.epoch(), sampler.samples()), (3, 30));
        assert_ne!(epochs[0], epochs[1]);
        for mut epoch in epochs {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..10).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn a_sampler_restored_from_json_goes_on_where_it_was() {
        for draw in [Draw::EachOnce { n: 10 }, Draw::Independent { n: 10 }, Draw::Fresh] {
            for before in [0, 1, 3, 7] {
                let mut sampler = Sampler::new(5, 2, draw, 4).unwrap();
                take(&mut sampler, before);
                let json = serde_json::to_string(&sampler).unwrap();
                let mut copy: Sampler = serde_json::from_str(&json).unwrap();
                assert_eq!(take(&mut sampler, 8), take(&mut copy, 8));
                assert_eq!(serde_json::to_string(&sampler).unwrap(), serde_json::to_string(&copy).unwrap());
            }
        }
    }

    #[test]
    fn seeds_and_streams_differ() {
        let draw = Draw::Independent { n: 1 << 40 };
        let first = |seed, stream| Sampler::new(seed, stream, draw, 2).unwrap().next_batch();
        assert_eq!(first(1, 0), first(1, 0));
        assert_ne!(first(1, 0), first(2, 0));
        assert_ne!(first(1, 0), first(1, 1));
    }

    #[test]
    fn independent_draws_are_uniform() {
        let mut sampler = Sampler::new(11, 0, Draw::Independent { n: 8 }, 100).unwrap();
        let mut counts = [0.0_f64; 8];
        for index in take(&mut sampler, 80).concat() {
            counts[index as usize] += 1.0;
        }
        // χ² with 7 degrees of freedom is below 24.3 with probability 0.999
        let chi_square: f64 = counts.iter().map(|c| (c - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 24.3, "{chi_square}");
    }

    #[test]
    fn first_places_of_permutations_are_uniform() {
        let mut counts = [0.0_f64; 5];
        for seed in 0..5000 {
            let mut sampler = Sampler::new(seed, 0, Draw::EachOnce { n: 5 }, 1).unwrap();
            counts[sampler.next_batch()[0] as usize] += 1.0;
        }
        // χ² with 4 degrees of freedom is below 18.5 with probability 0.999
        let chi_square: f64 = counts.iter().map(|c| (c - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 18.5, "{chi_square}");
    }

    #[test]
    fn a_stream_never_repeats_and_settings_are_checked() {
        let mut sampler = Sampler::new(0, 0, Draw::Fresh, 3).unwrap();
        assert_eq!(take(&mut sampler, 2), [[0, 1, 2], [3, 4, 5]]);
        assert_eq!(Sampler::new(0, 0, Draw::Fresh, 0).unwrap_err().field, "batch");
        assert_eq!(Sampler::new(0, 0, Draw::EachOnce { n: 0 }, 1).unwrap_err().field, "n");
    }
}
