//! Large counts that people write short.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A count, written as a number or short: `1500`, `"20k"`, `"2.5M"`, `"1B"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Count(pub u64);

impl Count {
    fn parse(text: &str) -> Option<Self> {
        let compact: String = text.trim().chars().filter(|c| *c != '_').collect();
        let (number, unit) = match compact.char_indices().last()? {
            (at, 'k' | 'K') => (&compact[..at], 1e3),
            (at, 'M') => (&compact[..at], 1e6),
            (at, 'B' | 'G') => (&compact[..at], 1e9),
            _ => (compact.as_str(), 1.0),
        };
        let value = number.parse::<f64>().ok()? * unit;
        ((0.0..9e15).contains(&value) && value.fract() == 0.0).then_some(Self(value as u64))
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number such as 2000000 or \"2M\"")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Count, E> {
        Ok(Count(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Count, E> {
        u64::try_from(value).map(Count).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Count, E> {
        Count::parse(value).ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9._]+[kKMBG]?$" }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_people_write_them() {
        let read = |text: &str| serde_json::from_str::<Count>(text);
        assert_eq!(read("1500").unwrap(), Count(1500));
        assert_eq!(read("\"2.5M\"").unwrap(), Count(2_500_000));
        assert_eq!(read("\"20k\"").unwrap(), Count(20_000));
        assert_eq!(read("\"100_000\"").unwrap(), Count(100_000));
        for wrong in ["-1", "\"1.5\"", "\"many\"", "\"\"", "true"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
