//! The source that is learned worst counts more (group DRO, Sagawa et al. 2020, "Distributionally robust neural networks for
//! group shifts"): weights of sources rise exponentially with their losses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How fast the weights of sources move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorstSourceConfig {
    /// By how much the logarithm of a source's weight rises in a step for each nat of its loss.
    pub rate: f64,
}

impl Default for WorstSourceConfig {
    fn default() -> Self {
        Self { rate: 0.01 }
    }
}

/// What each target counts, so that each source in a batch counts as `weights` say, however many targets it has there.
/// Without weights, all count alike.
pub(crate) fn scales(weights: &[f64], sources: &[usize]) -> Vec<f32> {
    let mut counts = vec![0_usize; weights.len()];
    sources.iter().for_each(|&source| counts[source] += 1);
    sources.iter().map(|&source| (weights[source] / counts[source] as f64) as f32).collect()
}

/// Moves the weights by the losses of targets in a batch. A source without any stays as it is.
pub(crate) fn update(weights: &mut [f64], config: &WorstSourceConfig, losses: &[f32], sources: &[usize]) {
    let mut sums = vec![(0.0, 0_usize); weights.len()];
    for (&source, &loss) in sources.iter().zip(losses) {
        sums[source] = (sums[source].0 + f64::from(loss), sums[source].1 + 1);
    }
    for (weight, (sum, count)) in weights.iter_mut().zip(sums).filter(|(_, (_, count))| *count > 0) {
        *weight *= (config.rate * sum / count as f64).exp();
    }
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= total);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_source_gains_and_absent_ones_keep_their_ratio() {
        let mut weights = vec![0.25; 4];
        let config = WorstSourceConfig { rate: 1.0 };
        update(&mut weights, &config, &[1.0, 3.0, 2.0], &[0, 0, 1]);
        assert!((weights[0] / weights[2] - 2.0_f64.exp()).abs() < 1e-9);
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(weights[0] == weights[1] && weights[2] == weights[3]);
        let scales = scales(&[0.5, 0.25, 0.25, 0.0], &[0, 0, 1]);
        assert_eq!(scales, [0.25, 0.25, 0.25]);
    }
}
