//! What matrices are made of.

#![allow(unsafe_code, reason = "registers are filled from memory and written to it")]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, __m512, __mmask16, _mm256_mask_storeu_epi16, _mm256_maskz_loadu_epi16, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_slli_epi32,
};

use std::ops::{Deref, DerefMut};

use half::bf16;

use crate::kernels::{MatMut, MatRef};
use crate::tensor::Tensor;

/// One cache line: what buffers are made of, so that rows of tiles and vectors do not cross from one line to the next.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; 16]);

impl Line {
    pub(crate) const ZERO: Self = Self([0.0; 16]);
    /// Numbers of 32 bits in a line.
    pub(crate) const LEN: usize = 16;
}

/// Cache lines in memory. New ones are zeros that the system makes where they are first touched, so that the threads that fill
/// them share the work: a `Vec<Line>` would be filled here, by one of them, because of its alignment.
#[derive(Debug)]
pub(crate) struct Lines {
    memory: Vec<f32>,
    /// Where the first line begins.
    start: usize,
    len: usize,
}

impl Lines {
    pub(crate) const EMPTY: Self = Self { memory: Vec::new(), start: 0, len: 0 };

    pub(crate) fn new(len: usize) -> Self {
        let memory = vec![0.0; (len + 1) * Line::LEN];
        let start = memory.as_ptr().align_offset(align_of::<Line>());
        Self { memory, start, len }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Deref for Lines {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        // Where there is no memory, its address is none of a line.
        if self.len == 0 {
            return &[];
        }
        bytemuck::cast_slice(&self.memory[self.start..][..self.len * Line::LEN])
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [Line] {
        if self.len == 0 {
            return &mut [];
        }
        bytemuck::cast_slice_mut(&mut self.memory[self.start..][..self.len * Line::LEN])
    }
}

impl Clone for Lines {
    fn clone(&self) -> Self {
        let mut lines = Self::new(self.len);
        lines.copy_from_slice(self);
        lines
    }
}

/// A number in memory.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Its value.
    fn get(self) -> f32;
    /// The nearest number, ties to even.
    fn of(value: f32) -> Self;
    /// The elements of a matrix of this format.
    fn all(tensor: &Tensor) -> &[Self];
    /// The elements of a matrix of this format, to be written.
    fn all_mut(tensor: &mut Tensor) -> &mut [Self];
    /// Some rows and columns as an operand of products.
    fn mat(data: &[Self], rows: usize, cols: usize, stride: usize) -> MatRef<'_>;
    /// Some rows and columns as the result of a product.
    fn mat_mut(data: &mut [Self], rows: usize, cols: usize, stride: usize) -> MatMut<'_>;

    /// The 16 elements at `from`, or those of them that `mask` names.
    ///
    /// # Safety
    /// They are valid for reading, and the CPU has `avx512f`, `avx512bw` and `avx512vl`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn load(from: *const Self, mask: __mmask16) -> __m512;

    /// Writes 16 elements at `to`, or those of them that `mask` names, rounded as by [`Self::of`] except that subnormal
    /// numbers become zero.
    ///
    /// # Safety
    /// They are valid for writing, and the CPU has `avx512f`, `avx512bw`, `avx512vl` and `avx512bf16`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn store(to: *mut Self, mask: __mmask16, values: __m512);
}

impl Element for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }

    fn all(tensor: &Tensor) -> &[Self] {
        tensor.host()
    }

    fn all_mut(tensor: &mut Tensor) -> &mut [Self] {
        tensor.host_mut()
    }

    fn mat(data: &[Self], rows: usize, cols: usize, stride: usize) -> MatRef<'_> {
        MatRef::strided(data, rows, cols, stride)
    }

    fn mat_mut(data: &mut [Self], rows: usize, cols: usize, stride: usize) -> MatMut<'_> {
        MatMut::strided(data, rows, cols, stride)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(from: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the caller vouches for the elements.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(to: *mut Self, mask: __mmask16, values: __m512) {
        // SAFETY: the caller vouches for the elements.
        unsafe { _mm512_mask_storeu_ps(to, mask, values) };
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// On the bits, which vectorises; a NaN may become an infinity, and ends the training as such.
    #[inline(always)]
    fn of(value: f32) -> Self {
        let bits = value.to_bits();
        Self::from_bits((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
    }

    fn all(tensor: &Tensor) -> &[Self] {
        tensor.narrow()
    }

    fn all_mut(tensor: &mut Tensor) -> &mut [Self] {
        tensor.narrow_mut()
    }

    fn mat(data: &[Self], rows: usize, cols: usize, stride: usize) -> MatRef<'_> {
        MatRef::narrow(data, rows, cols, stride)
    }

    fn mat_mut(data: &mut [Self], rows: usize, cols: usize, stride: usize) -> MatMut<'_> {
        MatMut::narrow(data, rows, cols, stride)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(from: *const Self, mask: __mmask16) -> __m512 {
        // SAFETY: the caller vouches for the elements.
        let narrow = unsafe { _mm256_maskz_loadu_epi16(mask, from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow)))
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn store(to: *mut Self, mask: __mmask16, values: __m512) {
        // SAFETY: the vectors have the same size, and any bits are valid in both; the caller vouches for the elements.
        unsafe {
            let narrow: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(values));
            _mm256_mask_storeu_epi16(to.cast(), mask, narrow);
        }
    }
}

/// Runs `$body` with `$t` as the type of the elements of `$format`.
macro_rules! by_format {
    ($format:expr, $t:ident => $body:expr) => {
        match $format {
            $crate::tensor::Format::F32 => {
                type $t = f32;
                $body
            }
            $crate::tensor::Format::Bf16 => {
                type $t = half::bf16;
                $body
            }
        }
    };
}

pub(crate) use by_format;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_the_library_does() {
        for i in 0..200_000u32 {
            let value = f32::from_bits(i.wrapping_mul(2_654_435_761));
            if value.is_finite() {
                assert_eq!(<bf16 as Element>::of(value), bf16::from_f32(value), "{value:e}");
                assert_eq!(<bf16 as Element>::of(value).get(), bf16::from_f32(value).to_f32());
            }
        }
        assert_eq!(<bf16 as Element>::of(f32::INFINITY), bf16::INFINITY);
    }
}
