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
const NUM_DIARIES: usize = 12_000;
const DIAGNOSIS: [(&str, usize); 3] = [("train", 800), ("dev", 300), ("test", 600)];
const TERMS: [(&str, usize); 3] = [("train", 500), ("dev", 200), ("test", 500)];
/// Share of diary entries on quiet days, and of those with a cause that name it.
const QUIET: f64 = 0.2;
const NAMED: f64 = 0.9;
/// Share of tagging sentences without any mention.
const EMPTY: f64 = 0.1;

/// One file below the domain's folder, uncompressed.
pub struct DataFile {
    /// Relative to the domain's folder; `.gz` at the end asks for compression.
    pub path: String,
    pub text: String,
}

#[derive(Serialize)]
struct DiaryRow<'a> {
    id: &'a str,
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
    let mut seen = BTreeSet::new();
    let mut files = diagnosis(sources, &mut seen)?;
    files.extend(terms(sources)?);
    files.push(diaries(sources, &mut seen)?);
    Ok(files)
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

fn diaries(sources: &Sources, seen: &mut BTreeSet<String>) -> Result<DataFile> {
    let mut out = String::new();
    let mut purposes = SEED.stream("diaries/purpose").at(0, 0);
    for idx in 0..NUM_DIARIES {
        let purpose = if purposes.uniform() < NAMED { Purpose::Named } else { Purpose::Unnamed };
        let (scene, who, entry) = entry(sources, "diaries", idx, purpose, Forms::All, QUIET)?;
        let text = text(&entry.concat());
        if !seen.insert(text.clone()) {
            continue;
        }
        let (month, day) = month_and_day(scene.week, scene.weekday);
        let time = format!("{}-{month:02}-{day:02}", 2015 + idx * 10 / NUM_DIARIES);
        let row = DiaryRow { id: &format!("d{idx:05}"), group: format!("grower-{who:02}"), time, text: &text };
        push_row(&mut out, &row)?;
    }
    Ok(DataFile { path: "data/diaries.jsonl.gz".into(), text: out })
}

fn diagnosis(sources: &Sources, seen: &mut BTreeSet<String>) -> Result<Vec<DataFile>> {
    DIAGNOSIS.into_iter().map(|(part, num_rows)| diagnosis_part(sources, part, num_rows, seen)).collect()
}

fn diagnosis_part(sources: &Sources, part: &str, num_rows: usize, seen: &mut BTreeSet<String>) -> Result<DataFile> {
    let (mut out, mut kept) = (String::new(), 0);
    for idx in 0.. {
        if kept == num_rows {
            break;
        }
        let (scene, _, entry) = entry(sources, &format!("diagnosis/{part}"), idx, Purpose::Unnamed, Forms::All, 0.0)?;
        let (text, cause) = (text(&entry.concat()), scene.cause.expect("no day of this set is quiet"));
        if sources.names_a_cause(&text) || !seen.insert(text.clone()) {
            continue;
        }
        push_row(&mut out, &DiagnosisRow { id: format!("{part}-{kept:03}"), text: &text, label: &cause.name })?;
        kept += 1;
    }
    Ok(DataFile { path: format!("data/diagnosis.{part}.jsonl"), text: out })
}

fn terms(sources: &Sources) -> Result<Vec<DataFile>> {
    let mut seen = BTreeSet::new();
    TERMS.into_iter().map(|(part, num_rows)| terms_part(sources, part, num_rows, &mut seen)).collect()
}

/// One sentence of each entry, so that sentences do not share a scene.
fn terms_part(sources: &Sources, part: &str, num_rows: usize, seen: &mut BTreeSet<String>) -> Result<DataFile> {
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
        if seen.insert(text(sentence)) {
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
