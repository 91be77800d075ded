//! The plan as it went: what was asked of each stage, what was reached, and what its gate said.

use maud::{Markup, html};

use std::collections::BTreeSet;

use super::background::plain_table;
use super::{figures, format};
use crate::results::{GateFacts, PretrainingFacts, ProbeReport, StageFacts};

/// The stages, where there is more than one or a mixture was asked for.
pub(super) fn table(facts: &PretrainingFacts) -> Markup {
    let stages = &facts.stages;
    let plain = stages.len() < 2 && stages.iter().all(|stage| stage.sources.len() < 2 && stage.gate.is_none());
    html! {
        @if !facts.probes.is_empty() {
            div.tables {
                (probe_curves(facts))
                (probes(stages))
            }
        }
        @if !plain {
            div.tables {
                (mixtures(stages))
                (held_out(stages))
                @if stages.iter().any(|stage| stage.gate.is_some()) { (gates(stages)) }
            }
        }
    }
}

fn mixtures(stages: &[StageFacts]) -> Markup {
    let rows: Vec<Vec<String>> = stages
        .iter()
        .flat_map(|stage| {
            stage.sources.iter().map(|source| {
                vec![
                    stage.name.clone(),
                    source.name.clone(),
                    format!("{:.1} %", 100.0 * source.asked),
                    format!("{:.1} %", 100.0 * source.reached),
                    format::count((source.reached * stage.num_tokens as f64).round() as usize),
                    format::count(source.num_passes as usize),
                ]
            })
        })
        .collect();
    html! {
        div.wide {
            h3 { "Stages and their sources" }
            p { "Shares of the tokens that a stage was trained on. Above one whole pass, text was read again." }
            (plain_table(&["Stage", "Source", "Asked", "Reached", "Tokens", "Whole passes"], &rows))
        }
    }
}

fn held_out(stages: &[StageFacts]) -> Markup {
    let row = |stage: &StageFacts, (source, (before, after)): (&String, &(Option<f64>, f64))| {
        let [before, change] = match before {
            Some(before) => [format!("{before:.3}"), format!("{:+.3}", after - before)],
            None => ["-", "-"].map(str::to_owned),
        };
        vec![stage.name.clone(), source.clone(), before, format!("{after:.3}"), change]
    };
    let rows: Vec<Vec<String>> =
        stages.iter().flat_map(|stage| stage.held_out.iter().map(|loss| row(stage, loss))).collect();
    html! {
        div.wide {
            h3 { "What each stage learned and forgot" }
            p { "Loss on held-out text of each source, in nats per masked token: where it rises, something was forgotten." }
            (plain_table(&["Stage", "Source", "Before", "After", "Change"], &rows))
        }
    }
}

/// What the encoder was worth for each task along the way.
fn probe_curves(facts: &PretrainingFacts) -> Markup {
    let tasks: BTreeSet<&str> = facts.probes.iter().map(|report| report.task.as_str()).collect();
    html! {
        div.wide {
            h3 { "Probes along the way" }
            p {
                "Few-label tests on development examples: the line with points after a short fine-tuning, its band one standard "
                "deviation over repetitions; the other line with the encoder frozen."
            }
            div.charts.medium {
                @for task in tasks {
                    @if let Some(chart) = figures::probes(facts, task) { figure { figcaption { h3 { (task) } } (chart) } }
                }
            }
        }
    }
}

fn probes(stages: &[StageFacts]) -> Markup {
    let row = |stage: &StageFacts, task: &String, start: &ProbeReport, end: &ProbeReport| {
        let (change, noise) = end.change(start);
        let worst = end.worst_class(start).map_or(String::new(), |(name, change)| format!("{name} {change:+.3}"));
        vec![
            stage.name.clone(),
            task.clone(),
            format!("{:.3}", start.finetuned),
            format!("{:.3}", end.finetuned),
            format!("{change:+.3} ± {noise:.3}"),
            format!("{:+.3}", end.linear - start.linear),
            format!("{:+.3}", end.ece - start.ece),
            worst,
        ]
    };
    let of_stage =
        |stage: &StageFacts| stage.probes.iter().map(|(task, [start, end])| row(stage, task, start, end)).collect();
    let rows: Vec<Vec<String>> = stages.iter().flat_map(|stage| -> Vec<Vec<String>> { of_stage(stage) }).collect();
    html! {
        div.wide {
            h3 { "What each stage is worth for the tasks" }
            p { "Against the untouched starting point. A change within twice its standard error may be chance." }
            (plain_table(&["Stage", "Task", "Start", "End", "Change", "Frozen", "ECE", "Worst class"], &rows))
        }
    }
}

fn gates(stages: &[StageFacts]) -> Markup {
    let verdict = |gate: &GateFacts| match (gate.passed, gate.rolled_back) {
        (true, _) => "holds",
        (false, true) => "does not hold; rolled back",
        (false, false) => "does not hold",
    };
    let row = |stage: &StageFacts| {
        let gate = stage.gate.as_ref()?;
        let facts: Vec<String> = gate.facts.iter().map(|(name, value)| format!("{name} = {value:.4}")).collect();
        Some(vec![stage.name.clone(), gate.holds.clone(), verdict(gate).to_owned(), facts.join(", ")])
    };
    let rows: Vec<Vec<String>> = stages.iter().filter_map(row).collect();
    html! { div.wide { h3 { "Gates" } (plain_table(&["Stage", "Gate", "Verdict", "Measured"], &rows)) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::SourceShare;

    #[test]
    fn stages_are_shown_where_there_is_something_to_say() {
        let source = |name: &str, asked, reached| SourceShare { name: name.into(), asked, reached, num_passes: 2 };
        let gate =
            GateFacts { holds: "change < 0".into(), facts: vec![("change".into(), 0.125)], ..GateFacts::default() };
        let stage = StageFacts {
            name: "domain".into(),
            num_tokens: 1_000_000,
            sources: vec![source("notes", 0.95, 0.951)],
            held_out: [("novels".to_owned(), (Some(3.5), 3.75)), ("notes".to_owned(), (None, 2.5))].into(),
            ..StageFacts::default()
        };
        let probe = |step, finetuned, f1| ProbeReport {
            step,
            task: "triage".into(),
            metric: "macro_f1".into(),
            num_seeds: 4,
            finetuned,
            finetuned_deviation: 0.02,
            by_class: [("urgent".to_owned(), f1)].into(),
            ..ProbeReport::default()
        };
        let ends = [probe(0, 0.5, 0.75), probe(90, 0.75, 0.5)];
        let facts = |stages| PretrainingFacts { stages, ..PretrainingFacts::default() };
        assert_eq!(table(&facts(vec![stage.clone()])).into_string(), "");
        let probes = [("triage".to_owned(), ends.clone())].into();
        let gated = StageFacts { gate: Some(gate), probes, ..stage.clone() };
        let page = table(&PretrainingFacts { probes: ends.into(), ..facts(vec![stage, gated]) }).into_string();
        for said in [
            "+0.250 ± 0.014",
            "urgent -0.250",
            "Probes along the way",
            "951,000",
            "+0.250",
            "does not hold",
            "change = 0.1250",
            "95.1\u{a0}%",
            "2.500",
        ] {
            assert!(page.contains(said), "{said}: {page}");
        }
    }
}
