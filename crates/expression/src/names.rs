//! What names stand for.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::create_physical_expr;
use datafusion_sql::parser::DFParser;
use datafusion_sql::planner::{PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast;

use crate::functions::Functions;
use crate::{ExpressionError, Meaning};

/// The columns of a table and the rules over them.
pub struct Names<'a> {
    /// Setting and expression of each rule.
    rules: BTreeMap<&'a str, (String, &'a str)>,
    columns: DFSchema,
    /// The columns, and a truth for each rule.
    all: DFSchema,
    functions: Functions,
}

impl<'a> Names<'a> {
    /// The columns of `schema`, the rules that are `known` (name and expression), and those of the setting `table`.
    ///
    /// # Errors
    /// When a rule of the setting has the name of a column or of another rule.
    pub fn new(
        schema: Schema,
        known: impl IntoIterator<Item = (&'a str, &'a str)>,
        (table, rules): (&str, &'a BTreeMap<String, String>),
    ) -> Result<Self, ExpressionError> {
        let mut known: BTreeMap<&str, (String, &str)> =
            known.into_iter().map(|(name, expression)| (name, (name.to_owned(), expression))).collect();
        for (name, expression) in rules {
            let place = format!("{table}.{name}");
            if schema.field_with_name(name).is_ok() || known.insert(name, (place, expression)).is_some() {
                return Err(ExpressionError::NameTaken { name: name.clone() });
            }
        }
        let truths = known.keys().map(|name| Arc::new(Field::new(*name, DataType::Boolean, true)));
        let all = Schema::new(schema.fields().iter().cloned().chain(truths).collect::<Vec<_>>());
        let to_frame = |schema: Schema| DFSchema::try_from(schema).expect("names differ");
        Ok(Self { rules: known, columns: to_frame(schema), all: to_frame(all), functions: Functions::new() })
    }

    /// What `expression`, which stands at the setting `place`, joins by `AND`, and what rules in it join so: each is true or
    /// false.
    ///
    /// # Errors
    /// When it is not SQL over the columns and rules, or is neither true nor false.
    pub fn conditions(&self, place: &str, expression: &str) -> Result<Vec<Meaning>, ExpressionError> {
        let mut found = Vec::new();
        self.add_conditions((place, expression), &mut Vec::new(), &mut found)?;
        Ok(found)
    }

    /// A rule as one expression, which is true or false.
    ///
    /// # Errors
    /// As [`Self::conditions`].
    ///
    /// # Panics
    /// When there is no rule of that name.
    pub fn rule(&self, name: &str) -> Result<Meaning, ExpressionError> {
        let (name, (place, expression)) = self.rules.get_key_value(name).expect("a rule that is known");
        let expr = self.whole(name, (place, expression), &mut Vec::new())?;
        self.meaning((place, expression), (*expression).to_owned(), expr)
    }

    /// What tells rows apart by a text: the name of a column, or an expression of any kind, at the setting `place`.
    ///
    /// # Errors
    /// When it is not SQL over the columns and rules.
    pub fn text(&self, place: &str, expression: &str) -> Result<Meaning, ExpressionError> {
        // Names such as `group` are words of SQL, too.
        let is_column = self.columns.has_column_with_unqualified_name(expression);
        let quoted = if is_column { format!("\"{expression}\"") } else { expression.to_owned() };
        let parsed = parsed((place, expression), &quoted)?;
        let (expr, _) = self.typed((place, expression), parsed, &mut Vec::new())?;
        self.meaning((place, expression), expression.to_owned(), datafusion_expr::cast(expr, DataType::Utf8))
    }

    /// Adds the conditions that an expression consists of to `found`; `inside` are the rules around it.
    fn add_conditions(
        &self,
        written: (&str, &str),
        inside: &mut Vec<&'a str>,
        found: &mut Vec<Meaning>,
    ) -> Result<(), ExpressionError> {
        for part in parts(parsed(written, written.1)?) {
            let rule = match &part {
                ast::Expr::Identifier(ident) => self.rules.get_key_value(ident.value.as_str()),
                _ => None,
            };
            if let Some((name, (place, expression))) = rule {
                self.enter(name, inside)?;
                self.add_conditions((place, expression), inside, found)?;
                inside.pop();
            } else {
                let own = part.to_string();
                let said = inside.iter().chain([&own.as_str()]).copied().collect::<Vec<_>>().join(": ");
                let expr = self.truth(written, part, inside)?;
                found.push(self.meaning(written, said, expr)?);
            }
        }
        Ok(())
    }

    fn enter(&self, name: &'a str, inside: &mut Vec<&'a str>) -> Result<(), ExpressionError> {
        if inside.contains(&name) {
            return Err(ExpressionError::Circle { name: name.to_owned() });
        }
        inside.push(name);
        Ok(())
    }

    /// The meaning of a part of an expression that is true or false, with every rule in it put in.
    fn truth(
        &self,
        (place, expression): (&str, &str),
        part: ast::Expr,
        inside: &mut Vec<&'a str>,
    ) -> Result<Expr, ExpressionError> {
        match self.typed((place, expression), part, inside)? {
            (expr, DataType::Boolean) => Ok(expr),
            (_, kind) => {
                Err(ExpressionError::NotTruth { place: place.to_owned(), expression: expression.to_owned(), kind })
            }
        }
    }

    /// The same of any kind, with its kind.
    fn typed(
        &self,
        written: (&str, &str),
        part: ast::Expr,
        inside: &mut Vec<&'a str>,
    ) -> Result<(Expr, DataType), ExpressionError> {
        let wrong = |error: DataFusionError| unclear(written, &error);
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
        let kind = expr.get_type(&self.columns).map_err(wrong)?;
        Ok((expr, kind))
    }

    /// The meaning of a rule as one expression.
    fn whole(&self, name: &'a str, written: (&str, &str), inside: &mut Vec<&'a str>) -> Result<Expr, ExpressionError> {
        self.enter(name, inside)?;
        let expr = self.truth(written, parsed(written, written.1)?, inside);
        inside.pop();
        expr
    }

    fn meaning(&self, written: (&str, &str), said: String, expr: Expr) -> Result<Meaning, ExpressionError> {
        let columns = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
        let (props, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let expr = create_physical_expr(&expr, &self.columns, &props, &context);
        Ok(Meaning { said, expr: expr.map_err(|error| unclear(written, &error))?, columns })
    }
}

/// The parts of a text in SQL, which stands for what was `written`.
fn parsed(written: (&str, &str), sql: &str) -> Result<ast::Expr, ExpressionError> {
    Ok(DFParser::parse_sql_into_expr(sql).map_err(|error| unclear(written, &error))?.expr)
}

/// An expression that DataFusion does not understand, with the name that it thinks is meant.
fn unclear((place, expression): (&str, &str), error: &DataFusionError) -> ExpressionError {
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
    ExpressionError::Unclear { place: place.to_owned(), expression: expression.to_owned(), problem, nearest }
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
