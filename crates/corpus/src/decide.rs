//! Which documents stay: one expression over their attributes, in the SQL of DataFusion.
//!
//! Attributes cost a pass over the text; the expression costs next to nothing. So it can be changed, and tried, as often
//! as it takes. Rules are expressions with a name. What the expression joins by `AND`, and what rules in it join so, are
//! conditions of their own: a document goes for those that it fails, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arable_core::{Document, Hint};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, TableReference};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::ContextProvider;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::parser::DFParser;
use datafusion_sql::planner::{PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;
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
    /// It is not SQL, names what there is not, or compares what cannot be compared.
    #[error("understand `{expression}` in `{place}`: {problem}")]
    Expression {
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
    /// An attribute that there is only with a table of the configuration.
    #[error("decide by `{name}`: it is measured only where there is a table [{table}]")]
    NotConfigured {
        /// The attribute.
        name: &'static str,
        /// The table.
        table: &'static str,
    },
    /// A rule with the name of an attribute or of another rule.
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
    #[error("decide by `{condition}`")]
    Evaluate {
        /// The condition.
        condition: String,
        /// What DataFusion says.
        source: Box<DataFusionError>,
    },
}

impl Hint for DecideError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Expression { nearest: Some(name), .. } => format!("did you mean `{name}`?"),
            Self::Expression { nearest: None, place, .. } if place.starts_with("check.") => {
                "write an SQL expression such as `num_train >= 1000 AND reject_rate < 0.01`; `arable data facts` lists the \
                 names"
                    .to_owned()
            }
            Self::Expression { nearest: None, .. } => {
                "write an SQL expression such as `num_words >= 50 AND language = 'eng'`; `arable data attributes` lists \
                 the names"
                    .to_owned()
            }
            Self::NotConfigured { table, .. } => format!("write {}", advice(table)),
            Self::NotTruth { .. } => "compare it with something, such as `num_words >= 50`".to_owned(),
            Self::NameTaken { .. } => "choose another name; `arable data attributes` lists those taken".to_owned(),
            Self::Circle { .. } => "write out what the rule means in attributes".to_owned(),
            Self::Evaluate { .. } => "use `try_cast` where a text may not be what it is cast to".to_owned(),
        })
    }
}

/// A decision that is understood.
pub struct Decision {
    conditions: Vec<Condition>,
    /// Whether any of them reads the text.
    needs_text: bool,
}

/// One of the conditions that all have to hold.
struct Condition {
    /// The rules that it stands in, if any, and what it says.
    name: String,
    expr: Arc<dyn PhysicalExpr>,
    /// The numbers that it reads, by their place in [`Attributes::NUMBERS`].
    numbers: Vec<usize>,
    reads_language: bool,
}

/// Documents at a time.
const BATCH: usize = 1024;

impl Decision {
    /// Understands `keep`, in which the names of [`FAMILIES`] and of the rules of `config` stand for what they mean.
    ///
    /// # Errors
    /// When an expression is not SQL over attributes, names one that is not measured, or is neither true nor false.
    pub fn new(keep: &str, config: &CorpusConfig) -> Result<Self, DecideError> {
        let names = Names::new(columns::schema(), &FAMILIES, ("rule", &config.rule))?;
        let mut found = Vec::new();
        names.conditions("keep", keep, &mut Vec::new(), &mut found)?;
        found.iter().try_for_each(|(_, expr)| all_measured(expr, config))?;
        let needs_text = found.iter().any(|(_, expr)| reads(expr, "text"));
        let conditions = found.into_iter().map(|(name, expr)| {
            let numbers = Attributes::NUMBERS.iter().enumerate().filter(|(_, (number, _))| reads(&expr, number));
            let numbers = numbers.map(|(at, _)| at).collect();
            let reads_language = reads(&expr, "language");
            Ok(Condition { expr: names.physical(expr)?, name, numbers, reads_language })
        });
        Ok(Self { conditions: conditions.collect::<Result<_, DecideError>>()?, needs_text })
    }

    /// What has to hold, in order.
    pub fn conditions(&self) -> impl ExactSizeIterator<Item = &str> {
        self.conditions.iter().map(|condition| condition.name.as_str())
    }

