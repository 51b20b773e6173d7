//! Redactions by users of other servers: what they do to the event that they are of, whichever of the two comes first.
//!
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>

use std::collections::{HashMap, HashSet};

use parley_protocol::{Incoming, Pdu, RoomVersion, StateEvent, power, redaction::redacted_json};
use parley_storage::{
    commit::{Assigned, NewRedaction, Standing},
    events::EventRow,
    federation::KnownEvent,
};
use ruma::{
    OwnedEventId, OwnedUserId, UserId,
    events::{StateEventType, TimelineEventType},
};

use super::resolve::{IdState, StateBefore};
use crate::{
    Result,
    rooms::{
        Rooms,
        edit::received::{PastEvent, Redactions},
        room::Room,
    },
};

/// The state events that decide on who may redact what others have sent.
#[derive(Debug, Default)]
pub(super) struct Deciding {
    create: Option<StateEvent>,
    levels: Option<StateEvent>,
}

impl Deciding {
    const PLACES: [(StateEventType, &str); 2] = [
        (StateEventType::RoomCreate, ""),
        (StateEventType::RoomPowerLevels, ""),
    ];

    fn of(mut state: HashMap<(String, String), StateEvent>) -> Self {
        let mut take = |event_type: &str| state.remove(&(event_type.to_owned(), String::new()));
        Self {
            create: take("m.room.create"),
            levels: take("m.room.power_levels"),
        }
    }

    /// What decides after one more event.
    fn put(&mut self, pdu: &Pdu) {
        let Some(event) = StateEvent::from_pdu(pdu).filter(|event| event.state_key.is_empty())
        else {
            return;
        };
        match event.event_type {
            TimelineEventType::RoomCreate => self.create = Some(event),
            TimelineEventType::RoomPowerLevels => self.levels = Some(event),
            _ => {}
        }
    }

    fn lets_redact(&self, sender: &UserId, version: &RoomVersion) -> bool {
        let levels = |create| power::power_levels(self.levels.as_ref(), create, version);
        self.create
            .as_ref()
            .is_some_and(|create| levels(create).user_can_redact_event_of_other(sender))
    }
}

impl Rooms {
    /// An event as it is after the redactions that came before it, with what it and others redact. Where those redactions
    /// stand, `early`, is read if it isn't given.
    pub(super) async fn with_redactions(
        &self,
        room: &Room,
        incoming: Incoming,
        before: &StateBefore,
        early: Option<Vec<i64>>,
    ) -> Result<(Incoming, Redactions)> {
        let mut redactions = self.redacts(room, &incoming.pdu, before).await?;
        let event_id = &incoming.pdu.event_id;
        let early = match early {
            Some(early) => early,
            None => {
                let early = self.database.early_redactions(room.nid(), [event_id]);
                early.await?.remove(event_id).unwrap_or_default()
            }
        };
        let (incoming, redacted_by) = self.redacted_before(room, incoming, early).await?;
        redactions.redacted_by = redacted_by.map(Assigned::known);
        Ok((incoming, redactions))
    }

    /// What an event redacts, if it is a redaction and its sender may do that.
    ///
    /// Servers agree on that only if they look at the same state, so it is the one before the redaction.
    pub(super) async fn redacts(
        &self,
        room: &Room,
        pdu: &Pdu,
        before: &StateBefore,
    ) -> Result<Redactions> {
        let Some(target) = pdu.redacts(room.version().redacts_in_content()) else {
            return Ok(Redactions::default());
        };
        let known = self.database.known_events([&target]).await?.remove(&target);
        let Some(of) = known.as_ref().and_then(redactable_known) else {
            return self.redacts_what_is_known(room, target, known, false).await;
        };
        let may = self
            .may_redact(room, &pdu.fields.sender, &of, before)
            .await?;
        self.redacts_what_is_known(room, target, known, may).await
    }

