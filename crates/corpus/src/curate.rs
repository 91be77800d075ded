//! From sources to a clean corpus, readable top to bottom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arable_core::{Document, Hint, Seed};

use crate::attributes::Attributes;
use crate::config::{CorpusConfig, SourceConfig};
use crate::decide::{DecideError, Decision};
use crate::dedup::dedup;
use crate::near::{NearDeduped, RefusedPair, near_dedup};
use crate::overlap::{HeldOutSet, OverlapCounts, remove_overlap};
use crate::pii::{PiiCounts, PiiKind, remove_pii};
use crate::read::{ReadError, check_rejects, read_source};
use crate::reject::{DropReason, Dropped, Reject, count_by_reason};
use crate::split::hold_out;
use crate::words::num_words;

/// A corpus that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CurateError {
    /// No source is configured.
    #[error("find a source of documents in the configuration")]
    NoSource,
    /// A source without a usable name.
    #[error("use `{name}` as the name of a source: it {problem}")]
    SourceName {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A source that cannot be read.
    #[error("read the source `{name}`")]
    Read {
        /// The source.
        name: String,
        /// Why.
        source: Box<ReadError>,
    },
    /// The expression in `keep` cannot decide.
    #[error("decide which documents stay")]
    Decide {
        /// Why.
        source: Box<DecideError>,
    },
    /// No document is left.
    #[error(
        "keep a document: of {num_documents} there are {num_too_short} too short, {num_filtered} that `keep` leaves out, \
         {num_duplicates} duplicates, {num_overlap} with held-out examples"
    )]
    NothingLeft {
        /// Documents read.
        num_documents: usize,
        /// Documents with too few words.
        num_too_short: usize,
        /// Documents for which `keep` does not hold.
        num_filtered: usize,
        /// Documents dropped as duplicates.
        num_duplicates: usize,
        /// Documents that hold held-out examples.
        num_overlap: usize,
    },
    /// All documents belong together, so that none can be kept aside.
    #[error("keep documents aside for the held-out loss: all {num_documents} belong together")]
    OneCluster {
        /// Documents left after curation.
        num_documents: usize,
    },
}

impl Hint for CurateError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSource => "add a `[[corpus.source]]` with a `name` and a `path`".to_owned(),
            Self::SourceName { .. } => "give every source a name of its own, without `/`".to_owned(),
            Self::Read { source, .. } => return source.hint(),
            Self::Decide { source } => return source.hint(),
            Self::NothingLeft { .. } => {
                "lower `min_words`, loosen `keep`, or add documents that are not copies of the tasks' held-out examples"
                    .to_owned()
            }
            Self::OneCluster { .. } => "add documents, or set `group` to a field that tells documents apart".to_owned(),
        })
    }
}

/// A curated corpus.
#[derive(Clone, Debug)]
pub struct Curated {
    /// Documents to train on, by source, file and line.
    pub train: Vec<Document>,
    /// Documents kept aside for the held-out loss.
    pub held_out: Vec<Document>,
    /// Documents left out, with the reason.
    pub dropped: Vec<Dropped>,
    /// Pairs of documents that looked alike and are not.
    pub refused: Vec<RefusedPair>,
    /// Records that could not be read.
    pub rejects: Vec<Reject>,
    /// How many there are of what.
    pub counts: CorpusCounts,
}

/// What was read, kept and left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorpusCounts {
    /// One entry for each source, in the order of the configuration.
    pub sources: Vec<SourceCounts>,
    /// Documents with too few words.
    pub num_too_short: usize,
    /// Documents for which `keep` does not hold.
    pub num_filtered: usize,
    /// What the conditions of `keep` did, in order.
    pub rules: Vec<RuleCounts>,
    /// Documents removed because of an equal text.
    pub num_exact_duplicates: usize,
    /// Documents removed because of a text equal after normalisation.
    pub num_normalized_duplicates: usize,
    /// Documents removed because most of their text occurs in another.
    pub num_near_duplicates: usize,
    /// What the overlap check found, one entry for each set of held-out examples.
    pub overlap: Vec<OverlapCounts>,
    /// Documents removed because they hold held-out examples of any task.
    pub num_overlap: usize,
    /// Personal data in the documents kept, by kind.
    pub pii: BTreeMap<PiiKind, PiiCounts>,
    /// Documents to train on.
    pub num_train: usize,
    /// Documents kept aside for the held-out loss.
    pub num_held_out: usize,
    /// Words (separated by white space) in the training documents.
    pub num_train_words: usize,
    /// Rejected records by reason.
    pub rejects: BTreeMap<String, usize>,
}

