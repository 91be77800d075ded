//! Labelled examples: read, checked against each other, cut where a part has no file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arable_core::{Example, Hint, Input, LabelSet, Seed, Target};
use serde::{Deserialize, Serialize};

use crate::batches::Batches;
use crate::config::{Format, SplitBy, TaskConfig, TaskKind, UnseenLabels};
use crate::conll::{Sentences, Tagged, repair_tags};
use crate::corrections::correct;
use crate::dedup::digest_of_words;
use crate::files::{FileError, FoundFile, find_files, nearest, open, open_plain, reading_failed};
use crate::ids::UniqueIds;
use crate::read::{ReadError, check_rejects};
use crate::reject::{Reject, RejectReason};
use crate::rows::{FieldWatch, Fields, RowReader, Rows, name_of, names_of, text_of, words_of};
use crate::split::{Clusters, Keys, cut, cut_newest, keys_of_example, part_of};
use crate::split_check::{Place, SplitCheck};
use crate::times::day;

/// A task that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A setting that has no meaning for the kind of task or file.
    #[error("use the setting `{setting}` of the task `{task}`: {problem}")]
    Setting {
        /// The task.
        task: String,
        /// The setting.
        setting: &'static str,
        /// Why it cannot take effect.
        problem: &'static str,
    },
    /// A part that cannot be read.
    #[error("read the {part} examples of the task `{task}`")]
    Read {
        /// The task.
        task: String,
        /// `train`, `dev` or `test`.
        part: &'static str,
        /// Why.
        source: Box<ReadError>,
    },
    /// A part without a usable example.
    #[error("find an example in the {part} part of the task `{task}`")]
    NoExamples {
        /// The task.
        task: String,
        /// `train`, `dev` or `test`.
        part: &'static str,
    },
    /// Training examples that all have the same label.
    #[error("find two labels in the training examples of the task `{task}`: all have {labels:?}")]
    OneLabel {
        /// The task.
        task: String,
        /// What labels there are.
        labels: Vec<String>,
    },
    /// A correction that cannot be applied.
    #[error("apply the correction of example `{id}` ({file}:{line}) to the task `{task}`: {problem}")]
    Correction {
        /// The task.
        task: String,
        /// The file of corrections.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// The example.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// Corrected tags that are not IOB2.
    #[error("use the corrected tags of example `{id}` in the task `{task}`: not all are IOB2 tags")]
    CorrectedTag {
        /// The task.
        task: String,
        /// The example.
        id: String,
    },
    /// Examples that cannot be cut apart by time.
    #[error(
        "cut the newest examples from the task `{task}`: none of {num_examples} has a time that begins with a year"
    )]
    NoTime {
        /// The task.
        task: String,
        /// Training examples.
        num_examples: usize,
    },
    /// Examples that belong together are in two of the parts that were cut.
    #[error("keep apart the parts of the task `{task}`: {num_crossings} texts, groups or times are in two of them")]
    Crossing {
        /// The task.
        task: String,
        /// How many there are.
        num_crossings: usize,
    },
    /// A label that training never saw.
    #[error("use the {unseen} of the task `{task}`: no training example has it")]
    UnseenLabel {
        /// The task.
        task: String,
        /// The first such label.
        unseen: Box<UnseenLabel>,
    },
}

/// A label that training never saw, where it first occurs.
#[derive(Clone, Debug, thiserror::Error)]
#[error("label `{label}` ({file}:{line}, {part})")]
pub struct UnseenLabel {
    /// `dev` or `test`.
    pub part: &'static str,
    /// The label.
    pub label: String,
    /// The file of the first example that has it.
    pub file: String,
    /// Its line, counted from 1.
    pub line: u64,
    /// How many examples of the part have labels that training never saw.
    pub num_examples: usize,
    /// The most similar label of training.
    pub nearest: Option<String>,
}

impl TaskError {
    /// Whether the program is at fault, and not what was given to it.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Crossing { .. })
    }
}

