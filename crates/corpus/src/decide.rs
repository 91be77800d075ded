//! Which documents stay: one expression over their attributes, in the SQL of DataFusion.
//!
//! Attributes cost a pass over the text; the expression costs next to nothing. So it can be changed, and tried, as often
//! as it takes. Rules are expressions with a name. What the expression joins by `AND`, and what rules in it join so, are
//! conditions of their own: a document goes for those that it fails, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use arable_core::{Document, Hint};
use arable_expression::{ExpressionError, Meaning, Names};
use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use serde::Serialize;
use serde_json::Value;

use crate::attributes::Attributes;
use crate::columns::{self, TEXTS};
use crate::config::CorpusConfig;
use crate::scorers::advice;

/// Rules with their published thresholds: name, what it is, expression.
pub const FAMILIES: [(&str, &str, &str); 4] = [
    (
        "gopher_quality",
        "Quality filters of Gopher (Rae et al. 2021, table A1).",
        "num_words BETWEEN 50 AND 100000 AND mean_word_length BETWEEN 3 AND 10 AND hash_ratio <= 0.1 \
         AND ellipsis_ratio <= 0.1 AND bullet_line_ratio <= 0.9 AND ellipsis_line_ratio <= 0.3 \
         AND alpha_word_ratio >= 0.8 AND num_stop_words >= 2",
    ),
    (
        "gopher_repetition",
        "Repetition filters of Gopher (Rae et al. 2021, table A1).",
        "duplicate_line_ratio <= 0.3 AND duplicate_paragraph_ratio <= 0.3 AND duplicate_line_char_ratio <= 0.2 \
         AND duplicate_paragraph_char_ratio <= 0.2 AND top_2gram_char_ratio <= 0.2 AND top_3gram_char_ratio <= 0.18 \
         AND top_4gram_char_ratio <= 0.16 AND duplicate_5gram_char_ratio <= 0.15 AND duplicate_6gram_char_ratio <= 0.14 \
         AND duplicate_7gram_char_ratio <= 0.13 AND duplicate_8gram_char_ratio <= 0.12 \
         AND duplicate_9gram_char_ratio <= 0.11 AND duplicate_10gram_char_ratio <= 0.1",
    ),
    (
        "c4",
        "Filters of whole pages of C4 (Raffel et al. 2020); what it does to single lines changes the text and is not done.",
        "num_sentences >= 5 AND num_curly_brackets = 0 AND lorem_ipsum = 0",
    ),
    (
        "fineweb",
        "Filters that FineWeb adds (Penedo et al. 2024).",
        "terminal_line_ratio > 0.12 AND short_line_ratio < 0.67 AND duplicate_line_char_ratio <= 0.01 \
         AND newlines_per_word <= 0.3",
    ),
];

/// An expression that cannot decide.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// It has no meaning, or no value.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// An attribute that there is only with a table of the configuration.
    #[error("decide by `{name}`: it is measured only where there is a table [{table}]")]
    NotConfigured {
        /// The attribute.
        name: &'static str,
        /// The table.
        table: &'static str,
    },
}

impl Hint for DecideError {
    fn hint(&self) -> Option<String> {
        let error = match self {
            Self::NotConfigured { table, .. } => return Some(format!("write {}", advice(table))),
            Self::Expression(error) => error,
        };
        Some(match error {
            ExpressionError::Unclear { nearest: Some(name), .. } => format!("did you mean `{name}`?"),
            ExpressionError::Unclear { nearest: None, place, .. } if place.starts_with("check.") => {
                "write an SQL expression such as `num_train >= 1000 AND reject_rate < 0.01`; `arable data facts` lists the \
                 names"
                    .to_owned()
            }
            ExpressionError::Unclear { nearest: None, .. } => {
                "write an SQL expression such as `num_words >= 50 AND language = 'eng'`; `arable data attributes` lists \
                 the names"
                    .to_owned()
            }
            ExpressionError::NotTruth { .. } => "compare it with something, such as `num_words >= 50`".to_owned(),
            ExpressionError::NameTaken { .. } => {
                "choose another name; `arable data attributes` lists those taken".to_owned()
            }
            ExpressionError::Circle { .. } => "write out what the rule means in attributes".to_owned(),
            ExpressionError::Evaluate { .. } => {
                "use `try_cast` where a text may not be what it is cast to".to_owned()
            }
        })
    }
}

