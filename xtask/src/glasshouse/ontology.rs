//! Reads the part of OBO 1.4 that `ontology.obo` uses: terms with names, synonyms, `is_a` and `part_of`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// What the tagging task calls a mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Pest,
    Disease,
    Organ,
    Treatment,
    Symptom,
}

impl Label {
    /// All labels, in the order of their marks.
    pub const ALL: [Self; 5] = [Self::Pest, Self::Disease, Self::Organ, Self::Treatment, Self::Symptom];

    /// The name in tags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pest => "PEST",
            Self::Disease => "DISEASE",
            Self::Organ => "ORGAN",
            Self::Treatment => "TREATMENT",
            Self::Symptom => "SYMPTOM",
        }
    }

    fn of_root(root: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.name().eq_ignore_ascii_case(root))
    }
}

/// One term with its surface forms.
#[derive(Clone, Debug, Default)]
pub struct Term {
    /// The identifier, such as `GH:3001`.
    pub id: String,
    /// The name, then the synonyms in the order of the file.
    pub forms: Vec<String>,
    /// Identifiers of the direct `is_a` parents.
    pub parents: Vec<String>,
    /// Identifiers of the wholes that it is a direct part of.
    pub part_of: Vec<String>,
}

impl Term {
    /// The preferred name.
    pub fn name(&self) -> &str {
        &self.forms[0]
    }
}

/// Terms by name.
#[derive(Debug)]
pub struct Ontology {
    terms: BTreeMap<String, Term>,
    names: BTreeMap<String, String>,
    /// Names of direct subclasses by name, in alphabetical order.
    children: BTreeMap<String, Vec<String>>,
}

impl Ontology {
    /// Reads OBO text.
    ///
    /// # Errors
    /// When a term lacks a name, two terms share a name, or a relation points nowhere.
    pub fn parse(text: &str) -> Result<Self> {
        let (mut terms, mut names) = (BTreeMap::new(), BTreeMap::new());
        for stanza in text.split("\n\n").filter(|stanza| stanza.trim_start().starts_with("[Term]")) {
            let term = parse_term(stanza)?;
            ensure!(
                names.insert(term.id.clone(), term.name().to_owned()).is_none(),
                "identifier {} used twice",
                term.id
            );
            let (name, id) = (term.name().to_owned(), term.id.clone());
            ensure!(terms.insert(name, term).is_none(), "name of {id} used twice");
        }
        let mut ontology = Self { terms, names, children: BTreeMap::new() };
        ontology.check_relations()?;
        for term in ontology.terms.values() {
            for parent in &term.parents {
                let children = ontology.children.entry(ontology.names[parent].clone()).or_default();
                children.push(term.name().to_owned());
            }
        }
        Ok(ontology)
    }

    /// The term called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub fn term(&self, name: &str) -> Result<&Term> {
        self.terms.get(name).with_context(|| format!("ontology has no term `{name}`"))
    }

    /// Names of the classes below `name` that have none below themselves.
    pub fn leaves(&self, name: &str) -> Vec<&str> {
        let below = self.children(name).iter();
        below
            .flat_map(|child| match self.children(child) {
                [] => vec![child.as_str()],
                _ => self.leaves(child),
            })
            .collect()
    }

    /// Names of the direct subclasses of `name`, in alphabetical order.
    pub fn children(&self, name: &str) -> &[String] {
        self.children.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// How the tagging task labels mentions of `term`, if it does.
    pub fn label(&self, term: &Term) -> Option<Label> {
        match term.parents.first() {
            Some(parent) => self.label(&self.terms[&self.names[parent]]),
            None => Label::of_root(term.name()),
        }
    }

    /// Whether `term` is `name` or below it.
    pub fn is_a(&self, term: &Term, name: &str) -> bool {
        term.name() == name || term.parents.iter().any(|parent| self.is_a(&self.terms[&self.names[parent]], name))
    }

    fn check_relations(&self) -> Result<()> {
        for term in self.terms.values() {
            for target in term.parents.iter().chain(&term.part_of) {
                ensure!(self.names.contains_key(target), "{} points at {target}, which does not exist", term.id);
            }
        }
        Ok(())
    }
}

fn parse_term(stanza: &str) -> Result<Term> {
    let mut term = Term::default();
    for line in stanza.lines() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        let value = value.split(" ! ").next().unwrap_or(value).trim();
        match key {
            "id" => term.id = value.to_owned(),
            "name" => term.forms.insert(0, value.to_owned()),
            "synonym" => term.forms.push(quoted(value)?),
            "is_a" => term.parents.push(value.to_owned()),
            "relationship" => match value.split_once(' ') {
                Some(("part_of", target)) => term.part_of.push(target.to_owned()),
                _ => bail!("{} has a relationship other than part_of: {value}", term.id),
            },
            _ => {}
        }
    }
    ensure!(!term.id.is_empty() && !term.forms.is_empty(), "term without id or name: {stanza}");
    Ok(term)
}

fn quoted(value: &str) -> Result<String> {
    let inner = value.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    inner.map(|(text, _)| text.to_owned()).with_context(|| format!("synonym without quotes: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "format-version: 1.4\n\n[Term]\nid: X:1\nname: organ\n\n[Term]\nid: X:2\nname: leaf\nsynonym: \
                        \"lvs\" EXACT []\nis_a: X:1 ! organ\n\n[Term]\nid: X:3\nname: vein\nis_a: X:1\nrelationship: \
                        part_of X:2 ! leaf\n";

    #[test]
    fn relations_and_labels() {
        let ontology = Ontology::parse(TEXT).unwrap();
        assert_eq!(ontology.term("leaf").unwrap().forms, ["leaf", "lvs"]);
        assert_eq!(ontology.leaves("organ"), ["leaf", "vein"]);
        assert_eq!(ontology.term("vein").unwrap().part_of, ["X:2"]);
        assert_eq!(ontology.label(ontology.term("leaf").unwrap()), Some(Label::Organ));
        assert!(Ontology::parse(&TEXT.replace("is_a: X:1 ! organ", "is_a: X:9")).is_err());
    }
}
