//! Configuration, stages, gates, observers and the report: the only room that calls rooms.

pub mod adapters;
pub mod advice;
pub mod audit;
mod base;
pub mod bench;
pub mod buckets;
pub mod config;
pub mod data;
pub mod domain;
pub mod estimate;
pub mod labels;
pub mod notice;
mod parallel;
pub mod plan;
pub mod report;
pub mod results;
pub mod rollback;
pub mod run;
pub mod shifts;
mod stages;
mod starting_point;
pub mod tensorboard;
pub mod versions;

pub use arable_corpus::{PDF_COMMAND, read_pdf};
pub use arable_tensor::{Device, Precision};
pub use stages::gate::GateFailed;

/// Whether a vocabulary lacks what was asked of it.
fn is_no_token(error: &anyhow::Error) -> bool {
    let found = advice::find::<arable_tokenize::VocabularyError>(error);
    found.is_some_and(|error| matches!(error, arable_tokenize::VocabularyError::NoToken { .. }))
}

/// Whether an error says that the input or the configuration is wrong, rather than the program or the machine.
pub fn is_input_error(error: &anyhow::Error) -> bool {
    fn is<E: std::error::Error + 'static>(error: &anyhow::Error) -> bool {
        advice::find::<E>(error).is_some()
    }
    is::<config::ConfigError>(error)
        || is::<base::BadBase>(error)
        || is::<adapters::BadMerge>(error)
        || is::<arable_model::AdapterError>(error)
        || is::<arable_model::AdapterFileError>(error)
        || is::<bench::BadShape>(error)
        || is::<buckets::BucketError>(error)
        || advice::find::<arable_corpus::CurateError>(error).is_some_and(|error| !error.is_fault())
        || is::<arable_corpus::DecideError>(error)
        || is::<arable_corpus::ScorersError>(error)
        || is::<data::NothingToTry>(error)
        || is::<data::NothingExpected>(error)
        || is::<arable_corpus::ReadError>(error)
        || is::<arable_corpus::FileError>(error)
        || advice::find::<arable_corpus::TaskError>(error).is_some_and(|error| !error.is_fault())
        || is::<arable_corpus::ReviewError>(error)
        || is::<labels::LabelsError>(error)
        || is::<versions::VersionError>(error)
        || is::<rollback::RollbackError>(error)
        || is::<audit::NoReplay>(error)
        || is::<shifts::ProfileError>(error)
        || is::<arable_corpus::ShiftError>(error)
        || is::<arable_tokenize::ExtendError>(error)
        || is_no_token(error)
        || is::<stages::aids::NoPairs>(error)
        || is::<arable_tokenize::TrainError>(error)
        || is::<arable_train::TrainError>(error)
        || is::<arable_tensor::DeviceError>(error)
}
