//! Learning-rate schedules over the progress of a run, from 0 to 1.

use arable_core::Probability;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Warm-up, stable, decay (Hu et al. 2024): linear up, flat, then down as `1 - sqrt` (Hägele et al. 2024).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Part of the run in which the rate rises from 0.
    pub warmup: Probability,
    /// Part of the run, at its end, in which the rate falls to 0.
    pub decay: Probability,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        let part = |value| Probability::new(value).expect("a literal in range");
        Self { warmup: part(0.05), decay: part(0.3) }
    }
}

impl ScheduleConfig {
    /// The factor of the peak rate at `progress` in `[0, 1]`.
    pub fn factor(&self, progress: f64) -> f64 {
        let (warmup, decay) = (self.warmup.get(), self.decay.get());
        if progress < warmup {
            return progress / warmup;
        }
        let left = 1.0 - progress;
        if left >= decay { 1.0 } else { 1.0 - (1.0 - left.max(0.0) / decay).sqrt() }
    }
}

/// Linear warm-up over `warmup` of the run, then linear decay to 0: the usual schedule of fine-tuning.
pub fn linear(progress: f64, warmup: Probability) -> f64 {
    let warmup = warmup.get();
    if progress < warmup { progress / warmup } else { ((1.0 - progress) / (1.0 - warmup).max(1e-9)).clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_their_corners() {
        let schedule = ScheduleConfig::default();
        assert_eq!(schedule.factor(0.0), 0.0);
        assert_eq!(schedule.factor(0.5), 1.0);
        assert!((schedule.factor(0.025) - 0.5).abs() < 1e-12);
        assert!(schedule.factor(0.999) < 0.05 && schedule.factor(1.0) >= 0.0);
        let warmup = Probability::new(0.1).unwrap();
        assert!((linear(0.05, warmup) - 0.5).abs() < 1e-12);
        assert!((linear(0.55, warmup) - 0.5).abs() < 1e-12);
        assert_eq!(linear(1.0, warmup), 0.0);
    }
}
