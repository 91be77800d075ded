//! Labels under review: doubtful ones found, put before people, and replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use arable_core::{Example, Hint, Seed, Target};
use arable_corpus::{
    LabelNoise, Settled, Suspect, Task, TaskKind, Verdict, folds, label_noise, read_task, read_verdicts, settle,
    write_corrections, write_disputed, write_label_studio, write_review_table,
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
    /// A task with sets of labels or with tags.
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
            Self::Kind { .. } => "so far, tasks with one label for each example can be reviewed".to_owned(),
        })
    }
}

/// Doubtful labels of a task and the files for people to fill in.
#[derive(Debug, Serialize)]
pub struct Suspects {
    /// Training examples.
    pub num_examples: usize,
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
    Ok(Suspects { num_examples: task.train.len(), noise_rate, accuracy, num_suspects, suspects: shown, files })
}

/// Doubtful training labels by cross-validation with the linear model, whose temperature is fitted on the development
/// set.
///
/// # Errors
/// When the linear model cannot be trained.
///
/// # Panics
/// When the task has sets of labels or tags.
pub fn find(task: &Task, config: &BaselineConfig, seed: Seed) -> Result<LabelNoise> {
    let folds = folds(&task.train, NUM_FOLDS, seed);
    let each = (0..NUM_FOLDS).map(|fold| {
        let part = |held: bool| -> Vec<Example> {
            let chosen = task.train.iter().zip(&folds).filter(|(_, its)| (**its == fold) == held);
            chosen.map(|(example, _)| example.clone()).collect()
        };
        let run = fit_baseline(&part(false), &task.dev, &part(true), &task.labels, HeadlineMetric::Accuracy, config);
        let run = run.advise()?;
        let Predictions::Class(class) = run.test.scaled(fit_temperature(&run.dev)) else {
            panic!("a task of one label for each example has classes");
        };
        Ok(class.probabilities().collect::<Vec<f64>>())
    });
    let by_fold = each.collect::<Result<Vec<_>>>()?;
    let (k, mut next) = (task.labels.len(), [0; NUM_FOLDS]);
    let mut probabilities = Vec::with_capacity(task.train.len() * k);
    for fold in folds {
        probabilities.extend_from_slice(&by_fold[fold][next[fold] * k..][..k]);
        next[fold] += 1;
    }
    Ok(label_noise(&task.train, &task.labels, &probabilities))
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
    let examples: BTreeMap<&str, &Example> = parts(&task).map(|example| (example.id.as_str(), example)).collect();
    let given =
        examples.iter().filter_map(|(id, example)| Some(((*id).to_owned(), class(example)?.to_owned()))).collect();
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
            write_disputed(&beside, disputed, |id| examples[id].input.text()).advise()?;
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
    if config.kind != TaskKind::Classification {
        return Err(LabelsError::Kind { name: name.to_owned(), kind: config.kind.name() }).advise();
    }
    read_task(name, config, &domain.root, domain.config().seed.child(name)).advise()
}

fn parts(task: &Task) -> impl Iterator<Item = &Example> {
    [&task.train, &task.dev, &task.test].into_iter().flatten()
}

fn class(example: &Example) -> Option<&str> {
    if let Target::Class(label) = &example.target { Some(label) } else { None }
}
