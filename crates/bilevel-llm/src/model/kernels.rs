//! The arithmetic of the decoder: products, norms, rotary embedding, each with its derivative.
//!
//! Matrices are row-major slices. Everything is generic over f32 (training) and f64 (derivative checks).

use nalgebra::{Dyn, MatrixView, MatrixViewMut, RealField};

/// A scalar of the model.
pub trait Real: RealField + Copy {
    /// From a double.
    #[must_use]
    fn of(value: f64) -> Self;
    /// To a double.
    fn to(self) -> f64;
    /// eˣ for x ≤ 0.
    #[must_use]
    fn exp_nonpositive(self) -> Self;
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn to(self) -> f64 {
        self
    }
    fn exp_nonpositive(self) -> Self {
        self.exp()
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn to(self) -> f64 {
        f64::from(self)
    }
    /// Branchless, so that loops over it vectorise: eˣ = 2ⁿ eᶠ with |f| ≤ ln 2 / 2 and the Taylor polynomial of
    /// degree 6 for eᶠ, whose remainder (ln 2 / 2)⁷/7! = 1.2e-7 is one unit in the last place.
    fn exp_nonpositive(self) -> Self {
        // adding 1.5·2²³ rounds to a whole number and leaves it in the low bits
        const ROUND: f32 = 12_582_912.0;
        let x = self.max(-87.0);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let f = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
        let p =
            1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
        f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
    }
}

/// A matrix inside a slice: rows, columns, and the distance of neighbours along each.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
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
const BLOCKED_ABOVE: usize = 5;

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

/// Y = X Wᵀ: X is rows × inputs, W outputs × inputs.
pub fn linear<T: Real>(x: &[T], w: &[T], y: &mut [T], rows: usize, inputs: usize, outputs: usize) {
    let w = (w, Layout::packed(outputs, inputs).t());
    gemm(T::one(), (x, Layout::packed(rows, inputs)), w, T::zero(), (y, Layout::packed(rows, outputs)));
}

/// The derivative of [`linear`]: dX ← dY W + β dX, dW ← dW + dYᵀ X.
#[expect(clippy::too_many_arguments, reason = "three matrices, two derivatives, three sizes")]
pub fn linear_backward<T: Real>(
    x: &[T],
    w: &[T],
    dy: &[T],
    dx: &mut [T],
    beta: T,
    dw: &mut [T],
    rows: usize,
    inputs: usize,
    outputs: usize,
) {
    let d = Layout::packed(rows, outputs);
    let xs = Layout::packed(rows, inputs);
    let ws = Layout::packed(outputs, inputs);
    gemm(T::one(), (dy, d), (w, ws), beta, (dx, xs));
    gemm(T::one(), (dy, d.t()), (x, xs), T::one(), (dw, ws));
}

const NORM_EPSILON: f64 = 1e-5;

/// y = x · w / rms(x) row by row; `scale` keeps 1/rms.
pub fn rms_norm<T: Real>(x: &[T], w: &[T], y: &mut [T], scale: &mut [T]) {
    let width = w.len();
    for ((x, y), scale) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(scale) {
        let square = x.iter().fold(T::zero(), |s, &a| s + a * a);
        *scale = T::one() / (square / T::of(width as f64) + T::of(NORM_EPSILON)).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
            *y = x * *scale * w;
        }
    }
}

/// The derivative of [`rms_norm`]: with r = 1/rms, dx += r·(w∘dy) − x·r³·⟨w∘dy, x⟩/width, dw += Σ dy∘x·r.
pub fn rms_norm_backward<T: Real>(x: &[T], w: &[T], scale: &[T], dy: &[T], dx: &mut [T], dw: &mut [T]) {
    let width = w.len();
    for (((x, dy), dx), &r) in
        x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(scale)
    {
        let mut inner = T::zero();
        for (((&x, &dy), &w), dw) in x.iter().zip(dy).zip(w).zip(dw.iter_mut()) {
            inner += w * dy * x;
            *dw += dy * x * r;
        }
        let along = inner * r * r * r / T::of(width as f64);
        for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(w) {
            *dx += r * w * dy - along * x;
        }
    }
}

/// Rotates the pairs (i, i + half) of one head by the angles of a position; `sign` −1 turns back, which is the
/// derivative, a rotation being orthogonal.
pub fn rotate<T: Real>(head: &mut [T], cos: &[T], sin: &[T], sign: T) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let s = s * sign;
        let turned = *a * c - *b * s;
        *b = *b * c + *a * s;
        *a = turned;
    }
}

/// Softmax in place.
pub fn softmax<T: Real>(row: &mut [T]) {
    let top = row.iter().fold(row[0], |m, &a| if a > m { a } else { m });
    let mut sum = T::zero();
    for a in row.iter_mut() {
        *a = (*a - top).exp_nonpositive();
    }
    for &a in row.iter() {
        sum += a;
    }
    let inverse = T::one() / sum;
    for a in row.iter_mut() {
        *a *= inverse;
    }
}

/// The logistic function, stable for both signs.
pub fn sigmoid<T: Real>(a: T) -> T {
    let e = (-a.abs()).exp_nonpositive();
    if a >= T::zero() { T::one() / (T::one() + e) } else { e / (T::one() + e) }
}
