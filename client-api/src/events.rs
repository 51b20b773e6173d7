//! Events as one client gets them.
//!
//! What is the same for everyone was written when the event was read ([`TimelineEvent::body`]). What differs from
//! receiver to receiver is `unsigned`: <https://spec.matrix.org/v1.19/client-server-api/#definition-clientevent>

use std::{collections::HashMap, fmt::Write, sync::Arc};

use parley_engine::{
    delayed_events::delay_id_of,
    rooms::{
        relations::{Bundles, Extent},
        timeline::TimelineEvent,
        visibility::Access,
    },
    sessions::Session,
};
use parley_protocol::client_event;
use ruma::{RoomId, api::client::filter::EventFormat};

use crate::{ClientApi, Result, filter::EventFields};

/// Bytes of `unsigned` and the room id, about.
const OVERHEAD: usize = 256;

/// Writes events for one client at one time.
#[derive(Debug)]
pub(crate) struct EventWriter<'a> {
    session: &'a Session,
    /// Milliseconds since the epoch, for the age of events.
    now: i64,
    /// The redactions that apply to the events, by position.
    redactions: HashMap<i64, Arc<TimelineEvent>>,
    /// What relates to the events.
    bundles: Bundles,
    /// All that the client wants of them, if it isn't everything.
    fields: Option<EventFields>,
    /// The events as servers send them to each other, by position, if the client wants them so.
    pdus: Option<HashMap<i64, String>>,
}

/// Whether an event is told itself or along with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Root,
    Bundled,
}

/// Where an event is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown<'a> {
    /// The event's room, unless the client knows it from where the event stands.
    pub(crate) room_id: Option<&'a RoomId>,
    /// Tells the receiver's membership at the event; without it, that is left out.
    pub(crate) access: Option<&'a Access>,
    /// Whether the receiver was joined at every event that is shown, so that nothing has to tell.
    pub(crate) joined: bool,
}

impl<'a> Shown<'a> {
    /// With the room's id, for answers that may hold events of any room.
    pub(crate) fn in_room(room_id: &'a RoomId) -> Self {
        Self {
            room_id: Some(room_id),
            ..Self::default()
        }
    }

    /// With the membership of a receiver who was joined at every event.
    pub(crate) fn joined(self) -> Self {
        Self {
            joined: true,
            ..self
        }
    }

    /// With the receiver's membership at the event.
    pub(crate) fn with_access(self, access: &'a Access) -> Self {
        Self {
            access: Some(access),
            ..self
        }
    }
}

