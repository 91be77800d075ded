//! Reading, deduplication, decontamination and splitting of raw text, and reading of labelled tasks.
//!
//! The flow is one function, [`curate`]: read every source, drop what is too short, drop duplicates, drop what holds a
//! held-out example of a task, mask personal data, keep a part aside. Nothing is dropped silently: what could not be
//! read is a [`Reject`], what was left out on purpose is a [`Dropped`], and both go to quarantine with their reason. No
//! step depends on the order in which documents arrive. Tasks are read beside it by [`read_task`].

mod archive;
mod config;
mod conll;
mod curate;
mod dedup;
mod files;
mod ids;
mod lines;
mod near;
mod noise;
mod overlap;
mod pii;
mod read;
mod reject;
mod review;
mod rows;
mod split;
mod store;
mod subset;
mod task;
mod words;
mod xml;

pub use config::{
    CorpusConfig, DedupConfig, Format, NearConfig, OverlapConfig, PiiConfig, SourceConfig, SplitConfig, TaskConfig,
    TaskKind, UnseenLabels,
};
pub use curate::{CorpusCounts, CurateError, Curated, SourceCounts, curate};
pub use dedup::{Deduped, dedup};
pub use files::{FileError, content_digest};
pub use near::{NearDeduped, RefusedPair, Similarity, near_dedup};
pub use noise::{Doubt, LabelNoise, Suspect, label_noise};
pub use overlap::{HeldOutSet, Overlap, OverlapCounts, remove_overlap};
pub use pii::{Pii, PiiCounts, PiiKind, find_pii, mask_pii, remove_pii};
pub use read::{ReadError, RejectSummary, Source, read_source};
pub use reject::{DropReason, Dropped, Reject, RejectReason};
pub use review::{
    Correction, ReviewError, Settled, Verdict, read_verdicts, settle, write_corrections, write_disputed,
    write_label_studio, write_review_table,
};
pub use split::{HeldOut, folds, hold_out};
pub use store::{StoreError, read_documents, write_documents, write_quarantine};
pub use subset::subset;
pub use task::{Task, TaskError, UnseenLabel, read_task, word_id};
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
