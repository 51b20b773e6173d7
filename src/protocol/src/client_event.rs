//! What a client gets to see of an event.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-event-format>

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

use ruma::{EventId, MilliSecondsSinceUnixEpoch, RoomId, events::TimelineEventType};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{StateEvent, pdu::time};

/// The fields of a PDU that clients see, borrowed from its JSON.
#[derive(Debug, Deserialize)]
pub struct ClientFields<'a> {
    /// Who sent it.
    #[serde(borrow)]
    pub sender: Cow<'a, str>,
    /// Its type.
    #[serde(borrow, rename = "type")]
    pub event_type: Cow<'a, str>,
    /// Where it stands in the room's state.
    #[serde(borrow)]
    pub state_key: Option<Cow<'a, str>>,
    /// Its content.
    #[serde(borrow)]
    pub content: &'a RawValue,
    /// When the sender's server made it.
    #[serde(deserialize_with = "time")]
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// What it redacts, where that stands at the top level. In most events this is a key that nobody knows.
    #[serde(borrow, default, deserialize_with = "text_or_other")]
    pub redacts: Option<Cow<'a, str>>,
}

/// Reads a text, if it is one.
fn text_or_other<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'a, str>>, D::Error> {
    let value = <&'a RawValue>::deserialize(deserializer)?;
    Ok(text(value))
}

/// The text that a value is.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(value.get()).ok()
}

impl<'a> ClientFields<'a> {
    /// Skims the JSON of a PDU.
    ///
    /// # Errors
    /// If it is no event.
    pub fn parse(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// The members of the client's JSON object that are the same for every receiver, without braces, so that
    /// `room_id` and `unsigned` can be put behind them.
    ///
    /// `in_content` says whether redactions of the room's version name their target in their content; only they ask for it.
    pub fn body(&self, event_id: &EventId, in_content: impl FnOnce() -> bool) -> Box<str> {
        let mut body = String::with_capacity(self.content.get().len() + 256);
        let redacted = self.redacted_event(in_content);
        body.push_str("\"content\":");
        push_content(&mut body, self.content.get(), redacted.as_ref());
        let _ = write!(
            body,
            ",\"event_id\":\"{event_id}\",\"origin_server_ts\":{}",
            self.origin_server_ts.get()
        );
        if let Some(redacted) = redacted {
            push_member(&mut body, "redacts", &redacted.event_id);
        }
        push_member(&mut body, "sender", &self.sender);
        if let Some(state_key) = &self.state_key {
            push_member(&mut body, "state_key", state_key);
        }
        push_member(&mut body, "type", &self.event_type);
        body.into_boxed_str()
    }

    /// Clients of either age look for the redacted event in either place, so it stands in both whatever the room version. Which
    /// of the two counts is up to the version: the other may name anything.
    ///
    /// <https://spec.matrix.org/v1.19/rooms/v11/#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property>
    fn redacted_event(&self, in_content: impl FnOnce() -> bool) -> Option<Redacted<'a>> {
        #[derive(Deserialize)]
        struct Content<'a> {
            #[serde(borrow)]
            redacts: Option<&'a RawValue>,
        }
        if self.event_type != "m.room.redaction" {
            return None;
        }
        let content: Content<'a> = serde_json::from_str(self.content.get()).ok()?;
        let event_id = match in_content() {
            true => content.redacts.and_then(text),
            false => self.redacts.clone(),
        };
        Some(Redacted {
            event_id: event_id?,
            stands_in_content: content.redacts.is_some(),
        })
    }
}

/// What a redaction redacts.
struct Redacted<'a> {
    event_id: Cow<'a, str>,
    stands_in_content: bool,
}

/// Appends a content, with what is redacted where that is to stand there and doesn't.
fn push_content(body: &mut String, content: &str, redacted: Option<&Redacted<'_>>) {
    let open = content.trim_end().strip_suffix('}');
    let missing = redacted.filter(|redacted| !redacted.stands_in_content);
    let (Some(open), Some(redacted)) = (open, missing) else {
        body.push_str(content);
        return;
    };
    body.push_str(open);
    if !open.trim_end().ends_with('{') {
        body.push(',');
    }
    body.push_str("\"redacts\":");
    push_string(body, &redacted.event_id);
    body.push('}');
}