/// What one condition of `keep` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// The rules that it stands in, and what it says.
    pub name: String,
    /// Documents for which it does not hold.
    pub num_failed: usize,
    /// Documents for which it alone does not hold.
    pub num_failed_alone: usize,
}

/// Counts of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// The source's name.
    pub name: String,
    /// Records read as documents.
    pub num_documents: usize,
    /// Words (separated by white space) in them.
    pub num_words: usize,
    /// Records that could not be read.
    pub num_rejected: usize,
    /// Documents kept, for training or aside.
    pub num_kept: usize,
}

/// Documents as they were read, before curation.
#[derive(Debug, Default)]
pub struct ReadCorpus {
    /// Documents by source, file and line.
    pub documents: Vec<Document>,
    /// Records that could not be read.
    pub rejects: Vec<Reject>,
    counts: Vec<SourceCounts>,
}

/// Drops documents that are too short, those for which `keep` does not hold, duplicates, and those that hold one of the
/// held-out examples, masks personal data, and keeps a part aside. `attributes` are those of all documents; without `keep`,
/// none are needed. The result depends on what was read, on the configuration and on the seed alone.
///
/// # Errors
/// When `keep` cannot decide, or when nothing is left to train on.
pub fn curate(
    config: &CorpusConfig,
    read: ReadCorpus,
    attributes: &[Attributes],
    held_out_texts: &[HeldOutSet],
    seed: Seed,
) -> Result<Curated, CurateError> {
    let names: Vec<&str> = config.source.iter().map(|source| source.name.as_str()).collect();
    let num_documents = read.documents.len();

    let Filtered { kept, mut dropped, rules } = filter(config, read.documents, attributes)?;
    let deduped = dedup(&config.dedup, &names, kept);
    dropped.extend(deduped.dropped);
    let (kept, refused) = match &config.dedup.near {
        None => (deduped.kept, Vec::new()),
        Some(near) => {
            let NearDeduped { deduped, refused } = near_dedup(near, &names, deduped.kept);
            dropped.extend(deduped.dropped);
            (deduped.kept, refused)
        }
    };
    let mut overlap = remove_overlap(&config.overlap, kept, held_out_texts);
    dropped.extend(overlap.dropped);
    // Last, so that a mask hides no copy.
    let pii = remove_pii(&mut overlap.kept, &config.pii.mask);
    let counts = count_dropped(
        &dropped,
        CorpusCounts { sources: read.counts, overlap: overlap.counts, pii, rules, ..CorpusCounts::default() },
    );
    if overlap.kept.is_empty() {
        return Err(nothing_left(num_documents, &counts));
    }
    let num_kept = overlap.kept.len();
    let parts = hold_out(overlap.kept, config.held_out, seed);
    if parts.held_out.is_empty() {
        return Err(CurateError::OneCluster { num_documents: num_kept });
    }

    let counts = count_kept(&parts.train, &parts.held_out, counts);
    let counts = CorpusCounts { rejects: count_by_reason(&read.rejects), ..counts };
    Ok(Curated { train: parts.train, held_out: parts.held_out, dropped, refused, rejects: read.rejects, counts })
}

struct Filtered {
    kept: Vec<Document>,
    dropped: Vec<Dropped>,
    rules: Vec<RuleCounts>,
}

