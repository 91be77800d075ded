//! The f32 product of one output tile, by the `gemm` crate on the calling thread.

use super::matrix::{MatMut, MatRef};

/// `C = scale A B`, or `C += scale A B` with `accumulate`, in f32 on the calling thread: for products too small to share.
///
/// # Panics
/// When the shapes do not fit.
pub fn product_here(c: MatMut, scale: f32, accumulate: bool, a: MatRef, b: MatRef) {
    assert_eq!((c.rows, c.cols, a.cols), (a.rows, b.cols, b.rows), "shapes of a product fit");
    // SAFETY: `c` holds its rows and is borrowed mutably.
    unsafe { product(c.data.as_mut_ptr(), c.stride, scale, accumulate, a, b) }
}

/// `C = scale A B` or `C += scale A B` for the tile of C at `c`, with rows `c_stride` apart.
///
/// # Safety
/// `c` is valid for writes, and for reads when `accumulate`, of `a.rows` rows of `b.cols` elements, and no other thread
/// uses them meanwhile.
pub(super) unsafe fn product(c: *mut f32, c_stride: usize, scale: f32, accumulate: bool, a: MatRef, b: MatRef) {
    let ((a_row, a_col), (b_row, b_col)) = (a.steps(), b.steps());
    debug_assert_eq!(a.cols, b.rows);
    let step = |step: usize| isize::try_from(step).expect("a step inside a slice fits");
    // SAFETY: `MatRef` holds every element it names, the caller vouches for `c`, and C is not among the inputs because
    // it is borrowed mutably.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            c,
            1,
            step(c_stride),
            accumulate,
            a.data.as_ptr(),
            step(a_col),
            step(a_row),
            b.data.as_ptr(),
            step(b_col),
            step(b_row),
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