fn push_member(body: &mut String, name: &str, value: &str) {
    body.push_str(",\"");
    body.push_str(name);
    body.push_str("\":");
    push_string(body, value);
}

/// Appends a client's event, put together from its body.
///
/// `room_id` is left out in /sync, where the room is known; `unsigned` appends a JSON object.
pub fn write(
    out: &mut String,
    body: &str,
    room_id: Option<&RoomId>,
    unsigned: impl FnOnce(&mut String),
) {
    out.push('{');
    out.push_str(body);
    if let Some(room_id) = room_id {
        push_member(out, "room_id", room_id.as_str());
    }
    out.push_str(",\"unsigned\":");
    unsigned(out);
    out.push('}');
}

/// Appends an event as servers send it to each other, with its id, which these leave out, and what is told to one receiver.
///
/// # Errors
/// If `pdu` is no JSON object.
pub fn write_pdu(
    out: &mut String,
    pdu: &str,
    event_id: &EventId,
    unsigned: impl FnOnce(&mut String),
) -> Result<(), serde_json::Error> {
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(pdu)?;
    out.push_str("{\"event_id\":");
    push_string(out, event_id.as_str());
    for (key, value) in &fields {
        // What another server put there is none of the receiver's business.
        if matches!(key.as_ref(), "event_id" | "unsigned") {
            continue;
        }
        out.push(',');
        push_string(out, key);
        out.push(':');
        out.push_str(value.get());
    }
    out.push_str(",\"unsigned\":");
    unsigned(out);
    out.push('}');
    Ok(())
}

/// Appends a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    // A string always serialises.
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()));
}

/// The stripped form of a state event: just content, sender, state key and type.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#stripped-state>
pub fn stripped_event(event: &StateEvent) -> Box<RawValue> {
    stripped(event, false)
}

/// The stripped form of a state event, with its time.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy>
pub fn dated_event(event: &StateEvent) -> Box<RawValue> {
    stripped(event, true)
}

/// A state event as it is shown to somebody who isn't in the room: stripped; the create event has its time besides, which
/// MSC4311 asks for and clients do no harm with.
pub fn shown_event(event: &StateEvent) -> Box<RawValue> {
    stripped(event, event.event_type == TimelineEventType::RoomCreate)
}

