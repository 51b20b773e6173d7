//! Which events a client wants, and what of them: <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use parley_engine::sync::filter::lazy_members;
pub(crate) use parley_engine::sync::filter::{event_fits as wants, section_has_room as wants_room};
use ruma::api::client::filter::RoomEventFilter;
use serde_json::{Map, Value};

/// Whether the members are to be left out who sent nothing of what is shown.
pub(crate) fn is_lazy(filter: &RoomEventFilter) -> bool {
    lazy_members(filter).is_some()
}

/// The properties of events that a client wants to see.
///
/// <https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths>
#[derive(Clone, Debug)]
pub(crate) struct EventFields {
    paths: Vec<Vec<String>>,
}

impl EventFields {
    /// Those of a filter; `None` if it asks for all.
    pub(crate) fn of(paths: Option<&[String]>) -> Option<Self> {
        let paths: Vec<_> = paths?.iter().map(|path| split(path)).collect();
        (!paths.is_empty()).then_some(Self { paths })
    }

    /// An event with nothing but these properties.
    pub(crate) fn pick(&self, event: &Value) -> Value {
        let mut picked = Map::new();
        for path in &self.paths {
            copy(event, path, &mut picked);
        }
        picked.into()
    }
}

/// Copies what is at a path, if something is.
fn copy(from: &Value, path: &[String], to: &mut Map<String, Value>) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    let Some(value) = from.get(name) else { return };
    if rest.is_empty() {
        to.insert(name.clone(), value.clone());
        return;
    }
    let mut inner = match to.remove(name) {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    copy(value, rest, &mut inner);
    if !inner.is_empty() {
        to.insert(name.clone(), inner.into());
    }
}

/// The names in a path, which dots separate; a backslash before a dot or a backslash makes it part of a name.
fn split(path: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = (character == '\\')
            .then(|| characters.next_if(|next| matches!(next, '.' | '\\')))
            .flatten();
        match (character, escaped) {
            ('.', _) => names.push(String::new()),
            (character, escaped) => names
                .last_mut()
                .into_iter()
                .for_each(|name| name.push(escaped.unwrap_or(character))),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_backslash_makes_a_dot_part_of_a_name() {
        for (path, names) in [
            ("type", vec!["type"]),
            ("content.body", vec!["content", "body"]),
            (
                r"content.m\.relates_to.rel_type",
                vec!["content", "m.relates_to", "rel_type"],
            ),
            (r"a\\.b", vec![r"a\", "b"]),
            (r"a\b", vec![r"a\b"]),
            ("", vec![""]),
        ] {
            assert_eq!(split(path), names, "{path}");
        }
    }

    #[test]
    fn nothing_but_the_fields_is_left() {
        let event = json!({
            "type": "m",
            "content": { "body": "a", "a.b": { "c": 1, "d": 2 }, "url": "x" },
            "sender": "@a:x",
        });
        let paths = [
            "content.body",
            r"content.a\.b.c",
            "sender",
            "nothing.there",
            "type.of",
        ];
        let fields = EventFields::of(Some(&paths.map(str::to_owned))).unwrap();
        assert_eq!(
            fields.pick(&event),
            json!({ "content": { "body": "a", "a.b": { "c": 1 } }, "sender": "@a:x" })
        );
        assert!(EventFields::of(Some(&[])).is_none());
    }
}
