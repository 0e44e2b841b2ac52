//! Layerwise training: a few blocks at a time (LISA).

use std::{ops::Range, sync::Arc};

use bilevel::rng::Stream;
use serde::{Deserialize, Serialize};

use super::{Network, Trained};
use crate::model::{Decoder, Frozen, Part, Selection};

/// Draws of blocks among the purposes of a seed.
const PURPOSE: u64 = 0x6c69_7361_0000_0000;

/// LISA (Pan et al., arXiv 2403.17919, algorithm 1): every `period` steps all blocks fall asleep but `layers` of them, drawn
/// uniformly; what is asleep neither moves nor has moments of the optimiser. Embedding, positions, the last norm and the head are
/// always awake, unless `ends` is false.
///
/// Which blocks are awake in a step is a function of seed and step alone, so that two networks of one search (ScaleBiO's) have
/// the same ones, and a resumed run too. A block that is drawn twice in a row keeps its moments; one that wakes up begins with
/// none, and its bias corrections count from there.
///
/// Where others differ: the paper draws with probabilities made of the norms that full training would give, which nobody knows
/// beforehand, and takes them equal in its experiments; its released code (`OptimalScale/LMFlow`) keeps the moments of sleeping
/// blocks, and the released ScaleBiO draws blocks for each network by itself, so that the difference of their losses also
/// measures which blocks each may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lisa {
    /// Blocks that are awake at a time.
    pub layers: usize,
    /// Steps between draws.
    pub period: u64,
    /// Whether embedding, positions, the last norm and the head are always awake.
    pub ends: bool,
}

/// What of a network is awake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Awake {
    /// Number of the draw.
    draw: u64,
    /// The blocks.
    blocks: Vec<usize>,
    /// Places in the trained list, and how many updates the network had made when each woke up.
    since: Vec<(Range<usize>, u64)>,
}

impl Awake {
    /// Places in the trained list, and how many updates the network had made when each woke up.
    pub(super) fn spans(&self) -> &[(Range<usize>, u64)] {
        &self.since
    }
}

impl Lisa {
    /// The blocks that draw number `draw` wakes, ascending.
    pub fn blocks(&self, decoder: &Decoder, seed: u64, draw: u64) -> Vec<usize> {
        let all = decoder.architecture.sizes.layers as u64;
        let order = Stream::new(seed, PURPOSE.wrapping_add(draw)).permutation(all);
        let mut blocks: Vec<usize> = order.iter().take(self.layers).map(|&block| block as usize).collect();
        blocks.sort_unstable();
        blocks
    }

    /// Places in the full list that are awake with these blocks, ascending.
    fn places(self, decoder: &Decoder, blocks: &[usize]) -> Vec<Range<usize>> {
        let ends: &[Part] =
            if self.ends { &[Part::Embedding, Part::Positions, Part::FinalNorm, Part::Head] } else { &[] };
        let parts = ends.iter().copied().chain(blocks.iter().map(|&block| Part::Block(block)));
        let mut places: Vec<Range<usize>> =
            parts.flat_map(|part| decoder.select(&[part]).parts().to_vec()).collect();
        places.sort_by_key(|place| place.start);
        // where the head is tied, it is the embedding
        places.dedup();
        places
    }

    /// Number of parameters that are awake at a time.
    pub fn awake(&self, decoder: &Decoder) -> usize {
        let first: Vec<usize> = (0..self.layers).collect();
        self.places(decoder, &first).iter().map(Range::len).sum()
    }

    /// A network at the start of the first draw.
    pub(super) fn fresh(self, decoder: &Decoder, start: &Arc<Vec<f32>>, seed: u64) -> Network {
        let selection = Arc::new(Selection::new(Vec::new()));
        let asleep = Trained::Part { frozen: Frozen::F32(start.clone()), selection, entrances: None };
        let mut network = Network::new(asleep, Vec::new());
        network.wake(self, decoder, seed, 0);
        network
    }
}

impl Network {
    /// Makes those blocks the trained ones that are awake in a step, which counts from 0.
    ///
    /// # Panics
    /// When the network trains a whole list or adapters, of which no part can sleep.
    pub(super) fn wake(&mut self, lisa: Lisa, decoder: &Decoder, seed: u64, step: u64) {
        let draw = step / lisa.period;
        if self.awake.as_ref().is_some_and(|awake| awake.draw == draw) {
            return;
        }
        let blocks = lisa.blocks(decoder, seed, draw);
        let places = lisa.places(decoder, &blocks);
        let new = Selection::new(places.clone());
        let Trained::Part { frozen: Frozen::F32(frozen), selection: old, entrances: None } =
            &mut self.trained
        else {
            panic!(
                "parts of a list that is trained whole cannot sleep, and what frozen blocks put out changes when they wake"
            )
        };
        if !old.is_empty() {
            // copies the list when others look at it too
            let all: &mut Vec<f32> = Arc::make_mut(frozen);
            old.scatter(&self.y, all);
        }
        let y = new.gather(frozen);
        let (mut first, mut second) = (vec![0.0; y.len()], vec![0.0; y.len()]);
        let mut since = Vec::new();
        for place in &places {
            let to = new.place(place).expect("a place of the selection");
            let before = self.awake.as_ref().and_then(|awake| {
                let from = old.place(place)?;
                let span = awake.since.iter().find(|(span, _)| *span == from)?;
                Some((from, span.1))
            });
            let born = match before {
                None => self.updates,
                Some((from, born)) => {
                    first[to.clone()].copy_from_slice(&self.first[from.clone()]);
                    second[to.clone()].copy_from_slice(&self.second[from]);
                    born
                }
            };
            since.push((to, born));
        }
        *old = Arc::new(new);
        (self.y, self.first, self.second) = (y, first, second);
        self.awake = Some(Awake { draw, blocks, since });
    }

