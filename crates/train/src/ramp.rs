//! Settings that change while a stage runs: one value, or two of which the first turns into the second.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use arable_core::Probability;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value at the beginning of a stage and one at its end, with a straight line between: `0.3` or `[0.4, 0.2]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp<T> {
    /// At the beginning.
    pub from: T,
    /// At the end.
    pub to: T,
}

/// What has values between two others.
pub trait Between: Copy + PartialEq {
    /// The value at `progress` in `[0, 1]` of the way from `from` to `to`.
    fn between(from: Self, to: Self, progress: f64) -> Self;
}

impl Between for f64 {
    fn between(from: Self, to: Self, progress: f64) -> Self {
        from + (to - from) * progress
    }
}

impl Between for usize {
    fn between(from: Self, to: Self, progress: f64) -> Self {
        f64::between(from as f64, to as f64, progress).round() as Self
    }
}

impl Between for Probability {
    fn between(from: Self, to: Self, progress: f64) -> Self {
        Self::new(f64::between(from.get(), to.get(), progress).clamp(0.0, 1.0)).expect("between two probabilities")
    }
}

impl<T: Between> Ramp<T> {
    /// The same value all along.
    pub fn constant(value: T) -> Self {
        Self { from: value, to: value }
    }

    /// The value at `progress` in `[0, 1]`.
    pub fn at(&self, progress: f64) -> T {
        if self.from == self.to { self.from } else { T::between(self.from, self.to, progress.clamp(0.0, 1.0)) }
    }

    /// Both ends.
    pub fn ends(&self) -> [T; 2] {
        [self.from, self.to]
    }
}

impl Ramp<usize> {
    /// The largest value on the way.
    pub fn most(&self) -> usize {
        self.from.max(self.to)
    }
}

impl<T: Serialize + PartialEq> Serialize for Ramp<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.from == self.to {
            self.from.serialize(serializer)
        } else {
            (&self.from, &self.to).serialize(serializer)
        }
    }
}

impl<'de, T: Deserialize<'de> + Copy> Deserialize<'de> for Ramp<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(PhantomData))
    }
}

/// Reads a number or two.
struct Written<T>(PhantomData<T>);

impl<T> Written<T> {
    fn one<'de, E: Error>(value: impl IntoDeserializer<'de, E>) -> Result<Ramp<T>, E>
    where
        T: Deserialize<'de> + Copy,
    {
        let value = T::deserialize(value.into_deserializer())?;
        Ok(Ramp { from: value, to: value })
    }
}

impl<'de, T: Deserialize<'de> + Copy> Visitor<'de> for Written<T> {
    type Value = Ramp<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or two such as [0.4, 0.2] for the beginning and the end")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Self::one(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Self::one(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Self::one(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<Self::Value, A::Error> {
        let values: Vec<T> = Vec::deserialize(SeqAccessDeserializer::new(values))?;
        let [from, to] = values[..] else { return Err(A::Error::invalid_length(values.len(), &self)) };
        Ok(Ramp { from, to })
    }
}

impl<T: JsonSchema> JsonSchema for Ramp<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Ramp_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 2, "maxItems": 2 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de> + Copy>(text: &str) -> Result<Ramp<T>, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_ramp_is_a_number_or_two() {
        assert_eq!(read("128"), Ok(Ramp::constant(128usize)));
        let falling: Ramp<Probability> = read("[0.4, 0.2]").unwrap();
        assert!((falling.at(0.5).get() - 0.3).abs() < 1e-12);
        assert_eq!([falling.at(0.0), falling.at(2.0)], falling.ends());
        assert_eq!(Ramp { from: 64usize, to: 129 }.at(0.5), 97);
        for ramp in ["64", "[64,128]"] {
            assert_eq!(serde_json::to_string(&read::<usize>(ramp).unwrap()).unwrap(), ramp);
        }
        assert!(read::<Probability>("1.5").unwrap_err().contains("1.5"));
        assert!(read::<usize>("[1, 2, 3]").unwrap_err().contains("expected a number, or two"));
        assert!(read::<f64>("\"x\"").unwrap_err().contains("expected a number, or two"));
    }
}
