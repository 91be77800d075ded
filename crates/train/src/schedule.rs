//! Learning-rate schedules over the progress of a run, from 0 to 1.

use arable_core::Probability;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate rises from 0 and falls again. Every stage of a plan has a schedule of its own, so that it warms
/// up again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Warm-up, stable, decay (Hu et al. 2024): linear up, flat, then down as `1 - sqrt` (Hägele et al. 2024).
    Wsd {
        /// Part of the stage in which the rate rises from 0.
        #[serde(default = "five_percent")]
        warmup: Probability,
        /// Part of the stage, at its end, in which the rate falls to 0.
        #[serde(default = "thirty_percent")]
        decay: Probability,
    },
    /// Half a cosine after the warm-up (Loshchilov, Hutter 2017).
    Cosine {
        /// Part of the stage in which the rate rises from 0.
        #[serde(default = "five_percent")]
        warmup: Probability,
        /// The part of the peak rate that it ends at.
        #[serde(default = "nothing")]
        floor: Probability,
    },
    /// A straight line down to 0 after the warm-up.
    Linear {
        /// Part of the stage in which the rate rises from 0.
        #[serde(default = "five_percent")]
        warmup: Probability,
    },
}

fn part(value: f64) -> Probability {
    Probability::new(value).expect("a literal in range")
}

fn nothing() -> Probability {
    part(0.0)
}

fn five_percent() -> Probability {
    part(0.05)
}

fn thirty_percent() -> Probability {
    part(0.3)
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Wsd { warmup: five_percent(), decay: thirty_percent() }
    }
}

impl ScheduleConfig {
    /// The factor of the peak rate at `progress` in `[0, 1]`.
    pub fn factor(&self, progress: f64) -> f64 {
        let (Self::Wsd { warmup, .. } | Self::Cosine { warmup, .. } | Self::Linear { warmup }) = *self;
        if progress < warmup.get() {
            return progress / warmup.get();
        }
        match self {
            Self::Wsd { decay, .. } => {
                let left = (1.0 - progress).max(0.0);
                if left >= decay.get() { 1.0 } else { 1.0 - (1.0 - left / decay.get()).sqrt() }
            }
            Self::Cosine { floor, .. } => {
                let done = ((progress - warmup.get()) / (1.0 - warmup.get()).max(1e-9)).min(1.0);
                floor.get() + (1.0 - floor.get()) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            Self::Linear { .. } => linear(progress, warmup),
        }
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
        let cosine: ScheduleConfig = serde_json::from_str(r#"{"cosine": {"warmup": 0.1, "floor": 0.2}}"#).unwrap();
        assert!((cosine.factor(0.1) - 1.0).abs() < 1e-12 && (cosine.factor(1.0) - 0.2).abs() < 1e-12);
        assert!((cosine.factor(0.55) - 0.6).abs() < 1e-12);
        let warmup = Probability::new(0.1).unwrap();
        assert_eq!(ScheduleConfig::Linear { warmup }.factor(0.55), linear(0.55, warmup));
        assert!((linear(0.05, warmup) - 0.5).abs() < 1e-12);
        assert!((linear(0.55, warmup) - 0.5).abs() < 1e-12);
        assert_eq!(linear(1.0, warmup), 0.0);
    }
}
