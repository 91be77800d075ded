//! Hazardous and abusive words: how many a text holds, by kind.
//!
//! A count is a flag, never a verdict. A hospital's notes speak of suicide, a court's of murder, a museum's of war, and
//! rightly so; and a text can be vile without any word of a list. Look at samples (`arable data rules`) before a count
//! decides, and prefer counts for each word (`num_abuse_terms > 0.01 * num_words`) for long texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arable_core::Hint;
use fs_err as fs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attributes::Attributes;
use crate::words::{HashedMap, normalize, word_hashes};

/// A kind of hazardous text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HazardKind {
    /// Insults and slurs.
    Abuse,
    /// Sexually explicit words.
    Sexual,
    /// Harming oneself.
    SelfHarm,
    /// Killing and hurting.
    Violence,
    /// Weapons and explosives.
    Weapon,
    /// What is on no built-in list.
    Own,
}

impl HazardKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [Self::Abuse, Self::Sexual, Self::SelfHarm, Self::Violence, Self::Weapon, Self::Own];

    /// The name used in configurations and lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abuse => "abuse",
            Self::Sexual => "sexual",
            Self::SelfHarm => "self_harm",
            Self::Violence => "violence",
            Self::Weapon => "weapon",
            Self::Own => "own",
        }
    }
}

/// Words and phrases to look for beside the built-in ones.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HazardConfig {
    /// Words and phrases by kind: `own`, or a built-in kind to add to.
    pub terms: BTreeMap<HazardKind, Vec<String>>,
    /// A text file of more of them, one on each line below a line such as `[own]`; relative to the data root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// Terms that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HazardError {
    /// The file cannot be read.
    #[error("read the terms in `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line of the file that belongs to no kind.
    #[error("use line {line} of `{file}`: `{text}` {problem}")]
    Line {
        /// The file.
        file: String,
        /// The number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A term without a word.
    #[error("look for `{term}`: it holds no letter and no digit")]
    NoWord {
        /// The term.
        term: String,
    },
}

impl Hint for HazardError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { .. } => "check `file` in [corpus.hazard]; it begins at the data root".to_owned(),
            Self::Line { .. } => {
                let names = HazardKind::ALL.map(|kind| format!("[{}]", kind.name()));
                format!("write terms below a line that is one of {}", names.join(", "))
            }
            Self::NoWord { .. } => "write words or phrases; punctuation does not count".to_owned(),
        })
    }
}

const BUILT_IN: &str = include_str!("hazard.txt");

/// Terms to look for, by the hash of their first word: kinds and the hashes of the other words.
#[derive(Clone, Debug)]
pub(crate) struct Hazard {
    by_first: HashedMap<Vec<(HazardKind, Vec<u64>)>>,
    counts_own: bool,
}

impl Default for Hazard {
    /// The built-in terms.
    fn default() -> Self {
        let mut hazard = Self { by_first: HashedMap::default(), counts_own: false };
        hazard.add_lines("hazard.txt", BUILT_IN).expect("the built-in list is sound");
        hazard
    }
}

