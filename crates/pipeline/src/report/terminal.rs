//! The final table of the terminal, and the one line of a list of runs.

use super::findings::{self, LabelSaving, Standing, budgets, summary};
use super::{format, sampled};
use crate::results::{Arm, Results, Sampled, SplitCheck, TaskResults};

/// Widest table, in columns.
const MAX_WIDTH: usize = 80;
/// Narrowest table that keeps its columns apart.
const MIN_WIDTH: usize = 72;
/// Columns of a line's name, with the gap after it.
const NAME_WIDTH: usize = 13;

const BOLD: &str = "1";
const DIM: &str = "2";

/// How the table is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableOptions<'a> {
    /// Columns there are; the table takes at least 72 and at most 80.
    pub width: usize,
    /// Whether to style with ANSI escape sequences.
    pub color: bool,
    /// The command to try next.
    pub next: Option<&'a str>,
}

/// Text with its styles, or without.
struct Out {
    text: String,
    width: usize,
    color: bool,
}

impl Out {
    fn styled(&self, text: &str, style: &str) -> String {
        if self.color { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A name and a text beside it, wrapped.
    fn named(&mut self, name: &str, text: &str) {
        for (at, line) in wrapped(text, self.width - NAME_WIDTH).into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let name = self.styled(&format!("{name:<NAME_WIDTH$}"), DIM);
            self.line(&format!("{name}{line}"));
        }
    }
}

/// The final table: the verdict, scores by task and budget, then calibration, convergence, labels saved and cost. Ends
/// with a line break.
pub fn table(results: &Results, options: &TableOptions) -> String {
    let width = options.width.clamp(MIN_WIDTH, MAX_WIDTH);
    let mut out = Out { text: String::new(), width, color: options.color };
    let (outcome, sentence, caveat) = findings::verdict_texts(results);
    let heading = out.styled(outcome.label(), BOLD);
    out.line(&heading);
    let sentences = format!("{sentence} {}", caveat.unwrap_or_default());
    wrapped(&sentences, width).iter().for_each(|line| out.line(line));
    results.tasks.iter().for_each(|task| task_table(&mut out, task));
    if let Some(sample) = &results.corpus.sample {
        sample_lines(&mut out, sample);
    }
    out.line("");
    if results.tasks.iter().any(|task| !findings::arms(task).is_empty()) {
        let key = out.styled("* best, its interval above the others   ~ best mean, intervals overlap", DIM);
        out.line(&key);
        let note = out.styled("± is half the width of the 95 % bootstrap interval", DIM);
        out.line(&note);
        out.line("");
    }
    closing_lines(&mut out, results);
    if let Some(next) = options.next {
        let next = out.styled(next, BOLD);
        let name = out.styled(&format!("{:<NAME_WIDTH$}", "next"), DIM);
        out.line(&format!("{name}{next}"));
    }
    out.text
}

/// What was asked of the sample and what was reached.
fn sample_lines(out: &mut Out, sample: &Sampled) {
    out.line("");
    let title = out.styled("sample", BOLD);
    out.line(&title);
    wrapped(&sampled::sentence(sample), out.width).iter().for_each(|line| out.line(line));
    let table = sampled::sample_table(sample, out.width);
    for (at, line) in table.lines().enumerate() {
        let line = if at == 0 { out.styled(line, DIM) } else { line.to_owned() };
        out.line(&line);
    }
}

fn task_table(out: &mut Out, task: &TaskResults) {
    out.line("");
    let name = fit(&task.name, out.width / 2);
    let facts = format!(
        "  {}, {}, {}",
        format::metric(&task.metric),
        format::counted(task.num_test, "test example"),
        format::counted(findings::num_seeds(task), "seed")
    );
    let facts = fit(&facts, out.width - name.chars().count());
    let title = format!("{}{}", out.styled(&name, BOLD), out.styled(&facts, DIM));
    out.line(&title);
    let arms = findings::arms(task);
    let column = (out.width - 17) / arms.len().max(1);
    let column = column.min(19);
    let heads: String = arms.iter().map(|arm| format!("{:>column$}", arm.label())).collect();
    let heads = out.styled(&format!("{:>7}{:>10}{heads}", "labels", "examples"), DIM);
    out.line(&heads);
    for budget in budgets(task) {
        let number = findings::num_examples(task, budget).map_or_else(|| format::NONE.to_owned(), format::count);
        let cells: String = arms.iter().map(|&arm| cell(out, task, arm, budget, column)).collect();
        out.line(&format!("{:>7}{number:>10}{cells}", format::budget(budget)));
    }
}

fn cell(out: &Out, task: &TaskResults, arm: Arm, budget: f64, column: usize) -> String {
    let Some(own) = summary(task, arm, budget) else { return format!("{:>column$}", format::NONE) };
    let (sign, is_best) = match findings::standing(task, arm, budget) {
        Standing::Best => ("*", true),
        Standing::BestWithOverlap => ("~", false),
        Standing::Other => ("", false),
    };
    let half = format::score((own.high - own.low) / 2.0);
    let text = format!("{:>column$}", format!("{sign}{} ± {half}", format::score(own.mean)));
    if is_best { out.styled(&text, BOLD) } else { text }
}

fn closing_lines(out: &mut Out, results: &Results) {
    let by_task = |what: &str, text: fn(&TaskResults) -> Option<String>| {
        let texts: Vec<String> = results.tasks.iter().filter_map(text).collect();
        if texts.is_empty() { String::new() } else { format!("{what}: {}", texts.join(", ")) }
    };
    let lines = [
        ("labels", by_task("to match scratch at its largest budget", saving_text)),
        ("convergence", by_task("steps to the best score of scratch", convergence_text)),
        ("calibration", calibration_text(results)),
        ("splits", splits_text(results)),
        ("cost", cost_text(results)),
    ];
    for (name, text) in lines.iter().filter(|(_, text)| !text.is_empty()) {
        out.named(name, text);
    }
}

fn saving_text(task: &TaskResults) -> Option<String> {
    match findings::label_saving(task) {
        LabelSaving::Reached { budget, .. } => Some(format!("{} {}", task.name, format::budget(budget))),
        LabelSaving::NotReached { .. } => Some(format!("{} not matched", task.name)),
        LabelSaving::NotMeasured => None,
    }
}

fn convergence_text(task: &TaskResults) -> Option<String> {
    let own = task.convergence.as_ref()?;
    if own.ratio <= 0.0 || !own.ratio.is_finite() {
        return Some(format!("{} reached in {} of {} seeds", task.name, own.num_reached, own.num_seeds));
    }
    Some(format!(
        "{} {} ({} to {})",
        task.name,
        findings::pace(own.ratio),
        format::factor(own.low),
        format::factor(own.high)
    ))
}

/// Expected calibration error by arm at the largest budget, mean over tasks.
fn calibration_text(results: &Results) -> String {
    let mean = |arm: Arm, name: &str| {
        let values: Vec<f64> = results
            .tasks
            .iter()
            .filter_map(|task| findings::mean_metric(task, arm, *findings::outer_budgets(task).last()?, name))
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let arm_text = |arm: Arm| {
        let before = mean(arm, "ece")?;
        let after = mean(arm, "ece_scaled").map_or_else(String::new, |after| format!(" → {}", format::score(after)));
        Some(format!("{} {}{after}", arm.label(), format::score(before)))
    };
    let arms: Vec<String> = Arm::ALL.into_iter().filter_map(arm_text).collect();
    if arms.is_empty() {
        return String::new();
    }
    format!("ECE at the largest budget, mean of tasks, before → after temperature scaling: {}", arms.join(", "))
}

/// The splits of the corpus and of tasks whose parts have something in common.
fn splits_text(results: &Results) -> String {
    let is_shown = |(name, check): &(&str, &SplitCheck)| *name == "corpus" || check.num_crossings > 0;
    let splits = sampled::splits(results).into_iter().filter(is_shown);
    let text = |(name, check)| format!("{name}: {}", sampled::split_sentence(check));
    splits.map(text).collect::<Vec<_>>().join(". ")
}

/// What the run cost, in one line.
pub(super) fn cost_text(results: &Results) -> String {
    let facts = &results.pretraining;
    let mut parts = vec![format!("{} in all", format::duration(findings::total_seconds(results)))];
    if facts.num_tokens > 0 {
        parts.push(format!(
            "pretraining {} tokens, {} parameters, {} in {}",
            format::compact(facts.num_tokens as f64),
            format::compact(facts.num_parameters as f64),
            format::metric_prefix(facts.flops, "FLOP"),
            format::duration(facts.wall_s),
        ));
    }
    if let Some(rate) = findings::flops_per_second(results) {
        parts.push(format::metric_prefix(rate, "FLOP/s"));
    }
    parts.join("; ")
}

/// The run in one line: name, verdict in a word, wins, convergence, time.
pub fn one_line(results: &Results) -> String {
    let mut parts = vec![findings::verdict_texts(results).0.label().to_owned()];
    if let Some(verdict) = findings::verdict(results) {
        let named = [("scratch", verdict.scratch), ("TF-IDF", verdict.tfidf)];
        let wins: Vec<String> = named
            .into_iter()
            .filter(|(_, tally)| tally.compared > 0)
            .map(|(name, tally)| format!("{name} {}/{}", tally.higher, tally.compared))
            .collect();
        parts.push(format!("above {} at {}", wins.join(", "), format::budget(verdict.budget)));
    }
    if let Some((ratio, _)) = findings::median_convergence(results) {
        parts.push(format!("{} steps", findings::pace(ratio)));
    }
    parts.push(format::duration(findings::total_seconds(results)));
    format!("{}: {}", results.run.name, parts.join(" · "))
}

/// The text cut to `width` columns.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The text in lines of at most `width` columns, cut at spaces; a word longer than a line is cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words(text) {
        let word = fit(&word, width);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Words, with a per cent sign kept by its number.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if word.starts_with('%') => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn options(width: usize) -> TableOptions<'static> {
        TableOptions { width, color: false, next: Some("arable report --open") }
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
    }

