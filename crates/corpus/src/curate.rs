//! From documents as they were read to a clean corpus, readable top to bottom.
//!
//! Documents stay on the disk. They are looked at once, and only what decides about them is kept in memory: a few hundred
//! bytes each. Then each has its fate, and they are read once more and written to where they belong.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arable_core::{Document, Hint, Seed};

use crate::columns::{AttributeTable, ColumnsError};
use crate::config::{CorpusConfig, NearConfig};
use crate::decide::{DecideError, Decision, Distinction};
use crate::dedup::copies;
use crate::gather::{ReadCounts, SourceCounts};
use crate::held_out::{HeldOutError, keep_aside};
use crate::look::{First, Found, Look, Seen, Traits};
use crate::near::{Bands, Hashes, Looked, RefusedPair, Shared, Similarity, near_copies};
use crate::overlap::{HeldOutSet, Index, OverlapCounts};
use crate::pii::{PiiCounts, PiiKind, remove_pii};
use crate::read::ReadError;
use crate::reject::{DropReason, Dropped};
use crate::sample::{SampleError, Sampled, Values, sample};
use crate::split::{Bound, Keys};
use crate::split_check::{Place, SplitCheck};
use crate::store::{Block, Documents, Quarantined, StoreError, Writer, each_line, line_of};
use crate::words::{normalize, num_words, word_hashes};

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
    Decide(#[source] Box<DecideError>),
    /// Documents cannot be written, or not be read again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Attributes cannot be read.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// No document is left.
    #[error(
        "keep a document: of {num_documents} there are {num_too_short} too short, {num_filtered} that `keep` leaves out, \
         {num_duplicates} duplicates, {num_overlap} with held-out examples, {num_sampled_out} beyond the sample"
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
        /// Documents that the sample leaves out.
        num_sampled_out: usize,
    },
    /// All documents belong together, so that none can be kept aside.
    #[error("keep documents aside for the held-out loss: all {num_documents} belong together")]
    OneCluster {
        /// Documents left after curation.
        num_documents: usize,
    },
    /// The sample cannot be drawn.
    #[error("draw the sample (corpus.sample)")]
    Sample(#[from] SampleError),
    /// Documents cannot be kept aside by time.
    #[error(transparent)]
    HeldOut(#[from] HeldOutError),
    /// Documents that belong together are on both sides of the split.
    #[error("keep apart what is held out: {num_crossings} texts, groups or times are on both sides")]
    Crossing {
        /// How many there are.
        num_crossings: usize,
    },
}

impl CurateError {
    /// Whether the program or the machine is at fault, and not what was given to it.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Crossing { .. } | Self::Store(_) | Self::Columns(_))
    }
}

impl Hint for CurateError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSource => "add a `[[corpus.source]]` with a `name` and a `path`".to_owned(),
            Self::SourceName { .. } => "give every source a name of its own, without `/`".to_owned(),
            Self::Read { source, .. } => return source.hint(),
            Self::Store(error) => return error.hint(),
            Self::Columns(error) => return error.hint(),
            Self::Decide(error) => return error.hint(),
            Self::Sample(error) => return error.hint(),
            Self::HeldOut(error) => return error.hint(),
            Self::Crossing { .. } => "this is a fault of the program: report it with your configuration".to_owned(),
            Self::NothingLeft { .. } => {
                "lower `min_words`, loosen `keep` or `sample`, or add documents that are not copies of the tasks' held-out \
                 examples"
                    .to_owned()
            }
            Self::OneCluster { .. } => "add documents, or set `group` to a field that tells documents apart".to_owned(),
        })
    }
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
    /// Documents left out because the sample asks for no more of their kind.
    pub num_sampled_out: usize,
    /// What the sample asked for and reached, where one was drawn.
    pub sample: Option<Sampled>,
    /// Personal data in the documents kept, by kind.
    pub pii: BTreeMap<PiiKind, PiiCounts>,
    /// Documents to train on.
    pub num_train: usize,
    /// Documents kept aside for the held-out loss.
    pub num_held_out: usize,
    /// What a look at both found, once they were cut apart.
    pub split: SplitCheck,
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

/// What is curated: documents as they were read, and what is known of them.
pub struct Material<'a> {
    /// The documents.
    pub documents: &'a Documents,
    /// The file of what could not be read.
    pub rejects: &'a Path,
    /// How many there are of what.
    pub counts: ReadCounts,
    /// What was measured of them; needed where [`CorpusConfig::reads_attributes`].
    pub attributes: Option<&'a AttributeTable>,
}

