//! `grammar.toml` and its expansion into marked text.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use arable_core::{Draws, Seed};
use serde::Deserialize;

use super::ontology::{Label, Ontology};
use super::world::weighted;

/// The character that opens a mention of `Label::ALL[0]`; the next ones open the other labels.
const OPEN: u32 = 0xE000;
/// The character that closes a mention.
pub const CLOSE: char = '\u{E00F}';
/// How likely a grower falls back on a habit.
const HABIT: f64 = 0.4;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grammar {
    /// Alternatives by list name.
    pub list: BTreeMap<String, Vec<String>>,
    /// Phrases by symptom.
    pub sign: BTreeMap<String, Vec<String>>,
    /// Sentences by purpose.
    pub sentence: BTreeMap<String, Vec<String>>,
    /// What some growers write for a word.
    pub abbreviation: BTreeMap<String, String>,
}

/// What a slot stands for inside one text.
#[derive(Clone, Debug)]
pub enum Bound {
    /// This very text.
    Text(String),
    /// Any form of the term with this name.
    Term(String),
}

/// Which forms of a term may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forms {
    All,
    /// All but each third form, so that a tagger meets unseen forms at test time.
    WithoutHeldOut,
}

/// Expands templates for one text.
pub struct Expander<'a> {
    pub grammar: &'a Grammar,
    pub ontology: &'a Ontology,
    pub bound: BTreeMap<&'static str, Bound>,
    pub draws: Draws,
    /// Who writes: habits are drawn from this seed.
    pub grower: Seed,
    pub forms: Forms,
}

/// The character that opens a mention with `label`.
pub fn open(label: Label) -> char {
    let idx = Label::ALL.iter().position(|known| *known == label).expect("every label is listed");
    char::from_u32(OPEN + idx as u32).expect("private use")
}

/// The label that `c` opens, if it opens one.
pub fn opened(c: char) -> Option<Label> {
    Label::ALL.into_iter().find(|label| open(*label) == c)
}

