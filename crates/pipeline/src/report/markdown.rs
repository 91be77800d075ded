//! The result page in Markdown, for a repository's `benchmarks/`.

use std::fmt::Write;

use super::findings::{self, Standing, budgets, summary};
use super::measured::{convergence_sentence, task_facts};
use super::{COMMANDS, format, sampled, terminal};
use crate::results::{Arm, PiiFacts, Results, TaskResults};

/// The results as a Markdown page: verdict, scores with intervals, labels saved, convergence, calibration, corpus,
/// vocabulary, cost, machine and commands.
pub fn markdown(results: &Results) -> String {
    let (outcome, sentence, caveat) = findings::verdict_texts(results);
    let mut page = format!("# {}: {}\n\n{sentence}", escaped(&results.run.name), outcome.label());
    if let Some(caveat) = caveat {
        write!(page, " {caveat}").expect("a string takes all");
    }
    page.push('\n');
    let parts = [
        ("Scores", scores(results)),
        ("Labels saved", lines(results, |task| findings::label_saving(task).sentence())),
        ("Convergence", lines(results, convergence_sentence)),
        ("Calibration", calibration(results)),
        ("Corpus and vocabulary", corpus(results)),
        ("Cost", cost(results)),
        ("Machine and command", machine(results)),
    ];
    for (title, body) in parts.into_iter().filter(|(_, body)| !body.is_empty()) {
        write!(page, "\n## {title}\n\n{}\n", body.trim_end()).expect("a string takes all");
    }
    page
}

/// Text that cannot become a table cell's end, emphasis or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

/// A table whose first column is text and whose other columns are numbers; empty without rows.
fn grid(heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let row = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let rule: Vec<&str> = (0..heads.len()).map(|at| if at == 0 { "---" } else { "---:" }).collect();
    let mut out = row(&mut heads.iter().copied()) + &row(&mut rule.into_iter());
    rows.iter().for_each(|cells| out.push_str(&row(&mut cells.iter().map(String::as_str))));
    out
}

fn scores(results: &Results) -> String {
    if results.tasks.is_empty() {
        return String::new();
    }
    let mut out =
        "Mean test score over seeds with its 95 % bootstrap interval over seeds and test examples. **Bold**: the \
                   best arm, its interval above the others; *italic*: the best mean where intervals overlap.\n"
            .to_owned();
    for task in &results.tasks {
        let facts = escaped(&task_facts(task));
        write!(out, "\n### {}\n\n{facts}.\n\n{}", escaped(&task.name), score_grid(task)).expect("a string takes all");
    }
    out
}

fn score_grid(task: &TaskResults) -> String {
    let arms = findings::arms(task);
    let heads: Vec<&str> = ["labels", "examples"].into_iter().chain(arms.iter().map(|arm| arm.label())).collect();
    let row = |budget: f64| {
        let number = findings::num_examples(task, budget).map_or_else(|| format::NONE.to_owned(), format::count);
        let cells = arms.iter().map(|&arm| score_cell(task, arm, budget));
        [format::budget(budget), number].into_iter().chain(cells).collect()
    };
    grid(&heads, &budgets(task).into_iter().map(row).collect::<Vec<Vec<String>>>())
}

fn score_cell(task: &TaskResults, arm: Arm, budget: f64) -> String {
    let Some(own) = summary(task, arm, budget) else { return format::NONE.to_owned() };
    let mark = match findings::standing(task, arm, budget) {
        Standing::Best => "**",
        Standing::BestWithOverlap => "*",
        Standing::Other => "",
    };
    format!("{mark}{}{mark} ({}–{})", format::score(own.mean), format::score(own.low), format::score(own.high))
}

fn lines(results: &Results, sentence: impl Fn(&TaskResults) -> String) -> String {
    results.tasks.iter().map(|task| format!("- {}: {}\n", escaped(&task.name), sentence(task))).collect()
}

fn calibration(results: &Results) -> String {
    let heads = ["task", "labels", "arm", "ECE", "ECE scaled", "Brier", "Brier scaled", "NLL", "NLL scaled"];
    let rows =
        results.tasks.iter().flat_map(|task| findings::calibration(task).into_iter().map(move |row| (task, row)));
    let rows: Vec<Vec<String>> = rows
        .map(|(task, row)| {
            let numbers = [row.ece, row.brier, row.nll].into_iter().flatten().map(format::score_or_none);
            let names = [escaped(&task.name), format::budget(row.budget), row.arm.label().to_owned()];
            names.into_iter().chain(numbers).collect()
        })
        .collect();
    grid(&heads, &rows)
}

