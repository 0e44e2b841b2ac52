//! The loss, its gradient and its curvature. The head takes a chunk of rows at a time, since the logits of all rows would be
//! the largest list of a batch under a large vocabulary.

use std::ops::Range;

use super::{
    Batch, Decoder, Weights, Workspace,
    kernels::{
        Engine, Layout, Real, cross_entropy, linear, linear_backward,
        product::{BLOCKED_ABOVE, gemm_on},
        side_by_side, softmax,
    },
    workspace::sized,
};

/// Logits of a chunk, 16 MiB of f32.
const LOGITS_AT_ONCE: usize = 1 << 22;
/// Rows of a chunk whatever the vocabulary. Each chunk reads the head's matrix twice and its derivative once more than the whole
/// would: under a vocabulary of 49,152 chunks of 256 rows take 3 % more time for the head than one of 1,024, of 64 rows 25 %.
const ROWS_AT_ONCE: usize = 256;

/// What a decoder says of one row's target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Cross-entropy, in nats.
    pub loss: f64,
    /// Whether no other token has a larger logit.
    pub is_likeliest: bool,
}

/// Number of chunks of at most `at_once` rows. None is so small that [`linear`] would sum it in another order than the whole, so the
/// numbers of a row do not depend on the chunks; where both cannot be had, chunks are larger.
fn count(rows: usize, at_once: usize) -> usize {
    rows.div_ceil(at_once).min(rows / (BLOCKED_ABOVE + 1)).max(usize::from(rows > 0))
}

/// The chunks, of about equal size.
fn chunks(rows: usize, at_once: usize) -> impl Iterator<Item = Range<usize>> {
    let count = count(rows, at_once);
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}

/// Rows of the largest chunk.
pub(super) fn largest_chunk(rows: usize, at_once: usize) -> usize {
    rows.div_ceil(count(rows, at_once).max(1))
}

impl Decoder {
    /// Rows whose logits are held at once.
    pub(super) fn rows_at_once(&self) -> usize {
        (LOGITS_AT_ONCE / self.architecture.vocabulary).max(ROWS_AT_ONCE)
    }

