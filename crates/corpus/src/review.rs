//! Doubtful labels before people: files for them to fill in, what they said, and the corrections that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use arable_core::{Hint, LabelSet};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::files::nearest;
use crate::noise::Suspect;

/// What one person said about one example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The example.
    pub id: String,
    /// The label it should have.
    pub label: String,
    /// Who said so.
    pub reviewer: String,
    /// When, as the file says.
    pub date: Option<String>,
    /// Why, in the reviewer's words; may be empty.
    pub note: String,
}

/// A label that is replaced, and by whom, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// The example.
    pub id: String,
    /// The label it had.
    pub from: String,
    /// The label it gets.
    pub to: String,
    /// Who decided.
    pub by: Vec<String>,
    /// When.
    pub date: String,
    /// Why.
    pub why: String,
}

/// What became of the examples under review.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Labels to replace, by id.
    pub corrections: Vec<Correction>,
    /// Examples whose label stays.
    pub num_confirmed: usize,
    /// Examples that too few people have judged.
    pub num_open: usize,
    /// Examples that people disagree about and nobody has decided, with what each said.
    pub disputed: BTreeMap<String, Vec<Verdict>>,
}

/// Review files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Neither `.csv` nor `.json`.
    #[error("tell the kind of the review file `{}`", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// A file whose content cannot be read.
    #[error("read the review file `{}`: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place where it is known.
        problem: String,
    },
    /// A label that the task does not have.
    #[error("find the label `{label}` of example `{id}` among the labels of the task ({})", path.display())]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// The example.
        id: String,
        /// The label.
        label: String,
        /// The most similar label of the task.
        nearest: Option<String>,
    },
    /// An example that the task does not have.
    #[error("find example `{id}`, which {reviewer} judged, in the task")]
    UnknownExample {
        /// The example.
        id: String,
        /// Who judged it.
        reviewer: String,
    },
    /// Two answers of one person to one question.
    #[error("tell which of two labels of {reviewer} for example `{id}` is meant")]
    Twice {
        /// The example.
        id: String,
        /// The reviewer.
        reviewer: String,
    },
    /// Writing or reading failed; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Hint for ReviewError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Kind { .. } => "give the filled-in .csv or Label Studio's export as .json".to_owned(),
            Self::Content { .. } => {
                "a .csv needs the columns `id` and `label`; a .json is Label Studio's export in its own format"
                    .to_owned()
            }
            Self::UnknownLabel { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::UnknownLabel { .. } | Self::Io(_) => return None,
            Self::UnknownExample { .. } => "the review files belong to another task, or its files changed".to_owned(),
            Self::Twice { .. } => "each person has a file of their own, named after them".to_owned(),
        })
    }
}

/// Writes a table for one person to fill in: the column `label`, and `note` and `date` where there is something to say.
/// Nothing that exists is written over: it may hold a person's work.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_review_table(path: &Path, suspects: &[Suspect]) -> Result<(), ReviewError> {
    let mut table = csv::Writer::from_writer(fs::File::create_new(path)?);
    let failed = |error: csv::Error| io::Error::other(error);
    table.write_record(["id", "text", "given", "suggested", "reason", "label", "note", "date"]).map_err(failed)?;
    for Suspect { id, given, suggested, reason, text } in suspects {
        let (text, reason) = (inert(text), reason.to_string());
        table.write_record([id, &text, given, suggested, reason.as_str(), "", "", ""]).map_err(failed)?;
    }
    Ok(table.flush()?)
}

/// Writes the tasks to import into Label Studio, with the suggested label as its prediction, and beside it as `.xml` the
/// labelling interface.
///
/// # Errors
/// When a file exists or cannot be written.
pub fn write_label_studio(path: &Path, suspects: &[Suspect], labels: &LabelSet) -> Result<(), ReviewError> {
    let task = |suspect: &Suspect| {
        let Suspect { id, given, suggested, reason, text } = suspect;
        let choice = json!({ "from_name": "label", "to_name": "text", "type": "choices",
                             "value": { "choices": [suggested] } });
        json!({
            "data": { "id": id, "text": text, "given": given, "suggested": suggested, "reason": reason.to_string() },
            "predictions": [{ "model_version": "arable", "result": [choice] }],
        })
    };
    let tasks: Vec<Value> = suspects.iter().map(task).collect();
    serde_json::to_writer_pretty(fs::File::create_new(path)?, &tasks).map_err(io::Error::from)?;
    let choices: String =
        labels.names().iter().map(|name| format!("    <Choice value=\"{}\"/>\n", xml_text(name))).collect();
    let view = format!(
        "<View>\n  <Text name=\"text\" value=\"$text\"/>\n  <Header value=\"$given: $reason\"/>\n  <Choices name=\"label\" \
         toName=\"text\" choice=\"single\">\n{choices}  </Choices>\n</View>\n"
    );
    let interface = path.with_extension("xml");
    io::Write::write_all(&mut fs::File::create_new(interface)?, view.as_bytes())?;
    Ok(())
}

