//! Matrix products as BLAS wants them: column-major, with leading dimensions and letters for transposes.

use super::Layout;

/// The arguments of a `gemm` that makes our row-major C = A B.
///
/// What is row-major here is, read column by column, its transpose; so the call makes Cᵀ = Bᵀ Aᵀ, with B as its first operand and A as its
/// second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Whether the first operand (B) is transposed after it is read column by column.
    pub is_first_transposed: bool,
    /// Whether the second operand (A) is.
    pub is_second_transposed: bool,
    /// Rows of the result as it is read there: columns of C.
    pub m: i32,
    /// Columns of the result as it is read there: rows of C.
    pub n: i32,
    /// The dimension that is summed over.
    pub k: i32,
    /// Distance of neighbouring columns in the first operand, the second, and the result.
    pub leading: [i32; 3],
    /// Numbers from the first to the last that is touched in the first operand, the second, and the result.
    pub extents: [usize; 3],
    /// Whether the result has numbers between its columns that belong to others.
    pub has_gaps: bool,
}

/// How a matrix lies in memory.
struct Stored {
    /// Whether the columns, and not the rows, are without gaps.
    is_by_columns: bool,
    leading: i32,
    extent: usize,
}

impl Stored {
    /// `None` for what has gaps both ways, lies over itself, or is larger than BLAS can count.
    fn new(layout: Layout) -> Option<Self> {
        let rows_leading = |l: Layout| {
            let is_row_whole = l.cols <= 1 || l.col_stride == 1;
            let are_rows_apart = l.rows <= 1 || l.row_stride >= l.cols;
            let leading = if l.rows <= 1 { l.cols } else { l.row_stride };
            (is_row_whole && are_rows_apart).then_some(leading.max(1))
        };
        let (leading, is_by_columns) = match rows_leading(layout) {
            Some(leading) => (leading, false),
            None => (rows_leading(layout.t())?, true),
        };
        let last = |n: usize, stride: usize| n.checked_sub(1).map(|last| last * stride);
        let extent = match (last(layout.rows, layout.row_stride), last(layout.cols, layout.col_stride)) {
            (Some(row), Some(col)) => row + col + 1,
            _ => 0,
        };
        Some(Self { is_by_columns, leading: i32::try_from(leading).ok()?, extent })
    }
}

impl Call {
    /// The call for C = A B with these layouts; `None` where BLAS cannot express one of them, or C does not lie by rows.
    ///
    /// # Panics
    /// When the shapes do not match.
    pub fn new(a: Layout, b: Layout, c: Layout) -> Option<Self> {
        assert!((a.rows, a.cols, b.cols) == (c.rows, b.rows, c.cols), "{a:?} times {b:?} is not {c:?}");
        let (first, second, result) = (Stored::new(b)?, Stored::new(a)?, Stored::new(c)?);
        if result.is_by_columns {
            return None;
        }
        Some(Self {
            is_first_transposed: first.is_by_columns,
            is_second_transposed: second.is_by_columns,
            m: i32::try_from(c.cols).ok()?,
            n: i32::try_from(c.rows).ok()?,
            k: i32::try_from(a.cols).ok()?,
            leading: [first.leading, second.leading, result.leading],
            extents: [first.extent, second.extent, result.extent],
            has_gaps: result.extent != c.rows * c.cols,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bilevel::rng::Stream;

    use super::*;
    use crate::model::kernels::{gemm, probe::layouts};

    /// C ← α op(A) op(B) + β C as the BLAS standard defines it: every matrix by columns.
    pub fn reference(call: &Call, alpha: f32, first: &[f32], second: &[f32], beta: f32, c: &mut [f32]) {
        let [lda, ldb, ldc] = call.leading.map(|l| l as usize);
        let (m, n, k) = (call.m as usize, call.n as usize, call.k as usize);
        // what the standard asks of leading dimensions
        assert!(lda >= if call.is_first_transposed { k } else { m }.max(1));
        assert!(ldb >= if call.is_second_transposed { n } else { k }.max(1) && ldc >= m.max(1));
        for j in 0..n {
            for i in 0..m {
                let sum: f32 = (0..k)
                    .map(|l| {
                        let a = if call.is_first_transposed { l + i * lda } else { i + l * lda };
                        let b = if call.is_second_transposed { j + l * ldb } else { l + j * ldb };
                        first[a] * second[b]
                    })
                    .sum();
                let c = &mut c[i + j * ldc];
                *c = if beta == 0.0 { alpha * sum } else { alpha * sum + beta * *c };
            }
        }
    }

    #[test]
    fn a_column_major_product_with_these_arguments_is_our_product() {
        let mut stream = Stream::new(5, 0);
        let sizes = [1, 2, 3, 6, 17];
        for (m, k, n) in sizes.iter().flat_map(|&m| sizes.map(|k| sizes.map(|n| (m, k, n)))).flatten() {
            for (la, lb) in layouts(m, k).into_iter().flat_map(|la| layouts(k, n).map(|lb| (la, lb))) {
                for lc in &layouts(m, n)[..2] {
                    let call = Call::new(la, lb, *lc).unwrap();
                    let [first, second, end] = call.extents;
                    let mut random =
                        |len: usize| (0..len).map(|_| stream.normal() as f32).collect::<Vec<_>>();
                    // the last number of each list is touched, and none beyond
                    let (a, b, before) = (random(second), random(first), random(end));
                    for beta in [0.0, 1.0, -0.5] {
                        let (mut ours, mut theirs) = (before.clone(), before.clone());
                        gemm(0.75, (&a, la), (&b, lb), beta, (&mut ours, *lc));
                        reference(&call, 0.75, &b, &a, beta, &mut theirs);
                        for (x, y) in ours.iter().zip(&theirs) {
                            // two orders of at most 17 products of order 1, each rounded to 2^-24
                            assert!((x - y).abs() < 2e-5, "{call:?}: {x} {y}");
                        }
                    }
                    assert_eq!(call.has_gaps, end != m * n);
                }
            }
        }
    }

    #[test]
    fn what_blas_cannot_express_is_left_to_the_processor() {
        let packed = Layout::packed;
        let both_ways = Layout { rows: 4, cols: 3, row_stride: 10, col_stride: 2 };
        assert_eq!(Call::new(both_ways, packed(3, 2), packed(4, 2)), None);
        assert_eq!(Call::new(packed(4, 3), packed(3, 2), packed(2, 4).t()), None);
        let over_itself = Layout::rows_apart(4, 3, 2);
        assert_eq!(Call::new(over_itself, packed(3, 2), packed(4, 2)), None);
        let far = Layout::rows_apart(4, 3, 1 << 31);
        assert_eq!(Call::new(far, packed(3, 2), packed(4, 2)), None);
    }

    #[test]
    #[should_panic(expected = "is not")]
    fn shapes_that_do_not_match_are_a_mistake_of_the_caller() {
        Call::new(Layout::packed(4, 3), Layout::packed(2, 5), Layout::packed(4, 5));
    }
}
