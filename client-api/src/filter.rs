//! Which events a client wants, and what of them: <https://spec.matrix.org/v1.19/client-server-api/#filtering>

pub(crate) use parley_engine::sync::filter::{event_fits as wants, section_has_room as wants_room};
use parley_engine::{rooms::timeline::TimelineEvent, sync::filter::lazy_members};
use parley_protocol::relation::Relation;
use percent_encoding::percent_decode_str;
use ruma::api::client::filter::RoomEventFilter;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Whether the members are to be left out who sent nothing of what is shown.
pub(crate) fn is_lazy(filter: &RoomEventFilter) -> bool {
    lazy_members(filter).is_some()
}

/// How the events that a client wants relate to others, of a proposal that ruma's filter doesn't have:
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/3874>
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RelationFilter {
    #[serde(rename = "org.matrix.msc3874.rel_types")]
    wanted: Option<Vec<String>>,
    #[serde(default, rename = "org.matrix.msc3874.not_rel_types")]
    unwanted: Vec<String>,
}

impl RelationFilter {
    /// What the parameter `filter` of a query says of this; nothing if it isn't a filter, which is refused elsewhere.
    pub(crate) fn of_query(query: &str) -> Self {
        let filter = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("filter="));
        let Some(filter) = filter.filter(|filter| filter.contains("msc3874")) else {
            return Self::default();
        };
        let spaced = filter.replace('+', " ");
        let text = percent_decode_str(&spaced).decode_utf8_lossy();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Whether it lets an event pass.
    pub(crate) fn wants(&self, event: &TimelineEvent) -> bool {
        if self.wanted.is_none() && self.unwanted.is_empty() {
            return true;
        }
        let relation = Relation::of_content(event.content());
        let is = |types: &[String]| {
            relation
                .as_ref()
                .is_some_and(|relation| types.contains(&relation.rel_type))
        };
        self.wanted.as_deref().is_none_or(is) && !is(&self.unwanted)
    }
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
