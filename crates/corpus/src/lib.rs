//! Reading, deduplication, decontamination and splitting of raw text, and reading of labelled tasks.
//!
//! The flow is three functions: [`read_corpus`] reads every source, [`measure_all`] gives every document its attributes,
//! and [`curate`] drops what one expression over them leaves out, what is a duplicate, what holds a held-out example of a
//! task and what goes beyond a sample, masks personal data, and keeps a part aside. Nothing is dropped silently: what could not be
//! read is a [`Reject`], what was left out on purpose is a [`Dropped`], and both go to quarantine with their reason. No
//! step depends on the order in which documents arrive. Tasks are read beside it by [`read_task`].

mod archive;
mod attributes;
mod batches;
mod bm25;
mod columns;
mod config;
mod conll;
mod corrections;
mod curate;
mod decide;
mod dedup;
mod encoding;
mod files;
mod gather;
mod hazard;
mod held_out;
mod histogram;
mod html;
mod ids;
mod letters;
mod lines;
mod look;
mod markdown;
mod near;
mod noise;
mod order;
mod overlap;
mod pdf;
mod pieces;
mod pii;
mod profile;
mod quality;
mod read;
mod reject;
mod relevance;
mod repetition;
mod review;
mod rows;
mod sample;
mod scorers;
mod shift;
mod split;
mod split_check;
mod store;
mod subset;
mod task;
mod times;
mod words;
mod xml;

pub use attributes::{Attributes, measure};
pub use bm25::Bm25Config;
pub use columns::{AttributeTable, ColumnsError, measure_all};
pub use config::{
    CorpusConfig, DedupConfig, Format, NearConfig, OverlapConfig, PiiConfig, SourceConfig, SplitBy, SplitConfig,
    TaskConfig, TaskKind, UnseenLabels,
};
pub use corrections::word_id;
pub use curate::{CorpusCounts, CurateError, Material, Outputs, RuleCounts, count_rules, curate};
pub use decide::{DecideError, Decision, Expectation, FAMILIES, column_names, expectations};
pub use encoding::{TextEncoding, UnknownEncoding};
pub use files::{FileError, content_digest, fetched_path, is_readable_name, path_matcher};
pub use gather::{ReadCounts, SourceCounts, read_corpus};
pub use hazard::{HazardConfig, HazardKind};
pub use held_out::{HeldOut, HeldOutError, Newer};
pub use near::{RefusedPair, Similarity};
pub use noise::{Doubt, LabelNoise, Suspect, label_noise};
pub use order::{check_order, order_keys};
pub use overlap::{HeldOutSet, OverlapCounts};
pub use pdf::{PDF_COMMAND, read_pdf};
pub use pii::{Pii, PiiCounts, PiiKind, find_pii, mask_pii, remove_pii};
pub use profile::{
    Association, Basis, Edge, Facet, Facets, Listed, Measure, Outliers, Pair, Profile, Shared, Sign, SourcePair,
    SourceProfile, Spread, Term, profile,
};
pub use quality::{HeldOutQuality, QualityConfig};
pub use read::{ReadError, RejectSummary, Source, read_source};
pub use reject::{DropReason, Dropped, Reject, RejectReason};
pub use relevance::RelevanceConfig;
pub use review::{
    Correction, ReviewError, Settled, Verdict, read_verdicts, settle, write_corrections, write_disputed,
    write_label_studio, write_review_table,
};
pub use sample::{NoTemperature, SampleConfig, SampleError, Sampled, SampledValue, Temperature};
pub use scorers::{Scorers, ScorersError};
pub use shift::{Change, DistributionShift, Shift, ShiftError, TermShift, WordShift, shift};
pub use split::folds;
pub use split_check::{Border, SplitCheck};
pub use store::{Block, Documents, StoreError, each_dropped, unpack, write_documents, write_rejects};
pub use subset::subset;
pub use task::{Task, TaskError, UnseenLabel, read_task};
pub use times::{Day, NotADay};
pub use words::normalize;

#[cfg(test)]
mod testing {
    use fs_err as fs;

    /// A folder with files of these names and texts.
    pub fn root_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        root
    }
}