impl<'a> EventWriter<'a> {
    /// Prepares to write `events`: reads the redactions that apply to them and what relates to them, all at once.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn new<'e>(
        api: &ClientApi,
        session: &'a Session,
        events: impl IntoIterator<Item = &'e Arc<TimelineEvent>>,
    ) -> Result<Self> {
        Self::until(api, session, events, Extent::ALL).await
    }

    /// The same for events of several rooms, some of which the receiver may have left.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn in_rooms<'e>(
        api: &ClientApi,
        session: &'a Session,
        accesses: impl IntoIterator<Item = &Access>,
        events: impl IntoIterator<Item = &'e Arc<TimelineEvent>>,
    ) -> Result<Self> {
        let limits = accesses.into_iter().filter_map(Access::state_limit);
        let mut ends: Vec<i64> = limits.filter(|limit| *limit < i64::MAX).collect();
        ends.dedup();
        let extent = Extent {
            ends: &ends,
            ..Extent::ALL
        };
        Self::until(api, session, events, extent).await
    }

    /// The same for events of one room, which the receiver may have left: then what relates to them is told as it was
    /// at that time.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn in_room<'e>(
        api: &ClientApi,
        session: &'a Session,
        access: &Access,
        events: impl IntoIterator<Item = &'e Arc<TimelineEvent>>,
    ) -> Result<Self> {
        let extent = Extent {
            up_to: access.state_limit().unwrap_or(i64::MAX),
            ..Extent::ALL
        };
        let writer = Self::until(api, session, events, extent).await?;
        let rooms = api.engine.rooms();
        rooms
            .look_up_bundles(access, &writer.bundles, &session.user_id)
            .await?;
        Ok(writer)
    }

    async fn until<'e>(
        api: &ClientApi,
        session: &'a Session,
        events: impl IntoIterator<Item = &'e Arc<TimelineEvent>>,
        extent: Extent<'_>,
    ) -> Result<Self> {
        let events: Vec<_> = events.into_iter().collect();
        let positions: Vec<i64> = events
            .iter()
            .filter_map(|event| event.redacted_by)
            .collect();
        let redactions = match positions.is_empty() {
            true => Vec::new(),
            false => api.engine.rooms().events_at(&positions).await?,
        };
        Ok(Self {
            session,
            now: api.engine.clock().now_ms(),
            bundles: api.engine.rooms().bundles(session, events, extent).await?,
            redactions: redactions
                .into_iter()
                .map(|event| (event.position, event))
                .collect(),
            fields: None,
            pdus: None,
        })
    }

    /// With nothing of the events but these properties.
    pub(crate) fn with_fields(self, fields: Option<EventFields>) -> Self {
        Self { fields, ..self }
    }

    /// The events as servers send them to each other, if that is the format that is asked for.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn with_format<'e>(
        mut self,
        api: &ClientApi,
        format: EventFormat,
        events: impl IntoIterator<Item = &'e Arc<TimelineEvent>>,
    ) -> Result<Self> {
        if format == EventFormat::Federation {
            let positions = events.into_iter().map(|event| event.position).collect();
            self.pdus = Some(api.engine.rooms().pdus_at(positions).await?);
        }
        Ok(self)
    }

    /// Appends an event's JSON.
    pub(crate) fn write(&self, out: &mut String, event: &TimelineEvent, shown: Shown<'_>) {
        let Some(fields) = &self.fields else {
            return self.write_whole(out, event, shown);
        };
        let mut whole = String::with_capacity(event.body.len() + OVERHEAD);
        self.write_whole(&mut whole, event, shown);
        let whole = serde_json::from_str(&whole).unwrap_or_default();
        let _ = write!(out, "{}", fields.pick(&whole));
    }

    fn write_whole(&self, out: &mut String, event: &TimelineEvent, shown: Shown<'_>) {
        let pdu = self
            .pdus
            .as_ref()
            .and_then(|pdus| pdus.get(&event.position));
        if let Some(pdu) = pdu {
            let start = out.len();
            let written = client_event::write_pdu(out, pdu, &event.event_id, |out| {
                self.write_unsigned(out, event, shown);
            });
            match written {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(%error, event = %event.event_id, "a stored event is no object");
                    out.truncate(start);
                }
            }
        }
        client_event::write(out, &event.body, shown.room_id, |out| {
            self.write_unsigned(out, event, shown);
        });
    }

    /// Appends a JSON array of events.
    pub(crate) fn write_list<'e>(
        &self,
        out: &mut String,
        events: impl IntoIterator<Item = &'e Arc<TimelineEvent>>,
        shown: Shown<'_>,
    ) {
        out.push('[');
        let start = out.len();
        for event in events {
            if out.len() > start {
                out.push(',');
            }
            self.write(out, event, shown);
        }
        out.push(']');
    }

    /// An event's JSON.
    pub(crate) fn event(&self, event: &TimelineEvent, shown: Shown<'_>) -> String {
        let mut out = String::with_capacity(event.body.len() + OVERHEAD);
        self.write(&mut out, event, shown);
        out
    }

    fn write_unsigned(&self, out: &mut String, event: &TimelineEvent, shown: Shown<'_>) {
        self.write_own(out, event);
        if shown.joined {
            out.push_str(",\"membership\":\"join\"");
        } else if let Some(access) = shown.access {
            out.push_str(",\"membership\":");
            client_event::push_string(out, access.membership_at(event.position).as_str());
        }
        if let Some(replaced) = &event.replaced {
            // What is redacted says nothing any more, also not what it took the place of.
            if event.redacted_by.is_none() {
                out.push_str(",\"prev_content\":");
                out.push_str(&replaced.content);
                out.push_str(",\"prev_sender\":");
                client_event::push_string(out, replaced.sender.as_str());
            }
            out.push_str(",\"replaces_state\":");
            client_event::push_string(out, replaced.event_id.as_str());
        }
        let redaction = event
            .redacted_by
            .and_then(|position| self.redactions.get(&position));
        if let Some(redaction) = redaction {
            out.push_str(",\"redacted_because\":");
            client_event::write(out, &redaction.body, shown.room_id, |out| {
                self.write_own(out, redaction);
                out.push('}');
            });
        }
        self.write_relations(out, event, shown, Depth::Root);
        out.push('}');
    }

    /// Tells of what relates to an event, as far as the receiver may see it.
    fn write_relations(
        &self,
        out: &mut String,
        event: &TimelineEvent,
        shown: Shown<'_>,
        depth: Depth,
    ) {
        let sees = |event: &TimelineEvent| {
            let user_id = &self.session.user_id;
            let Some(access) = shown.access else {
                return shown.joined;
            };
            (shown.joined || access.sees(event, user_id)) && !access.veils(event, user_id)
        };
        let edit = self.bundles.edit(event).filter(|edit| sees(edit));
        let thread = self
            .bundles
            .thread(event)
            .filter(|thread| depth == Depth::Root && sees(&thread.latest));
        let references = self.bundles.references(event).iter();
        let mut references = references.filter(|event| sees(event)).peekable();
        if edit.is_none() && thread.is_none() && references.peek().is_none() {
            return;
        }
        out.push_str(",\"m.relations\":{");
        let start = out.len();
        if references.peek().is_some() {
            out.push_str("\"m.reference\":{\"chunk\":[");
            for (index, reference) in references.enumerate() {
                let comma = if index > 0 { "," } else { "" };
                let _ = write!(out, "{comma}{{\"event_id\":\"{}\"}}", reference.event_id);
            }
            out.push_str("]}");
        }
        if let Some(edit) = edit {
            separate(out, start);
            out.push_str("\"m.replace\":");
            client_event::write(out, &edit.body, shown.room_id, |out| {
                self.write_own(out, edit);
                out.push('}');
            });
        }
        if let Some(thread) = thread {
            separate(out, start);
            let _ = write!(
                out,
                "\"m.thread\":{{\"count\":{},\"current_user_participated\":{},\"latest_event\":",
                thread.count,
                thread.participated || event.sender == self.session.user_id
            );
            let latest = &thread.latest;
            client_event::write(out, &latest.body, shown.room_id, |out| {
                self.write_own(out, latest);
                self.write_relations(out, latest, shown, Depth::Bundled);
                out.push('}');
            });
            out.push('}');
        }
        out.push('}');
    }

    /// Begins `unsigned` with what concerns the event alone.
    fn write_own(&self, out: &mut String, event: &TimelineEvent) {
        let _ = write!(
            out,
            "{{\"age\":{}",
            self.now.saturating_sub(event.origin_server_ts)
        );
        let Some(origin) = &event.origin else {
            return;
        };
        if let Some(delay_id) = delay_id_of(origin) {
            if event.sender == self.session.user_id {
                out.push_str(",\"org.matrix.msc4140.delay_id\":");
                client_event::push_string(out, delay_id);
            }
        } else if origin.0 == self.session.device_nid {
            out.push_str(",\"transaction_id\":");
            client_event::push_string(out, &origin.1);
        }
    }
}

/// Puts a comma behind what an object holds already.
fn separate(out: &mut String, start: usize) {
    if out.len() > start {
        out.push(',');
    }
}
