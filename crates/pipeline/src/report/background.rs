//! What stands behind the scores: pretraining, corpus, vocabulary, cost, and how to repeat the run.

use maud::{Markup, html};

use super::html::{Section, no_break, nothing};
use super::{COMMANDS, figures, findings, format, sampled, stages};
use crate::results::{CorpusFacts, Results};

/// The pretraining curves.
pub(super) fn pretraining(results: &Results) -> Section {
    let facts = &results.pretraining;
    let loss = figures::pretraining_loss(facts);
    let rate = figures::pretraining_quantity(facts, "learning rate", |point| point.learning_rate);
    let norm = figures::pretraining_quantity(facts, "gradient norm before clipping", |point| point.grad_norm);
    Section {
        id: "pretraining",
        title: "Pretraining",
        lead: html! {
            "The thin line is the loss on training batches, the thick one with points the loss on documents kept aside. "
            @if let Some(last) = facts.held_out.last().filter(|last| last.loss.is_finite()) {
                "It ends at " (format::score(last.loss)) " nats per masked token, with "
                (no_break(&format::percent(last.accuracy))) " of masked tokens predicted exactly."
            }
        },
        body: html! {
            @if loss.is_none() && rate.is_none() && norm.is_none() { (nothing("No pretraining curve was recorded.")) }
            @else {
                div.charts.medium {
                    @for (title, chart) in [("Loss", loss), ("Learning rate", rate), ("Gradient norm", norm)] {
                        @if let Some(chart) = chart { figure { figcaption { h3 { (title) } } (chart) } }
                    }
                }
            }
            (stages::table(facts))
        },
    }
}

