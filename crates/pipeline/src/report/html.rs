//! The page: one file with its style and charts inside, which reads fully without a network and without scripts.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::findings::{self, Outcome};
use super::{background, format, measured};
use crate::results::{Arm, Results};

const STYLE: &str = include_str!("style.css");

/// A part of the page.
pub(super) struct Section {
    /// What links point at.
    pub id: &'static str,
    /// The heading.
    pub title: &'static str,
    /// One or two sentences that say how to read it.
    pub lead: Markup,
    /// The content.
    pub body: Markup,
}

/// The report as one self-contained HTML page: no scripts, no external files, light and dark, for screen and paper.
pub fn html(results: &Results) -> String {
    let sections = sections(results);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="Arable";
                title { (results.run.name) " · Arable report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (contents(&sections))
                main {
                    (head(results))
                    @for section in &sections { (section.markup()) }
                    footer { "Arable " (results.run.code_version) " · configuration " code { (short(&results.run.config_digest)) } }
                }
            }
        }
    };
    page.into_string()
}

fn sections(results: &Results) -> Vec<Section> {
    vec![
        measured::scores(results),
        measured::label_efficiency(results),
        measured::convergence(results),
        measured::calibration(results),
        background::pretraining(results),
        super::profile::profile(results),
        background::corpus(results),
        background::tokenizer(results),
        background::cost(results),
        background::repeat(results),
    ]
}

impl Section {
    fn markup(&self) -> Markup {
        html! {
            section id=(self.id) {
                h2 { (self.title) }
                p.lead { (self.lead) }
                (self.body)
            }
        }
    }
}

fn contents(sections: &[Section]) -> Markup {
    html! {
        nav aria-label="Contents" {
            a.brand href="#top" { "Arable" }
            ol { @for section in sections { li { a href=(format!("#{}", section.id)) { (section.title) } } } }
        }
    }
}

fn head(results: &Results) -> Markup {
    let (outcome, sentence, caveat) = findings::verdict_texts(results);
    html! {
        header id="top" {
            p.eyebrow { "Does pretraining on the domain help?" }
            h1 { (results.run.name) }
            p.verdict { span.(pill(outcome)) { (outcome.label()) } " " (no_break(&sentence)) }
            @if let Some(caveat) = caveat { p.caveat { (no_break(&caveat)) } }
            @if findings::has_single_seeds(results) {
                p.caveat { "Some scores rest on one seed: their intervals know the test examples, not the luck of training." }
            }
            (tiles(results))
        }
    }
}

fn pill(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Helps => "pill good",
        Outcome::Hurts => "pill bad",
        Outcome::Mixed | Outcome::Unclear | Outcome::NotMeasured => "pill neutral",
    }
}

fn tiles(results: &Results) -> Markup {
    let pretraining = &results.pretraining;
    html! {
        dl.tiles {
            @if let Some(verdict) = findings::verdict(results) {
                @for (arm, tally) in [(Arm::Scratch, verdict.scratch), (Arm::Tfidf, verdict.tfidf)] {
                    @if tally.compared > 0 {
                        (tile(
                            &format!("{} of {}", tally.higher, tally.compared),
                            &format!("tasks above {} at {}", arm.label(), format::budget(verdict.budget)),
                        ))
                    }
                }
            }
            @if let Some((ratio, num_tasks)) = findings::median_convergence(results) {
                (tile(
                    &findings::pace(ratio),
                    &format!("steps to the best score of scratch, median of {}", format::counted(num_tasks, "task")),
                ))
            }
            @if pretraining.num_tokens > 0 {
                (tile(&format::compact(pretraining.num_tokens as f64), "tokens of pretraining"))
            }
            @if pretraining.num_parameters > 0 {
                (tile(&format::compact(pretraining.num_parameters as f64), "parameters in the model"))
            }
            @if findings::total_seconds(results) > 0.0 {
                (tile(&format::duration(findings::total_seconds(results)), "of computing in this run"))
            }
        }
    }
}

fn tile(value: &str, what: &str) -> Markup {
    html! { div { dt { (no_break(what)) } dd { (no_break(value)) } } }
}

/// Keeps a number and its unit on one line.
pub(super) fn no_break(text: &str) -> String {
    let mut out = text.to_owned();
    for unit in [" %", " s", " min", " h"] {
        for digit in '0'..='9' {
            let (loose, tight) = (format!("{digit}{unit}"), format!("{digit}\u{a0}{}", &unit[1..]));
            out = replace_whole(&out, &loose, &tight);
        }
    }
    out
}

/// Replaces `from` where no letter follows, so that `4 seeds` keeps its space.
fn replace_whole(text: &str, from: &str, to: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let end = at + from.len();
        let is_whole = !rest[end..].starts_with(char::is_alphabetic);
        out.push_str(&rest[..at]);
        out.push_str(if is_whole { to } else { from });
        rest = &rest[end..];
    }
    out + rest
}

/// A line where a part of the report has nothing to show.
pub(super) fn nothing(why: &str) -> Markup {
    html! { p.nothing { (why) } }
}

