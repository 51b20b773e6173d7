//! An event as servers exchange it.

use ruma::{
    EventId, Int, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt,
    UserId, events::TimelineEventType, state_res::Event,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;

/// A persistent data unit with its id: what authorisation and state resolution look at.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#pdus>
#[derive(Clone, Debug)]
pub struct Pdu {
    /// Its id.
    pub event_id: OwnedEventId,
    /// What it carries.
    pub fields: PduFields,
    /// Whether the rules of the room refused it: then nothing that it allows is allowed.
    pub rejected: bool,
}

/// The fields of a PDU that this server looks at.
#[derive(Clone, Debug, Deserialize)]
pub struct PduFields {
    /// Its room; the create event of a version 12 room has none.
    pub room_id: Option<OwnedRoomId>,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// When the sender's server made it.
    #[serde(deserialize_with = "time")]
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: TimelineEventType,
    /// Its content, canonical JSON.
    pub content: Box<RawValue>,
    /// Where it stands in the room's state, if it is a state event.
    pub state_key: Option<String>,
    /// The forward extremities that its server saw.
    #[serde(deserialize_with = "event_ids")]
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it.
    #[serde(deserialize_with = "event_ids")]
    pub auth_events: Vec<OwnedEventId>,
    /// One more than that of its prev events.
    pub depth: UInt,
    /// What it redacts, before room version 11. In other events and later versions this is a key like any that nobody knows,
    /// and whatever stands there makes no event malformed.
    #[serde(default, deserialize_with = "event_id_or_other")]
    pub redacts: Option<OwnedEventId>,
}

/// Reads references to events: ids, or in versions 1 and 2 pairs of an id and hashes.
fn event_ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OwnedEventId>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Reference {
        Id(OwnedEventId),
        Pair(OwnedEventId, IgnoredAny),
    }
    let references = Vec::<Reference>::deserialize(deserializer)?;
    Ok(references
        .into_iter()
        .map(|(Reference::Id(id) | Reference::Pair(id, _))| id)
        .collect())
}

/// Reads a time. It may be before the epoch; nobody here asks by how much.
pub(crate) fn time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<MilliSecondsSinceUnixEpoch, D::Error> {
    let time = i64::from(Int::deserialize(deserializer)?);
    let time = u64::try_from(time).unwrap_or_default();
    Ok(MilliSecondsSinceUnixEpoch(UInt::new_saturating(time)))
}

/// Reads an event id, if it is one.
fn event_id_or_other<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<OwnedEventId>, D::Error> {
    let value = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(value.get()).ok())
}

impl Pdu {
    /// Reads a PDU from its JSON.
    ///
    /// # Errors
    /// If a required field is missing or has the wrong type.
    pub fn parse(event_id: OwnedEventId, json: &str) -> serde_json::Result<Self> {
        Ok(Self {
            event_id,
            fields: serde_json::from_str(json)?,
            rejected: false,
        })
    }

    /// Reads its content as a type.
    ///
    /// # Errors
    /// If the content has another shape.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> serde_json::Result<T> {
        serde_json::from_str(self.fields.content.get())
    }

    /// What it redacts: from `content` since room version 11, from the top level before.
    pub fn redacts(&self, in_content: bool) -> Option<OwnedEventId> {
        #[derive(Deserialize)]
        struct Redacts {
            redacts: Option<OwnedEventId>,
        }
        if self.fields.event_type != TimelineEventType::RoomRedaction {
            return None;
        }
        if in_content {
            return self
                .content_as::<Redacts>()
                .ok()
                .and_then(|content| content.redacts);
        }
        self.fields.redacts.clone()
    }
}

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.fields.room_id.as_deref()
    }

    fn sender(&self) -> &UserId {
        &self.fields.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.fields.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.fields.event_type
    }

    fn content(&self) -> &RawValue {
        &self.fields.content
    }

    fn state_key(&self) -> Option<&str> {
        self.fields.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.fields.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.fields.auth_events.iter())
    }

    fn redacts(&self) -> Option<&Self::Id> {
        self.fields.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

/// Whether an event id is the one that a version 12 room is named after.
pub fn names_room(event_id: &EventId, room_id: &RoomId) -> bool {
    event_id.as_str().strip_prefix('$') == room_id.as_str().strip_prefix('!')
}
