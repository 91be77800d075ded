//! Labels under review: doubtful ones found, put before people, and replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use arable_core::{Example, Hint, Input, Seed, Target};
use arable_corpus::{
    LabelNoise, Settled, Suspect, Task, TaskKind, Verdict, folds, label_noise, read_task, read_verdicts, settle,
    word_id, write_corrections, write_disputed, write_label_studio, write_review_table,
};
use arable_eval::{
    Agreement, BaselineConfig, HeadlineMetric, Interval, Predictions, Ratings, fit_baseline, fit_temperature,
};
use fs_err as fs;
use serde::Serialize;

use crate::advice::Advise;
use crate::domain::Domain;

/// Parts in which predictions are made, each by a model trained on the others.
const NUM_FOLDS: usize = 5;
const NUM_RESAMPLES: usize = 1000;

/// A task whose labels cannot be reviewed.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// No task of that name.
    #[error("find a task called `{name}`")]
    UnknownTask {
        /// The name.
        name: String,
        /// The tasks there are.
        known: Vec<String>,
    },
    /// A task with sets of labels.
    #[error("review the labels of `{name}`, a task of kind {kind}")]
    Kind {
        /// The task.
        name: String,
        /// Its kind.
        kind: &'static str,
    },
}

impl Hint for LabelsError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownTask { known, .. } if known.is_empty() => "the configuration has no [task]".to_owned(),
            Self::UnknownTask { known, .. } => format!("there are: {}", known.join(", ")),
            Self::Kind { .. } => "so far, tasks with one label for each example or word can be reviewed".to_owned(),
        })
    }
}

/// Doubtful labels of a task and the files for people to fill in.
#[derive(Debug, Serialize)]
pub struct Suspects {
    /// Labels of training examples; in a tagging task, of their words.
    pub num_labels: usize,
    /// The estimated share of wrong labels.
    pub noise_rate: f64,
    /// The share of labels that the linear model predicts without having seen the example.
    pub accuracy: f64,
    /// Doubtful examples in all.
    pub num_suspects: usize,
    /// The most doubtful ones, the worst first.
    pub suspects: Vec<Suspect>,
    /// Files written.
    pub files: Vec<PathBuf>,
}

/// What came of a review.
#[derive(Debug, Serialize)]
pub struct Reviewed {
    /// How far the reviewers agree.
    pub agreement: Vec<Agreed>,
    /// Labels replaced.
    pub num_corrected: usize,
    /// Labels that stay.
    pub num_confirmed: usize,
    /// Examples that too few people have judged.
    pub num_open: usize,
    /// Examples that somebody has to decide.
    pub num_disputed: usize,
    /// Files written.
    pub files: Vec<PathBuf>,
}

/// A measure of agreement with its interval.
#[derive(Debug, Serialize)]
pub struct Agreed {
    /// What is measured.
    pub measure: &'static str,
    /// Whose answers.
    pub reviewers: Vec<String>,
    /// The value; `None` where it is not defined.
    pub value: Option<Interval>,
}

/// The training labels of a task that do not fit out-of-fold predictions of the linear model, at most `most` of them;
/// with a table for each of `reviewers`, and tasks for Label Studio, in `folder`.
///
/// # Errors
/// When the task cannot be read, has no single labels, or the files exist.
pub fn suspects(domain: &Domain, name: &str, most: usize, reviewers: &[String], folder: &Path) -> Result<Suspects> {
    let task = load(domain, name)?;
    let config = domain.config();
    let noise = find(&task, &config.adapt.baseline, config.seed.child(name))?;
    let (noise_rate, accuracy, num_suspects) = (noise.rate(), noise.accuracy, noise.suspects.len());
    let shown: Vec<Suspect> = noise.suspects.into_iter().take(most).collect();
    let mut files = Vec::new();
    if !reviewers.is_empty() {
        fs::create_dir_all(folder)?;
        for reviewer in reviewers {
            let path = folder.join(format!("{reviewer}.csv"));
            write_review_table(&path, &shown).advise()?;
            files.push(path);
        }
        let path = folder.join("label-studio.json");
        write_label_studio(&path, &shown, &task.labels).advise()?;
        files.extend([path.clone(), path.with_extension("xml")]);
    }
    let num_labels = task.train.iter().map(|example| example.target.labels().len()).sum();
    Ok(Suspects { num_labels, noise_rate, accuracy, num_suspects, suspects: shown, files })
}

