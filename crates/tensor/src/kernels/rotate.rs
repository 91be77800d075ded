//! Rotary positions (Su et al. 2021).

use crate::element::Element;
use crate::simd::vectorized;

/// Turns the pairs `(x[i], y[i])`, the first and the second half of each of the heads side by side in `from`, by the angles
/// of `(cos, sin)`, one for each pair of a head; `direction` -1 turns back.
///
/// # Panics
/// When `from` and `to` differ in length, which is a multiple of that of a head, or an angle is missing.
pub(crate) fn rotate_heads<S: Element, T: Element>(
    from: &[S],
    to: &mut [T],
    (cos, sin): (&[f32], &[f32]),
    direction: f32,
) {
    assert!(sin.len() == cos.len() && from.len() == to.len() && from.len().is_multiple_of(2 * cos.len()));
    #[cfg(target_arch = "x86_64")]
    if super::Isa::Avx512Bf16.is_available() {
        // SAFETY: the machine has the instructions.
        return unsafe { avx512::rotate(from, to, (cos, sin), direction) };
    }
    portable(from, to, cos, sin, direction);
}

/// Numbers that are turned at a time. Without blocks of fixed size the compiler would have to ask, for each head, whether
/// the halves overlap.
const LANES: usize = 16;

vectorized! {
    fn portable<S: Element, T: Element>(from: &[S], to: &mut [T], cos: &[f32], sin: &[f32], direction: f32) {
        let half = cos.len();
        for (from, to) in from.chunks_exact(2 * half).zip(to.chunks_exact_mut(2 * half)) {
            let ((x, y), (to_x, to_y)) = (from.split_at(half), to.split_at_mut(half));
            let turns = cos.chunks(LANES).zip(sin.chunks(LANES));
            let pairs = x.chunks(LANES).zip(y.chunks(LANES)).zip(to_x.chunks_mut(LANES).zip(to_y.chunks_mut(LANES)));
            for (((x, y), (to_x, to_y)), (cos, sin)) in pairs.zip(turns) {
                let (x, y) = turn(lanes(x), lanes(y), lanes(cos), lanes(sin).map(|sin| direction * sin));
                store(to_x, x);
                store(to_y, y);
            }
        }
    }
}

/// Elements in registers, zeros behind the last.
#[inline(always)]
fn lanes<T: Element>(from: &[T]) -> [f32; LANES] {
    let mut whole = [0.0; LANES];
    match from.first_chunk::<LANES>() {
        Some(from) => whole.iter_mut().zip(from).for_each(|(whole, from)| *whole = from.get()),
        None => whole.iter_mut().zip(from).for_each(|(whole, from)| *whole = from.get()),
    }
    whole
}

#[inline(always)]
fn store<T: Element>(to: &mut [T], whole: [f32; LANES]) {
    match to.first_chunk_mut::<LANES>() {
        Some(to) => to.iter_mut().zip(whole).for_each(|(to, whole)| *to = T::of(whole)),
        None => to.iter_mut().zip(whole).for_each(|(to, whole)| *to = T::of(whole)),
    }
}

/// Turns pairs.
#[inline(always)]
fn turn(x: [f32; LANES], y: [f32; LANES], cos: [f32; LANES], sin: [f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    let (mut turned_x, mut turned_y) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        turned_x[i] = x[i] * cos[i] - y[i] * sin[i];
        turned_y[i] = y[i] * cos[i] + x[i] * sin[i];
    }
    (turned_x, turned_y)
}

/// Written by hand: the instruction that rounds to bf16 is none that the compiler would find.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_sub_ps};

    use super::LANES;
    use crate::element::Element;

    /// As `rotate_heads`.
    ///
    /// # Safety
    /// The CPU has `avx512f`, `avx512bw`, `avx512vl` and `avx512bf16`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub(super) unsafe fn rotate<S: Element, T: Element>(
        from: &[S],
        to: &mut [T],
        (cos, sin): (&[f32], &[f32]),
        direction: f32,
    ) {
        let (half, direction) = (cos.len(), _mm512_set1_ps(direction));
        for (from, to) in from.chunks_exact(2 * half).zip(to.chunks_exact_mut(2 * half)) {
            let (from, to) = (from.as_ptr(), to.as_mut_ptr());
            for i in (0..half).step_by(LANES) {
                let mask = if half - i >= LANES { !0 } else { (1 << (half - i)) - 1 };
                // SAFETY: elements `i..half` of each half exist; masked ones are neither read nor written.
                unsafe {
                    let (x, y) = (S::load(from.wrapping_add(i), mask), S::load(from.wrapping_add(half + i), mask));
                    let cos = f32::load(cos.as_ptr().wrapping_add(i), mask);
                    let sin = _mm512_mul_ps(f32::load(sin.as_ptr().wrapping_add(i), mask), direction);
                    let turned_x = _mm512_sub_ps(_mm512_mul_ps(x, cos), _mm512_mul_ps(y, sin));
                    let turned_y = _mm512_add_ps(_mm512_mul_ps(y, cos), _mm512_mul_ps(x, sin));
                    T::store(to.wrapping_add(i), mask, turned_x);
                    T::store(to.wrapping_add(half + i), mask, turned_y);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    /// As `portable` does, to the bit, for heads that do not fill registers; where the machine lacks the instructions this
    /// compares a function with itself, and the test below is what tells.
    #[test]
    fn all_machines_turn_to_the_same_bits() {
        for dim in DIMS {
            let (from, cos, sin) = heads(dim);
            let narrow: Vec<bf16> = from.iter().map(|&x| bf16::from_f32(x)).collect();
            for direction in [1.0, -1.0] {
                same_bits::<f32, f32>(&from, (&cos, &sin), direction);
                same_bits::<f32, bf16>(&from, (&cos, &sin), direction);
                same_bits::<bf16, bf16>(&narrow, (&cos, &sin), direction);
            }
        }
    }

    #[test]
    fn pairs_turn_by_their_angles() {
        for dim in DIMS {
            let (from, cos, sin) = heads(dim);
            let mut found = vec![0.0f32; from.len()];
            rotate_heads(&from, &mut found, (&cos, &sin), 1.0);
            for (from, found) in from.chunks(dim).zip(found.chunks(dim)) {
                for i in 0..dim / 2 {
                    let (x, y, (sin, cos)) = (from[i], from[dim / 2 + i], (i as f32).sin_cos());
                    assert!((found[i] - (x * cos - y * sin)).abs() < 1e-6, "{dim}");
                    assert!((found[dim / 2 + i] - (y * cos + x * sin)).abs() < 1e-6, "{dim}");
                }
            }
        }
    }

    const DIMS: [usize; 7] = [2, 6, 16, 32, 40, 64, 128];

    /// Three heads, and the cosines and sines of 0, 1, 2...
    fn heads(dim: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let from = (0..3 * dim).map(|i| (i * 37 % 101) as f32 * 0.02 - 1.0).collect();
        let (sin, cos) = (0..dim / 2).map(|i| (i as f32).sin_cos()).unzip();
        (from, cos, sin)
    }

    fn same_bits<S: Element, T: Element>(from: &[S], (cos, sin): (&[f32], &[f32]), direction: f32) {
        let (mut found, mut want) = (vec![T::of(0.0); from.len()], vec![T::of(0.0); from.len()]);
        rotate_heads(from, &mut found, (cos, sin), direction);
        portable(from, &mut want, cos, sin, direction);
        let bits = |values: &[T]| values.iter().map(|value| value.get().to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&want), "heads of {}", 2 * cos.len());
    }
}