/// A text that no spreadsheet takes for a formula.
fn inert(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

fn xml_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// Reads what people said: a filled-in table (`anna.csv` is by `anna`; rows without a label are not judged yet) or an
/// export of Label Studio.
///
/// # Errors
/// When the file cannot be read, or has a label that is not among `labels`.
pub fn read_verdicts(path: &Path, labels: &LabelSet) -> Result<Vec<Verdict>, ReviewError> {
    let verdicts = match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => read_table(path)?,
        Some("json") => read_label_studio(path)?,
        _ => return Err(ReviewError::Kind { path: path.to_owned() }),
    };
    match verdicts.iter().find(|verdict| labels.index(&verdict.label).is_none()) {
        None => Ok(verdicts),
        Some(Verdict { id, label, .. }) => Err(ReviewError::UnknownLabel {
            path: path.to_owned(),
            id: id.clone(),
            label: label.clone(),
            nearest: nearest(label, labels.names()),
        }),
    }
}

#[derive(Deserialize)]
struct TableRow {
    id: String,
    label: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    date: String,
}

fn read_table(path: &Path) -> Result<Vec<Verdict>, ReviewError> {
    let reviewer = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let wrong = |error: csv::Error| ReviewError::Content { path: path.to_owned(), problem: error.to_string() };
    let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(fs::File::open(path)?);
    let mut verdicts = Vec::new();
    for row in table.deserialize() {
        let TableRow { id, label, note, date } = row.map_err(wrong)?;
        if !label.is_empty() {
            let date = Some(date).filter(|date| !date.is_empty());
            verdicts.push(Verdict { id, label, reviewer: reviewer.clone(), date, note });
        }
    }
    Ok(verdicts)
}

#[derive(Deserialize)]
struct Exported {
    data: ExportedData,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct ExportedData {
    id: String,
}

#[derive(Deserialize)]
struct Annotation {
    /// A number or a person with an address.
    completed_by: Value,
    #[serde(default)]
    was_cancelled: bool,
    #[serde(default)]
    updated_at: Option<String>,
    result: Vec<Value>,
}

fn read_label_studio(path: &Path) -> Result<Vec<Verdict>, ReviewError> {
    let tasks: Vec<Exported> = serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| ReviewError::Content { path: path.to_owned(), problem: error.to_string() })?;
    let mut verdicts = Vec::new();
    for Exported { data, annotations } in tasks {
        for Annotation { completed_by, updated_at, result, .. } in annotations.into_iter().filter(|a| !a.was_cancelled)
        {
            let choice = result.iter().find_map(|part| part["value"]["choices"][0].as_str());
            let note = result.iter().find_map(|part| part["value"]["text"][0].as_str()).unwrap_or_default();
            let Some(label) = choice else { continue };
            let reviewer = match &completed_by {
                Value::Object(person) => person.get("email").and_then(Value::as_str).unwrap_or("?").to_owned(),
                number => format!("reviewer-{number}"),
            };
            let (id, label, note) = (data.id.clone(), label.to_owned(), note.to_owned());
            verdicts.push(Verdict { id, label, reviewer, date: updated_at, note });
        }
    }
    Ok(verdicts)
}

/// Decides what becomes of every example that `verdicts` judge: what `adjudicated` says, else what all say who judged it,
/// if they are at least `min_reviewers`. `given` has the labels now, `date` stands where a file says none.
///
/// # Errors
/// When a verdict is on an example that is not in `given`, or somebody judged an example twice.
pub fn settle(
    given: &BTreeMap<String, String>,
    verdicts: &[Verdict],
    adjudicated: &[Verdict],
    min_reviewers: usize,
    date: &str,
) -> Result<Settled, ReviewError> {
    check_once(given, verdicts)?;
    check_once(given, adjudicated)?;
    let mut by_example: BTreeMap<&str, Vec<&Verdict>> = BTreeMap::new();
    for verdict in verdicts.iter().chain(adjudicated) {
        by_example.entry(&verdict.id).or_default().push(verdict);
    }
    let mut settled = Settled::default();
    for (id, said) in by_example {
        let last_word = adjudicated.iter().find(|verdict| verdict.id == id);
        let deciding: Vec<&Verdict> = last_word.map_or(said.clone(), |verdict| vec![verdict]);
        let label = &deciding[0].label;
        if last_word.is_none() && said.len() < min_reviewers {
            settled.num_open += 1;
        } else if deciding.iter().any(|verdict| verdict.label != *label) {
            settled.disputed.insert(id.to_owned(), said.into_iter().cloned().collect());
        } else if *label == given[id] {
            settled.num_confirmed += 1;
        } else {
            settled.corrections.push(correction(&given[id], &deciding, last_word.is_some(), date));
        }
    }
    Ok(settled)
}

