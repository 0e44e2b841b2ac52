//! Matrix products, on one thread or on several with the same numbers, or on a device.

use nalgebra::{Dyn, MatrixView, MatrixViewMut};

use super::{Engine, Real, threads::side_by_side};

/// A matrix inside a slice: rows, columns, and the distance of neighbours along each.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl Layout {
    /// Row-major without gaps.
    pub fn packed(rows: usize, cols: usize) -> Self {
        Self { rows, cols, row_stride: cols, col_stride: 1 }
    }
    /// Row-major with this distance between rows.
    pub fn rows_apart(rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { rows, cols, row_stride, col_stride: 1 }
    }
    /// The transpose of the same entries.
    #[must_use]
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}

/// nalgebra's own path up to this size reads strided views out of bounds; above it the product is blocked.
pub const BLOCKED_ABOVE: usize = 5;

fn view<T: Real>(s: &[T], l: Layout) -> MatrixView<'_, T, Dyn, Dyn, Dyn, Dyn> {
    MatrixView::from_slice_with_strides_generic(
        s,
        Dyn(l.rows),
        Dyn(l.cols),
        Dyn(l.row_stride),
        Dyn(l.col_stride),
    )
}

/// C ← α A B + β C.
pub fn gemm<T: Real>(
    alpha: T,
    (a, la): (&[T], Layout),
    (b, lb): (&[T], Layout),
    beta: T,
    (c, lc): (&mut [T], Layout),
) {
    if [la.rows, la.cols, lb.cols].iter().any(|&n| n <= BLOCKED_ABOVE) {
        for i in 0..la.rows {
            for j in 0..lb.cols {
                let sum = (0..la.cols).fold(T::zero(), |s, k| {
                    s + a[i * la.row_stride + k * la.col_stride] * b[k * lb.row_stride + j * lb.col_stride]
                });
                let c = &mut c[i * lc.row_stride + j * lc.col_stride];
                // β = 0 overwrites whatever stands there, NaN included
                *c = if beta == T::zero() { alpha * sum } else { alpha * sum + beta * *c };
            }
        }
        return;
    }
    let mut c: MatrixViewMut<'_, T, Dyn, Dyn, Dyn, Dyn> = MatrixViewMut::from_slice_with_strides_generic(
        c,
        Dyn(lc.rows),
        Dyn(lc.cols),
        Dyn(lc.row_stride),
        Dyn(lc.col_stride),
    );
    c.gemm(alpha, &view(a, la), &view(b, lb), beta);
}

/// A part of a product below this many multiplications costs less than starting a thread for it (some 20 µs).
const WORTH_A_THREAD: usize = 1 << 21;
/// Rows of a part: far above [`BLOCKED_ABOVE`], so that every part takes the path of the whole.
const ROWS_OF_A_PART: usize = 16;

/// How many parts `rows` rows of `work` multiplications in all are worth.
fn parts(threads: usize, rows: usize, work: usize) -> usize {
    threads.min(rows / ROWS_OF_A_PART).min(work / WORTH_A_THREAD).max(1)
}

/// [`gemm`] on a device, where the engine has one and the product is worth it; or with the rows of C dealt out to threads. An
/// entry of C is summed in the same order whatever the number of threads, so the result has the same bits.
pub fn gemm_on<T: Real>(
    engine: &Engine,
    alpha: T,
    (a, la): (&[T], Layout),
    (b, lb): (&[T], Layout),
    beta: T,
    (c, lc): (&mut [T], Layout),
) {
    if engine.on_device(alpha, (a, la), (b, lb), beta, (&mut *c, lc)) {
        return;
    }
    let parts = parts(engine.threads, la.rows, la.rows * la.cols * lb.cols);
    if parts == 1 {
        return gemm(alpha, (a, la), (b, lb), beta, (c, lc));
    }
    let mut jobs = Vec::with_capacity(parts);
    let (mut rest, mut first) = (c, 0);
    for part in 1..=parts {
        let end = part * la.rows / parts;
        let (mine, others) = rest.split_at_mut(((end - first) * lc.row_stride).min(rest.len()));
        jobs.push((first, end - first, mine));
        (rest, first) = (others, end);
    }
    side_by_side(engine.threads, jobs, |(first, rows, c)| {
        let a = &a[first * la.row_stride..];
        gemm(alpha, (a, Layout { rows, ..la }), (b, lb), beta, (c, Layout { rows, ..lc }));
    });
}

