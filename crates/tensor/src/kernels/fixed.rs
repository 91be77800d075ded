//! Operands as integers of 16 bits that share a scale, in the order in which microtiles read them (dynamic fixed point,
//! Das et al. 2018, "Mixed Precision Training of Convolutional Neural Networks using Integer Operations").
//!
//! Panels, blocks and tiles are those of `pack`. Up to eight blocks of a panel have two lines before them with the scales
//! of its 32 rows (columns of B), one for 256 steps of `k`: a number is its integer times its scale, and the largest of a
//! row has the integer [`LIMIT`].

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _CMP_GE_OQ, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_castsi512_si256, _mm512_cmp_ps_mask, _mm512_cvtepu16_epi32, _mm512_cvtps_epi32,
    _mm512_extracti64x4_epi64, _mm512_load_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_mask_blend_epi16,
    _mm512_mask_cvtepi32_storeu_epi16, _mm512_maskz_div_ps, _mm512_max_epu16, _mm512_max_epu32, _mm512_mul_ps,
    _mm512_packs_epi32, _mm512_permutexvar_epi64, _mm512_reduce_max_epu32, _mm512_set_epi64, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_store_ps,
    _mm512_store_si512,
};
use std::ops::Range;

use half::bf16;

use super::matrix::{Elements, Layout, MatRef};
use super::pack::{BLOCK_LINES, DEPTH, Order, PANEL, TILE_LINES, narrow, transpose};
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
    order: Order,
    source: MatRef,
    rows: Range<usize>,
    steps: Range<usize>,
    out: *mut Line,
    panel_lines: usize,
) {
    // SAFETY: the caller vouches for the memory.
    unsafe {
        match source.data {
            Elements::F32(data) => pack_of(data, order, source, rows, steps, (out, panel_lines)),
            Elements::Bf16(data) => pack_of(data, order, source, rows, steps, (out, panel_lines)),
        }
    }
}

/// Rows whose scales are found together: those of a tile where steps are adjacent in memory, else as many as leave the rest
/// of the first-level cache to the steps.
const GROUP: usize = 512;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn pack_of<T: Source>(
    data: &[T],
    order: Order,
    source: MatRef,
    rows: Range<usize>,
    steps: Range<usize>,
    (out, panel_lines): (*mut Line, usize),
) {
    let (row_step, col_step) = source.steps();
    let group = if source.layout == Layout::Normal { 16 } else { GROUP };
    let end = rows.end.next_multiple_of(PANEL);
    for row in (rows.start..end).step_by(group) {
        let mut before = 0;
        for step in steps.clone().step_by(SHARED) {
            let part = Part {
                corner: data.as_ptr().wrapping_add(row * row_step + step * col_step),
                layout: source.layout,
                stride: source.stride,
                num_rows: rows.end.saturating_sub(row).min(group),
                num_steps: SHARED.min(steps.end - step),
            };
            let tiles = (row - rows.start) / 16..(end.min(row + group) - rows.start) / 16;
            // SAFETY: the part lies inside the matrix, and what it takes inside `out`, for which the caller vouches.
            unsafe { part.pack(order, tiles, (out.wrapping_add(before), panel_lines)) };
            before += SCALE_LINES + part.num_steps.div_ceil(DEPTH) * BLOCK_LINES;
        }
    }
}

/// Some rows, and the steps that share their scales.
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

