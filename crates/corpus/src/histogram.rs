//! The distribution of numbers in bounded memory: counts in buckets whose width grows with the value (Masson et al. 2019,
//! DDSketch).
//!
//! Two of them add up to what one would have counted, in any order, and their buckets are the same everywhere, so that
//! distributions of two corpora can be compared. Sketches that keep chosen values instead (KLL, t-digest) draw at random
//! or depend on the order.

use std::collections::BTreeMap;

/// Values in a bucket differ by 2 % at most.
const GROWTH: f64 = 1.02;
/// Nearer to 0 is 0.
const LEAST: f64 = 1e-12;
/// Above the logarithm of 1 / [`LEAST`].
const OFFSET: f64 = 1400.0;

/// Counts of numbers in buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    pub num: usize,
    sum: f64,
    most: f64,
    /// By rising value.
    pub buckets: BTreeMap<i32, Bucket>,
}

/// Numbers that are about the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    pub num: usize,
    /// The smallest of them.
    least: f64,
    /// The document that had the first.
    pub first: usize,
}

/// The bucket of a number: they rise with it.
fn bucket(value: f64) -> i32 {
    if value.abs() < LEAST {
        return 0;
    }
    let steps = ((value.abs().ln() / GROWTH.ln()).floor() + OFFSET).max(1.0) as i32;
    if value > 0.0 { steps } else { -steps }
}

impl Histogram {
    /// Counts the number of a document.
    pub fn add(&mut self, value: f64, document: usize) {
        let first = Bucket { num: 0, least: value, first: document };
        let bucket = self.buckets.entry(bucket(value)).or_insert(first);
        bucket.num += 1;
        bucket.least = bucket.least.min(value);
        self.most = if self.num == 0 { value } else { self.most.max(value) };
        self.num += 1;
        self.sum += value;
    }

    /// The mean; of nothing, 0.
    pub fn mean(&self) -> f64 {
        self.sum / self.num.max(1) as f64
    }

    /// The value that a share `at` of the numbers does not exceed, 2 % too low at most; the largest is exact.
    pub fn quantile(&self, at: f64) -> f64 {
        let rank = (at * self.num.saturating_sub(1) as f64).round() as usize;
        if rank + 1 >= self.num {
            return self.most;
        }
        let mut below = 0;
        let holds = |bucket: &&Bucket| {
            below += bucket.num;
            below > rank
        };
        self.buckets.values().find(holds).map_or(0.0, |bucket| bucket.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_buckets_rise() {
        let mut counts = Histogram::default();
        let values: Vec<f64> = (-500..=500).map(|i| f64::from(i) * 1.7).collect();
        values.iter().rev().enumerate().for_each(|(number, &value)| counts.add(value, number));
        for (at, exact) in [(0.0, -850.0), (0.25, -425.0), (0.5, 0.0), (0.75, 425.0), (1.0, 850.0)] {
            let found = counts.quantile(at);
            assert!((found - exact).abs() <= 0.02 * exact.abs(), "{at}: {found} instead of {exact}");
        }
        assert!(counts.mean().abs() < 1e-9 && counts.num == 1001);
        let keys: Vec<i32> = values.iter().map(|&value| bucket(value)).collect();
        assert!(keys.is_sorted() && bucket(1e-300) == 0 && bucket(1e-11) > 0 && bucket(f64::MAX) < 40_000);
    }
}