impl Hint for TaskError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Setting { setting, .. } => format!("take `{setting}` out of the task"),
            Self::Read { source, .. } => return source.hint(),
            Self::NoExamples { part, .. } => {
                format!("add training examples, give `{part}` a file, or raise the part's share under `split`")
            }
            Self::OneLabel { .. } => "add examples of other labels, or set `label` to another field".to_owned(),
            Self::CorrectedTag { .. } => "write `O`, `B-Type` or `I-Type`".to_owned(),
            Self::NoTime { .. } => {
                "set `time` to the field that says when an example was written, or take `by` out of `split`".to_owned()
            }
            Self::Crossing { .. } => "this is a fault of the program: report it with your configuration".to_owned(),
            Self::Correction { .. } => {
                "corrections belong to the labels that they were made from; take the file out of `corrections` or make \
                 it again with `arable labels`"
                    .to_owned()
            }
            Self::UnseenLabel { unseen, .. } => {
                let nearest = unseen.nearest.as_ref().map(|known| format!(" (training has `{known}`)"));
                format!(
                    "correct the label{}, add training examples of it, or set `unseen_labels = \"drop\"` to leave out \
                     the {} examples with such labels",
                    nearest.unwrap_or_default(),
                    unseen.num_examples
                )
            }
        })
    }
}

/// Labelled examples in three parts. It is kept as JSON, without what was found wrong while reading.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// The task's name.
    pub name: String,
    /// What it asks for.
    pub kind: TaskKind,
    /// The labels of the training examples; for tagging the tags, `O` among them.
    pub labels: LabelSet,
    /// Examples to train on, by file and line, as those of the other parts.
    pub train: Vec<Example>,
    /// Examples to choose settings on.
    pub dev: Vec<Example>,
    /// Examples to measure on.
    pub test: Vec<Example>,
    /// What a look at the parts found: those that were cut have nothing in common, those that were given may have.
    #[serde(default)]
    pub split: SplitCheck,
    /// Records that could not be used.
    #[serde(skip)]
    pub rejects: Vec<Reject>,
    /// Tags `I-x` that continued nothing and were taken as `B-x`.
    #[serde(skip)]
    pub num_repaired_tags: usize,
    /// Test examples of which a training example has the same words: more than a few make scores look too good.
    #[serde(skip)]
    pub num_test_in_train: usize,
    /// Labels that the files of corrections replaced.
    #[serde(skip)]
    pub num_corrected: usize,
}

/// Reads a task (paths relative to `root`). Parts without a file are cut from the training examples so that equal
/// texts and groups stay together and no label is lost to training.
///
/// # Errors
/// When a part cannot be read, is empty or has labels that training never saw, when training has one label only, or
/// when a setting cannot take effect.
pub fn read_task(name: &str, config: &TaskConfig, root: &Path, seed: Seed) -> Result<Task, TaskError> {
    check_settings(name, config)?;
    let mut reading = Reading { name, config, root, ids: UniqueIds::default(), rejects: Vec::new(), num_repaired: 0 };
    let train = reading.part("train", &config.train)?;
    let dev = config.dev.as_ref().map(|path| reading.part("dev", path)).transpose()?;
    let test = config.test.as_ref().map(|path| reading.part("test", path)).transpose()?;
    let Reading { mut rejects, num_repaired, .. } = reading;

    let mut parts = cut_missing(name, config, train, dev, test, seed)?;
    let split = check(&parts, config.split.by == SplitBy::Time);
    let num_corrected = correct(name, config, root, &mut parts)?;
    let [train, dev, test] = parts;
    let labels = LabelSet::of(train.iter().map(|found| &found.example));
    if labels.len() < if config.kind == TaskKind::Multilabel { 1 } else { 2 } {
        return Err(TaskError::OneLabel { task: name.to_owned(), labels: labels.names().to_vec() });
    }
    let dev = drop_unseen(name, config, "dev", &labels, dev, &mut rejects)?;
    let test = drop_unseen(name, config, "test", &labels, test, &mut rejects)?;
    for (part, examples) in [("train", &train), ("dev", &dev), ("test", &test)] {
        if examples.is_empty() {
            return Err(TaskError::NoExamples { task: name.to_owned(), part });
        }
    }
    let bare = |part: Vec<Found>| part.into_iter().map(|found| found.example).collect::<Vec<Example>>();
    let (train, dev, test) = (bare(train), bare(dev), bare(test));
    let num_test_in_train = num_in(&test, &train);
    let name = name.to_owned();
    Ok(Task {
        name,
        kind: config.kind,
        labels,
        train,
        dev,
        test,
        split,
        rejects,
        num_repaired_tags: num_repaired,
        num_test_in_train,
        num_corrected,
    })
}

