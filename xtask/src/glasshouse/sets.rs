//! The corpus and the two tasks.

use std::collections::BTreeSet;

use anyhow::Result;
use arable_core::{Draws, Seed};
use serde::Serialize;

use super::Sources;
use super::diary::{Entry, NUM_GROWERS, Purpose, grower, month_and_day, write};
use super::grammar::Forms;
use super::words::{Word, tag, text};
use super::world::{Scene, scene};

/// The seed of everything in the folder.
const SEED: Seed = Seed(20_260_401);
const NUM_DIARIES: usize = 14_000;
const DIAGNOSIS: [(&str, usize); 3] = [("train", 800), ("dev", 300), ("test", 600)];
const TERMS: [(&str, usize); 3] = [("train", 500), ("dev", 200), ("test", 500)];
/// Share of diary entries on quiet days, and of those with a cause that name it.
const QUIET: f64 = 0.2;
const NAMED: f64 = 0.9;
/// Share of tagging sentences without any mention.
const EMPTY: f64 = 0.1;

/// Words and punctuation from which on a sentence is not one that anyone may write by chance.
const LONG_SENTENCE: usize = 9;

/// One file below the domain's folder, uncompressed.
pub struct DataFile {
    /// Relative to the domain's folder; `.gz` at the end asks for compression.
    pub path: String,
    pub text: String,
}

#[derive(Serialize)]
struct DiaryRow<'a> {
    id: String,
    group: String,
    time: String,
    text: &'a str,
}

#[derive(Serialize)]
struct DiagnosisRow<'a> {
    id: String,
    text: &'a str,
    label: &'a str,
}

/// Everything in `data/`.
///
/// # Errors
/// When the grammar cannot express a scene.
pub fn generate(sources: &Sources) -> Result<Vec<DataFile>> {
    let mut taken = Taken::default();
    let mut files = Vec::new();
    for (part, num_rows) in DIAGNOSIS {
        files.push(diagnosis(sources, part, num_rows, &mut taken)?);
    }
    for (part, num_rows) in TERMS {
        files.push(terms(sources, part, num_rows, &mut taken)?);
    }
    files.push(diaries(sources, &mut taken)?);
    Ok(files)
}

/// Texts that must not be written a second time.
#[derive(Default)]
struct Taken {
    entries: BTreeSet<String>,
    sentences: BTreeSet<String>,
}

impl Taken {
    /// Whether a diary may hold `entry`: it is new, and none of its longer sentences is a tagging example.
    fn may_hold(&self, entry: &Entry) -> bool {
        let is_example =
            |sentence: &Vec<Word>| sentence.len() >= LONG_SENTENCE && self.sentences.contains(&text(sentence));
        !self.entries.contains(&text(&entry.concat())) && !entry.iter().any(is_example)
    }
}

/// The entry at `idx` of the named set, with its scene.
fn entry<'a>(
    sources: &'a Sources,
    set: &str,
    idx: usize,
    purpose: Purpose,
    forms: Forms,
    quiet: f64,
) -> Result<(Scene<'a>, usize, Entry)> {
    let mut draws: Draws = SEED.stream(set).at(idx as u64, 0);
    let causes = &sources.rules.cause;
    let cause = (draws.uniform() >= quiet).then(|| &causes[draws.below(causes.len())]);
    let scene = scene(&sources.rules, &sources.ontology, cause, &mut draws);
    let who = draws.below(NUM_GROWERS);
    let entry = write(sources, &scene, &grower(SEED, who), purpose, forms, draws)?;
    Ok((scene, who, entry))
}

fn diaries(sources: &Sources, taken: &mut Taken) -> Result<DataFile> {
    let mut out = String::new();
    let mut purposes = SEED.stream("diaries/purpose").at(0, 0);
    let mut kept = 0;
    for idx in 0.. {
        if kept == NUM_DIARIES {
            break;
        }
        let purpose = if purposes.uniform() < NAMED { Purpose::Named } else { Purpose::Unnamed };
        let (scene, who, entry) = entry(sources, "diaries", idx, purpose, Forms::All, QUIET)?;
        if !taken.may_hold(&entry) {
            continue;
        }
        let text = text(&entry.concat());
        let (month, day) = month_and_day(scene.week, scene.weekday);
        let time = format!("{}-{month:02}-{day:02}", 2015 + kept * 10 / NUM_DIARIES);
        push_row(
            &mut out,
            &DiaryRow { id: format!("d{kept:05}"), group: format!("grower-{who:02}"), time, text: &text },
        )?;
        taken.entries.insert(text);
        kept += 1;
    }
    Ok(DataFile { path: "data/diaries.jsonl.gz".into(), text: out })
}