fn stripped(event: &StateEvent, is_dated: bool) -> Box<RawValue> {
    let mut stripped = String::with_capacity(event.content.get().len() + 128);
    stripped.push_str("{\"content\":");
    stripped.push_str(event.content.get());
    if is_dated {
        stripped.push_str(",\"origin_server_ts\":");
        stripped.push_str(&event.origin_server_ts.get().to_string());
    }
    push_member(&mut stripped, "sender", event.sender.as_str());
    push_member(&mut stripped, "state_key", &event.state_key);
    push_member(&mut stripped, "type", &event.event_type.to_string());
    stripped.push('}');
    RawValue::from_string(stripped).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use ruma::{event_id, room_id};
    use serde_json::json;

    use super::*;

    const PDU: &str = r#"{"auth_events":[],"content":{"body":"hi \"you\""},"depth":3,"hashes":{"sha256":"x"},"origin_server_ts":5,"prev_events":[],"room_id":"!r:a","sender":"@a:a","signatures":{},"type":"m.room.message"}"#;

    #[test]
    fn a_client_sees_nothing_of_federation() {
        let fields = ClientFields::parse(PDU).unwrap();
        let body = fields.body(event_id!("$id"), || true);
        let mut event = String::new();
        write(&mut event, &body, Some(room_id!("!r:a")), |out| {
            out.push_str(r#"{"age":1}"#);
        });
        assert_eq!(
            event,
            r#"{"content":{"body":"hi \"you\""},"event_id":"$id","origin_server_ts":5,"sender":"@a:a","type":"m.room.message","room_id":"!r:a","unsigned":{"age":1}}"#
        );
    }

    #[test]
    fn a_redaction_names_its_target_in_both_places_in_every_version() {
        let body_of = |in_content: bool, inside: &str, beside: &str| {
            let pdu = format!(
                r#"{{"content":{{{inside}}},"origin_server_ts":5,{beside}"sender":"@a:a","type":"m.room.redaction"}}"#
            );
            let fields = ClientFields::parse(&pdu).unwrap();
            let body = fields.body(event_id!("$id"), || in_content);
            body.into_string()
        };
        let whole = |content: &str, beside: &str| {
            format!(
                r#""content":{content},"event_id":"$id","origin_server_ts":5,{beside}"sender":"@a:a","type":"m.room.redaction""#
            )
        };
        let beside = r#""redacts":"$target","#;
        let alone = r#"{"redacts":"$target"}"#;
        let inside = &alone[1..alone.len() - 1];
        assert_eq!(body_of(true, inside, ""), whole(alone, beside));
        assert_eq!(body_of(false, "", beside), whole(alone, beside));
        assert_eq!(
            body_of(false, r#""reason":"spam""#, beside),
            whole(r#"{"reason":"spam","redacts":"$target"}"#, beside)
        );
        // What somebody put there stays.
        for odd in [r#"{"redacts":7}"#, r#"{"redacts":"$other"}"#] {
            let inside = &odd[1..odd.len() - 1];
            assert_eq!(body_of(false, inside, beside), whole(odd, beside));
        }
        // A redaction that was redacted.
        for in_content in [true, false] {
            assert_eq!(body_of(in_content, "", ""), whole("{}", ""));
        }
    }

    #[test]
    fn what_stands_where_the_version_does_not_look_is_not_told_as_what_is_redacted() {
        let body_of = |in_content: bool, inside: &str, beside: &str| {
            let pdu = format!(
                r#"{{"content":{{{inside}}},"origin_server_ts":5,"redacts":{beside},"sender":"@a:a","type":"m.room.redaction"}}"#
            );
            let fields = ClientFields::parse(&pdu).unwrap();
            let body = fields.body(event_id!("$id"), || in_content);
            let whole: serde_json::Value = serde_json::from_str(&format!("{{{body}}}")).unwrap();
            (
                whole["redacts"].clone(),
                whole["content"]["redacts"].clone(),
            )
        };
        let (real, other) = (json!("$real"), json!("$false"));
        for odd in [r#""$false""#, "7", "null", r#"{"a":[1e999]}"#] {
            let told = body_of(true, r#""redacts":"$real""#, odd);
            assert_eq!(told, (real.clone(), real.clone()), "{odd}");
            let told = body_of(true, "", odd);
            assert_eq!(told, (json!(null), json!(null)), "{odd}");
        }
        let told = body_of(false, r#""redacts":"$false""#, r#""$real""#);
        assert_eq!(told, (real, other.clone()));
        let told = body_of(false, r#""redacts":"$false""#, "7");
        assert_eq!(told, (json!(null), other));
    }

    #[test]
    fn a_time_before_the_epoch_is_told_as_the_epoch() {
        let pdu = PDU.replace(r#""origin_server_ts":5"#, r#""origin_server_ts":-5"#);
        let fields = ClientFields::parse(&pdu).unwrap();
        assert_eq!(fields.origin_server_ts.get(), ruma::uint!(0));
    }

    #[test]
    fn stripped_state_has_four_members() {
        let pdu = r#"{"content":{"name":"n"},"origin_server_ts":5,"sender":"@a:a","state_key":"","type":"m.room.name"}"#;
        let event = StateEvent::parse(event_id!("$id").to_owned(), pdu).unwrap();
        assert_eq!(
            stripped_event(&event).get(),
            r#"{"content":{"name":"n"},"sender":"@a:a","state_key":"","type":"m.room.name"}"#
        );
    }
}
