//! RMSNorm (Zhang & Sennrich, arXiv 1910.07467) and LayerNorm (Ba et al., arXiv 1607.06450), row by row.

use super::Real;

/// What a norm keeps for its derivative.
#[derive(Clone, Debug)]
pub struct NormCache<T> {
    /// Mean of each row; RMSNorm has none.
    mean: Vec<T>,
    /// 1/rms of each row, or 1/deviation.
    scale: Vec<T>,
}

impl<T> Default for NormCache<T> {
    fn default() -> Self {
        Self { mean: Vec::new(), scale: Vec::new() }
    }
}

/// y = x · w / rms(x) row by row, with rms² = |x|²/width + ε.
pub fn rms_norm<T: Real>(x: &[T], w: &[T], epsilon: f64, y: &mut [T], cache: &mut NormCache<T>) {
    let width = w.len();
    cache.scale.resize(x.len() / width, T::zero());
    for ((x, y), scale) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(&mut cache.scale) {
        let square = x.iter().fold(T::zero(), |s, &a| s + a * a);
        *scale = T::one() / (square / T::of(width as f64) + T::of(epsilon)).sqrt();
        for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
            *y = x * *scale * w;
        }
    }
}

/// The derivative of [`rms_norm`]: with r = 1/rms, dx += r·(w∘dy) − x·r³·⟨w∘dy, x⟩/width, dw += Σ dy∘x·r.
pub fn rms_norm_backward<T: Real>(
    x: &[T],
    w: &[T],
    cache: &NormCache<T>,
    dy: &[T],
    dx: &mut [T],
    dw: &mut [T],
) {
    let width = w.len();
    for (((x, dy), dx), &r) in
        x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(&cache.scale)
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

/// y = w∘(x − mean)/deviation + b row by row, with deviation² = variance + ε.
pub fn layer_norm<T: Real>(
    x: &[T],
    (w, b): (&[T], &[T]),
    epsilon: f64,
    y: &mut [T],
    cache: &mut NormCache<T>,
) {
    let width = w.len();
    let inverse_width = T::of(1.0 / width as f64);
    cache.mean.resize(x.len() / width, T::zero());
    cache.scale.resize(x.len() / width, T::zero());
    let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
    for ((x, y), (mean, scale)) in rows.zip(cache.mean.iter_mut().zip(&mut cache.scale)) {
        *mean = x.iter().fold(T::zero(), |s, &a| s + a) * inverse_width;
        let square = x.iter().fold(T::zero(), |s, &a| s + (a - *mean) * (a - *mean));
        *scale = T::one() / (square * inverse_width + T::of(epsilon)).sqrt();
        for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(w).zip(b) {
            *y = (x - *mean) * *scale * w + b;
        }
    }
}

/// The derivative of [`layer_norm`]: with x̂ = (x − mean)·r, dx += r·(w∘dy − mean(w∘dy) − x̂·mean(w∘dy∘x̂)),
/// dw += Σ dy∘x̂, db += Σ dy.
pub fn layer_norm_backward<T: Real>(
    x: &[T],
    w: &[T],
    cache: &NormCache<T>,
    dy: &[T],
    dx: &mut [T],
    (dw, db): (&mut [T], &mut [T]),
) {
    let width = w.len();
    let inverse_width = T::of(1.0 / width as f64);
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
    for (((x, dy), dx), (&mean, &r)) in rows.zip(cache.mean.iter().zip(&cache.scale)) {
        let (mut sum, mut inner) = (T::zero(), T::zero());
        for ((((&x, &dy), &w), dw), db) in x.iter().zip(dy).zip(w).zip(dw.iter_mut()).zip(db.iter_mut()) {
            let normed = (x - mean) * r;
            sum += w * dy;
            inner += w * dy * normed;
            *dw += dy * normed;
            *db += dy;
        }
        let (sum, inner) = (sum * inverse_width, inner * inverse_width);
        for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(w) {
            *dx += r * (w * dy - sum - (x - mean) * r * inner);
        }
    }
}
