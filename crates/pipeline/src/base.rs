//! A model to go on from: a folder in the Hugging Face layout that `[model] from` names.

use std::error::Error;
use std::path::{Path, PathBuf};

use anyhow::Result;
use arable_core::{Digest, Hint, Seed};
use arable_model::{Architecture, Family, Head, Model, architecture_of, load_base, weight_files};
use arable_tokenize::Vocabulary;
use fs_err as fs;

use crate::advice::Advise;

/// A folder that a run cannot go on from.
#[derive(Debug, thiserror::Error)]
#[error("go on from the model in `{}`", folder.display())]
pub struct BadBase {
    folder: PathBuf,
    source: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Hint for BadBase {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// More tokens than the model has rows.
#[derive(Debug, thiserror::Error)]
#[error("use a vocabulary of {num_tokens} tokens with a model of {num_rows}")]
struct TooManyTokens {
    num_tokens: usize,
    num_rows: usize,
}

impl Hint for TooManyTokens {
    fn hint(&self) -> Option<String> {
        Some("`config.json` and the vocabulary must come from the same model".to_owned())
    }
}

fn bad<E: Error + Hint + Send + Sync + 'static>(folder: &Path) -> impl FnOnce(E) -> BadBase {
    let folder = folder.to_owned();
    move |error| BadBase { folder, hint: error.hint(), source: Box::new(error) }
}

/// Files of a folder beside the weights that a run depends on, where they exist.
const FILES: [&str; 5] =
    ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"];

/// A model to go on from.
#[derive(Clone, Debug)]
pub struct Base {
    folder: PathBuf,
    /// What is in its files: a part of the identity of all that grows from it.
    pub digest: Digest,
    /// Its shape.
    pub architecture: Architecture,
}

impl Base {
    /// Looks into a folder; the weights are read later.
    ///
    /// # Errors
    /// When a file is missing or describes what there is no code for.
    pub fn open(folder: &Path) -> Result<Self> {
        let architecture = architecture_of(folder).map_err(bad(folder)).advise()?;
        let kept = FILES.map(|name| folder.join(name)).into_iter().filter(|path| path.exists());
        let digests = kept.chain(weight_files(folder).map_err(bad(folder)).advise()?).map(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            Ok((name, Digest::of(&fs::read(&path)?)))
        });
        let digests: Vec<(Option<String>, Digest)> = digests.collect::<Result<_>>()?;
        Ok(Self { folder: folder.to_owned(), digest: Digest::of_json(&digests), architecture })
    }

    /// What the family is called.
    pub fn family(&self) -> Family {
        self.architecture.family
    }

    /// Its vocabulary, as it is in the folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        let vocabulary = Vocabulary::load(&self.folder).map_err(bad(&self.folder)).advise()?;
        let (num_tokens, num_rows) = (vocabulary.size(), self.architecture.vocab_size);
        if num_tokens > num_rows {
            return Err(TooManyTokens { num_tokens, num_rows }).map_err(bad(&self.folder)).advise();
        }
        Ok(vocabulary)
    }

    /// Its model with a head over the tokens of `words`, which are those of the folder and perhaps more; each of the others
    /// begins as the mean of the tokens that stood for it. A head that is not in the folder is drawn from `seed` and begins at
    /// the frequencies of the tokens that `counts` gives.
    ///
    /// # Errors
    /// When the weights or the vocabulary cannot be read.
    pub fn model(&self, words: &Vocabulary, counts: impl FnOnce() -> Result<Vec<u64>>, seed: Seed) -> Result<Model> {
        let arable_model::Base { model, has_head } =
            load_base(&self.folder, seed).map_err(bad(&self.folder)).advise()?;
        let known = self.vocabulary()?;
        let new: Vec<Vec<u32>> = (known.size()..words.size()).map(|id| known.pieces(words, id as u32)).collect();
        let mut model = model.with_tokens(known.size(), &new);
        if !has_head && model.head() == Head::MaskedLm {
            model.set_prior(&counts()?);
        }
        Ok(model)
    }
}