fn check_settings(task: &str, config: &TaskConfig) -> Result<(), TaskError> {
    let wrong = |setting, problem| Err(TaskError::Setting { task: task.to_owned(), setting, problem });
    let tagging = config.kind == TaskKind::Tagging;
    if tagging && config.text_pair.is_some() {
        return wrong("text_pair", "tagging takes one list of words");
    }
    if tagging && !config.markers.is_empty() {
        return wrong("markers", "tagging takes words as they are");
    }
    if config.kind == TaskKind::Multilabel && !config.corrections.is_empty() {
        return wrong("corrections", "single labels and tags are corrected, not sets of labels");
    }
    if config.markers.iter().any(|marker| marker.trim().is_empty()) {
        return wrong("markers", "one of them is empty");
    }
    let by_time = config.split.by == SplitBy::Time;
    if by_time && config.dev.is_some() && config.test.is_some() {
        return wrong("split.by", "both `dev` and `test` have a file");
    }
    if config.time.is_some() && !by_time {
        return wrong("time", "parts are cut by time only where `split` says `by = \"time\"`");
    }
    Ok(())
}

fn num_in(examples: &[Example], others: &[Example]) -> usize {
    let known: BTreeSet<_> = others.iter().map(|example| digest_of_words(&example.input.text())).collect();
    examples.iter().filter(|example| known.contains(&digest_of_words(&example.input.text()))).count()
}

/// An example and where it was found.
pub(crate) struct Found {
    pub(crate) example: Example,
    time: Option<String>,
    file: String,
    line: u64,
}

/// How a file's records are laid out.
enum Layout {
    Rows(Format),
    Sentences,
}

const ROW_EXTENSIONS: [&str; 6] = ["jsonl", "ndjson", "csv", "tsv", "tab", "parquet"];
const TAGGING_EXTENSIONS: [&str; 9] = ["jsonl", "ndjson", "parquet", "conll", "iob", "iob2", "bio", "tsv", "txt"];

impl Layout {
    fn extensions(kind: TaskKind) -> &'static [&'static str] {
        if kind == TaskKind::Tagging { &TAGGING_EXTENSIONS } else { &ROW_EXTENSIONS }
    }

    /// The layout that a file name tells. A `.tsv` of a tagging task is a word and a tag per line, as is the custom.
    fn of(kind: TaskKind, file: &FoundFile) -> Result<Self, FileError> {
        let extensions = Self::extensions(kind);
        let extension = crate::config::extension(&file.shown).unwrap_or_default();
        match (kind, Format::of_name(&file.shown)) {
            _ if !extensions.contains(&extension.as_str()) => {
                Err(FileError::UnknownFormat { path: file.path.clone(), extensions: extensions.to_vec() })
            }
            (_, Some(format @ (Format::Jsonl | Format::Parquet))) => Ok(Self::Rows(format)),
            (TaskKind::Classification | TaskKind::Multilabel, Some(format)) => Ok(Self::Rows(format)),
            _ => Ok(Self::Sentences),
        }
    }
}

/// The records of a file with fields.
fn open_rows(file: &FoundFile, format: Format) -> Result<Box<dyn RowReader>, FileError> {
    Ok(match (format, open_plain(&file.path)?) {
        (Format::Parquet, Some(content)) => Box::new(Batches::of_file(content, file, format)?),
        (Format::Parquet, None) => {
            let mut bytes = Vec::new();
            open(&file.path)?.read_to_end(&mut bytes).map_err(|error| reading_failed(&file.path, error))?;
            Box::new(Batches::of_bytes(bytes, file, format)?)
        }
        _ => Box::new(Rows::of(open(&file.path)?, file, format)?),
    })
}