/// Doubtful training labels by cross-validation with the linear model, whose temperature is fitted on the development
/// set. In a tagging task each word is an example.
///
/// # Errors
/// When the linear model cannot be trained.
///
/// # Panics
/// When the task has sets of labels.
pub fn find(task: &Task, config: &BaselineConfig, seed: Seed) -> Result<LabelNoise> {
    let folds = folds(&task.train, NUM_FOLDS, seed);
    let (mut judged, mut probabilities) = (Vec::new(), Vec::new());
    for fold in 0..NUM_FOLDS {
        let part = |held: bool| -> Vec<Example> {
            let chosen = task.train.iter().zip(&folds).filter(|(_, its)| (**its == fold) == held);
            chosen.map(|(example, _)| example.clone()).collect()
        };
        let held = part(true);
        if held.is_empty() {
            continue;
        }
        let metric = if task.kind == TaskKind::Tagging { HeadlineMetric::EntityF1 } else { HeadlineMetric::Accuracy };
        let run = fit_baseline(&part(false), &task.dev, &held, &task.labels, metric, config).advise()?;
        match run.test.scaled(fit_temperature(&run.dev)) {
            Predictions::Class(class) => probabilities.extend(class.probabilities()),
            Predictions::Tagging(tagging) => probabilities.extend(tagging.probabilities()),
            Predictions::Multilabel(_) => panic!("sets of labels are not judged"),
        }
        judged.extend(held.iter().flat_map(single_labels));
    }
    Ok(label_noise(&judged, &task.labels, &probabilities))
}

/// The example itself, or each of its words with its tag, set off in its sentence.
fn single_labels(example: &Example) -> Vec<Example> {
    let (Target::Tags(tags), Input::Words(words)) = (&example.target, &example.input) else {
        return vec![example.clone()];
    };
    let word = |(idx, tag): (usize, &String)| {
        let [before, after] = [&words[..idx], &words[idx + 1..]].map(|words| words.join(" "));
        Example {
            id: word_id(&example.id, idx),
            group: None,
            input: Input::Text(format!("{before} >>> {} <<< {after}", words[idx])),
            target: Target::Class(tag.clone()),
        }
    };
    tags.iter().enumerate().map(word).collect()
}