/// A decision that is understood.
pub struct Decision {
    conditions: Vec<Meaning>,
    /// Whether any of them reads the text.
    needs_text: bool,
}

/// Documents at a time.
const BATCH: usize = 1024;

impl Decision {
    /// Understands `keep`, in which the names of [`FAMILIES`] and of the rules of `config` stand for what they mean.
    ///
    /// # Errors
    /// When an expression is not SQL over attributes, names one that is not measured, or is neither true nor false.
    pub fn new(keep: &str, config: &CorpusConfig) -> Result<Self, DecideError> {
        let conditions = names(config)?.conditions("keep", keep)?;
        conditions.iter().try_for_each(|condition| all_measured(condition, config))?;
        let needs_text = conditions.iter().any(|condition| condition.reads("text"));
        Ok(Self { conditions, needs_text })
    }

    /// What has to hold, in order.
    pub fn conditions(&self) -> impl ExactSizeIterator<Item = &str> {
        self.conditions.iter().map(Meaning::said)
    }

    /// The attributes that condition `idx` reads, with their values.
    pub fn values(&self, idx: usize, attributes: &Attributes) -> Vec<(&'static str, Value)> {
        let condition = &self.conditions[idx];
        let language = condition.reads("language").then(|| ("language", attributes.language.clone().into()));
        let numbers = Attributes::NUMBERS.iter().zip(attributes.numbers());
        let read = numbers.filter(|((name, _), _)| condition.reads(name));
        read.map(|((name, _), value)| (*name, Value::from(value))).chain(language).collect()
    }

    /// For each document, the conditions that do not hold, by number. What is unknown, such as a time that is not given,
    /// does not hold.
    ///
    /// # Errors
    /// When a value makes a condition fail.
    pub fn failed(&self, documents: &[Document], attributes: &[Attributes]) -> Result<Vec<Vec<usize>>, DecideError> {
        assert_eq!(documents.len(), attributes.len(), "attributes of each document");
        let mut failed = Vec::with_capacity(documents.len());
        for (documents, attributes) in documents.chunks(BATCH).zip(attributes.chunks(BATCH)) {
            failed.extend(self.failed_in(documents, attributes)?);
        }
        Ok(failed)
    }

    fn failed_in(&self, documents: &[Document], attributes: &[Attributes]) -> Result<Vec<Vec<usize>>, DecideError> {
        let table = columns::table(documents, attributes, self.needs_text);
        let mut failed = vec![Vec::new(); documents.len()];
        for (idx, condition) in self.conditions.iter().enumerate() {
            for (failed, holds) in failed.iter_mut().zip(condition.holds(&table)?) {
                failed.extend((!holds).then_some(idx));
            }
        }
        Ok(failed)
    }
}

/// The columns of documents, and the rules over them.
fn names(config: &CorpusConfig) -> Result<Names<'_>, ExpressionError> {
    let families = FAMILIES.into_iter().map(|(name, _, expression)| (name, expression));
    Names::new(columns::schema(), families, ("rule", &config.rule))
}

/// Whether all that an expression reads is measured.
fn all_measured(meaning: &Meaning, config: &CorpusConfig) -> Result<(), DecideError> {
    let absent = Attributes::RELATIVE.iter().find(|(name, table)| !config.has_table(table) && meaning.reads(name));
    absent.map_or(Ok(()), |&(name, table)| Err(DecideError::NotConfigured { name, table }))
}

/// An expression that tells documents apart: it gives each a value, as a text.
pub(crate) struct Distinction(Meaning);

impl Distinction {
    /// Understands `expression`, which stands at the setting `place`: the name of a column, or SQL as in
    /// [`Decision::new`].
    ///
    /// # Errors
    /// When it is not SQL over attributes, or names one that is not measured.
    pub(crate) fn new(place: &str, expression: &str, config: &CorpusConfig) -> Result<Self, DecideError> {
        let meaning = names(config)?.text(place, expression)?;
        all_measured(&meaning, config)?;
        Ok(Self(meaning))
    }