/// Drops short documents and those for which `keep` does not hold.
fn filter(config: &CorpusConfig, documents: Vec<Document>, attributes: &[Attributes]) -> Result<Filtered, CurateError> {
    let Some(keep) = &config.keep else {
        let (kept, dropped) = drop_short(documents, config.min_words);
        return Ok(Filtered { kept, dropped, rules: Vec::new() });
    };
    let wrong = |error| CurateError::Decide { source: Box::new(error) };
    let decision = Decision::new(keep, config).map_err(wrong)?;
    let failed = decision.failed(&documents, attributes).map_err(wrong)?;
    let conditions: Vec<&str> = decision.conditions().collect();
    let (kept, dropped): (Vec<_>, Vec<_>) =
        documents.into_iter().zip(&failed).partition(|(_, failed)| failed.is_empty());
    let drop = |(document, failed): (Document, &Vec<usize>)| {
        let failed = failed.iter().map(|&idx| conditions[idx].to_owned()).collect();
        Dropped { document, reason: DropReason::Filtered { failed } }
    };
    let (kept, mut all) = drop_short(kept.into_iter().map(|(document, _)| document).collect(), config.min_words);
    all.extend(dropped.into_iter().map(drop));
    Ok(Filtered { kept, dropped: all, rules: count_rules(&decision, &failed) })
}

/// What each condition of `decision` did; `failed` as [`Decision::failed`] gives them.
pub fn count_rules(decision: &Decision, failed: &[Vec<usize>]) -> Vec<RuleCounts> {
    let mut rules: Vec<RuleCounts> =
        decision.conditions().map(|name| RuleCounts { name: name.to_owned(), ..RuleCounts::default() }).collect();
    for failed in failed {
        for &idx in failed {
            rules[idx].num_failed += 1;
            rules[idx].num_failed_alone += usize::from(failed.len() == 1);
        }
    }
    rules
}

fn check_sources(sources: &[SourceConfig]) -> Result<(), CurateError> {
    let mut names = BTreeSet::new();
    for SourceConfig { name, .. } in sources {
        let problem = match name {
            name if name.is_empty() => "is empty",
            name if name.contains('/') => "contains `/`",
            name if !names.insert(name) => "occurs twice",
            _ => continue,
        };
        return Err(CurateError::SourceName { name: name.clone(), problem });
    }
    if sources.is_empty() { Err(CurateError::NoSource) } else { Ok(()) }
}

/// Reads the sources, whose paths are relative to `root`.
///
/// # Errors
/// When a source has no usable name, cannot be read or has too many rejects.
pub fn read_corpus(config: &CorpusConfig, root: &Path) -> Result<ReadCorpus, CurateError> {
    check_sources(&config.source)?;
    let mut read = ReadCorpus::default();
    for source in &config.source {
        let failed = |error| CurateError::Read { name: source.name.clone(), source: Box::new(error) };
        let (documents, rejects) = read_one(source, root).map_err(failed)?;
        let num_records = documents.len() + rejects.len();
        check_rejects(&source.name, &rejects, num_records, config.max_reject_rate).map_err(failed)?;
        read.counts.push(SourceCounts {
            name: source.name.clone(),
            num_documents: documents.len(),
            num_words: documents.iter().map(|document| num_words(&document.text)).sum(),
            num_rejected: rejects.len(),
            num_kept: 0,
        });
        read.documents.extend(documents);
        read.rejects.extend(rejects);
    }
    Ok(read)
}

pub(crate) fn read_one(source: &SourceConfig, root: &Path) -> Result<(Vec<Document>, Vec<Reject>), ReadError> {
    let (mut documents, mut rejects) = (Vec::new(), Vec::new());
    for record in read_source(source, root)? {
        match record? {
            Ok(document) => documents.push(document),
            Err(reject) => rejects.push(reject),
        }
    }
    Ok((documents, rejects))
}

fn drop_short(documents: Vec<Document>, min_words: usize) -> (Vec<Document>, Vec<Dropped>) {
    let (kept, short): (Vec<_>, Vec<_>) =
        documents.into_iter().partition(|document| num_words(&document.text) >= min_words);
    let dropped = |document: Document| {
        let reason = DropReason::TooShort { num_words: num_words(&document.text) };
        Dropped { document, reason }
    };
    (kept, short.into_iter().map(dropped).collect())
}

