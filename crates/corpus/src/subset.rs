//! Few labels: nested parts of a training set.

use std::collections::BTreeSet;

use arable_core::{Draws, Example, Fraction};

/// Fewer examples than this teach nothing worth measuring.
const MIN_EXAMPLES: usize = 8;

/// The indices of a part of `examples`, in the order drawn. Equal draws give nested parts: a smaller fraction's part is
/// the start of a larger one's. One example for each label comes first, so that every part knows all labels; hence the
/// part has at least as many examples as that takes, and at least eight where there are eight.
pub fn subset(examples: &[Example], fraction: Fraction, mut draws: Draws) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    draws.shuffle(&mut order);
    let mut labels = BTreeSet::new();
    let adds_label = |i: &usize| examples[*i].target.labels().iter().filter(|label| labels.insert(*label)).count() > 0;
    let (first, rest): (Vec<usize>, Vec<usize>) = order.into_iter().partition(adds_label);
    let wanted = (fraction.get() * examples.len() as f64).round() as usize;
    let num_taken = wanted.max(first.len()).max(MIN_EXAMPLES).min(examples.len());
    first.into_iter().chain(rest).take(num_taken).collect()
}

#[cfg(test)]
mod tests {
    use arable_core::{Input, Seed, Target};
    use proptest::prelude::*;

    use super::*;

    fn examples(labels: &[u8]) -> Vec<Example> {
        let example = |(i, label): (usize, &u8)| Example {
            id: i.to_string(),
            group: None,
            input: Input::Text(i.to_string()),
            target: Target::Class(label.to_string()),
        };
        labels.iter().enumerate().map(example).collect()
    }

    proptest! {
        #[test]
        fn nested_and_with_every_label(labels in prop::collection::vec(0_u8..20, 1..200), seed in 0_u64..99) {
            let examples = examples(&labels);
            let draws = Seed(seed).stream("budget").at(0, 0);
            let part = |fraction| subset(&examples, Fraction::new(fraction).unwrap(), draws.clone());
            let (small, large, all) = (part(0.1), part(0.25), part(1.0));
            prop_assert_eq!(&large[..small.len()], &small[..]);
            prop_assert_eq!(&all[..large.len()], &large[..]);
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), labels.len());
            let known: BTreeSet<u8> = small.iter().map(|i| labels[*i]).collect();
            prop_assert_eq!(known, labels.iter().copied().collect::<BTreeSet<_>>());
            prop_assert!(small.len() >= labels.len().min(8));
        }
    }

    #[test]
    fn sizes_follow_the_fraction() {
        let examples = examples(&[0, 1].repeat(500));
        let len = |fraction| subset(&examples, Fraction::new(fraction).unwrap(), Seed(1).stream("b").at(0, 0)).len();
        assert_eq!((len(0.001), len(0.05), len(1.0)), (8, 50, 1000));
    }
}
