//! In which order a source's examples are drawn.

use bilevel::rng::Stream;
use sha2::{Digest, Sha256};

use super::{Dataset, words::mix};

/// Examples of which a pass is written down: 8 MiB. The permutation of a larger set is computed, place by place.
const LISTED: u64 = 1 << 20;

/// The order in which a source's examples are drawn: shuffled passes, a function of (seed, name, order, position).
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    purpose: u64,
    size: u64,
    pass: Option<(u64, Permutation)>,
}

impl Order {
    /// The order numbered `order` of a data set; different orders are independent.
    pub fn new(seed: u64, set: &Dataset, order: u64) -> Self {
        Self::named(seed, &format!("{}\n{order}", set.name), set.len() as u64)
    }
    /// The order of this name of so many things.
    pub(super) fn named(seed: u64, name: &str, size: u64) -> Self {
        let digest = Sha256::digest(name);
        let purpose = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        Self { seed, purpose, size, pass: None }
    }
    /// The example at a position of the endless sequence.
    pub fn at(&mut self, position: u64) -> usize {
        let pass = position / self.size;
        if self.pass.as_ref().is_none_or(|(current, _)| *current != pass) {
            let mut stream = Stream::new(self.seed, self.purpose.wrapping_add(pass));
            let permutation = if self.size <= LISTED {
                Permutation::Listed(stream.permutation(self.size))
            } else {
                Permutation::Computed(Feistel::new(self.size, &mut stream))
            };
            self.pass = Some((pass, permutation));
        }
        match &self.pass.as_ref().expect("just made").1 {
            Permutation::Listed(list) => list[(position % self.size) as usize] as usize,
            Permutation::Computed(feistel) => feistel.at(position % self.size) as usize,
        }
    }
    /// `count` examples from a position on.
    pub fn take(&mut self, position: u64, count: usize) -> Vec<usize> {
        (position..position + count as u64).map(|p| self.at(p)).collect()
    }
}

#[derive(Clone, Debug)]
enum Permutation {
    Listed(Vec<u64>),
    Computed(Feistel),
}

/// Rounds; four of random functions are a random permutation to whoever sees few places of it (Luby and Rackoff,
/// doi 10.1137/0217022), two more make up for functions that only mix well.
const ROUNDS: usize = 6;

/// A permutation of 0..size in no memory: a Feistel network on the next even number of bits, gone through again until the
/// result lies below `size` (cycle walking; Black and Rogaway, doi 10.1007/3-540-45760-7_9), fewer than four times on
/// average.
#[derive(Clone, Debug)]
struct Feistel {
    size: u64,
    /// Bits of a half.
    half: u32,
    keys: [u64; ROUNDS],
}

impl Feistel {
    fn new(size: u64, stream: &mut Stream) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        // 53 random bits a key
        let keys = std::array::from_fn(|_| mix(stream.below(1 << 53)));
        Self { size, half: bits.div_ceil(2).max(1), keys }
    }

    fn at(&self, place: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let mut x = place;
        loop {
            let (mut left, mut right) = (x >> self.half, x & mask);
            for key in self.keys {
                (left, right) = (right, left ^ (mix(right ^ key) & mask));
            }
            x = (left << self.half) | right;
            if x < self.size {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computed_permutation_reaches_every_example_once() {
        for size in [1, 2, 3, 5, 16, 17, 1000, 65_536, 70_001] {
            let feistel = Feistel::new(size, &mut Stream::new(size, 1));
            let mut all: Vec<u64> = (0..size).map(|place| feistel.at(place)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..size), "{size}");
        }
    }

    #[test]
    fn a_large_set_is_drawn_in_another_order_each_pass_without_a_list() {
        let size = LISTED + 7;
        let mut order = Order { seed: 1, purpose: 2, size, pass: None };
        let (first, second) = (order.take(0, 9), order.take(size, 9));
        assert_ne!(first, second);
        assert!(matches!(order.pass, Some((1, Permutation::Computed(_)))));
        assert_eq!(order.take(0, 9), first);
        assert_ne!(Order { seed: 2, purpose: 2, size, pass: None }.take(0, 9), first);
    }

    /// Places and examples are independent as far as a test of their correlation and of neighbours can tell.
    #[test]
    fn a_computed_permutation_is_shuffled_and_depends_on_the_seed() {
        let n = 50_000;
        let of = |seed| {
            let feistel = Feistel::new(n, &mut Stream::new(seed, 1));
            (0..n).map(|place| feistel.at(place) as f64).collect::<Vec<_>>()
        };
        let (one, two) = (of(1), of(2));
        let middle = (n - 1) as f64 / 2.0;
        let variance = (n * n - 1) as f64 / 12.0;
        let places: Vec<f64> = (0..n).map(|i| i as f64).collect();
        for (a, b) in [(&one, &two), (&one, &places), (&one, &[&one[1..], &one[..1]].concat())] {
            let correlation =
                a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>() / n as f64 / variance;
            // four standard errors
            assert!(correlation.abs() < 4.0 / (n as f64).sqrt(), "{correlation}");
        }
    }
}