fn count_dropped(dropped: &[Dropped], mut counts: CorpusCounts) -> CorpusCounts {
    for Dropped { reason, .. } in dropped {
        let count = match reason {
            DropReason::TooShort { .. } => &mut counts.num_too_short,
            DropReason::Filtered { .. } => &mut counts.num_filtered,
            DropReason::ExactDuplicate { .. } => &mut counts.num_exact_duplicates,
            DropReason::NormalizedDuplicate { .. } => &mut counts.num_normalized_duplicates,
            DropReason::NearDuplicate { .. } => &mut counts.num_near_duplicates,
            DropReason::Overlap { .. } => &mut counts.num_overlap,
        };
        *count += 1;
    }
    counts
}

fn count_kept(train: &[Document], held_out: &[Document], mut counts: CorpusCounts) -> CorpusCounts {
    counts.num_train = train.len();
    counts.num_held_out = held_out.len();
    counts.num_train_words = train.iter().map(|document| num_words(&document.text)).sum();
    for source in &mut counts.sources {
        source.num_kept = train.iter().chain(held_out).filter(|document| document.source == source.name).count();
    }
    counts
}

fn nothing_left(num_documents: usize, counts: &CorpusCounts) -> CurateError {
    CurateError::NothingLeft {
        num_documents,
        num_too_short: counts.num_too_short,
        num_filtered: counts.num_filtered,
        num_duplicates: counts.num_exact_duplicates + counts.num_normalized_duplicates + counts.num_near_duplicates,
        num_overlap: counts.num_overlap,
    }
}

#[cfg(test)]
mod tests {
    use arable_core::Fraction;

    use super::*;
    use crate::testing::root_with;

    fn config(sources: &[(&str, &str)]) -> CorpusConfig {
        CorpusConfig {
            source: sources.iter().map(|(name, path)| SourceConfig::new(name, path)).collect(),
            held_out: Fraction::new(0.2).unwrap(),
            min_words: 3,
            ..CorpusConfig::default()
        }
    }

    fn lines(texts: impl IntoIterator<Item = String>) -> String {
        texts.into_iter().map(|text| format!("{}\n", serde_json::json!({ "text": text }))).collect()
    }

    fn curate_all(config: &CorpusConfig, root: &Path, sets: &[HeldOutSet], seed: Seed) -> Result<Curated, CurateError> {
        let read = read_corpus(config, root)?;
        let attributes = crate::measure_all(&read.documents, &crate::Scorers::default());
        curate(config, read, &attributes, sets, seed)
    }

    #[test]
    fn what_keep_leaves_out_is_counted_by_condition() {
        let texts =
            ["a document with five words", "four words are here", "many many many many many many words", "x y z"];
        let root = root_with(&[("a.jsonl", &lines((0..12).map(|i| format!("{i} {}", texts[i % 4]))))]);
        let mut config = config(&[("a", "a.jsonl")]);
        config.keep = Some("varied AND num_words > 5".into());
        config.rule = [("varied".into(), "unique_word_ratio > 0.5".into())].into();
        let curated = curate_all(&config, root.path(), &[], Seed(1)).unwrap();
        let rule =
            |name: &str, num_failed, num_failed_alone| RuleCounts { name: name.into(), num_failed, num_failed_alone };
        let counts = &curated.counts;
        assert_eq!(counts.rules, [rule("varied: unique_word_ratio > 0.5", 3, 3), rule("num_words > 5", 6, 6)]);
        assert_eq!((counts.num_filtered, counts.num_train + counts.num_held_out), (9, 3));
        let reason = DropReason::Filtered { failed: vec!["num_words > 5".into()] };
        assert_eq!(curated.dropped.iter().filter(|dropped| dropped.reason == reason).count(), 6);

        config.keep = Some("num_words > 100".into());
        let error = curate_all(&config, root.path(), &[], Seed(1)).unwrap_err();
        assert!(error.to_string().contains("12 that `keep` leaves out"), "{error}");
        config.keep = Some("num_word > 100".into());
        let error = curate_all(&config, root.path(), &[], Seed(1)).unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean `num_words`?");
    }

