//! Elementary functions that the compiler can vectorise, and sums of fixed order.

/// `e^x`, relative error below 2e-7 (Cephes: range reduction by ln 2, polynomial of degree 5).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding and subtracting it rounds to an integer
    let x = x.clamp(-87.3, 88.3);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_66;
    p = p * r + 0.5;
    (p * r * r + r + 1.0) * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

/// The error function, absolute error below 2e-7 (the rational approximation of Eigen and XLA).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let x = x.clamp(-3.832_506_856_900_711, 3.832_506_856_900_711);
    let x2 = x * x;
    let mut p = 0.000_229_050_65;
    p = p * x2 + 0.003_408_291;
    p = p * x2 + 0.050_955_694;
    p = p * x2 + 0.185_208_32;
    p = p * x2 + 1.128_379_1;
    let mut q = -1.179_161_4e-7;
    q = q * x2 + 2.354_796_6e-5;
    q = q * x2 + 1.017_962_5e-3;
    q = q * x2 + 1.407_047e-2;
    q = q * x2 + 0.110_985_05;
    q = q * x2 + 0.497_469_25;
    q = q * x2 + 1.0;
    x * p / q
}

/// GELU by the error function: `x * Phi(x)`.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The derivative of [`gelu`]: `Phi(x) + x * phi(x)`.
#[inline(always)]
pub(crate) fn gelu_slope(x: f32) -> f32 {
    const INV_SQRT_TAU: f32 = 0.398_942_3;
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * INV_SQRT_TAU * exp(-0.5 * x * x)
}

const LANES: usize = 16;

/// The sum of `term(i)` over `0..n`, in sixteen interleaved partial sums.
#[inline(always)]
pub(crate) fn sum(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = n - n % LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(start + lane);
        }
    }
    for i in whole..n {
        lanes[i - whole] += term(i);
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

/// The dot product of two slices of equal length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    sum(a.len(), |i| a[i] * b[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        for i in -8000..8000 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 4e-7, "{x}");
        }
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
            assert_eq!(sum(n, |i| i as f32), (0..n).sum::<usize>() as f32);
        }
        assert_eq!(max(&(0..37).map(|i| i as f32).collect::<Vec<_>>()), 36.0);
    }
}
