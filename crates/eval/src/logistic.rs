//! Logistic regression on sparse rows, trained to convergence.
//!
//! The objective is scikit-learn's: `C * sum of losses + ||w||^2 / 2`, the intercept unpenalised. Here it is divided by
//! `C * n`, which changes no optimum. The loss of classes is softmax cross-entropy (also for two, where scikit-learn
//! uses one weight vector: its `C` is twice ours); that of labels is one binary cross-entropy for each label, so all
//! labels are fitted at once but independently.
//!
//! The solver is L-BFGS (Liu and Nocedal 1989) with a bisection line search (Lewis and Overton 2013). A linear
//! model's scores change linearly along a search direction, so trial steps cost no pass over the features.

use std::collections::VecDeque;

use rayon::prelude::*;

use crate::predictions::sigmoid;
use crate::sparse::Rows;

/// Pairs of steps and gradient changes that L-BFGS remembers.
const MEMORY: usize = 8;
/// Rows in one piece of parallel work. Sums are taken piece by piece in order, so threads do not change them.
const ROWS_PER_PIECE: usize = 256;
/// Trial steps of one line search.
const MAX_TRIALS: usize = 40;

/// What is right for each row.
#[derive(Clone, Debug)]
pub enum Targets {
    /// One class out of `num_classes`.
    Classes {
        /// Classes to choose from.
        num_classes: usize,
        /// The class of each row.
        gold: Vec<u32>,
    },
    /// Any of `num_labels`; `gold` is rows x labels.
    Labels {
        /// Labels to choose from.
        num_labels: usize,
        /// Whether each row has each label.
        gold: Vec<bool>,
    },
}

/// When the solver stops.
#[derive(Clone, Copy, Debug)]
pub struct SolverConfig {
    /// Largest absolute entry of the gradient of the mean loss (plus penalty) at which the solver stops.
    pub tolerance: f64,
    /// Steps after which it stops at the latest.
    pub max_steps: u64,
}

/// A linear map from features to logits.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearModel {
    num_outputs: usize,
    /// (features + 1) x outputs; the last row holds the intercepts.
    weights: Vec<f64>,
}

/// A trained model and how training went.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The model.
    pub model: LinearModel,
    /// L-BFGS steps done.
    pub num_steps: u64,
    /// Whether the gradient fell below the tolerance.
    pub converged: bool,
}

/// Rows with targets, ready to be fitted several times.
pub struct Problem<'a> {
    rows: &'a Rows,
    by_column: Rows,
    targets: &'a Targets,
}

/// A point of the search: weights with the scores (rows x outputs) they give.
struct Point {
    weights: Vec<f64>,
    scores: Vec<f64>,
}

/// Remembered curvature.
#[derive(Default)]
struct History(VecDeque<Pair>);

struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    product: f64,
}

impl Targets {
    fn num_outputs(&self) -> usize {
        match self {
            Self::Classes { num_classes, .. } => *num_classes,
            Self::Labels { num_labels, .. } => *num_labels,
        }
    }

    fn num_rows(&self) -> usize {
        match self {
            Self::Classes { gold, .. } => gold.len(),
            Self::Labels { num_labels, gold } => gold.len() / num_labels,
        }
    }

    /// The loss of row `i`; turns its scores into the loss's gradient by scores.
    fn loss(&self, i: usize, scores: &mut [f64]) -> f64 {
        match self {
            Self::Classes { gold, .. } => softmax_loss(scores, gold[i] as usize),
            Self::Labels { num_labels, gold } => {
                let gold = &gold[i * num_labels..(i + 1) * num_labels];
                scores.iter_mut().zip(gold).map(|(score, &gold)| sigmoid_loss(score, gold)).sum()
            }
        }
    }
}