impl<T: Source> Part<T> {
    /// Packs the rows as `tiles` of 16, counted from the first of the panel at `out.0`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pack(&self, order: Order, tiles: Range<usize>, out: (*mut Line, usize)) {
        let panel_of = |tile: usize| out.0.wrapping_add(tile / 2 * out.1);
        let mut factors = [Line::ZERO; GROUP / 16];
        let factors = &mut factors[..tiles.len()];
        // SAFETY: the caller vouches for the part and for `out`.
        unsafe {
            self.find_largest(factors);
            for (factors, tile) in factors.iter_mut().zip(tiles.clone()) {
                let (factor, scale) = scales(_mm512_load_ps(factors.0.as_ptr()));
                _mm512_store_ps(factors.0.as_mut_ptr(), factor);
                _mm512_store_ps(panel_of(tile).wrapping_add(tile % 2).cast(), scale);
            }
            for step in (0..self.num_steps).step_by(DEPTH) {
                for (i, tile) in tiles.clone().enumerate() {
                    let at = SCALE_LINES + step / DEPTH * BLOCK_LINES + tile % 2 * TILE_LINES;
                    self.pack_tile(order, (16 * i, step), &factors[i], panel_of(tile).wrapping_add(at));
                }
            }
        }
    }

    /// Writes the size of each row's largest number to `largest`, which holds zeros, 16 rows to a line.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn find_largest(&self, largest: &mut [Line]) {
        // SAFETY: the caller vouches for the part.
        unsafe {
            if self.layout == Layout::Transposed {
                return T::largest_of_columns((self.corner, self.stride), (self.num_steps, self.num_rows), largest);
            }
            let of_rows = bytemuck::cast_slice_mut::<Line, f32>(largest).iter_mut();
            for (i, of_row) in of_rows.enumerate().take(self.num_rows) {
                *of_row = T::largest(self.at(i, 0), self.num_steps);
            }
        }
    }

    /// Packs 16 rows and 32 steps from `(row, step)` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pack_tile(&self, order: Order, from: (usize, usize), factors: &Line, out: *mut Line) {
        let size = (self.num_rows.saturating_sub(from.0).min(16), DEPTH.min(self.num_steps - from.1));
        // Sizes that the compiler knows spare it the masks.
        // SAFETY: the caller vouches for the part and for `out`.
        unsafe {
            let lines = match (self.layout, size) {
                (Layout::Normal, (16, DEPTH)) => self.rows_of_pairs(from, (16, DEPTH), factors),
                (Layout::Normal, size) => self.rows_of_pairs(from, size, factors),
                (Layout::Transposed, (16, DEPTH)) => self.pairs_of_rows(from, (16, DEPTH), factors),
                (Layout::Transposed, size) => self.pairs_of_rows(from, size, factors),
            };
            let is_natural =
                matches!((order, self.layout), (Order::Rows, Layout::Normal) | (Order::Pairs, Layout::Transposed));
            let lines = if is_natural { lines } else { transpose(lines) };
            for (i, line) in lines.into_iter().enumerate() {
                _mm512_store_si512(out.wrapping_add(i).cast(), line);
            }
        }
    }

    /// One vector for each row, holding its pairs of steps; steps are adjacent in memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn rows_of_pairs(
        &self,
        (row, step): (usize, usize),
        (num_rows, num_steps): (usize, usize),
        factors: &Line,
    ) -> [__m512i; 16] {
        let mut lines = [_mm512_setzero_si512(); 16];
        for (i, line) in lines.iter_mut().enumerate().take(num_rows) {
            // SAFETY: reads the row's first `num_steps` elements and no others.
            *line = unsafe { T::pairs(self.at(row + i, step), num_steps, factors.0[i]) };
        }
        lines
    }

    /// One vector for each pair of steps, holding the pairs of 16 rows; rows are adjacent in memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pairs_of_rows(
        &self,
        (row, step): (usize, usize),
        (num_rows, num_steps): (usize, usize),
        factors: &Line,
    ) -> [__m512i; 16] {
        // SAFETY: a line is a vector.
        let factors = unsafe { _mm512_load_ps(factors.0.as_ptr()) };
        let mut lines = [_mm512_setzero_si512(); 16];
        for (pair, line) in lines.iter_mut().enumerate().take(num_steps.div_ceil(2)) {
            let (even, odd) = (self.at(row, step + 2 * pair), self.at(row, step + 2 * pair + 1));
            let num_odd = if 2 * pair + 1 < num_steps { num_rows } else { 0 };
            // SAFETY: reads the first rows of a step inside the matrix, none of one outside.
            let (even, odd) = unsafe { (T::load(even, first(num_rows)), T::load(odd, first(num_odd))) };
            *line = in_turn(integers(even, factors), integers(odd, factors));
        }
        lines
    }

    fn at(&self, row: usize, step: usize) -> *const T {
        let (row, step) = match self.layout {
            Layout::Normal => (row * self.stride, step),
            Layout::Transposed => (row, step * self.stride),
        };
        self.corner.wrapping_add(row + step)
    }
}

/// What is packed. As bits without a sign, sizes have the order of whole numbers, and what is not finite is the largest.
trait Source: Element {
    /// The size of the largest of `count` numbers at `from`.
    ///
    /// # Safety
    /// The CPU has the instructions of [`pack`]; the numbers are valid for reading.
    unsafe fn largest(from: *const Self, count: usize) -> f32;

    /// Writes to `largest`, which holds zeros, those of each of `size.1` columns of `size.0` rows, `from.1` elements apart.
    ///
    /// # Safety
    /// As for [`Self::largest`]; there are as many lines of 16 columns as two for each 32 columns begun, [`GROUP`] at most.
    unsafe fn largest_of_columns(from: (*const Self, usize), size: (usize, usize), largest: &mut [Line]);

    /// `count` numbers at `from`, 32 at most, as integers; then zeros.
    ///
    /// # Safety
    /// As for [`Self::largest`].
    unsafe fn pairs(from: *const Self, count: usize, factor: f32) -> __m512i;
}

