//! Softmax of rows, and its gradient.

use crate::element::Element;
use crate::math::{dot, exp, max, sum};
use crate::simd::vectorized;

/// Writes the softmax of `scale` times a row to `shares`, and spoils the row.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn softmax<T: Element>(row: &mut [f32], shares: &mut [T], scale: f32) {
    assert_eq!(row.len(), shares.len(), "a share for each score");
    #[cfg(target_arch = "x86_64")]
    if super::Isa::Avx512Bf16.is_available() {
        // SAFETY: the machine has the instructions.
        return unsafe { avx512::softmax(row, shares, scale) };
    }
    portable(row, shares, scale);
}

/// `ds = p * (dp - <p, dp>) * scale` for the shares `p` that a softmax found and the gradient `dp` by them.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn softmax_backward<T: Element>(dp: &[f32], p: &[T], ds: &mut [T], scale: f32) {
    assert!(dp.len() == p.len() && ds.len() == p.len(), "a gradient for each share");
    #[cfg(target_arch = "x86_64")]
    if super::Isa::Avx512Bf16.is_available() {
        // SAFETY: the machine has the instructions.
        return unsafe { avx512::softmax_backward(dp, p, ds, scale) };
    }
    portable_backward(dp, p, ds, scale);
}

vectorized! {
    fn portable_backward<T: Element>(dp: &[f32], p: &[T], ds: &mut [T], scale: f32) {
        let delta = dot(p, dp);
        for (ds, (p, dp)) in ds.iter_mut().zip(p.iter().zip(dp)) {
            *ds = T::of(p.get() * (*dp - delta) * scale);
        }
    }

    fn portable<T: Element>(row: &mut [f32], shares: &mut [T], scale: f32) {
        let top = max(row);
        for value in row.iter_mut() {
            *value = exp((*value - top) * scale);
        }
        let factor = 1.0 / sum(row, |p| p);
        for (share, value) in shares.iter_mut().zip(row.iter()) {
            *share = T::of(value * factor);
        }
    }
}