    /// The attributes that condition `idx` reads, with their values.
    pub fn values(&self, idx: usize, attributes: &Attributes) -> Vec<(&'static str, Value)> {
        let (Condition { numbers, reads_language, .. }, values) = (&self.conditions[idx], attributes.numbers());
        let language = reads_language.then(|| ("language", attributes.language.clone().into()));
        numbers.iter().map(|&at| (Attributes::NUMBERS[at].0, Value::from(values[at]))).chain(language).collect()
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
            for (failed, fails) in failed.iter_mut().zip(condition.fails(&table)?) {
                failed.extend(fails.then_some(idx));
            }
        }
        Ok(failed)
    }
}

/// Whether an expression reads a column.
fn reads(expr: &Expr, name: &str) -> bool {
    expr.column_refs().iter().any(|column| column.name == name)
}

/// Whether all that an expression reads is measured.
fn all_measured(expr: &Expr, config: &CorpusConfig) -> Result<(), DecideError> {
    let absent = Attributes::RELATIVE.iter().find(|(name, table)| !config.has_table(table) && reads(expr, name));
    absent.map_or(Ok(()), |&(name, table)| Err(DecideError::NotConfigured { name, table }))
}

/// An expression that tells documents apart: it gives each a value, as a text.
pub(crate) struct Distinction {
    expression: String,
    expr: Arc<dyn PhysicalExpr>,
    needs_text: bool,
}

impl Distinction {
    /// Understands `expression`, which stands at the setting `place`: the name of a column, or SQL as in
    /// [`Decision::new`].
    ///
    /// # Errors
    /// When it is not SQL over attributes, or names one that is not measured.
    pub(crate) fn new(place: &str, expression: &str, config: &CorpusConfig) -> Result<Self, DecideError> {
        let names = Names::new(columns::schema(), &FAMILIES, ("rule", &config.rule))?;
        // Names such as `group` are words of SQL, too.
        let is_column = names.columns.has_column_with_unqualified_name(expression);
        let quoted = if is_column { format!("\"{expression}\"") } else { expression.to_owned() };
        let wrong = |error: DataFusionError| not_understood((place, expression), &error);
        let parsed = DFParser::parse_sql_into_expr(&quoted).map_err(wrong)?;
        let (expr, _) = names.typed((place, expression), parsed.expr, &mut Vec::new())?;
        all_measured(&expr, config)?;
        let needs_text = reads(&expr, "text");
        let expr = names.physical(datafusion_expr::cast(expr, DataType::Utf8))?;
        Ok(Self { expression: expression.to_owned(), expr, needs_text })
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
        let table = columns::table(documents, attributes, self.needs_text);
        let values = self.expr.evaluate(&table).and_then(|value| value.into_array(table.num_rows()));
        let wrong = |error| DecideError::Evaluate { condition: self.expression.clone(), source: Box::new(error) };
        Ok(values.map_err(wrong)?.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect())
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
    let names = Names::new(schema, &[], ("check", expected))?;
    let check = |(name, expression): (&String, &String)| {
        let expr = names.whole(name, (&format!("check.{name}"), expression), &mut Vec::new())?;
        let reads: BTreeSet<&str> = expr.column_refs().into_iter().map(|column| column.name.as_str()).collect();
        let facts = facts.iter().filter(|(name, _)| reads.contains(name));
        let facts = facts.map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let failed = Condition {
            name: expression.clone(),
            expr: names.physical(expr)?,
            numbers: Vec::new(),
            reads_language: false,
        }
        .fails(&table)?;
        Ok(Expectation { name: name.clone(), expression: expression.clone(), holds: !failed[0], facts })
    };
    expected.iter().map(check).collect()
}

impl Condition {
    /// For each row, whether it does not hold, or is not known to.
    fn fails(&self, table: &RecordBatch) -> Result<Vec<bool>, DecideError> {
        let wrong = |error| DecideError::Evaluate { condition: self.name.clone(), source: Box::new(error) };
        let values = self.expr.evaluate(table).and_then(|value| value.into_array(table.num_rows())).map_err(wrong)?;
        let holds = values.as_any().downcast_ref::<BooleanArray>().expect("conditions are true or false");
        Ok((0..table.num_rows()).map(|row| holds.is_null(row) || !holds.value(row)).collect())
    }
}

/// The columns that expressions may name, with what they mean.
pub fn column_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    TEXTS.into_iter().chain(Attributes::NUMBERS.iter().copied())
}