struct Reading<'a> {
    name: &'a str,
    config: &'a TaskConfig,
    root: &'a Path,
    ids: UniqueIds,
    rejects: Vec<Reject>,
    num_repaired: usize,
}

/// An example without its name and place.
struct Unnamed {
    id: Option<String>,
    group: Option<String>,
    time: Option<String>,
    input: Input,
    target: Target,
}

impl Reading<'_> {
    fn part(&mut self, part: &'static str, path: &str) -> Result<Vec<Found>, TaskError> {
        let name = self.name;
        self.read(path).map_err(|source| TaskError::Read { task: name.to_owned(), part, source: Box::new(source) })
    }

    fn read(&mut self, path: &str) -> Result<Vec<Found>, ReadError> {
        let num_rejects_before = self.rejects.len();
        let mut found = Vec::new();
        for file in find_files(path, self.root, Layout::extensions(self.config.kind))? {
            match Layout::of(self.config.kind, &file)? {
                Layout::Rows(format) => self.read_rows(&file, format, &mut found)?,
                Layout::Sentences => self.read_sentences(&file, &mut found)?,
            }
        }
        let rejects = &self.rejects[num_rejects_before..];
        let num_records = found.len() + rejects.len();
        if num_records == 0 {
            return Err(ReadError::Empty { name: self.name.to_owned(), path: path.to_owned() });
        }
        check_rejects(self.name, rejects, num_records, self.config.max_reject_rate)?;
        Ok(found)
    }

    fn read_rows(&mut self, file: &FoundFile, format: Format, found: &mut Vec<Found>) -> Result<(), ReadError> {
        let config = self.config;
        let named =
            [("text_pair", &config.text_pair), ("id", &config.id), ("group", &config.group), ("time", &config.time)];
        let named = named.into_iter().filter_map(|(setting, field)| Some((setting, field.clone()?)));
        let needed = [("text", config.text.clone()), ("label", config.label_field().to_owned())];
        let mut watch = FieldWatch::new(needed.into_iter().chain(named));
        let mut rows = open_rows(file, format)?;
        while let Some(row) = rows.next_row()? {
            if let Ok(fields) = &row.fields {
                watch.see(fields, self.name)?;
            }
            let example = row.fields.and_then(|fields| self.row_example(&fields));
            self.keep(file, row.line, example, found);
        }
        watch.finish(self.name)
    }

    fn read_sentences(&mut self, file: &FoundFile, found: &mut Vec<Found>) -> Result<(), ReadError> {
        let mut sentences = Sentences::open(file)?;
        while let Some(sentence) = sentences.next_sentence()? {
            let group = sentence.document.map(|document| format!("{}:{document}", file.shown));
            let example = sentence.tagged.and_then(|tagged| self.tagged_example(None, group, None, tagged));
            self.keep(file, sentence.line, example, found);
        }
        Ok(())
    }

    fn keep(&mut self, file: &FoundFile, line: u64, example: Result<Unnamed, RejectReason>, found: &mut Vec<Found>) {
        let shown = file.shown.clone();
        match example {
            Err(reason) => self.rejects.push(Reject { source: self.name.to_owned(), file: shown, line, reason }),
            Ok(Unnamed { id, group, time, input, target }) => {
                let id = self.ids.take(id.unwrap_or_else(|| format!("{}#{line}", file.name)));
                found.push(Found { example: Example { id, group, input, target }, time, file: shown, line });
            }
        }
    }

    fn row_example(&mut self, fields: &Fields) -> Result<Unnamed, RejectReason> {
        let config = self.config;
        let id = name_of(fields, config.id.as_deref().unwrap_or("id"))?;
        let group = name_of(fields, config.group.as_deref().unwrap_or("group"))?;
        let time = name_of(fields, config.time.as_deref().unwrap_or("time"))?;
        let label = config.label_field();
        if config.kind == TaskKind::Tagging {
            let tagged = Tagged { words: words_of(fields, &config.text)?, tags: words_of(fields, label)? };
            return self.tagged_example(id, group, time, tagged);
        }
        let input = row_input(config, fields)?;
        let target = match config.kind {
            TaskKind::Multilabel => Target::Classes(unique(names_of(fields, label)?)),
            _ => Target::Class(
                name_of(fields, label)?.ok_or_else(|| RejectReason::MissingField { field: label.to_owned() })?,
            ),
        };
        Ok(Unnamed { id, group, time, input, target })
    }

    fn tagged_example(
        &mut self,
        id: Option<String>,
        group: Option<String>,
        time: Option<String>,
        tagged: Tagged,
    ) -> Result<Unnamed, RejectReason> {
        let Tagged { words, mut tags } = tagged;
        if words.len() != tags.len() {
            return Err(RejectReason::UnequalLengths { num_words: words.len(), num_tags: tags.len() });
        }
        self.num_repaired += repair_tags(&mut tags)?;
        Ok(Unnamed { id, group, time, input: Input::Words(words), target: Target::Tags(tags) })
    }
}

