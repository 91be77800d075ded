//! What was measured on the tasks: scores, labels saved, convergence, calibration.

use maud::{Markup, html};

use super::chart::{class, key, legend};
use super::findings::{self, CalibrationRow, LabelSaving, Standing, budgets, summary};
use super::html::{Section, no_break, nothing};
use super::{figures, format};
use crate::results::{Arm, Results, TaskResults};

const NO_TASKS: &str = "This run has no tasks.";

/// Scores of every task and budget.
pub(super) fn scores(results: &Results) -> Section {
    Section {
        id: "scores",
        title: "Scores",
        lead: html! {
            "Mean test score over seeds, with its 95\u{a0}% bootstrap interval over seeds and test examples below. "
            b.mark { "●" } " marks the best arm where its interval lies above the others, "
            b.mark { "○" } " the best mean where intervals overlap, so that the order may be chance."
        },
        body: if results.tasks.is_empty() { nothing(NO_TASKS) } else { score_table(results) },
    }
}

fn score_table(results: &Results) -> Markup {
    let arms = findings::all_arms(results);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Scores" {
            table.scores {
                thead {
                    tr {
                        th.left { "Labels" }
                        th { "Examples" }
                        @for &arm in &arms { th { (key(arm)) " " (arm.label()) } }
                        th { "vs. scratch" }
                        th.left { "Intervals" }
                    }
                }
                @for task in &results.tasks { (score_rows(task, &arms)) }
            }
        }
    }
}

fn score_rows(task: &TaskResults, arms: &[Arm]) -> Markup {
    html! {
        tbody {
            tr.group {
                th.left scope="rowgroup" colspan=(arms.len() + 3) {
                    span.stay { (task.name) " " small { (no_break(&task_facts(task))) } }
                }
                td.range { @if let Some((low, high)) = figures::interval_extent(task) {
                    span { (format::score(low)) } span { (format::score(high)) }
                } }
            }
            @for budget in budgets(task) {
                tr {
                    th.left scope="row" { (no_break(&format::budget(budget))) }
                    td { (findings::num_examples(task, budget).map_or_else(|| format::NONE.to_owned(), format::count)) }
                    @for &arm in arms { (score_cell(task, arm, budget)) }
                    (difference_cell(task, budget))
                    td.plot { @if let Some(plot) = figures::intervals(task, budget) { (plot) } }
                }
            }
        }
    }
}

/// Kind, metric and sizes of a task, in one line.
pub(super) fn task_facts(task: &TaskResults) -> String {
    format!(
        "{} into {}, {}, {}, {}",
        task.kind,
        format::counted(task.num_labels, "label"),
        format::metric(&task.metric),
        format::counted(task.num_test, "test example"),
        format::counted(findings::num_seeds(task), "seed"),
    )
}

fn score_cell(task: &TaskResults, arm: Arm, budget: f64) -> Markup {
    let Some(own) = summary(task, arm, budget) else { return html! { td.none { (format::NONE) } } };
    let (style, sign, words) = match findings::standing(task, arm, budget) {
        Standing::Best => ("best", "●", "best, interval above the others"),
        Standing::BestWithOverlap => ("maybe", "○", "best mean, intervals overlap"),
        Standing::Other => ("", "", ""),
    };
    html! {
        td.(class(arm)) {
            span.value.(style) {
                @if !sign.is_empty() { b.mark title=(words) aria-label=(words) { (sign) } }
                (format::score(own.mean))
            }
            small { (format::score(own.low)) "–" (format::score(own.high)) }
        }
    }
}

/// Pretrained minus scratch; faint where the intervals overlap.
fn difference_cell(task: &TaskResults, budget: f64) -> Markup {
    let pair = summary(task, Arm::Pretrained, budget).zip(summary(task, Arm::Scratch, budget));
    let Some((own, scratch)) = pair else { return html! { td.none { (format::NONE) } } };
    let is_clear = findings::clearly_above(own, scratch) || findings::clearly_above(scratch, own);
    let style = if is_clear { "clear" } else { "unclear" };
    html! { td.difference.(style) { (format::difference(own.mean - scratch.mean)) } }
}

/// Curves over budgets and the labels saved.
pub(super) fn label_efficiency(results: &Results) -> Section {
    Section {
        id: "labels",
        title: "Label efficiency",
        lead: html! { "Test score by the part of the training labels used. Bands are 95\u{a0}% intervals." },
        body: html! {
            @if results.tasks.is_empty() { (nothing(NO_TASKS)) } @else {
                (legend(&findings::all_arms(results)))
                div.charts {
                    @for task in &results.tasks {
                        figure {
                            figcaption { h3 { (task.name) } (saving_line(task)) }
                            @if let Some(chart) = figures::efficiency(task) { (chart) }
                            @else { (nothing("No scores were measured.")) }
                        }
                    }
                }
            }
        },
    }
}

fn saving_line(task: &TaskResults) -> Markup {
    let saving = findings::label_saving(task);
    html! { @if saving != LabelSaving::NotMeasured { p { (no_break(&saving.sentence())) } } }
}

