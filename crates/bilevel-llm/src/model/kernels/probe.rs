//! Whether a device multiplies as the processor does.

use std::cmp::Ordering;

use bilevel::rng::Stream;

use super::{Layout, blas::Call, engine::Device, gemm};

/// A device's product is not the product.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// The device failed.
    #[error("it failed at the product of {rows} × {inner} and {inner} × {cols} matrices: {said}")]
    Failed {
        /// Rows of the product.
        rows: usize,
        /// What is summed over.
        inner: usize,
        /// Columns of the product.
        cols: usize,
        /// What the device said.
        said: String,
    },
    /// An entry is off by more than rounding explains.
    #[error(
        "an entry of the product of {rows} × {inner} and {inner} × {cols} matrices (β = {beta}, {arguments:?}) is {got} in place of {wanted}, and rounding to f32 explains a difference of {tolerance:.1e}"
    )]
    Differs {
        /// Rows of the product.
        rows: usize,
        /// What is summed over.
        inner: usize,
        /// Columns of the product.
        cols: usize,
        /// What C was multiplied with.
        beta: f32,
        /// How the device was called.
        arguments: Call,
        /// The device's number.
        got: f32,
        /// The processor's, in f64.
        wanted: f64,
        /// The most by which they may differ.
        tolerance: f64,
    },
    /// The device wrote where nothing was to be written.
    #[error(
        "it changed numbers between the rows of the {rows} × {cols} product ({arguments:?}), which belong to others"
    )]
    Overwrites {
        /// Rows of the product.
        rows: usize,
        /// Columns of the product.
        cols: usize,
        /// How the device was called.
        arguments: Call,
    },
}

/// Rows, inner dimension and columns: odd ones, one with a tile's size, and few rows. The inner dimensions are short enough for the
/// tolerance to tell f32 from numbers with shorter mantissas.
const SHAPES: [(usize, usize, usize); 4] = [(67, 45, 33), (64, 96, 128), (31, 7, 130), (129, 65, 1)];

/// Every way in which a rows × cols operand lies in our lists: without gaps, as a strip of a wider one, and both transposed.
pub(super) fn layouts(rows: usize, cols: usize) -> [Layout; 4] {
    [
        Layout::packed(rows, cols),
        Layout::rows_apart(rows, cols, cols + 5),
        Layout::packed(cols, rows).t(),
        Layout::rows_apart(cols, rows, rows + 3).t(),
    ]
}

/// Multiplies random matrices of every kind of layout on the device, and compares with the processor's product in f64.
///
/// An entry may differ by (k + 4)·u / (1 − (k + 4)·u) · (|α| Σ|a||b| + |β||c|) with u = 2⁻²⁴, which bounds the error of a sum of k products
/// in any order, with or without fused additions, times α, plus β times what was there (Higham, Accuracy and Stability of Numerical
/// Algorithms, §3.1). TF32 keeps 10 of the 23 bits of each factor, and is far outside.
///
/// # Errors
/// At the first product that differs, with its numbers.
pub fn probe(device: &dyn Device) -> Result<(), Mismatch> {
    let mut stream = Stream::new(0, 0);
    for (rows, inner, cols) in SHAPES {
        for la in layouts(rows, inner) {
            for lb in layouts(inner, cols) {
                for lc in &layouts(rows, cols)[..2] {
                    for beta in [0.0, 1.0] {
                        one(device, la, lb, *lc, beta, &mut stream)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn one(
    device: &dyn Device,
    la: Layout,
    lb: Layout,
    lc: Layout,
    beta: f32,
    stream: &mut Stream,
) -> Result<(), Mismatch> {
    const ALPHA: f32 = 0.75;
    const UNIT: f64 = 1.0 / (1 << 24) as f64;
    let (rows, inner, cols) = (la.rows, la.cols, lb.cols);
    let arguments = Call::new(la, lb, lc).expect("layouts of our own lists");
    let [first, second, end] = arguments.extents;
    let mut random = |len: usize| (0..len).map(|_| stream.normal() as f32).collect::<Vec<_>>();
    let (a, b, mut before) = (random(second), random(first), random(end));
    if beta == 0.0 {
        // nothing of what stands there may come through
        for i in 0..rows {
            before[i * lc.row_stride..][..cols].fill(f32::NAN);
        }
    }
    let mut got = before.clone();
    device.gemm(&arguments, ALPHA, &b, &a, beta, &mut got).map_err(|said| Mismatch::Failed {
        rows,
        inner,
        cols,
        said,
    })?;
    let in_doubles = |of: fn(f32) -> f64| {
        let wide = |list: &[f32]| list.iter().map(|&x| of(x)).collect::<Vec<f64>>();
        let mut c = wide(&before);
        gemm(f64::from(ALPHA), (&wide(&a), la), (&wide(&b), lb), f64::from(beta), (&mut c, lc));
        c
    };
    let wanted = in_doubles(f64::from);
    let sizes = in_doubles(|x| f64::from(x).abs());
    let share = (inner + 4) as f64 * UNIT / (1.0 - (inner + 4) as f64 * UNIT);
    let is_entry = |at: usize| at % lc.row_stride < cols;
    for (at, (&got, (&wanted, &size))) in got.iter().zip(wanted.iter().zip(&sizes)).enumerate() {
        let tolerance = share * size;
        if !is_entry(at) {
            if got.to_bits() != before[at].to_bits() {
                return Err(Mismatch::Overwrites { rows, cols, arguments });
            }
        } else if (f64::from(got) - wanted).abs().partial_cmp(&tolerance).is_none_or(Ordering::is_gt) {
            return Err(Mismatch::Differs { rows, inner, cols, beta, arguments, got, wanted, tolerance });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::{engine::Accelerator, test_device::Plain};

    fn refused(device: Plain) -> Mismatch {
        Accelerator::new(Box::new(device)).unwrap_err()
    }

    #[test]
    fn a_device_that_multiplies_is_taken() {
        assert_eq!(Accelerator::new(Box::new(Plain::good())).unwrap().name(), "plain");
    }

    #[test]
    fn factors_of_ten_bits_are_refused_with_the_numbers() {
        let to_tf32 = |x: f32| f32::from_bits((x.to_bits() + (1 << 12)) & !((1 << 13) - 1));
        let error = refused(Plain { factor: to_tf32, ..Plain::good() });
        let Mismatch::Differs { got, wanted, tolerance, .. } = error else { panic!("{error}") };
        assert!((f64::from(got) - wanted).abs() > tolerance && tolerance < 1e-4, "{error}");
        for part in ["67 × 45", "β = 0", "in place of", "explains"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn what_stood_there_before_is_neither_forgotten_nor_let_through_nor_touched() {
        let forgets = Plain { is_beta_forgotten: true, ..Plain::good() };
        assert!(matches!(refused(forgets), Mismatch::Differs { beta: 1.0, .. }));
        let spoils = Plain {
            result: |call, c| {
                if call.has_gaps {
                    c[call.m as usize] += 1.0;
                }
            },
            ..Plain::good()
        };
        assert!(matches!(refused(spoils), Mismatch::Overwrites { .. }));
        let not_a_number = Plain { result: |_, c| c[0] = f32::NAN, ..Plain::good() };
        assert!(matches!(refused(not_a_number), Mismatch::Differs { .. }));
    }
}
