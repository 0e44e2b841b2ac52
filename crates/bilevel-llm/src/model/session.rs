//! Reading on from where one stands: keys and values of earlier tokens are kept.

use super::{
    Decoder, Weights,
    kernels::{Engine, Layout, Real, product::gemm_on, softmax},
    workspace::{Workspace, sized},
};

/// A model that reads sequences on, several at a time.
#[derive(Debug)]
pub struct Session<'a, T> {
    decoder: &'a Decoder,
    y: Weights<'a, T>,
    work: Workspace<T>,
}

/// One sequence that grows: what a session needs of the tokens read so far.
#[derive(Clone, Debug)]
pub struct Sequence<T> {
    /// Keys and values of each block, one row a token.
    past: Vec<Past<T>>,
    length: usize,
}

#[derive(Clone, Debug)]
struct Past<T> {
    keys: Vec<T>,
    values: Vec<T>,
}

impl<T> Sequence<T> {
    /// Number of tokens read so far.
    pub fn len(&self) -> usize {
        self.length
    }
    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<'a, T: Real> Session<'a, T> {
    /// A session with this model.
    pub fn new(decoder: &'a Decoder, y: impl Into<Weights<'a, T>>, threads: usize) -> Self {
        let work = decoder.workspace().with_threads(threads);
        Self { decoder, y: y.into(), work }
    }

    /// A sequence of which nothing was read, with room for so many tokens; it grows beyond them at a cost.
    pub fn sequence(&self, room: usize) -> Sequence<T> {
        let numbers = room * self.decoder.architecture.key_width();
        let empty = || Past { keys: Vec::with_capacity(numbers), values: Vec::with_capacity(numbers) };
        Sequence { past: self.decoder.places.blocks.iter().map(|_| empty()).collect(), length: 0 }
    }

    /// Reads further tokens of each sequence and returns the logits of what comes after the last of them: a row for each sequence.
    ///
    /// The numbers of a row depend on what is read beside it by rounding alone: products of few rows are summed in another order.
    ///
    /// # Panics
    /// When a sequence has no further token, or grows beyond the model's context.
    pub fn read(&mut self, news: &mut [(&mut Sequence<T>, &[u32])]) -> &[T] {
        let a = &self.decoder.architecture;
        let mut tokens = Vec::new();
        let mut positions = Vec::new();
        for (sequence, new) in news.iter_mut() {
            let first = sequence.length;
            sequence.length += new.len();
            assert!(!new.is_empty() && sequence.length <= a.sizes.context, "no token, or beyond the context");
            tokens.extend_from_slice(new);
            positions.extend(first..sequence.length);
        }
        let w = &mut self.work;
        if !a.family.is_gpt2() {
            w.rotary.reach(positions.iter().max().map_or(0, |last| last + 1));
        }
        self.decoder.embed(self.y, &tokens, positions.iter().copied(), &mut w.residual);
        let engine = &w.engine;
        for (i, block) in self.decoder.places.blocks.iter().enumerate() {
            let c = &mut w.passing;
            self.decoder.project_qkv(self.y, block, &w.residual, c, engine);
            self.decoder.turn(&mut c.qkv, positions.iter().copied(), &w.rotary, T::one());
            let heads = sized(&mut c.heads, tokens.len() * a.query_width());
            let (mut qkv, mut heads) = (&c.qkv[..], &mut heads[..]);
            for (sequence, new) in news.iter_mut() {
                let (own, others) = qkv.split_at(new.len() * a.qkv_width());
                let (out, rest) = heads.split_at_mut(new.len() * a.query_width());
                let past = &mut sequence.past[i];
                for row in own.chunks_exact(a.qkv_width()) {
                    let (key, value) = row[a.query_width()..].split_at(a.key_width());
                    past.keys.extend_from_slice(key);
                    past.values.extend_from_slice(value);
                }
                let first = sequence.length - new.len();
                self.decoder.attend_past(own, past, first, &mut c.probabilities, out, engine);
                (qkv, heads) = (others, rest);
            }
            self.decoder.finish_block(self.y, block, &mut w.residual, c, engine);
        }
        let width = a.sizes.width;
        w.packed.clear();
        let mut end = 0;
        for (_, new) in news.iter() {
            end += new.len();
            w.packed.extend_from_slice(&w.residual[(end - 1) * width..end * width]);
        }
        let normed = sized(&mut w.head_input, w.packed.len());
        self.decoder.normalise(
            self.y,
            &self.decoder.places.final_norm,
            &w.packed,
            normed,
            &mut w.packed_norm,
        );
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
