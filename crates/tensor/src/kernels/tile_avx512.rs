//! The 32 x 32 microtile on `vdpbf16ps`: four bands of 8 rows, each with 16 vectors of sums in registers.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T1, _mm_prefetch, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_loadu_ps,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512,
};

use half::bf16;

use super::blocks::{Half, Operands};
use super::pack::{Order, PAIR, TILE_BYTES, round};

const BAND: usize = 8;

/// `C = start + A B` for `num_blocks` blocks of 32 steps, where a null `start` means zeros and a `start_stride` of 0
/// repeats one row. Strides are in bytes. C may be the place of `start`, if both are f32.
///
/// # Safety
/// `Isa::Avx512Bf16` is available; the operands hold `num_blocks` blocks; `c` is valid for writing 32 rows of 32 elements,
/// and `start`, when not null, for reading as many.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn microtile<T: Sum>(
    num_blocks: usize,
    operands: &Operands,
    start: (*const f32, usize),
    c: (*mut T, usize),
) {
    let [next_a, next_b] = operands.next;
    for (band, next) in [next_b[0], next_b[1], next_a[0], next_a[1]].into_iter().enumerate() {
        let row = band * BAND;
        let (mut a, b) = (operands.a[row / 16], operands.b[0]);
        // SAFETY: the band's rows lie inside the microtile for which the caller vouches.
        unsafe {
            let mut sums = load_band(start.0, start.1, row);
            match operands.order_of_a {
                Order::Rows => {
                    a.at = a.at.wrapping_add(row % 16 * a.line);
                    add_products::<false>(&mut sums, num_blocks, a, b, next);
                }
                Order::Pairs => {
                    a.at = a.at.wrapping_add(row % 16 * PAIR);
                    add_products::<true>(&mut sums, num_blocks, a, b, next);
                }
            }
            store_band(&sums, c.0.wrapping_byte_add(row * c.1), c.1);
        }
    }
}

type Band = [[__m512; 2]; BAND];

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn load_band(start: *const f32, stride: usize, row: usize) -> Band {
    let mut sums = [[_mm512_setzero_ps(); 2]; BAND];
    if !start.is_null() {
        for (i, sums) in sums.iter_mut().enumerate() {
            let at = start.wrapping_byte_add((row + i) * stride);
            // SAFETY: a row of the microtile, for which the caller vouches.
            *sums = unsafe { [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(16))] };
        }
    }
    sums
}

/// Adds the products of a band, and asks for the lines of `next` meanwhile. A line of A is a row, or else a pair of all rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn add_products<const BY_PAIRS: bool>(
    sums: &mut Band,
    num_blocks: usize,
    mut a: Half,
    mut b: Half,
    mut next: Half,
) {
    for _ in 0..num_blocks {
        for pair in 0..16 {
            let b_at = b.at.wrapping_add(pair * 64);
            // SAFETY: both lie inside the current block, for which the caller vouches; lines are aligned. A prefetch reads
            // nothing that the program sees.
            let b = unsafe {
                _mm_prefetch::<_MM_HINT_T1>(next.at.wrapping_add(pair * next.line).cast());
                [_mm512_load_si512(b_at.cast()), _mm512_load_si512(b_at.wrapping_add(TILE_BYTES).cast())]
            };
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let pairs = _mm512_set1_epi32(unsafe {
                    a.at.wrapping_add(if BY_PAIRS { i * PAIR + pair * 64 } else { i * a.line + pair * PAIR })
                        .cast::<i32>()
                        .read_unaligned()
                });
                sums[0] = _mm512_dpbf16_ps(sums[0], bf16s(pairs), bf16s(b[0]));
                sums[1] = _mm512_dpbf16_ps(sums[1], bf16s(pairs), bf16s(b[1]));
            }
        }
        for half in [&mut a, &mut b, &mut next] {
            half.at = half.at.wrapping_add(half.block);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn bf16s(bits: __m512i) -> __m512bh {
    // SAFETY: the vectors have the same size, and any bits are valid in both.
    unsafe { std::mem::transmute(bits) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn store_band<T: Sum>(sums: &Band, c: *mut T, stride: usize) {
    for (i, &sums) in sums.iter().enumerate() {
        // SAFETY: a row of the microtile, for which the caller vouches.
        unsafe { T::store(c.wrapping_byte_add(i * stride), sums) };
    }
}

/// What sums are stored as.
pub(super) trait Sum {
    /// Writes 32 sums at `to`.
    ///
    /// # Safety
    /// `Isa::Avx512Bf16` is available, and `to` is valid for writing them.
    unsafe fn store(to: *mut Self, sums: [__m512; 2]);
}

impl Sum for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn store(to: *mut Self, [low, high]: [__m512; 2]) {
        // SAFETY: the caller vouches for the memory.
        unsafe {
            _mm512_storeu_ps(to, low);
            _mm512_storeu_ps(to.wrapping_add(16), high);
        }
    }
}

impl Sum for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn store(to: *mut Self, [low, high]: [__m512; 2]) {
        // SAFETY: the caller vouches for the memory.
        unsafe { _mm512_storeu_si512(to.cast(), round(low, high)) };
    }
}
