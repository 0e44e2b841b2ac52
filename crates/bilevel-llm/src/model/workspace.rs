//! What a forward pass keeps for the backward pass; reused from call to call.

use std::sync::Arc;

use super::kernels::{Accelerator, Engine, NormCache, Real};

/// Buffers of a decoder, and where it makes its products.
#[derive(Debug)]
pub struct Workspace<T> {
    /// Threads, and a device for large products.
    pub engine: Engine,
    /// Whether blocks keep their input only, and the backward pass makes the rest of what it needs anew: a third of a pass more of
    /// work for most of the memory, and the same numbers.
    pub recompute: bool,
    /// Blocks through which the derivative goes.
    pub(super) layers: Vec<LayerCache<T>>,
    /// Blocks through which it does not.
    pub(super) passing: LayerCache<T>,
    pub(super) residual: Vec<T>,
    /// The rows under the loss.
    pub(super) packed: Vec<T>,
    pub(super) packed_norm: NormCache<T>,
    pub(super) head_input: Vec<T>,
    /// Rows that the head takes at once, at most; the derivative in its matrix is summed chunk by chunk.
    pub(super) rows_at_once: usize,
    /// Of one chunk, rows × vocabulary.
    pub(super) logits: Vec<T>,
    pub(super) rotary: Rotary<T>,
}

impl<T> Workspace<T> {
    pub(super) fn new(layers: usize, frequencies: Vec<f64>, rows_at_once: usize) -> Self {
        Self {
            engine: Engine::default(),
            recompute: false,
            layers: (0..layers).map(|_| LayerCache::default()).collect(),
            passing: LayerCache::default(),
            residual: Vec::new(),
            packed: Vec::new(),
            packed_norm: NormCache::default(),
            head_input: Vec::new(),
            rows_at_once,
            logits: Vec::new(),
            rotary: Rotary { frequencies, cos: Vec::new(), sin: Vec::new() },
        }
    }

    /// The same with this many threads.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.engine.threads = threads.max(1);
        self
    }

    /// The same with large products on this device, where there is one.
    #[must_use]
    pub fn on(mut self, accelerator: Option<Arc<Accelerator>>) -> Self {
        self.engine.accelerator = accelerator;
        self
    }
}

/// What one block keeps.
#[derive(Debug)]
pub(super) struct LayerCache<T> {
    pub input: Vec<T>,
    pub input_norm: NormCache<T>,
    pub normed: Vec<T>,
    pub qkv: Vec<T>,
    /// Attention of each sequence, head by head: length × length.
    pub probabilities: Vec<T>,
    pub heads: Vec<T>,
    pub middle: Vec<T>,
    pub middle_norm: NormCache<T>,
    pub middle_normed: Vec<T>,
    /// Gates and ups, before the nonlinear function.
    pub up: Vec<T>,
    pub activated: Vec<T>,
}

impl<T> Default for LayerCache<T> {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            input_norm: NormCache::default(),
            normed: Vec::new(),
            qkv: Vec::new(),
            probabilities: Vec::new(),
            heads: Vec::new(),
            middle: Vec::new(),
            middle_norm: NormCache::default(),
            middle_normed: Vec::new(),
            up: Vec::new(),
            activated: Vec::new(),
        }
    }
}

/// cos and sin of position × frequency, as many positions as were asked for.
#[derive(Debug)]
pub(super) struct Rotary<T> {
    frequencies: Vec<f64>,
    cos: Vec<T>,
    sin: Vec<T>,
}

impl<T: Real> Rotary<T> {
    /// Makes the table long enough.
    pub fn reach(&mut self, positions: usize) {
        for t in self.cos.len() / self.frequencies.len().max(1)..positions {
            for &frequency in &self.frequencies {
                let angle = t as f64 * frequency;
                self.cos.push(T::of(angle.cos()));
                self.sin.push(T::of(angle.sin()));
            }
        }
    }

    /// cos and sin of one position.
    pub fn at(&self, position: usize) -> (&[T], &[T]) {
        let half = self.frequencies.len();
        let angles = position * half..(position + 1) * half;
        (&self.cos[angles.clone()], &self.sin[angles])
    }
}

/// The buffer at this length, entries undefined. It grows to the length asked for and no further: twice the length, as vectors
/// grow by themselves, would be most of a run's memory.
pub(super) fn sized<T: Real>(v: &mut Vec<T>, n: usize) -> &mut Vec<T> {
    if n > v.capacity() {
        *v = Vec::with_capacity(n);
    }
    v.resize(n, T::zero());
    v
}
