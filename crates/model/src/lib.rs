//! One transformer with switches, its heads, and weight files in the Hugging Face layout.
//!
//! What sets families of models apart (ModernBERT, BERT, RoBERTa, Llama, Qwen2, Qwen3) is data in `families.rs`: switches,
//! settings, names of weights. Heads are for language modelling, sequence classification, token classification and
//! classification from marked positions.

mod adapter;
mod adapter_files;
mod adapter_merge;
#[cfg(test)]
mod adapter_tests;
mod batch;
mod build;
mod config;
mod families;
mod head;
mod reading;
mod settings;
#[cfg(test)]
mod tests;
mod transformer;
mod weights;

pub use adapter::{AdapterConfig, AdapterError, BitfitConfig, BottleneckConfig, Ia3Config, LoraConfig, SparseConfig};
pub use adapter_files::{AdapterFacts, AdapterFileError, adapter_facts, has_adapter, load_adapter, save_adapter};
pub use adapter_merge::{Merge, merge_adapters};
pub use batch::Batch;
pub use config::{Architecture, Local, ModelConfig, Pooling, Positions, Size};
pub use families::{Family, Place, Style};
pub use head::Head;
pub use reading::Reading;
pub use settings::SettingsError;
pub use transformer::{Dropout, Model, Pass};
pub use weights::{Base, WeightsError, architecture_of, load, load_base, save, weight_files};
