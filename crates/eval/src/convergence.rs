//! How much sooner one arm reaches what the other reaches at best.

use serde::{Deserialize, Serialize};

/// Development scores by optimizer step, in steps that rise.
pub type Curve = [(u64, f64)];

/// Steps to an equal score in one seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedConvergence {
    /// The best score of the scratch arm.
    pub score: f64,
    /// The step at which the scratch arm first had it.
    pub scratch_steps: u64,
    /// The step at which the pretrained arm first had it or better; `None` if it never did.
    pub pretrained_steps: Option<u64>,
}

/// Steps to an equal score over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convergence {
    /// Scratch steps over pretrained steps, median over all seeds; a seed that never reached the score counts as 0.
    pub ratio: f64,
    /// Lowest ratio over seeds.
    pub low: f64,
    /// Highest ratio over seeds.
    pub high: f64,
    /// Median steps of the scratch arm (the lower of two middles).
    pub scratch_steps: u64,
    /// Median steps of the pretrained arm (the lower of two middles) over all seeds, those that never reached the score
    /// counting as infinite; `None` when the median is one of those.
    pub pretrained_steps: Option<u64>,
    /// Seeds in which the pretrained arm reached the score.
    pub num_reached: usize,
    /// Seeds.
    pub num_seeds: usize,
}

impl SeedConvergence {
    /// Scratch steps over pretrained steps; 0 if the pretrained arm never reached the score. A score reached before the
    /// first step counts as reached at step 1.
    pub fn ratio(&self) -> f64 {
        let ratio = |steps: u64| self.scratch_steps.max(1) as f64 / steps.max(1) as f64;
        self.pretrained_steps.map_or(0.0, ratio)
    }
}

/// Compares two curves of one seed; `None` when the scratch arm was never measured. Steps are known as finely as the
/// curves are.
pub fn seed_convergence(scratch: &Curve, pretrained: &Curve) -> Option<SeedConvergence> {
    let score = scratch.iter().map(|(_, score)| *score).max_by(f64::total_cmp)?;
    let scratch_steps = first_at(scratch, score)?;
    Some(SeedConvergence { score, scratch_steps, pretrained_steps: first_at(pretrained, score) })
}

/// Takes seeds together; `None` without any.
pub fn convergence(seeds: &[SeedConvergence]) -> Option<Convergence> {
    let mut ratios: Vec<f64> = seeds.iter().map(SeedConvergence::ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let mut scratch: Vec<u64> = seeds.iter().map(|seed| seed.scratch_steps).collect();
    scratch.sort_unstable();
    let mut pretrained: Vec<u64> = seeds.iter().map(|seed| seed.pretrained_steps.unwrap_or(u64::MAX)).collect();
    pretrained.sort_unstable();
    let (last, low_middle) = (ratios.len().checked_sub(1)?, (ratios.len() - 1) / 2);
    Some(Convergence {
        ratio: 0.5 * (ratios[low_middle] + ratios[ratios.len() / 2]),
        low: ratios[0],
        high: ratios[last],
        scratch_steps: scratch[low_middle],
        pretrained_steps: Some(pretrained[low_middle]).filter(|&steps| steps < u64::MAX),
        num_reached: seeds.iter().filter(|seed| seed.pretrained_steps.is_some()).count(),
        num_seeds: seeds.len(),
    })
}

fn first_at(curve: &Curve, score: f64) -> Option<u64> {
    curve.iter().find(|(_, reached)| *reached >= score).map(|(step, _)| *step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_steps_to_the_scratch_best() {
        let scratch = [(10, 0.2), (20, 0.5), (30, 0.4), (40, 0.5)];
        let quick = seed_convergence(&scratch, &[(5, 0.3), (10, 0.6)]).unwrap();
        assert_eq!((quick.scratch_steps, quick.pretrained_steps, quick.ratio()), (20, Some(10), 2.0));
        let never = seed_convergence(&scratch, &[(10, 0.49)]).unwrap();
        assert_eq!((never.pretrained_steps, never.ratio()), (None, 0.0));
        assert_eq!(seed_convergence(&[], &scratch), None);
        assert_eq!(seed_convergence(&scratch, &scratch).unwrap().ratio(), 1.0);
    }

    #[test]
    fn seeds_that_never_arrive_pull_the_median_down() {
        let seed = |scratch_steps, pretrained_steps| SeedConvergence { score: 0.5, scratch_steps, pretrained_steps };
        let both = convergence(&[seed(40, Some(10)), seed(20, None), seed(30, Some(15))]).unwrap();
        assert_eq!((both.ratio, both.low, both.high), (2.0, 0.0, 4.0));
        assert_eq!((both.scratch_steps, both.pretrained_steps, both.num_reached, both.num_seeds), (30, Some(15), 2, 3));
        assert_eq!(convergence(&[seed(40, None)]).unwrap().pretrained_steps, None);
        assert_eq!(convergence(&[]), None);
    }
}