    /// What a redaction does to its target, as that is known here; `may` is whether its sender may redact that.
    async fn redacts_what_is_known(
        &self,
        room: &Room,
        target: OwnedEventId,
        known: Option<KnownEvent>,
        may: bool,
    ) -> Result<Redactions> {
        let mut redactions = Redactions::default();
        let Some(known) = known else {
            redactions.redacts_later = Some(target);
            return Ok(redactions);
        };
        if known.room_nid != room.nid() {
            return Ok(redactions);
        }
        if known.standing != Standing::Accepted {
            // It may come into the timeline later.
            redactions.redacts_later = Some(target);
        }
        if may {
            redactions.redaction = self.redaction_of(room, known).await?;
        }
        Ok(redactions)
    }

    /// What redactions have to do with a stretch of the past, the oldest event first, before which `deciding` stands. Of some
    /// of them it's known what state they are in, by its snapshot; of the others it's taken to be what comes of all before them.
    pub(super) async fn redactions_in_past(
        &self,
        room: &Room,
        events: Vec<Incoming>,
        states: &HashMap<OwnedEventId, i64>,
        mut deciding: Deciding,
    ) -> Result<Vec<PastEvent>> {
        let version = room.version();
        let in_content = version.redacts_in_content();
        let mut past = self.redacted_early(room, events).await?;
        let targets: Vec<OwnedEventId> = past
            .iter()
            .filter_map(|event| event.incoming.pdu.redacts(in_content))
            .collect();
        let known = self.database.known_events(&targets).await?;
        let mut redacted = HashSet::new();
        let ids = past.iter().map(|event| event.incoming.pdu.event_id.clone());
        let places: HashMap<OwnedEventId, usize> = ids.zip(0..).collect();
        for index in 0..past.len() {
            let pdu = &past[index].incoming.pdu;
            deciding.put(pdu);
            let Some(target) = pdu.redacts(in_content) else {
                continue;
            };
            let beside = places.get(&target).copied();
            let known = known.get(&target).cloned();
            let of = match beside {
                Some(place) => redactable_of(&past[place].incoming.pdu).cloned(),
                None => known.as_ref().and_then(redactable_known),
            };
            let sender = &pdu.fields.sender;
            let may = match (of, states.get(&pdu.event_id)) {
                (None, _) => false,
                (Some(of), Some(base)) => {
                    let before = StateBefore {
                        base: *base,
                        resolved: None,
                    };
                    self.may_redact(room, sender, &of, &before).await?
                }
                (Some(of), None) => {
                    needs_no_power(version, sender, &of) || deciding.lets_redact(sender, version)
                }
            };
            let mut redactions = self
                .redacts_what_is_known(room, target.clone(), known, may)
                .await?;
            if let Some(place) = beside {
                redactions.redacts_later = None;
                if may {
                    let by = past[index].position.clone();
                    past[place].redact(version, by);
                }
            }
            let of_this = &mut past[index].redactions;
            // An event stays redacted by the first redaction.
            of_this.redaction = redactions.redaction.filter(|_| redacted.insert(target));
            of_this.redacts_later = redactions.redacts_later;
        }
        Ok(past)
    }

    /// Events of the past as they are after the redactions that came before them.
    async fn redacted_early(&self, room: &Room, events: Vec<Incoming>) -> Result<Vec<PastEvent>> {
        let ids = events.iter().map(|event| &event.pdu.event_id);
        let mut early = self.database.early_redactions(room.nid(), ids).await?;
        let mut past = Vec::with_capacity(events.len());
        for incoming in events {
            let early = early.remove(&incoming.pdu.event_id).unwrap_or_default();
            let (incoming, redacted_by) = self.redacted_before(room, incoming, early).await?;
            past.push(PastEvent {
                incoming,
                redactions: Redactions {
                    redacted_by: redacted_by.map(Assigned::known),
                    ..Redactions::default()
                },
                position: Assigned::default(),
            });
        }
        Ok(past)
    }

    async fn redaction_of(&self, room: &Room, known: KnownEvent) -> Result<Option<NewRedaction>> {
        let outlier = self.database.outlier_number(&known.event_id).await?;
        if known.standing == Standing::Accepted {
            // An event stays redacted by the first redaction.
            let row = self.database.event(&known.event_id).await?;
            if row.is_none_or(|row| row.redacted_by.is_some()) {
                return Ok(None);
            }
        }
        let json = redacted_json(&known.json, room.version());
        Ok(json.map(|json| NewRedaction {
            target: known.position,
            event_id: known.event_id,
            outlier,
            json,
            told: Assigned::default(),
        }))
    }

