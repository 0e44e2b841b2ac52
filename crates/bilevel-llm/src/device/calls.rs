//! The calls of CUDA for which Rust cannot answer; all others are safe ones of `cudarc`.

use cudarc::{
    cublas::{CudaBlas, Gemm, GemmConfig, result::CublasError, sys::cublasOperation_t},
    driver::{CudaView, CudaViewMut},
};

use crate::model::kernels::blas::Call;

/// Whether the libraries of the driver and of cuBLAS can be loaded. Without this question `cudarc` panics where one cannot.
#[expect(unsafe_code, reason = "loading a library runs its code")]
pub fn libraries() -> (bool, bool) {
    // SAFETY: these are the vendor's libraries under the vendor's names, which the calls after this load in the same way; they may be
    // loaded at any time and from any thread.
    unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::cublas::sys::is_culib_present()) }
}

/// The numbers from the first to the last of a matrix by columns.
fn touched(rows: i32, columns: i32, leading: i32) -> usize {
    assert!(rows > 0 && columns > 0 && leading >= rows, "{rows} × {columns} with columns {leading} apart");
    (columns as usize - 1) * leading as usize + rows as usize
}

/// C ← α op(first) op(second) + β C on the device, in f32: cuBLAS rounds no factor to TF32 unless it is told to.
///
/// # Panics
/// When a view is shorter than what the call touches, or a dimension is not positive.
#[expect(unsafe_code, reason = "cuBLAS trusts its caller with sizes")]
pub fn gemm(
    blas: &CudaBlas,
    call: &Call,
    alpha: f32,
    first: &CudaView<'_, f32>,
    second: &CudaView<'_, f32>,
    beta: f32,
    c: &mut CudaViewMut<'_, f32>,
) -> Result<(), CublasError> {
    let Call { m, n, k, leading: [lda, ldb, ldc], .. } = *call;
    let swap = |is_transposed: bool, (rows, columns): (i32, i32)| {
        if is_transposed { (columns, rows) } else { (rows, columns) }
    };
    let (first_rows, first_columns) = swap(call.is_first_transposed, (m, k));
    let (second_rows, second_columns) = swap(call.is_second_transposed, (k, n));
    assert!(touched(first_rows, first_columns, lda) <= first.len(), "{call:?}");
    assert!(touched(second_rows, second_columns, ldb) <= second.len(), "{call:?}");
    assert!(touched(m, n, ldc) <= c.len(), "{call:?}");
    let operation = |is_transposed: bool| {
        if is_transposed { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N }
    };
    let (transa, transb) = (operation(call.is_first_transposed), operation(call.is_second_transposed));
    let settings = GemmConfig { transa, transb, m, n, k, alpha, lda, ldb, beta, ldc };
    // SAFETY: cuBLAS reads the columns of both operands and writes those of C, which the assertions above have found to lie inside the
    // three views; the views borrow their memory, C's alone, until the call is queued, and everything later in the same stream comes
    // after it.
    unsafe { blas.gemm(settings, first, second, c) }
}