/// The files of a curated corpus.
pub struct Outputs<'a> {
    /// Documents to train on, by source, file and line.
    pub train: &'a Path,
    /// Documents kept aside for the held-out loss.
    pub held_out: &'a Path,
    /// `{"reject": ...}` for records that could not be read, `{"drop": {document, reason}}` for documents left out, and
    /// `{"refused": {document, with, similarity}}` for pairs that looked alike and both stay.
    pub quarantine: &'a Path,
}

/// Drops documents that are too short, those for which `keep` does not hold, duplicates, those that hold one of the
/// held-out examples, and what goes beyond the sample; masks personal data, and keeps a part aside. The result depends on what was read, on the
/// configuration and on the seed alone.
///
/// # Errors
/// When `keep` cannot decide, a sample cannot be drawn, documents cannot be cut apart, a file cannot be read or written, or nothing is left to train on.
pub fn curate(
    config: &CorpusConfig,
    material: Material<'_>,
    held_out_texts: &[HeldOutSet],
    seed: Seed,
    outputs: &Outputs<'_>,
) -> Result<CorpusCounts, CurateError> {
    let index = Index::new(&config.overlap, held_out_texts);
    let keep = config.keep.as_deref().map(|keep| Decision::new(keep, config));
    let by = config.sample.as_ref().map(|sample| Distinction::new("corpus.sample.by", &sample.by, config));
    let (keep, by) = (keep.transpose()?, by.transpose()?);
    let decision = keep.as_ref();
    let look = Look { config, decision, distinction: by.as_ref(), attributes: material.attributes, index: &index };
    let Found { seen, values, bands } = look.at_all(material.documents)?;
    let mut plan = Plan { config, index: &index, decision, fates: fates(&seen), seen, values, refused: vec![] };
    plan.drop_copies();
    plan.drop_near_copies(bands, material.documents, outputs.train.parent().unwrap_or(Path::new(".")))?;
    plan.drop_overlap();
    let sample = plan.drop_sampled_out(seed)?;
    let mut counts = plan.counts(material.counts);
    counts.sample = sample;
    counts.split = plan.keep_aside(seed, &counts)?;
    plan.write(material.documents, material.rejects, outputs, counts)
}

impl From<DecideError> for CurateError {
    fn from(error: DecideError) -> Self {
        Self::Decide(Box::new(error))
    }
}

/// What becomes of a document. Others are named by their numbers, in four bytes: there may be many.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Train,
    HeldOut,
    /// For what shows in it alone.
    First,
    ExactDuplicate(u32),
    NormalizedDuplicate(u32),
    NearDuplicate(u32, Similarity),
    Overlap,
    SampledOut,
}

impl Fate {
    fn copy_of(self) -> Option<usize> {
        match self {
            Self::ExactDuplicate(of) | Self::NormalizedDuplicate(of) | Self::NearDuplicate(of, _) => Some(of as usize),
            Self::Train | Self::HeldOut | Self::First | Self::Overlap | Self::SampledOut => None,
        }
    }
}

fn fates(seen: &[Seen]) -> Vec<Fate> {
    assert!(u32::try_from(seen.len()).is_ok(), "fewer than four billion documents");
    let fate = |seen: &Seen| if matches!(seen.first, First::Fine(_)) { Fate::Train } else { Fate::First };
    seen.iter().map(fate).collect()
}

/// What becomes of all documents.
struct Plan<'a> {
    config: &'a CorpusConfig,
    index: &'a Index<'a>,
    decision: Option<&'a Decision>,
    seen: Vec<Seen>,
    /// What a sample tells apart.
    values: Values,
    fates: Vec<Fate>,
    refused: Vec<RefusedPair>,
}