fn softmax_loss(scores: &mut [f64], gold: usize) -> f64 {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let margin = scores[gold] - top;
    scores.iter_mut().for_each(|score| *score = (*score - top).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    scores[gold] -= 1.0;
    sum.ln() - margin
}

fn sigmoid_loss(score: &mut f64, gold: bool) -> f64 {
    let margin = if gold { -*score } else { *score };
    *score = sigmoid(*score) - f64::from(u8::from(gold));
    margin.max(0.0) + (-margin.abs()).exp().ln_1p()
}

impl LinearModel {
    fn zeros(num_columns: usize, num_outputs: usize) -> Self {
        Self { num_outputs, weights: vec![0.0; (num_columns + 1) * num_outputs] }
    }

    /// Weights, features x outputs.
    pub fn weights(&self) -> &[f64] {
        &self.weights[..self.weights.len() - self.num_outputs]
    }

    /// One intercept for each output.
    pub fn intercepts(&self) -> &[f64] {
        &self.weights[self.weights.len() - self.num_outputs..]
    }

    /// Logits, rows x outputs.
    ///
    /// # Panics
    /// When `rows` has another number of features than the model was fitted to.
    pub fn logits(&self, rows: &Rows) -> Vec<f32> {
        assert_eq!((rows.num_columns() + 1) * self.num_outputs, self.weights.len(), "features fit the model");
        scores(rows, &self.weights, self.num_outputs).into_iter().map(|score| score as f32).collect()
    }
}

/// Rows times weights plus intercepts.
fn scores(rows: &Rows, weights: &[f64], num_outputs: usize) -> Vec<f64> {
    let intercepts = &weights[rows.num_columns() * num_outputs..];
    let mut scores = vec![0.0; rows.num_rows() * num_outputs];
    scores.par_chunks_mut(ROWS_PER_PIECE * num_outputs).enumerate().for_each(|(piece, scores)| {
        for (i, scores) in scores.chunks_exact_mut(num_outputs).enumerate() {
            scores.copy_from_slice(intercepts);
            for (column, value) in rows.row(piece * ROWS_PER_PIECE + i) {
                add(scores, f64::from(value), &weights[column * num_outputs..][..num_outputs]);
            }
        }
    });
    scores
}

impl<'a> Problem<'a> {
    /// Prepares rows for fitting.
    ///
    /// # Panics
    /// When there are not as many targets as rows.
    pub fn new(rows: &'a Rows, targets: &'a Targets) -> Self {
        assert_eq!(rows.num_rows(), targets.num_rows(), "one target for each row");
        Self { rows, by_column: rows.transposed(), targets }
    }

    /// Fits with inverse regularisation strength `c`, beginning from `start` or zeros. The optimum is unique, so `start`
    /// changes the result only within the tolerance.
    pub fn fit(&self, c: f64, start: Option<&LinearModel>, config: &SolverConfig) -> Fit {
        let num_outputs = self.targets.num_outputs();
        let penalty = 1.0 / (c * self.rows.num_rows() as f64);
        let model = start.cloned().unwrap_or_else(|| LinearModel::zeros(self.rows.num_columns(), num_outputs));
        let scores = scores(self.rows, &model.weights, num_outputs);
        let mut point = Point { weights: model.weights, scores };
        let mut history = History::default();
        let mut value = self.value(&point, penalty);
        let mut gradient = self.gradient(&point, penalty);
        let mut num_steps = 0;
        while largest(&gradient) > config.tolerance && num_steps < config.max_steps {
            let direction = history.direction(&gradient);
            let slope = dot(&gradient, &direction);
            let Some((step, fallen)) = self.advance(&mut point, (value, slope), direction, penalty) else { break };
            value = fallen;
            let before = std::mem::replace(&mut gradient, self.gradient(&point, penalty));
            history.remember(step, &before, &gradient);
            num_steps += 1;
        }
        let converged = largest(&gradient) <= config.tolerance;
        Fit { model: LinearModel { num_outputs, weights: point.weights }, num_steps, converged }
    }

    /// Moves along `direction`, where the objective has value and slope `here`, as far as the line search goes; returns
    /// the step and the new value, or `None` if nothing is gained.
    fn advance(
        &self,
        point: &mut Point,
        here: (f64, f64),
        mut direction: Vec<f64>,
        penalty: f64,
    ) -> Option<(Vec<f64>, f64)> {
        let along = scores(self.rows, &direction, self.targets.num_outputs());
        let penalized = self.rows.num_columns() * self.targets.num_outputs();
        let (weights, ahead) = (&point.weights[..penalized], &direction[..penalized]);
        let (square, cross, bend) = (dot(weights, weights), dot(weights, ahead), dot(ahead, ahead));
        let (length, value) = line_search(here, |t| {
            let (loss, slope) = self.loss_along(&point.scores, &along, t);
            let norm = 0.5 * (square + t * (2.0 * cross + t * bend));
            (loss + penalty * norm, slope + penalty * (cross + t * bend))
        })?;
        direction.iter_mut().for_each(|entry| *entry *= length);
        add(&mut point.weights, 1.0, &direction);
        add(&mut point.scores, length, &along);
        Some((direction, value))
    }

    /// Mean loss plus penalty.
    fn value(&self, point: &Point, penalty: f64) -> f64 {
        let penalized = &point.weights[..self.rows.num_columns() * self.targets.num_outputs()];
        self.loss_along(&point.scores, &point.scores, 0.0).0 + 0.5 * penalty * dot(penalized, penalized)
    }

    /// The mean loss at `scores + t * along` and its derivative by `t`.
    fn loss_along(&self, scores: &[f64], along: &[f64], t: f64) -> (f64, f64) {
        let num_outputs = self.targets.num_outputs();
        let piece = ROWS_PER_PIECE * num_outputs;
        let pieces = scores.par_chunks(piece).zip(along.par_chunks(piece)).enumerate();
        let sums: Vec<(f64, f64)> = pieces
            .map(|(piece, (scores, along))| {
                let mut row = vec![0.0; num_outputs];
                let rows = scores.chunks_exact(num_outputs).zip(along.chunks_exact(num_outputs)).enumerate();
                rows.fold((0.0, 0.0), |(loss, slope), (i, (scores, along))| {
                    row.copy_from_slice(scores);
                    add(&mut row, t, along);
                    let row_loss = self.targets.loss(piece * ROWS_PER_PIECE + i, &mut row);
                    (loss + row_loss, slope + dot(&row, along))
                })
            })
            .collect();
        let (loss, slope) = sums.iter().fold((0.0, 0.0), |sum, piece| (sum.0 + piece.0, sum.1 + piece.1));
        let num_rows = self.rows.num_rows() as f64;
        (loss / num_rows, slope / num_rows)
    }

    /// The gradient of mean loss plus penalty.
    fn gradient(&self, point: &Point, penalty: f64) -> Vec<f64> {
        let (num_outputs, num_rows) = (self.targets.num_outputs(), self.rows.num_rows() as f64);
        let mut residuals = point.scores.clone();
        residuals.par_chunks_mut(num_outputs).with_min_len(ROWS_PER_PIECE).enumerate().for_each(|(i, row)| {
            self.targets.loss(i, row);
            row.iter_mut().for_each(|entry| *entry /= num_rows);
        });
        let mut gradient = point.weights.clone();
        let (columns, intercepts) = gradient.split_at_mut(self.rows.num_columns() * num_outputs);
        columns.par_chunks_mut(num_outputs).with_min_len(ROWS_PER_PIECE).enumerate().for_each(|(column, sums)| {
            sums.iter_mut().for_each(|entry| *entry *= penalty);
            for (row, value) in self.by_column.row(column) {
                add(sums, f64::from(value), &residuals[row * num_outputs..][..num_outputs]);
            }
        });
        intercepts.fill(0.0);
        residuals.chunks_exact(num_outputs).for_each(|row| add(intercepts, 1.0, row));
        gradient
    }
}

impl History {
    /// The quasi-Newton direction: minus the remembered inverse Hessian times the gradient (two-loop recursion).
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut direction: Vec<f64> = gradient.iter().map(|entry| -entry).collect();
        let Some(last) = self.0.back() else {
            let length = dot(gradient, gradient).sqrt();
            direction.iter_mut().for_each(|entry| *entry /= length.max(1.0));
            return direction;
        };
        let mut parts = Vec::with_capacity(self.0.len());
        for pair in self.0.iter().rev() {
            let part = dot(&pair.step, &direction) / pair.product;
            add(&mut direction, -part, &pair.change);
            parts.push(part);
        }
        let scale = last.product / dot(&last.change, &last.change);
        direction.iter_mut().for_each(|entry| *entry *= scale);
        for (pair, part) in self.0.iter().zip(parts.iter().rev()) {
            let back = dot(&pair.change, &direction) / pair.product;
            add(&mut direction, part - back, &pair.step);
        }
        direction
    }

    fn remember(&mut self, step: Vec<f64>, before: &[f64], after: &[f64]) {
        let change: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let product = dot(&step, &change);
        if product <= 0.0 {
            return;
        }
        if self.0.len() == MEMORY {
            self.0.pop_front();
        }
        self.0.push_back(Pair { step, change, product });
    }
}