    #[test]
    fn everything_is_kept_or_counted() {
        let planted = "one two three four five six seven eight nine ten";
        let a = lines((0..20).map(|i| format!("a document, number {i}")));
        let b = lines(["A document: number 3".into(), "short".into(), format!("so: {planted}.")]) + "{\n";
        let root = root_with(&[("a.jsonl", &(a + &lines(["a document, number 3".into()]))), ("b.jsonl", &b)]);
        let sets = [HeldOutSet { task: "t".into(), texts: vec![("x".into(), planted.into())] }];
        let mut config = config(&[("a", "a.jsonl"), ("b", "b.jsonl")]);
        let error = curate_all(&config, root.path(), &sets, Seed(1)).unwrap_err();
        assert!(error.hint().unwrap().starts_with("most often `invalid_json`"), "{error:?}");

        config.max_reject_rate = arable_core::Probability::new(0.25).unwrap();
        let curated = curate_all(&config, root.path(), &sets, Seed(1)).unwrap();
        let counts = &curated.counts;
        assert_eq!((counts.num_train, counts.num_held_out, counts.num_train_words), (16, 4, 64));
        assert_eq!((counts.num_too_short, counts.num_overlap), (1, 1));
        assert_eq!((counts.num_exact_duplicates, counts.num_normalized_duplicates), (1, 1));
        assert_eq!(counts.rejects["invalid_json"], 1);
        assert_eq!(curated.rejects[0].line, 4);
        let kept: Vec<_> = counts.sources.iter().map(|source| (source.num_documents, source.num_kept)).collect();
        assert_eq!(kept, [(21, 20), (3, 0)]);
        let found = &counts.overlap[0];
        assert_eq!((found.num_examples, found.num_examples_found, found.num_documents_removed), (1, 1, 1));
    }

    #[test]
    fn personal_data_is_counted_and_masked_where_asked_for() {
        let text = |i: usize| match i {
            3 => "write to ann@x.org or ben@x.org soon".to_owned(),
            5 => "write to eve@x.org or call +49 30 1234567".to_owned(),
            i => format!("a document, number {i}"),
        };
        let root = root_with(&[("a.jsonl", &lines((0..20).map(text)))]);
        let mut config = config(&[("a", "a.jsonl")]);
        let texts = |curated: &Curated| {
            curated.train.iter().chain(&curated.held_out).map(|document| document.text.clone()).collect::<String>()
        };
        let left = curate_all(&config, root.path(), &[], Seed(1)).unwrap();
        config.pii.mask = vec![PiiKind::Email];
        let masked = curate_all(&config, root.path(), &[], Seed(1)).unwrap();
        let expected = [
            (PiiKind::Email, PiiCounts { num_found: 3, num_documents: 2 }),
            (PiiKind::Phone, PiiCounts { num_found: 1, num_documents: 1 }),
        ];
        assert_eq!((&left.counts.pii, &masked.counts.pii), (&expected.into(), &expected.into()));
        assert!(texts(&left).contains("ann@x.org"));
        let masked = texts(&masked);
        assert!(
            masked.contains("write to [EMAIL] or [EMAIL] soon") && masked.contains("+49 30") && !masked.contains('@')
        );
    }

    #[test]
    fn what_cannot_be_a_corpus_has_a_hint() {
        let root = root_with(&[
            ("one.jsonl", &lines(["only this one here".into()])),
            ("short.jsonl", &lines(["x".into()])),
            ("empty.jsonl", ""),
        ]);
        let check = |sources: &[(&str, &str)], expected: &str| {
            let error = curate_all(&config(sources), root.path(), &[], Seed(1)).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.hint().is_some(), "{error}");
        };
        check(&[], "find a source");
        check(&[("a", "one.jsonl"), ("a", "one.jsonl")], "occurs twice");
        check(&[("a/b", "one.jsonl")], "contains `/`");
        check(&[("a", "one.jsonl")], "all 1 belong together");
        check(&[("a", "short.jsonl")], "keep a document: of 1 there are 1 too short");
        check(&[("a", "empty.jsonl")], "read the source `a`");
        check(&[("a", "missing.jsonl")], "read the source `a`");
    }
}
