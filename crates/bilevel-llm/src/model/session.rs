//! Reading on from where one stands: keys and values of earlier tokens are kept.

use super::{
    Batch, Decoder, Weights,
    kernels::{Engine, Layout, Real, product::gemm_on, softmax},
    workspace::{Workspace, sized},
};

/// One sequence that grows.
#[derive(Debug)]
pub struct Session<'a, T> {
    decoder: &'a Decoder,
    y: Weights<'a, T>,
    work: Workspace<T>,
    /// Keys and values of each block, one row a token.
    past: Vec<Past<T>>,
    length: usize,
}

#[derive(Debug)]
struct Past<T> {
    keys: Vec<T>,
    values: Vec<T>,
}

impl<'a, T: Real> Session<'a, T> {
    /// An empty sequence.
    pub fn new(decoder: &'a Decoder, y: impl Into<Weights<'a, T>>, threads: usize) -> Self {
        let empty = || Past { keys: Vec::new(), values: Vec::new() };
        Self {
            decoder,
            y: y.into(),
            work: decoder.workspace().with_threads(threads),
            past: (0..decoder.architecture.sizes.layers).map(|_| empty()).collect(),
            length: 0,
        }
    }

    /// Tokens read so far.
    pub fn len(&self) -> usize {
        self.length
    }
    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads these tokens and returns the logits of what comes after the last of them.
    ///
    /// # Panics
    /// When there is no token, or the sequence grows beyond the model's context.
    pub fn read(&mut self, tokens: &[u32]) -> &[T] {
        let a = &self.decoder.architecture;
        let first = self.length;
        self.length += tokens.len();
        assert!(!tokens.is_empty() && self.length <= a.sizes.context, "no token, or beyond the context");
        let batch = Batch { tokens: tokens.to_vec(), lengths: vec![tokens.len()], ..Batch::default() };
        let w = &mut self.work;
        if !a.family.is_gpt2() {
            w.rotary.reach(self.length);
        }
        self.decoder.embed(self.y, &batch, first, &mut w.residual);
        let engine = &w.engine;
        for (block, past) in self.decoder.places.blocks.iter().zip(&mut self.past) {
            let c = &mut w.passing;
            self.decoder.project_qkv(self.y, block, &w.residual, c, engine);
            self.decoder.turn(&mut c.qkv, &batch, first, &w.rotary, T::one());
            for row in c.qkv.chunks_exact(a.qkv_width()) {
                let (key, value) = row[a.query_width()..].split_at(a.key_width());
                past.keys.extend_from_slice(key);
                past.values.extend_from_slice(value);
            }
            let heads = sized(&mut c.heads, tokens.len() * a.query_width());
            self.decoder.attend_past(&c.qkv, past, first, &mut c.probabilities, heads, engine);
            self.decoder.finish_block(self.y, block, &mut w.residual, c, engine);
        }
        let width = a.sizes.width;
        let last = &w.residual[(tokens.len() - 1) * width..];
        let normed = sized(&mut w.head_input, width);
        self.decoder.normalise(self.y, &self.decoder.places.final_norm, last, normed, &mut w.packed_norm);
        let mut room = Vec::new();
        let matrix = self.y.get(&self.decoder.places.head, &mut room);
        self.decoder.head(matrix, normed, &mut w.logits, engine)
    }
}

impl Decoder {
    /// Outputs of all heads for rows of queries that begin at position `first`, over all keys up to each.
    fn attend_past<T: Real>(
        &self,
        qkv: &[T],
        past: &Past<T>,
        first: usize,
        probabilities: &mut Vec<T>,
        out: &mut [T],
        engine: &Engine,
    ) {
        let a = &self.architecture;
        let (n, all) = (qkv.len() / a.qkv_width(), past.keys.len() / a.key_width());
        let scale = T::of(1.0 / (a.head_size as f64).sqrt());
        let p = sized(probabilities, n * all);
        let full = Layout::packed(n, all);
        let strip = Layout::rows_apart(all, a.head_size, a.key_width());
        for h in 0..a.sizes.heads {
            let at = self.head_places(h);
            let kv = at.key - a.query_width();
            let query = (&qkv[at.query..], Layout::rows_apart(n, a.head_size, a.qkv_width()));
            gemm_on(engine, scale, query, (&past.keys[kv..], strip.t()), T::zero(), (&mut *p, full));
            for (t, row) in p.chunks_exact_mut(all).enumerate() {
                let (seen, unseen) = row.split_at_mut(first + t + 1);
                softmax(seen);
                unseen.fill(T::zero());
            }
            let out = (&mut out[at.output..], Layout::rows_apart(n, a.head_size, a.query_width()));
            gemm_on(engine, T::one(), (&*p, full), (&past.values[kv..], strip), T::zero(), out);
        }
    }
}