/// Puts together what people said in `files` about the labels of a task: how far they agree, and, where `to` is given, the
/// corrections they agree on, with what they dispute beside it.
///
/// # Errors
/// When the task or a file cannot be read, does not fit the task, or an output exists.
pub fn review(
    domain: &Domain,
    name: &str,
    files: &[PathBuf],
    adjudicated: Option<&Path>,
    to: Option<&Path>,
    date: Option<&str>,
) -> Result<Reviewed> {
    let task = load(domain, name)?;
    let read = |path: &Path| read_verdicts(path, &task.labels).advise();
    let verdicts: Vec<Verdict> = files.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?.concat();
    let adjudicated = adjudicated.map(read).transpose()?.unwrap_or_default();
    let judged: Vec<Example> = parts(&task).flat_map(single_labels).collect();
    let texts: BTreeMap<&str, String> = judged.iter().map(|one| (one.id.as_str(), one.input.text())).collect();
    let given = judged.iter().map(|one| (one.id.clone(), one.target.labels().concat())).collect();
    let reviewers: Vec<&str> =
        verdicts.iter().map(|it| it.reviewer.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    let today = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let settled =
        settle(&given, &verdicts, &adjudicated, reviewers.len().min(2), date.unwrap_or(&today[..10])).advise()?;
    let Settled { corrections, num_confirmed, num_open, disputed } = &settled;
    let mut files = Vec::new();
    if let Some(path) = to {
        write_corrections(path, corrections).advise()?;
        files.push(path.to_owned());
        if !disputed.is_empty() {
            let beside = path.with_extension("disputed.csv");
            write_disputed(&beside, disputed, |id| texts[id].clone()).advise()?;
            files.push(beside);
        }
    }
    Ok(Reviewed {
        agreement: agreement(&task, &reviewers, &verdicts, domain.config().seed),
        num_corrected: corrections.len(),
        num_confirmed: *num_confirmed,
        num_open: *num_open,
        num_disputed: disputed.len(),
        files,
    })
}

fn agreement(task: &Task, reviewers: &[&str], verdicts: &[Verdict], seed: Seed) -> Vec<Agreed> {
    let mut rows: BTreeMap<&str, Vec<Option<u32>>> = BTreeMap::new();
    for Verdict { id, reviewer, label, .. } in verdicts {
        let row = rows.entry(id).or_insert_with(|| vec![None; reviewers.len()]);
        let person = reviewers.iter().position(|known| known == reviewer).expect("every reviewer is known");
        row[person] = task.labels.index(label).map(|label| label as u32);
    }
    let ratings = Ratings::new(rows.into_values().collect());
    let agreed = |measure, name, ratings: &Ratings, people: &[usize]| Agreed {
        measure: name,
        reviewers: people.iter().map(|&person| reviewers[person].to_owned()).collect(),
        value: ratings.agreement(measure, NUM_RESAMPLES, seed.child("agreement")),
    };
    let all: Vec<usize> = (0..reviewers.len()).collect();
    let mut found = Vec::new();
    for (first, second) in all.iter().flat_map(|&a| (a + 1..reviewers.len()).map(move |b| (a, b))) {
        found.push(agreed(Agreement::CohensKappa, "Cohen's kappa", &ratings.pair(first, second), &[first, second]));
    }
    if reviewers.len() > 2 {
        found.push(agreed(Agreement::FleissKappa, "Fleiss' kappa", &ratings, &all));
    }
    if reviewers.len() > 1 {
        found.push(agreed(Agreement::KrippendorffsAlpha, "Krippendorff's alpha", &ratings, &all));
    }
    found
}

fn load(domain: &Domain, name: &str) -> Result<Task> {
    let tasks = &domain.config().task;
    let Some(config) = tasks.get(name) else {
        return Err(LabelsError::UnknownTask { name: name.to_owned(), known: tasks.keys().cloned().collect() })
            .advise();
    };
    if config.kind == TaskKind::Multilabel {
        return Err(LabelsError::Kind { name: name.to_owned(), kind: config.kind.name() }).advise();
    }
    read_task(name, config, &domain.root, domain.config().seed.child(name)).advise()
}

fn parts(task: &Task) -> impl Iterator<Item = &Example> {
    [&task.train, &task.dev, &task.test].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use arable_core::LabelSet;

    use super::*;

    const PARTS: [&str; 3] = ["pump", "valve", "rotor"];
    const FLUIDS: [&str; 3] = ["oil", "water", "steam"];

    /// A sentence with a part and a fluid; the part's tag is left out where it is `spoilt`.
    fn sentence(idx: usize, spoilt: bool) -> Example {
        let words = format!("the {} loses {} on day {idx}", PARTS[idx % 3], FLUIDS[idx / 3 % 3]);
        let part = if spoilt { "O" } else { "B-Part" };
        Example {
            id: format!("s{idx}"),
            group: None,
            input: Input::Words(words.split(' ').map(str::to_owned).collect()),
            target: Target::Tags(["O", part, "O", "B-Fluid", "O", "O", "O"].map(str::to_owned).to_vec()),
        }
    }

    #[test]
    fn doubtful_tags_are_found_word_by_word() {
        const SPOILT: [usize; 5] = [7, 48, 90, 133, 171];
        let train: Vec<Example> = (0..200).map(|idx| sentence(idx, SPOILT.contains(&idx))).collect();
        let task = Task {
            name: "t".into(),
            kind: TaskKind::Tagging,
            labels: LabelSet::of(&train),
            train,
            dev: (300..340).map(|idx| sentence(idx, false)).collect(),
            test: vec![sentence(400, false)],
            split: arable_corpus::SplitCheck::default(),
            rejects: Vec::new(),
            num_repaired_tags: 0,
            num_test_in_train: 0,
            num_corrected: 0,
        };
        let noise = find(&task, &BaselineConfig::default(), Seed(1)).unwrap();
        let found: BTreeSet<&str> = noise.suspects.iter().map(|suspect| suspect.id.as_str()).collect();
        let planted: Vec<String> = SPOILT.iter().map(|&idx| word_id(&format!("s{idx}"), 1)).collect();
        assert_eq!(found, planted.iter().map(String::as_str).collect());
        let first = &noise.suspects[0];
        assert_eq!((first.given.as_str(), first.suggested.as_str()), ("O", "B-Part"));
        assert!(first.text.starts_with("the >>> "), "{}", first.text);
    }
}