fn row_input(config: &TaskConfig, fields: &Fields) -> Result<Input, RejectReason> {
    let text = text_of(fields, &config.text)?;
    let input = match &config.text_pair {
        None => Input::Text(text),
        Some(pair) => Input::Pair(text, text_of(fields, pair)?),
    };
    let has = |marker: &str| match &input {
        Input::Text(text) => text.contains(marker),
        Input::Pair(first, second) => first.contains(marker) || second.contains(marker),
        Input::Words(_) => false,
    };
    match config.markers.iter().find(|marker| !has(marker)) {
        Some(marker) => Err(RejectReason::MissingMarker { marker: marker.clone() }),
        None => Ok(input),
    }
}

fn unique(labels: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    labels.into_iter().filter(|label| seen.insert(label.clone())).collect()
}

/// Cuts the parts that have no file from the training examples, and proves that they have nothing in common. By time, the
/// newest examples are the test part, whatever their labels are.
fn cut_missing(
    name: &str,
    config: &TaskConfig,
    train: Vec<Found>,
    dev: Option<Vec<Found>>,
    test: Option<Vec<Found>>,
    seed: Seed,
) -> Result<[Vec<Found>; 3], TaskError> {
    let by_time = config.split.by == SplitBy::Time;
    let days: Vec<Option<&str>> = train.iter().map(|found| found.time.as_deref().and_then(day)).collect();
    if by_time && days.iter().all(Option::is_none) {
        return Err(TaskError::NoTime { task: name.to_owned(), num_examples: train.len() });
    }
    let clusters = Clusters::of(&keys_of(&train));
    let mut left = clusters.all();
    let mut labels = LabelCounts::new(&train);
    let mut parts = vec![0_usize; train.len()];
    for (part, is_cut, share) in [(2, test.is_none(), config.split.test), (1, dev.is_none(), config.split.dev)] {
        if is_cut {
            let (num, stream) = (part_of(train.len(), share), seed.stream(&format!("split {name} {part}")));
            let (taken, rest) = if by_time {
                cut_newest(&clusters, left, |i| days[i], num, stream)
            } else {
                cut(&clusters, left, num, stream, |cluster| labels.take(&train, clusters.items(cluster)))
            };
            taken.iter().flat_map(|cluster| clusters.items(*cluster)).for_each(|i| parts[i] = part);
            left = rest;
        }
    }
    let mut out = [const { Vec::new() }; 3];
    train.into_iter().zip(parts).for_each(|(found, part)| out[part].push(found));
    let SplitCheck { num_crossings, .. } = check(&out, by_time);
    if num_crossings > 0 {
        return Err(TaskError::Crossing { task: name.to_owned(), num_crossings });
    }
    for (part, given) in [(1, dev), (2, test)] {
        given.into_iter().for_each(|given| out[part] = given);
    }
    Ok(out)
}

fn keys_of(found: &[Found]) -> Vec<Keys> {
    found.iter().map(|found| keys_of_example(&found.example)).collect()
}

/// Looks at the parts of a task; at times, where they were cut by time.
fn check(parts: &[Vec<Found>; 3], by_time: bool) -> SplitCheck {
    let keys: Vec<Keys> = parts.iter().flat_map(|own| keys_of(own)).collect();
    let mut places = Vec::with_capacity(keys.len());
    for (part, own) in parts.iter().enumerate() {
        places.extend(
            own.iter().map(|found| Place { day: found.time.as_deref().filter(|_| by_time).and_then(day), part }),
        );
    }
    SplitCheck::of(&["train", "dev", "test"], &keys, |item| places[item], std::iter::empty())
}