    #[test]
    fn the_final_table() {
        insta::assert_snapshot!(table(&fixture::results(), &options(80)));
    }

    #[test]
    fn the_table_of_a_run_without_tasks() {
        insta::assert_snapshot!(table(&fixture::empty(), &options(80)));
    }

    #[test]
    fn lines_fit_and_styles_change_no_text() {
        let mut results = fixture::results();
        results.tasks[0].name =
            "a-task-with-a-name-that-is-far-longer-than-anyone-should-ever-give-to-a-task-of-theirs".into();
        for width in [0, 64, 70, 72, 80, 500] {
            let text = table(&results, &options(width));
            assert!(widest(&text) <= width.clamp(MIN_WIDTH, MAX_WIDTH), "{width}: {}", widest(&text));
        }
        let styled = table(&results, &TableOptions { color: true, ..options(80) });
        let plain = ["1", "2", "0"].iter().fold(styled, |text, code| text.replace(&format!("\x1b[{code}m"), ""));
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, table(&results, &options(80)).lines().collect::<Vec<_>>());
    }

    #[test]
    fn one_line_tells_the_run() {
        let line = one_line(&fixture::results());
        assert!(line.starts_with("biomedical-mini: ") && line.contains(" at 10 % · 1.6× fewer steps · "), "{line}");
        assert_eq!(one_line(&fixture::empty()), "empty: not measured · 0.0 s");
    }
}
