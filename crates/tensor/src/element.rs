//! What matrices are made of.

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