    /// Logits of normed rows, rows × vocabulary, by the head's matrix.
    pub(super) fn head<'l, T: Real>(
        &self,
        matrix: &[T],
        rows: &[T],
        logits: &'l mut Vec<T>,
        engine: &Engine,
    ) -> &'l mut [T] {
        let (width, vocabulary) = (self.architecture.sizes.width, self.architecture.vocabulary);
        let m = rows.len() / width;
        let logits = sized(logits, m * vocabulary);
        linear(engine, rows, matrix, logits, (m, width, vocabulary));
        logits
    }

    /// Logits of the batch's rows, row-major rows × vocabulary, all at once.
    pub fn logits<'w, 'y, T: Real>(
        &self,
        y: impl Into<Weights<'y, T>>,
        batch: &Batch,
        w: &'w mut Workspace<T>,
    ) -> &'w [T] {
        let y = y.into();
        self.forward(y, batch, self.architecture.sizes.layers, w);
        let mut room = Vec::new();
        self.head(y.get(&self.places.head, &mut room), &w.head_input, &mut w.logits, &w.engine)
    }

    /// The loss of each row, and whether its target is the likeliest token.
    pub fn predictions<'y, T: Real>(
        &self,
        y: impl Into<Weights<'y, T>>,
        batch: &Batch,
        w: &mut Workspace<T>,
    ) -> Vec<Prediction> {
        let (y, a) = (y.into(), &self.architecture);
        self.forward(y, batch, a.sizes.layers, w);
        let mut room = Vec::new();
        let matrix = y.get(&self.places.head, &mut room);
        let mut out = vec![Prediction::default(); batch.rows.len()];
        for rows in chunks(out.len(), w.rows_at_once) {
            let input = &w.head_input[rows.start * a.sizes.width..rows.end * a.sizes.width];
            let logits = self.head(matrix, input, &mut w.logits, &w.engine);
            let each = logits.chunks_exact_mut(a.vocabulary).zip(&batch.targets[rows.clone()]);
            let jobs = each.zip(&mut out[rows]).collect();
            side_by_side(
                w.engine.threads,
                jobs,
                |((row, &target), out): ((&mut [T], &u32), &mut Prediction)| {
                    out.is_likeliest = row.iter().all(|&a| a <= row[target as usize]);
                    out.loss = cross_entropy(row, target);
                },
            );
        }
        out
    }

    /// Cross-entropy of each row, in nats.
    pub fn row_losses<'y, T: Real>(
        &self,
        y: impl Into<Weights<'y, T>>,
        batch: &Batch,
        w: &mut Workspace<T>,
    ) -> Vec<f64> {
        self.predictions(y, batch, w).into_iter().map(|row| row.loss).collect()
    }

    /// Sum of the rows' cross-entropies; adds `scale` times its gradient to `gradient`, a list of the trained part.
    pub fn loss_gradient<'y, T: Real>(
        &self,
        y: impl Into<Weights<'y, T>>,
        batch: &Batch,
        scale: f64,
        gradient: &mut [T],
        w: &mut Workspace<T>,
    ) -> f64 {
        let y = y.into();
        self.forward(y, batch, self.lowest_trained(y), w);
        let scale = T::of(scale);
        let mut losses = vec![0.0; batch.rows.len()];
        self.through_head(y, batch, gradient, w, |_, rows, logits, engine| {
            let each =
                logits.chunks_exact_mut(self.architecture.vocabulary).zip(&batch.targets[rows.clone()]);
            let jobs = each.zip(&mut losses[rows]).collect();
            side_by_side(engine.threads, jobs, |((row, &target), loss): ((&mut [T], &u32), &mut f64)| {
                *loss = cross_entropy(row, target);
                // d CE / d logits = softmax − indicator of the target
                row[target as usize] -= T::one();
                for a in row {
                    *a *= scale;
                }
            });
        });
        losses.iter().sum()
    }

    /// Adds `scale` times the Gauss–Newton product Σ_rows Jᵀ(diag π − ππᵀ)J v to `out`; J v is a central difference
    /// of the logits with the displacement `h v`. J is the derivative in the trained part; `v` and `out` are lists of it.
    ///
    /// With r₊ and r₋ what the head's matrix W is applied to at the displaced points, and V the part of `v` at W where W is trained,
    /// the difference is W (r₊ − r₋)/2h + V (r₊ + r₋)/2, without the rounding of two sets of logits that are nearly equal.
    #[expect(clippy::too_many_arguments, reason = "a product with all its settings")]
    pub fn gauss_newton<'y, T: Real>(
        &self,
        y: impl Into<Weights<'y, T>>,
        v: &[T],
        h: f64,
        batch: &Batch,
        scale: f64,
        out: &mut [T],
        w: &mut Workspace<T>,
    ) {
        let y = y.into();
        let (width, vocabulary) = (self.architecture.sizes.width, self.architecture.vocabulary);
        let [mut slope, mut mean] = [T::of(h), T::of(-h)].map(|step| {
            let mut room = Vec::new();
            self.forward(y.along(step, v, &mut room), batch, self.architecture.sizes.layers, w);
            std::mem::take(&mut w.head_input)
        });
        let (inverse, half) = (T::of(0.5 / h), T::of(0.5));
        for (forth, back) in slope.iter_mut().zip(&mut mean) {
            (*forth, *back) = ((*forth - *back) * inverse, (*forth + *back) * half);
        }
        self.forward(y, batch, self.lowest_trained(y), w);
        let scale = T::of(scale);
        let head = y.place(&self.places.head).map(|place| &v[place]);
        let mut tangent = Vec::new();
        self.through_head(y, batch, out, w, |matrix, rows, logits, engine| {
            let place = rows.start * width..rows.end * width;
            let tangent = self.head(matrix, &slope[place.clone()], &mut tangent, engine);
            if let Some(head) = head {
                let moved = (head, Layout::packed(vocabulary, width).t());
                let (narrow, wide) =
                    (Layout::packed(rows.len(), width), Layout::packed(rows.len(), vocabulary));
                gemm_on(engine, T::one(), (&mean[place], narrow), moved, T::one(), (&mut *tangent, wide));
            }
            let jobs = logits.chunks_exact_mut(vocabulary).zip(tangent.chunks_exact(vocabulary)).collect();
            side_by_side(engine.threads, jobs, |(row, tangent): (&mut [T], &[T])| {
                softmax(row);
                let mean = row.iter().zip(tangent).fold(T::zero(), |s, (&p, &t)| s + p * t);
                for (p, &t) in row.iter_mut().zip(tangent) {
                    *p *= (t - mean) * scale;
                }
            });
        });
    }

    /// The way back from the loss, after [`Decoder::forward`] has kept what it needs: chunk by chunk `turn` is given the head's
    /// matrix, the rows and their logits, which it turns into d loss / d logits, and where products are made. Adds the gradient
    /// to `g`.
    fn through_head<T: Real>(
        &self,
        y: Weights<T>,
        batch: &Batch,
        g: &mut [T],
        w: &mut Workspace<T>,
        mut turn: impl FnMut(&[T], Range<usize>, &mut [T], &Engine),
    ) {
        let (width, vocabulary) = (self.architecture.sizes.width, self.architecture.vocabulary);
        let (m, engine) = (batch.rows.len(), &w.engine);
        let mut d_input = vec![T::zero(); m * width];
        let mut room = Vec::new();
        let matrix = y.get(&self.places.head, &mut room);
        for rows in chunks(m, w.rows_at_once) {
            let place = rows.start * width..rows.end * width;
            let input = &w.head_input[place.clone()];
            let logits = self.head(matrix, input, &mut w.logits, engine);
            turn(matrix, rows.clone(), logits, engine);
            linear_backward(
                engine,
                (input, matrix, logits),
                Some((&mut d_input[place], T::zero())),
                y.place(&self.places.head).map(|place| &mut g[place]),
                (rows.len(), width, vocabulary),
            );
        }
        drop(room);
        self.backward(y, batch, d_input, g, w);
    }
}

#[cfg(test)]
mod tests;
