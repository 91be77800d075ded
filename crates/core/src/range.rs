//! Numbers that cannot be outside their range.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A value outside the range of its type.
#[derive(Debug, thiserror::Error)]
#[error("{value} is outside {range}")]
pub struct OutOfRange {
    value: f64,
    range: &'static str,
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident, $range:literal, $holds:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// Checks the range.
            ///
            /// # Errors
            /// When `value` is outside the type's range.
            pub fn new(value: f64) -> Result<Self, OutOfRange> {
                let holds: fn(f64) -> bool = $holds;
                if holds(value) { Ok(Self(value)) } else { Err(OutOfRange { value, range: $range }) }
            }

            /// The number.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;
            fn try_from(value: f64) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

ranged!(
    /// A probability in `[0, 1]`.
    Probability, "[0, 1]", |value| (0.0..=1.0).contains(&value), { "type": "number", "minimum": 0, "maximum": 1 }
);
ranged!(
    /// A part of a whole, in `(0, 1]`.
    Fraction, "(0, 1]", |value| value > 0.0 && value <= 1.0, { "type": "number", "exclusiveMinimum": 0, "maximum": 1 }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn illegal_values_cannot_exist() {
        assert!(Probability::new(0.0).is_ok() && Probability::new(1.0).is_ok());
        assert!(Probability::new(1.1).is_err() && Probability::new(f64::NAN).is_err());
        assert!(Fraction::new(0.0).is_err() && Fraction::new(1.0).is_ok());
        assert!(serde_json::from_str::<Probability>("-0.5").is_err());
    }
}