impl Source for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn largest(from: *const Self, count: usize) -> f32 {
        let mut largest = _mm512_setzero_si512();
        for at in (0..count).step_by(16) {
            // SAFETY: masked elements are not read.
            let found = unsafe { Self::load(from.wrapping_add(at), first(count - at)) };
            largest = _mm512_max_epu32(largest, size(found));
        }
        Self::from_bits(_mm512_reduce_max_epu32(largest))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn largest_of_columns(from: (*const Self, usize), (rows, cols): (usize, usize), largest: &mut [Line]) {
        for row in 0..rows {
            let row = from.0.wrapping_add(row * from.1);
            for (i, largest) in largest.iter_mut().enumerate() {
                // SAFETY: a line is a vector; masked elements are not read.
                unsafe {
                    let found = Self::load(row.wrapping_add(16 * i), first(cols.saturating_sub(16 * i)));
                    let so_far = _mm512_load_si512(largest.0.as_ptr().cast());
                    _mm512_store_si512(largest.0.as_mut_ptr().cast(), _mm512_max_epu32(so_far, size(found)));
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pairs(from: *const Self, count: usize, factor: f32) -> __m512i {
        // SAFETY: masked elements are not read.
        let (low, high) = unsafe {
            (Self::load(from, first(count)), Self::load(from.wrapping_add(16), first(count.saturating_sub(16))))
        };
        let factor = _mm512_set1_ps(factor);
        // Packing takes the quarters of two vectors in turn.
        let order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
        _mm512_permutexvar_epi64(order, _mm512_packs_epi32(integers(low, factor), integers(high, factor)))
    }
}

/// The size of each number as bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn size(values: __m512) -> __m512i {
    _mm512_and_si512(_mm512_castps_si512(values), _mm512_set1_epi32(0x7fff_ffff))
}

/// 32 numbers at a time, without widening them before it is needed.
impl Source for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn largest(from: *const Self, count: usize) -> f32 {
        let mut largest = _mm512_setzero_si512();
        for at in (0..count).step_by(32) {
            // SAFETY: the caller vouches for the numbers.
            let found = unsafe { narrow(from.wrapping_add(at), count - at) };
            largest = _mm512_max_epu16(largest, _mm512_and_si512(found, _mm512_set1_epi16(0x7fff)));
        }
        let (low, high) = (_mm512_slli_epi32::<16>(largest), largest);
        // The lower half of `high` matters only where its upper half is the largest already, and is cut off.
        f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(low, high)) & 0xffff_0000)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn largest_of_columns(from: (*const Self, usize), (rows, cols): (usize, usize), largest: &mut [Line]) {
        let mut so_far = [_mm512_setzero_si512(); GROUP / 32];
        let so_far = &mut so_far[..largest.len() / 2];
        for row in 0..rows {
            let row = from.0.wrapping_add(row * from.1);
            for (i, so_far) in so_far.iter_mut().enumerate() {
                // SAFETY: the caller vouches for the columns.
                let found = unsafe { narrow(row.wrapping_add(32 * i), cols.saturating_sub(32 * i)) };
                *so_far = _mm512_max_epu16(*so_far, _mm512_and_si512(found, _mm512_set1_epi16(0x7fff)));
            }
        }
        for (lines, &so_far) in largest.chunks_exact_mut(2).zip(so_far.iter()) {
            let halves = [_mm512_castsi512_si256(so_far), _mm512_extracti64x4_epi64::<1>(so_far)];
            for (line, half) in lines.iter_mut().zip(halves) {
                let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half));
                // SAFETY: a line is a vector.
                unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), wide) };
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pairs(from: *const Self, count: usize, factor: f32) -> __m512i {
        // SAFETY: the caller vouches for the numbers.
        let found = unsafe { narrow(from, count) };
        let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(found));
        let odd = _mm512_castsi512_ps(_mm512_and_si512(found, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())));
        let factor = _mm512_set1_ps(factor);
        in_turn(integers(even, factor), integers(odd, factor))
    }
}

/// Pairs of the lower words of `even` and `odd`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn in_turn(even: __m512i, odd: __m512i) -> __m512i {
    _mm512_mask_blend_epi16(0xaaaa_aaaa, even, _mm512_slli_epi32::<16>(odd))
}

/// What the numbers of rows are multiplied with to become integers, and those to become numbers again.
#[inline]
#[target_feature(enable = "avx512f")]
fn scales(largest: __m512) -> (__m512, __m512) {
    let usable = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(largest, _mm512_set1_ps(TINY));
    let factors = _mm512_maskz_div_ps(usable, _mm512_set1_ps(LIMIT), largest);
    (factors, _mm512_mul_ps(largest, _mm512_set1_ps(1.0 / LIMIT)))
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
pub(super) unsafe fn store_narrow(sums: (*const f32, usize), to: (*mut bf16, usize), size: (usize, usize)) {
    for (i, col) in (0..size.0).flat_map(|i| (0..size.1).step_by(16).map(move |col| (i, col))) {
        let from = sums.0.wrapping_byte_add(i * sums.1).wrapping_add(col);
        let to = to.0.wrapping_byte_add(i * to.1).wrapping_add(col);
        // SAFETY: 16 sums, and as many elements of `to` as the caller vouches for.
        unsafe {
            let bits = _mm512_castps_si512(_mm512_loadu_ps(from));
            let is_odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(is_odd, _mm512_set1_epi32(0x7fff)));
            let narrow = _mm512_srli_epi32::<16>(rounded);
            _mm512_mask_cvtepi32_storeu_epi16(to.cast(), first(size.1 - col), narrow);
        }
    }
}
