//! The arithmetic of the decoder: products, norms, rotary embedding, activations, each with its derivative.
//!
//! Matrices are row-major slices. Everything is generic over f32 (training) and f64 (derivative checks).

pub mod activation;
pub mod blas;
pub mod engine;
pub mod norm;
mod probe;
pub mod product;
#[cfg(test)]
pub(crate) mod test_device;
pub mod threads;

use nalgebra::RealField;

pub use activation::{cross_entropy, gelu, gelu_derivative, rotate, sigmoid, softmax};
pub use engine::{Accelerator, Device, Engine, Mismatch};
pub use norm::{NormCache, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
pub use product::{Layout, add_column_sums, add_to_rows, gemm, linear, linear_backward};
pub use threads::side_by_side;

/// A scalar of the model.
pub trait Real: RealField + Copy + Send + Sync {
    /// From a double.
    #[must_use]
    fn of(value: f64) -> Self;
    /// From a single.
    #[must_use]
    fn of_f32(value: f32) -> Self;
    /// To a double.
    fn to(self) -> f64;
    /// eˣ for x ≤ 0.
    #[must_use]
    fn exp_nonpositive(self) -> Self;
    /// The list, where it is one of singles.
    fn singles(list: &[Self]) -> Option<&[f32]>;
    /// The list to be written to, where it is one of singles.
    fn singles_mut(list: &mut [Self]) -> Option<&mut [f32]>;
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn of_f32(value: f32) -> Self {
        value.into()
    }
    fn to(self) -> f64 {
        self
    }
    fn exp_nonpositive(self) -> Self {
        self.exp()
    }
    fn singles(_list: &[Self]) -> Option<&[f32]> {
        None
    }
    fn singles_mut(_list: &mut [Self]) -> Option<&mut [f32]> {
        None
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn of_f32(value: f32) -> Self {
        value
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
    fn singles(list: &[Self]) -> Option<&[f32]> {
        Some(list)
    }
    fn singles_mut(list: &mut [Self]) -> Option<&mut [f32]> {
        Some(list)
    }
}