impl Plan<'_> {
    /// The documents that stay as things are, with their traits.
    fn staying(&self) -> impl Iterator<Item = (usize, &Traits)> {
        let stay = self.fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::Train);
        stay.map(|(idx, _)| (idx, self.traits(idx)))
    }

    /// The same documents in the order in which one stays before another: the better one, then the one from the earlier
    /// source of the configuration, then by id. It depends on what documents there are, never on the order in which they
    /// arrive.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = self.staying().map(|(idx, _)| idx).collect();
        order.sort_by(|&a, &b| {
            let (a, b) = (&self.seen[a], &self.seen[b]);
            b.quality.total_cmp(&a.quality).then_with(|| (a.rank, &a.id).cmp(&(b.rank, &b.id)))
        });
        order
    }

    fn traits(&self, idx: usize) -> &Traits {
        match &self.seen[idx].first {
            First::Fine(traits) => traits,
            _ => unreachable!("only what shows no fault alone is compared"),
        }
    }

    fn drop_copies(&mut self) {
        let order = self.order();
        if self.config.dedup.exact {
            for (idx, of) in copies(&order, |idx| self.traits(idx).text) {
                self.fates[idx] = Fate::ExactDuplicate(of as u32);
            }
        }
        if self.config.dedup.normalized {
            let order: Vec<usize> = order.into_iter().filter(|&idx| self.fates[idx] == Fate::Train).collect();
            for (idx, of) in copies(&order, |idx| self.traits(idx).words()) {
                self.fates[idx] = Fate::NormalizedDuplicate(of as u32);
            }
        }
    }

    fn drop_near_copies(&mut self, bands: Bands, documents: &Documents, folder: &Path) -> Result<(), CurateError> {
        let Some(near) = &self.config.dedup.near else { return Ok(()) };
        let order = self.order();
        let shared = Shared::new(near, &order, &bands);
        let is_wanted = |idx: usize| self.fates[idx] == Fate::Train && shared.has_any(bands.of(idx));
        let runs = Runs::new(near, documents, folder, is_wanted)?;
        let Looked { copies, refused } = near_copies(near, &order, &shared, &bands, |idx| runs.of(idx))?;
        let pair = |(idx, with, similarity): (usize, usize, _)| {
            let [document, with] = [idx, with].map(|idx| self.seen[idx].id.to_string());
            RefusedPair { document, with, similarity }
        };
        self.refused = refused.into_iter().map(pair).collect();
        self.refused.sort();
        for (idx, of, similarity) in copies {
            self.fates[idx] = Fate::NearDuplicate(of as u32, similarity);
        }
        Ok(())
    }

    fn drop_overlap(&mut self) {
        let hit: Vec<usize> =
            self.staying().filter(|(_, traits)| !traits.hits.is_empty()).map(|(idx, _)| idx).collect();
        hit.into_iter().for_each(|idx| self.fates[idx] = Fate::Overlap);
    }

    /// Draws the sample that is asked for; the rest goes.
    fn drop_sampled_out(&mut self, seed: Seed) -> Result<Option<Sampled>, CurateError> {
        let Some(config) = &self.config.sample else { return Ok(None) };
        let left: Vec<usize> = self.staying().map(|(idx, _)| idx).collect();
        let documents: Vec<(&str, u32)> = left.iter().map(|&idx| (&*self.seen[idx].id, self.seen[idx].value)).collect();
        let (sample, drawn) = sample(config, &self.values, &documents, seed)?;
        left.iter().for_each(|&idx| self.fates[idx] = Fate::SampledOut);
        drawn.into_iter().for_each(|place| self.fates[left[place]] = Fate::Train);
        Ok(Some(sample))
    }

    /// Keeps a part aside, and proves that nothing that belongs together is cut apart.
    fn keep_aside(&mut self, seed: Seed, counts: &CorpusCounts) -> Result<SplitCheck, CurateError> {
        let left: Vec<usize> = self.staying().map(|(idx, _)| idx).collect();
        if left.is_empty() {
            return Err(nothing_left(self.seen.len(), counts));
        }
        let copies = self.copies();
        let bound = Bound::new(&copies, |idx| self.traits(idx).keys.group);
        let keys: Vec<Keys> = left.iter().map(|&idx| bound.keys(idx, self.traits(idx).keys)).collect();
        let day = |item: usize| self.traits(left[item]).day.as_deref();
        let is_held_out = keep_aside(&self.config.held_out, &keys, day, seed)?;
        if !is_held_out.contains(&true) {
            return Err(CurateError::OneCluster { num_documents: left.len() });
        }
        let aside: Vec<usize> =
            left.iter().zip(is_held_out).filter(|(_, is_held_out)| *is_held_out).map(|(&idx, _)| idx).collect();
        aside.into_iter().for_each(|idx| self.fates[idx] = Fate::HeldOut);
        let check = self.look_at_split(&left, &keys, &copies);
        match check.num_crossings {
            0 => Ok(check),
            num_crossings => Err(CurateError::Crossing { num_crossings }),
        }
    }

    /// Looks at what is left, with the keys by which it was cut, beside the keys that it and its copies came with.
    fn look_at_split(&self, left: &[usize], keys: &[Keys], copies: &[(usize, usize)]) -> SplitCheck {
        let part = |idx: usize| usize::from(self.fates[idx] == Fate::HeldOut);
        let place = |item: usize| Place { day: self.traits(left[item]).day.as_deref(), part: part(left[item]) };
        let own = left.iter().map(|&idx| (idx, idx));
        let copies = copies.iter().filter_map(|&(copy, of)| Some((copy, self.stands_for(of)?)));
        let witnesses = own.chain(copies).map(|(idx, at)| (self.traits(idx).keys, part(at)));
        SplitCheck::of(&["train", "held_out"], keys, place, witnesses)
    }

    /// Copies that were dropped, and what each is a copy of.
    fn copies(&self) -> Vec<(usize, usize)> {
        (0..self.fates.len()).filter_map(|idx| Some((idx, self.fates[idx].copy_of()?))).collect()
    }

    /// The document that stays for this one, if any does.
    fn stands_for(&self, idx: usize) -> Option<usize> {
        match self.fates[idx] {
            Fate::Train | Fate::HeldOut => Some(idx),
            fate => self.stands_for(fate.copy_of()?),
        }
    }

    /// What is known before documents are read again.
    fn counts(&self, read: ReadCounts) -> CorpusCounts {
        let hits = |(idx, fate): (usize, &Fate)| (*fate == Fate::Overlap).then(|| &self.traits(idx).hits[..]);
        let overlap = self.index.counts(self.fates.iter().enumerate().filter_map(hits));
        let failed = self.seen.iter().filter_map(|seen| match &seen.first {
            First::Filtered(failed) => Some(&failed[..]),
            _ => None,
        });
        let rules = self.decision.map_or_else(Vec::new, |decision| count_rules(decision, failed));
        let mut counts =
            CorpusCounts { sources: read.sources, rejects: read.rejects, overlap, rules, ..CorpusCounts::default() };
        for (seen, fate) in self.seen.iter().zip(&self.fates) {
            let count = match (fate, &seen.first) {
                (Fate::Train | Fate::HeldOut, _) => continue,
                (Fate::First, First::TooShort(_)) => &mut counts.num_too_short,
                (Fate::First, _) => &mut counts.num_filtered,
                (Fate::ExactDuplicate(_), _) => &mut counts.num_exact_duplicates,
                (Fate::NormalizedDuplicate(_), _) => &mut counts.num_normalized_duplicates,
                (Fate::NearDuplicate(..), _) => &mut counts.num_near_duplicates,
                (Fate::Overlap, _) => &mut counts.num_overlap,
                (Fate::SampledOut, _) => &mut counts.num_sampled_out,
            };
            *count += 1;
        }
        counts
    }

    /// Why a document is left out, if it is.
    fn reason(&self, idx: usize) -> Option<DropReason> {
        let id = |of: u32| self.seen[of as usize].id.to_string();
        Some(match (self.fates[idx], &self.seen[idx].first) {
            (Fate::Train | Fate::HeldOut, _) => return None,
            (_, First::TooShort(num_words)) => DropReason::TooShort { num_words: *num_words },
            (_, First::Filtered(failed)) => {
                let names: Vec<&str> = self.decision.map_or_else(Vec::new, |decision| decision.conditions().collect());
                DropReason::Filtered { failed: failed.iter().map(|&at| names[at].to_owned()).collect() }
            }
            (Fate::ExactDuplicate(of), _) => DropReason::ExactDuplicate { of: id(of) },
            (Fate::NormalizedDuplicate(of), _) => DropReason::NormalizedDuplicate { of: id(of) },
            (Fate::NearDuplicate(of, similarity), _) => DropReason::NearDuplicate { of: id(of), similarity },
            (Fate::SampledOut, _) => {
                DropReason::SampledOut { value: self.values.name(self.seen[idx].value).to_owned() }
            }
            (Fate::First | Fate::Overlap, First::Fine(traits)) => self.index.reason(&traits.hits),
        })
    }

    /// Writes every document to where it belongs.
    fn write(
        &self,
        documents: &Documents,
        rejects: &Path,
        outputs: &Outputs<'_>,
        mut counts: CorpusCounts,
    ) -> Result<CorpusCounts, CurateError> {
        let [mut train, mut held_out, mut quarantine] =
            [Writer::create(outputs.train)?, Writer::create(outputs.held_out)?, Writer::create(outputs.quarantine)?];
        each_line(rejects, |line| quarantine.line(line))?;
        let work = |block: Block| Ok::<_, CurateError>(self.sort(block));
        documents.each(work, |sorted| {
            for (source, num_kept) in sorted.num_kept {
                let own = counts.sources.iter_mut().find(|counts| counts.name == source);
                own.into_iter().for_each(|own: &mut SourceCounts| own.num_kept += num_kept);
            }
            for (kind, found) in sorted.pii {
                let all = counts.pii.entry(kind).or_default();
                all.num_found += found.num_found;
                all.num_documents += found.num_documents;
            }
            counts.num_train_words += sorted.num_train_words;
            counts.num_train += sorted.train.len();
            counts.num_held_out += sorted.held_out.len();
            sorted.train.iter().try_for_each(|line| train.line(line))?;
            sorted.held_out.iter().try_for_each(|line| held_out.line(line))?;
            Ok(sorted.dropped.iter().try_for_each(|line| quarantine.line(line))?)
        })?;
        self.refused.iter().try_for_each(|pair| quarantine.item(&Quarantined::Refused(pair)))?;
        [train, held_out, quarantine].into_iter().try_for_each(Writer::finish)?;
        Ok(counts)
    }

    fn sort(&self, block: Block) -> Sorted {
        let mut sorted = Sorted::default();
        let (mut kept, mut places) = (Vec::new(), Vec::new());
        for (idx, document) in (block.first..).zip(block.documents) {
            match self.reason(idx) {
                Some(reason) => {
                    sorted.dropped.push(line_of(&Quarantined::Drop(&Dropped { document, reason })));
                }
                None => {
                    kept.push(document);
                    places.push(idx);
                }
            }
        }
        sorted.pii = remove_pii(&mut kept, &self.config.pii.mask);
        for (idx, document) in places.into_iter().zip(kept) {
            *sorted.num_kept.entry(document.source.clone()).or_default() += 1;
            if self.fates[idx] == Fate::HeldOut {
                sorted.held_out.push(line_of(&document));
            } else {
                sorted.num_train_words += num_words(&document.text);
                sorted.train.push(line_of(&document));
            }
        }
        sorted
    }
}

