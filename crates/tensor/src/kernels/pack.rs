//! Operands in the order in which microtiles read them, rounded to bf16.
//!
//! A packed operand is a row of panels of 32 (rows of A, columns of B); a panel is a row of blocks of 32 steps of `k`; a
//! block is two tiles, one for each half of the panel; a tile is 16 cache lines of 16 pairs `(k, k + 1)`. In a tile of B a
//! line is one pair with its 16 columns; in a tile of A it is one row of A with its 16 pairs, or one pair with its 16 rows where
//! these are adjacent in memory and the microtile can read them so. What lies outside the matrix is zero.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, __mmask32, _mm512_castsi512_si256, _mm512_cvtne2ps_pbh, _mm512_inserti64x4,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi16, _mm512_maskz_loadu_epi16, _mm512_maskz_loadu_ps,
    _mm512_permutexvar_epi16, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_store_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;
use std::ops::Range;

use half::bf16;

use super::matrix::{Elements, Layout, MatRef};
use crate::element::Line;

/// Rows of A or columns of B in a panel.
pub(super) const PANEL: usize = 32;
/// Steps of `k` in a block.
pub(super) const DEPTH: usize = 32;
/// Bytes of a pair of numbers of 16 bits.
pub(super) const PAIR: usize = 4;
pub(super) const TILE_BYTES: usize = 1024;
pub(super) const BLOCK_BYTES: usize = 2 * TILE_BYTES;
pub(super) const TILE_LINES: usize = TILE_BYTES / 64;
pub(super) const BLOCK_LINES: usize = 2 * TILE_LINES;

/// What a line of a packed tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One of 16 rows, with its 16 pairs of steps.
    Rows,
    /// One of 16 pairs of steps, of 16 rows.
    Pairs,
}

/// Packs the rectangle `rows x steps` of `source` (rows by steps of `k`), whose corner is a multiple of 32 both ways:
/// panel `p` and block `q` of the rectangle go to `out + p * panel_lines + q * BLOCK_LINES`.
///
/// # Safety
/// The CPU has `avx512f`, `avx512bw` and `avx512bf16`; `out` is valid for writing every block named above.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn pack(
    order: Order,
    source: MatRef,
    rows: Range<usize>,
    steps: Range<usize>,
    out: *mut Line,
    panel_lines: usize,
) {
    let tile_at = |row: usize, step: usize| {
        let (row, block) = (row - rows.start, (step - steps.start) / DEPTH);
        out.wrapping_add(row / PANEL * panel_lines + block * BLOCK_LINES + row % PANEL / 16 * TILE_LINES)
    };
    let row_tiles = (rows.start..rows.end.next_multiple_of(PANEL)).step_by(16);
    let step_tiles = (steps.start..steps.end).step_by(DEPTH);
    // The inner loop runs along memory.
    match source.layout {
        Layout::Normal => {
            for row in row_tiles {
                for step in step_tiles.clone() {
                    // SAFETY: the tile lies inside `out`, for which the caller vouches.
                    unsafe { pack_tile(order, source, (row, rows.end), (step, steps.end), tile_at(row, step)) };
                }
            }
        }
        Layout::Transposed => {
            for step in step_tiles {
                for row in row_tiles.clone() {
                    // SAFETY: as above.
                    unsafe { pack_tile(order, source, (row, rows.end), (step, steps.end), tile_at(row, step)) };
                }
            }
        }
    }
}

/// Packs 16 rows and 32 steps from `(start, end)` both ways; what lies past an end is zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_tile(order: Order, source: MatRef, row: (usize, usize), step: (usize, usize), out: *mut Line) {
    // SAFETY: the caller vouches for the memory.
    unsafe {
        match source.data {
            Elements::F32(data) => pack_tile_of(data, order, source, row, step, out),
            Elements::Bf16(data) => pack_tile_of(data, order, source, row, step, out),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_tile_of<T: Packable>(
    data: &[T],
    order: Order,
    source: MatRef,
    row: (usize, usize),
    step: (usize, usize),
    out: *mut Line,
) {
    let (num_rows, num_steps) = (row.1.saturating_sub(row.0), step.1 - step.0);
    let (row_step, col_step) = source.steps();
    let corner = data.as_ptr().wrapping_add(row.0 * row_step + step.0 * col_step);
    // SAFETY: the tile's part inside the matrix starts at `corner`; the rest is not read.
    let lines = unsafe {
        match source.layout {
            Layout::Normal if num_rows >= 16 && num_steps >= DEPTH => rows_of_pairs(corner, source.stride, 16, DEPTH),
            Layout::Normal => rows_of_pairs(corner, source.stride, num_rows.min(16), num_steps.min(DEPTH)),
            Layout::Transposed if num_rows >= 16 && num_steps >= DEPTH => {
                pairs_of_rows(corner, source.stride, 16, DEPTH)
            }
            Layout::Transposed => pairs_of_rows(corner, source.stride, num_rows.min(16), num_steps.min(DEPTH)),
        }
    };
    let lines = match (order, source.layout) {
        (Order::Rows, Layout::Normal) | (Order::Pairs, Layout::Transposed) => lines,
        _ => transpose(lines),
    };
    for (i, line) in lines.into_iter().enumerate() {
        // SAFETY: one of the tile's 16 lines, aligned by its type.
        unsafe { _mm512_store_si512(out.wrapping_add(i).cast(), line) };
    }
}

/// One vector for each row, holding its pairs of steps; steps are adjacent in memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn rows_of_pairs<T: Packable>(
    corner: *const T,
    stride: usize,
    num_rows: usize,
    num_steps: usize,
) -> [__m512i; 16] {
    let mut lines = [_mm512_setzero_si512(); 16];
    for (i, line) in lines.iter_mut().enumerate().take(num_rows) {
        let row = corner.wrapping_add(i * stride);
        // SAFETY: reads the row's first `num_steps` elements and no others.
        *line = unsafe { T::along(row, num_steps) };
    }
    lines
}

/// One vector for each pair of steps, holding the pairs of 16 rows; rows are adjacent in memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pairs_of_rows<T: Packable>(
    corner: *const T,
    stride: usize,
    num_rows: usize,
    num_steps: usize,
) -> [__m512i; 16] {
    // SAFETY: the table holds 64 bytes.
    let interleave = unsafe { _mm512_loadu_si512(INTERLEAVE.as_ptr().cast()) };
    let mut lines = [_mm512_setzero_si512(); 16];
    for (pair, line) in lines.iter_mut().enumerate().take(num_steps.div_ceil(2)) {
        let even = corner.wrapping_add(2 * pair * stride);
        let num_odd = if 2 * pair + 1 < num_steps { num_rows } else { 0 };
        // SAFETY: reads the first `num_rows` elements of a step inside the matrix, none of one outside.
        let both = unsafe { T::across((even, num_rows), (even.wrapping_add(stride), num_odd)) };
        *line = _mm512_permutexvar_epi16(interleave, both);
    }
    lines
}