    /// An event as it is after the redactions that came before it, and the position of the one that applies.
    pub(super) async fn redacted_before(
        &self,
        room: &Room,
        incoming: Incoming,
        early: Vec<i64>,
    ) -> Result<(Incoming, Option<i64>)> {
        if early.is_empty() {
            return Ok((incoming, None));
        }
        for row in self.database.events_at(early).await? {
            if self.may_be_redacted_by(room, &incoming, &row).await? {
                let redacted = redacted(&incoming, room.version());
                return Ok((redacted.unwrap_or(incoming), Some(row.position)));
            }
        }
        Ok((incoming, None))
    }

    async fn may_be_redacted_by(
        &self,
        room: &Room,
        incoming: &Incoming,
        redaction: &EventRow,
    ) -> Result<bool> {
        let Ok(pdu) = Pdu::parse(redaction.event_id.clone(), &redaction.json) else {
            return Ok(false);
        };
        // No state event, so the state before it is that after it.
        let before = StateBefore {
            base: redaction.snapshot,
            resolved: None,
        };
        match redactable_of(&incoming.pdu) {
            Some(of) => self.may_redact(room, &pdu.fields.sender, of, &before).await,
            None => Ok(false),
        }
    }

    /// Whether a user may redact what another has sent: their own server's, or by their power. In versions 1 and 2 the
    /// rules that allowed the redaction have decided on it.
    async fn may_redact(
        &self,
        room: &Room,
        sender: &UserId,
        of: &UserId,
        before: &StateBefore,
    ) -> Result<bool> {
        if needs_no_power(room.version(), sender, of) {
            return Ok(true);
        }
        let places = Deciding::PLACES.map(|(event_type, key)| (event_type, key.to_owned()));
        let state = self.state_events(before, places.to_vec()).await?;
        Ok(Deciding::of(state).lets_redact(sender, room.version()))
    }

    /// What of a state decides on who may redact.
    pub(super) async fn deciding_in(&self, state: &IdState) -> Result<Deciding> {
        let positions = Deciding::PLACES
            .iter()
            .filter_map(|(event_type, key)| state.standing(&event_type.to_string(), key))
            .map(|position| position.get())
            .collect();
        Ok(Deciding::of(self.state_events_at(positions).await?))
    }
}

/// Whether a user may redact what another has sent whatever power they have.
fn needs_no_power(version: &RoomVersion, sender: &UserId, of: &UserId) -> bool {
    let rules = &version.rules().authorization;
    rules.special_case_room_redaction || sender.server_name() == of.server_name()
}

/// Whose event it is that may be redacted; `None` for what no redaction has an effect on: without the content of its create
/// event a room of a version up to 10 would forget which version it is, and what it replaces.
fn redactable_of(target: &Pdu) -> Option<&OwnedUserId> {
    let fields = &target.fields;
    (fields.event_type != TimelineEventType::RoomCreate).then_some(&fields.sender)
}

/// The same for an event that is stored.
fn redactable_known(known: &KnownEvent) -> Option<OwnedUserId> {
    let pdu = Pdu::parse(known.event_id.clone(), &known.json).ok()?;
    redactable_of(&pdu).cloned()
}

impl PastEvent {
    /// Leaves of it what a redaction leaves that comes with it, unless another was first.
    fn redact(&mut self, version: &RoomVersion, by: Assigned) {
        if self.redactions.redacted_by.is_none()
            && let Some(redacted) = redacted(&self.incoming, version)
        {
            self.incoming = redacted;
            self.redactions.redacted_by = Some(by);
        }
    }
}

/// What a redaction leaves of an event.
fn redacted(incoming: &Incoming, version: &RoomVersion) -> Option<Incoming> {
    let event_id: OwnedEventId = incoming.pdu.event_id.clone();
    let json = redacted_json(&incoming.json, version)?;
    let pdu = Pdu::parse(event_id, &json).ok()?;
    Some(Incoming { pdu, json })
}
