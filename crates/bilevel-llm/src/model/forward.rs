//! The forward pass.

use std::ops::Range;

use super::{
    Batch, Decoder, Weights,
    kernels::{
        Engine, Layout, NormCache, Real, add_to_rows, gelu, layer_norm, linear, product::gemm_on, rms_norm,
        rotate, sigmoid,
    },
    layout::{Affine, Block, Norm},
    workspace::{LayerCache, Rotary, Workspace, sized},
};

impl Decoder {
    /// The batch's rows before the head into the workspace. Blocks from `kept` on keep what the derivative needs.
    pub(super) fn forward<T: Real>(&self, y: Weights<T>, batch: &Batch, kept: usize, w: &mut Workspace<T>) {
        assert_eq!(y.full_len(), self.parameters(), "parameters of another decoder");
        if !self.architecture.family.is_gpt2() {
            w.rotary.reach(batch.lengths.iter().copied().max().unwrap_or(0));
        }
        let first = self.enter(y, batch, w);
        self.pass_blocks(y, batch, first..self.places.blocks.len(), kept, w);
        let width = self.architecture.sizes.width;
        let packed = sized(&mut w.packed, batch.rows.len() * width);
        for (p, &row) in packed.chunks_exact_mut(width).zip(&batch.rows) {
            let at = row as usize * width;
            p.copy_from_slice(&w.residual[at..at + width]);
        }
        let head_input = sized(&mut w.head_input, packed.len());
        self.normalise(y, &self.places.final_norm, packed, head_input, &mut w.packed_norm);
    }

    /// The residual stream at the block that is returned: at the first, or, where what frozen blocks put out is kept, at the
    /// lowest trained one.
    fn enter<T: Real>(&self, y: Weights<T>, batch: &Batch, w: &mut Workspace<T>) -> usize {
        let lowest = self.lowest_trained(y);
        let Some(entrances) = y.entrances().filter(|_| lowest > 0) else {
            self.embed(y, &batch.tokens, batch.positions(), &mut w.residual);
            return 0;
        };
        let mut stream = Vec::with_capacity(batch.tokens.len() * self.architecture.sizes.width);
        let mut rest = &batch.tokens[..];
        for &length in &batch.lengths {
            let (tokens, others) = rest.split_at(length);
            rest = others;
            let one = entrances.of(tokens, || {
                let alone = Batch { tokens: tokens.to_vec(), lengths: vec![length], ..Batch::default() };
                self.embed(y, &alone.tokens, alone.positions(), &mut w.residual);
                self.pass_blocks(y, &alone, 0..lowest, lowest, w);
                w.residual.as_slice().into()
            });
            stream.extend_from_slice(&one);
        }
        w.residual = stream;
        lowest
    }

    /// The residual stream through some of the blocks; those from `kept` on keep what the derivative needs.
    fn pass_blocks<T: Real>(
        &self,
        y: Weights<T>,
        batch: &Batch,
        blocks: Range<usize>,
        kept: usize,
        w: &mut Workspace<T>,
    ) {
        let engine = &w.engine;
        for i in blocks {
            let block = &self.places.blocks[i];
            let is_kept = i >= kept;
            if is_kept && w.recompute {
                w.layers[i].input.clone_from(&w.residual);
            }
            let c = if is_kept && !w.recompute { &mut w.layers[i] } else { &mut w.passing };
            self.fill_block(y, block, batch, (c, &w.rotary, &mut w.residual), engine);
            add_applied(y, &block.down, &c.activated, &mut w.residual, engine);
        }
    }

    /// Embeddings of the tokens, and of their positions in their sequences.
    pub(super) fn embed<T: Real>(
        &self,
        y: Weights<T>,
        tokens: &[u32],
        positions: impl Iterator<Item = usize>,
        x: &mut Vec<T>,
    ) {
        let width = self.architecture.sizes.width;
        let x = sized(x, tokens.len() * width);
        let mut room = Vec::new();
        for (x, &token) in x.chunks_exact_mut(width).zip(tokens) {
            x.copy_from_slice(y.row(&self.places.embedding, (token as usize, width), &mut room));
        }
        if let Some(matrix) = &self.places.positions {
            for (x, t) in x.chunks_exact_mut(width).zip(positions) {
                for (x, &p) in x.iter_mut().zip(y.row(matrix, (t, width), &mut room)) {
                    *x += p;
                }
            }
        }
    }

    /// The first part of a block: norm, then queries, keys and values, not yet turned.
    pub(super) fn project_qkv<T: Real>(
        &self,
        y: Weights<T>,
        block: &Block,
        residual: &Vec<T>,
        c: &mut LayerCache<T>,
        engine: &Engine,
    ) {
        c.input.clone_from(residual);
        let normed = sized(&mut c.normed, residual.len());
        self.normalise(y, &block.attention_norm, &c.input, normed, &mut c.input_norm);
        apply(y, &block.qkv, normed, &mut c.qkv, engine);
    }

