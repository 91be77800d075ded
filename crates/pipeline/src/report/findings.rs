//! What the numbers say: comparisons, the verdict, labels saved, calibration, pooled over seeds.
//!
//! Headline metrics are scores of which more is better.

use super::format;
use crate::results::{Arm, Cell, ReliabilityBin, Results, Summary, TaskResults};

/// The budget that the verdict speaks about, where it was measured.
const VERDICT_BUDGET: f64 = 0.1;

/// Whether two budgets are the same one.
pub(super) fn same(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

/// The budgets of a task, from few labels to all.
pub(super) fn budgets(task: &TaskResults) -> Vec<f64> {
    distinct(task.summaries.iter().map(|summary| summary.budget))
}

fn distinct(budgets: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut budgets: Vec<f64> = budgets.filter(|budget| budget.is_finite() && *budget > 0.0).collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup_by(|one, other| same(*one, *other));
    budgets
}

/// The summary of one arm at one budget.
pub(super) fn summary(task: &TaskResults, arm: Arm, budget: f64) -> Option<&Summary> {
    task.summaries.iter().find(|summary| summary.arm == arm && same(summary.budget, budget))
}

/// Labelled examples at one budget.
pub(super) fn num_examples(task: &TaskResults, budget: f64) -> Option<usize> {
    task.summaries.iter().find(|summary| same(summary.budget, budget)).map(|summary| summary.num_examples)
}

/// The arms that a task measured, in the order of tables.
pub(super) fn arms(task: &TaskResults) -> Vec<Arm> {
    Arm::ALL.into_iter().filter(|&arm| task.summaries.iter().any(|summary| summary.arm == arm)).collect()
}

/// The arms that any task measured, in the order of tables.
pub(super) fn all_arms(results: &Results) -> Vec<Arm> {
    Arm::ALL.into_iter().filter(|arm| results.tasks.iter().any(|task| arms(task).contains(arm))).collect()
}

/// Most seeds of any summary of the task.
pub(super) fn num_seeds(task: &TaskResults) -> usize {
    task.summaries.iter().map(|summary| summary.num_seeds).max().unwrap_or(0)
}

/// Whether any summary rests on a single seed.
pub(super) fn has_single_seeds(results: &Results) -> bool {
    results.tasks.iter().flat_map(|task| &task.summaries).any(|summary| summary.num_seeds == 1)
}

/// Whether `one` lies above `other` with no overlap of intervals.
pub(super) fn clearly_above(one: &Summary, other: &Summary) -> bool {
    one.mean > other.mean && one.low > other.high
}

/// How an arm stands among the arms of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The highest mean, its interval above every other interval.
    Best,
    /// The highest mean, but an interval overlaps another one.
    BestWithOverlap,
    /// Any other.
    Other,
}

/// How `arm` stands at `budget`. A lone arm is never the best, for there is nothing to compare it with.
pub(super) fn standing(task: &TaskResults, arm: Arm, budget: f64) -> Standing {
    let Some(own) = summary(task, arm, budget) else { return Standing::Other };
    let others: Vec<&Summary> =
        Arm::ALL.into_iter().filter(|&other| other != arm).filter_map(|other| summary(task, other, budget)).collect();
    if others.is_empty() || !own.mean.is_finite() || others.iter().any(|other| other.mean >= own.mean) {
        Standing::Other
    } else if others.iter().all(|other| clearly_above(own, other)) {
        Standing::Best
    } else {
        Standing::BestWithOverlap
    }
}

/// The pretrained arm against another arm over tasks, at one budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Tasks where both were measured.
    pub compared: usize,
    /// Tasks where the pretrained mean is higher.
    pub higher: usize,
    /// Tasks where it is higher and the intervals do not overlap.
    pub clearly_higher: usize,
    /// Tasks where it is lower and the intervals do not overlap.
    pub clearly_lower: usize,
}