/// What names stand for.
struct Names<'a> {
    /// Setting and expression of each rule.
    rules: BTreeMap<&'a str, (String, &'a str)>,
    columns: DFSchema,
    /// The columns, and a truth for each rule.
    all: DFSchema,
    functions: Functions,
}

impl<'a> Names<'a> {
    /// The columns of `schema`, the rules that are `known`, and those of the setting `table`.
    fn new(
        schema: Schema,
        known: &[(&'a str, &'a str, &'a str)],
        (table, rules): (&str, &'a BTreeMap<String, String>),
    ) -> Result<Self, DecideError> {
        let mut known: BTreeMap<&str, (String, &str)> =
            known.iter().map(|&(name, _, expression)| (name, (name.to_owned(), expression))).collect();
        for (name, expression) in rules {
            let place = format!("{table}.{name}");
            if schema.field_with_name(name).is_ok() || known.insert(name, (place, expression)).is_some() {
                return Err(DecideError::NameTaken { name: name.clone() });
            }
        }
        let truths = known.keys().map(|name| Arc::new(Field::new(*name, DataType::Boolean, true)));
        let all = Schema::new(schema.fields().iter().cloned().chain(truths).collect::<Vec<_>>());
        let to_frame = |schema: Schema| DFSchema::try_from(schema).expect("names differ");
        Ok(Self { rules: known, columns: to_frame(schema), all: to_frame(all), functions: Functions::new() })
    }

    /// Adds the conditions that `expression` consists of to `found`; `inside` are the rules around it.
    fn conditions(
        &self,
        place: &str,
        expression: &str,
        inside: &mut Vec<&'a str>,
        found: &mut Vec<(String, Expr)>,
    ) -> Result<(), DecideError> {
        let wrong = |error: DataFusionError| not_understood((place, expression), &error);
        let parsed = DFParser::parse_sql_into_expr(expression).map_err(wrong)?;
        for part in parts(parsed.expr) {
            let rule = match &part {
                ast::Expr::Identifier(ident) => self.rules.get_key_value(ident.value.as_str()),
                _ => None,
            };
            if let Some((name, (place, expression))) = rule {
                self.enter(name, inside)?;
                self.conditions(place, expression, inside, found)?;
                inside.pop();
            } else {
                let said = part.to_string();
                let name = inside.iter().chain([&said.as_str()]).copied().collect::<Vec<_>>().join(": ");
                found.push((name, self.plan((place, expression), part, inside)?));
            }
        }
        Ok(())
    }

    fn enter(&self, name: &'a str, inside: &mut Vec<&'a str>) -> Result<(), DecideError> {
        if inside.contains(&name) {
            return Err(DecideError::Circle { name: name.to_owned() });
        }
        inside.push(name);
        Ok(())
    }

    /// The meaning of a part of an expression that is true or false, with every rule in it put in.
    fn plan(&self, said: (&str, &str), part: ast::Expr, inside: &mut Vec<&'a str>) -> Result<Expr, DecideError> {
        match self.typed(said, part, inside)? {
            (expr, DataType::Boolean) => Ok(expr),
            (_, kind) => Err(DecideError::NotTruth { place: said.0.to_owned(), expression: said.1.to_owned(), kind }),
        }
    }

    /// The same of any kind, with its kind.
    fn typed(
        &self,
        said: (&str, &str),
        part: ast::Expr,
        inside: &mut Vec<&'a str>,
    ) -> Result<(Expr, DataType), DecideError> {
        let wrong = |error: DataFusionError| not_understood(said, &error);
        let planner = SqlToRel::new(&self.functions);
        let expr = planner.sql_to_expr(part, &self.all, &mut PlannerContext::new()).map_err(wrong)?;
        let mut fault = None;
        let expr = expr.transform_up(|expr| {
            let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
            let Some((name, (place, expression))) = self.rules.get_key_value(column.name.as_str()) else {
                return Ok(Transformed::no(expr));
            };
            match self.whole(name, (place, expression), inside) {
                Ok(rule) => Ok(Transformed::yes(rule)),
                Err(error) => {
                    fault = Some(error);
                    Ok(Transformed::no(expr))
                }
            }
        });
        let expr = expr.map_err(wrong)?.data;
        if let Some(error) = fault {
            return Err(error);
        }
        let context = SimplifyContext::builder().with_schema(Arc::new(self.columns.clone())).build();
        let expr = ExprSimplifier::new(context).coerce(expr, &self.columns).map_err(wrong)?;
        let kind = datafusion_expr::ExprSchemable::get_type(&expr, &self.columns).map_err(wrong)?;
        Ok((expr, kind))
    }

    /// The meaning of a rule as one expression.
    fn whole(
        &self,
        name: &'a str,
        (place, expression): (&str, &str),
        inside: &mut Vec<&'a str>,
    ) -> Result<Expr, DecideError> {
        self.enter(name, inside)?;
        let wrong = |error: DataFusionError| not_understood((place, expression), &error);
        let parsed = DFParser::parse_sql_into_expr(expression).map_err(wrong)?;
        let expr = self.plan((place, expression), parsed.expr, inside);
        inside.pop();
        expr
    }

    fn physical(&self, expr: Expr) -> Result<Arc<dyn PhysicalExpr>, DecideError> {
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let said = expr.human_display().to_string();
        create_physical_expr(&expr, &self.columns, &props, &context)
            .map_err(|error| not_understood(("keep", &said), &error))
    }
}

/// An expression that DataFusion does not understand, with the name that it thinks is meant.
fn not_understood((place, expression): (&str, &str), error: &DataFusionError) -> DecideError {
    let said = match error {
        DataFusionError::SQL(error, _) => error.to_string(),
        _ => error.message().into_owned(),
    };
    let said = said.lines().next().unwrap_or_default();
    let (problem, nearest) = match said.split_once(" Did you mean '") {
        Some((problem, name)) => (problem, name.split('\'').next().map(str::to_owned)),
        None => (said, None),
    };
    let problem = problem.trim_end_matches('.').to_owned();
    DecideError::Expression { place: place.to_owned(), expression: expression.to_owned(), problem, nearest }
}

/// What `AND` joins, in order.
fn parts(expr: ast::Expr) -> Vec<ast::Expr> {
    match expr {
        ast::Expr::BinaryOp { left, op: ast::BinaryOperator::And, right } => {
            parts(*left).into_iter().chain(parts(*right)).collect()
        }
        ast::Expr::Nested(inner) => match parts(*inner.clone()) {
            several if several.len() > 1 => several,
            _ => vec![ast::Expr::Nested(inner)],
        },
        other => vec![other],
    }
}

/// The functions that expressions may call: those whose result follows from their arguments alone, and no others, so
/// that a corpus does not depend on the clock or on chance.
struct Functions {
    by_name: BTreeMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn datafusion_expr::planner::ExprPlanner>>,
    options: ConfigOptions,
}

impl Functions {
    fn new() -> Self {
        let pure = datafusion_functions::all_default_functions()
            .into_iter()
            .filter(|function| function.signature().volatility == Volatility::Immutable);
        let names = |function: &ScalarUDF| {
            let mut names = function.aliases().to_vec();
            names.push(function.name().to_owned());
            names
        };
        let by_name = pure
            .flat_map(|function| names(&function).into_iter().map(move |name| (name, Arc::clone(&function))))
            .collect();
        let planners: Vec<Arc<dyn datafusion_expr::planner::ExprPlanner>> = vec![
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        ];
        Self { by_name, planners, options: ConfigOptions::default() }
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> datafusion_common::Result<Arc<dyn TableSource>> {
        Err(DataFusionError::Plan(format!("there is no table `{name}`")))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn datafusion_expr::planner::ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.by_name.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
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
