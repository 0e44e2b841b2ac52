//! A Llama-style decoder (RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied head) over one flat list
//! of parameters, with its derivative written out.
//!
//! Sequences of different length are stacked without padding: matrix products see all rows at once, attention goes
//! sequence by sequence.

pub mod kernels;

use std::ops::Range;

use bilevel::rng::Stream;

use crate::recipe::ModelSizes;
use kernels::{
    Layout, Real, gemm, linear, linear_backward, rms_norm, rms_norm_backward, rotate, sigmoid, softmax,
};

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

/// Where each matrix stands in the flat list.
#[derive(Clone, Debug)]
struct Block {
    attention_norm: Range<usize>,
    /// Rows of queries, keys, values.
    qkv: Range<usize>,
    output: Range<usize>,
    ffn_norm: Range<usize>,
    /// Rows of gates, then ups.
    gate_up: Range<usize>,
    down: Range<usize>,
}

/// The shape of a decoder: sizes and the places of its parameters.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Sizes.
    pub sizes: ModelSizes,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    embedding: Range<usize>,
    blocks: Vec<Block>,
    final_norm: Range<usize>,
    parameters: usize,
    /// cos and sin of position × frequency, context × head/2.
    rotary: (Vec<f64>, Vec<f64>),
}

/// What a forward pass keeps for the backward pass; reused from call to call.
#[derive(Debug)]
pub struct Workspace<T> {
    layers: Vec<LayerCache<T>>,
    residual: Vec<T>,
    packed: Vec<T>,
    packed_scale: Vec<T>,
    head_input: Vec<T>,
    /// rows × vocabulary.
    logits: Vec<T>,
    rotary: (Vec<T>, Vec<T>),
}

#[derive(Debug)]
struct LayerCache<T> {
    input: Vec<T>,
    input_scale: Vec<T>,
    normed: Vec<T>,
    qkv: Vec<T>,
    probabilities: Vec<T>,
    heads: Vec<T>,
    middle: Vec<T>,
    middle_scale: Vec<T>,
    middle_normed: Vec<T>,
    gate_up: Vec<T>,
    activated: Vec<T>,
}

impl<T> Default for LayerCache<T> {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            input_scale: Vec::new(),
            normed: Vec::new(),
            qkv: Vec::new(),
            probabilities: Vec::new(),
            heads: Vec::new(),
            middle: Vec::new(),
            middle_scale: Vec::new(),
            middle_normed: Vec::new(),
            gate_up: Vec::new(),
            activated: Vec::new(),
        }
    }
}

fn sized<T: Real>(v: &mut Vec<T>, n: usize) -> &mut Vec<T> {
    v.resize(n, T::zero());
    v
}

/// A named part of the parameters, for files.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Name in the Hugging Face layout of Llama.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Place in the flat list.
    pub range: Range<usize>,
}

