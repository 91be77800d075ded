//! The f32 product of one output tile, by the `gemm` crate on the calling thread.

use super::matrix::MatRef;

/// Steps of `k` at a time, at most. The crate cuts longer products itself, at places that depend on all three sizes.
const SLICE: usize = 512;

/// `C = A B` or `C += A B` for the tile of C at `c`, with rows `c_stride` apart. The bits of a row of C depend on that
/// row of A and on B alone, not on how many rows A has.
///
/// # Safety
/// `c` is valid for writes, and for reads when `accumulate`, of `a.rows` rows of `b.cols` elements, and no other thread
/// uses them meanwhile.
pub(super) unsafe fn product(c: *mut f32, c_stride: usize, accumulate: bool, a: MatRef, b: MatRef) {
    if a.rows == 1 || a.rows * b.cols <= SMALL {
        // SAFETY: the caller vouches for C.
        return unsafe { small_product((c, c_stride), accumulate, a, b) };
    }
    // SAFETY: as above.
    unsafe { product_in_slices(c, c_stride, accumulate, a, b) };
}

/// Elements of C up to which the crate has ways of its own.
const SMALL: usize = 256;

/// The crate's ways for small products and for single rows add up in other orders. They are not taken for two rows or
/// more of an A that lies column by column.
///
/// # Safety
/// As for [`product`].
unsafe fn small_product((c, c_stride): (*mut f32, usize), accumulate: bool, a: MatRef, b: MatRef) {
    let rows = a.rows.max(2);
    let ((row_step, col_step), mut copy) = (a.steps(), vec![0.0; rows * a.cols]);
    for (i, value) in copy.iter_mut().enumerate() {
        *value = a.data.f32()[i % rows % a.rows * row_step + i / rows * col_step];
    }
    let mut sums = vec![0.0; rows * b.cols];
    for (i, sums) in sums.chunks_exact_mut(b.cols).enumerate().take(a.rows) {
        // SAFETY: the caller vouches for the row of C.
        let row = unsafe { std::slice::from_raw_parts(c.wrapping_add(i * c_stride), b.cols) };
        if accumulate {
            sums.copy_from_slice(row);
        }
    }
    let a_copy = MatRef::new(&copy, a.cols, rows).t();
    // SAFETY: `sums` holds the rows and no one else has it.
    unsafe { product_in_slices(sums.as_mut_ptr(), b.cols, accumulate, a_copy, b) };
    for (i, sums) in sums.chunks_exact(b.cols).enumerate().take(a.rows) {
        // SAFETY: the caller vouches for the row of C.
        unsafe { std::ptr::copy_nonoverlapping(sums.as_ptr(), c.wrapping_add(i * c_stride), b.cols) };
    }
}

/// As [`product`], a few steps of `k` at a time.
///
/// # Safety
/// As for [`product`].
unsafe fn product_in_slices(c: *mut f32, c_stride: usize, accumulate: bool, a: MatRef, b: MatRef) {
    let slice = a.cols.div_ceil(a.cols.div_ceil(SLICE));
    for step in (0..a.cols).step_by(slice) {
        let steps = step..a.cols.min(step + slice);
        let (a, b) = (a.t().some_rows(steps.clone()).t(), b.some_rows(steps));
        // SAFETY: the caller vouches for C.
        unsafe { product_of_slice(c, c_stride, accumulate || step > 0, a, b) };
    }
}

/// As [`product`], for a few steps of `k`.
///
/// # Safety
/// As for [`product`].
unsafe fn product_of_slice(c: *mut f32, c_stride: usize, accumulate: bool, a: MatRef, b: MatRef) {
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
            a.data.f32().as_ptr(),
            step(a_col),
            step(a_row),
            b.data.f32().as_ptr(),
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
