//! Initial weights.

use arable_core::Draws;
use rayon::prelude::*;

use crate::ops::ELEMENTS_PER_JOB;
use crate::simd::vectorized;

/// Fills `values` with normal values of the deviation `deviation` that are cut off at two deviations, one for each draw: the same for
/// any number of them and of threads.
pub fn cut_normal(draws: &Draws, deviation: f64, values: &mut [f32]) {
    values.par_chunks_mut(ELEMENTS_PER_JOB).enumerate().for_each(|(job, values)| {
        let mut draws = draws.clone();
        draws.skip((job * ELEMENTS_PER_JOB) as u64);
        fill(draws, deviation, values);
    });
}

vectorized! {
    fn fill(draws: Draws, deviation: f64, values: &mut [f32]) {
        for (idx, value) in values.iter_mut().enumerate() {
            let mut draws = draws.clone();
            draws.skip(idx as u64);
            *value = (deviation * quantile(IN_TWO * (draws.uniform() - 0.5))) as f32;
        }
    }
}

/// The probability that a standard normal value lies within two deviations.
const IN_TWO: f64 = 0.954_499_736_103_641_6;

/// The standard normal value below which `0.5 + q` lie, for those within two deviations, relative error below 1e-8 (Acklam's
/// rational function for the middle of the distribution).
#[inline(always)]
fn quantile(q: f64) -> f64 {
    const ABOVE: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const BELOW: [f64; 6] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
        1.0,
    ];
    let polynomial = |coefficients: [f64; 6]| coefficients.into_iter().fold(0.0, |sum, own| sum * (q * q) + own);
    q * polynomial(ABOVE) / polynomial(BELOW)
}

#[cfg(test)]
mod tests {
    use arable_core::Seed;

    use super::*;

    /// Beside the integral of the density, by Simpson's rule.
    #[test]
    fn quantiles_invert_the_distribution() {
        let density = |z: f64| (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        for i in -100..=100 {
            let q = 0.005 * f64::from(i) * IN_TWO;
            let (z, steps) = (quantile(q), 2000);
            let weight = |k: i32| if k == 0 || k == steps { 1.0 } else { f64::from(2 + k % 2 * 2) };
            let width = z / f64::from(steps);
            let area = (0..=steps).map(|k| weight(k) * density(f64::from(k) * width)).sum::<f64>() * width / 3.0;
            assert!((area - q).abs() < 1e-8, "{q}: {z}");
        }
        assert!((quantile(0.5 * IN_TWO) - 2.0).abs() < 1e-6);
    }

    #[test]
    fn initial_weights_are_cut_normal_and_the_same_for_any_length() {
        let draws = Seed(3).stream("weights").at(0, 0);
        let filled = |len: usize| {
            let mut values = vec![f32::NAN; len];
            cut_normal(&draws, 0.5, &mut values);
            values
        };
        let values = filled(200_001);
        assert!(values.iter().all(|value| value.abs() <= 1.0));
        let moment = |n: i32| values.iter().map(|&value| f64::from(2.0 * value).powi(n)).sum::<f64>() / 200_001.0;
        // Of a normal cut off at two deviations: 1 - 4 phi(2) / P(|z| <= 2).
        assert!(moment(1).abs() < 0.01 && (moment(2) - 0.773_74).abs() < 0.01, "{} {}", moment(1), moment(2));
        assert_eq!(values[..70_000], filled(70_000));
        // Whatever instructions the machine has.
        let mut draws = draws;
        let one = |value: f64| (0.5 * quantile(IN_TWO * (value - 0.5))) as f32;
        assert!(values.iter().all(|&value| value.to_bits() == one(draws.uniform()).to_bits()));
    }
}
