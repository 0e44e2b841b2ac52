//! Products of rows of a dense matrix, wherever they stand, with few columns.
//!
//! A batch takes rows from all over the matrix. These kernels read each row where it stands, four rows and two columns at once
//! so that a number that was read is used several times, with the widest instructions of the processor.

#![expect(clippy::inline_always, reason = "what is not inlined is compiled for the least processor")]

use pulp::{Arch, Simd, WithSimd};

/// sums[i][c] = ⟨row i, weights c⟩ with rows and the lists of weights `columns` long.
pub(super) fn times<'a>(
    row: impl Fn(usize) -> &'a [f64],
    columns: usize,
    weights: &[f64],
    sums: &mut [f64],
    outputs: usize,
) {
    Arch::new().dispatch(Times { row, columns, weights, sums, outputs });
}

/// Adds Σ_i numbers[i][c]·(row i) to the weights c.
pub(super) fn transposed_times<'a>(
    row: impl Fn(usize) -> &'a [f64],
    columns: usize,
    numbers: &[f64],
    weights: &mut [f64],
    outputs: usize,
) {
    Arch::new().dispatch(TransposedTimes { row, columns, numbers, weights, outputs });
}

struct Times<'s, F> {
    row: F,
    columns: usize,
    weights: &'s [f64],
    sums: &'s mut [f64],
    outputs: usize,
}

impl<'a, F: Fn(usize) -> &'a [f64]> WithSimd for Times<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { row, columns, weights, sums, outputs } = self;
        let weights = |c: usize| &weights[c * columns..(c + 1) * columns];
        let count = sums.len() / outputs;
        let mut i = 0;
        while i + 4 <= count {
            let rows = [row(i), row(i + 1), row(i + 2), row(i + 3)];
            let sums = &mut sums[i * outputs..(i + 4) * outputs];
            let mut c = 0;
            while c + 2 <= outputs {
                let block = dots(simd, rows, [weights(c), weights(c + 1)]);
                for (r, block) in block.iter().enumerate() {
                    sums[r * outputs + c] = block[0];
                    sums[r * outputs + c + 1] = block[1];
                }
                c += 2;
            }
            if c < outputs {
                for (r, block) in dots(simd, rows, [weights(c)]).iter().enumerate() {
                    sums[r * outputs + c] = block[0];
                }
            }
            i += 4;
        }
        for i in i..count {
            for c in 0..outputs {
                let [[sum]] = dots(simd, [row(i)], [weights(c)]);
                sums[i * outputs + c] = sum;
            }
        }
    }
}

struct TransposedTimes<'s, F> {
    row: F,
    columns: usize,
    numbers: &'s [f64],
    weights: &'s mut [f64],
    outputs: usize,
}

impl<'a, F: Fn(usize) -> &'a [f64]> WithSimd for TransposedTimes<'_, F> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { row, columns, numbers, weights, outputs } = self;
        let count = numbers.len() / outputs;
        let mut i = 0;
        while i + 4 <= count {
            let rows = [row(i), row(i + 1), row(i + 2), row(i + 3)];
            for (c, weights) in weights.chunks_exact_mut(columns).enumerate() {
                let number = |r: usize| numbers[(i + r) * outputs + c];
                add(simd, rows, [number(0), number(1), number(2), number(3)], weights);
            }
            i += 4;
        }
        for i in i..count {
            for (c, weights) in weights.chunks_exact_mut(columns).enumerate() {
                add(simd, [row(i)], [numbers[i * outputs + c]], weights);
            }
        }
    }
}

// Loops by index below: a closure or an adapter of the standard library would be compiled for the least processor.

/// ⟨a_r, b_c⟩ for every pair; all lists of one length.
#[inline(always)]
fn dots<S: Simd, const R: usize, const C: usize>(simd: S, a: [&[f64]; R], b: [&[f64]; C]) -> [[f64; C]; R] {
    let (a, a_rest) = split::<S, R>(a);
    let (b, b_rest) = split::<S, C>(b);
    let len = a[0].len();
    let mut sums = [[simd.splat_f64s(0.0); C]; R];
    let mut wide = [simd.splat_f64s(0.0); C];
    for k in 0..len {
        for c in 0..C {
            wide[c] = b[c][k];
        }
        for r in 0..R {
            let entry = a[r][k];
            for c in 0..C {
                sums[r][c] = simd.mul_add_e_f64s(entry, wide[c], sums[r][c]);
            }
        }
    }
    if !a_rest[0].is_empty() {
        for c in 0..C {
            wide[c] = simd.partial_load_f64s(b_rest[c]);
        }
        for r in 0..R {
            let entry = simd.partial_load_f64s(a_rest[r]);
            for c in 0..C {
                sums[r][c] = simd.mul_add_e_f64s(entry, wide[c], sums[r][c]);
            }
        }
    }
    let mut out = [[0.0; C]; R];
    for r in 0..R {
        for c in 0..C {
            out[r][c] = simd.reduce_sum_f64s(sums[r][c]);
        }
    }
    out
}

/// total += Σ_r factor_r a_r; all lists of one length.
#[inline(always)]
fn add<S: Simd, const R: usize>(simd: S, a: [&[f64]; R], factors: [f64; R], total: &mut [f64]) {
    let (total, total_rest) = S::as_mut_simd_f64s(total);
    let (a, a_rest) = split::<S, R>(a);
    let mut wide = [simd.splat_f64s(0.0); R];
    for r in 0..R {
        wide[r] = simd.splat_f64s(factors[r]);
    }
    for k in 0..total.len() {
        let mut sum = total[k];
        for r in 0..R {
            sum = simd.mul_add_e_f64s(a[r][k], wide[r], sum);
        }
        total[k] = sum;
    }
    if !total_rest.is_empty() {
        let mut sum = simd.partial_load_f64s(total_rest);
        for r in 0..R {
            sum = simd.mul_add_e_f64s(simd.partial_load_f64s(a_rest[r]), wide[r], sum);
        }
        simd.partial_store_f64s(total_rest, sum);
    }
}

/// Lists of one length as wide numbers, and what is left of each.
#[inline(always)]
fn split<S: Simd, const N: usize>(lists: [&[f64]; N]) -> ([&[S::f64s]; N], [&[f64]; N]) {
    let (mut wide, mut rest): ([&[S::f64s]; N], [&[f64]; N]) = ([&[]; N], [&[]; N]);
    let len = S::as_simd_f64s(lists[0]).0.len();
    for n in 0..N {
        let (list, left) = S::as_simd_f64s(lists[n]);
        // one length for all of them: no bound is checked in the loops
        (wide[n], rest[n]) = (&list[..len], left);
    }
    (wide, rest)
}
