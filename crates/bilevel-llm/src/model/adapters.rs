//! Low-rank adapters: W + (α/r)·B A instead of W, with B and A trained and W standing still (LoRA; Hu et al., arXiv 2106.09685).

use std::ops::Range;

use bilevel::rng::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Decoder,
    kernels::{Engine, Layout, Real, gemm, linear, product::gemm_on},
    layout::Affine,
};

/// A matrix of every block that may have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// The output of attention.
    O,
    /// The gates of SwiGLU; GPT-2 has none.
    Gate,
    /// What goes into the feed-forward block.
    Up,
    /// What comes out of it.
    Down,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];
}

/// The adapters of the rows of one matrix, some of which may have none. Queries, keys and values are rows of one matrix, and so
/// are gates and ups.
#[derive(Clone, Debug, PartialEq)]
struct Adapted {
    /// The matrix in the full list.
    weight: Range<usize>,
    inputs: usize,
    outputs: usize,
    /// All A of the matrix, one below the other: (adapters · rank) × inputs, in the short list.
    a: Range<usize>,
    /// Each adapter's rows of the matrix, and its B, rows × rank, in the short list.
    b: Vec<(Range<usize>, Range<usize>)>,
}

/// Adapters of a decoder's matrices: which rows each changes, and where its A and B stand in a short list.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapters {
    rank: usize,
    /// α/r.
    scale: f64,
    /// Ascending by place.
    maps: Vec<Adapted>,
    len: usize,
}

impl Decoder {
    /// Adapters of this rank, scaled by α/r, for these targets in every block, in the order of the full list.
    ///
    /// # Errors
    /// With the target that this architecture does not have.
    ///
    /// # Panics
    /// When the rank is zero.
    pub fn adapters(&self, targets: &[Target], rank: usize, alpha: f64) -> Result<Adapters, Target> {
        self.adapters_in(0..self.places.blocks.len(), targets, rank, alpha)
    }

    /// [`Decoder::adapters`] in some of the blocks, and in no other.
    ///
    /// # Errors
    /// With the target that this architecture does not have.
    ///
    /// # Panics
    /// When the rank is zero, or a block is named that the decoder does not have.
    pub fn adapters_in(
        &self,
        blocks: Range<usize>,
        targets: &[Target],
        rank: usize,
        alpha: f64,
    ) -> Result<Adapters, Target> {
        assert!(rank > 0, "adapters of rank 0");
        let a = &self.architecture;
        let (q, kv, ffn, width) = (a.query_width(), a.key_width(), a.sizes.ffn, a.sizes.width);
        if a.family.is_gpt2() && targets.contains(&Target::Gate) {
            return Err(Target::Gate);
        }
        let ups = if a.family.is_gpt2() { 0..ffn } else { ffn..2 * ffn };
        let mut out = Adapters { rank, scale: alpha / rank as f64, maps: Vec::new(), len: 0 };
        for block in &self.places.blocks[blocks] {
            let qkv = [(Target::Q, 0..q), (Target::K, q..q + kv), (Target::V, q + kv..q + 2 * kv)];
            out.add(&block.qkv, targets, &qkv);
            out.add(&block.output, targets, &[(Target::O, 0..width)]);
            out.add(&block.up, targets, &[(Target::Gate, 0..ffn), (Target::Up, ups.clone())]);
            out.add(&block.down, targets, &[(Target::Down, 0..width)]);
        }
        Ok(out)
    }
}

impl Adapters {
    fn add(&mut self, map: &Affine, targets: &[Target], parts: &[(Target, Range<usize>)]) {
        let mut take = |n: usize| {
            self.len += n;
            self.len - n..self.len
        };
        let rows: Vec<&Range<usize>> =
            parts.iter().filter(|(target, _)| targets.contains(target)).map(|(_, rows)| rows).collect();
        if rows.is_empty() {
            return;
        }
        let a = take(rows.len() * self.rank * map.inputs);
        let b = rows.into_iter().map(|rows| (rows.clone(), take(rows.len() * self.rank))).collect();
        let (weight, inputs, outputs) = (map.weight.clone(), map.inputs, map.outputs);
        self.maps.push(Adapted { weight, inputs, outputs, a, b });
    }