fn correction(from: &str, deciding: &[&Verdict], is_adjudicated: bool, date: &str) -> Correction {
    let mut why: Vec<&str> = deciding.iter().map(|verdict| verdict.note.as_str()).filter(|n| !n.is_empty()).collect();
    if why.is_empty() {
        why.push(if is_adjudicated { "adjudicated" } else { "all reviewers agree" });
    }
    Correction {
        id: deciding[0].id.clone(),
        from: from.to_owned(),
        to: deciding[0].label.clone(),
        by: deciding.iter().map(|verdict| verdict.reviewer.clone()).collect(),
        date: deciding.iter().filter_map(|verdict| verdict.date.clone()).max().unwrap_or_else(|| date.to_owned()),
        why: why.join("; "),
    }
}

fn check_once(given: &BTreeMap<String, String>, verdicts: &[Verdict]) -> Result<(), ReviewError> {
    let mut seen = BTreeSet::new();
    for Verdict { id, reviewer, .. } in verdicts {
        if !given.contains_key(id) {
            return Err(ReviewError::UnknownExample { id: id.clone(), reviewer: reviewer.clone() });
        }
        if !seen.insert((id, reviewer)) {
            return Err(ReviewError::Twice { id: id.clone(), reviewer: reviewer.clone() });
        }
    }
    Ok(())
}

/// Writes a table of what people disagree about, for one who decides: what each said stands in the column `said`.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_disputed(
    path: &Path,
    disputed: &BTreeMap<String, Vec<Verdict>>,
    text_of: impl Fn(&str) -> String,
) -> Result<(), ReviewError> {
    let mut table = csv::Writer::from_writer(fs::File::create_new(path)?);
    let failed = |error: csv::Error| io::Error::other(error);
    table.write_record(["id", "text", "said", "label", "note", "date"]).map_err(failed)?;
    for (id, verdicts) in disputed {
        let said = |verdict: &Verdict| match verdict.note.as_str() {
            "" => format!("{}: {}", verdict.reviewer, verdict.label),
            note => format!("{}: {} ({note})", verdict.reviewer, verdict.label),
        };
        let said: Vec<String> = verdicts.iter().map(said).collect();
        table.write_record([id.as_str(), &inert(&text_of(id)), &said.join("; "), "", "", ""]).map_err(failed)?;
    }
    Ok(table.flush()?)
}

