//! What documents are ordered by.

use std::collections::{BTreeSet, HashMap};

use crate::columns::AttributeTable;
use crate::config::CorpusConfig;
use crate::curate::CurateError;
use crate::decide::{DecideError, Distinction};
use crate::store::{Block, Documents};

/// Whether documents can be ordered by `expression`, which stands at the setting `place`: the name of an attribute, or SQL
/// over them.
///
/// # Errors
/// When it is neither, or an attribute is not measured.
pub fn check_order(place: &str, expression: &str, config: &CorpusConfig) -> Result<(), DecideError> {
    Distinction::new(place, expression, config).map(|_| ())
}

/// A number for each document, by its id, that the expression gives a value: the value itself where all of them are numbers,
/// or else its place among all values in the order of texts, as for times.
///
/// # Errors
/// When the expression fails on a document, or documents or attributes cannot be read.
pub fn order_keys(
    expression: &str,
    config: &CorpusConfig,
    documents: &Documents,
    attributes: &AttributeTable,
) -> Result<HashMap<String, f64>, CurateError> {
    let distinction = Distinction::new("curriculum.by", expression, config)?;
    let work = |block: Block| {
        let known = attributes.block(&block)?;
        let values = distinction.of(&block.documents, &known)?;
        Ok::<_, CurateError>(block.documents.into_iter().map(|document| document.id).zip(values).collect::<Vec<_>>())
    };
    let mut values: HashMap<String, String> = HashMap::new();
    documents.each(work, |found| {
        values.extend(found.into_iter().filter_map(|(id, value)| Some((id, value?))));
        Ok::<_, CurateError>(())
    })?;
    Ok(numbers(&values))
}

fn numbers(values: &HashMap<String, String>) -> HashMap<String, f64> {
    let number = |value: &String| value.parse::<f64>().ok().filter(|number| number.is_finite());
    let parsed = values.iter().map(|(id, value)| Some((id.clone(), number(value)?)));
    if let Some(numbers) = parsed.collect() {
        return numbers;
    }
    let distinct: BTreeSet<&String> = values.values().collect();
    let places: HashMap<&String, usize> =
        distinct.into_iter().enumerate().map(|(place, value)| (value, place)).collect();
    values.iter().map(|(id, value)| (id.clone(), places[value] as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbers_or_texts_in_order() {
        let keys = |values: [&str; 3]| {
            let values = values.into_iter().enumerate().map(|(id, value)| (id.to_string(), value.to_owned()));
            let found = numbers(&values.collect());
            ["0", "1", "2"].map(|id| found[id])
        };
        assert_eq!(keys(["10", "9", "-1.5"]), [10.0, 9.0, -1.5]);
        assert_eq!(keys(["2015-03", "2014", "2015-03"]), [1.0, 0.0, 1.0]);
        assert_eq!(keys(["10", "NaN", "9"]), [0.0, 2.0, 1.0], "not a number, so texts");
    }
}
