//! What a frozen encoder is worth: a linear model on its states.

use crate::logistic::{Problem, SolverConfig, Targets};
use crate::sparse::Rows;

/// When the solver stops. A probe is measured often, and its last digits do not count.
const SOLVER: SolverConfig = SolverConfig { tolerance: 1e-4, max_steps: 200 };

/// Fits logistic regression (`C` = 1, as in [`Problem`]) to rows of states and says what it makes of other rows: logits,
/// `num_rows x num_outputs`. States are standardised by the mean and deviation of each column of `train`, so that one
/// strength of regularisation suits all encoders (Alain and Bengio 2017, "Understanding intermediate layers using linear
/// classifier probes").
///
/// # Panics
/// When `train` is empty or rows differ in length.
pub fn linear_probe(train: &[Vec<f32>], targets: &Targets, other: &[Vec<f32>]) -> Vec<f32> {
    let columns = standardisation(train);
    let rows = |states: &[Vec<f32>]| {
        let mut rows = Rows::new(columns.len());
        for state in states {
            assert_eq!(state.len(), columns.len(), "rows are of one length");
            let scaled = state.iter().zip(&columns).map(|(value, (mean, scale))| (value - mean) * scale);
            rows.push((0..).zip(scaled));
        }
        rows
    };
    let train = rows(train);
    Problem::new(&train, targets).fit(1.0, None, &SOLVER).model.logits(&rows(other))
}

/// Mean and inverse deviation of each column; a column that never changes is worth nothing.
fn standardisation(rows: &[Vec<f32>]) -> Vec<(f32, f32)> {
    let num_rows = rows.len() as f64;
    (0..rows[0].len())
        .map(|column| {
            let values = || rows.iter().map(|row| f64::from(row[column]));
            let mean = values().sum::<f64>() / num_rows;
            let deviation = (values().map(|value| (value - mean).powi(2)).sum::<f64>() / num_rows).sqrt();
            (mean as f32, if deviation > 1e-12 { (1.0 / deviation) as f32 } else { 0.0 })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_can_tell_apart_is_told_apart_at_any_scale() {
        let rows = |from: usize, scale: f32| -> Vec<Vec<f32>> {
            let row = |i: usize| vec![1e3, scale * (i % 2) as f32, scale * ((i / 2) % 3) as f32];
            (from..from + 60).map(row).collect()
        };
        let gold = |from: usize| (from..from + 60).map(|i| (i % 2) as u32).collect::<Vec<u32>>();
        let targets = Targets::Classes { num_classes: 2, gold: gold(0) };
        for scale in [1e-3, 1.0, 1e3] {
            let logits = linear_probe(&rows(0, scale), &targets, &rows(7, scale));
            let found: Vec<u32> = logits.chunks_exact(2).map(|row| u32::from(row[1] > row[0])).collect();
            assert_eq!(found, gold(7));
        }
    }
}
