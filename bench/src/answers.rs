//! What the load program reads of the server's answers. Everything else in them is skipped without being kept.

use std::{borrow::Cow, collections::HashMap, fmt};

use anyhow::{Context as _, Result};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

/// The length of a list whose elements don't matter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Count(pub(crate) usize);

/// `POST /register` and `POST /login`: a new device.
#[derive(Debug, Deserialize)]
pub(crate) struct LoggedIn<'a> {
    #[serde(borrow)]
    pub(crate) access_token: Cow<'a, str>,
}

/// The 401 of user-interactive authentication.
#[derive(Debug, Deserialize)]
pub(crate) struct MoreAuthentication<'a> {
    #[serde(borrow)]
    pub(crate) session: Cow<'a, str>,
}

/// `GET /_synapse/admin/v1/register`.
#[derive(Debug, Deserialize)]
pub(crate) struct Nonce<'a> {
    #[serde(borrow)]
    pub(crate) nonce: Cow<'a, str>,
}

/// `POST /createRoom`.
#[derive(Debug, Deserialize)]
pub(crate) struct Created<'a> {
    #[serde(borrow)]
    pub(crate) room_id: Cow<'a, str>,
}

/// `GET /account/whoami`.
#[derive(Debug, Deserialize)]
pub(crate) struct WhoAmI<'a> {
    #[serde(borrow)]
    pub(crate) user_id: Cow<'a, str>,
}

/// `PUT /rooms/{roomId}/send/{eventType}/{txnId}`.
#[derive(Debug, Deserialize)]
pub(crate) struct Sent<'a> {
    #[serde(borrow)]
    pub(crate) event_id: Cow<'a, str>,
}

/// `GET /rooms/{roomId}/joined_members`.
#[derive(Debug, Deserialize)]
pub(crate) struct JoinedMembers<'a> {
    #[serde(borrow)]
    pub(crate) joined: HashMap<Cow<'a, str>, IgnoredAny>,
}

/// `GET /rooms/{roomId}/messages`.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    /// Where to go on; absent or equal to `start` at the end of the history.
    #[serde(borrow)]
    pub(crate) end: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) start: Cow<'a, str>,
    pub(crate) chunk: Count,
}

/// `GET /sync`, with a body for each event of a timeline that has one.
#[derive(Debug, Deserialize)]
pub(crate) struct Sync<'a> {
    #[serde(borrow)]
    pub(crate) next_batch: Cow<'a, str>,
    #[serde(borrow, default)]
    rooms: Rooms<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Rooms<'a> {
    #[serde(borrow, default)]
    join: HashMap<Cow<'a, str>, Joined<'a>>,
}

#[derive(Debug, Deserialize)]
struct Joined<'a> {
    #[serde(borrow, default)]
    timeline: Timeline<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Timeline<'a> {
    #[serde(borrow, default)]
    events: Vec<Event<'a>>,
    #[serde(default)]
    limited: bool,
}

#[derive(Debug, Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Debug, Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
}

impl Sync<'_> {
    /// The numbers of the messages in the timeline of this room, as [`message`] writes them.
    pub(crate) fn numbers(&self, room_id: &str) -> impl Iterator<Item = usize> {
        let events = self
            .rooms
            .join
            .get(room_id)
            .map_or(&[][..], |room| &room.timeline.events);
        events
            .iter()
            .filter_map(|event| number(event.content.body.as_deref()?))
    }

    /// Whether the server left out older events of this room's timeline.
    pub(crate) fn is_limited(&self, room_id: &str) -> bool {
        self.rooms
            .join
            .get(room_id)
            .is_some_and(|room| room.timeline.limited)
    }

    /// The number of joined rooms.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.join.len()
    }

    /// The number of events in all timelines.
    pub(crate) fn events(&self) -> usize {
        self.rooms
            .join
            .values()
            .map(|room| room.timeline.events.len())
            .sum()
    }
}