fn corpus(results: &Results) -> String {
    let facts = &results.corpus;
    let mut out = format!(
        "{} with {} for training, {} held out. Left out: {} by conditions, {} exact, {} normalised and {} near-duplicates, {} for overlap with \
         held-out examples, {} beyond the sample, {} that could not be read.\n",
        format::counted(facts.num_train, "document"),
        format::counted(facts.num_train_words, "word"),
        format::count(facts.num_held_out),
        format::count(facts.num_too_short + facts.num_filtered),
        format::count(facts.num_exact_duplicates),
        format::count(facts.num_normalized_duplicates),
        format::count(facts.num_near_duplicates),
        format::count(facts.overlap.iter().map(|own| own.num_documents_removed).sum()),
        format::count(facts.num_sampled_out),
        format::count(facts.rejects.values().sum()),
    );
    if !facts.pii.is_empty() {
        let kind = |own: &PiiFacts| {
            let now = if own.is_masked { "masked" } else { "in the text" };
            format!("{} {} ({now})", format::count(own.num_found), own.kind.replace('_', " "))
        };
        let kinds: Vec<String> = facts.pii.iter().map(kind).collect();
        write!(out, "\nPersonal data found: {}.\n", kinds.join(", ")).expect("a string takes all");
    }
    if let Some(sample) = &facts.sample {
        let (rows, num_left) = sampled::rows(sample);
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
        let more = if num_left > 0 {
            format!("\nNot shown: {}.\n", format::counted(num_left, "smaller value"))
        } else {
            String::new()
        };
        let sentence = escaped(&sampled::sentence(sample));
        write!(out, "\nSample: {sentence}\n\n{}{more}", grid(&sampled::HEADS, &rows)).expect("a string takes all");
    }
    let split = |(name, check)| format!("- Split of {}: {}.\n", escaped(name), sampled::split_sentence(check));
    let splits: String = sampled::splits(results).into_iter().map(split).collect();
    if !splits.is_empty() {
        write!(out, "\n{splits}").expect("a string takes all");
    }
    if let Some(sentence) = findings::fertility_sentence(results) {
        write!(out, "\n{sentence}\n").expect("a string takes all");
    }
    out
}

fn cost(results: &Results) -> String {
    let stage = |(name, seconds): &(String, f64)| {
        let time = if *seconds == 0.0 { "already done".to_owned() } else { format::duration(*seconds) };
        vec![escaped(name), time]
    };
    let stages: Vec<Vec<String>> = results.run.stages.iter().map(stage).collect();
    let tuning = findings::fine_tuning_cost(results).into_iter();
    let tuning: Vec<Vec<String>> = tuning
        .map(|(arm, number, seconds)| vec![arm.label().to_owned(), format::count(number), format::duration(seconds)])
        .collect();
    format!(
        "{}.\n\n{}\n{}",
        terminal::cost_text(results),
        grid(&["stage", "time"], &stages),
        grid(&["arm", "trainings", "time"], &tuning)
    )
}

fn machine(results: &Results) -> String {
    let run = &results.run;
    let mut out = String::new();
    for (name, value) in &run.machine {
        writeln!(out, "- {}: {}", escaped(name), escaped(value)).expect("a string takes all");
    }
    let threads = format::counted(run.num_threads, "thread");
    writeln!(out, "- run with: {threads}, {} matrix work", escaped(&run.precision)).expect("a string takes all");
    writeln!(out, "- program: {}", escaped(&run.code_version)).expect("a string takes all");
    writeln!(out, "- configuration: `{}`\n", run.config_digest).expect("a string takes all");
    let commands: String = COMMANDS.iter().map(|(command, what)| format!("{command}  # {what}\n")).collect();
    out + "```sh\n" + &commands + "```\n"
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn the_result_page() {
        insta::assert_snapshot!(markdown(&fixture::results()));
    }

    #[test]
    fn names_and_missing_numbers_break_no_table() {
        let mut results = fixture::results();
        results.tasks[0].name = "a|b <i>".into();
        results.tasks[0].summaries[0].mean = f64::NAN;
        let page = markdown(&results);
        assert!(page.contains("### a\\|b &lt;i>") && !page.contains("NaN"));
        assert!(markdown(&fixture::empty()).contains("## Cost"));
    }
}
