//! Rotary embedding, softmax, cross-entropy and the nonlinear functions of feed-forward blocks.

use super::Real;

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

/// 2√(2/π), and the cubic term of the approximation (Hendrycks & Gimpel, arXiv 1606.08415, section 2).
const GELU: (f64, f64) = (1.595_769_121_605_730_9, 0.044_715);

/// The tanh approximation of GELU, ½x(1 + tanh(√(2/π)(x + 0.044715x³))), as x·σ(2√(2/π)(x + 0.044715x³)).
pub fn gelu<T: Real>(x: T) -> T {
    x * sigmoid(T::of(GELU.0) * (x + T::of(GELU.1) * x * x * x))
}

/// The derivative of [`gelu`].
pub fn gelu_derivative<T: Real>(x: T) -> T {
    let s = sigmoid(T::of(GELU.0) * (x + T::of(GELU.1) * x * x * x));
    s + x * s * (T::one() - s) * T::of(GELU.0) * (T::one() + T::of(3.0 * GELU.1) * x * x)
}

/// `−log softmax(row)[target]`; leaves the softmax in the row.
pub fn cross_entropy<T: Real>(row: &mut [T], target: u32) -> f64 {
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
