//! Random numbers as a function of (seed, purpose, position), so that a resumed run draws what it would have drawn.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};

use crate::vector::Vector;

/// A counter-based stream: seed, purpose and position say all of its state, and are what a checkpoint keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "StreamState", into = "StreamState")]
pub struct Stream {
    seed: u64,
    purpose: u64,
    rng: ChaCha8Rng,
}

#[derive(Serialize, Deserialize)]
struct StreamState {
    seed: u64,
    purpose: u64,
    /// Position in 32-bit words; a string, since JSON numbers end at 2^53.
    position: String,
}

impl From<StreamState> for Stream {
    fn from(state: StreamState) -> Self {
        let mut stream = Self::new(state.seed, state.purpose);
        stream.rng.set_word_pos(state.position.parse().unwrap_or(0));
        stream
    }
}
impl From<Stream> for StreamState {
    fn from(stream: Stream) -> Self {
        Self { seed: stream.seed, purpose: stream.purpose, position: stream.rng.get_word_pos().to_string() }
    }
}

impl Stream {
    /// The stream of a seed for one purpose; streams of different purposes are independent.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(purpose);
        Self { seed, purpose, rng }
    }
    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Standard normal, by Box and Muller (one number kept of each pair, so that the position says all).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
    /// Uniform in 0..n.
    pub fn below(&mut self, n: u64) -> u64 {
        // Lemire's multiplication; the bias n/2^64 is below any use made of it here.
        ((u128::from(self.rng.next_u64()) * u128::from(n)) >> 64) as u64
    }
    /// A uniform permutation of 0..n (Fisher and Yates).
    pub fn permutation(&mut self, n: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..n).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }
    /// A vector of independent standard normals, of the shape of `like`.
    pub fn normal_like<V: Vector>(&mut self, like: &V) -> V {
        let coordinates: Vec<f64> = (0..like.dim()).map(|_| self.normal()).collect();
        like.with_coordinates(&coordinates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_restored_from_json_goes_on_where_it_was() {
        let mut stream = Stream::new(7, 3);
        for _ in 0..13 {
            stream.normal();
        }
        let mut copy: Stream = serde_json::from_str(&serde_json::to_string(&stream).unwrap()).unwrap();
        for _ in 0..20 {
            assert_eq!(stream.uniform().to_bits(), copy.uniform().to_bits());
        }
    }

    #[test]
    fn purposes_are_independent_streams() {
        assert_ne!(Stream::new(7, 0).uniform(), Stream::new(7, 1).uniform());
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut stream = Stream::new(1, 0);
        let draws: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 2e4;
        let variance = draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 2e4;
        // four standard errors: 1/√n for the mean, √(2/n) for the variance
        assert!(mean.abs() < 4.0 / 2e4_f64.sqrt());
        assert!((variance - 1.0).abs() < 4.0 * (2.0 / 2e4_f64).sqrt());
    }
}
