//! Softmax of rows, and its gradient.

use crate::math::{dot, exp, max, sum};
use crate::simd::{Level, vectorized};

/// The softmax of `scale` times a row.
pub(crate) fn softmax(row: &mut [f32], scale: f32) {
    match Level::detect() {
        // SAFETY: the machine has AVX-512.
        #[cfg(target_arch = "x86_64")]
        Level::V4 => unsafe { avx512::softmax(row, scale) },
        _ => portable(row, scale),
    }
}

/// `ds = p * (ds - <p, ds>) * scale` for the shares `p` that a softmax found.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn softmax_backward(ds: &mut [f32], p: &[f32], scale: f32) {
    assert_eq!(ds.len(), p.len(), "a gradient for each share");
    match Level::detect() {
        // SAFETY: the machine has AVX-512.
        #[cfg(target_arch = "x86_64")]
        Level::V4 => unsafe { avx512::softmax_backward(ds, p, scale) },
        _ => portable_backward(ds, p, scale),
    }
}

vectorized! {
    fn portable_backward(ds: &mut [f32], p: &[f32], scale: f32) {
        let delta = dot(p, ds);
        for (ds, p) in ds.iter_mut().zip(p) {
            *ds = p * (*ds - delta) * scale;
        }
    }

    fn portable(row: &mut [f32], scale: f32) {
        let top = max(row);
        for value in row.iter_mut() {
            *value = exp((*value - top) * scale);
        }
        let factor = 1.0 / sum(row, |p| p);
        for value in row.iter_mut() {
            *value *= factor;
        }
    }
}

