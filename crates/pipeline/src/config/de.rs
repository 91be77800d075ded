//! Reads a serde type from what was written, with faults that know their key path and place.

use std::fmt::Display;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::error::Problem;
use super::keys::{KeyPath, listed};
use super::tree::{Entry, Node, Place, Value, element_name};

/// A problem on its way up: each level puts its key in front, the innermost level that knows a place names it.
#[derive(Debug)]
pub(super) struct Fault {
    pub problem: Problem,
    pub key: KeyPath,
    pub at: Option<Place>,
}

impl Fault {
    fn new(problem: Problem) -> Self {
        Self { problem, key: KeyPath::default(), at: None }
    }

    fn placed(mut self, at: Place) -> Self {
        self.at.get_or_insert(at);
        self
    }

    fn below(mut self, key: &str, at: Place) -> Self {
        self.key.prepend(key);
        self.placed(at)
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.key, self.problem)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<M: Display>(message: M) -> Self {
        Self::new(Problem::Illegal { message: message.to_string() })
    }

    fn invalid_type(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::Unfit { expected: expected_words(expected), got: got_words(got) })
    }

    fn invalid_value(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(got, expected)
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::new(Problem::Unfit { expected: expected.to_string(), got: format!("{len} elements") })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownChoice { choice: variant.to_owned(), known: owned(expected) })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey { key: field.to_owned(), known: owned(expected), elsewhere: Vec::new() })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::MissingKey { key: field.to_owned() })
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Serde's names of types, in the words of people who write TOML.
fn expected_words(expected: &dyn Expected) -> String {
    let words = expected.to_string();
    let range = |low: i128, high: i128| format!("a whole number from {low} to {high}");
    match words.as_str() {
        "u8" => range(0, u8::MAX.into()),
        "u16" => range(0, u16::MAX.into()),
        "u32" => range(0, u32::MAX.into()),
        "u64" | "usize" | "u128" => "a whole number from 0".to_owned(),
        "i8" => range(i8::MIN.into(), i8::MAX.into()),
        "i16" => range(i16::MIN.into(), i16::MAX.into()),
        "i32" => range(i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" | "i128" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" | "path string" | "a character" => "a text".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("a nonzero ") => "a whole number from 1".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        _ => words,
    }
}

fn got_words(got: Unexpected<'_>) -> String {
    match got {
        Unexpected::Bool(flag) => flag.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Float(number) => format!("{number:?}"),
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn unfit(expected: impl Into<String>, got: &Value) -> Fault {
    Fault::new(Problem::Unfit { expected: expected.into(), got: value_words(got) })
}

/// A written value in a few words.
pub(super) fn value_words(value: &Value) -> String {
    match value {
        Value::Text(text) => got_words(Unexpected::Str(text)),
        Value::Bare { value, .. } => value_words(value),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => got_words(Unexpected::Float(*number)),
        Value::Boolean(flag) => flag.to_string(),
        Value::Array(_) => "an array".to_owned(),
        Value::Table(entries) if entries.len() > 1 => {
            format!("a table of {}", listed(&entries.iter().map(|entry| &entry.key).collect::<Vec<_>>()))
        }
        Value::Table(_) => "a table".to_owned(),
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Bare { value, .. } => value.deserialize_any(visitor),
            Value::Integer(number) => visit_integer(*number, visitor),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(flag) => visitor.visit_bool(*flag),
            Value::Array(elements) => visitor.visit_seq(Elements { elements, idx: 0 }),
            Value::Table(entries) => visitor.visit_map(Entries { entries: entries.iter(), pending: None }),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Value::Bare { raw, .. } => visitor.visit_borrowed_str(raw),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    // Serde would also fill a struct from an array, by position: nobody means that.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if let Value::Table(_) = self { self.deserialize_any(visitor) } else { Err(unfit("a table", self)) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            Value::Text(name) | Value::Bare { raw: name, .. } => visitor.visit_enum(Choice { name, body: None }),
            Value::Table(entries) if entries.len() == 1 => {
                visitor.visit_enum(Choice { name: &entries[0].key, body: Some(&entries[0]) })
            }
            other => Err(unfit(format!("exactly one of {}", listed(variants)), other)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

fn visit_integer<'de, V: Visitor<'de>>(number: i128, visitor: V) -> Result<V::Value, Fault> {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => visitor.visit_i64(number),
        (_, Ok(number)) => visitor.visit_u64(number),
        _ => visitor.visit_i128(number),
    }
}

impl<'de> IntoDeserializer<'de, Fault> for &'de Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Reads the whole tree.
pub(super) fn from_tree<'de, T: de::Deserialize<'de>>(root: &'de Node) -> Result<T, Fault> {
    T::deserialize(&root.value).map_err(|fault| fault.placed(root.at))
}

struct Elements<'de> {
    elements: &'de [Node],
    idx: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(node) = self.elements.get(self.idx) else { return Ok(None) };
        let (elements, idx) = (self.elements, self.idx);
        self.idx += 1;
        seed.deserialize(&node.value).map(Some).map_err(|fault| fault.below(&element_name(elements, idx), node.at))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len() - self.idx)
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    pending: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.pending = self.entries.next();
        let Some(entry) = self.pending else { return Ok(None) };
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.placed(entry.key_at))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let entry = self.pending.take().expect("serde asks for a value only after its key");
        seed.deserialize(&entry.node.value).map_err(|fault| fault.below(&entry.key, entry.node.at))
    }
}

/// A chosen variant: a text, or a table of one key whose value is the variant's body.
struct Choice<'de> {
    name: &'de str,
    body: Option<&'de Entry>,
}

/// The body of a variant that was written as a text alone: all of its fields are left to their defaults.
static NO_FIELDS: Value = Value::Table(Vec::new());

impl<'de> Choice<'de> {
    fn value(&self) -> &'de Value {
        self.body.map_or(&NO_FIELDS, |entry| &entry.node.value)
    }

    fn explain(&self, fault: Fault) -> Fault {
        match self.body {
            Some(entry) => fault.below(self.name, entry.node.at),
            None => Fault {
                key: std::iter::once(self.name).chain(fault.key.segments().iter().map(String::as_str)).collect(),
                ..fault
            },
        }
    }
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        let placed = |fault: Fault| match self.body {
            Some(entry) => fault.placed(entry.key_at),
            None => fault,
        };
        Ok((seed.deserialize(name).map_err(placed)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.value() {
            Value::Table(entries) if entries.is_empty() => Ok(()),
            other => Err(self.explain(unfit("no settings", other))),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self.value()).map_err(|fault| self.explain(fault))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.value().deserialize_any(visitor).map_err(|fault| self.explain(fault))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        self.value().deserialize_struct("", fields, visitor).map_err(|fault| self.explain(fault))
    }
}