    /// Number of trained parameters.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether nothing is trained.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The list at which training begins: A normal with deviation 1/√(3·inputs), which is that of the uniform numbers that the
    /// `peft` library draws (the paper says a Gaussian and not which), B zero, so that the model is the checkpoint.
    pub fn initial<T: Real>(&self, stream: &mut Stream) -> Vec<T> {
        let mut list = vec![T::zero(); self.len];
        for map in &self.maps {
            let deviation = 1.0 / (3.0 * map.inputs as f64).sqrt();
            for a in &mut list[map.a.clone()] {
                *a = T::of(deviation * stream.normal());
            }
        }
        list
    }

    /// Adds (α/r)·B A to every matrix of the full list.
    pub fn merge<T: Real>(&self, list: &[T], all: &mut [T]) {
        for map in &self.maps {
            for ((rows, b), a) in map.b.iter().zip(list[map.a.clone()].chunks_exact(self.rank * map.inputs)) {
                let weight = &mut all[map.weight.clone()][rows.start * map.inputs..rows.end * map.inputs];
                let b = (&list[b.clone()], Layout::packed(rows.len(), self.rank));
                let a = (a, Layout::packed(self.rank, map.inputs));
                gemm(T::of(self.scale), b, a, T::one(), (weight, Layout::packed(rows.len(), map.inputs)));
            }
        }
    }

    fn of(&self, weight: &Range<usize>) -> Option<&Adapted> {
        let i = self.maps.partition_point(|map| map.weight.start < weight.start);
        self.maps.get(i).filter(|map| map.weight == *weight)
    }

    /// Whether a matrix has an adapter.
    pub(super) fn reach(&self, weight: &Range<usize>) -> bool {
        self.of(weight).is_some()
    }

    /// x Aᵀ for all adapters of a matrix side by side, rows × (adapters · rank).
    fn down<T: Real>(&self, map: &Adapted, list: &[T], x: &[T], engine: &Engine) -> Vec<T> {
        let (n, wide) = (x.len() / map.inputs, map.b.len() * self.rank);
        let mut low = vec![T::zero(); n * wide];
        linear(engine, x, &list[map.a.clone()], &mut low, (n, map.inputs, wide));
        low
    }

    /// out += (α/r)·(x Aᵀ) Bᵀ, in the rows of each adapter of the matrix.
    pub(super) fn apply<T: Real>(
        &self,
        weight: &Range<usize>,
        list: &[T],
        x: &[T],
        out: &mut [T],
        engine: &Engine,
    ) {
        let Some(map) = self.of(weight) else { return };
        let low = self.down(map, list, x, engine);
        let (n, wide) = (x.len() / map.inputs, map.b.len() * self.rank);
        for (i, (rows, b)) in map.b.iter().enumerate() {
            let low = (&low[i * self.rank..], Layout::rows_apart(n, self.rank, wide));
            let b = (&list[b.clone()], Layout::packed(rows.len(), self.rank).t());
            let out = (&mut out[rows.start..], Layout::rows_apart(n, rows.len(), map.outputs));
            gemm_on(engine, T::of(self.scale), low, b, T::one(), out);
        }
    }

