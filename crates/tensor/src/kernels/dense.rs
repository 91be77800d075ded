//! The f32 product of one output tile, by the `gemm` crate on the calling thread.

use super::matrix::MatRef;

/// `C = A B` or `C += A B` for the tile of C at `c`, with rows `c_stride` apart.
///
/// # Safety
/// `c` is valid for writes, and for reads when `accumulate`, of `a.rows` rows of `b.cols` elements, and no other thread
/// uses them meanwhile.
pub(super) unsafe fn product(c: *mut f32, c_stride: usize, accumulate: bool, a: MatRef, b: MatRef) {
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
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// As `kernels::spin`.
pub(super) fn spin(num_rounds: u64) -> u64 {
    const SIZE: usize = 192;
    let (a, mut c) = (vec![1.0f32; SIZE * SIZE], vec![0.0f32; SIZE * SIZE]);
    let operand = MatRef::new(&a, SIZE, SIZE);
    for _ in 0..num_rounds {
        // SAFETY: `c` holds the whole product and no one else has it.
        unsafe { product(c.as_mut_ptr(), SIZE, false, operand, operand) };
        std::hint::black_box(&mut c);
    }
    num_rounds * 2 * (SIZE * SIZE * SIZE) as u64
}
