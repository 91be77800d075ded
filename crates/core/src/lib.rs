//! The nouns that three or more rooms share. No I/O, no clock, no threads.

mod count;
mod digest;
mod document;
mod example;
mod hint;
mod range;
mod seed;

pub use count::Count;
pub use digest::{Digest, DigestParseError, Digester};
pub use document::{Document, DocumentId};
pub use example::{Example, Input, LabelSet, Target};
pub use hint::Hint;
pub use range::{Fraction, OutOfRange, Probability};
pub use seed::{Draws, Seed, Stream};
