//! Operands as integers of 16 bits that share a scale, in the order in which microtiles read them (dynamic fixed point,
//! Das et al. 2018, "Mixed Precision Training of Convolutional Neural Networks using Integer Operations").
//!
//! Panels, blocks and tiles are those of `pack`. Up to eight blocks of a panel have two lines before them with the scales
//! of its 32 rows (columns of B), one for 256 steps of `k`: a number is its integer times its scale, and the largest of a
//! row has the integer [`LIMIT`].

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _CMP_GE_OQ, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtps_epi32, _mm512_loadu_ps, _mm512_mask_blend_epi16,
    _mm512_mask_cvtepi32_storeu_epi16, _mm512_maskz_div_ps, _mm512_max_epu32, _mm512_mul_ps, _mm512_packs_epi32,
    _mm512_permutexvar_epi64, _mm512_reduce_max_epu32, _mm512_set_epi64, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_store_ps, _mm512_store_si512, _mm512_storeu_ps,
};
use std::ops::Range;

use half::bf16;

use super::matrix::{Elements, Layout, MatRef};
use super::pack::{BLOCK_LINES, DEPTH, PANEL, Side, TILE_LINES, transpose};
use crate::element::{Element, Line};

/// Blocks that share scales.
pub(super) const MAX_BLOCKS: usize = 8;
/// Steps of `k` that share a scale: few enough for one large number to spoil few others and for sums to fit.
pub(super) const SHARED: usize = MAX_BLOCKS * DEPTH;
/// Lines of scales before the blocks that share them.
pub(super) const SCALE_LINES: usize = PANEL / Line::LEN;
/// The largest integer: a sum of 256 products of two of them is below 2^31.
const LIMIT: f32 = 2896.0;
const _: () = assert!(SHARED as u64 * LIMIT as u64 * LIMIT as u64 <= i32::MAX as u64);
/// Rows that hold no larger number are zeros: one part by it has to be finite.
const TINY: f32 = 1e-30;

