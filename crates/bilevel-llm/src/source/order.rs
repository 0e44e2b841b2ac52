//! In which order a source's examples are drawn.

use bilevel::rng::Stream;
use sha2::{Digest, Sha256};

use super::Dataset;

/// The order in which a source's examples are drawn: shuffled passes, a function of (seed, name, order, position).
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    purpose: u64,
    size: usize,
    pass: Option<u64>,
    permutation: Vec<u64>,
}

impl Order {
    /// The order numbered `order` of a data set; different orders are independent.
    pub fn new(seed: u64, set: &Dataset, order: u64) -> Self {
        let digest = Sha256::digest(format!("{}\n{order}", set.name));
        let purpose = u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        Self { seed, purpose, size: set.len(), pass: None, permutation: Vec::new() }
    }
    /// The example at a position of the endless sequence.
    pub fn at(&mut self, position: u64) -> usize {
        let pass = position / self.size as u64;
        if self.pass != Some(pass) {
            let mut stream = Stream::new(self.seed, self.purpose.wrapping_add(pass));
            self.permutation = stream.permutation(self.size as u64);
            self.pass = Some(pass);
        }
        self.permutation[(position % self.size as u64) as usize] as usize
    }
    /// `count` examples from a position on.
    pub fn take(&mut self, position: u64, count: usize) -> Vec<usize> {
        (position..position + count as u64).map(|p| self.at(p)).collect()
    }
}
