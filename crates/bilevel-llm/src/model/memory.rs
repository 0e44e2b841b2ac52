//! How much memory the passes of a decoder take.

use super::{Batch, Decoder, Weights, kernels::Real, loss::largest_chunk};

/// What the memory of a pass depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchShape {
    /// Tokens of all sequences.
    pub tokens: u64,
    /// Rows under the loss.
    pub rows: u64,
    /// Σ length² over the sequences, the entries of one head's attention.
    pub squares: u64,
}

impl BatchShape {
    /// The shape of a batch.
    pub fn of(batch: &Batch) -> Self {
        Self {
            tokens: batch.tokens.len() as u64,
            rows: batch.rows.len() as u64,
            squares: batch.lengths.iter().map(|&length| (length * length) as u64).sum(),
        }
    }
    /// The larger one of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens),
            rows: self.rows.max(other.rows),
            squares: self.squares.max(other.squares),
        }
    }
}

impl Decoder {
    /// Numbers that a forward pass keeps of one block.
    fn block_numbers(&self, shape: BatchShape) -> u64 {
        let a = &self.architecture;
        let block = &self.places.blocks[0];
        // input, its norm, the middle and its norm; queries, keys and values; outputs of the heads; gates and ups; their product
        let row = 4 * a.sizes.width + a.qkv_width() + a.query_width() + block.up.outputs + a.sizes.ffn;
        shape.tokens * row as u64 + shape.squares * a.sizes.heads as u64
    }

    /// Numbers that `kept` blocks keep of a forward pass for the derivative; with `recompute` their input alone.
    pub fn kept_numbers(&self, kept: usize, recompute: bool, shape: BatchShape) -> u64 {
        let of_one = if recompute {
            self.architecture.sizes.width as u64 * shape.tokens
        } else {
            self.block_numbers(shape)
        };
        kept as u64 * of_one
    }

    /// Numbers in the buffers that every forward pass uses: those that the blocks without a derivative share, the residual stream, and
    /// the rows under the loss with the logits of a chunk of them.
    pub fn passing_numbers(&self, shape: BatchShape) -> u64 {
        let width = self.architecture.sizes.width as u64;
        self.block_numbers(shape) + shape.tokens * width + shape.rows * 2 * width + self.chunk_numbers(shape)
    }

    /// The logits of the largest chunk of rows.
    fn chunk_numbers(&self, shape: BatchShape) -> u64 {
        let rows = largest_chunk(shape.rows as usize, self.rows_at_once());
        (rows * self.architecture.vocabulary) as u64
    }

    /// Numbers that a backward pass takes beside those of the forward pass.
    pub fn backward_numbers(&self, shape: BatchShape) -> u64 {
        let a = &self.architecture;
        let block = &self.places.blocks[0];
        let row = 2 * a.sizes.width + a.sizes.ffn + a.query_width() + a.qkv_width() + block.up.outputs;
        shape.tokens * row as u64 + 2 * shape.rows * a.sizes.width as u64
    }

    /// Numbers that a sequence of so many tokens keeps while it is read on.
    pub fn sequence_numbers(&self, tokens: usize) -> u64 {
        let a = &self.architecture;
        (2 * a.sizes.layers * a.key_width() * tokens.min(a.sizes.context)) as u64
    }

    /// Numbers of the largest matrix, which is widened as a whole where parameters are kept in bf16.
    pub fn largest_tensor(&self) -> u64 {
        self.matrices().iter().map(|matrix| matrix.len() as u64).max().unwrap_or(0)
    }

    /// Numbers that a Gauss–Newton product takes beside those of its passes: the rows before the head at two displaced points, the
    /// derivative of a chunk's logits, and what is moved at once, a matrix or the list of all adapters.
    pub fn tangent_numbers<T: Real>(&self, y: Weights<T>, shape: BatchShape) -> u64 {
        let matrices = self.places.blocks.iter().flat_map(|b| [&b.qkv, &b.output, &b.up, &b.down]);
        let moved = match y.adapters() {
            Some((_, list)) => list.len(),
            None => matrices.map(|matrix| matrix.weight.len()).max().unwrap_or(0),
        };
        2 * shape.rows * self.architecture.sizes.width as u64 + moved as u64 + self.chunk_numbers(shape)
    }
}