    /// The value of each document, where it has one.
    ///
    /// # Errors
    /// When the expression fails on a document.
    pub(crate) fn of(
        &self,
        documents: &[Document],
        attributes: &[Attributes],
    ) -> Result<Vec<Option<String>>, DecideError> {
        let table = columns::table(documents, attributes, self.0.reads("text"));
        Ok(self.0.texts(&table)?)
    }
}

/// What is expected of a corpus, and whether it is so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expectation {
    /// Its name.
    pub name: String,
    /// What is expected.
    pub expression: String,
    /// Whether it is so.
    pub holds: bool,
    /// The facts that it reads.
    pub facts: Vec<(String, f64)>,
}

/// Whether expectations, by name, hold of facts, by name. What is expected may name other expectations.
///
/// # Errors
/// When one is not SQL over facts, or is neither true nor false.
pub fn expectations(
    expected: &BTreeMap<String, String>,
    facts: &[(&str, f64)],
) -> Result<Vec<Expectation>, DecideError> {
    let schema =
        Schema::new(facts.iter().map(|(name, _)| Field::new(*name, DataType::Float64, false)).collect::<Vec<_>>());
    let values = facts.iter().map(|(_, value)| Arc::new(Float64Array::from(vec![*value])) as ArrayRef).collect();
    let table = RecordBatch::try_new(Arc::new(schema.clone()), values).expect("a column for each field");
    let names = Names::new(schema, [], ("check", expected))?;
    let check = |(name, expression): (&String, &String)| {
        let meaning = names.rule(name)?;
        let read = facts.iter().filter(|(name, _)| meaning.reads(name));
        let facts = read.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let holds = meaning.holds(&table)?[0];
        Ok(Expectation { name: name.clone(), expression: expression.clone(), holds, facts })
    };
    expected.iter().map(check).collect()
}