/// Writes corrections for `[task.*] corrections` to name: a line of JSON for each.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_corrections(path: &Path, corrections: &[Correction]) -> Result<(), ReviewError> {
    let mut file = io::BufWriter::new(fs::File::create_new(path)?);
    for correction in corrections {
        serde_json::to_writer(&mut file, correction).map_err(io::Error::from)?;
        io::Write::write_all(&mut file, b"\n")?;
    }
    io::Write::flush(&mut file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Doubt;
    use crate::testing::root_with;

    fn labels() -> LabelSet {
        let example = |label: &str| arable_core::Example {
            id: label.into(),
            group: None,
            input: arable_core::Input::Text("x".into()),
            target: arable_core::Target::Class(label.into()),
        };
        LabelSet::of(&["leak", "wear <1 mm>"].map(example))
    }

    fn suspect(id: &str, text: &str) -> Suspect {
        let reason = Doubt::Unlikely { p_given: 0.1, p_suggested: 0.8, mixed_up: 0.05 };
        Suspect { id: id.into(), given: "wear <1 mm>".into(), suggested: "leak".into(), reason, text: text.into() }
    }

    fn verdict(id: &str, label: &str, reviewer: &str, note: &str) -> Verdict {
        let [id, label, reviewer, note] = [id, label, reviewer, note].map(str::to_owned);
        Verdict { id, label, reviewer, date: None, note }
    }

    fn given() -> BTreeMap<String, String> {
        ["a", "b", "c", "d"].map(|id| (id.to_owned(), "wear <1 mm>".to_owned())).into()
    }

    #[test]
    fn a_table_comes_back_filled_in() {
        let root = root_with(&[]);
        let path = root.path().join("anna.csv");
        write_review_table(&path, &[suspect("a", "oil, \"hot\"\nand wet"), suspect("b", "=1+1")]).unwrap();
        assert_eq!(read_verdicts(&path, &labels()).unwrap(), []);
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.contains("\nb,'=1+1,"), "a text is no formula: {written}");
        let filled = written.replacen(",,,\n", ", leak ,it drips,2026-11-24\n", 1);
        fs::write(&path, filled).unwrap();
        let expected = Verdict { date: Some("2026-11-24".into()), ..verdict("a", "leak", "anna", "it drips") };
        assert_eq!(read_verdicts(&path, &labels()).unwrap(), [expected]);
        assert!(write_review_table(&path, &[]).is_err(), "a person's work is not written over");
    }

    #[test]
    fn label_studio_goes_out_and_comes_back() {
        let root = root_with(&[]);
        let path = root.path().join("tasks.json");
        write_label_studio(&path, &[suspect("a", "oil")], &labels()).unwrap();
        let view = fs::read_to_string(root.path().join("tasks.xml")).unwrap();
        assert!(view.contains("<Choice value=\"wear &lt;1 mm>\"/>"), "{view}");
        let mut tasks: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let choice = tasks[0]["predictions"][0]["result"][0].clone();
        tasks[0]["annotations"] = json!([
            { "completed_by": 3, "updated_at": "2026-11-24T10:00:00Z", "result": [choice] },
            { "completed_by": { "email": "ben@x.org" }, "was_cancelled": true, "result": [choice] },
            { "completed_by": { "email": "eve@x.org" }, "result": [choice, { "value": { "text": ["wet"] } }] },
            { "completed_by": 4, "result": [] },
        ]);
        fs::write(&path, tasks.to_string()).unwrap();
        let third = Verdict { date: Some("2026-11-24T10:00:00Z".into()), ..verdict("a", "leak", "reviewer-3", "") };
        assert_eq!(read_verdicts(&path, &labels()).unwrap(), [third, verdict("a", "leak", "eve@x.org", "wet")]);
    }

    #[test]
    fn files_that_cannot_be_used_are_refused_with_advice() {
        let root = root_with(&[
            ("typo.csv", "id,label\na,laek\n"),
            ("columns.csv", "id,lable\na,leak\n"),
            ("cut.json", "[{"),
            ("notes.txt", ""),
        ]);
        let refused = |name: &str| {
            let error = read_verdicts(&root.path().join(name), &labels()).unwrap_err();
            format!("{error}: {}", error.hint().unwrap_or_default())
        };
        assert!(refused("typo.csv").contains("did you mean `leak`"));
        assert!(refused("columns.csv").contains("columns `id` and `label`"));
        assert!(refused("cut.json").contains("Label Studio"));
        assert!(refused("notes.txt").contains(".csv"));
        let settled = |verdicts: &[Verdict]| settle(&given(), verdicts, &[], 1, "2026-11-24").unwrap_err().to_string();
        assert!(settled(&[verdict("z", "leak", "anna", "")]).contains("`z`, which anna judged"));
        assert!(settled(&[verdict("a", "leak", "anna", ""), verdict("a", "leak", "anna", "")]).contains("two labels"));
    }

    #[test]
    fn agreement_corrects_dispute_waits_and_adjudication_decides() {
        let verdicts = [
            verdict("a", "leak", "anna", ""),
            verdict("a", "leak", "ben", "it drips"),
            verdict("b", "leak", "anna", ""),
            verdict("b", "wear <1 mm>", "ben", ""),
            verdict("c", "wear <1 mm>", "anna", ""),
            verdict("c", "wear <1 mm>", "ben", ""),
            verdict("d", "leak", "anna", ""),
        ];
        let settled = settle(&given(), &verdicts, &[], 2, "2026-11-24").unwrap();
        let Settled { corrections, num_confirmed, num_open, disputed } = &settled;
        assert_eq!((corrections.len(), *num_confirmed, *num_open, disputed.len()), (1, 1, 1, 1));
        let Correction { id, from, to, by, date, why } = &corrections[0];
        assert_eq!([id, from, to, date, why], ["a", "wear <1 mm>", "leak", "2026-11-24", "it drips"]);
        assert_eq!(*by, ["anna", "ben"]);
        let root = root_with(&[]);
        let path = root.path().join("disputed.csv");
        write_disputed(&path, disputed, |id| format!("text of {id}")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("b,text of b,anna: leak; ben: wear <1 mm>,,,"));

        let carol = [verdict("b", "leak", "carol", "")];
        let settled = settle(&given(), &verdicts, &carol, 2, "2026-11-24").unwrap();
        assert_eq!((settled.corrections.len(), settled.disputed.len()), (2, 0));
        assert_eq!((&settled.corrections[1].by[0][..], &settled.corrections[1].why[..]), ("carol", "adjudicated"));
    }
}