impl Hazard {
    /// The built-in terms and those of `config`, whose file is relative to `root`.
    pub(crate) fn new(config: Option<&HazardConfig>, root: &Path) -> Result<Self, HazardError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let mut hazard = Self { counts_own: true, ..Self::default() };
        for (kind, terms) in &config.terms {
            terms.iter().try_for_each(|term| hazard.add(*kind, term))?;
        }
        if let Some(file) = &config.file {
            let path = root.join(file);
            let text = fs::read_to_string(&path).map_err(|source| HazardError::Read { path, source })?;
            hazard.add_lines(file, &text)?;
        }
        Ok(hazard)
    }

    /// Adds a term for each line below the name of its kind.
    fn add_lines(&mut self, file: &str, text: &str) -> Result<(), HazardError> {
        let mut kind = None;
        let lines = text.lines().map(str::trim).enumerate();
        for (idx, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let wrong =
                |problem| HazardError::Line { file: file.to_owned(), line: idx + 1, text: line.to_owned(), problem };
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                let known = HazardKind::ALL.into_iter().find(|kind| kind.name() == name);
                kind = Some(known.ok_or_else(|| wrong("is no kind"))?);
            } else {
                self.add(kind.ok_or_else(|| wrong("stands below no kind"))?, line)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, kind: HazardKind, term: &str) -> Result<(), HazardError> {
        let words = word_hashes(&normalize(term));
        let (first, rest) = words.split_first().ok_or_else(|| HazardError::NoWord { term: term.to_owned() })?;
        let terms = self.by_first.entry(*first).or_default();
        if !terms.iter().any(|(known, words)| *known == kind && words == rest) {
            terms.push((kind, rest.to_vec()));
        }
        Ok(())
    }

    /// Counts terms in a text, given as the hashes of its words. Of the terms of a kind that begin at a word, one counts.
    pub(crate) fn score(&self, attributes: &mut Attributes, words: &[u64]) {
        let mut counts = [0_usize; HazardKind::ALL.len()];
        for (at, word) in words.iter().enumerate() {
            let Some(terms) = self.by_first.get(word) else { continue };
            let mut found = [false; HazardKind::ALL.len()];
            let here = terms.iter().filter(|(_, rest)| words[at + 1..].starts_with(rest));
            here.for_each(|(kind, _)| found[*kind as usize] = true);
            counts.iter_mut().zip(found).for_each(|(count, found)| *count += usize::from(found));
        }
        let [abuse, sexual, self_harm, violence, weapon, own] = counts.map(|count| count as f64);
        attributes.num_hazard_terms = abuse + sexual + self_harm + violence + weapon;
        attributes.num_abuse_terms = abuse;
        attributes.num_sexual_terms = sexual;
        attributes.num_self_harm_terms = self_harm;
        attributes.num_violence_terms = violence;
        attributes.num_weapon_terms = weapon;
        attributes.num_own_terms = self.counts_own.then_some(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::root_with;

    fn counted(hazard: &Hazard, text: &str) -> Attributes {
        let mut attributes = Attributes::default();
        hazard.score(&mut attributes, &word_hashes(&normalize(text)));
        attributes
    }

    #[test]
    fn whole_words_count_however_they_are_written() {
        let hazard = Hazard::default();
        let found =
            counted(&hazard, "An AK-47, an “ak 47”; SELF\n harm, self-harm. The rapeseed and a bombshell of Pistoia.");
        assert_eq!((found.num_weapon_terms, found.num_self_harm_terms, found.num_violence_terms), (2.0, 2.0, 0.0));
        assert_eq!((found.num_hazard_terms, found.num_own_terms), (4.0, None));
        // A phrase within a phrase counts once for each kind.
        let found = counted(&hazard, "the suicide bomber");
        assert_eq!((found.num_self_harm_terms, found.num_weapon_terms, found.num_hazard_terms), (1.0, 1.0, 2.0));
        assert_eq!(counted(&hazard, "").num_hazard_terms, 0.0);
    }

    #[test]
    fn own_terms_are_counted_beside() {
        let root = root_with(&[("terms.txt", "# ours\n[own]\nProject X-17\n\n[weapon]\ntrebuchet\n")]);
        let terms = [(HazardKind::Own, vec!["gigawatt".to_owned(), "GIGAWATT".to_owned()])].into();
        let config = HazardConfig { terms, file: Some("terms.txt".into()) };
        let hazard = Hazard::new(Some(&config), root.path()).unwrap();
        let found = counted(&hazard, "One gigawatt for project x17, project X 17 and the trebuchet.");
        assert_eq!((found.num_own_terms, found.num_weapon_terms, found.num_hazard_terms), (Some(2.0), 1.0, 1.0));
    }

    #[test]
    fn bad_lists_are_errors_with_a_hint() {
        let check = |text: &str, message: &str, hint: &str| {
            let root = root_with(&[("terms.txt", text)]);
            let config = HazardConfig { file: Some("terms.txt".into()), ..HazardConfig::default() };
            let error = Hazard::new(Some(&config), root.path()).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        };
        check("sword\n", "line 1 of `terms.txt`: `sword` stands below no kind", "[self_harm]");
        check("# x\n[wepon]\n", "line 2 of `terms.txt`: `[wepon]` is no kind", "[weapon]");
        check("[own]\n?!\n", "look for `?!`", "write words");
        let config = HazardConfig { file: Some("none.txt".into()), ..HazardConfig::default() };
        let error = Hazard::new(Some(&config), Path::new("/nowhere")).unwrap_err();
        assert!(error.hint().unwrap().contains("[corpus.hazard]"), "{error}");
    }

    #[test]
    fn the_built_in_list_is_in_order() {
        let mut before = ("", "");
        let mut kind = "";
        for line in BUILT_IN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') {
                kind = line;
            } else {
                assert_eq!(line, normalize(line), "a line is normalised");
                assert!(before < (kind, line) || before.0 != kind, "{line} stands twice or not in order");
                before = (kind, line);
            }
        }
    }
}
