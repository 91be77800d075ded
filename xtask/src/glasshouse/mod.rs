//! Writes `domains/glasshouse/data` from the domain's ontology, rules and grammar.
//!
//! A scene (crop, stage, climate, cause, signs, decision) is drawn so that the rules hold; a grower with habits of his own
//! then writes it down. The same sources always give the same bytes.

mod diary;
mod grammar;
mod ontology;
mod rules;
mod sets;
mod words;
mod world;

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use fs_err as fs;

use grammar::Grammar;
use ontology::Ontology;
use rules::Rules;
use sets::DataFile;

/// What the domain's people wrote by hand.
pub struct Sources {
    ontology: Ontology,
    rules: Rules,
    grammar: Grammar,
}

impl Sources {
    /// Reads the three files from the domain's folder.
    ///
    /// # Errors
    /// When a file is missing or malformed, or when names in it are unknown.
    pub fn read(domain: &Path) -> Result<Self> {
        let ontology = Ontology::parse(&fs::read_to_string(domain.join("ontology.obo"))?).context("in ontology.obo")?;
        let rules =
            Rules::parse(&fs::read_to_string(domain.join("rules.toml"))?, &ontology).context("in rules.toml")?;
        let grammar =
            Grammar::parse(&fs::read_to_string(domain.join("grammar.toml"))?, &ontology).context("in grammar.toml")?;
        Ok(Self { ontology, rules, grammar })
    }

    /// Whether `text` holds a name of a cause as whole words, in any case.
    fn names_a_cause(&self, text: &str) -> bool {
        let text = spaced_words(text);
        let terms = self.rules.cause.iter().map(|cause| self.ontology.term(&cause.name).expect("checked on reading"));
        terms.flat_map(|term| &term.forms).any(|form| text.contains(&spaced_words(form)))
    }
}

/// The words of `text` in lower case, each with a space on both sides.
fn spaced_words(text: &str) -> String {
    let words: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    format!(" {} ", words.join(" "))
}

/// Writes the domain's data below `domain`.
///
/// # Errors
/// When the sources are wrong or a file cannot be written.
pub fn write(domain: &Path) -> Result<()> {
    for file in sets::generate(&Sources::read(domain)?)? {
        let path = domain.join(&file.path);
        fs::create_dir_all(path.parent().context("data files lie in a folder")?)?;
        let bytes = packed(&file)?;
        fs::write(&path, &bytes)?;
        eprintln!("wrote {} ({} words, {} bytes)", file.path, file.text.split_whitespace().count(), bytes.len());
    }
    Ok(())
}

fn packed(file: &DataFile) -> Result<Vec<u8>> {
    if !file.path.ends_with(".gz") {
        return Ok(file.text.clone().into_bytes());
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(file.text.as_bytes())?;
    Ok(encoder.finish()?)
}

/// The paths of data files that differ from what the sources give.
///
/// # Errors
/// When the sources are wrong or a file cannot be read.
pub fn stale(domain: &Path) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for file in sets::generate(&Sources::read(domain)?)? {
        if unpacked(&domain.join(&file.path))? != file.text {
            stale.push(file.path);
        }
    }
    Ok(stale)
}

fn unpacked(path: &Path) -> Result<String> {
    let mut text = String::new();
    match path.extension().is_some_and(|extension| extension == "gz") {
        true => GzDecoder::new(fs::File::open(path)?).read_to_string(&mut text)?,
        false => fs::File::open(path)?.read_to_string(&mut text)?,
    };
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn sources() -> Sources {
        Sources::read(&crate::domain()).unwrap()
    }

    #[test]
    fn committed_data_is_what_the_sources_give() {
        assert_eq!(stale(&crate::domain()).unwrap(), Vec::<String>::new(), "run `cargo xtask glasshouse`");
    }

    #[test]
    fn every_sign_has_words() {
        let sources = sources();
        for cause in &sources.rules.cause {
            for sign in cause.signs.keys() {
                assert!(sources.grammar.sign.contains_key(sign), "no phrases for `{sign}`");
            }
        }
    }

    #[test]
    fn names_are_found_as_whole_words() {
        let sources = sources();
        assert!(sources.names_a_cause("again Grey mould, sadly"));
        assert!(!sources.names_a_cause("greyish moulded plastic"));
    }
}
