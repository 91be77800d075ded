//! The 32 x 32 microtile on `vpdpwssd`: four bands of 8 rows, each with 16 vectors of whole sums in registers.

use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T1, _mm_prefetch, _mm512_cvtepi32_ps, _mm512_dpwssd_epi32, _mm512_fmadd_ps,
    _mm512_load_ps, _mm512_load_si512, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_storeu_ps,
};

use super::blocks::Operands;
use super::fixed::{MAX_BLOCKS, SCALE_LINES};
use super::pack::{BLOCK_BYTES, Order, PAIR, PANEL, TILE_BYTES};
use crate::element::Line;

const BAND: usize = 8;
const SCALE_BYTES: usize = SCALE_LINES * size_of::<Line>();

/// `C = start + A B` for `num_blocks` blocks of 32 steps, where a null `start` means zeros and a `start_stride` of 0
/// repeats one row. Strides are in bytes. Blocks that share scales are summed before they are added to C.
///
/// # Safety
/// `Isa::Avx512Vnni` is available; the upper halves of the operands point to what `fixed::pack` made of a panel for
/// `num_blocks` blocks, from the scales of the first on; `c` is valid for writing 32 rows of 32 elements, and `start`, when
/// not null, for reading as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn microtile(
    num_blocks: usize,
    operands: &Operands,
    mut start: (*const f32, usize),
    c: (*mut f32, usize),
) {
    let [next_a, next_b] = operands.next;
    let [mut a, mut b, mut next_a, mut next_b] = [operands.a, operands.b, next_a, next_b].map(|panel| panel[0].at);
    for block in (0..num_blocks).step_by(MAX_BLOCKS) {
        let num_blocks = MAX_BLOCKS.min(num_blocks - block);
        // SAFETY: the caller vouches for the memory.
        unsafe {
            match operands.order_of_a {
                Order::Rows => add_shared::<64, PAIR>(num_blocks, (a, b), (next_a, next_b), start, c),
                Order::Pairs => add_shared::<PAIR, 64>(num_blocks, (a, b), (next_a, next_b), start, c),
            }
        }
        for at in [&mut a, &mut b, &mut next_a, &mut next_b] {
            *at = at.wrapping_add(SCALE_BYTES + num_blocks * BLOCK_BYTES);
        }
        start = (c.0.cast_const(), c.1);
    }
}

/// As [`microtile`], for blocks that share scales; in a tile of A there are `ROW` bytes from row to row and `STEP` from pair to
/// pair.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn add_shared<const ROW: usize, const STEP: usize>(
    num_blocks: usize,
    (a, b): (*const u8, *const u8),
    (next_a, next_b): (*const u8, *const u8),
    start: (*const f32, usize),
    c: (*mut f32, usize),
) {
    let (a_scales, b_scales) = (a.cast::<f32>(), b.cast::<f32>());
    // SAFETY: scales and rows for which the caller vouches; lines are aligned.
    unsafe {
        let b_scales = [_mm512_load_ps(b_scales), _mm512_load_ps(b_scales.add(16))];
        let next = [next_b, next_b.wrapping_add(TILE_BYTES), next_a, next_a.wrapping_add(TILE_BYTES)];
        for (row, next) in (0..PANEL).step_by(BAND).zip(next) {
            let at = a.wrapping_add(row / 16 * TILE_BYTES + row % 16 * ROW);
            let sums = products::<ROW, STEP>(num_blocks, [at, b, next].map(|at| at.wrapping_add(SCALE_BYTES)));
            for (i, sums) in sums.iter().enumerate() {
                let scale = _mm512_set1_ps(*a_scales.add(row + i));
                let to = c.0.wrapping_byte_add((row + i) * c.1);
                let from = if start.0.is_null() { start.0 } else { start.0.wrapping_byte_add((row + i) * start.1) };
                for j in 0..2 {
                    let (sum, scale) = (_mm512_cvtepi32_ps(sums[j]), _mm512_mul_ps(scale, b_scales[j]));
                    _mm512_storeu_ps(to.add(16 * j), add(from, 16 * j, sum, scale));
                }
            }
        }
    }
}

/// `from[at..] + sum * scale`, or the product where `from` is null.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add(from: *const f32, at: usize, sum: __m512, scale: __m512) -> __m512 {
    if from.is_null() {
        return _mm512_mul_ps(sum, scale);
    }
    // SAFETY: the caller vouches for the row.
    _mm512_fmadd_ps(sum, scale, unsafe { _mm512_loadu_ps(from.add(at)) })
}

/// The whole sums of 8 rows and 32 columns; lines at `next` are asked for meanwhile.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn products<const ROW: usize, const STEP: usize>(
    num_blocks: usize,
    [mut a, mut b, mut next]: [*const u8; 3],
) -> [[__m512i; 2]; BAND] {
    let mut sums = [[_mm512_setzero_si512(); 2]; BAND];
    for _ in 0..num_blocks {
        for pair in 0..16 {
            let b_at = b.wrapping_add(pair * 64);
            // SAFETY: both lie inside the current block, for which the caller vouches; lines are aligned. A prefetch reads
            // nothing that the program sees.
            let b = unsafe {
                _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(pair * 64).cast());
                [_mm512_load_si512(b_at.cast()), _mm512_load_si512(b_at.wrapping_add(TILE_BYTES).cast())]
            };
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let pairs = _mm512_set1_epi32(unsafe { a.wrapping_add(i * ROW + pair * STEP).cast::<i32>().read() });
                sums[0] = _mm512_dpwssd_epi32(sums[0], pairs, b[0]);
                sums[1] = _mm512_dpwssd_epi32(sums[1], pairs, b[1]);
            }
        }
        for at in [&mut a, &mut b, &mut next] {
            *at = at.wrapping_add(BLOCK_BYTES);
        }
    }
    sums
}