/// A step at which the function, with value and slope `here` at 0, has fallen enough and is flatter (Wolfe conditions),
/// with the value there; `None` when the function does not fall. Close to the optimum a fall is smaller than rounding:
/// there the slope decides alone, as in Hager and Zhang's approximate conditions (2005).
fn line_search(here: (f64, f64), function: impl Fn(f64) -> (f64, f64)) -> Option<(f64, f64)> {
    let (value, slope) = here;
    if slope >= 0.0 {
        return None;
    }
    let rounding = 1e-14 * (1.0 + value.abs());
    let (mut low, mut high, mut t) = ((0.0, value), f64::INFINITY, 1.0);
    for _ in 0..MAX_TRIALS {
        let (there, slope_there) = function(t);
        if there > value + 1e-4 * t * slope + rounding || slope_there > -0.9 * slope {
            high = t;
        } else if slope_there < 0.9 * slope {
            low = (t, there);
        } else {
            return Some((t, there));
        }
        t = if high.is_finite() { 0.5 * (low.0 + high) } else { 2.0 * low.0 };
    }
    Some(low).filter(|&(t, _)| t > 0.0)
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| value.abs().max(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: SolverConfig = SolverConfig { tolerance: 1e-10, max_steps: 500 };

    fn rows(n: usize) -> Rows {
        let mut draws = arable_core::Seed(4).stream("rows").at(0, 0);
        let mut rows = Rows::new(12);
        (0..n).for_each(|_| rows.push((0..12).step_by(1 + draws.below(3)).map(|i| (i, draws.normal() as f32))));
        rows
    }

    fn classes(n: usize) -> Targets {
        Targets::Classes { num_classes: 3, gold: (0..n as u32).map(|i| (i * i + i / 5) % 3).collect() }
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let (rows, targets) = (rows(40), classes(40));
        let problem = Problem::new(&rows, &targets);
        let weights: Vec<f64> = (0..13 * 3).map(|i| f64::from(i % 7) * 0.1 - 0.3).collect();
        let at = |weights: Vec<f64>| {
            let scores = scores(&rows, &weights, 3);
            Point { weights, scores }
        };
        let value = |weights: Vec<f64>| problem.value(&at(weights), 0.2);
        let gradient = problem.gradient(&at(weights.clone()), 0.2);
        for i in [0, 17, 36, 38] {
            let moved = |by: f64| {
                let mut moved = weights.clone();
                moved[i] += by;
                value(moved)
            };
            let numeric = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((numeric - gradient[i]).abs() < 1e-8, "{numeric} {}", gradient[i]);
        }
    }

    #[test]
    fn the_optimum_depends_on_neither_start_nor_threads() {
        let (rows, targets) = (rows(600), classes(600));
        let problem = Problem::new(&rows, &targets);
        let cold = problem.fit(3.0, None, &TIGHT);
        assert!(cold.converged);
        let other = problem.fit(0.1, None, &TIGHT);
        let warm = problem.fit(3.0, Some(&other.model), &TIGHT);
        assert!(warm.converged && other.converged);
        for (a, b) in cold.model.weights.iter().zip(&warm.model.weights) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| problem.fit(3.0, None, &TIGHT)).model, cold.model);
    }

    #[test]
    fn a_class_without_examples_stays_finite() {
        let rows = rows(10);
        let targets = Targets::Classes { num_classes: 4, gold: vec![0, 1, 2, 0, 1, 2, 0, 1, 2, 0] };
        let fit = Problem::new(&rows, &targets).fit(1e6, None, &SolverConfig { tolerance: 1e-5, max_steps: 1000 });
        assert!(fit.model.logits(&rows).iter().all(|logit| logit.is_finite()));
        let single = Targets::Classes { num_classes: 1, gold: vec![0; 10] };
        assert!(Problem::new(&rows, &single).fit(1.0, None, &TIGHT).converged);
    }
}
