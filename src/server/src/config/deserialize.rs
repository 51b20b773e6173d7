//! Turns the tree into the typed sections by serde, without losing where each value was written.

use std::fmt::{self, Display};

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
        Visitor, value::StrDeserializer,
    },
};

use super::{
    ConfigError,
    tree::{Node, Origin, Value},
};

/// A serde error that collects its place on the way up.
#[derive(Debug)]
pub(super) struct Error {
    origin: Option<Origin>,
    /// Innermost key first.
    path: Vec<String>,
    message: String,
}

impl Error {
    fn at(mut self, origin: &Origin) -> Self {
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    fn under(mut self, key: &str) -> Self {
        self.path.push(key.to_owned());
        self
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self {
            origin: None,
            path: Vec::new(),
            message: message.to_string(),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!(
            "expected {}, found {unexpected}",
            plain(expected)
        ))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!(
            "{unexpected} is out of range; expected {}",
            plain(expected)
        ))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!(
            "unknown value `{variant}`; expected one of `{}`",
            expected.join("`, `")
        ))
    }
}

/// Names of Rust's types in an administrator's words.
fn plain(expected: &dyn de::Expected) -> String {
    let name = expected.to_string();
    match name.as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number, not negative".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        _ if name.starts_with("struct ") => "a table of keys".to_owned(),
        _ => name,
    }
}

impl From<Error> for ConfigError {
    fn from(error: Error) -> Self {
        let mut path = error.path;
        path.reverse();
        Self::Value {
            origin: error.origin,
            key: path.join("."),
            message: error.message,
        }
    }
}

/// Implements a number's method: parsed if it comes from the environment, as it is otherwise.
macro_rules! numbers {
    ($($method:ident => $visit:ident: $type:ty, $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let Value::Untyped(text) = &self.value else {
                return self.deserialize_any(visitor);
            };
            match text.trim().parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(Error::invalid_type(Unexpected::Str(text), &$expected)),
            }
            .map_err(|error: Error| error.at(&self.origin))
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Table(entries) => visitor.visit_map(Table {
                entries: entries.iter(),
                current: None,
            }),
            Value::Array(elements) => visitor.visit_seq(Array(elements.iter())),
            Value::String(text) | Value::Untyped(text) => visitor.visit_str(text),
            Value::Integer(integer) => visitor.visit_i64(*integer),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
        }
        .map_err(|error: Error| error.at(&self.origin))
    }

    numbers! {
        deserialize_u8 => visit_u64: u64, "u8";
        deserialize_u16 => visit_u64: u64, "u16";
        deserialize_u32 => visit_u64: u64, "u32";
        deserialize_u64 => visit_u64: u64, "u64";
        deserialize_i64 => visit_i64: i64, "i64";
        deserialize_f64 => visit_f64: f64, "f64";
        deserialize_bool => visit_bool: bool, "a boolean";
    }

    /// An empty variable means: not set.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Untyped(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A list from the environment is a TOML array or separated by commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Untyped(text) = &self.value else {
            return self.deserialize_any(visitor);
        };
        if text.trim_start().starts_with('[') {
            return self.reparsed(text, visitor);
        }
        let elements = text
            .split(',')
            .map(str::trim)
            .filter(|element| !element.is_empty());
        visitor
            .visit_seq(de::value::SeqDeserializer::new(elements))
            .map_err(|error: Error| error.at(&self.origin))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value {
            Value::Untyped(text) if text.trim_start().starts_with('{') => {
                self.reparsed(text, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.value {
            Value::String(text) | Value::Untyped(text) => {
                let variant: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
                visitor
                    .visit_enum(variant)
                    .map_err(|error| error.at(&self.origin))
            }
            _ => Err(Error::custom("expected a string").at(&self.origin)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u128 f32 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map identifier ignored_any
    }
}

impl Node {
    /// Parses the text of a variable as a TOML value.
    fn reparsed<'de, V: Visitor<'de>>(&self, text: &str, visitor: V) -> Result<V::Value, Error> {
        let node = Self::from_toml_value(text, &self.origin)
            .map_err(|message| Error::custom(message).at(&self.origin))?;
        match node.value {
            Value::Table(entries) => {
                let entries = entries.into_iter().map(|(key, node)| (key, Owned(node)));
                visitor.visit_map(de::value::MapDeserializer::new(entries))
            }
            Value::Array(elements) => {
                let elements = elements.into_iter().map(Owned);
                visitor.visit_seq(de::value::SeqDeserializer::new(elements))
            }
            _ => Err(Error::custom("expected a list or a table")),
        }
        .map_err(|error: Error| error.at(&self.origin))
    }
}

/// A node that outlives nothing: the reparsed text of a variable.
struct Owned(Node);

impl<'de> IntoDeserializer<'de, Error> for Owned {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Owned {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.value {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(integer) => visitor.visit_i64(integer),
            Value::Float(float) => visitor.visit_f64(float),
            Value::Boolean(boolean) => visitor.visit_bool(boolean),
            _ => Err(Error::custom(
                "lists and tables cannot be nested in a variable",
            )),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct newtype_struct seq tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

struct Table<'de> {
    entries: std::collections::btree_map::Iter<'de, String, Node>,
    current: Option<(&'de str, &'de Node)>,
}

impl<'de> MapAccess<'de> for Table<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, node)) = self.entries.next() else {
            return Ok(None);
        };
        self.current = Some((key, node));
        let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(key)
            .map(Some)
            .map_err(|error| error.at(&node.origin))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, node) = self
            .current
            .take()
            .ok_or_else(|| Error::custom("a value was asked for before its key"))?;
        seed.deserialize(node)
            .map_err(|error| error.at(&node.origin).under(key))
    }
}

struct Array<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Array<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }
}