/// Learning curves and the convergence ratio.
pub(super) fn convergence(results: &Results) -> Section {
    let has_charts = results.tasks.iter().any(|task| figures::learning(task).is_some());
    Section {
        id: "convergence",
        title: "Convergence",
        lead: html! {
            "Development score by optimizer step at the largest budget: every seed thin, their median thick. Dashed lines "
            "mark the median step at which each arm reaches the best score that scratch ever reached."
        },
        body: html! {
            @if !has_charts { (nothing("No learning curves were recorded.")) } @else {
                (legend(&[Arm::Pretrained, Arm::Scratch]))
                div.charts {
                    @for task in &results.tasks {
                        @if let Some(chart) = figures::learning(task) {
                            figure {
                                figcaption { h3 { (task.name) } p { (no_break(&convergence_sentence(task))) } }
                                (chart)
                            }
                        }
                    }
                }
            }
        },
    }
}

/// The convergence ratio in one sentence.
pub(super) fn convergence_sentence(task: &TaskResults) -> String {
    let Some(own) = &task.convergence else { return "The convergence ratio was not measured.".to_owned() };
    let Some(pretrained_steps) = own.pretrained_steps.filter(|_| own.ratio.is_finite() && own.ratio > 0.0) else {
        return format!(
            "The pretrained model reached the best score of scratch in {} of {}.",
            own.num_reached,
            format::counted(own.num_seeds, "seed")
        );
    };
    let steps = |number: u64| format::count(number as usize);
    format!(
        "The best score of scratch takes the pretrained model {} steps: {} instead of {} (ratio {}, {} to {} \
         over seeds; reached in {} of {}).",
        findings::pace(own.ratio),
        steps(pretrained_steps),
        steps(own.scratch_steps),
        format::factor(own.ratio),
        format::factor(own.low),
        format::factor(own.high),
        own.num_reached,
        format::counted(own.num_seeds, "seed"),
    )
}

/// Calibration before and after temperature scaling.
pub(super) fn calibration(results: &Results) -> Section {
    let tasks: Vec<(&TaskResults, Vec<CalibrationRow>)> = results
        .tasks
        .iter()
        .map(|task| (task, findings::calibration(task)))
        .filter(|(task, rows)| !rows.is_empty() || has_reliability(task))
        .collect();
    Section {
        id: "calibration",
        title: "Calibration",
        lead: html! {
            "Whether a confidence of 0.8 means right in 8 of 10 cases. The temperature is fitted on the development set. "
            "Lower is better for all three numbers: ECE (expected calibration error), Brier score, and NLL (negative "
            "log-likelihood, nats)."
        },
        body: html! {
            @if tasks.is_empty() { (nothing("Calibration was not measured.")) } @else {
                (calibration_table(&tasks))
                h3.next { "Reliability" }
                p.lead {
                    "On the dotted diagonal, confidence is honest; below it, the model is too sure. Hollow points: before "
                    "temperature scaling; full points: after. Larger points hold more predictions. All seeds together."
                }
                @for (task, _) in &tasks { (reliability_rows(task)) }
            }
        },
    }
}

fn has_reliability(task: &TaskResults) -> bool {
    task.cells.iter().any(|cell| !cell.reliability.is_empty())
}

fn calibration_table(tasks: &[(&TaskResults, Vec<CalibrationRow>)]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Calibration" {
            table.calibration {
                thead {
                    tr {
                        th.left rowspan="2" { "Labels" }
                        th.left rowspan="2" { "Arm" }
                        @for name in ["ECE", "Brier", "NLL"] { th.pair colspan="2" { (name) } }
                    }
                    tr { @for _ in 0..3 { th { "before" } th { "after" } } }
                }
                @for (task, rows) in tasks {
                    tbody {
                        tr.group { th.left scope="rowgroup" colspan="8" { (task.name) } }
                        @for rows in rows.chunk_by(|one, other| findings::same(one.budget, other.budget)) {
                            @for (at, row) in rows.iter().enumerate() {
                                (calibration_row(row, (at == 0).then_some(rows.len())))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One row; the first of a budget names it for all its rows.
fn calibration_row(row: &CalibrationRow, num_rows: Option<usize>) -> Markup {
    html! {
        tr {
            @if let Some(num_rows) = num_rows {
                th.left.top scope="rowgroup" rowspan=(num_rows) { (no_break(&format::budget(row.budget))) }
            }
            td.left { (key(row.arm)) " " (row.arm.label()) }
            @for pair in [row.ece, row.brier, row.nll] {
                td.before { (format::score_or_none(pair[0])) }
                td { (format::score_or_none(pair[1])) }
            }
        }
    }
}

/// The diagrams at the largest budget, and folded away those at the smallest.
fn reliability_rows(task: &TaskResults) -> Markup {
    let outer = findings::outer_budgets(task);
    let Some((&largest, smaller)) = outer.split_last() else { return html! {} };
    html! {
        div.reliability {
            h4 { (task.name) " " small { "at " (no_break(&format::budget(largest))) " of the labels" } }
            (reliability_charts(task, largest))
            @for &budget in smaller {
                details {
                    summary { "At " (no_break(&format::budget(budget))) " of the labels" }
                    (reliability_charts(task, budget))
                }
            }
        }
    }
}

fn reliability_charts(task: &TaskResults, budget: f64) -> Markup {
    html! {
        div.charts.small {
            @for arm in Arm::ALL {
                @if let Some(chart) = figures::reliability(task, arm, budget) {
                    figure { figcaption { (key(arm)) " " (arm.label()) } (chart) }
                }
            }
        }
    }
}