/// Takes the halves of a vector of 32 words in turn.
static INTERLEAVE: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    order
};

/// Rounds `size` rows and columns of sums, 32 at most, to bf16 at `to`; rows are so many bytes apart as each pair says.
///
/// # Safety
/// The CPU has the instructions of [`pack`]; `sums` is valid for reading 32 columns, and `to` for writing what `size` names.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn store_narrow(sums: (*const f32, usize), to: (*mut bf16, usize), size: (usize, usize)) {
    let mask: __mmask32 = if size.1 >= PANEL { !0 } else { (1 << size.1) - 1 };
    for i in 0..size.0 {
        let (from, to) = (sums.0.wrapping_byte_add(i * sums.1), to.0.wrapping_byte_add(i * to.1));
        // SAFETY: a row for which the caller vouches.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.wrapping_add(16)));
            _mm512_mask_storeu_epi16(to.cast(), mask, round(low, high));
        }
    }
}

/// What operands are made of.
trait Packable: Copy {
    /// The first `count` (32 at most are read) elements at `from` in bf16, then zeros.
    ///
    /// # Safety
    /// The CPU has the instructions of [`pack`]; the elements are valid for reading.
    unsafe fn along(from: *const Self, count: usize) -> __m512i;

    /// The first elements (16 at most are read) at each of two places, as many as its `count`, then zeros: in bf16, one
    /// after the other.
    ///
    /// # Safety
    /// As for [`Self::along`].
    unsafe fn across(first: (*const Self, usize), second: (*const Self, usize)) -> __m512i;
}

impl Packable for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn along(from: *const Self, count: usize) -> __m512i {
        // SAFETY: the caller vouches for `count` elements.
        unsafe { round(load(from, count), load(from.wrapping_add(16), count.saturating_sub(16))) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn across(first: (*const Self, usize), second: (*const Self, usize)) -> __m512i {
        // SAFETY: the caller vouches for the elements.
        unsafe { round(load(first.0, first.1), load(second.0, second.1)) }
    }
}

impl Packable for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn along(from: *const Self, count: usize) -> __m512i {
        // SAFETY: the caller vouches for the elements.
        unsafe { narrow(from, count) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn across(first: (*const Self, usize), second: (*const Self, usize)) -> __m512i {
        let mask = |count: usize| -> __mmask32 { if count >= 16 { 0xffff } else { (1 << count) - 1 } };
        // SAFETY: masked elements are not read.
        unsafe {
            let first = _mm512_maskz_loadu_epi16(mask(first.1), first.0.cast());
            let second = _mm512_maskz_loadu_epi16(mask(second.1), second.0.cast());
            _mm512_inserti64x4::<1>(first, _mm512_castsi512_si256(second))
        }
    }
}

/// The first `count` (32 at most are read) elements at `from`, then zeros.
///
/// # Safety
/// The CPU has `avx512f` and `avx512bw`; the elements are valid for reading.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn narrow(from: *const bf16, count: usize) -> __m512i {
    let mask: __mmask32 = if count >= 32 { !0 } else { (1 << count) - 1 };
    // SAFETY: masked elements are not read.
    unsafe { _mm512_maskz_loadu_epi16(mask, from.cast()) }
}

/// The first `count` (16 at most are read) elements at `from`, then zeros.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: *const f32, count: usize) -> __m512 {
    let mask: __mmask16 = if count >= 16 { !0 } else { (1 << count) - 1 };
    // SAFETY: masked elements are not read.
    unsafe { _mm512_maskz_loadu_ps(mask, from) }
}

/// 32 bf16 numbers: `low`, then `high`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn round(low: __m512, high: __m512) -> __m512i {
    // SAFETY: the vectors have the same size, and any bits are valid in both.
    unsafe { transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Transposes 16 x 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(v: [__m512i; 16]) -> [__m512i; 16] {
    let mut quads = v;
    for g in (0..16).step_by(4) {
        let [a, b, c, d] = [v[g], v[g + 1], v[g + 2], v[g + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        quads[g] = _mm512_unpacklo_epi64(ab_low, cd_low);
        quads[g + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        quads[g + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        quads[g + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    let mut out = v;
    for i in 0..4 {
        let [a, b, c, d] = [quads[i], quads[4 + i], quads[8 + i], quads[12 + i]];
        let (ab_even, ab_odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (cd_even, cd_odd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[i] = _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even);
        out[4 + i] = _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd);
        out[8 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even);
        out[12 + i] = _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd);
    }
    out
}