/// Written by hand: the compiler makes sums across a register one number at a time.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __mmask16, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_fmadd_ps,
        _mm512_mask_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps,
        _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
        _mm512_sub_ps,
    };

    const LANES: usize = 16;
    /// Registers that are filled at a time: a row of 128 numbers is read once and written once.
    const REGISTERS: usize = 8;
    const BLOCK: usize = LANES * REGISTERS;

    type Block = [__m512; REGISTERS];

    #[target_feature(enable = "avx512f")]
    pub(super) fn softmax(row: &mut [f32], scale: f32) {
        let scale = scale * std::f32::consts::LOG2_E;
        if row.len() <= BLOCK {
            let whole = load(row);
            let powers = powers(whole, scale, -top(whole) * scale);
            return store(row, multiplied(powers, 1.0 / total(powers, row.len())));
        }
        let top = row.chunks(BLOCK).map(|block| top(load(block))).fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for block in row.chunks_mut(BLOCK) {
            let powers = powers(load(block), scale, -top * scale);
            sum += total(powers, block.len());
            store(block, powers);
        }
        for block in row.chunks_mut(BLOCK) {
            store(block, multiplied(load(block), 1.0 / sum));
        }
    }

    /// As the function of the same name; `p` is as long as `ds`.
    #[target_feature(enable = "avx512f")]
    pub(super) fn softmax_backward(ds: &mut [f32], p: &[f32], scale: f32) {
        let mut delta = 0.0;
        for (ds, p) in ds.chunks(BLOCK).zip(p.chunks(BLOCK)) {
            delta += total(products(load(p), load(ds)), ds.len());
        }
        let (delta, scale) = (_mm512_set1_ps(delta), _mm512_set1_ps(scale));
        for (ds, p) in ds.chunks_mut(BLOCK).zip(p.chunks(BLOCK)) {
            let mut centred = load(ds);
            for centred in &mut centred {
                *centred = _mm512_mul_ps(_mm512_sub_ps(*centred, delta), scale);
            }
            store(ds, products(load(p), centred));
        }
    }

    /// Which numbers of register `idx` belong to a block of `len`.
    #[inline]
    fn mask(idx: usize, len: usize) -> __mmask16 {
        let len = len.saturating_sub(idx * LANES);
        if len >= LANES { !0 } else { (1 << len) - 1 }
    }

    /// A block, and below every number what is behind its end.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(block: &[f32]) -> Block {
        let mut out = [_mm512_set1_ps(f32::NEG_INFINITY); REGISTERS];
        for (idx, out) in out.iter_mut().enumerate() {
            // SAFETY: masked elements are not read.
            *out =
                unsafe { _mm512_mask_loadu_ps(*out, mask(idx, block.len()), block.as_ptr().wrapping_add(idx * LANES)) };
        }
        out
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(block: &mut [f32], values: Block) {
        let (start, len) = (block.as_mut_ptr(), block.len());
        for (idx, values) in values.into_iter().enumerate() {
            // SAFETY: masked elements are not written.
            unsafe { _mm512_mask_storeu_ps(start.wrapping_add(idx * LANES), mask(idx, len), values) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn top([a, b, c, d, e, f, g, h]: Block) -> f32 {
        let upper = _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d));
        let lower = _mm512_max_ps(_mm512_max_ps(e, f), _mm512_max_ps(g, h));
        _mm512_reduce_max_ps(_mm512_max_ps(upper, lower))
    }

    /// The sum of the first `len` numbers.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn total(values: Block, len: usize) -> f32 {
        let mut sums = [_mm512_setzero_ps(); 2];
        for (idx, values) in values.into_iter().enumerate() {
            sums[idx % 2] = _mm512_add_ps(sums[idx % 2], _mm512_maskz_mov_ps(mask(idx, len), values));
        }
        _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn products(mut a: Block, b: Block) -> Block {
        for (a, b) in a.iter_mut().zip(b) {
            *a = _mm512_mul_ps(*a, b);
        }
        a
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn multiplied(mut values: Block, factor: f32) -> Block {
        for value in &mut values {
            *value = _mm512_mul_ps(*value, _mm512_set1_ps(factor));
        }
        values
    }

    /// `2^(scale x + shift)` for exponents up to 127, relative error below 3e-7 beside that of the exponent (polynomial of
    /// degree 5 on [-1/2, 1/2], fitted on Chebyshev nodes). Below -86 it is `2^-86`, which is nothing beside 1: smaller
    /// shares would be subnormal numbers, with which processors take a hundred times as long.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn powers(mut x: Block, scale: f32, shift: f32) -> Block {
        // 1.5 * 2^23: adding it rounds to an integer, which the lowest bits then hold.
        let (round, lowest) = (_mm512_set1_ps(12_582_912.0), _mm512_set1_ps(-86.0));
        for x in &mut x {
            let exponent = _mm512_max_ps(_mm512_fmadd_ps(*x, _mm512_set1_ps(scale), _mm512_set1_ps(shift)), lowest);
            let shifted = _mm512_add_ps(exponent, round);
            let r = _mm512_sub_ps(exponent, _mm512_sub_ps(shifted, round));
            let mut p = _mm512_set1_ps(1.326_697e-3);
            for coefficient in [9.675_46e-3, 5.550_742_5e-2, 0.240_221_22, 0.693_146_94, 1.0] {
                p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
            }
            let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
            *x = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), power));
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Around registers and blocks, beside f64 and beside what other machines compute.
    #[test]
    fn shares_are_close_and_sum_to_one() {
        for len in [1, 2, 15, 16, 17, 100, 127, 128, 129, 256, 300, 1000] {
            let row: Vec<f32> = (0..len).map(|i| (i * 7919 % 1013) as f32 * 0.3 - 150.0).collect();
            let exact: Vec<f64> = row.iter().map(|&x| (f64::from(x) * 0.125).exp()).collect();
            let total: f64 = exact.iter().sum();
            for found in [softmax, portable] {
                let mut shares = row.clone();
                found(&mut shares, 0.125);
                for (share, exact) in shares.iter().zip(&exact) {
                    let want = exact / total;
                    assert!((f64::from(*share) - want).abs() < 5e-6 * want, "{len}: {share} {want}");
                }
            }
        }
    }

    #[test]
    fn gradients_are_close() {
        for len in [1, 16, 17, 100, 128, 129, 300] {
            let mut p: Vec<f32> = (0..len).map(|i| (i * 7919 % 1013) as f32 * 0.005).collect();
            softmax(&mut p, 1.0);
            let ds: Vec<f32> = (0..len).map(|i| (i * 31 % 17) as f32 - 8.0).collect();
            let delta: f64 = p.iter().zip(&ds).map(|(&p, &ds)| f64::from(p) * f64::from(ds)).sum();
            for backward in [softmax_backward, portable_backward] {
                let mut found = ds.clone();
                backward(&mut found, &p, 0.25);
                for ((found, p), ds) in found.iter().zip(&p).zip(&ds) {
                    let want = f64::from(*p) * (f64::from(*ds) - delta) * 0.25;
                    assert!((f64::from(*found) - want).abs() < 1e-5 * f64::from(*p), "{len}: {found} {want}");
                }
            }
        }
    }

    #[test]
    fn what_is_far_below_the_top_is_nothing_and_not_subnormal() {
        let mut row = [0.0, -1e9, 3.0, f32::NEG_INFINITY];
        softmax(&mut row, 1.0);
        assert!(row[1] < 1e-24 && row[1].is_normal());
        assert!((row[0] + row[2] - 1.0).abs() < 1e-6);
        softmax(&mut [], 1.0);
    }
}