/// The pretrained arm against `other` at `budget`.
pub(super) fn tally(results: &Results, other: Arm, budget: f64) -> Tally {
    let mut tally = Tally::default();
    for task in &results.tasks {
        let (Some(own), Some(other)) = (summary(task, Arm::Pretrained, budget), summary(task, other, budget)) else {
            continue;
        };
        if !own.mean.is_finite() || !other.mean.is_finite() {
            continue;
        }
        tally.compared += 1;
        tally.higher += usize::from(own.mean > other.mean);
        tally.clearly_higher += usize::from(clearly_above(own, other));
        tally.clearly_lower += usize::from(clearly_above(other, own));
    }
    tally
}

/// What the run says about pretraining, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Clearly above scratch on more than half of the tasks, clearly below nothing.
    Helps,
    /// Clear differences in both directions, or clear on few tasks.
    Mixed,
    /// No clear difference to scratch on any task.
    Unclear,
    /// Clearly below scratch on at least one task, clearly above on none.
    Hurts,
    /// Nothing to compare with.
    NotMeasured,
}

impl Outcome {
    /// The outcome as a few words.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Helps => "pretraining helps",
            Self::Mixed => "mixed result",
            Self::Unclear => "no clear effect",
            Self::Hurts => "pretraining does not help",
            Self::NotMeasured => "not measured",
        }
    }
}

/// The answer to "does it help?" at one budget.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// The budget that it speaks about.
    pub budget: f64,
    /// Against the same model from random weights.
    pub scratch: Tally,
    /// Against TF-IDF and a linear classifier.
    pub tfidf: Tally,
}

/// The verdict at the budget nearest to 10 % of the labels, or `None` when nothing can be compared.
pub(super) fn verdict(results: &Results) -> Option<Verdict> {
    let all = distinct(results.tasks.iter().flat_map(|task| &task.summaries).map(|summary| summary.budget));
    let comparable = all.into_iter().map(|budget| Verdict {
        budget,
        scratch: tally(results, Arm::Scratch, budget),
        tfidf: tally(results, Arm::Tfidf, budget),
    });
    comparable.filter(|verdict| verdict.scratch.compared + verdict.tfidf.compared > 0).min_by(|one, other| {
        distance_to_verdict_budget(one.budget).total_cmp(&distance_to_verdict_budget(other.budget))
    })
}

fn distance_to_verdict_budget(budget: f64) -> f64 {
    (budget / VERDICT_BUDGET).ln().abs()
}

impl Verdict {
    /// The verdict in a word.
    pub(super) fn outcome(&self) -> Outcome {
        let reference = if self.scratch.compared > 0 { self.scratch } else { self.tfidf };
        let is_ever_lower = self.scratch.clearly_lower + self.tfidf.clearly_lower > 0;
        match (reference.clearly_higher, reference.clearly_lower) {
            (0, 0) => Outcome::Unclear,
            (0, _) => Outcome::Hurts,
            (higher, 0) if 2 * higher > reference.compared && !is_ever_lower => Outcome::Helps,
            _ => Outcome::Mixed,
        }
    }

    /// The verdict in one sentence.
    pub(super) fn sentence(&self) -> String {
        let clauses = self.clauses(|tally| tally.higher, "higher than ");
        format!("At {} of the labels the pretrained model scores {clauses}.", format::budget(self.budget))
    }

    /// How far the intervals carry the verdict, in one sentence.
    pub(super) fn caveat(&self) -> String {
        let mut text =
            format!("Its 95 % interval lies above {}", self.clauses(|tally| tally.clearly_higher, "that of "));
        if self.scratch.clearly_lower + self.tfidf.clearly_lower > 0 {
            text.push_str(&format!("; it lies below {}", self.clauses(|tally| tally.clearly_lower, "that of ")));
        }
        text.push_str("; where intervals overlap, the difference may be chance.");
        text
    }

