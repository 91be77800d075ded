//! What a sample asked for and reached, and the proof that splits cut nothing apart.

use std::cmp::Reverse;

use arable_corpus::{Border, Sampled, SampledValue, SplitCheck};
use maud::{Markup, html};

use super::background::plain_table;
use super::format;
use crate::results::{CorpusFacts, Results};

/// Values in a table; of more, those with the most documents.
pub(super) const MOST: usize = 24;
/// What a table of a sample shows of each value.
pub(super) const HEADS: [&str; 5] = ["value", "there are", "asked", "taken", "short"];
/// Columns of a number in plain text.
const NUMBER: usize = 11;

/// A sample in one sentence.
pub(super) fn sentence(sample: &Sampled) -> String {
    let (num_taken, num_short) = (sample.num_taken(), sample.values.iter().filter(|own| own.num_short() > 0).count());
    let missing = match sample.num_asked.saturating_sub(num_taken) {
        0 => String::new(),
        num => format!(" {} too few.", format::counted(num, "document")),
    };
    let short = if num_short > 0 { format!(", {} of them short", format::count(num_short)) } else { String::new() };
    format!(
        "{} of {} asked for, by {} of {}{short}.{missing} Nothing is taken twice.",
        format::count(num_taken),
        format::counted(sample.num_asked, "document"),
        format::counted(sample.values.len(), "value"),
        sample.by,
    )
}

/// A row for each value, as far as [`MOST`] go, and how many values are left.
pub(super) fn rows(sample: &Sampled) -> (Vec<Vec<String>>, usize) {
    let mut order: Vec<usize> = (0..sample.values.len()).collect();
    order.sort_by_key(|&at| Reverse(sample.values[at].num_documents));
    order.truncate(MOST);
    order.sort_unstable();
    let row = |own: &SampledValue| {
        let short = if own.num_short() > 0 { format::count(own.num_short()) } else { format::NONE.to_owned() };
        let numbers = [own.num_documents, own.num_asked, own.num_taken].map(format::count);
        std::iter::once(own.value.clone()).chain(numbers).chain([short]).collect()
    };
    let num_left = sample.values.len() - order.len();
    (order.into_iter().map(|at| row(&sample.values[at])).collect(), num_left)
}

/// A sample as plain text of `width` columns: a line of names, a line for each value.
pub fn sample_table(sample: &Sampled, width: usize) -> String {
    let (rows, num_left) = rows(sample);
    let name_width = width - NUMBER * (HEADS.len() - 1);
    let line = |cells: &[&str]| {
        let name: String = cells[0].chars().take(name_width).collect();
        let numbers: String = cells[1..].iter().map(|cell| format!("{cell:>NUMBER$}")).collect();
        format!("{name:<name_width$}{numbers}\n")
    };
    let mut text = line(&HEADS);
    rows.iter().for_each(|row| text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    if num_left > 0 {
        text += &format!("and {}\n", format::counted(num_left, "smaller value"));
    }
    text
}

/// What a look at a split found, in one sentence.
pub fn split_sentence(check: &SplitCheck) -> String {
    let crossing = match check.num_crossings {
        0 => "nothing stands in two parts".to_owned(),
        1 => "1 text or group stands in two parts".to_owned(),
        num => format!("{} texts or groups stand in two parts", format::count(num)),
    };
    let border = |own: &Border| {
        let moved = match own.num_moved {
            0 => String::new(),
            num => format!(" and {} older that belong to them", format::count(num)),
        };
        format!("; {} from {} on{moved}", own.part.replace('_', " "), own.from)
    };
    let borders: String = check.borders.iter().map(border).collect();
    let untimed = match check.num_untimed {
        0 => String::new(),
        num => format!("; {} without a time", format::count(num)),
    };
    format!(
        "{} and {}, {crossing}{borders}{untimed}",
        format::counted(check.num_clusters, "cluster"),
        format::counted(check.num_groups, "group"),
    )
}

/// The splits of the corpus and of each task, by name.
pub(super) fn splits(results: &Results) -> Vec<(&str, &SplitCheck)> {
    let corpus = results.corpus.split.iter().map(|check| ("corpus", check));
    let tasks = results.tasks.iter().map(|task| (task.name.as_str(), &task.split));
    corpus.chain(tasks.filter(|(_, check)| check.num_clusters > 0)).collect()
}

/// The table of a sample.
pub(super) fn sample(facts: &CorpusFacts) -> Markup {
    html! {
        @if let Some(sample) = &facts.sample {
            @let (rows, num_left) = rows(sample);
            div.wide {
                h3 { "Sample" }
                p {
                    (sentence(sample))
                    @if num_left > 0 { " Not shown: " (format::counted(num_left, "smaller value")) "." }
                }
                (plain_table(&HEADS, &rows))
            }
        }
    }
}

/// The list of splits.
pub(super) fn split_list(results: &Results) -> Markup {
    let splits = splits(results);
    html! {
        @if !splits.is_empty() {
            div.wide {
                h3 { "Splits" }
                p { "What has equal words or one group is a cluster. Each part was looked at once it was made." }
                dl.facts { @for (name, check) in splits { div { dt { (name) } dd { (split_sentence(check)) } } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn many_values_are_cut_to_the_largest() {
        let value =
            |i: usize| SampledValue { value: format!("v{i:02}"), num_documents: i, num_asked: 9, num_taken: i.min(9) };
        let sample = Sampled { by: "group".into(), num_asked: 360, values: (0..40).map(value).collect() };
        let text = sample_table(&sample, 80);
        assert_eq!(text.lines().count(), MOST + 2);
        assert!(text.contains("v16") && !text.contains("v15") && text.ends_with("and 16 smaller values\n"));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let expected = "315 of 360 documents asked for, by 40 values of group, 9 of them short. 45 documents too few. \
                        Nothing is taken twice.";
        assert_eq!(sentence(&sample), expected);
    }

    #[test]
    fn a_split_says_where_it_cuts() {
        let results = fixture::results();
        let said = split_sentence(results.corpus.split.as_ref().unwrap());
        let expected = "46,871 clusters and 210 groups, nothing stands in two parts; held out from 2024-05 on and 12 older \
                        that belong to them; 7 without a time";
        assert_eq!(said, expected);
        let crossing = SplitCheck { num_clusters: 3, num_groups: 1, num_crossings: 1, ..SplitCheck::default() };
        assert_eq!(split_sentence(&crossing), "3 clusters and 1 group, 1 text or group stands in two parts");
    }
}