/// How many training examples are left of each label.
struct LabelCounts(BTreeMap<String, usize>);

impl LabelCounts {
    fn new(train: &[Found]) -> Self {
        let mut counts = BTreeMap::new();
        for label in train.iter().flat_map(|found| found.example.target.labels()) {
            *counts.entry(label.clone()).or_default() += 1;
        }
        Self(counts)
    }

    /// Takes a cluster's labels away, unless that would leave training without one of them.
    fn take(&mut self, train: &[Found], cluster: impl Iterator<Item = usize>) -> bool {
        let mut taken: BTreeMap<&String, usize> = BTreeMap::new();
        for label in cluster.flat_map(|i| train[i].example.target.labels()) {
            *taken.entry(label).or_default() += 1;
        }
        if taken.iter().any(|(label, count)| self.0.get(*label) <= Some(count)) {
            return false;
        }
        for (label, count) in taken {
            self.0.entry(label.clone()).and_modify(|left| *left -= count);
        }
        true
    }
}

fn drop_unseen(
    task: &str,
    config: &TaskConfig,
    part: &'static str,
    known: &LabelSet,
    examples: Vec<Found>,
    rejects: &mut Vec<Reject>,
) -> Result<Vec<Found>, TaskError> {
    let unseen =
        |found: &Found| found.example.target.labels().iter().find(|label| known.index(label).is_none()).cloned();
    let num_examples = examples.iter().filter(|found| unseen(found).is_some()).count();
    let mut kept = Vec::with_capacity(examples.len());
    for found in examples {
        let Some(label) = unseen(&found) else {
            kept.push(found);
            continue;
        };
        let Found { file, line, .. } = found;
        let task = task.to_owned();
        if config.unseen_labels == UnseenLabels::Error {
            let nearest = nearest(&label, known.names());
            let unseen = Box::new(UnseenLabel { part, label, file, line, num_examples, nearest });
            return Err(TaskError::UnseenLabel { task, unseen });
        }
        rejects.push(Reject { source: task, file, line, reason: RejectReason::UnseenLabel { label } });
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use arable_core::Fraction;

    use super::*;
    use crate::config::SplitConfig;
    use crate::testing::root_with;

    fn read(files: &[(&str, &str)], config: &TaskConfig) -> Result<Task, TaskError> {
        read_task("t", config, root_with(files).path(), Seed(1))
    }

    fn three_files(kind: TaskKind, extension: &str) -> TaskConfig {
        let mut config = TaskConfig::new(kind, &format!("train.{extension}"));
        config.dev = Some(format!("dev.{extension}"));
        config.test = Some(format!("test.{extension}"));
        config
    }

    #[test]
    fn classification_with_numbers_pairs_and_markers() {
        let mut config = three_files(TaskKind::Classification, "jsonl");
        config.text_pair = Some("question".into());
        config.markers = vec!["<<".into()];
        config.max_reject_rate = arable_core::Probability::new(0.5).unwrap();
        let row =
            |label: &str| format!("{{\"id\": 1, \"text\": \"<< a >>\", \"question\": \"b\", \"label\": {label}}}\n");
        let train = row("1") + &row("true") + "{\"text\": \"a\", \"question\": \"b\", \"label\": 1}\n";
        let task =
            read(&[("train.jsonl", &train), ("dev.jsonl", &row("1")), ("test.jsonl", &row("\"1\""))], &config).unwrap();
        assert_eq!(task.labels.names(), ["1", "true"]);
        assert_eq!(task.train[0].input, Input::Pair("<< a >>".into(), "b".into()));
        let ids: Vec<_> = [&task.train, &task.dev, &task.test].into_iter().flatten().map(|e| e.id.as_str()).collect();
        assert_eq!(ids, ["1", "1~2", "1~3", "1~4"]);
        assert_eq!(task.rejects[0].reason, RejectReason::MissingMarker { marker: "<<".into() });
        assert_eq!(task.num_test_in_train, 1);
    }

    #[test]
    fn multilabel_from_lists_and_tables() {
        let config = three_files(TaskKind::Multilabel, "csv");
        let csv = "text,labels\na,x; y;x\nb,\n";
        let task = read(&[("train.csv", csv), ("dev.csv", csv), ("test.csv", csv)], &config).unwrap();
        assert_eq!(task.train[0].target, Target::Classes(vec!["x".into(), "y".into()]));
        assert_eq!(task.train[1].target, Target::Classes(vec![]));
        let config = three_files(TaskKind::Multilabel, "jsonl");
        let json = "{\"text\": \"a\", \"labels\": [\"p > q\", \"r\"]}\n{\"text\": \"b\", \"labels\": []}\n";
        let task = read(&[("train.jsonl", json), ("dev.jsonl", json), ("test.jsonl", json)], &config).unwrap();
        assert_eq!(task.labels.names(), ["p > q", "r"]);
    }

    #[test]
    fn tagging_from_columns_and_lists() {
        let config = three_files(TaskKind::Tagging, "conll");
        let conll = "a\tI-x\nb\tI-x\n\nc\tO\n";
        let task = read(&[("train.conll", conll), ("dev.conll", conll), ("test.conll", conll)], &config).unwrap();
        assert_eq!((task.labels.names(), task.num_repaired_tags), (&["B-x", "I-x", "O"].map(String::from)[..], 3));
        let mut config = three_files(TaskKind::Tagging, "jsonl");
        config.text = "tokens".into();
        let json = "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"B-x\", \"O\"]}\n";
        let task = read(&[("train.jsonl", json), ("dev.jsonl", json), ("test.jsonl", json)], &config).unwrap();
        assert_eq!(task.train[0].input.text(), "a b");
    }

    #[test]
    fn unseen_labels_are_named_or_dropped() {
        let files = [
            ("train.csv", "text,label\na,pos\nb,neg\n"),
            ("dev.csv", "text,label\na,pos\n"),
            ("test.csv", "text,label\na,pos\n\nb,postive\nc,other\n"),
        ];
        let mut config = three_files(TaskKind::Classification, "csv");
        let error = read(&files, &config).unwrap_err();
        assert_eq!(
            error.to_string(),
            "use the label `postive` (test.csv:4, test) of the task `t`: no training example has it"
        );
        let hint = error.hint().unwrap();
        assert!(hint.contains("training has `pos`") && hint.contains("the 2 examples"), "{hint}");
        config.unseen_labels = UnseenLabels::Drop;
        let task = read(&files, &config).unwrap();
        assert_eq!((task.test.len(), task.rejects.len()), (1, 2));
    }

    #[test]
    fn missing_parts_are_cut_without_crossing() {
        let rows = (0..200).map(|i| format!("text {},{},g{}\n", i % 150, i % 7, i % 40));
        let train = "text,label,page\n".to_owned() + &rows.collect::<String>() + "rare,once,g100\n";
        let mut config = TaskConfig::new(TaskKind::Classification, "train.csv");
        config.group = Some("page".into());
        config.split.dev = Fraction::new(0.2).unwrap();
        let task = read(&[("train.csv", &train)], &config).unwrap();
        let parts = [&task.train, &task.dev, &task.test];
        assert_eq!(parts.map(|part| part.len()).iter().sum::<usize>(), 201);
        assert!(task.dev.len() >= 20 && task.test.len() >= 20, "{:?}", parts.map(|part| part.len()));
        let keys = |part: &[Example]| -> BTreeSet<String> {
            part.iter().flat_map(|e| [e.group.clone().unwrap(), e.input.text()]).collect()
        };
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            assert!(keys(parts[a]).is_disjoint(&keys(parts[b])));
        }
        assert!(task.labels.index("once").is_some());
        assert_eq!(task.num_test_in_train, 0);
        let lines: Vec<&str> = train.lines().collect();
        let shuffled = [&lines[..1], &lines[100..], &lines[1..100]].concat().join("\n");
        let again = read(&[("train.csv", &shuffled)], &config).unwrap();
        assert_eq!(keys(&again.test), keys(&task.test));
    }

    #[test]
    fn the_newest_examples_are_the_test() {
        // Two a month in ten years; the page of the first month has one of the last, too.
        let row = |i: usize| {
            let page = if i == 239 { 0 } else { i / 2 };
            format!("text {i},{},{}-{:02}-11,p{page}\n", i % 2, 2000 + i / 24, i / 2 % 12 + 1)
        };
        let train = "text,label,when,page\n".to_owned() + &(0..240).map(row).collect::<String>() + "undated,0,,p0\n";
        let mut config = TaskConfig::new(TaskKind::Classification, "train.csv");
        (config.time, config.group) = (Some("when".into()), Some("page".into()));
        config.split.by = SplitBy::Time;
        let task = read(&[("train.csv", &train)], &config).unwrap();
        let texts = |part: &[Example]| part.iter().map(|example| example.input.text()).collect::<BTreeSet<_>>();
        assert_eq!([&task.train, &task.dev, &task.test].map(|part| part.len()), [168, 24, 49]);
        let moved = ["text 0", "text 1", "undated", "text 239", "text 238", "text 200"].map(str::to_owned);
        assert!(moved.iter().all(|text| texts(&task.test).contains(text)), "{:?}", texts(&task.test));
        assert!(texts(&task.dev).contains("text 192") && texts(&task.train).contains("text 150"));
        assert_eq!((task.split.num_crossings, task.split.num_untimed, task.split.num_groups), (0, 1, 120));
        let borders: Vec<_> = task.split.borders.iter().map(|own| (own.part.as_str(), &own.from[..7])).collect();
        assert_eq!(borders, [("dev", "2007-02"), ("test", "2008-02")]);
        assert_eq!(task.split.borders[1].num_moved, 2);

        config.time = Some("page".into());
        let error = read(&[("train.csv", &train)], &config).unwrap_err();
        assert!(error.to_string().contains("none of 241 has a time") && error.hint().is_some(), "{error}");
    }

    #[test]
    fn parts_that_are_given_may_cross_and_it_is_said() {
        let config = three_files(TaskKind::Classification, "csv");
        let (train, other) = ("text,label,group\na,x,1\nb,y,2\n", "text,label,group\nc,x,2\nA!,y,3\n");
        let task =
            read(&[("train.csv", train), ("dev.csv", other), ("test.csv", "text,label\nd,x\n")], &config).unwrap();
        assert_eq!((task.split.num_crossings, task.num_test_in_train), (2, 0));
        let error = TaskError::Crossing { task: "t".into(), num_crossings: 2 };
        assert!(error.hint().unwrap().contains("report it"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_task_has_a_hint() {
        let good = "text,label\na,x\nb,y\n";
        let check = |train: &str, config: &TaskConfig, expected: &str| {
            let error = read(&[("train.csv", train), ("dev.csv", good), ("test.csv", good)], config).unwrap_err();
            let mut message = error.to_string();
            if let TaskError::Read { source, .. } = &error {
                message = format!("{message}: {source}");
            }
            assert!(message.contains(expected), "{message}");
            assert!(error.hint().is_some(), "{message}");
        };
        let config = three_files(TaskKind::Classification, "csv");
        check("", &config, "`train.csv` is empty");
        check("text,class\na,x\n", &config, "find the field `label`");
        check("text,label\na,x\nb,x\n", &config, "find two labels");
        check("text,label\na,x\nb\n", &config, "1 of 2 records cannot be used");
        check(good, &TaskConfig { test: Some("tset.csv".into()), ..config.clone() }, "tset.csv");
        check(good, &TaskConfig { markers: vec![" ".into()], ..config.clone() }, "setting `markers`");
        check(good, &TaskConfig { time: Some("label".into()), ..config.clone() }, "setting `time`");
        let by_time = SplitConfig { by: SplitBy::Time, ..SplitConfig::default() };
        check(good, &TaskConfig { split: by_time, ..config.clone() }, "setting `split.by`");
        check(good, &TaskConfig { kind: TaskKind::Tagging, ..config.clone() }, "tell the format");
        check("text,label\na,x\nb,y\n", &TaskConfig { dev: None, ..config.clone() }, "in the dev part");
    }
}