fn diagnosis(sources: &Sources, part: &str, num_rows: usize, taken: &mut Taken) -> Result<DataFile> {
    let (mut out, mut kept) = (String::new(), 0);
    for idx in 0.. {
        if kept == num_rows {
            break;
        }
        let (scene, _, entry) = entry(sources, &format!("diagnosis/{part}"), idx, Purpose::Unnamed, Forms::All, 0.0)?;
        let (text, cause) = (text(&entry.concat()), scene.cause.expect("no day of this set is quiet"));
        if sources.names_a_cause(&text) || !taken.entries.insert(text.clone()) {
            continue;
        }
        push_row(&mut out, &DiagnosisRow { id: format!("{part}-{kept:03}"), text: &text, label: &cause.name })?;
        kept += 1;
    }
    Ok(DataFile { path: format!("data/diagnosis.{part}.jsonl"), text: out })
}

/// One sentence of each entry, so that sentences do not share a scene.
fn terms(sources: &Sources, part: &str, num_rows: usize, taken: &mut Taken) -> Result<DataFile> {
    let forms = if part == "train" { Forms::WithoutHeldOut } else { Forms::All };
    let mut choices = SEED.stream("terms/choices").at(0, num_rows as u64);
    let (mut out, mut kept) = (String::new(), 0);
    for idx in 0.. {
        if kept == num_rows {
            break;
        }
        let (_, _, entry) = entry(sources, &format!("terms/{part}"), idx, Purpose::Named, forms, QUIET)?;
        let wants_mentions = choices.uniform() >= EMPTY;
        let has_mentions = |sentence: &&Vec<Word>| sentence.iter().any(|word| word.mention.is_some()) == wants_mentions;
        let open: Vec<&Vec<Word>> = entry.iter().filter(has_mentions).filter(|sentence| sentence.len() > 3).collect();
        if open.is_empty() {
            continue;
        }
        let sentence = open[choices.below(open.len())];
        if taken.sentences.insert(text(sentence)) {
            sentence.iter().for_each(|word| out.push_str(&format!("{}\t{}\n", word.text, tag(word))));
            out.push('\n');
            kept += 1;
        }
    }
    Ok(DataFile { path: format!("data/terms.{part}.conll"), text: out })
}

fn push_row(out: &mut String, row: &impl Serialize) -> Result<()> {
    out.push_str(&serde_json::to_string(row)?);
    out.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::glasshouse::tests::sources;

    /// The field `key` of each row of the file whose path begins with `path`.
    fn field(files: &[DataFile], path: &str, key: &str) -> Vec<String> {
        let file = files.iter().find(|file| file.path.starts_with(path)).unwrap();
        let rows = file.text.lines().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
        rows.map(|row| row[key].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn tasks_do_not_give_their_answers_away() {
        let sources = sources();
        let files = generate(&sources).unwrap();
        let diaries = field(&files, "data/diaries", "text");
        assert!(diaries.iter().filter(|text| sources.names_a_cause(text)).count() * 2 > diaries.len());
        let mut seen: BTreeSet<String> = diaries.into_iter().collect();
        for (part, num_rows) in DIAGNOSIS {
            let path = format!("data/diagnosis.{part}");
            let texts = field(&files, &path, "text");
            assert!(texts.len() == num_rows && !texts.iter().any(|text| sources.names_a_cause(text)));
            assert!(texts.into_iter().all(|text| seen.insert(text)), "{part} repeats a text");
            let labels: BTreeSet<String> = field(&files, &path, "label").into_iter().collect();
            assert_eq!(labels.len(), sources.rules.cause.len());
        }
    }

    #[test]
    fn some_forms_are_new_at_test_time() {
        let files = generate(&sources()).unwrap();
        let words = |part: &str| -> BTreeSet<String> {
            let file = files.iter().find(|file| file.path == format!("data/terms.{part}.conll")).unwrap();
            let tagged = file.text.lines().filter(|line| !line.is_empty() && !line.ends_with("\tO"));
            tagged.map(|line| line.to_lowercase()).collect()
        };
        let (train, test) = (words("train"), words("test"));
        let new = test.difference(&train).count();
        assert!(new * 4 > test.len(), "{new} of {} tagged words are new", test.len());
    }
}
