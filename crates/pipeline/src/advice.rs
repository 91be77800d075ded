//! Carries an error's [`Hint`] through `anyhow` to the one place that prints it.
//!
//! `anyhow` erases types and cannot ask an error for a trait. So the hint is taken while the type is still known:
//! `load(path, &sets).advise()?`. The error itself shows and unwinds as before; [`hint`] and [`find`] look through the
//! wrapper.

use std::error::Error;
use std::fmt;

use arable_core::Hint;

/// An error with the hint that its type gave. Displays and has causes as the error itself.
#[derive(Debug)]
pub struct Advised {
    error: Box<dyn Error + Send + Sync>,
    hint: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Advised {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Turns results with typed errors into `anyhow`'s without losing the hint.
pub trait Advise<T> {
    /// Erases the type of the error and keeps its hint.
    ///
    /// # Errors
    /// The same error, with its hint where it owns one.
    fn advise(self) -> anyhow::Result<T>;
}

impl<T, E: Error + Hint + Send + Sync + 'static> Advise<T> for Result<T, E> {
    fn advise(self) -> anyhow::Result<T> {
        self.map_err(|error| match error.hint() {
            Some(hint) => with_hint(error, hint),
            None => anyhow::Error::new(error),
        })
    }
}

/// An error, or a message, with a hint of the caller's own.
pub fn with_hint(error: impl Into<Box<dyn Error + Send + Sync>>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised { error: error.into(), hint: hint.into() })
}

/// The hint of the outermost error that owns one.
pub fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Advised>()).map(|advised| advised.hint.as_str())
}

/// The outermost error of type `E`, advised or not: for exit codes.
pub fn find<E: Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|cause| match cause.downcast_ref::<Advised>() {
        Some(advised) => advised.error.downcast_ref(),
        None => cause.downcast_ref(),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Broken {
        #[error("read the shard")]
        Shard(#[source] fmt::Error),
        #[error("open the store")]
        Store,
    }

    impl Hint for Broken {
        fn hint(&self) -> Option<String> {
            matches!(self, Self::Shard(_)).then(|| "run `arable run` again".to_owned())
        }
    }

    fn fail(broken: Broken) -> anyhow::Error {
        Err::<(), _>(broken).advise().context("pretrain").expect_err("it is an error")
    }

    #[test]
    fn hints_pass_through_context_and_leave_the_chain_as_it_was() {
        let error = fail(Broken::Shard(fmt::Error));
        assert_eq!(hint(&error), Some("run `arable run` again"));
        assert!(matches!(find::<Broken>(&error), Some(Broken::Shard(_))));
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        assert_eq!(chain, ["pretrain", "read the shard", &fmt::Error.to_string()]);
    }

    #[test]
    fn errors_without_a_hint_have_none() {
        let error = fail(Broken::Store);
        assert_eq!(hint(&error), None);
        assert!(matches!(find::<Broken>(&error), Some(Broken::Store)));
        assert!(find::<fmt::Error>(&error).is_none());
    }

    #[test]
    fn the_outermost_hint_wins() {
        let inner = with_hint("find the run", "list them with `arable runs`");
        assert_eq!(hint(&inner), Some("list them with `arable runs`"));
        assert_eq!(hint(&with_hint(inner, "create one")), Some("create one"));
    }
}
