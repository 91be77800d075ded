//! The plan as it went: what was asked of each stage, what was reached, and what its gate said.

use maud::{Markup, html};

use super::background::plain_table;
use super::format;
use crate::results::{GateFacts, PretrainingFacts, StageFacts};

/// The stages, where there is more than one or a mixture was asked for.
pub(super) fn table(facts: &PretrainingFacts) -> Markup {
    let stages = &facts.stages;
    let plain = stages.len() < 2 && stages.iter().all(|stage| stage.sources.len() < 2 && stage.gate.is_none());
    html! {
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
    let row = |stage: &StageFacts, (source, [before, after]): (&String, &[f64; 2])| {
        let change = format!("{:+.3}", after - before);
        vec![stage.name.clone(), source.clone(), format!("{before:.3}"), format!("{after:.3}"), change]
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
            held_out: [("novels".to_owned(), [3.5, 3.75])].into(),
            ..StageFacts::default()
        };
        let facts = |stages| PretrainingFacts { stages, ..PretrainingFacts::default() };
        assert_eq!(table(&facts(vec![stage.clone()])).into_string(), "");
        let gated = StageFacts { gate: Some(gate), ..stage.clone() };
        let page = table(&facts(vec![stage, gated])).into_string();
        for said in ["951,000", "+0.250", "does not hold", "change = 0.1250", "95.1\u{a0}%"] {
            assert!(page.contains(said), "{said}: {page}");
        }
    }
}