impl Expander<'_> {
    /// A sentence of the kind `kind`, with marks.
    ///
    /// # Errors
    /// When the grammar lacks the kind or a template names something unknown.
    pub fn sentence(&mut self, kind: &str) -> Result<String> {
        let grammar = self.grammar;
        let templates = grammar.sentence.get(kind).with_context(|| format!("grammar has no sentence `{kind}`"))?;
        let idx = self.pick(kind, templates.len());
        self.expand(&templates[idx]).with_context(|| format!("in sentence `{kind}`"))
    }

    /// A phrase for the symptom `sign`, with marks.
    ///
    /// # Errors
    /// As for [`Self::sentence`].
    pub fn sign(&mut self, sign: &str) -> Result<String> {
        let grammar = self.grammar;
        let templates = grammar.sign.get(sign).with_context(|| format!("grammar has no sign `{sign}`"))?;
        let idx = self.pick(sign, templates.len());
        self.expand(&templates[idx]).with_context(|| format!("in sign `{sign}`"))
    }

    fn expand(&mut self, template: &str) -> Result<String> {
        let mut out = String::new();
        let mut rest = template;
        while let Some(start) = rest.find(['{', '[', ']']) {
            out.push_str(&rest[..start]);
            match rest.as_bytes()[start] {
                b'{' => {
                    let end = closing(rest, start)?;
                    out.push_str(&self.slot(&rest[start + 1..end])?);
                    rest = &rest[end + 1..];
                    continue;
                }
                b'[' => out.push(open(Label::Symptom)),
                _ => out.push(CLOSE),
            }
            rest = &rest[start + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn slot(&mut self, slot: &str) -> Result<String> {
        let alternatives = split_alternatives(slot);
        if alternatives.len() > 1 {
            let idx = self.pick(slot, alternatives.len());
            return self.expand(alternatives[idx]);
        }
        if let Some(term) = slot.strip_prefix('@') {
            return self.mention(term);
        }
        match self.bound.get(slot).cloned() {
            Some(Bound::Text(text)) => return Ok(text),
            Some(Bound::Term(term)) => return self.mention(&term),
            None => {}
        }
        // `{{a|b} c|d}` nests one choice in another; a single alternative with braces is a template of its own.
        if slot.contains('{') {
            return self.expand(slot);
        }
        if let Some(number) = self.number(slot) {
            return Ok(number);
        }
        let grammar = self.grammar;
        let Some(list) = grammar.list.get(slot) else { bail!("unknown slot `{slot}`") };
        let idx = self.pick(slot, list.len());
        self.expand(&list[idx])
    }

    /// A form of `term`, marked where its class is tagged.
    fn mention(&mut self, name: &str) -> Result<String> {
        let ontology = self.ontology;
        let term = ontology.term(name)?;
        let children = ontology.children(name);
        let label = ontology.label(term);
        let forms = if label.is_none() && !children.is_empty() && self.draws.uniform() < 0.25 {
            &ontology.term(&children[self.draws.below(children.len())])?.forms
        } else {
            &term.forms
        };
        let forms: Vec<&String> =
            forms.iter().enumerate().filter(|(idx, _)| self.may_write(*idx, label)).map(|(_, form)| form).collect();
        let form = forms[self.pick_form(name, forms.len())];
        Ok(match label {
            Some(label) => format!("{}{form}{CLOSE}", open(label)),
            None => form.clone(),
        })
    }

    fn may_write(&self, form_idx: usize, label: Option<Label>) -> bool {
        self.forms == Forms::All || label.is_none() || !is_held_out(form_idx)
    }

    /// An index below `len`: the grower's habit for `what`, or any.
    fn pick(&mut self, what: &str, len: usize) -> usize {
        if self.draws.uniform() < HABIT { self.grower.stream(what).at(0, 0).below(len) } else { self.draws.below(len) }
    }

    /// As [`Self::pick`], but the k-th form counts `1 / k`: as everywhere, a few names are common and many are rare.
    fn pick_form(&mut self, name: &str, len: usize) -> usize {
        let weights = (0..len).map(|idx| (idx, 1.0 / (idx + 1) as f64));
        match self.draws.uniform() < HABIT {
            true => weighted(weights, &mut self.grower.stream(name).at(0, 0)),
            false => weighted(weights, &mut self.draws),
        }
    }

    fn number(&mut self, slot: &str) -> Option<String> {
        let draws = &mut self.draws;
        Some(match slot {
            "n" => (2 + draws.below(11)).to_string(),
            "nth" => ["2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th"][draws.below(8)].to_owned(),
            "pct" => (5 * (1 + draws.below(12))).to_string(),
            "ec" => format!("{:.1}", 1.8 + 0.1 * draws.below(24) as f64),
            "litres" => format!("{:.1}", 1.0 + 0.1 * draws.below(50) as f64),
            "hour" => format!("{:02}:{:02}", 5 + draws.below(16), 15 * draws.below(4)),
            "boxes" => (10 * (3 + draws.below(60))).to_string(),
            "pipe" => (35 + draws.below(30)).to_string(),
            _ => return None,
        })
    }
}

/// Whether the form at this place of a term's list is kept out of the tagging task's training sentences.
pub fn is_held_out(form_idx: usize) -> bool {
    form_idx % 3 == 2
}

/// The byte of the brace that closes the one at byte `start`.
fn closing(template: &str, start: usize) -> Result<usize> {
    let mut depth = 0usize;
    for (idx, byte) in template.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return Ok(idx);
        }
    }
    bail!("brace never closed in `{template}`")
}

/// The parts of `slot` between bars that stand outside braces.
fn split_alternatives(slot: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (idx, byte) in slot.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b'|' if depth == 0 => {
                parts.push(&slot[start..idx]);
                start = idx + 1;
            }
            _ => {}
        }
    }
    parts.push(&slot[start..]);
    parts
}

impl Grammar {
    /// Reads TOML text and checks that its signs are symptoms.
    ///
    /// # Errors
    /// When the text is malformed, a list is empty or a sign is not a symptom of the ontology.
    pub fn parse(text: &str, ontology: &Ontology) -> Result<Self> {
        let grammar: Self = toml::from_str(text)?;
        for sign in grammar.sign.keys() {
            ensure!(ontology.is_a(ontology.term(sign)?, "symptom"), "`{sign}` is not a symptom");
        }
        for (name, alternatives) in grammar.list.iter().chain(&grammar.sign).chain(&grammar.sentence) {
            ensure!(!alternatives.is_empty(), "list `{name}` is empty");
        }
        Ok(grammar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_braces_nest() {
        assert_eq!(split_alternatives("a|{b|c} d|"), ["a", "{b|c} d", ""]);
        assert_eq!(closing("x {a {b} c} d", 2).unwrap(), 10);
        assert!(closing("{a", 0).is_err());
    }
}
