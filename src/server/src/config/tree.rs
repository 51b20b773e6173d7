//! Configuration values that remember where they were written.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::ConfigError;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A line of a file, counted from 1.
    File {
        /// As it was named on the command line.
        path: Arc<Path>,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Of the key that holds the value, or of the element in an array.
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    Array(Vec<Node>),
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// From the environment: its type is what the key asks for.
    Untyped(String),
}

impl Node {
    /// Parses a whole TOML document.
    pub(super) fn from_toml(text: &str, path: &Arc<Path>) -> Result<Self, ConfigError> {
        let origin = |span: Range<usize>| Origin::File {
            path: Arc::clone(path),
            line: line_of(text, span.start),
        };
        let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
            origin: origin(error.span().unwrap_or_default()),
            message: error.message().to_owned(),
        })?;
        let root = origin(0..0);
        table(document.into_inner(), &origin).map(|value| Self {
            origin: root,
            value,
        })
    }

    /// Parses one TOML value, such as an array that came in a variable.
    pub(super) fn from_toml_value(text: &str, origin: &Origin) -> Result<Self, String> {
        let parsed = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
        let value = value(parsed.into_inner(), &|_| origin.clone()).map_err(|e| e.to_string())?;
        Ok(Self {
            origin: origin.clone(),
            value,
        })
    }

    /// The table's entry; none if it has none or isn't a table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries.get(key),
            _ => None,
        }
    }

    pub(super) fn as_table_mut(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        match &mut self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    /// Where the value at the dotted `path` was written; none for a default.
    pub(super) fn origin_of(&self, path: &str) -> Option<&Origin> {
        let node = path.split('.').try_fold(self, |node, key| node.get(key))?;
        Some(&node.origin)
    }
}

fn table(
    entries: DeTable<'_>,
    origin: &impl Fn(Range<usize>) -> Origin,
) -> Result<Value, ConfigError> {
    let entries = entries.into_iter().map(|(key, entry)| {
        let node = Node {
            origin: origin(key.span()),
            value: value(entry.into_inner(), origin)?,
        };
        Ok((key.into_inner().into_owned(), node))
    });
    entries.collect::<Result<_, _>>().map(Value::Table)
}

fn value(
    parsed: DeValue<'_>,
    origin: &impl Fn(Range<usize>) -> Origin,
) -> Result<Value, ConfigError> {
    Ok(match parsed {
        DeValue::Table(entries) => table(entries, origin)?,
        DeValue::Array(elements) => Value::Array(
            elements
                .into_iter()
                .map(|element: Spanned<DeValue<'_>>| {
                    let origin_of_element = origin(element.span());
                    let value = value(element.into_inner(), origin)?;
                    Ok(Node {
                        origin: origin_of_element,
                        value,
                    })
                })
                .collect::<Result<_, ConfigError>>()?,
        ),
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Integer(integer) => {
            match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => Value::Integer(integer),
                // Too large for TOML: kept as text, so that the key's own error is given.
                Err(_) => Value::String(integer.to_string()),
            }
        }
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(float) => Value::Float(float),
            Err(_) => Value::String(float.to_string()),
        },
    })
}

/// The line, counted from 1, that holds the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}