    /// The part of a block after attention: output and feed-forward, each added to the residual stream.
    pub(super) fn finish_block<T: Real>(
        &self,
        y: Weights<T>,
        block: &Block,
        residual: &mut Vec<T>,
        c: &mut LayerCache<T>,
        engine: &Engine,
    ) {
        self.feed_forward(y, block, residual, c, engine);
        add_applied(y, &block.down, &c.activated, residual, engine);
    }

    /// A block's intermediate values, from its input in the residual stream, to which all but the block's last product is added.
    pub(super) fn fill_block<T: Real>(
        &self,
        y: Weights<T>,
        block: &Block,
        batch: &Batch,
        (c, rotary, residual): (&mut LayerCache<T>, &Rotary<T>, &mut Vec<T>),
        engine: &Engine,
    ) {
        self.project_qkv(y, block, residual, c, engine);
        self.turn(&mut c.qkv, batch.positions(), rotary, T::one());
        self.attend(batch, c, engine.threads);
        self.feed_forward(y, block, residual, c, engine);
    }

    /// Adds the output of attention to the residual stream, and goes through the feed-forward block up to its nonlinear function.
    fn feed_forward<T: Real>(
        &self,
        y: Weights<T>,
        block: &Block,
        residual: &mut Vec<T>,
        c: &mut LayerCache<T>,
        engine: &Engine,
    ) {
        add_applied(y, &block.output, &c.heads, residual, engine);
        c.middle.clone_from(residual);
        let normed = sized(&mut c.middle_normed, residual.len());
        self.normalise(y, &block.ffn_norm, &c.middle, normed, &mut c.middle_norm);
        apply(y, &block.up, normed, &mut c.up, engine);
        let ffn = self.architecture.sizes.ffn;
        let activated = sized(&mut c.activated, c.up.len() / block.up.outputs * ffn);
        if self.architecture.family.is_gpt2() {
            for (a, &u) in activated.iter_mut().zip(&c.up) {
                *a = gelu(u);
            }
        } else {
            for (a, gu) in activated.chunks_exact_mut(ffn).zip(c.up.chunks_exact(2 * ffn)) {
                let (gate, up) = gu.split_at(ffn);
                for ((a, &g), &u) in a.iter_mut().zip(gate).zip(up) {
                    *a = g * sigmoid(g) * u;
                }
            }
        }
    }

    pub(super) fn normalise<T: Real>(
        &self,
        y: Weights<T>,
        norm: &Norm,
        x: &[T],
        out: &mut [T],
        cache: &mut NormCache<T>,
    ) {
        let epsilon = self.architecture.norm_epsilon;
        let (mut room, mut other) = (Vec::new(), Vec::new());
        let weight = y.get(&norm.weight, &mut room);
        match &norm.bias {
            None => rms_norm(x, weight, epsilon, out, cache),
            Some(bias) => layer_norm(x, (weight, y.get(bias, &mut other)), epsilon, out, cache),
        }
    }

    /// Turns queries and keys by the angles of their positions; sign −1 turns back. Learned positions turn nothing.
    pub(super) fn turn<T: Real>(
        &self,
        qkv: &mut [T],
        positions: impl Iterator<Item = usize>,
        rotary: &Rotary<T>,
        sign: T,
    ) {
        let a = &self.architecture;
        if a.family.is_gpt2() {
            return;
        }
        for (row, t) in qkv.chunks_exact_mut(a.qkv_width()).zip(positions) {
            let (cos, sin) = rotary.at(t);
            for head in row[..a.query_width() + a.key_width()].chunks_exact_mut(a.head_size) {
                rotate(head, cos, sin, sign);
            }
        }
    }
}

/// out = x Wᵀ + b.
fn apply<T: Real>(y: Weights<T>, map: &Affine, x: &[T], out: &mut Vec<T>, engine: &Engine) {
    let rows = x.len() / map.inputs;
    let out = sized(out, rows * map.outputs);
    let mut room = Vec::new();
    linear(engine, x, y.get(&map.weight, &mut room), out, (rows, map.inputs, map.outputs));
    if let Some(bias) = &map.bias {
        add_to_rows(out, y.get(bias, &mut room));
    }
    if let Some((adapters, list)) = y.adapters() {
        adapters.apply(&map.weight, list, x, out, engine);
    }
}

/// out += x Wᵀ + b.
fn add_applied<T: Real>(y: Weights<T>, map: &Affine, x: &[T], out: &mut [T], engine: &Engine) {
    let rows = x.len() / map.inputs;
    let mut room = Vec::new();
    let weight = (y.get(&map.weight, &mut room), Layout::packed(map.outputs, map.inputs).t());
    let (wide, narrow) = (Layout::packed(rows, map.inputs), Layout::packed(rows, map.outputs));
    gemm_on(engine, T::one(), (x, wide), weight, T::one(), (&mut *out, narrow));
    if let Some(bias) = &map.bias {
        add_to_rows(out, y.get(bias, &mut room));
    }
    if let Some((adapters, list)) = y.adapters() {
        adapters.apply(&map.weight, list, x, out, engine);
    }
}
