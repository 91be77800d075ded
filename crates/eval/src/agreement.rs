//! How far people who labelled the same things agree, beyond chance.

use arable_core::Seed;

use crate::bootstrap::{Interval, resampled};

/// What several people answered: a row for each thing, a place in it for each person, empty where a person did not
/// answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ratings {
    rows: Vec<Vec<Option<u32>>>,
    num_raters: usize,
}

/// A measure of agreement: 1 where all agree, 0 where they agree as often as by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Two people, each with frequencies of answers of their own (Cohen 1960).
    CohensKappa,
    /// Any number of people who all answered (Fleiss 1971).
    FleissKappa,
    /// Any number of people, with gaps (Krippendorff 2011, nominal).
    KrippendorffsAlpha,
}

impl Ratings {
    /// # Panics
    /// When rows have different lengths.
    pub fn new(rows: Vec<Vec<Option<u32>>>) -> Self {
        let num_raters = rows.first().map_or(0, Vec::len);
        assert!(rows.iter().all(|row| row.len() == num_raters), "a place for each person in every row");
        Self { rows, num_raters }
    }

    /// How many people there are.
    pub fn num_raters(&self) -> usize {
        self.num_raters
    }

    /// The answers of two of the people.
    #[must_use]
    pub fn pair(&self, first: usize, second: usize) -> Self {
        Self::new(self.rows.iter().map(|row| vec![row[first], row[second]]).collect())
    }

    /// Agreement with its 95 % interval over resampled things; `None` where it is not defined: nothing that two people
    /// answered, all answers the same, or [`Agreement::CohensKappa`] of other than two people.
    pub fn agreement(&self, measure: Agreement, num_resamples: usize, seed: Seed) -> Option<Interval> {
        let counted: Vec<&[Option<u32>]> =
            self.rows.iter().map(Vec::as_slice).filter(|row| measure.counts(row)).collect();
        let value = measure.of(&counted, &vec![1; counted.len()])?;
        // A resample without two different answers says nothing.
        Some(resampled(value, counted.len(), num_resamples, seed, |weights| measure.of(&counted, weights)))
    }
}

impl Agreement {
    fn counts(self, row: &[Option<u32>]) -> bool {
        let num_answers = row.iter().flatten().count();
        match self {
            Self::CohensKappa => row.len() == 2 && num_answers == 2,
            Self::FleissKappa => row.len() > 1 && num_answers == row.len(),
            Self::KrippendorffsAlpha => num_answers > 1,
        }
    }

    /// One less observed over expected disagreement, each row as often as its weight says.
    fn of(self, rows: &[&[Option<u32>]], weights: &[u32]) -> Option<f64> {
        let num_labels = rows.iter().flat_map(|row| row.iter().flatten()).max().map_or(0, |&top| top as usize + 1);
        // Frequencies of answers: of each person, or of all.
        let num_columns = if self == Self::CohensKappa { 2 } else { 1 };
        let mut frequencies = vec![vec![0.0; num_labels]; num_columns];
        let (mut observed, mut total) = (0.0, 0.0);
        for (row, &weight) in rows.iter().zip(weights) {
            let weight = f64::from(weight);
            let num_answers = row.iter().flatten().count() as f64;
            for (person, &answer) in
                row.iter().enumerate().filter_map(|(person, answer)| Some((person, answer.as_ref()?)))
            {
                frequencies[person % num_columns][answer as usize] += weight;
                let others = row.iter().flatten().filter(|&&other| other != answer).count();
                observed += weight * others as f64 / (num_answers - 1.0);
            }
            total += weight * num_answers;
        }
        let chance = match self {
            Self::CohensKappa => pairs(&frequencies[0], &frequencies[1], (total / 2.0).powi(2)),
            Self::FleissKappa => pairs(&frequencies[0], &frequencies[0], total * total),
            // Pairs of two different answers out of all answers.
            Self::KrippendorffsAlpha => pairs(&frequencies[0], &frequencies[0], total * (total - 1.0)),
        };
        (total > 0.0 && chance > 0.0).then(|| 1.0 - observed / total / chance)
    }
}

/// The share of `num_pairs` in which the answers differ.
fn pairs(left: &[f64], right: &[f64], num_pairs: f64) -> f64 {
    let same: f64 = left.iter().zip(right).map(|(a, b)| a * b).sum();
    (left.iter().sum::<f64>() * right.iter().sum::<f64>() - same) / num_pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratings(rows: &[&str]) -> Ratings {
        Ratings::new(rows.iter().map(|row| row.chars().map(|answer| answer.to_digit(10)).collect()).collect())
    }

    fn check(rows: &[&str], measure: Agreement, expected: Option<f64>) {
        let got = ratings(rows).agreement(measure, 200, Seed(1));
        assert_eq!(got.is_some(), expected.is_some(), "{measure:?} of {rows:?}: {got:?}");
        if let (Some(got), Some(expected)) = (got, expected) {
            assert!((got.mean - expected).abs() < 1e-9, "{measure:?} of {rows:?}: {got:?}, not {expected}");
            assert!(got.low <= got.mean && got.mean <= got.high);
        }
    }

    #[test]
    fn agreement_is_that_of_the_papers() {
        // Two people, 20 / 5 / 10 / 15: observed 0.7, by chance 0.5.
        let rows: Vec<&str> = [("00", 20), ("01", 5), ("10", 10), ("11", 15)]
            .into_iter()
            .flat_map(|(row, count)| std::iter::repeat_n(row, count))
            .collect();
        check(&rows, Agreement::CohensKappa, Some(0.4));
        // Fleiss 1971 in small: observed agreement (1 + 1/3) / 2, by chance 5/9.
        check(&["000", "011"], Agreement::FleissKappa, Some((2.0 / 3.0 - 5.0 / 9.0) / (4.0 / 9.0)));
        // Krippendorff 2011, example C: four observers, twelve units, nominal.
        let observers =
            ["11-1", "2232", "3333", "3333", "2222", "1234", "4444", "1121", "2222", "-555", "--11", "--3-"];
        check(&observers, Agreement::KrippendorffsAlpha, Some(0.743_421_052_631_578_9));
    }

    #[test]
    fn what_is_not_defined_is_none() {
        for measure in [Agreement::CohensKappa, Agreement::FleissKappa, Agreement::KrippendorffsAlpha] {
            check(&[], measure, None);
            check(&["1-", "-1"], measure, None);
            check(&["11", "11"], measure, None);
            check(
                &["12", "21", "11", "22"],
                measure,
                if measure == Agreement::KrippendorffsAlpha { Some(0.125) } else { Some(0.0) },
            );
        }
        check(&["123", "213"], Agreement::CohensKappa, None);
        assert_eq!(ratings(&["123"]).pair(0, 2), ratings(&["13"]));
    }
}
