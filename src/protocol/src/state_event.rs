//! A state event, reduced to what is asked of the current state of a room.

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, RoomId, UserId,
    events::TimelineEventType, state_res::Event,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Pdu, pdu::time};

/// A state event without its place in the graph, of which a room in memory holds many.
#[derive(Clone, Debug)]
pub struct StateEvent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: TimelineEventType,
    /// Its state key.
    pub state_key: Box<str>,
    /// Its content, canonical JSON.
    pub content: Box<RawValue>,
    /// When it was sent.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

impl StateEvent {
    /// What stays of a PDU; `None` if it is no state event.
    pub fn from_pdu(pdu: &Pdu) -> Option<Self> {
        Some(Self {
            event_id: pdu.event_id.clone(),
            sender: pdu.fields.sender.clone(),
            event_type: pdu.fields.event_type.clone(),
            state_key: pdu.fields.state_key.as_deref()?.into(),
            content: pdu.fields.content.clone(),
            origin_server_ts: pdu.fields.origin_server_ts,
        })
    }

    /// Reads it from the JSON of a PDU; `None` if that is no state event.
    pub fn parse(event_id: OwnedEventId, json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Fields {
            sender: OwnedUserId,
            #[serde(rename = "type")]
            event_type: TimelineEventType,
            state_key: Box<str>,
            content: Box<RawValue>,
            #[serde(deserialize_with = "time")]
            origin_server_ts: MilliSecondsSinceUnixEpoch,
        }
        let fields: Fields = serde_json::from_str(json).ok()?;
        Some(Self {
            event_id,
            sender: fields.sender,
            event_type: fields.event_type,
            state_key: fields.state_key,
            content: fields.content,
            origin_server_ts: fields.origin_server_ts,
        })
    }

    /// Reads its content as a type; `None` if it has another shape.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_str(self.content.get()).ok()
    }
}

impl Event for StateEvent {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        None
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    fn content(&self) -> &RawValue {
        &self.content
    }

    fn state_key(&self) -> Option<&str> {
        Some(&self.state_key)
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(std::iter::empty())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(std::iter::empty())
    }

    fn redacts(&self) -> Option<&Self::Id> {
        None
    }

    fn rejected(&self) -> bool {
        // A rejected event never becomes part of the current state.
        false
    }
}
