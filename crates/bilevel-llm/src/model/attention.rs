//! Causal attention with grouped queries, sequence by sequence, with its derivative.

use super::{
    Batch, Decoder,
    kernels::{Layout, Real, gemm, side_by_side, softmax},
    workspace::{LayerCache, sized},
};

/// Where a head has its first query, key, value and output in the rows of a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadPlaces {
    pub query: usize,
    pub key: usize,
    pub value: usize,
    pub output: usize,
}

/// Cuts the parts of the sequences off a list, `size` entries for each length.
fn cut<'a, T>(lengths: &[usize], mut rest: &'a [T], size: impl Fn(usize) -> usize) -> Vec<&'a [T]> {
    let part = |&length: &usize| {
        let (part, others) = rest.split_at(size(length));
        rest = others;
        part
    };
    lengths.iter().map(part).collect()
}

/// [`cut`] for a list that is written to.
fn cut_mut<'a, T>(lengths: &[usize], rest: &'a mut [T], size: impl Fn(usize) -> usize) -> Vec<&'a mut [T]> {
    let mut rest = rest;
    let part = |&length: &usize| {
        let (part, others) = std::mem::take(&mut rest).split_at_mut(size(length));
        rest = others;
        part
    };
    lengths.iter().map(part).collect()
}

impl Decoder {
    /// Outputs of all heads from turned queries, keys and values.
    pub(super) fn attend<T: Real>(&self, batch: &Batch, c: &mut LayerCache<T>, threads: usize) {
        type Job<'a, T> = (((&'a [T], &'a mut [T]), &'a mut [T]), &'a usize);
        let a = &self.architecture;
        let lengths = &batch.lengths;
        let squares: usize = lengths.iter().map(|l| l * l).sum();
        let probabilities = sized(&mut c.probabilities, squares * a.sizes.heads);
        let heads = sized(&mut c.heads, batch.tokens.len() * a.query_width());
        let jobs = cut(lengths, &c.qkv, |l| l * a.qkv_width())
            .into_iter()
            .zip(cut_mut(lengths, probabilities, |l| l * l * a.sizes.heads))
            .zip(cut_mut(lengths, heads, |l| l * a.query_width()))
            .zip(lengths)
            .collect();
        side_by_side(threads, jobs, |(((qkv, p), out), &length): Job<T>| {
            self.attend_sequence(length, qkv, p, out);
        });
    }

    fn attend_sequence<T: Real>(&self, length: usize, qkv: &[T], probabilities: &mut [T], out: &mut [T]) {
        let a = &self.architecture;
        let scale = T::of(1.0 / (a.head_size as f64).sqrt());
        let strip = Layout::rows_apart(length, a.head_size, a.qkv_width());
        let full = Layout::packed(length, length);
        for (h, p) in probabilities.chunks_exact_mut(length * length).enumerate() {
            let at = self.head_places(h);
            let keys = (&qkv[at.key..], strip.t());
            gemm(scale, (&qkv[at.query..], strip), keys, T::zero(), (p, full));
            for (t, row) in p.chunks_exact_mut(length).enumerate() {
                let (seen, unseen) = row.split_at_mut(t + 1);
                softmax(seen);
                unseen.fill(T::zero());
            }
            let out = (&mut out[at.output..], Layout::rows_apart(length, a.head_size, a.query_width()));
            gemm(T::one(), (p, full), (&qkv[at.value..], strip), T::zero(), out);
        }
    }

    /// Places of head `h`.
    pub(super) fn head_places(&self, h: usize) -> HeadPlaces {
        let a = &self.architecture;
        let group = h * a.sizes.kv_heads / a.sizes.heads;
        let key = a.query_width() + group * a.head_size;
        HeadPlaces { query: h * a.head_size, key, value: key + a.key_width(), output: h * a.head_size }
    }

    /// Adds the derivative in turned queries, keys and values to `d_qkv`, given that in the heads' outputs.
    pub(super) fn attend_backward<T: Real>(
        &self,
        batch: &Batch,
        c: &LayerCache<T>,
        d_heads: &[T],
        d_qkv: &mut [T],
        threads: usize,
    ) {
        type Job<'a, T> = ((((&'a [T], &'a [T]), &'a [T]), &'a mut [T]), &'a usize);
        let a = &self.architecture;
        let lengths = &batch.lengths;
        let jobs = cut(lengths, &c.qkv, |l| l * a.qkv_width())
            .into_iter()
            .zip(cut(lengths, &c.probabilities, |l| l * l * a.sizes.heads))
            .zip(cut(lengths, d_heads, |l| l * a.query_width()))
            .zip(cut_mut(lengths, d_qkv, |l| l * a.qkv_width()))
            .zip(lengths)
            .collect();
        side_by_side(threads, jobs, |((((qkv, p), d_out), d_qkv), &length): Job<T>| {
            self.attend_sequence_backward(length, (qkv, p, d_out), d_qkv);
        });
    }

    fn attend_sequence_backward<T: Real>(
        &self,
        length: usize,
        (qkv, probabilities, d_out): (&[T], &[T], &[T]),
        d_qkv: &mut [T],
    ) {
        let a = &self.architecture;
        let scale = T::of(1.0 / (a.head_size as f64).sqrt());
        let strip = Layout::rows_apart(length, a.head_size, a.qkv_width());
        let out = Layout::rows_apart(length, a.head_size, a.query_width());
        let full = Layout::packed(length, length);
        let mut dp = vec![T::zero(); length * length];
        for (h, p) in probabilities.chunks_exact(length * length).enumerate() {
            let at = self.head_places(h);
            let d_out = &d_out[at.output..];
            // O = P V
            gemm(T::one(), (p, full.t()), (d_out, out), T::one(), (&mut d_qkv[at.value..], strip));
            gemm(T::one(), (d_out, out), (&qkv[at.value..], strip.t()), T::zero(), (&mut dp, full));
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
            gemm(scale, (&dp, full), (&qkv[at.key..], strip), T::one(), (&mut d_qkv[at.query..], strip));
            gemm(scale, (&dp, full.t()), (&qkv[at.query..], strip), T::one(), (&mut d_qkv[at.key..], strip));
        }
    }
}
