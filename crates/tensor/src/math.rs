//! Elementary functions that the compiler can vectorise, and sums of fixed order.

use crate::element::Element;

/// `f32::clamp` as two selections, which vectorise.
#[inline(always)]
fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// `e^x`, relative error below 2e-7 (Cephes: range reduction by ln 2, polynomial of degree 5).
///
/// Below -60 it is `e^-60`, which is nothing beside 1: smaller shares of a softmax would be subnormal numbers, with
/// which processors take a hundred times as long.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, which the lowest bits then hold
    let x = clamp(x, -60.0, 88.3);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let mut p = 1.987_569_1e-4f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 0.166_666_66);
    p = p.mul_add(r, 0.5);
    (p.mul_add(r * r, r) + 1.0) * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// The error function, absolute error below 2e-7 (the rational approximation of Eigen and XLA).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let x = clamp(x, -3.832_507, 3.832_507);
    let x2 = x * x;
    let mut p = 0.000_229_050_65f32;
    p = p.mul_add(x2, 0.003_408_291);
    p = p.mul_add(x2, 0.050_955_694);
    p = p.mul_add(x2, 0.185_208_32);
    p = p.mul_add(x2, std::f32::consts::FRAC_2_SQRT_PI);
    let mut q = -1.179_161_4e-7f32;
    q = q.mul_add(x2, 2.354_796_6e-5);
    q = q.mul_add(x2, 1.017_962_5e-3);
    q = q.mul_add(x2, 1.407_047e-2);
    q = q.mul_add(x2, 0.110_985_05);
    q = q.mul_add(x2, 0.497_469_25);
    q = q.mul_add(x2, 1.0);
    x * p / q
}

/// GELU by the error function: `x * Phi(x)`.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// [`gelu`] and its derivative `Phi(x) + x * phi(x)`.
#[inline(always)]
pub(crate) fn gelu_with_slope(x: f32) -> (f32, f32) {
    const INV_SQRT_TAU: f32 = 0.398_942_3;
    let below = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    (x * below, (x * INV_SQRT_TAU).mul_add(exp(-0.5 * x * x), below))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * sigmoid(x)` and its derivative.
#[inline(always)]
pub(crate) fn silu_with_slope(x: f32) -> (f32, f32) {
    let gate = sigmoid(x);
    (x * gate, gate * (1.0 + x * (1.0 - gate)))
}

/// The hyperbolic tangent and its derivative.
#[inline(always)]
pub(crate) fn tanh_with_slope(x: f32) -> (f32, f32) {
    let value = 2.0 * sigmoid(2.0 * x) - 1.0;
    (value, 1.0 - value * value)
}

/// GELU by the hyperbolic tangent, `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, and its derivative.
#[inline(always)]
pub(crate) fn gelu_tanh_with_slope(x: f32) -> (f32, f32) {
    const TWICE_ROOT: f32 = 1.595_769; // 2 sqrt(2 / pi): (1 + tanh(u)) / 2 is sigmoid(2 u)
    const CUBIC: f32 = 0.044_715;
    let gate = sigmoid(TWICE_ROOT * x * (CUBIC * x * x + 1.0));
    let slope = TWICE_ROOT * (3.0 * CUBIC * x * x + 1.0);
    (x * gate, (x * slope).mul_add(gate * (1.0 - gate), gate))
}

const LANES: usize = 16;

/// The sum of `term(a)` over the elements, in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn sum(a: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut blocks = a.chunks_exact(LANES);
    for block in &mut blocks {
        for (lane, &a) in lanes.iter_mut().zip(block) {
            *lane += term(a);
        }
    }
    for (lane, &a) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane += term(a);
    }
    lanes.iter().sum()
}

/// The dot product of two slices of equal length, in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn dot<T: Element>(a: &[T], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (a, b) in (&mut a).zip(&mut b) {
        for (lane, (a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a.get() * b;
        }
    }
    for (lane, (a, &b)) in lanes.iter_mut().zip(a.remainder().iter().zip(b.remainder())) {
        *lane += a.get() * b;
    }
    lanes.iter().sum()
}

/// The largest element, `-inf` for none.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let rest = chunks.remainder().iter().copied();
    lanes.into_iter().chain(rest).fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        for i in -6000..8000 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 4e-7, "{x}");
        }
        assert!(exp(-1e9) < 1e-26 && exp(-1e9).is_normal());
    }

    #[test]
    fn erf_is_close() {
        // erf by its Taylor series in f64, good to 1e-12 for |x| <= 3
        let series = |x: f64| {
            let (mut term, mut total) = (x, x);
            for n in 1..80 {
                term *= -x * x / f64::from(n);
                total += term / f64::from(2 * n + 1);
            }
            total * 2.0 / std::f64::consts::PI.sqrt()
        };
        for i in -300..=300 {
            let x = i as f32 * 0.01;
            assert!((f64::from(erf(x)) - series(f64::from(x))).abs() < 5e-7, "{x}");
        }
        assert!((erf(9.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn sums_cover_every_element() {
        for n in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(sum(&values, |a| a), (0..n).sum::<usize>() as f32);
            assert_eq!(dot(&values, &vec![2.0; n]), 2.0 * (0..n).sum::<usize>() as f32);
        }
        assert_eq!(max(&(0..37).map(|i| i as f32).collect::<Vec<_>>()), 36.0);
    }
}
