//! Slices of f32 to bf16 and back, rounding to nearest, ties to even.

use half::bf16;
use half::slice::HalfFloatSliceExt;

/// Rounds every number of `from` into `to`. Subnormal numbers keep their value; NaN stays NaN.
///
/// # Panics
/// When the lengths differ.
pub fn to_bf16(from: &[f32], to: &mut [bf16]) {
    to.convert_from_f32_slice(from);
}

/// Widens every number of `from` into `to`, exactly.
///
/// # Panics
/// When the lengths differ.
pub fn to_f32(from: &[bf16], to: &mut [f32]) {
    from.convert_to_f32_slice(to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_nearest_even() {
        // 1 + 2^-8 lies half-way between 1 and 1 + 2^-7; 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6.
        let from = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -0.1, f32::INFINITY, f32::MAX, 1e-40];
        let (mut short, mut long) = ([bf16::ZERO; 6], [0.0; 6]);
        to_bf16(&from, &mut short);
        to_f32(&short, &mut long);
        assert_eq!(long[..2], [1.0, 1.0 + 1.0 / 64.0]);
        assert_eq!(long[2..5], [-0.100_097_656, f32::INFINITY, f32::INFINITY]);
        assert!(long[5] > 0.0, "subnormal numbers are kept");
    }
}