/// The columns that expressions may name, with what they mean.
pub fn column_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXTS.into_iter().chain(Attributes::NUMBERS.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::measure;
    use crate::scorers::Scorers;

    fn document(id: &str, time: Option<&str>, text: &str) -> Document {
        let time = time.map(str::to_owned);
        Document { id: format!("s/{id}"), source: "s".into(), time, text: text.into(), ..Document::default() }
    }

    fn with_rules(rules: &[(&str, &str)]) -> CorpusConfig {
        let rule = rules.iter().map(|(name, rule)| ((*name).to_owned(), (*rule).to_owned())).collect();
        CorpusConfig { rule, ..CorpusConfig::default() }
    }

    fn failed(keep: &str, rules: &[(&str, &str)], documents: &[Document]) -> Vec<Vec<String>> {
        let decision = Decision::new(keep, &with_rules(rules)).unwrap();
        let measured = |document: &Document| measure(&document.text, &Scorers::default());
        let attributes: Vec<_> = documents.iter().map(measured).collect();
        let conditions: Vec<&str> = decision.conditions().collect();
        let failed = decision.failed(documents, &attributes).unwrap();
        failed.into_iter().map(|failed| failed.into_iter().map(|idx| conditions[idx].to_owned()).collect()).collect()
    }

    #[test]
    fn conditions_fail_by_name() {
        let documents = [
            document("a", Some("2019-03"), "The patient was discharged the next morning and went back home."),
            document("b", None, "Der Patient wurde am nächsten Morgen entlassen und kehrte nach Hause zurück."),
            document("c", Some("2023"), "short"),
        ];
        let keep = "language = 'eng' AND fine AND time >= '2020'";
        let rules = [("fine", "num_words > 3 and (alpha_word_ratio > 0.5 or lower(text) like '%short%')")];
        let (english, recent, long) = ("language = 'eng'", "time >= '2020'", "fine: num_words > 3");
        let expected: [&[&str]; 3] = [&[recent], &[english, recent], &[english, long]];
        let found = failed(keep, &rules, &documents);
        assert_eq!(found[..2], expected[..2]);
        assert!(found[2].contains(&long.to_owned()), "{found:?}");
    }

    #[test]
    fn rules_stand_for_what_they_mean_anywhere() {
        let documents = [document("a", None, "one two three"), document("b", None, "one")];
        let rules = [("long", "num_words > 2"), ("other", "not long")];
        assert_eq!(
            failed("NOT (long OR num_words > 5)", &rules, &documents),
            [vec!["NOT (long OR num_words > 5)"], vec![]]
        );
        assert_eq!(failed("other", &rules, &documents), [vec!["other: NOT long"], vec![]]);
    }

    #[test]
    fn values_are_texts_of_any_expression() {
        let documents = [document("a", Some("1915-03"), "one two"), document("b", None, "three")];
        let attributes: Vec<_> =
            documents.iter().map(|document| measure(&document.text, &Scorers::default())).collect();
        let config = with_rules(&[("long", "num_words > 1")]);
        let values =
            |by: &str| Distinction::new("corpus.sample.by", by, &config).unwrap().of(&documents, &attributes).unwrap();
        let expected = |a: &str, b: Option<&str>| vec![Some(a.to_owned()), b.map(str::to_owned)];
        assert_eq!(values("left(time, 3) || '0s'"), expected("1910s", None));
        assert_eq!(values("source"), expected("s", Some("s")));
        assert_eq!(values("group"), [None, None]);
        assert_eq!(values("long"), expected("true", Some("false")));
        assert_eq!(values("CASE WHEN text LIKE 'one%' THEN 1 END"), expected("1", None));
        let Err(error) = Distinction::new("corpus.sample.by", "sorce", &config) else {
            panic!("`sorce` is understood")
        };
        assert!(error.to_string().contains("`sorce` in `corpus.sample.by`") && error.hint().is_some(), "{error}");
        let Err(error) = Distinction::new("corpus.sample.by", "quality > 0.5", &config) else {
            panic!("it is not measured")
        };
        assert!(error.hint().unwrap().contains("[corpus.quality]"), "{error}");
    }

    #[test]
    fn families_are_understood() {
        let keep = FAMILIES.map(|(name, ..)| name).join(" AND ");
        let decision = Decision::new(&keep, &CorpusConfig::default()).unwrap();
        assert_eq!(decision.conditions().len(), 8 + 13 + 3 + 4);
        assert!(decision.conditions().any(|name| name == "gopher_quality: mean_word_length BETWEEN 3 AND 10"));
    }

    #[test]
    fn expectations_hold_or_not() {
        let facts = [("num_train", 900.0), ("reject_rate", 0.02)];
        let checks = |checks: &[(&str, &str)]| {
            let checks = checks.iter().map(|(name, check)| ((*name).to_owned(), (*check).to_owned())).collect();
            expectations(&checks, &facts)
        };
        let found = checks(&[("enough", "num_train >= 1000 OR clean"), ("clean", "reject_rate < 0.01")]).unwrap();
        let said: Vec<_> = found.iter().map(|check| (check.name.as_str(), check.holds, check.facts.len())).collect();
        assert_eq!(said, [("clean", false, 1), ("enough", false, 2)]);
        assert!(checks(&[("enough", "num_train / 10 = 90")]).unwrap()[0].holds);
        let error = checks(&[("enough", "num_trian > 3")]).unwrap_err();
        assert!(error.to_string().contains("`check.enough`"), "{error}");
        assert_eq!(error.hint().unwrap(), "did you mean `num_train`?");
    }

    #[test]
    fn what_cannot_decide_has_a_hint() {
        let check = |keep: &str, rules: &[(&str, &str)], message: &str, hint: &str| {
            let Err(error) = Decision::new(keep, &with_rules(rules)) else { panic!("`{keep}` is understood") };
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{error}: {:?}", error.hint());
        };
        check("num_word > 3", &[], "No field named num_word", "did you mean `num_words`?");
        check("num_words >", &[], "understand `num_words >` in `keep`", "write an SQL expression");
        check("num_words", &[], "it is Float64, not true or false", "compare it");
        check("a", &[("a", "b"), ("b", "a and c4")], "it stands for itself", "write out");
        check("c4", &[("c4", "num_words > 3")], "there is one of that name", "another name");
        check("c4", &[("num_words", "true")], "there is one of that name", "another name");
        check("fine", &[("fine", "quality > 0.5")], "decide by `quality`", "`[corpus.quality]` with `good");
        check("domain_weight > 0", &[], "only where there is a table [corpus.relevance]", "with `target");
        check("bad", &[("bad", "lower(text, 3) = 'a'")], "in `rule.bad`", "");
        // A corpus depends neither on chance nor on the clock.
        check("random() > 0.5", &[], "random", "");
        check("now() > '2020'", &[], "now", "");
    }
}
