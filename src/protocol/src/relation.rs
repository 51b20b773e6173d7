//! How an event relates to another.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>

use std::borrow::Cow;

use ruma::OwnedEventId;
use serde::Deserialize;

/// What `m.relates_to` says. A reply alone is no relation: it has no type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The event that it relates to.
    pub target: OwnedEventId,
    /// In which way: `m.annotation`, `m.reference`, `m.replace`, `m.thread` or any other.
    pub rel_type: String,
    /// What an annotation says.
    pub key: Option<String>,
}

/// The key by which a content holds its relation.
const KEY: &str = "m.relates_to";

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, rename = "m.relates_to")]
    relation: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    event_id: OwnedEventId,
    #[serde(borrow)]
    rel_type: Cow<'a, str>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
}

impl Relation {
    /// Reads the relation in an event's content, JSON. `None` if there is none, or none that is whole.
    pub fn of_content(content: &str) -> Option<Self> {
        // Most events have none, which is seen without parsing.
        if !content.contains(KEY) {
            return None;
        }
        let Content { relation } = serde_json::from_str(content).ok()?;
        let rel_type = relation.rel_type.into_owned();
        // What can't be stored relates to nothing.
        let storable = |text: &str| !text.contains('\0');
        let key = relation.key.map(Cow::into_owned);
        (storable(&rel_type) && key.as_deref().is_none_or(storable)).then_some(Self {
            target: relation.event_id,
            rel_type,
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use ruma::event_id;

    use super::*;

    #[test]
    fn a_reaction_has_a_key() {
        let content =
            r#"{"m.relates_to":{"event_id":"$a","key":"\u2615","rel_type":"m.annotation"}}"#;
        let relation = Relation {
            target: event_id!("$a").to_owned(),
            rel_type: "m.annotation".to_owned(),
            key: Some("\u{2615}".to_owned()),
        };
        assert_eq!(Relation::of_content(content), Some(relation));
    }

    #[test]
    fn what_is_not_whole_is_no_relation() {
        for content in [
            "{}",
            r#"{"m.relates_to":{"m.in_reply_to":{"event_id":"$a"}}}"#,
            r#"{"m.relates_to":{"event_id":"no id","rel_type":"m.thread"}}"#,
            r#"{"m.relates_to":[]}"#,
            r#"{"m.relates_to":{"event_id":"$a","rel_type":"a\u0000"}}"#,
        ] {
            assert_eq!(Relation::of_content(content), None, "{content}");
        }
    }
}
