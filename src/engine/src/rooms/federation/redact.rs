//! Redactions by users of other servers: what they do to the event that they are of, whichever of the two comes first.
//!
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>

use std::collections::HashMap;

use parley_protocol::{Incoming, Pdu, RoomVersion, StateEvent, power, redaction::redacted_json};
use parley_storage::{
    commit::{NewRedaction, Standing},
    events::EventRow,
    federation::KnownEvent,
};
use ruma::{OwnedEventId, UserId, events::StateEventType};

use super::resolve::StateBefore;
use crate::{
    Result,
    rooms::{Rooms, edit::received::Redactions, room::Room},
};

impl Rooms {
    /// An event as it is after the redactions that came before it, with what it and others redact.
    pub(super) async fn with_redactions(
        &self,
        room: &Room,
        incoming: Incoming,
        before: &StateBefore,
    ) -> Result<(Incoming, Redactions)> {
        let mut redactions = self.redacts(room, &incoming.pdu, before).await?;
        let early = [&incoming.pdu.event_id];
        let early = self.database.early_redactions(room.nid(), early).await?;
        let (incoming, redacted_by) = self.redacted_before(room, incoming, &early).await?;
        redactions.redacted_by = redacted_by;
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
        let mut redactions = Redactions::default();
        let Some(target) = pdu.redacts(room.version().redacts_in_content()) else {
            return Ok(redactions);
        };
        let known = self.database.known_events([&target]).await?.remove(&target);
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
        let Ok(of) = Pdu::parse(known.event_id.clone(), &known.json) else {
            return Ok(redactions);
        };
        if self
            .may_redact(room, &pdu.fields.sender, &of.fields.sender, before)
            .await?
        {
            redactions.redaction = self.redaction_of(room, known).await?;
        }
        Ok(redactions)
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
        }))
    }

    /// An event as it is after the redactions that came before it, and the position of the one that applies.
    pub(super) async fn redacted_before(
        &self,
        room: &Room,
        incoming: Incoming,
        early: &HashMap<OwnedEventId, Vec<i64>>,
    ) -> Result<(Incoming, Option<i64>)> {
        let Some(positions) = early.get(&incoming.pdu.event_id) else {
            return Ok((incoming, None));
        };
        for row in self.database.events_at(positions.clone()).await? {
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
        let target = &incoming.pdu.fields.sender;
        self.may_redact(room, &pdu.fields.sender, target, &before)
            .await
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
        let rules = &room.version().rules().authorization;
        if rules.special_case_room_redaction || sender.server_name() == of.server_name() {
            return Ok(true);
        }
        let places = [StateEventType::RoomCreate, StateEventType::RoomPowerLevels];
        let places = places.map(|event_type| (event_type, String::new()));
        let state = self.state_events(before, places.to_vec()).await?;
        let event = |event_type: &str| -> Option<&StateEvent> {
            state.get(&(event_type.to_owned(), String::new()))
        };
        let Some(create) = event("m.room.create") else {
            return Ok(false);
        };
        let levels = power::power_levels(event("m.room.power_levels"), create, room.version());
        Ok(levels.user_can_redact_event_of_other(sender))
    }
}

/// What a redaction leaves of an event.
fn redacted(incoming: &Incoming, version: &RoomVersion) -> Option<Incoming> {
    let event_id: OwnedEventId = incoming.pdu.event_id.clone();
    let json = redacted_json(&incoming.json, version)?;
    let pdu = Pdu::parse(event_id, &json).ok()?;
    Some(Incoming { pdu, json })
}
