//! What objectives of a stage read beside the text: terms, pairs of texts, labelled examples.

use std::collections::HashMap;

use anyhow::Result;
use arable_core::{Digest, Hint};
use arable_corpus::{SourceConfig, content_digest, read_source};
use arable_ledger::Artifact;
use arable_model::Pooling;
use arable_tokenize::Vocabulary;
use arable_train::objective::contrastive::{GivenPairs, PairsOf};
use arable_train::objective::mlm::Terms;
use arable_train::objective::{Aids, TaskExamples};
use arable_train::pretrain::PretrainConfig;
use fs_err as fs;

use crate::advice::Advise;
use crate::run::Run;
use crate::stages::encode::Encoder;
use crate::stages::tasks;

/// A file without pairs.
#[derive(Debug, thiserror::Error)]
#[error("find pairs of `{}` and `{}` in `{}`", given.first, given.second, given.path)]
pub struct NoPairs {
    given: GivenPairs,
}

impl Hint for NoPairs {
    fn hint(&self) -> Option<String> {
        Some("name a file whose records have both fields, in two records at least".to_owned())
    }
}

/// The pairs that a stage is given.
fn given(config: &PretrainConfig) -> Option<&GivenPairs> {
    match &config.contrastive.as_ref()?.pairs {
        PairsOf::Given(given) => Some(given),
        PairsOf::Dropout | PairsOf::Spans => None,
    }
}

/// The files and tasks that a stage reads.
pub(crate) fn inputs(run: &Run<'_>, config: &PretrainConfig, tasks: &[Artifact]) -> Result<Vec<Digest>> {
    let terms = config.mlm.terms.as_ref().map(|terms| terms.file.as_str());
    let paths = terms.into_iter().chain(given(config).map(|given| given.path.as_str()));
    let files = paths.map(|path| content_digest(path, &run.domain.root).advise()).collect::<Result<Vec<_>>>()?;
    let tasks = tasks.iter().filter(|_| config.tasks.is_some()).map(Artifact::digest);
    Ok(files.into_iter().chain(tasks).collect())
}

/// Reads them.
pub(crate) fn load(
    run: &Run<'_>,
    config: &PretrainConfig,
    (words, pooling): (&Vocabulary, Pooling),
    tasks: &[Artifact],
) -> Result<Aids> {
    let mut aids = Aids::default();
    if let Some(terms) = &config.mlm.terms {
        let text = fs::read_to_string(run.domain.root.join(&terms.file))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        // Within a text a word begins with the space before it, at its beginning it does not.
        let written = lines.flat_map(|term| [words.encode(&format!(" {term}")).ids, words.encode(term).ids]);
        aids.terms = Terms::new(terms.mask_prob, written);
    }
    if let Some(given) = given(config) {
        aids.pairs = pairs(run, given, words, config.max_length.most())?;
    }
    if config.tasks.is_some() {
        let max_length = run.domain.config().adapt.finetune.max_length;
        for (artifact, settings) in tasks.iter().zip(run.domain.config().task.values()) {
            let task = tasks::load(artifact)?;
            let (labels, kind, markers) = (&task.labels, task.kind, &settings.markers[..]);
            let encoder = Encoder { vocabulary: words, labels, kind, markers, max_length, pooling };
            let (head, examples) = (encoder.head(), encoder.encode(&task.train)?.pieces);
            aids.tasks.push(TaskExamples { name: task.name.clone(), head, examples });
        }
    }
    Ok(aids)
}

/// Two fields of each record of a file, each encoded, cut and framed.
fn pairs(run: &Run<'_>, given: &GivenPairs, words: &Vocabulary, max_length: usize) -> Result<Vec<[Vec<u32>; 2]>> {
    let texts = |field: &String| {
        let source = SourceConfig { text: field.clone(), ..SourceConfig::new("pairs", &given.path) };
        let records = read_source(&source, &run.domain.root).advise()?;
        let documents = records.collect::<Result<Vec<_>, _>>().advise()?.into_iter().flatten();
        // By its place in the file: the ids of a source are those of its records.
        Ok::<_, anyhow::Error>(documents.map(|document| (document.id, document.text)).collect::<Vec<_>>())
    };
    let second: HashMap<String, String> = texts(&given.second)?.into_iter().collect();
    let frame = words.frame();
    let room = max_length.saturating_sub(frame.start.len() + frame.end.len());
    let framed = |text: &str| {
        let mut ids = words.encode(text).ids;
        ids.truncate(room);
        [&frame.start[..], &ids, &frame.end].concat()
    };
    let found =
        texts(&given.first)?.into_iter().filter_map(|(id, first)| Some([framed(&first), framed(second.get(&id)?)]));
    let found: Vec<[Vec<u32>; 2]> = found.collect();
    if found.len() < 2 {
        return Err(NoPairs { given: given.clone() }).advise();
    }
    Ok(found)
}