/// Documents of a block as lines, by where they belong.
#[derive(Default)]
struct Sorted {
    train: Vec<Vec<u8>>,
    held_out: Vec<Vec<u8>>,
    dropped: Vec<Vec<u8>>,
    pii: BTreeMap<PiiKind, PiiCounts>,
    num_kept: BTreeMap<String, usize>,
    num_train_words: usize,
}

/// The runs of words of documents that are compared word by word: in a file without a name, as there may be many.
struct Runs {
    file: File,
    /// Where each document's runs begin, and how many there are.
    places: HashMap<usize, (u64, usize)>,
    folder: PathBuf,
}

impl Runs {
    fn new(
        config: &NearConfig,
        documents: &Documents,
        folder: &Path,
        is_wanted: impl Fn(usize) -> bool + Sync,
    ) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Runs { folder: folder.to_owned(), source };
        let hashes = Hashes::new(config);
        let work = |Block { first, documents, .. }: Block| {
            let wanted = (first..).zip(documents).filter(|(idx, _)| is_wanted(*idx));
            let runs = |document: Document| hashes.runs(&word_hashes(&normalize(&document.text)));
            Ok(wanted.map(|(idx, document)| (idx, runs(document))).collect::<Vec<_>>())
        };
        let mut file = BufWriter::new(tempfile::tempfile_in(folder).map_err(failed)?);
        let (mut places, mut start) = (HashMap::new(), 0);
        documents.each(work, |found| {
            for (idx, runs) in found {
                places.insert(idx, (start, runs.len()));
                start += RUN_BYTES * runs.len() as u64;
                runs.iter().try_for_each(|run| file.write_all(&run.to_le_bytes())).map_err(failed)?;
            }
            Ok::<_, StoreError>(())
        })?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        Ok(Self { file, places, folder: folder.to_owned() })
    }

    fn of(&self, idx: usize) -> Result<Vec<u64>, StoreError> {
        let (start, num) = self.places[&idx];
        let mut bytes = vec![0; RUN_BYTES as usize * num];
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|source| StoreError::Runs { folder: self.folder.clone(), source })?;
        let runs = bytes.chunks_exact(RUN_BYTES as usize);
        Ok(runs.map(|run| u64::from_le_bytes(run.try_into().expect("eight bytes"))).collect())
    }
}

const RUN_BYTES: u64 = 8;

/// What each condition of `decision` did; `failed` as [`Decision::failed`] gives them.
pub fn count_rules<'a>(decision: &Decision, failed: impl Iterator<Item = &'a [usize]>) -> Vec<RuleCounts> {
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

fn nothing_left(num_documents: usize, counts: &CorpusCounts) -> CurateError {
    CurateError::NothingLeft {
        num_documents,
        num_too_short: counts.num_too_short,
        num_filtered: counts.num_filtered,
        num_duplicates: counts.num_exact_duplicates + counts.num_normalized_duplicates + counts.num_near_duplicates,
        num_overlap: counts.num_overlap,
        num_sampled_out: counts.num_sampled_out,
    }
}
