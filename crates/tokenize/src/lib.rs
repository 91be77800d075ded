//! Train a vocabulary on the domain's own text, encode text with it, pack the tokens into shards.
//!
//! Everything that counts about a vocabulary is in its `tokenizer.json`, which `transformers` loads as it is. Text never
//! becomes a special token by itself: only whoever builds a sequence places `[CLS]`, and only
//! [`Vocabulary::encode_marked`] looks for the markers of a task. There is no padding and no truncation here.

mod extend;
mod foreign;
mod shards;
mod train;
mod vocabulary;

pub use extend::{ExtendConfig, ExtendError, Extended, extend};
pub use shards::{OFFSETS, ShardError, ShardFacts, Shards, TOKENS, pack, starts_word, token_id};
pub use train::{TokenizerConfig, TrainError, train};
pub use vocabulary::{Encoded, Frame, Role, Vocabulary, VocabularyError, fertility};
