//! Expressions over the columns of a table, in the SQL of DataFusion, and rules: expressions with a name that others may use.
//!
//! The only room that knows DataFusion, whose types take long to compile wherever they are named.

mod functions;
mod names;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion_physical_expr::PhysicalExpr;

pub use names::Names;

/// An expression that has no meaning, or no value.
#[derive(Debug, thiserror::Error)]
pub enum ExpressionError {
    /// It is not SQL, names what there is not, or compares what cannot be compared.
    #[error("understand `{expression}` in `{place}`: {problem}")]
    Unclear {
        /// The setting.
        place: String,
        /// What was written.
        expression: String,
        /// What DataFusion says.
        problem: String,
        /// The nearest name there is.
        nearest: Option<String>,
    },
    /// It is neither true nor false.
    #[error("decide by `{expression}` in `{place}`: it is {kind}, not true or false")]
    NotTruth {
        /// The setting.
        place: String,
        /// What was written.
        expression: String,
        /// What it is.
        kind: DataType,
    },
    /// A rule with the name of a column or of another rule.
    #[error("call a rule `{name}`: there is one of that name already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A rule that needs itself.
    #[error("expand the rule `{name}`: it stands for itself")]
    Circle {
        /// The rule.
        name: String,
    },
    /// Values that make it fail, such as a text that is cast to a number.
    #[error("decide by `{expression}`")]
    Evaluate {
        /// What was written.
        expression: String,
        /// What DataFusion says.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What an expression means.
pub struct Meaning {
    /// The rules that it stands in, if any, and what it says.
    said: String,
    expr: Arc<dyn PhysicalExpr>,
    columns: BTreeSet<String>,
}

impl Meaning {
    /// The rules that it stands in, if any, and what it says: `rule: num_words > 3`.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Whether it reads a column.
    pub fn reads(&self, column: &str) -> bool {
        self.columns.contains(column)
    }

    /// For each row, whether it is known to be true.
    ///
    /// # Errors
    /// When a value makes it fail.
    ///
    /// # Panics
    /// When it is of another kind: only [`Names::text`] makes such.
    pub fn holds(&self, table: &RecordBatch) -> Result<Vec<bool>, ExpressionError> {
        Ok(self.values(table)?.as_boolean().iter().map(|value| value == Some(true)).collect())
    }

    /// Its value in each row as a text, where it has one.
    ///
    /// # Errors
    /// When a value makes it fail.
    ///
    /// # Panics
    /// When it is no text: only [`Names::text`] makes such.
    pub fn texts(&self, table: &RecordBatch) -> Result<Vec<Option<String>>, ExpressionError> {
        Ok(self.values(table)?.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect())
    }

    fn values(&self, table: &RecordBatch) -> Result<ArrayRef, ExpressionError> {
        let values = self.expr.evaluate(table).and_then(|value| value.into_array(table.num_rows()));
        values.map_err(|error| ExpressionError::Evaluate { expression: self.said.clone(), source: Box::new(error) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    /// Two columns of three rows, the last of them unknown.
    fn table() -> RecordBatch {
        let columns = [("size", DataType::Float64), ("group", DataType::Utf8)];
        let schema = Schema::new(columns.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
        let size = Arc::new(Float64Array::from(vec![Some(1.0), Some(5.0), None])) as ArrayRef;
        let group = Arc::new(StringArray::from(vec![Some("a"), Some("7"), None])) as ArrayRef;
        RecordBatch::try_new(Arc::new(schema), vec![size, group]).unwrap()
    }

    fn rules(rules: &[(&str, &str)]) -> BTreeMap<String, String> {
        rules.iter().map(|(name, rule)| ((*name).to_owned(), (*rule).to_owned())).collect()
    }

    fn names<'a>(own: &'a BTreeMap<String, String>) -> Result<Names<'a>, ExpressionError> {
        Names::new(table().schema().as_ref().clone(), [("large", "size > 3")], ("rule", own))
    }

    #[test]
    fn conditions_say_what_they_read_and_hold_where_they_are_known_to() {
        let own = rules(&[("good", "large AND \"group\" <> 'b'")]);
        let found = names(&own).unwrap().conditions("keep", "good AND size < 9").unwrap();
        let said: Vec<&str> = found.iter().map(Meaning::said).collect();
        assert_eq!(said, ["good: large: size > 3", "good: \"group\" <> 'b'", "size < 9"]);
        assert!(found[0].reads("size") && !found[0].reads("group") && found[1].reads("group"));
        let holds = found.iter().map(|condition| condition.holds(&table()).unwrap());
        assert_eq!(holds.collect::<Vec<_>>(), [[false, true, false], [true, true, false], [true, true, false]]);
    }

    #[test]
    fn texts_are_of_a_column_or_of_any_expression() {
        let none = BTreeMap::new();
        let names = names(&none).unwrap();
        let texts = |by: &str| names.text("by", by).unwrap().texts(&table()).unwrap();
        assert_eq!(texts("group"), [Some("a".to_owned()), Some("7".to_owned()), None]);
        assert_eq!(texts("large"), [Some("false".to_owned()), Some("true".to_owned()), None]);
    }

    #[test]
    fn what_has_no_meaning_or_no_value_is_an_error_that_names_it() {
        let circle = rules(&[("a", "b"), ("b", "NOT a"), ("bad", "siz > 1"), ("number", "cast(\"group\" AS INT) > 1")]);
        let names = names(&circle).unwrap();
        let error = |rule: &str| names.rule(rule).err().unwrap();
        assert!(matches!(error("a"), ExpressionError::Circle { name } if name == "a"));
        let ExpressionError::Unclear { place, nearest, .. } = error("bad") else { panic!("there is no `siz`") };
        assert_eq!((place.as_str(), nearest.as_deref()), ("rule.bad", Some("size")));
        let not_truth = names.conditions("keep", "size + 1").err().unwrap();
        assert!(matches!(not_truth, ExpressionError::NotTruth { kind: DataType::Float64, .. }), "{not_truth}");
        let failed = names.rule("number").unwrap().holds(&table()).unwrap_err();
        assert!(matches!(failed, ExpressionError::Evaluate { .. }) && failed.source().is_some(), "{failed}");
        let taken = rules(&[("large", "true")]);
        assert!(matches!(self::names(&taken), Err(ExpressionError::NameTaken { .. })));
    }
}