    /// The derivative of [`Adapters::apply`]: with L = x Aᵀ and dL = (α/r)·dY B, dB += (α/r)·dYᵀ L, dA += dLᵀ x and dx += dL A.
    pub(super) fn apply_backward<T: Real>(
        &self,
        weight: &Range<usize>,
        list: &[T],
        (x, dy): (&[T], &[T]),
        dx: &mut [T],
        g: &mut [T],
        engine: &Engine,
    ) {
        let Some(map) = self.of(weight) else { return };
        let low = self.down(map, list, x, engine);
        let (n, wide, scale) = (x.len() / map.inputs, map.b.len() * self.rank, T::of(self.scale));
        let mut d_low = vec![T::zero(); n * wide];
        let narrow = Layout::rows_apart(n, self.rank, wide);
        for (i, (rows, b)) in map.b.iter().enumerate() {
            let dy = &dy[rows.start..];
            let strip = Layout::rows_apart(n, rows.len(), map.outputs);
            let packed = Layout::packed(rows.len(), self.rank);
            let low = (&low[i * self.rank..], narrow);
            gemm_on(engine, scale, (dy, strip.t()), low, T::one(), (&mut g[b.clone()], packed));
            let b = (&list[b.clone()], packed);
            gemm_on(engine, scale, (dy, strip), b, T::zero(), (&mut d_low[i * self.rank..], narrow));
        }
        let (low, xs) = (Layout::packed(n, wide), Layout::packed(n, map.inputs));
        let a = Layout::packed(wide, map.inputs);
        gemm_on(engine, T::one(), (&d_low, low.t()), (x, xs), T::one(), (&mut g[map.a.clone()], a));
        gemm_on(engine, T::one(), (&d_low, low), (&list[map.a.clone()], a), T::one(), (dx, xs));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Weights,
        tests::{batch, kinds, point, total, what_frozen_blocks_put_out_is_kept},
    };

    fn random(n: usize, purpose: u64) -> Vec<f64> {
        let mut stream = Stream::new(11, purpose);
        (0..n).map(|_| 0.3 * stream.normal()).collect()
    }
    fn targets(decoder: &Decoder) -> Vec<Target> {
        let has = |t: &Target| *t != Target::Gate || !decoder.architecture.family.is_gpt2();
        Target::ALL.into_iter().filter(has).collect()
    }

    #[test]
    fn adapters_at_their_start_are_the_checkpoint_bit_for_bit() {
        for decoder in kinds() {
            let y: Vec<f32> = point(&decoder).iter().map(|&a| a as f32).collect();
            let adapters = decoder.adapters(&targets(&decoder), 3, 6.0).unwrap();
            let list: Vec<f32> = adapters.initial(&mut Stream::new(1, 0));
            assert!(list.iter().any(|&a| a != 0.0));
            let mut work = decoder.workspace();
            let plain = decoder.logits(&y, &batch(), &mut work).to_vec();
            assert_eq!(decoder.logits(Weights::adapted(&y, &adapters, &list), &batch(), &mut work), plain);
            let mut merged = y.clone();
            adapters.merge(&list, &mut merged);
            assert_eq!(merged, y);
        }
    }