/// The first twelve digits of a digest.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    /// Ends of elements that stay open, and ends without a start.
    fn unbalanced(page: &str) -> Vec<String> {
        const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
        let mut open = Vec::new();
        let mut wrong = Vec::new();
        for piece in page.split('<').skip(1) {
            let tag = piece.split('>').next().unwrap();
            let name = tag.trim_start_matches('/').split_whitespace().next().unwrap_or_default().to_owned();
            if VOID.contains(&name.as_str()) {
                continue;
            } else if !tag.starts_with('/') {
                open.push(name);
            } else if open.pop().as_ref() != Some(&name) {
                wrong.push(name);
            }
        }
        wrong.extend(open);
        wrong
    }

    fn check(results: &Results) -> String {
        let page = html(results);
        assert_eq!(unbalanced(&page), Vec::<String>::new());
        for forbidden in ["http://", "https://", "src=", "<script", "<link", "@import", "url(", "NaN", "inf<", ">inf"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for section in sections(results) {
            assert_eq!(page.matches(&format!("id=\"{}\"", section.id)).count(), 1, "{}", section.id);
        }
        page
    }

    #[test]
    fn the_page_is_self_contained_and_whole() {
        let page = check(&fixture::results());
        assert!(page.contains("At 10\u{a0}% of the labels the pretrained model scores higher than scratch on"));
        // Per task: efficiency, learning, and reliability of three arms at two budgets; three of pretraining.
        assert_eq!(page.matches("<svg class=\"chart\"").count(), 4 * (2 + 6) + 3);
    }

    #[test]
    fn names_cannot_become_markup() {
        let mut results = fixture::results();
        let evil = "<script>alert(1)</script>\"&'";
        results.run.name = evil.into();
        results.tasks[0].name = evil.into();
        results.tasks[0].kind = evil.into();
        results.tasks[0].metric = evil.into();
        results.corpus.sources[0].name = evil.into();
        results.corpus.overlap[0].task = evil.into();
        results.corpus.rejects.insert(evil.into(), 1);
        results.run.machine.insert(evil.into(), evil.into());
        results.run.resolved_toml = evil.into();
        results.run.stages.push((evil.into(), 1.0));
        results.pretraining.model = evil.into();
        check(&results);
    }

    #[test]
    fn missing_parts_leave_a_sensible_page() {
        let page = check(&fixture::empty());
        assert!(page.contains("cannot say whether pretraining helps"));
        let mut results = fixture::results();
        results.tasks.truncate(1);
        results.tasks[0].cells.retain(|cell| cell.seed == 0 && cell.arm != Arm::Scratch);
        results.tasks[0].summaries.retain(|own| own.arm != Arm::Scratch && own.budget == 1.0);
        results.tasks[0].summaries.iter_mut().for_each(|own| own.num_seeds = 1);
        results.tasks[0].convergence = None;
        results.pretraining.curve.truncate(1);
        results.pretraining.held_out.clear();
        results.tokenizer.fertility_general = None;
        assert!(check(&results).contains("Some scores rest on one seed"));
    }

    #[test]
    fn numbers_that_are_not_finite_never_show() {
        let mut results = fixture::results();
        for task in &mut results.tasks {
            for own in &mut task.summaries {
                (own.mean, own.low, own.high) = (f64::NAN, f64::NEG_INFINITY, f64::INFINITY);
            }
            for cell in &mut task.cells {
                cell.metrics.values_mut().for_each(|value| *value = f64::NAN);
                cell.curve.iter_mut().for_each(|point| point.1 = f64::NAN);
                cell.reliability.iter_mut().for_each(|bin| bin.accuracy = f64::NAN);
                cell.wall_s = f64::NAN;
            }
            let own = task.convergence.as_mut().unwrap();
            (own.ratio, own.low, own.high) = (f64::INFINITY, f64::NAN, f64::INFINITY);
        }
        for point in &mut results.pretraining.curve {
            (point.loss, point.grad_norm, point.learning_rate) = (f64::NAN, f64::INFINITY, f64::NAN);
        }
        results.pretraining.held_out.iter_mut().for_each(|point| point.loss = f64::NAN);
        (results.pretraining.flops, results.pretraining.wall_s) = (f64::NAN, f64::INFINITY);
        results.tokenizer.fertility_domain = f64::NAN;
        results.run.stages.iter_mut().for_each(|stage| stage.1 = f64::NAN);
        check(&results);
    }

    #[test]
    fn numbers_keep_their_units() {
        assert_eq!(no_break("6 min 3 s at 10 % of 4 seeds"), "6\u{a0}min 3\u{a0}s at 10\u{a0}% of 4 seeds");
    }

    #[test]
    #[ignore = "writes example reports to look at into the temporary folder"]
    fn write_examples() {
        let folder = std::env::temp_dir().join("arable-report");
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join("report.html"), html(&fixture::results())).unwrap();
        fs_err::write(folder.join("empty.html"), html(&fixture::empty())).unwrap();
        let mut lone = fixture::results();
        lone.tasks.truncate(1);
        lone.tasks[0].cells.retain(|cell| cell.seed == 0 && cell.budget == 1.0);
        lone.tasks[0].summaries.retain(|own| own.budget == 1.0);
        lone.tasks[0].summaries.iter_mut().for_each(|own| own.num_seeds = 1);
        fs_err::write(folder.join("lone.html"), html(&lone)).unwrap();
    }
}