    /// A network as it was: its full list, the moments of what is awake, and what that is.
    pub(crate) fn awakened(
        lisa: Lisa,
        decoder: &Decoder,
        all: Vec<f32>,
        (first, second): (Vec<f32>, Vec<f32>),
        updates: u64,
        awake: Awake,
    ) -> Self {
        let selection = Selection::new(lisa.places(decoder, &awake.blocks));
        let y = selection.gather(&all);
        let trained = Trained::Part {
            frozen: Frozen::F32(Arc::new(all)),
            selection: Arc::new(selection),
            entrances: None,
        };
        Self { trained, y, first, second, updates, awake: Some(awake) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ModelSizes,
        recipe::{Optimizer, TrainSpec},
    };

    const LISA: Lisa = Lisa { layers: 2, period: 3, ends: true };

    fn decoder() -> Decoder {
        let sizes =
            ModelSizes { layers: 5, width: 8, heads: 2, kv_heads: 1, ffn: 6, context: 9, rope_base: 1e4 };
        Decoder::new(sizes, 11)
    }
    fn start(decoder: &Decoder) -> Arc<Vec<f32>> {
        Arc::new(decoder.initial(&mut Stream::new(1, 0)))
    }

    #[test]
    fn draws_are_uniform_and_a_function_of_seed_and_number() {
        let decoder = decoder();
        let mut counts = [0.0; 5];
        for draw in 0..4000 {
            let blocks = LISA.blocks(&decoder, 7, draw);
            assert_eq!(blocks, LISA.blocks(&decoder, 7, draw));
            assert!(blocks.len() == 2 && blocks[0] < blocks[1]);
            for block in blocks {
                counts[block] += 1.0 / 4000.0;
            }
        }
        // each with probability 2/5, four standard errors of 0.0077
        assert!(counts.iter().all(|share| (share - 0.4_f64).abs() < 0.031), "{counts:?}");
        assert!((0..20).any(|draw| LISA.blocks(&decoder, 7, draw) != LISA.blocks(&decoder, 8, draw)));
    }

    #[test]
    fn what_sleeps_stands_still_and_has_no_moments() {
        let decoder = decoder();
        let begun = start(&decoder);
        let mut network = LISA.fresh(&decoder, &begun, 3);
        let spec = TrainSpec { clip: None, ..TrainSpec::default() };
        let mut woken = Vec::new();
        let mut all = begun.to_vec();
        for step in 0..30 {
            network.wake(LISA, &decoder, 3, step);
            let blocks = LISA.blocks(&decoder, 3, step / 3);
            assert_eq!(network.y.len(), LISA.awake(&decoder));
            assert_eq!([network.first.len(), network.second.len()], [network.y.len(); 2]);
            let mut gradient = vec![0.5; network.y.len()];
            network.update(&decoder, &spec, 0.01, &mut gradient);
            let now = network.settled().into_owned();
            for tensor in decoder.tensors() {
                let block = tensor.name.strip_prefix("model.layers.").map(|rest| rest[..1].parse().unwrap());
                let is_awake = block.is_none_or(|block: usize| blocks.contains(&block));
                let has_moved = all[tensor.range.clone()] != now[tensor.range.clone()];
                assert_eq!(is_awake, has_moved, "step {step}, {}", tensor.name);
            }
            all = now;
            woken.push(blocks);
        }
        assert!(woken.iter().any(|blocks| *blocks != woken[0]));
        // nobody else's list has moved
        assert_eq!(begun, start(&decoder));
    }

    #[test]
    fn a_woken_block_moves_as_far_in_its_first_update_as_any_other_in_its_own() {
        let decoder = decoder();
        let start = start(&decoder);
        let spec = TrainSpec { clip: None, weight_decay: 0.0, ..TrainSpec::default() };
        assert_eq!(spec.optimizer, Optimizer::Adamw);
        let mut network = LISA.fresh(&decoder, &start, 3);
        for step in 0..60 {
            network.wake(LISA, &decoder, 3, step);
            let before = network.y.clone();
            let mut gradient = vec![0.25; network.y.len()];
            network.update(&decoder, &spec, 0.01, &mut gradient);
            // a constant gradient: m̂/√v̂ = 1 in every update since the moments began, whenever that was
            for (old, new) in before.iter().zip(&network.y) {
                assert!((old - new - 0.01).abs() < 1e-5, "step {step}: {old} {new}");
            }
            let metric = network.metric(Optimizer::Adamw);
            metric.each(network.y.len(), |_, d| {
                assert!(d.iter().all(|d| (d - 0.25).abs() < 1e-4), "step {step}");
            });
        }
    }

    #[test]
    fn without_ends_only_blocks_are_trained() {
        let decoder = decoder();
        let lisa = Lisa { ends: false, ..LISA };
        let network = lisa.fresh(&decoder, &start(&decoder), 3);
        let block = decoder.select(&[Part::Block(0)]).len();
        assert_eq!((network.y.len(), lisa.awake(&decoder)), (2 * block, 2 * block));
    }
}