/// ⟨a, b⟩ in sixteen sums, which the processor adds side by side.
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    const LANES: usize = 16;
    let mut sums = [T::zero(); LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a.remainder().iter().zip(b.remainder()).fold(T::zero(), |s, (&a, &b)| s + a * b);
    for (a, b) in a.zip(b) {
        for ((s, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *s += a * b;
        }
    }
    sums.iter().fold(tail, |s, &a| s + a)
}

/// Y = X Wᵀ: X is rows × inputs, W outputs × inputs. A handful of rows goes row by row: reading W is then all the cost.
pub fn linear<T: Real>(
    engine: &Engine,
    x: &[T],
    w: &[T],
    y: &mut [T],
    (rows, inputs, outputs): (usize, usize, usize),
) {
    if rows > BLOCKED_ABOVE {
        let w = (w, Layout::packed(outputs, inputs).t());
        let y = (y, Layout::packed(rows, outputs));
        return gemm_on(engine, T::one(), (x, Layout::packed(rows, inputs)), w, T::zero(), y);
    }
    let parts = parts(engine.threads, outputs, outputs * inputs);
    for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs)) {
        let share = outputs.div_ceil(parts);
        let jobs = y.chunks_mut(share).zip(w.chunks(share * inputs)).collect();
        side_by_side(engine.threads, jobs, |(y, w): (&mut [T], &[T])| {
            for (y, w) in y.iter_mut().zip(w.chunks_exact(inputs)) {
                *y = dot(x, w);
            }
        });
    }
}

/// The derivative of [`linear`]: dX ← dY W + β dX where it is wanted, dW ← dW + dYᵀ X where it is.
pub fn linear_backward<T: Real>(
    engine: &Engine,
    (x, w, dy): (&[T], &[T], &[T]),
    dx: Option<(&mut [T], T)>,
    dw: Option<&mut [T]>,
    (rows, inputs, outputs): (usize, usize, usize),
) {
    let d = Layout::packed(rows, outputs);
    let xs = Layout::packed(rows, inputs);
    let ws = Layout::packed(outputs, inputs);
    if let Some((dx, beta)) = dx {
        gemm_on(engine, T::one(), (dy, d), (w, ws), beta, (dx, xs));
    }
    if let Some(dw) = dw {
        gemm_on(engine, T::one(), (dy, d.t()), (x, xs), T::one(), (dw, ws));
    }
}

/// Adds a bias to every row.
pub fn add_to_rows<T: Real>(y: &mut [T], bias: &[T]) {
    for row in y.chunks_exact_mut(bias.len()) {
        for (y, &b) in row.iter_mut().zip(bias) {
            *y += b;
        }
    }
}

/// The derivative of [`add_to_rows`] in the bias: db ← db + Σ_rows dY.
pub fn add_column_sums<T: Real>(dy: &[T], db: &mut [T]) {
    for row in dy.chunks_exact(db.len()) {
        for (b, &d) in db.iter_mut().zip(row) {
            *b += d;
        }
    }
}

#[cfg(test)]
mod tests {
    use bilevel::rng::Stream;

    use super::*;

    fn random(n: usize, purpose: u64) -> Vec<f32> {
        let mut stream = Stream::new(4, purpose);
        (0..n).map(|_| stream.normal() as f32).collect()
    }

    #[test]
    fn every_number_of_threads_gives_the_same_bits() {
        for (rows, inputs, outputs) in [(1, 1300, 2000), (3, 900, 2500), (67, 300, 700), (513, 260, 90)] {
            let (x, w) = (random(rows * inputs, 0), random(outputs * inputs, 1));
            let dy = random(rows * outputs, 2);
            let made = |threads| {
                let engine = Engine::threads(threads);
                let mut y = vec![0.0; rows * outputs];
                linear(&engine, &x, &w, &mut y, (rows, inputs, outputs));
                let (mut dx, mut dw) = (vec![0.5; rows * inputs], vec![0.25; outputs * inputs]);
                let dx_beta = Some((&mut dx[..], 0.0));
                linear_backward(&engine, (&x, &w, &dy), dx_beta, Some(&mut dw), (rows, inputs, outputs));
                (y, dx, dw)
            };
            let one = made(1);
            for threads in [2, 3, 7] {
                assert!(one == made(threads), "{rows} × {inputs} × {outputs}, {threads} threads");
            }
        }
    }

    #[test]
    fn few_rows_agree_with_many() {
        let (inputs, outputs) = (45, 19);
        let (x, w) = (random(8 * inputs, 0), random(outputs * inputs, 1));
        let mut many = vec![0.0; 8 * outputs];
        linear(&Engine::default(), &x, &w, &mut many, (8, inputs, outputs));
        for (x, many) in x.chunks_exact(inputs).zip(many.chunks_exact(outputs)) {
            let mut one = vec![0.0; outputs];
            linear(&Engine::default(), x, &w, &mut one, (1, inputs, outputs));
            for (a, b) in one.iter().zip(many) {
                // 45 products of order 1, each rounded to 2^-24
                assert!((a - b).abs() < 2e-5, "{a} {b}");
            }
        }
    }
}