/// Packs the rectangle `rows x steps` of `source` (rows by steps of `k`), whose corner is a multiple of 32 and of
/// [`SHARED`]: what panel `p` holds of the steps goes to `out + p * panel_lines` and on.
///
/// # Safety
/// The CPU has `avx512f`, `avx512bw`, `avx512dq` and `avx512vl`; `out` is valid for writing every block named above and the scales.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn pack(
    side: Side,
    source: MatRef,
    rows: Range<usize>,
    steps: Range<usize>,
    out: *mut Line,
    panel_lines: usize,
) {
    // SAFETY: the caller vouches for the memory.
    unsafe {
        match source.data {
            Elements::F32(data) => pack_of(data, side, source, rows, steps, (out, panel_lines)),
            Elements::Bf16(data) => pack_of(data, side, source, rows, steps, (out, panel_lines)),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack_of<T: Element>(
    data: &[T],
    side: Side,
    source: MatRef,
    rows: Range<usize>,
    steps: Range<usize>,
    (out, panel_lines): (*mut Line, usize),
) {
    let (row_step, col_step) = source.steps();
    for row in (rows.start..rows.end.next_multiple_of(PANEL)).step_by(16) {
        let mut to = out.wrapping_add((row - rows.start) / PANEL * panel_lines);
        for step in steps.clone().step_by(SHARED) {
            let part = Part {
                corner: data.as_ptr().wrapping_add(row * row_step + step * col_step),
                layout: source.layout,
                stride: source.stride,
                num_rows: rows.end.saturating_sub(row).min(16),
                num_steps: SHARED.min(steps.end - step),
            };
            let upper = row % PANEL / 16;
            let blocks = to.wrapping_add(SCALE_LINES);
            // SAFETY: the part lies inside the matrix, and what it takes inside `out`, for which the caller vouches.
            unsafe {
                let (factors, scales) = part.scales();
                _mm512_store_ps(to.wrapping_add(upper).cast(), scales);
                part.pack(side, factors, blocks.wrapping_add(upper * TILE_LINES));
            }
            to = blocks.wrapping_add(part.num_steps.div_ceil(DEPTH) * BLOCK_LINES);
        }
    }
}

/// 16 rows, or fewer, and the steps that share their scales.
struct Part<T> {
    corner: *const T,
    layout: Layout,
    stride: usize,
    num_rows: usize,
    num_steps: usize,
}

/// The lanes below `count`.
#[inline]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { (1 << count) - 1 }
}

impl<T: Element> Part<T> {
    /// What the numbers of each row are multiplied with to become integers, and those to become numbers again.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn scales(&self) -> (__m512, __m512) {
        // As bits without a sign, numbers have their order, and what is not finite is the largest.
        // SAFETY: the caller vouches for the part.
        let largest = _mm512_castsi512_ps(unsafe { self.largest() });
        let usable = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(largest, _mm512_set1_ps(TINY));
        let limit = _mm512_set1_ps(LIMIT);
        let factors = _mm512_maskz_div_ps(usable, limit, largest);
        (factors, _mm512_mul_ps(largest, _mm512_set1_ps(1.0 / LIMIT)))
    }

    /// The largest number of each row as bits without a sign.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn largest(&self) -> __m512i {
        let sizes = _mm512_set1_epi32(0x7fff_ffff);
        let size = |values: __m512| _mm512_and_si512(_mm512_castps_si512(values), sizes);
        // SAFETY: the caller vouches for the part, of which nothing outside is read.
        unsafe {
            if self.layout == Layout::Transposed {
                let mut largest = _mm512_setzero_si512();
                for step in 0..self.num_steps {
                    let values = T::load(self.corner.wrapping_add(step * self.stride), first(self.num_rows));
                    largest = _mm512_max_epu32(largest, size(values));
                }
                return largest;
            }
            let mut of_rows = [0u32; 16];
            for (i, of_row) in of_rows.iter_mut().enumerate().take(self.num_rows) {
                let row = self.corner.wrapping_add(i * self.stride);
                let mut largest = _mm512_setzero_si512();
                for step in (0..self.num_steps).step_by(16) {
                    let values = T::load(row.wrapping_add(step), first(self.num_steps - step));
                    largest = _mm512_max_epu32(largest, size(values));
                }
                *of_row = _mm512_reduce_max_epu32(largest);
            }
            std::mem::transmute::<[u32; 16], __m512i>(of_rows)
        }
    }

    /// Writes one tile for every 32 steps, a block apart.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pack(&self, side: Side, factors: __m512, out: *mut Line) {
        let natural = matches!((side, self.layout), (Side::Left, Layout::Normal) | (Side::Right, Layout::Transposed));
        for step in (0..self.num_steps).step_by(DEPTH) {
            let num_steps = DEPTH.min(self.num_steps - step);
            // SAFETY: the caller vouches for the part and for `out`.
            unsafe {
                let lines = match self.layout {
                    Layout::Normal => self.rows_of_pairs(step, num_steps, factors),
                    Layout::Transposed => self.pairs_of_rows(step, num_steps, factors),
                };
                let lines = if natural { lines } else { transpose(lines) };
                let out = out.wrapping_add(step / DEPTH * BLOCK_LINES);
                for (i, line) in lines.into_iter().enumerate() {
                    _mm512_store_si512(out.wrapping_add(i).cast(), line);
                }
            }
        }
    }

    /// One vector for each row, holding its pairs of steps; steps are adjacent in memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn rows_of_pairs(&self, step: usize, num_steps: usize, factors: __m512) -> [__m512i; 16] {
        let mut of_rows = [0.0f32; 16];
        // SAFETY: the array holds a vector.
        unsafe { _mm512_storeu_ps(of_rows.as_mut_ptr(), factors) };
        // Packing takes the quarters of two vectors in turn.
        let order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
        let mut lines = [_mm512_setzero_si512(); 16];
        for (i, line) in lines.iter_mut().enumerate().take(self.num_rows) {
            let (row, factor) = (self.corner.wrapping_add(i * self.stride + step), _mm512_set1_ps(of_rows[i]));
            // SAFETY: reads the row's first `num_steps` elements and no others.
            let (low, high) = unsafe {
                (T::load(row, first(num_steps)), T::load(row.wrapping_add(16), first(num_steps.saturating_sub(16))))
            };
            let both = _mm512_packs_epi32(integers(low, factor), integers(high, factor));
            *line = _mm512_permutexvar_epi64(order, both);
        }
        lines
    }

    /// One vector for each pair of steps, holding the pairs of 16 rows; rows are adjacent in memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pairs_of_rows(&self, step: usize, num_steps: usize, factors: __m512) -> [__m512i; 16] {
        let mut lines = [_mm512_setzero_si512(); 16];
        for (pair, line) in lines.iter_mut().enumerate().take(num_steps.div_ceil(2)) {
            let even = self.corner.wrapping_add((step + 2 * pair) * self.stride);
            let num_odd = if 2 * pair + 1 < num_steps { self.num_rows } else { 0 };
            // SAFETY: reads the first rows of a step inside the matrix, none of one outside.
            let (even, odd) = unsafe {
                (T::load(even, first(self.num_rows)), T::load(even.wrapping_add(self.stride), first(num_odd)))
            };
            let odd = _mm512_slli_epi32::<16>(integers(odd, factors));
            *line = _mm512_mask_blend_epi16(0xaaaa_aaaa, integers(even, factors), odd);
        }
        lines
    }
}

/// The nearest integers to `values * factor`, ties to even.
#[inline]
#[target_feature(enable = "avx512f")]
fn integers(values: __m512, factor: __m512) -> __m512i {
    _mm512_cvtps_epi32(_mm512_mul_ps(values, factor))
}

/// As `pack::store_narrow`, on processors that round no bf16 themselves.
///
/// # Safety
/// As there, with the instructions of [`pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn store_narrow<const N: usize>(
    sums: &[[f32; N]; PANEL],
    to: (*mut bf16, usize),
    size: (usize, usize),
) {
    for (i, row) in sums.iter().enumerate().take(size.0) {
        let to = to.0.wrapping_byte_add(i * to.1);
        for (col, sums) in (0..size.1).step_by(16).zip(row.as_chunks::<16>().0) {
            // SAFETY: 16 sums, and as many elements of `to` as the caller vouches for.
            unsafe {
                let bits = _mm512_castps_si512(_mm512_loadu_ps(sums.as_ptr()));
                let is_odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
                let narrow = _mm512_srli_epi32::<16>(rounded);
                _mm512_mask_cvtepi32_storeu_epi16(to.wrapping_add(col).cast(), first(size.1 - col), narrow);
            }
        }
    }
}