/// Written by hand: the compiler makes sums across a register one number at a time.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512, __mmask16, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_fmadd_ps,
        _mm512_mask_mov_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_add_ps,
        _mm512_reduce_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_sub_ps,
    };

    use crate::element::Element;

    const LANES: usize = 16;
    /// Registers that are filled at a time: a row of 128 numbers is read once and written once.
    const REGISTERS: usize = 8;
    const BLOCK: usize = LANES * REGISTERS;

    type Block = [__m512; REGISTERS];

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn softmax<T: Element>(row: &mut [f32], shares: &mut [T], scale: f32) {
        let scale = scale * std::f32::consts::LOG2_E;
        unsafe {
            if row.len() <= BLOCK {
                let whole = load(row, f32::NEG_INFINITY);
                let powers = powers(whole, scale, -top(whole) * scale);
                return store(shares, multiplied(powers, 1.0 / total(powers, row.len())));
            }
            let tops = row.chunks(BLOCK).map(|block| top(load(block, f32::NEG_INFINITY)));
            let top = tops.fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for block in row.chunks_mut(BLOCK) {
                let powers = powers(load(block, f32::NEG_INFINITY), scale, -top * scale);
                sum += total(powers, block.len());
                store(block, powers);
            }
            for (block, shares) in row.chunks(BLOCK).zip(shares.chunks_mut(BLOCK)) {
                store(shares, multiplied(load(block, 0.0), 1.0 / sum));
            }
        }
    }

    /// As the function of the same name; all are of one length.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn softmax_backward<T: Element>(dp: &[f32], p: &[T], ds: &mut [T], scale: f32) {
        unsafe {
            let mut delta = 0.0;
            for (dp, p) in dp.chunks(BLOCK).zip(p.chunks(BLOCK)) {
                delta += total(products(load(p, 0.0), load(dp, 0.0)), dp.len());
            }
            let (delta, scale) = (_mm512_set1_ps(delta), _mm512_set1_ps(scale));
            for (ds, (dp, p)) in ds.chunks_mut(BLOCK).zip(dp.chunks(BLOCK).zip(p.chunks(BLOCK))) {
                let mut centred = load(dp, 0.0);
                for centred in &mut centred {
                    *centred = _mm512_mul_ps(_mm512_sub_ps(*centred, delta), scale);
                }
                store(ds, products(load(p, 0.0), centred));
            }
        }
    }

    /// Which numbers of register `idx` belong to a block of `len`.
    #[inline]
    fn mask(idx: usize, len: usize) -> __mmask16 {
        let len = len.saturating_sub(idx * LANES);
        if len >= LANES { !0 } else { (1 << len) - 1 }
    }

    /// A block, and `rest` behind its end.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn load<T: Element>(block: &[T], rest: f32) -> Block {
        let mut out = [_mm512_set1_ps(rest); REGISTERS];
        for (idx, out) in out.iter_mut().enumerate() {
            let mask = mask(idx, block.len());
            // SAFETY: masked elements are not read.
            *out = _mm512_mask_mov_ps(*out, mask, unsafe { T::load(block.as_ptr().wrapping_add(idx * LANES), mask) });
        }
        out
    }

    /// # Safety
    /// The CPU has what `T` asks for.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn store<T: Element>(block: &mut [T], values: Block) {
        let (start, len) = (block.as_mut_ptr(), block.len());
        for (idx, values) in values.into_iter().enumerate() {
            // SAFETY: masked elements are not written.
            unsafe { T::store(start.wrapping_add(idx * LANES), mask(idx, len), values) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn top([a, b, c, d, e, f, g, h]: Block) -> f32 {
        let upper = _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d));
        let lower = _mm512_max_ps(_mm512_max_ps(e, f), _mm512_max_ps(g, h));
        _mm512_reduce_max_ps(_mm512_max_ps(upper, lower))
    }

    /// The sum of the first `len` numbers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn total(values: Block, len: usize) -> f32 {
        let mut sums = [_mm512_setzero_ps(); 2];
        for (idx, values) in values.into_iter().enumerate() {
            sums[idx % 2] = _mm512_add_ps(sums[idx % 2], _mm512_maskz_mov_ps(mask(idx, len), values));
        }
        _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn products(mut a: Block, b: Block) -> Block {
        for (a, b) in a.iter_mut().zip(b) {
            *a = _mm512_mul_ps(*a, b);
        }
        a
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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
    use half::bf16;

    use super::*;

    /// Around registers and blocks, beside f64 and beside what other machines compute.
    #[test]
    fn shares_are_close_and_sum_to_one() {
        for len in [1, 2, 15, 16, 17, 100, 127, 128, 129, 256, 300, 1000] {
            let row: Vec<f32> = (0..len).map(|i| (i * 7919 % 1013) as f32 * 0.3 - 150.0).collect();
            let exact: Vec<f64> = row.iter().map(|&x| (f64::from(x) * 0.125).exp()).collect();
            let total: f64 = exact.iter().sum();
            for found in [softmax::<f32>, portable::<f32>] {
                let mut shares = vec![0.0; len];
                found(&mut row.clone(), &mut shares, 0.125);
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
            let mut p = vec![0.0; len];
            softmax(&mut (0..len).map(|i| (i * 7919 % 1013) as f32 * 0.005).collect::<Vec<_>>(), &mut p, 1.0);
            let ds: Vec<f32> = (0..len).map(|i| (i * 31 % 17) as f32 - 8.0).collect();
            let delta: f64 = p.iter().zip(&ds).map(|(&p, &ds)| f64::from(p) * f64::from(ds)).sum();
            for backward in [softmax_backward::<f32>, portable_backward::<f32>] {
                let mut found = vec![0.0; len];
                backward(&ds, &p, &mut found, 0.25);
                for ((found, p), ds) in found.iter().zip(&p).zip(&ds) {
                    let want = f64::from(*p) * (f64::from(*ds) - delta) * 0.25;
                    assert!((f64::from(*found) - want).abs() < 1e-5 * f64::from(*p), "{len}: {found} {want}");
                }
            }
        }
    }

    #[test]
    fn what_is_far_below_the_top_is_nothing_and_not_subnormal() {
        let mut shares = [0.0f32; 4];
        softmax(&mut [0.0, -1e9, 3.0, f32::NEG_INFINITY], &mut shares, 1.0);
        assert!(shares[1] < 1e-24 && shares[1].is_normal());
        assert!((shares[0] + shares[2] - 1.0).abs() < 1e-6);
        softmax::<f32>(&mut [], &mut [], 1.0);
    }

    /// Shares of bf16 are those of f32, rounded, and so are gradients by scores; also where a row fills no register.
    #[test]
    fn narrow_results_are_rounded_wide_ones() {
        for len in [1, 16, 17, 100, 128, 129, 300] {
            let row: Vec<f32> = (0..len).map(|i| (i * 7919 % 1013) as f32 * 0.01).collect();
            for found in [softmax::<bf16>, portable::<bf16>] {
                let (mut wide, mut narrow) = (vec![0.0f32; len], vec![bf16::ZERO; len]);
                softmax(&mut row.clone(), &mut wide, 0.5);
                found(&mut row.clone(), &mut narrow, 0.5);
                let near = |narrow: f32, wide: f32| (narrow - wide).abs() <= wide.abs() / 250.0;
                assert!(narrow.iter().zip(&wide).all(|(narrow, &wide)| near(narrow.get(), wide)), "{len}");
                wide.iter_mut().zip(&narrow).for_each(|(wide, narrow)| *wide = narrow.get());
                for backward in [softmax_backward::<bf16>, portable_backward::<bf16>] {
                    let (mut d_wide, mut d_narrow) = (vec![0.0f32; len], vec![bf16::ZERO; len]);
                    softmax_backward(&row, &wide, &mut d_wide, 0.25);
                    backward(&row, &narrow, &mut d_narrow, 0.25);
                    let near = |narrow: f32, wide: f32| (narrow - wide).abs() <= wide.abs() / 250.0 + 1e-7;
                    assert!(d_narrow.iter().zip(&d_wide).all(|(narrow, &wide)| near(narrow.get(), wide)), "{len}");
                }
            }
        }
    }
}