impl Decoder {
    /// The decoder of these sizes.
    pub fn new(sizes: ModelSizes, vocabulary: usize) -> Self {
        let mut at = 0;
        let mut take = |n: usize| {
            at += n;
            at - n..at
        };
        let (width, ffn) = (sizes.width, sizes.ffn);
        let head = width / sizes.heads;
        let embedding = take(vocabulary * width);
        let blocks = (0..sizes.layers)
            .map(|_| Block {
                attention_norm: take(width),
                qkv: take((sizes.heads + 2 * sizes.kv_heads) * head * width),
                output: take(width * width),
                ffn_norm: take(width),
                gate_up: take(2 * ffn * width),
                down: take(width * ffn),
            })
            .collect();
        let final_norm = take(width);
        let half = head / 2;
        let angles = (0..sizes.context)
            .flat_map(|t| (0..half).map(move |i| t as f64 * sizes.rope_base.powf(-(i as f64) / half as f64)));
        let rotary = angles.map(|a| (a.cos(), a.sin())).unzip();
        Self { sizes, vocabulary, embedding, blocks, final_norm, parameters: at, rotary }
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// An empty workspace.
    pub fn workspace<T: Real>(&self) -> Workspace<T> {
        let cast = |v: &[f64]| v.iter().map(|&a| T::of(a)).collect();
        Workspace {
            layers: (0..self.sizes.layers).map(|_| LayerCache::default()).collect(),
            residual: Vec::new(),
            packed: Vec::new(),
            packed_scale: Vec::new(),
            head_input: Vec::new(),
            logits: Vec::new(),
            rotary: (cast(&self.rotary.0), cast(&self.rotary.1)),
        }
    }

    /// Random parameters: normal with deviation 1/√inputs for matrices (outputs of a block by √(2·layers) smaller),
    /// 0.02·√(64/width) for the embedding, 1 for norms.
    pub fn initial<T: Real>(&self, stream: &mut Stream) -> Vec<T> {
        let mut y = vec![T::zero(); self.parameters];
        let mut fill = |range: &Range<usize>, deviation: f64| {
            for a in &mut y[range.clone()] {
                *a = T::of(deviation * stream.normal());
            }
        };
        let inward = 1.0 / (self.sizes.width as f64).sqrt();
        let depth = (2.0 * self.sizes.layers as f64).sqrt();
        // the head is tied, so the embedding's size also sets the logits' at the start
        fill(&self.embedding, 0.02 * (64.0 / self.sizes.width as f64).sqrt());
        for block in &self.blocks {
            fill(&block.qkv, inward);
            fill(&block.output, inward / depth);
            fill(&block.gate_up, inward);
            fill(&block.down, 1.0 / (self.sizes.ffn as f64).sqrt() / depth);
        }
        for norm in self.norms() {
            y[norm].fill(T::one());
        }
        y
    }

    fn norms(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let blocks = self.blocks.iter().flat_map(|b| [b.attention_norm.clone(), b.ffn_norm.clone()]);
        blocks.chain([self.final_norm.clone()])
    }

    /// Ranges of the matrices, to which weight decay applies.
    pub fn matrices(&self) -> Vec<Range<usize>> {
        let blocks = self
            .blocks
            .iter()
            .flat_map(|b| [b.qkv.clone(), b.output.clone(), b.gate_up.clone(), b.down.clone()]);
        [self.embedding.clone()].into_iter().chain(blocks).collect()
    }

    /// Every tensor with its Hugging Face name; rows of stacked matrices are separate tensors.
    pub fn tensors(&self) -> Vec<NamedTensor> {
        let s = &self.sizes;
        let head = s.width / s.heads;
        let (q, kv) = (s.heads * head, s.kv_heads * head);
        let mut out = Vec::new();
        let mut add = |name: String, shape: &[usize], start: usize| {
            let n: usize = shape.iter().product();
            out.push(NamedTensor { name, shape: shape.to_vec(), range: start..start + n });
        };
        add("model.embed_tokens.weight".into(), &[self.vocabulary, s.width], self.embedding.start);
        for (i, b) in self.blocks.iter().enumerate() {
            let name = |part: &str| format!("model.layers.{i}.{part}.weight");
            add(name("input_layernorm"), &[s.width], b.attention_norm.start);
            add(name("self_attn.q_proj"), &[q, s.width], b.qkv.start);
            add(name("self_attn.k_proj"), &[kv, s.width], b.qkv.start + q * s.width);
            add(name("self_attn.v_proj"), &[kv, s.width], b.qkv.start + (q + kv) * s.width);
            add(name("self_attn.o_proj"), &[s.width, q], b.output.start);
            add(name("post_attention_layernorm"), &[s.width], b.ffn_norm.start);
            add(name("mlp.gate_proj"), &[s.ffn, s.width], b.gate_up.start);
            add(name("mlp.up_proj"), &[s.ffn, s.width], b.gate_up.start + s.ffn * s.width);
            add(name("mlp.down_proj"), &[s.width, s.ffn], b.down.start);
        }
        add("model.norm.weight".into(), &[s.width], self.final_norm.start);
        out
    }

    /// Logits of the batch's rows, row-major rows × vocabulary.
    pub fn logits<'w, T: Real>(&self, y: &[T], batch: &Batch, w: &'w mut Workspace<T>) -> &'w [T] {
        self.forward(y, batch, w);
        &w.logits
    }

    /// Cross-entropy of each row, in nats.
    pub fn row_losses<T: Real>(&self, y: &[T], batch: &Batch, w: &mut Workspace<T>) -> Vec<f64> {
        self.forward(y, batch, w);
        self.row_losses_of_logits(batch, w)
    }

    /// Cross-entropy of each row from the logits that [`Decoder::logits`] left in the workspace, and uses up.
    pub fn row_losses_of_logits<T: Real>(&self, batch: &Batch, w: &mut Workspace<T>) -> Vec<f64> {
        let rows = w.logits.chunks_exact_mut(self.vocabulary);
        rows.zip(&batch.targets).map(|(row, &t)| cross_entropy(row, t)).collect()
    }

    /// Sum of the rows' cross-entropies; adds `scale` times its gradient to `gradient`.
    pub fn loss_gradient<T: Real>(
        &self,
        y: &[T],
        batch: &Batch,
        scale: f64,
        gradient: &mut [T],
        w: &mut Workspace<T>,
    ) -> f64 {
        self.forward(y, batch, w);
        let scale = T::of(scale);
        let mut total = 0.0;
        for (row, &target) in w.logits.chunks_exact_mut(self.vocabulary).zip(&batch.targets) {
            // d CE / d logits = softmax − indicator of the target
            total += cross_entropy(row, target);
            row[target as usize] -= T::one();
            for a in row.iter_mut() {
                *a *= scale;
            }
        }
        self.backward(y, batch, gradient, w);
        total
    }

    /// Adds `scale` times the Gauss–Newton product Σ_rows Jᵀ(diag π − ππᵀ)J v to `out`; J v is a central difference
    /// of the logits with the displacement `h v`.
    #[expect(clippy::too_many_arguments, reason = "a product with all its settings")]
    pub fn gauss_newton<T: Real>(
        &self,
        y: &[T],
        v: &[T],
        h: f64,
        batch: &Batch,
        scale: f64,
        out: &mut [T],
        w: &mut Workspace<T>,
    ) {
        let moved = |sign: f64| -> Vec<T> {
            let step = T::of(sign * h);
            y.iter().zip(v).map(|(&y, &v)| y + step * v).collect()
        };
        self.forward(&moved(1.0), batch, w);
        let mut tangent = w.logits.clone();
        self.forward(&moved(-1.0), batch, w);
        let inverse = T::of(0.5 / h);
        for (t, &l) in tangent.iter_mut().zip(&w.logits) {
            *t = (*t - l) * inverse;
        }
        self.forward(y, batch, w);
        let scale = T::of(scale);
        for (row, t) in w.logits.chunks_exact_mut(self.vocabulary).zip(tangent.chunks_exact(self.vocabulary))
        {
            softmax(row);
            let mean = row.iter().zip(t).fold(T::zero(), |s, (&p, &t)| s + p * t);
            for (p, &t) in row.iter_mut().zip(t) {
                *p *= (t - mean) * scale;
            }
        }
        self.backward(y, batch, out, w);
    }

    fn forward<T: Real>(&self, y: &[T], batch: &Batch, w: &mut Workspace<T>) {
        let s = &self.sizes;
        let (width, ffn, n) = (s.width, s.ffn, batch.tokens.len());
        let qkv_width = (s.heads + 2 * s.kv_heads) * (width / s.heads);
        let embedding = &y[self.embedding.clone()];
        let x = sized(&mut w.residual, n * width);
        for (x, &token) in x.chunks_exact_mut(width).zip(&batch.tokens) {
            let at = token as usize * width;
            x.copy_from_slice(&embedding[at..at + width]);
        }
        for (block, c) in self.blocks.iter().zip(&mut w.layers) {
            c.input.clone_from(&w.residual);
            let normed = sized(&mut c.normed, n * width);
            rms_norm(&c.input, &y[block.attention_norm.clone()], normed, sized(&mut c.input_scale, n));
            let qkv = sized(&mut c.qkv, n * qkv_width);
            linear(normed, &y[block.qkv.clone()], qkv, n, width, qkv_width);
            self.turn(qkv, batch, &w.rotary, T::one());
            self.attend(batch, c);
            // the products add straight onto the residual stream
            gemm(
                T::one(),
                (&c.heads, Layout::packed(n, width)),
                (&y[block.output.clone()], Layout::packed(width, width).t()),
                T::one(),
                (&mut w.residual, Layout::packed(n, width)),
            );
            c.middle.clone_from(&w.residual);
            let normed = sized(&mut c.middle_normed, n * width);
            rms_norm(&c.middle, &y[block.ffn_norm.clone()], normed, sized(&mut c.middle_scale, n));
            let gate_up = sized(&mut c.gate_up, n * 2 * ffn);
            linear(normed, &y[block.gate_up.clone()], gate_up, n, width, 2 * ffn);
            let activated = sized(&mut c.activated, n * ffn);
            for (a, gu) in activated.chunks_exact_mut(ffn).zip(gate_up.chunks_exact(2 * ffn)) {
                let (gate, up) = gu.split_at(ffn);
                for ((a, &g), &u) in a.iter_mut().zip(gate).zip(up) {
                    *a = g * sigmoid(g) * u;
                }
            }
            gemm(
                T::one(),
                (activated, Layout::packed(n, ffn)),
                (&y[block.down.clone()], Layout::packed(width, ffn).t()),
                T::one(),
                (&mut w.residual, Layout::packed(n, width)),
            );
        }
        let m = batch.rows.len();
        let packed = sized(&mut w.packed, m * width);
        for (p, &row) in packed.chunks_exact_mut(width).zip(&batch.rows) {
            let at = row as usize * width;
            p.copy_from_slice(&w.residual[at..at + width]);
        }
        let head_input = sized(&mut w.head_input, m * width);
        rms_norm(packed, &y[self.final_norm.clone()], head_input, sized(&mut w.packed_scale, m));
        linear(head_input, embedding, sized(&mut w.logits, m * self.vocabulary), m, width, self.vocabulary);
    }

    /// Rotates queries and keys of every row by its position.
    fn turn<T: Real>(&self, qkv: &mut [T], batch: &Batch, rotary: &(Vec<T>, Vec<T>), sign: T) {
        let s = &self.sizes;
        let head = s.width / s.heads;
        let half = head / 2;
        let positions = batch.lengths.iter().flat_map(|&length| 0..length);
        for (row, t) in qkv.chunks_exact_mut((s.heads + 2 * s.kv_heads) * head).zip(positions) {
            let angles = t * half..(t + 1) * half;
            for h in row[..(s.heads + s.kv_heads) * head].chunks_exact_mut(head) {
                rotate(h, &rotary.0[angles.clone()], &rotary.1[angles.clone()], sign);
            }
        }
    }

    fn attend<T: Real>(&self, batch: &Batch, c: &mut LayerCache<T>) {
        let s = &self.sizes;
        let head = s.width / s.heads;
        let row = (s.heads + 2 * s.kv_heads) * head;
        let scale = T::of(1.0 / (head as f64).sqrt());
        let squares: usize = batch.lengths.iter().map(|l| l * l).sum();
        let probabilities = sized(&mut c.probabilities, squares * s.heads);
        let heads = sized(&mut c.heads, batch.tokens.len() * s.width);
        let (mut start, mut square) = (0, 0);
        for &length in &batch.lengths {
            for h in 0..s.heads {
                let places = self.places(h, start);
                let p = &mut probabilities[square..square + length * length];
                let strip = Layout::rows_apart(length, head, row);
                gemm(
                    scale,
                    (&c.qkv[places.query..], strip),
                    (&c.qkv[places.key..], strip.t()),
                    T::zero(),
                    (p, Layout::packed(length, length)),
                );
                for (t, row) in p.chunks_exact_mut(length).enumerate() {
                    let (seen, unseen) = row.split_at_mut(t + 1);
                    softmax(seen);
                    unseen.fill(T::zero());
                }
                gemm(
                    T::one(),
                    (p, Layout::packed(length, length)),
                    (&c.qkv[places.value..], strip),
                    T::zero(),
                    (&mut heads[places.output..], Layout::rows_apart(length, head, s.width)),
                );
                square += length * length;
            }
            start += length;
        }
    }

    /// Where head `h` of the sequence that begins at row `start` has its first query, key, value and output.
    fn places(&self, h: usize, start: usize) -> Places {
        let s = &self.sizes;
        let head = s.width / s.heads;
        let row = (s.heads + 2 * s.kv_heads) * head;
        let group = h * s.kv_heads / s.heads;
        Places {
            query: start * row + h * head,
            key: start * row + (s.heads + group) * head,
            value: start * row + (s.heads + s.kv_heads + group) * head,
            output: start * s.width + h * head,
        }
    }

    /// Adds the gradient to `g`, given d loss / d logits in `w.logits` and the caches of the forward pass.
    fn backward<T: Real>(&self, y: &[T], batch: &Batch, g: &mut [T], w: &mut Workspace<T>) {
        let s = &self.sizes;
        let (width, ffn, n, m) = (s.width, s.ffn, batch.tokens.len(), batch.rows.len());
        let qkv_width = (s.heads + 2 * s.kv_heads) * (width / s.heads);
        let mut dx = vec![T::zero(); n * width];
        {
            let mut d_head = vec![T::zero(); m * width];
            let (e, de) = (&y[self.embedding.clone()], &mut g[self.embedding.clone()]);
            linear_backward(
                &w.head_input,
                e,
                &w.logits,
                &mut d_head,
                T::zero(),
                de,
                m,
                width,
                self.vocabulary,
            );
            let mut d_packed = vec![T::zero(); m * width];
            let norm = self.final_norm.clone();
            rms_norm_backward(
                &w.packed,
                &y[norm.clone()],
                &w.packed_scale,
                &d_head,
                &mut d_packed,
                &mut g[norm],
            );
            for (d, &row) in d_packed.chunks_exact(width).zip(&batch.rows) {
                let at = row as usize * width;
                dx[at..at + width].copy_from_slice(d);
            }
        }
        let mut d_normed = vec![T::zero(); n * width];
        let mut d_activated = vec![T::zero(); n * ffn];
        let mut d_gate_up = vec![T::zero(); n * 2 * ffn];
        let mut d_qkv = vec![T::zero(); n * qkv_width];
        for (block, c) in self.blocks.iter().zip(&w.layers).rev() {
            let down = block.down.clone();
            linear_backward(
                &c.activated,
                &y[down.clone()],
                &dx,
                &mut d_activated,
                T::zero(),
                &mut g[down],
                n,
                ffn,
                width,
            );
            for ((da, gu), dgu) in d_activated
                .chunks_exact(ffn)
                .zip(c.gate_up.chunks_exact(2 * ffn))
                .zip(d_gate_up.chunks_exact_mut(2 * ffn))
            {
                let ((gate, up), (d_gate, d_up)) = (gu.split_at(ffn), dgu.split_at_mut(ffn));
                for ((((&da, &a), &u), dg), du) in da.iter().zip(gate).zip(up).zip(d_gate).zip(d_up) {
                    // silu'(a) = σ + a σ (1 − σ)
                    let sg = sigmoid(a);
                    *dg = da * u * sg * (T::one() + a * (T::one() - sg));
                    *du = da * a * sg;
                }
            }
            let gate_up = block.gate_up.clone();
            linear_backward(
                &c.middle_normed,
                &y[gate_up.clone()],
                &d_gate_up,
                &mut d_normed,
                T::zero(),
                &mut g[gate_up],
                n,
                width,
                2 * ffn,
            );
            let norm = block.ffn_norm.clone();
            rms_norm_backward(&c.middle, &y[norm.clone()], &c.middle_scale, &d_normed, &mut dx, &mut g[norm]);

            // d_normed serves as the derivative of the heads' outputs
            let output = block.output.clone();
            linear_backward(
                &c.heads,
                &y[output.clone()],
                &dx,
                &mut d_normed,
                T::zero(),
                &mut g[output],
                n,
                width,
                width,
            );
            d_qkv.fill(T::zero());
            self.attend_backward(batch, c, &d_normed, &mut d_qkv);
            self.turn(&mut d_qkv, batch, &w.rotary, -T::one());
            let qkv = block.qkv.clone();
            linear_backward(
                &c.normed,
                &y[qkv.clone()],
                &d_qkv,
                &mut d_normed,
                T::zero(),
                &mut g[qkv],
                n,
                width,
                qkv_width,
            );
            let norm = block.attention_norm.clone();
            rms_norm_backward(&c.input, &y[norm.clone()], &c.input_scale, &d_normed, &mut dx, &mut g[norm]);
        }
        let de = &mut g[self.embedding.clone()];
        for (d, &token) in dx.chunks_exact(width).zip(&batch.tokens) {
            let at = token as usize * width;
            for (e, &d) in de[at..at + width].iter_mut().zip(d) {
                *e += d;
            }
        }
    }

    fn attend_backward<T: Real>(&self, batch: &Batch, c: &LayerCache<T>, d_heads: &[T], d_qkv: &mut [T]) {
        let s = &self.sizes;
        let head = s.width / s.heads;
        let row = (s.heads + 2 * s.kv_heads) * head;
        let scale = T::of(1.0 / (head as f64).sqrt());
        let (mut start, mut square) = (0, 0);
        let mut dp = Vec::new();
        for &length in &batch.lengths {
            let strip = Layout::rows_apart(length, head, row);
            let out = Layout::rows_apart(length, head, s.width);
            let full = Layout::packed(length, length);
            for h in 0..s.heads {
                let at = self.places(h, start);
                let p = &c.probabilities[square..square + length * length];
                let d_out = &d_heads[at.output..];
                // O = P V
                gemm(T::one(), (p, full.t()), (d_out, out), T::one(), (&mut d_qkv[at.value..], strip));
                let dp = sized(&mut dp, length * length);
                gemm(T::one(), (d_out, out), (&c.qkv[at.value..], strip.t()), T::zero(), (dp, full));
                // P = softmax(S) row by row: dS = P ∘ (dP − ⟨P, dP⟩)
                for (t, (dp, p)) in dp.chunks_exact_mut(length).zip(p.chunks_exact(length)).enumerate() {
                    let seen = t + 1;
                    let inner = dp[..seen].iter().zip(&p[..seen]).fold(T::zero(), |s, (&d, &p)| s + d * p);
                    for (d, &p) in dp[..seen].iter_mut().zip(&p[..seen]) {
                        *d = (*d - inner) * p;
                    }
                    dp[seen..].fill(T::zero());
                }
                // S = scale · Q Kᵀ
                gemm(scale, (dp, full), (&c.qkv[at.key..], strip), T::one(), (&mut d_qkv[at.query..], strip));
                gemm(
                    scale,
                    (dp, full.t()),
                    (&c.qkv[at.query..], strip),
                    T::one(),
                    (&mut d_qkv[at.key..], strip),
                );
                square += length * length;
            }
            start += length;
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Places {
    query: usize,
    key: usize,
    value: usize,
    output: usize,
}

/// −log softmax(row)[target]; leaves the softmax in the row.
fn cross_entropy<T: Real>(row: &mut [T], target: u32) -> f64 {
    let logit = row[target as usize];
    let top = row.iter().fold(row[0], |m, &a| if a > m { a } else { m });
    for a in row.iter_mut() {
        *a = (*a - top).exp_nonpositive();
    }
    let mut sum = T::zero();
    for &a in row.iter() {
        sum += a;
    }
    let inverse = T::one() / sum;
    for a in row.iter_mut() {
        *a *= inverse;
    }
    (sum.ln() - (logit - top)).to()
}

#[cfg(test)]
mod tests;
