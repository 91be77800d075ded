//! Architectures, heads, and weight files in the Hugging Face layout.
//!
//! One architecture so far: ModernBERT (Warner et al. 2024), with heads for masked language modelling, sequence
//! classification, token classification and classification from marked positions.

mod config;
mod modernbert;
#[cfg(test)]
mod tests;
mod weights;

pub use config::{Architecture, ModelConfig, Pooling, Size};
pub use modernbert::{Batch, Dropout, Head, Model, Pass};
pub use weights::{WeightsError, load, save};
