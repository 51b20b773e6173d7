//! Reading the JSON that a client sends as content of an event.

use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use serde_json::value::RawValue;

/// Why a client's JSON can't be the content of an event.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ContentError {
    /// It isn't an object.
    #[error("the content of an event must be a JSON object")]
    NotAnObject,
    /// A number with a fraction or beyond 2^53, which canonical JSON doesn't have.
    #[error("the content can't be canonical JSON: {0}")]
    NotCanonical(String),
}

/// Reads content into the form that is hashed and signed.
///
/// # Errors
/// Anything that isn't an object, or holds what canonical JSON has no form for (fractions, integers outside
/// ±(2^53 - 1)). <https://spec.matrix.org/v1.19/appendices/#canonical-json>
pub fn parse(json: &RawValue) -> Result<CanonicalJsonObject, ContentError> {
    match serde_json::from_str::<CanonicalJsonValue>(json.get()) {
        Ok(CanonicalJsonValue::Object(object)) => Ok(object),
        Ok(_) => Err(ContentError::NotAnObject),
        Err(error) => Err(ContentError::NotCanonical(error.to_string())),
    }
}

/// Turns a value that this server made into content.
///
/// # Errors
/// As [`parse`].
pub fn from_serializable<T: serde::Serialize>(
    value: &T,
) -> Result<CanonicalJsonObject, ContentError> {
    match ruma::canonical_json::to_canonical_value(value) {
        Ok(CanonicalJsonValue::Object(object)) => Ok(object),
        Ok(_) => Err(ContentError::NotAnObject),
        Err(error) => Err(ContentError::NotCanonical(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn fractions_and_huge_integers_are_refused() {
        assert!(matches!(
            parse(&raw(r#"{"a":1.5}"#)),
            Err(ContentError::NotCanonical(_))
        ));
        assert!(matches!(
            parse(&raw(r#"{"a":9007199254740992}"#)),
            Err(ContentError::NotCanonical(_))
        ));
        assert!(parse(&raw(r#"{"a":9007199254740991}"#)).is_ok());
    }

    #[test]
    fn only_an_object_is_content() {
        assert_eq!(parse(&raw("[]")), Err(ContentError::NotAnObject));
    }
}
