//! What documents are measured against, where the configuration says so: examples, a target, tasks, lists of words.

use std::collections::BTreeMap;
use std::path::Path;

use arable_core::{Document, Hint, Seed};

use crate::attributes::Attributes;
use crate::bm25::{Bm25, queries};
use crate::config::{CorpusConfig, SourceConfig};
use crate::hazard::{Hazard, HazardError};
use crate::letters::Letters;
use crate::quality::{HeldOutQuality, Quality};
use crate::read::{ReadError, check_rejects, read_source};
use crate::relevance::Relevance;
use crate::store::{Documents, StoreError};
use crate::task::Task;

/// Texts or terms that nothing can be measured against.
#[derive(Debug, thiserror::Error)]
pub enum ScorersError {
    /// Texts that cannot be read.
    #[error("read the texts of `{setting}`")]
    Read {
        /// The setting that names them.
        setting: String,
        /// Why.
        source: Box<ReadError>,
    },
    /// Too few texts.
    #[error("learn from `{setting}`: {least} different texts are needed, there are {num}")]
    TooFew {
        /// The setting that names them.
        setting: String,
        /// How many there are.
        num: usize,
        /// How many are needed.
        least: usize,
    },
    /// Texts that all belong to one group, so that none can be held out.
    #[error("hold out some texts of `{setting}`: all {num} are of one group")]
    OneGroup {
        /// The setting that names them.
        setting: String,
        /// How many there are.
        num: usize,
    },
    /// No task to compare documents with.
    #[error("compare documents with tasks (corpus.bm25): there is no task")]
    NoTask,
    /// The documents cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Terms that cannot be looked for.
    #[error("look for hazardous terms")]
    Hazard {
        /// Why.
        source: HazardError,
    },
}

impl Hint for ScorersError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { source, .. } => return source.hint(),
            Self::TooFew { .. } => "add examples; a few hundred of each kind make a useful model".to_owned(),
            Self::OneGroup { .. } => "add texts of another group, or take the field `group` out of them".to_owned(),
            Self::NoTask => "add a [task.NAME], or take [corpus.bm25] out".to_owned(),
            Self::Store(error) => return error.hint(),
            Self::Hazard { source } => return source.hint(),
        })
    }
}

/// The table of the configuration called `name`, and what belongs into it.
pub(crate) fn advice(name: &str) -> &'static str {
    match name {
        "corpus.quality" => "`[corpus.quality]` with `good = \"path\"` and `bad = \"path\"`",
        "corpus.relevance" => "`[corpus.relevance]` with `target = \"path\"`",
        "corpus.bm25" => "`[corpus.bm25]`, which compares with the tasks' training examples",
        _ => "`[corpus.hazard]` with `terms = { own = [\"a phrase\"] }`",
    }
}

/// What documents are measured against. By default, the built-in lists of words alone; letters then surprise by 0 bits.
#[derive(Clone, Debug, Default)]
pub struct Scorers {
    hazard: Hazard,
    letters: Option<Letters>,
    quality: Option<Quality>,
    relevance: Option<Relevance>,
    bm25: Option<Bm25>,
    /// What the model of quality says of examples that it never saw.
    pub held_out_quality: Option<HeldOutQuality>,
    /// For each task, by name, the words that it is compared by, the most telling first.
    pub queries: BTreeMap<String, Vec<String>>,
}

impl Scorers {
    /// What `config` asks for, with `documents` as its sources hold them, paths relative to `root`. Of `tasks`, training
    /// examples alone are looked at.
    ///
    /// # Errors
    /// When texts cannot be read, are too few, or terms cannot be looked for.
    pub fn new(
        config: &CorpusConfig,
        root: &Path,
        documents: &Documents,
        tasks: &[Task],
        seed: Seed,
    ) -> Result<Self, ScorersError> {
        let hazard = Hazard::new(config.hazard.as_ref(), root).map_err(|source| ScorersError::Hazard { source })?;
        let mut scorers = Self { hazard, letters: Some(Letters::learn(documents)?), ..Self::default() };
        let read = |setting: &str, path: &str, text: &str| {
            let source = SourceConfig { text: text.to_owned(), ..SourceConfig::new(setting, path) };
            texts(&source, root, config)
        };
        if let Some(own) = &config.quality {
            let good = read("corpus.quality.good", &own.good, &own.text)?;
            let bad = read("corpus.quality.bad", &own.bad, &own.text)?;
            let (quality, held_out) = Quality::learn(good, bad, seed)?;
            (scorers.quality, scorers.held_out_quality) = (Some(quality), Some(held_out));
        }
        if let Some(own) = &config.relevance {
            let target = read("corpus.relevance.target", &own.target, &own.text)?;
            scorers.relevance = Some(Relevance::new(&target, documents)?);
        }
        if let Some(own) = &config.bm25 {
            if tasks.is_empty() {
                return Err(ScorersError::NoTask);
            }
            let (queries, sources) = queries(own.num_terms, tasks, documents)?;
            scorers.bm25 = Some(Bm25::new(own, &queries, &sources));
            scorers.queries = queries;
        }
        Ok(scorers)
    }

    /// Measures a text, given with the hashes of its words.
    pub(crate) fn score(&self, attributes: &mut Attributes, text: &str, words: &[u64]) {
        self.hazard.score(attributes, words);
        attributes.char_surprise = self.letters.as_ref().map_or(0.0, |letters| letters.surprise(text));
        attributes.quality = self.quality.as_ref().map(|quality| quality.score(words));
        attributes.domain_weight = self.relevance.as_ref().map(|relevance| relevance.score(words));
        attributes.task_bm25 = self.bm25.as_ref().map(|bm25| bm25.score(words));
    }
}

/// The documents of a source that is one of the settings.
fn texts(source: &SourceConfig, root: &Path, config: &CorpusConfig) -> Result<Vec<Document>, ScorersError> {
    let setting = &source.name;
    let failed = |error| ScorersError::Read { setting: setting.clone(), source: Box::new(error) };
    let (mut documents, mut rejects) = (Vec::new(), Vec::new());
    for record in read_source(source, root).map_err(failed)? {
        match record.map_err(failed)? {
            Ok(document) => documents.push(document),
            Err(reject) => rejects.push(reject),
        }
    }
    let num_records = documents.len() + rejects.len();
    check_rejects(setting, &rejects, num_records, config.max_reject_rate).map_err(failed)?;
    Ok(documents)
}