/// The body of a message that can be recognised when it arrives.
pub(crate) fn message(number: usize) -> String {
    format!("message {number}")
}

fn number(body: &str) -> Option<usize> {
    body.strip_prefix("message ")?.parse().ok()
}

/// Reads an answer; `what` names the request in the error.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(body).with_context(|| {
        let start = String::from_utf8_lossy(&body[..body.len().min(300)]);
        format!("the answer to {what} is not as the specification says: {start}")
    })
}

/// The error code of an answer, if it's an error of Matrix.
pub(crate) fn errcode(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Error {
        errcode: String,
    }
    serde_json::from_slice(body)
        .ok()
        .map(|error: Error| error.errcode)
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting;

        impl<'de> Visitor<'de> for Counting {
            type Value = Count;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }

        deserializer.deserialize_seq(Counting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: &str = r#"{
        "next_batch": "s1_\u0032",
        "presence": {"events": [{"content": {"body": "message 9"}}]},
        "rooms": {"join": {
            "!a:x": {
                "state": {"events": [{"type": "m.room.member", "content": {"membership": "join"}}]},
                "timeline": {"limited": true, "events": [
                    {"type": "m.room.message", "content": {"body": "message 4", "msgtype": "m.text"}},
                    {"type": "m.room.message", "content": {"body": "said \"message 5\""}},
                    {"type": "m.room.redaction", "content": {}},
                    {"type": "m.room.message", "content": {"body": "message 17"}}
                ]}
            },
            "!b:x": {"timeline": {"events": [{"content": {"body": "message 1"}}]}},
            "!c:x": {"ephemeral": {"events": []}}
        }}
    }"#;

    #[test]
    fn the_messages_of_one_room_are_found_in_a_sync() {
        let sync: Sync<'_> = read(SYNC.as_bytes(), "/sync").unwrap();
        assert_eq!(sync.next_batch, "s1_2");
        assert_eq!(sync.numbers("!a:x").collect::<Vec<_>>(), [4, 17]);
        assert!(sync.is_limited("!a:x") && !sync.is_limited("!b:x"));
        assert_eq!(sync.numbers("!d:x").count(), 0);
        assert_eq!((sync.rooms(), sync.events()), (3, 5));
    }

    #[test]
    fn a_sync_without_rooms_holds_nothing() {
        let sync: Sync<'_> = read(br#"{"next_batch":"7"}"#, "/sync").unwrap();
        assert_eq!((sync.rooms(), sync.events()), (0, 0));
    }

    #[test]
    fn the_events_of_a_page_are_counted() {
        let page: Page<'_> = read(
            br#"{"chunk":[{"a":[1,{}]},{},{}],"start":"1","end":"2"}"#,
            "m",
        )
        .unwrap();
        assert_eq!((page.chunk, page.end.as_deref()), (Count(3), Some("2")));
        let last: Page<'_> = read(br#"{"start":"2","chunk":[]}"#, "m").unwrap();
        assert_eq!((last.chunk, last.end), (Count(0), None));
    }

    #[test]
    fn an_answer_that_is_not_json_is_quoted_in_the_error() {
        let error = read::<Created<'_>>(b"<html>", "/createRoom").unwrap_err();
        assert!(
            error.to_string().contains("/createRoom") && error.to_string().contains("<html>"),
            "{error}"
        );
    }

    #[test]
    fn what_is_written_in_a_message_is_read_again() {
        assert_eq!(number(&message(123)), Some(123));
        assert_eq!(number("message 12 and more"), None);
    }

    #[test]
    fn an_error_code_is_found_in_errors_of_matrix_only() {
        assert_eq!(
            errcode(br#"{"errcode":"M_FORBIDDEN","error":"no"}"#).as_deref(),
            Some("M_FORBIDDEN")
        );
        assert_eq!(errcode(b"<h1>502</h1>"), None);
    }
}
