//! Matrix products over fixed tiles.

#![allow(unsafe_code)] // the product kernels take pointers with strides

use rayon::prelude::*;

use crate::device::Device;

/// A matrix operand by strides: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A dense row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transposed view.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn check(&self) {
        if self.rows > 0 && self.cols > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride;
            assert!(last < self.data.len(), "a matrix lies inside its buffer");
        }
    }
}

#[derive(Clone, Copy)]
struct Output(*mut f32);
// SAFETY: every job writes a tile of its own; see `matmul`.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

const TILE_ROWS: usize = 256;
const TILE_COLS: usize = 256;

/// `c = a b`, or `c += a b`, with `c` dense row-major `[a.rows, b.cols]`, on all threads.
pub(crate) fn matmul(device: &Device, c: &mut [f32], a: Mat<'_>, b: Mat<'_>, accumulate: bool) {
    let (m, n) = (a.rows, b.cols);
    assert!(a.cols == b.rows && c.len() == m * n, "shapes of a product agree");
    a.check();
    b.check();
    let output = Output(c.as_mut_ptr());
    let (tiles_m, tiles_n) = (m.div_ceil(TILE_ROWS), n.div_ceil(TILE_COLS));
    device.threads().install(|| {
        (0..tiles_m * tiles_n).into_par_iter().for_each(|tile| {
            let output = output;
            let (row, col) = (tile / tiles_n * TILE_ROWS, tile % tiles_n * TILE_COLS);
            let (rows, cols) = (TILE_ROWS.min(m - row), TILE_COLS.min(n - col));
            // SAFETY: the tile lies inside `c` and no other job's tile overlaps it; operands were checked.
            unsafe {
                gemm_tile(
                    output.0.add(row * n + col),
                    n,
                    (rows, cols),
                    Mat { data: &a.data[(row * a.row_stride).min(a.data.len())..], rows, ..a },
                    Mat { data: &b.data[(col * b.col_stride).min(b.data.len())..], cols, ..b },
                    (1.0, accumulate),
                );
            }
        });
    });
}

/// `c = scale a b` (or `+=`) on the calling thread, with rows of `c` `stride` elements apart.
pub(crate) fn matmul_small(c: &mut [f32], stride: usize, a: Mat<'_>, b: Mat<'_>, scale: f32, accumulate: bool) {
    let (m, n) = (a.rows, b.cols);
    assert!(a.cols == b.rows && m > 0 && n <= stride && (m - 1) * stride + n <= c.len(), "shapes of a product agree");
    a.check();
    b.check();
    // SAFETY: all three matrices lie inside their buffers.
    unsafe { gemm_tile(c.as_mut_ptr(), stride, (m, n), a, b, (scale, accumulate)) }
}

unsafe fn gemm_tile(
    c: *mut f32,
    stride: usize,
    (m, n): (usize, usize),
    a: Mat<'_>,
    b: Mat<'_>,
    (scale, accumulate): (f32, bool),
) {
    // SAFETY: the caller vouches for the bounds of `c`, and `Mat::check` for those of `a` and `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            a.cols,
            c,
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