    fn clauses(&self, number: impl Fn(&Tally) -> usize, than: &str) -> String {
        let named = [("scratch", &self.scratch), ("TF-IDF", &self.tfidf)];
        let mut out = String::new();
        for (name, tally) in named.into_iter().filter(|(_, tally)| tally.compared > 0) {
            let (gap, noun) = match (out.is_empty(), tally.compared) {
                (true, 1) => ("", " task"),
                (true, _) => ("", " tasks"),
                (false, _) => (" and ", ""),
            };
            out.push_str(&format!("{gap}{than}{name} on {} of {}{noun}", number(tally), tally.compared));
        }
        out
    }
}

/// The verdict's word and sentences, also where nothing was measured.
pub(super) fn verdict_texts(results: &Results) -> (Outcome, String, Option<String>) {
    match verdict(results) {
        Some(verdict) => (verdict.outcome(), verdict.sentence(), Some(verdict.caveat())),
        None => (
            Outcome::NotMeasured,
            "This run compared no arms on any task, so it cannot say whether pretraining helps.".to_owned(),
            None,
        ),
    }
}

/// How many labels pretraining saves on a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LabelSaving {
    /// From `budget` on, the pretrained mean is at least the scratch mean at the largest budget.
    Reached {
        /// The smallest such budget.
        budget: f64,
        /// Labelled examples in it.
        num_examples: usize,
        /// The score to reach.
        target: f64,
        /// The budget that scratch needed for it.
        scratch_budget: f64,
        /// Labelled examples in it.
        scratch_num_examples: usize,
    },
    /// The pretrained mean stays below, at every budget or at the largest.
    NotReached {
        /// The score to reach.
        target: f64,
    },
    /// An arm is missing.
    NotMeasured,
}

/// The smallest budget from which on the pretrained mean matches scratch at the largest budget.
pub(super) fn label_saving(task: &TaskResults) -> LabelSaving {
    let budgets = budgets(task);
    let Some(scratch) = budgets.last().and_then(|&budget| summary(task, Arm::Scratch, budget)) else {
        return LabelSaving::NotMeasured;
    };
    let pretrained: Vec<&Summary> =
        budgets.iter().filter_map(|&budget| summary(task, Arm::Pretrained, budget)).collect();
    if pretrained.is_empty() || !scratch.mean.is_finite() {
        return LabelSaving::NotMeasured;
    }
    let num_below = pretrained.iter().rposition(|own| own.mean < scratch.mean || !own.mean.is_finite());
    match pretrained.get(num_below.map_or(0, |at| at + 1)) {
        Some(first) => LabelSaving::Reached {
            budget: first.budget,
            num_examples: first.num_examples,
            target: scratch.mean,
            scratch_budget: scratch.budget,
            scratch_num_examples: scratch.num_examples,
        },
        None => LabelSaving::NotReached { target: scratch.mean },
    }
}

impl LabelSaving {
    /// The finding in one sentence.
    pub(super) fn sentence(&self) -> String {
        match *self {
            Self::Reached { budget, num_examples, target, scratch_budget, scratch_num_examples } => {
                let saved = if same(budget, scratch_budget) { ": no labels saved" } else { "" };
                format!(
                    "With {} of the labels ({}) the pretrained model reaches {}, what scratch reaches with {} ({}){saved}.",
                    format::budget(budget),
                    format::count(num_examples),
                    format::score(target),
                    format::budget(scratch_budget),
                    format::count(scratch_num_examples),
                )
            }
            Self::NotReached { target } => format!(
                "The pretrained model does not reach, or does not hold, the {} of scratch at its largest budget.",
                format::score(target)
            ),
            Self::NotMeasured => "Not measured: an arm is missing.".to_owned(),
        }
    }
}

/// The cells of one arm at one budget.
pub(super) fn cells(task: &TaskResults, arm: Arm, budget: f64) -> impl Iterator<Item = &Cell> {
    task.cells.iter().filter(move |cell| cell.arm == arm && same(cell.budget, budget))
}

