//! Advice that an error owns.

/// An error that knows what its reader can do about it. Only `cli` prints hints.
pub trait Hint {
    /// One or two sentences in the imperative, without a full stop at the end of a single sentence.
    fn hint(&self) -> Option<String>;
}
