//! Several adapters of one base as one model.

use arable_tensor::ParameterSpec;

use crate::adapter::AdapterError;
use crate::transformer::Model;

/// How adapters become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Merge {
    /// The weighted sum of what they change.
    Linear,
    /// The same of the largest changes, where most agree on the sign: each keeps the part `density` of every weight
    /// (Yadav et al. 2023, "TIES-Merging").
    Ties {
        /// The part that is kept.
        density: f64,
    },
}

/// Merges models with adapters on one base into a model without: `weights` are theirs, in order; the head is that of the first.
///
/// # Errors
/// When an adapter has no form as weights, or when the models have different bases.
///
/// # Panics
/// When there is no model or not one weight for each.
pub fn merge_adapters(models: &[Model], weights: &[f32], how: Merge) -> Result<Model, AdapterError> {
    assert_eq!(models.len(), weights.len(), "a weight for each adapter");
    let is_below = |spec: &ParameterSpec| spec.name.starts_with("model.");
    let base = models[0].parameters();
    if models.iter().any(|model| model.parameters().digest_of(is_below) != base.digest_of(is_below)) {
        return Err(AdapterError::OtherBase);
    }
    let merged: Vec<Model> = models.iter().map(Model::merged).collect::<Result<_, _>>()?;
    let mut all = merged[0].clone();
    for (id, spec, before) in base.iter().filter(|(_, spec, _)| is_below(spec)) {
        let deltas: Vec<Vec<f32>> = merged
            .iter()
            .zip(weights)
            .map(|(one, weight)| delta(one.parameters().value(id), before, *weight))
            .collect();
        debug_assert_eq!(spec, all.parameters().spec(id), "the base's weights come first");
        let change = match how {
            Merge::Linear => sum(&deltas),
            Merge::Ties { density } => ties(deltas, density),
        };
        let sums = all.parameters_mut().value_mut(id).iter_mut().zip(before).zip(change);
        sums.for_each(|((value, before), change)| *value = before + change);
    }
    Ok(all)
}

fn delta(after: &[f32], before: &[f32], weight: f32) -> Vec<f32> {
    after.iter().zip(before).map(|(after, before)| weight * (after - before)).collect()
}

fn sum(deltas: &[Vec<f32>]) -> Vec<f32> {
    (0..deltas[0].len()).map(|idx| deltas.iter().map(|delta| delta[idx]).sum()).collect()
}

/// Trim, elect a sign, and average those that have it.
fn ties(mut deltas: Vec<Vec<f32>>, density: f64) -> Vec<f32> {
    deltas.iter_mut().for_each(|delta| trim(delta, density));
    let elected = sum(&deltas);
    let mean = |(idx, total): (usize, f32)| {
        let agreeing = deltas.iter().map(|delta| delta[idx]).filter(|value| value * total > 0.0);
        let (count, sum) = agreeing.fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value));
        sum / count.max(1) as f32
    };
    elected.into_iter().enumerate().map(mean).collect()
}

/// Leaves the part `density` with the largest magnitudes, and what is as large as the smallest of them.
fn trim(delta: &mut [f32], density: f64) {
    let num_kept = (delta.len() as f64 * density).ceil() as usize;
    let mut sizes: Vec<f32> = delta.iter().map(|value| value.abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let least = sizes.get(num_kept.max(1) - 1).copied().unwrap_or(0.0);
    delta.iter_mut().filter(|value| value.abs() < least).for_each(|value| *value = 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_keep_what_is_large_and_agreed_on() {
        let found = ties(vec![vec![4.0, -3.0, 0.1, 2.0], vec![2.0, 5.0, -0.2, -0.1]], 0.5);
        // The first: both agree; the second: the larger sign wins; the rest was trimmed.
        assert_eq!(found, [3.0, 5.0, 0.0, 0.0]);
        let found = ties(vec![vec![1.0, -2.0]], 1.0);
        assert_eq!(found, [1.0, -2.0]);
    }
}
