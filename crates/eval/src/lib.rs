//! Metrics with intervals, calibration, convergence and baselines.
//!
//! Everything here is a plain function over [`Predictions`]: logits with gold labels, whatever arm they come from. So
//! every arm is decoded, calibrated and scored by the same code. Nothing here knows a model, reads a file or prints.
//!
//! The way of one cell: [`calibrate`] on the development set, [`measure`] and [`Scored`] on the test set. The way of
//! a comparison: [`interval`] and [`paired_difference`] over the `Scored` of several seeds, [`convergence`] over their
//! development curves.

mod agreement;
mod baseline;
mod binary;
mod bootstrap;
mod by_class;
mod calibration;
mod convergence;
mod iob;
mod linear_probe;
mod logistic;
mod metrics;
mod predictions;
mod scored;
mod sparse;
mod tagger;
mod tfidf;

pub use agreement::{Agreement, Ratings};
pub use baseline::{BaselineConfig, BaselineError, BaselineRun, fit_baseline};
pub use binary::{BinaryMetrics, binary};
pub use bootstrap::{BootstrapError, Interval, interval, paired_difference};
pub use by_class::{ClassScore, by_class};
pub use calibration::{
    Calibration, NUM_BINS, ReliabilityBin, calibrate, expected_calibration_error, fit_temperature, fit_threshold,
    reliability,
};
pub use convergence::{Convergence, Curve, SeedConvergence, convergence, seed_convergence};
pub use iob::{Span, decode_tags, spans};
pub use linear_probe::linear_probe;
pub use logistic::{Fit, LinearModel, Problem, SolverConfig, Targets};
pub use metrics::{Measured, brier, measure, metrics, nll};
pub use predictions::{
    ClassPredictions, MultilabelPredictions, Predictions, PredictionsError, TagSentence, TaggingPredictions,
};
pub use scored::{HeadlineMetric, MetricError, Scored};
pub use sparse::Rows;
pub use tagger::TagFeatures;
pub use tfidf::{Vectorizer, VectorizerConfig};