    #[test]
    fn adapters_compute_what_the_merged_matrices_compute_forward_and_backward() {
        for (decoder, some) in kinds().iter().flat_map(|d| {
            let all = targets(d);
            [(d, all.clone()), (d, vec![Target::V, Target::Q]), (d, vec![Target::Up, Target::Down])]
        }) {
            let (y, batch) = (point(decoder), batch());
            let (rank, alpha) = (2, 5.0);
            let adapters = decoder.adapters(&some, rank, alpha).unwrap();
            let list = random(adapters.len(), 0);
            let mut merged = y.clone();
            adapters.merge(&list, &mut merged);
            let mut work = decoder.workspace().with_threads(2);
            let (mut whole, mut g) = (vec![0.0; y.len()], vec![0.0; list.len()]);
            let expected = decoder.loss_gradient(&merged, &batch, 0.7, &mut whole, &mut work);
            let weights = Weights::adapted(&y, &adapters, &list);
            let loss = decoder.loss_gradient(weights, &batch, 0.7, &mut g, &mut work);
            // sums of a few dozen terms of order one, in another order
            assert!((loss - expected).abs() < 1e-11 * expected, "{loss} {expected}");
            // with G the derivative in W: dB = (α/r) G Aᵀ, dA = (α/r) Bᵀ G
            for map in &adapters.maps {
                let a = &list[map.a.clone()];
                let da = &g[map.a.clone()];
                for (i, (rows, b)) in map.b.iter().enumerate() {
                    let at = |row: usize, column: usize| {
                        whole[map.weight.start + (rows.start + row) * map.inputs + column]
                    };
                    let (db, b) = (&g[b.clone()], &list[b.clone()]);
                    for r in 0..rank {
                        let a_row = &a[(i * rank + r) * map.inputs..][..map.inputs];
                        for row in 0..rows.len() {
                            let sum: f64 = a_row.iter().enumerate().map(|(c, a)| at(row, c) * a).sum();
                            let expected = alpha / rank as f64 * sum;
                            let found = db[row * rank + r];
                            assert!((found - expected).abs() < 1e-11 * (1.0 + expected.abs()));
                        }
                        for (column, found) in
                            da[(i * rank + r) * map.inputs..][..map.inputs].iter().enumerate()
                        {
                            let sum: f64 =
                                (0..rows.len()).map(|row| at(row, column) * b[row * rank + r]).sum();
                            let expected = alpha / rank as f64 * sum;
                            assert!((found - expected).abs() < 1e-11 * (1.0 + expected.abs()));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_gradient_in_adapters_agrees_with_central_differences() {
        // of both blocks, and of the last alone
        for (decoder, first) in kinds().into_iter().flat_map(|d| [(d.clone(), 0), (d, 1)]) {
            let (y, batch) = (point(&decoder), batch());
            let adapters = decoder.adapters_in(first..2, &targets(&decoder), 2, 4.0).unwrap();
            let list = random(adapters.len(), 1);
            let mut g = vec![0.0; list.len()];
            let weights = Weights::adapted(&y, &adapters, &list);
            decoder.loss_gradient(weights, &batch, 1.0, &mut g, &mut decoder.workspace());
            assert_eq!(decoder.kept_blocks(weights), 2 - first);
            what_frozen_blocks_put_out_is_kept(&decoder, weights, &batch);
            let h = 1e-5;
            for place in adapters
                .maps
                .iter()
                .flat_map(|map| [map.a.clone()].into_iter().chain(map.b.iter().map(|(_, b)| b.clone())))
            {
                let mut direction = vec![0.0; list.len()];
                direction[place.clone()].copy_from_slice(&random(place.len(), 2 + place.start as u64));
                let at = |s: f64| {
                    let moved: Vec<f64> = list.iter().zip(&direction).map(|(y, d)| y + s * h * d).collect();
                    total(&decoder, Weights::adapted(&y, &adapters, &moved), &batch)
                };
                let difference = (at(1.0) - at(-1.0)) / (2.0 * h);
                let inner: f64 = g.iter().zip(&direction).map(|(g, d)| g * d).sum();
                // rounding 1e-16·loss/h = 1e-10, truncation h² = 1e-10 times third derivatives of order 10²
                assert!((difference - inner).abs() < 1e-7 * (1.0 + inner.abs()), "{difference} {inner}");
            }
        }
    }

    #[test]
    fn what_is_read_on_goes_through_the_adapters() {
        let decoder = &kinds()[1];
        let y = point(decoder);
        let adapters = decoder.adapters(&Target::ALL, 2, 4.0).unwrap();
        let list = random(adapters.len(), 3);
        let mut merged = y.clone();
        adapters.merge(&list, &mut merged);
        let weights = Weights::adapted(&y, &adapters, &list);
        let mut adapted = crate::model::Session::new(decoder, weights, 1);
        let mut plain = crate::model::Session::new(decoder, &merged, 1);
        let (mut one, mut other) = (adapted.sequence(6), plain.sequence(6));
        for tokens in [&[1, 5, 3][..], &[3], &[10, 0]] {
            let found = adapted.read(&mut [(&mut one, tokens)]);
            for (a, b) in found.iter().zip(plain.read(&mut [(&mut other, tokens)])) {
                assert!((a - b).abs() < 1e-11 * (1.0 + b.abs()), "{a} {b}");
            }
        }
    }

    #[test]
    fn gpt2_has_no_gates() {
        let [.., gpt2] = kinds();
        assert_eq!(gpt2.adapters(&[Target::Q, Target::Gate], 2, 1.0), Err(Target::Gate));
        let adapters = gpt2.adapters(&[Target::Up], 2, 1.0).unwrap();
        // 2 blocks of 16 inputs and 12 outputs
        assert_eq!(adapters.len(), 2 * 2 * (16 + 12));
    }
}