/// The smallest and the largest budget of the task's cells; one entry where they are equal.
pub(super) fn outer_budgets(task: &TaskResults) -> Vec<f64> {
    let budgets = distinct(task.cells.iter().map(|cell| cell.budget));
    match (budgets.first(), budgets.last()) {
        (Some(&first), Some(&last)) if !same(first, last) => vec![first, last],
        (Some(&first), _) => vec![first],
        _ => Vec::new(),
    }
}

/// The mean of a metric over seeds, or `None` where no cell has it as a finite number.
pub(super) fn mean_metric(task: &TaskResults, arm: Arm, budget: f64, name: &str) -> Option<f64> {
    let values: Vec<f64> = cells(task, arm, budget)
        .filter_map(|cell| cell.metrics.get(name).copied())
        .filter(|value| value.is_finite())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Calibration of one arm at one budget, mean over seeds.
#[derive(Clone, Copy, Debug)]
pub(super) struct CalibrationRow {
    /// What was trained.
    pub arm: Arm,
    /// Part of the labels used.
    pub budget: f64,
    /// Expected calibration error, before and after temperature scaling.
    pub ece: [Option<f64>; 2],
    /// Brier score, before and after.
    pub brier: [Option<f64>; 2],
    /// Negative log-likelihood in nats, before and after.
    pub nll: [Option<f64>; 2],
}

/// Calibration of every arm at the largest and the smallest budget, arms without calibration left out.
pub(super) fn calibration(task: &TaskResults) -> Vec<CalibrationRow> {
    let mut rows = Vec::new();
    for budget in outer_budgets(task).into_iter().rev() {
        for arm in Arm::ALL {
            let pair = |name: &str| {
                [mean_metric(task, arm, budget, name), mean_metric(task, arm, budget, &format!("{name}_scaled"))]
            };
            let row = CalibrationRow { arm, budget, ece: pair("ece"), brier: pair("brier"), nll: pair("nll") };
            if [row.ece, row.brier, row.nll].iter().flatten().any(Option::is_some) {
                rows.push(row);
            }
        }
    }
    rows
}

/// Reliability bins added up over seeds, before or after temperature scaling, empty bins left out.
pub(super) fn pooled_reliability(task: &TaskResults, arm: Arm, budget: f64, is_scaled: bool) -> Vec<ReliabilityBin> {
    let mut pooled: Vec<ReliabilityBin> = Vec::new();
    for cell in cells(task, arm, budget) {
        let bins = if is_scaled { &cell.reliability_scaled } else { &cell.reliability };
        pooled.resize(pooled.len().max(bins.len()), ReliabilityBin::default());
        for (sum, bin) in pooled.iter_mut().zip(bins).filter(|(_, bin)| bin.count > 0) {
            *sum = merge(*sum, *bin);
        }
    }
    pooled.retain(|bin| bin.count > 0 && bin.confidence.is_finite() && bin.accuracy.is_finite());
    pooled
}

fn merge(one: ReliabilityBin, other: ReliabilityBin) -> ReliabilityBin {
    let count = one.count + other.count;
    let mean = |a: f64, b: f64| (a * one.count as f64 + b * other.count as f64) / count as f64;
    ReliabilityBin {
        count,
        confidence: mean(one.confidence, other.confidence),
        accuracy: mean(one.accuracy, other.accuracy),
    }
}

/// The median curve over seeds: at each step that more than half of the curves reach, the median of their scores.
pub(super) fn median_curve(curves: &[&[(u64, f64)]]) -> Vec<(u64, f64)> {
    let mut steps: Vec<u64> = curves.iter().flat_map(|curve| curve.iter().map(|point| point.0)).collect();
    steps.sort_unstable();
    steps.dedup();
    let at = |step: u64| {
        let scores = curves.iter().filter_map(|curve| curve.iter().find(|point| point.0 == step));
        let scores: Vec<f64> = scores.map(|point| point.1).filter(|score| score.is_finite()).collect();
        (2 * scores.len() > curves.len()).then(|| (step, median(scores)))
    };
    steps.into_iter().filter_map(at).collect()
}

/// The median; the mean of the two in the middle for an even number.
///
/// # Panics
/// When there is no value.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// The median convergence ratio over tasks, with the number of tasks that have one.
pub(super) fn median_convergence(results: &Results) -> Option<(f64, usize)> {
    let ratios: Vec<f64> = results
        .tasks
        .iter()
        .filter_map(|task| task.convergence.as_ref())
        .map(|convergence| convergence.ratio)
        .filter(|ratio| ratio.is_finite())
        .collect();
    (!ratios.is_empty()).then(|| (median(ratios.clone()), ratios.len()))
}

/// How a convergence ratio reads: `4.2× fewer`, `1.1× more`; 0 stands for a score that was never reached.
pub(super) fn pace(ratio: f64) -> String {
    if ratio >= 1.0 {
        format!("{} fewer", format::factor(ratio))
    } else if ratio <= 0.0 {
        "never reached".to_owned()
    } else {
        format!("{} more", format::factor(1.0 / ratio))
    }
}

/// Floating-point operations per second of pretraining, or `None` where no time was measured.
pub(super) fn flops_per_second(results: &Results) -> Option<f64> {
    let pretraining = &results.pretraining;
    (pretraining.wall_s > 0.0 && pretraining.flops > 0.0).then(|| pretraining.flops / pretraining.wall_s)
}

/// Wall-clock seconds of all stages.
pub(super) fn total_seconds(results: &Results) -> f64 {
    total(results.run.stages.iter().map(|stage| stage.1))
}

/// The sum of what is finite; 0, not −0, of nothing.
fn total(seconds: impl Iterator<Item = f64>) -> f64 {
    seconds.filter(|seconds| seconds.is_finite()).fold(0.0, |sum, seconds| sum + seconds)
}

/// Fine-tunings and their seconds, by arm, arms without any left out.
pub(super) fn fine_tuning_cost(results: &Results) -> Vec<(Arm, usize, f64)> {
    let cost = |arm: Arm| {
        let cells: Vec<&Cell> =
            results.tasks.iter().flat_map(|task| &task.cells).filter(|cell| cell.arm == arm).collect();
        (arm, cells.len(), total(cells.iter().map(|cell| cell.wall_s)))
    };
    Arm::ALL.into_iter().map(cost).filter(|(_, number, _)| *number > 0).collect()
}

/// What the fertility means, in words, or `None` where it was not measured.
pub(super) fn fertility_sentence(results: &Results) -> Option<String> {
    let facts = &results.tokenizer;
    if !(facts.fertility_domain.is_finite() && facts.fertility_domain > 0.0) {
        return None;
    }
    let own = format!("A word of held-out domain text takes {:.2} tokens on average", facts.fertility_domain);
    if let Some((_, before)) = facts.extension.first().filter(|_| facts.num_added > 0) {
        let added = format::counted(facts.num_added, "token");
        return Some(format!("{own}, and {before:.2} before {added} were added for the domain."));
    }
    let Some(general) = facts.fertility_general.filter(|general| general.is_finite() && *general > 0.0) else {
        return Some(format!("{own}. There was no general text to compare the vocabulary with."));
    };
    let change = 1.0 - facts.fertility_domain / general;
    let meaning = if change > 0.005 {
        format!(
            "the same text needs {} fewer tokens, so a model reads {:.2} times as much of it with the same computing",
            format::percent((change * 100.0).round() / 100.0),
            general / facts.fertility_domain
        )
    } else if change < -0.005 {
        let more = format::percent((-change * 100.0).round() / 100.0);
        format!("the domain vocabulary needs {more} more tokens, so it brings nothing here")
    } else {
        "there is no difference worth the name".to_owned()
    };
    Some(format!("{own}, and {general:.2} under a vocabulary of equal size trained on general text: {meaning}."))
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn overlapping_intervals_are_not_claimed() {
        let mut results = fixture::results();
        let task = &mut results.tasks[0];
        let budget = budgets(task)[0];
        let mut set = |arm: Arm, mean: f64, low: f64, high: f64| {
            let own = task.summaries.iter_mut().find(|own| own.arm == arm && same(own.budget, budget)).unwrap();
            (own.mean, own.low, own.high) = (mean, low, high);
        };
        set(Arm::Pretrained, 0.8, 0.75, 0.85);
        set(Arm::Scratch, 0.6, 0.55, 0.65);
        set(Arm::Tfidf, 0.74, 0.7, 0.78);
        assert_eq!(standing(&results.tasks[0], Arm::Pretrained, budget), Standing::BestWithOverlap);
        assert_eq!(standing(&results.tasks[0], Arm::Tfidf, budget), Standing::Other);
        results.tasks.truncate(1);
        let scratch = tally(&results, Arm::Scratch, budget);
        assert_eq!(scratch, Tally { compared: 1, higher: 1, clearly_higher: 1, clearly_lower: 0 });
        let tfidf = tally(&results, Arm::Tfidf, budget);
        assert_eq!(tfidf, Tally { compared: 1, higher: 1, clearly_higher: 0, clearly_lower: 0 });
    }

    #[test]
    fn the_verdict_is_honest_when_pretraining_hurts() {
        let mut results = fixture::results();
        assert!(verdict(&results).unwrap().sentence().starts_with("At 10 % of the labels the pretrained model scores"));
        for own in results.tasks.iter_mut().flat_map(|task| &mut task.summaries) {
            if own.arm == Arm::Pretrained {
                (own.mean, own.low, own.high) = (0.1, 0.09, 0.11);
            }
        }
        let verdict = verdict(&results).unwrap();
        assert_eq!(verdict.outcome(), Outcome::Hurts);
        assert!(verdict.sentence().contains("higher than scratch on 0 of 4 tasks and higher than TF-IDF on 0 of 4"));
        assert!(verdict.caveat().contains("it lies below that of scratch on 4 of 4 tasks"), "{}", verdict.caveat());
        results.tasks.clear();
        assert_eq!(verdict_texts(&results).0, Outcome::NotMeasured);
    }

    #[test]
    fn label_saving_wants_the_score_to_hold() {
        let mut results = fixture::results();
        let task = &mut results.tasks[0];
        let scratch = budgets(task).last().and_then(|&all| summary(task, Arm::Scratch, all)).unwrap().mean;
        let all = budgets(task);
        for own in task.summaries.iter_mut().filter(|own| own.arm == Arm::Pretrained) {
            own.mean = scratch + if same(own.budget, all[3]) { -0.01 } else { 0.01 };
        }
        let LabelSaving::Reached { budget, .. } = label_saving(task) else { panic!("reached") };
        assert!(same(budget, all[4]), "the dip at the fourth budget counts");
        task.summaries.retain(|own| own.arm != Arm::Scratch);
        assert_eq!(label_saving(task), LabelSaving::NotMeasured);
    }

    #[test]
    fn curves_and_bins_pool_over_seeds() {
        let curves: [&[(u64, f64)]; 3] = [&[(10, 0.1), (20, 0.3)], &[(10, 0.2), (20, f64::NAN)], &[(10, 0.6)]];
        assert_eq!(median_curve(&curves), [(10, 0.2)]);
        let bin = |count, accuracy| ReliabilityBin { count, confidence: 0.5, accuracy };
        assert_eq!(merge(bin(1, 1.0), bin(3, 0.0)), bin(4, 0.25));
    }
}
