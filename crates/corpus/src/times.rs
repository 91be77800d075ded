//! Times as documents give them: texts that begin as ISO 8601 has it, of any precision.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The month, or the year where none is given, that a time begins with; none of other texts.
pub(crate) fn month(time: &str) -> Option<&str> {
    let year = time.get(..4).filter(|year| year.bytes().all(|byte| byte.is_ascii_digit()))?;
    let is_month = |text: &str| text.strip_prefix('-').is_some_and(|month| ("01"..="12").contains(&month));
    Some(time.get(4..7).filter(|text| is_month(text)).and(time.get(..7)).unwrap_or(year))
}

/// The day that a time begins with, or the month, or the year, whatever is given; none of other texts.
pub(crate) fn day(time: &str) -> Option<&str> {
    let month = month(time)?;
    let is_day = |text: &str| text.strip_prefix('-').is_some_and(|day| ("01"..="31").contains(&day));
    let day = time.get(7..10).filter(|text| month.len() == 7 && is_day(text));
    Some(day.and(time.get(..10)).unwrap_or(month))
}

/// What [`day`] gave, for comparing: a month or a year counts as its last day, because it may be as late.
pub(crate) fn latest(day: &str) -> String {
    match day.len() {
        4 => format!("{day}-12-31"),
        7 => format!("{day}-31"),
        _ => day.to_owned(),
    }
}

/// A year, a month or a day: `2015`, `2015-03`, `2015-03-24`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(String);

/// A text that is no day.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a time such as 2015, 2015-03 or 2015-03-24")]
pub struct NotADay(String);

impl Day {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Day {
    type Error = NotADay;
    fn try_from(text: String) -> Result<Self, NotADay> {
        if day(&text) == Some(&text) { Ok(Self(text)) } else { Err(NotADay(text)) }
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.0
    }
}

impl JsonSchema for Day {
    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_told_from_other_texts() {
        let found = ["2024-05-03T10:00", "2024-13", "1999", "May 2024", "2024-0", "20", "202४-05"].map(month);
        assert_eq!(found, [Some("2024-05"), Some("2024"), Some("1999"), None, Some("2024"), None, None]);
    }

    #[test]
    fn times_are_as_precise_as_they_are_given() {
        for (time, expected) in [
            ("2015", Some("2015")),
            ("2015-03", Some("2015-03")),
            ("2015-03-24T10:00:00+02:00", Some("2015-03-24")),
            ("2015-13-24", Some("2015")),
            ("2015-03-99", Some("2015-03")),
            ("in 2015", None),
            ("", None),
        ] {
            assert_eq!(day(time), expected, "{time}");
        }
    }

    #[test]
    fn what_is_less_precise_may_be_as_late() {
        let mut days = ["2015", "2015-03-24", "2015-03", "2014-12-31", "2015-12-30"];
        days.sort_by_key(|day| latest(day));
        assert_eq!(days, ["2014-12-31", "2015-03-24", "2015-03", "2015-12-30", "2015"]);
        assert!(*latest("2015") >= *"2015-07" && *latest("2014") < *"2015");
    }

    #[test]
    fn a_day_is_nothing_but_a_day() {
        assert_eq!(serde_json::from_str::<Day>("\"2015-03\"").unwrap().as_str(), "2015-03");
        for wrong in ["\"2015-3\"", "\"yesterday\"", "\"2015-03-24T10:00\"", "2015"] {
            assert!(serde_json::from_str::<Day>(wrong).is_err(), "{wrong}");
        }
    }
}