/// A table of a name and numbers, the names on the left.
pub(super) fn plain_table(heads: &[&str], rows: &[Vec<String>]) -> Markup {
    html! {
        div.scroll {
            table.plain {
                thead { tr { @for (at, head) in heads.iter().enumerate() { th.left[at == 0] { (head) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (at, text) in row.iter().enumerate() {
                                @if at == 0 { th.left scope="row" { (text) } } @else { td { (no_break(text)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What was read, kept and left out.
pub(super) fn corpus(results: &Results) -> Section {
    let facts = &results.corpus;
    Section {
        id: "corpus",
        title: "Corpus",
        lead: html! {
            (format::counted(facts.num_train, "document")) " with " (format::counted(facts.num_train_words, "word"))
            " for training, " (format::counted(facts.num_held_out, "document")) " kept aside for the held-out loss."
        },
        body: html! {
            @if facts.num_train == 0 && facts.sources.is_empty() { (nothing("No corpus was read.")) } @else { div.tables {
                @if !facts.sources.is_empty() { (sources(facts)) }
                @if !facts.overlap.is_empty() { (overlap(facts)) }
                (sampled::sample(facts))
                (sampled::split_list(results))
                (left_out(facts))
                @if facts.num_filtered > 0 { (rules(facts)) }
                @if !facts.pii.is_empty() { (pii(facts)) }
            } }
        },
    }
}

fn sources(facts: &CorpusFacts) -> Markup {
    let row = |own: &crate::results::SourceFacts| {
        let numbers = [own.num_documents, own.num_kept, own.num_words, own.num_rejected];
        std::iter::once(own.name.clone()).chain(numbers.map(format::count)).collect()
    };
    let rows: Vec<Vec<String>> = facts.sources.iter().map(row).collect();
    let decoded = |own: &crate::results::SourceFacts| {
        let (name, of) = (own.name.clone(), own.decoded.clone());
        of.into_iter().map(move |(encoding, number)| format!("{} from {encoding} in {name}", format::count(number)))
    };
    let decoded: Vec<String> = facts.sources.iter().flat_map(decoded).collect();
    html! {
        div.wide {
            h3 { "Sources" }
            @if !decoded.is_empty() { p { "Files that were not UTF-8 were decoded: " (decoded.join(", ")) "." } }
            (plain_table(&["Source", "Documents", "Kept", "Words read", "Records rejected"], &rows))
        }
    }
}

fn overlap(facts: &CorpusFacts) -> Markup {
    let row = |own: &crate::results::OverlapFacts| {
        let numbers = [own.num_examples, own.num_examples_found, own.num_documents_removed];
        std::iter::once(own.task.clone()).chain(numbers.map(format::count)).collect()
    };
    let rows: Vec<Vec<String>> = facts.overlap.iter().map(row).collect();
    html! {
        div.wide {
            h3 { "Overlap with held-out examples" }
            p { "Documents that hold a development or test example were removed before training." }
            (plain_table(&["Task", "Examples looked for", "Found in the corpus", "Documents removed"], &rows))
        }
    }
}

fn pii(facts: &CorpusFacts) -> Markup {
    let row = |own: &crate::results::PiiFacts| {
        let now = if own.is_masked { "masked" } else { "in the text" };
        vec![own.kind.replace('_', " "), format::count(own.num_found), format::count(own.num_documents), now.to_owned()]
    };
    let rows: Vec<Vec<String>> = facts.pii.iter().map(row).collect();
    html! { div { h3 { "Personal data" } (plain_table(&["Kind", "Found", "Documents", "Now"], &rows)) } }
}

/// What each condition of `keep` left out.
fn rules(facts: &CorpusFacts) -> Markup {
    let row = |own: &crate::results::RuleFacts| {
        vec![own.name.clone(), format::count(own.num_failed), format::count(own.num_failed_alone)]
    };
    let rows: Vec<Vec<String>> = facts.rules.iter().filter(|own| own.num_failed > 0).map(row).collect();
    html! { div { h3 { "Conditions that do not hold" } (plain_table(&["Condition", "Documents", "It alone"], &rows)) } }
}

fn left_out(facts: &CorpusFacts) -> Markup {
    let rejects =
        facts.rejects.iter().map(|(reason, number)| vec![format!("rejected: {reason}"), format::count(*number)]);
    let duplicates = [
        ("too few words", facts.num_too_short),
        ("conditions of `keep`", facts.num_filtered),
        ("exact duplicates", facts.num_exact_duplicates),
        ("duplicates after normalisation", facts.num_normalized_duplicates),
        ("near-duplicates", facts.num_near_duplicates),
        ("overlap with held-out examples", facts.overlap.iter().map(|own| own.num_documents_removed).sum()),
        ("beyond the sample", facts.num_sampled_out),
    ];
    let duplicates = duplicates.map(|(reason, number)| vec![reason.to_owned(), format::count(number)]);
    let rows: Vec<Vec<String>> = duplicates.into_iter().chain(rejects).collect();
    html! { div { h3 { "Left out" } (plain_table(&["Reason", "Documents"], &rows)) } }
}

/// How the vocabulary fits the domain.
pub(super) fn tokenizer(results: &Results) -> Section {
    let facts = &results.tokenizer;
    let sentence = findings::fertility_sentence(results);
    let general = facts.fertility_general.filter(|general| general.is_finite());
    Section {
        id: "tokenizer",
        title: "Vocabulary",
        lead: html! {
            @match sentence { Some(sentence) => (no_break(&sentence)), None => "Tokens per word were not measured." }
        },
        body: html! {
            @if facts.vocab_size > 0 {
                dl.facts {
                    (fact("Pieces in the vocabulary", &format::count(facts.vocab_size)))
                    (fact("Training tokens", &format::count(facts.num_train_tokens)))
                    (fact("Tokens per word, domain vocabulary", &format::score(facts.fertility_domain)))
                    @if let Some(general) = general {
                        (fact("Tokens per word, general vocabulary", &format::score(general)))
                    }
                }
            }
        },
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (no_break(value)) } } }
}

/// Time and computing.
pub(super) fn cost(results: &Results) -> Section {
    let facts = &results.pretraining;
    Section {
        id: "cost",
        title: "Cost",
        lead: html! {
            (no_break(&format::duration(findings::total_seconds(results)))) " of wall-clock time in this run on "
            (format::counted(results.run.num_threads, "thread")) ", matrix work in " (results.run.precision) "."
        },
        body: html! {
            div.tables {
                div { h3 { "Stages" } (stages(&results.run.stages)) }
                @if facts.num_tokens > 0 { (pretraining_cost(results)) }
                (fine_tuning(results))
            }
        },
    }
}

fn pretraining_cost(results: &Results) -> Markup {
    let facts = &results.pretraining;
    html! {
        div {
            h3 { "Pretraining" }
            dl.facts {
                @if !facts.model.is_empty() { (fact("Model", &facts.model)) }
                (fact("Parameters", &format::count(facts.num_parameters)))
                (fact("Tokens seen", &format::count(facts.num_tokens as usize)))
                (fact("Floating-point operations", &format::metric_prefix(facts.flops, "FLOP")))
                (fact("Time, over all interruptions", &format::duration(facts.wall_s)))
                @if let Some(rate) = findings::flops_per_second(results) {
                    (fact("Achieved", &format::metric_prefix(rate, "FLOP/s")))
                }
                @if facts.wall_s > 0.0 {
                    (fact("Tokens per second", &format::compact(facts.num_tokens as f64 / facts.wall_s)))
                    (fact("Waiting for data", &format!("{:.2} % of the time", 100.0 * facts.waited_s / facts.wall_s)))
                }
            }
        }
    }
}

fn stages(stages: &[(String, f64)]) -> Markup {
    let longest = stages.iter().map(|stage| stage.1).filter(|seconds| seconds.is_finite()).fold(0.0, f64::max);
    html! {
        @if stages.is_empty() { (nothing("No stage was timed.")) } @else {
            table.plain.stages {
                thead { tr { th.left { "Stage" } th { "Time" } th.bar { } } }
                tbody { @for (name, seconds) in stages { (stage(name, *seconds, longest)) } }
            }
        }
    }
}

fn stage(name: &str, seconds: f64, longest: f64) -> Markup {
    let part = if longest > 0.0 && seconds.is_finite() { seconds / longest * 100.0 } else { 0.0 };
    html! {
        tr {
            th.left scope="row" { (name) }
            td { @if seconds == 0.0 { span.faint { "already done" } } @else { (no_break(&format::duration(seconds))) } }
            td.bar { span style=(format!("width:{part:.1}%")) {} }
        }
    }
}

fn fine_tuning(results: &Results) -> Markup {
    let row = |(arm, number, seconds): (crate::results::Arm, usize, f64)| {
        let each = format::duration(seconds / number as f64);
        vec![arm.label().to_owned(), format::count(number), format::duration(seconds), each]
    };
    let rows: Vec<Vec<String>> = findings::fine_tuning_cost(results).into_iter().map(row).collect();
    html! {
        @if !rows.is_empty() {
            div { h3 { "Training on the tasks" } (plain_table(&["Arm", "Trainings", "Time", "Time each"], &rows)) }
        }
    }
}

/// What is needed to repeat the run.
pub(super) fn repeat(results: &Results) -> Section {
    let run = &results.run;
    Section {
        id: "repeat",
        title: "Repeat this run",
        lead: html! {
            "With the same data, program and configuration the numbers come out the same, for any number of threads."
        },
        body: html! {
            pre.commands {
                @for (command, what) in COMMANDS { code { (command) } span.faint { "  # " (what) } "\n" }
            }
            dl.facts {
                (fact("Configuration digest", &run.config_digest))
                (fact("Program version", &run.code_version))
                (fact("Threads", &format::count(run.num_threads)))
                (fact("Precision of matrix work", &run.precision))
                @for (name, value) in &run.machine { (fact(name, value)) }
            }
            @if !run.resolved_toml.is_empty() {
                details { summary { "Resolved configuration, " code { "resolved.toml" } } pre { code { (run.resolved_toml) } } }
            }
        },
    }
}
