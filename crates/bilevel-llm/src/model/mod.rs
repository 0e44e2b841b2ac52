//! Decoders of the Llama, Qwen2 and GPT-2 kinds over one flat list of parameters, with their derivative written out.
//!
//! Sequences of different length are stacked without padding: matrix products see all rows at once, attention goes
//! sequence by sequence.

mod adapters;
mod architecture;
mod attention;
mod backward;
mod entrances;
mod forward;
pub mod kernels;
mod layout;
mod loss;
mod memory;
mod session;
mod stored;
mod weights;
mod workspace;

use std::ops::Range;

use bilevel::rng::Stream;

pub use adapters::{Adapters, Target};
pub use architecture::{Architecture, Family, ModelSizes, RopeScaling};
pub use entrances::Entrances;
use kernels::Real;
pub use layout::NamedTensor;
use layout::Places;
pub use loss::Prediction;
pub use memory::BatchShape;
pub use session::{Sequence, Session};
pub use stored::{Frozen, List, Storage};
pub use weights::{Selection, Weights};
pub use workspace::Workspace;

/// Sequences with the positions that are under the loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Input tokens of all sequences, one after the other.
    pub tokens: Vec<u32>,
    /// Lengths of the sequences.
    pub lengths: Vec<usize>,
    /// Positions in `tokens` whose prediction is under the loss, ascending.
    pub rows: Vec<u32>,
    /// The token to be predicted at each of `rows`.
    pub targets: Vec<u32>,
}

impl Batch {
    /// The position of each token in its sequence.
    fn positions(&self) -> impl Iterator<Item = usize> {
        self.lengths.iter().flat_map(|&length| 0..length)
    }
}

/// The shape of a decoder: what it computes and the places of its parameters.
///
/// Parameters come as [`Weights`]: a full list, or a frozen one with the trained part replaced. Gradients are lists of
/// the trained part.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// What the decoder computes.
    pub architecture: Architecture,
    places: Places,
}

/// A part of a decoder's parameters, for choosing what to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The embedding of tokens; also the head where it is tied.
    Embedding,
    /// The learned positions, in models that have them.
    Positions,
    /// A block, from 0.
    Block(usize),
    /// The norm before the head.
    FinalNorm,
    /// The head; also the embedding where it is tied.
    Head,
}

impl Decoder {
    /// The decoder that is trained from scratch: Llama of these sizes with a tied head.
    pub fn new(sizes: ModelSizes, vocabulary: usize) -> Self {
        Self::of(Architecture::llama(sizes, vocabulary))
    }

    /// The decoder of an architecture.
    pub fn of(architecture: Architecture) -> Self {
        Self { places: Places::new(&architecture), architecture }
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.places.parameters
    }

    /// An empty workspace for one thread.
    pub fn workspace<T: Real>(&self) -> Workspace<T> {
        Workspace::new(self.architecture.sizes.layers, self.architecture.frequencies(), self.rows_at_once())
    }

    /// Random parameters: normal with deviation 1/√inputs for matrices (outputs of a block by √(2·layers) smaller),
    /// 0.02·√(64/width) for embedding, positions and head, 1 for norms, 0 for biases.
    pub fn initial<T: Real>(&self, stream: &mut Stream) -> Vec<T> {
        let mut y = vec![T::zero(); self.places.parameters];
        let mut fill = |range: &Range<usize>, deviation: f64| {
            for a in &mut y[range.clone()] {
                *a = T::of(deviation * stream.normal());
            }
        };
        let sizes = &self.architecture.sizes;
        let depth = (2.0 * sizes.layers as f64).sqrt();
        // where the head is tied, the embedding's size also sets the logits' at the start
        let outward = 0.02 * (64.0 / sizes.width as f64).sqrt();
        fill(&self.places.embedding, outward);
        for block in &self.places.blocks {
            for (map, factor) in
                [(&block.qkv, 1.0), (&block.output, depth), (&block.up, 1.0), (&block.down, depth)]
            {
                fill(&map.weight, 1.0 / (map.inputs as f64).sqrt() / factor);
            }
        }
        for range in self.places.positions.iter().chain(self.untied_head()) {
            fill(range, outward);
        }
        for norm in self.places.norms() {
            y[norm.weight.clone()].fill(T::one());
        }
        y
    }

    fn untied_head(&self) -> Option<&Range<usize>> {
        (!self.architecture.is_head_tied).then_some(&self.places.head)
    }

    /// Ranges of the matrices, to which weight decay applies.
    pub fn matrices(&self) -> Vec<Range<usize>> {
        let blocks = self
            .places
            .blocks
            .iter()
            .flat_map(|b| [&b.qkv, &b.output, &b.up, &b.down])
            .map(|map| &map.weight);
        let places = &self.places;
        [&places.embedding]
            .into_iter()
            .chain(&places.positions)
            .chain(blocks)
            .chain(self.untied_head())
            .cloned()
            .collect()
    }

    /// Every tensor with its Hugging Face name; rows of stacked matrices are separate tensors.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        self.places.tensors(&self.architecture)
    }

    /// The selection that trains these parts.
    ///
    /// # Panics
    /// When a block is named that the decoder does not have.
    pub fn select(&self, parts: &[Part]) -> Selection {
        let places = &self.places;
        let mut ranges: Vec<Range<usize>> = parts
            .iter()
            .filter_map(|part| match part {
                Part::Embedding => Some(places.embedding.clone()),
                Part::Positions => places.positions.clone(),
                // a block's tensors stand side by side
                Part::Block(i) => {
                    let down = &places.blocks[*i].down;
                    let end = down.bias.as_ref().map_or(down.weight.end, |bias| bias.end);
                    Some(places.blocks[*i].attention_norm.weight.start..end)
                }
                Part::FinalNorm => {
                    let norm = &places.final_norm;
                    Some(norm.weight.start..norm.bias.as_ref().map_or(norm.weight.end, |bias| bias.end))
                }
                Part::Head => Some(places.head.clone()),
            })
            .collect();
        ranges.sort_by_key(|range| range.start);
        ranges.dedup();
        Selection::new(ranges)
    }

    /// The selection that trains the last `layers` blocks and the norm after them; all blocks where there are fewer.
    pub fn last_blocks(&self, layers: usize) -> Selection {
        let all = self.architecture.sizes.layers;
        let blocks = all - layers.min(all)..all;
        self.select(&blocks.map(Part::Block).chain([Part::FinalNorm]).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;
