//! Judging again what was taken into a room while its members weren't known.
//!
//! Meanwhile, who isn't known to have a membership is believed to have the one that the events that allow theirs give
//! ([`claims`]). By the whole state some of what was taken may turn out to be refused, and some of what was refused to be
//! allowed; and what is built on that has another state then.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parley_protocol::{Incoming, Pdu, StateEvent};
use parley_storage::{
    commit::{Assigned, Standing},
    events::Span,
    federation::KnownEvent,
};
use ruma::{OwnedEventId, events::TimelineEventType};

use super::{
    receive::{Known, check_by_auth_events},
    resolve::StateBefore,
};
use crate::{
    EngineError, Result,
    rooms::{
        Rooms,
        edit::{received::DerivedState, rewrite::Refused},
        room::Room,
    },
};

/// Events that are looked at in one go.
const BATCH: i64 = 500;

/// State events by their places.
pub(super) type Claims = HashMap<(String, String), StateEvent>;

/// How far what was taken in has been judged again.
#[derive(Debug)]
pub(super) struct Recheck {
    newest: i64,
    /// Events whose state, or standing, is another than it was.
    changed: HashSet<OwnedEventId>,
    /// Whether somebody has begun to judge it before, and not come to the end: what they changed isn't known any more.
    is_begun: bool,
}

impl Recheck {
    /// To judge what came after a position.
    pub(super) fn since(position: i64) -> Self {
        Self {
            newest: position,
            changed: HashSet::new(),
            is_begun: false,
        }
    }

    /// The same where somebody may have begun with it, and stopped anywhere.
    pub(super) fn again_since(position: i64) -> Self {
        Self {
            is_begun: true,
            ..Self::since(position)
        }
    }

    /// Up to which position everything is judged.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }
}

/// The memberships that an event gives for its own sake: the member events among those that allow it.
pub(super) fn claims(pdu: &Pdu, known: &Known) -> Claims {
    let auth_events = pdu.fields.auth_events.iter();
    auth_events
        .filter_map(|id| known.get(id))
        .filter(|event| event.standing != Standing::Rejected)
        .filter_map(|event| StateEvent::parse(event.event_id.clone(), &event.json))
        .filter(|event| event.event_type == TimelineEventType::RoomMember)
        .map(|event| {
            let place = (event.event_type.to_string(), event.state_key.to_string());
            (place, event)
        })
        .collect()
}

/// The same, as long as members of the room aren't known; else none.
pub(super) fn claims_in(room: &Room, pdu: &Pdu, known: &Known) -> Claims {
    match room.lacks_members() {
        true => claims(pdu, known),
        false => Claims::new(),
    }
}

impl Rooms {
    /// Judges what came since it was last done.
    pub(super) async fn recheck(&self, room: &Arc<Room>, recheck: &mut Recheck) -> Result<()> {
        loop {
            let span = Span {
                room_nid: room.nid(),
                after: recheck.newest,
                to: i64::MAX,
            };
            let taken = self.database.oldest_events(span, BATCH).await?;
            let last = match taken.len() as i64 == BATCH {
                true => taken.last().map_or(i64::MAX, |row| row.position),
                false => i64::MAX,
            };
            let refused = self
                .database
                .refused_since(room.nid(), recheck.newest, BATCH)
                .await?;
            let is_end = last == i64::MAX && (refused.len() as i64) < BATCH;
            let mut events: Vec<(i64, OwnedEventId, bool)> = taken
                .into_iter()
                .map(|row| (row.position, row.event_id, true))
                .collect();
            let refused = refused.into_iter().filter(|row| row.position <= last);
            events.extend(refused.map(|row| (row.position, row.event_id, false)));
            events.sort_unstable();
            events.truncate(BATCH as usize);
            for (position, event_id, is_taken) in &events {
                self.recheck_one(room, event_id, *is_taken, recheck).await?;
                recheck.newest = *position;
            }
            if is_end {
                return Ok(());
            }
        }
    }

    async fn recheck_one(
        &self,
        room: &Arc<Room>,
        event_id: &OwnedEventId,
        is_taken: bool,
        recheck: &mut Recheck,
    ) -> Result<()> {
        let known = self.known_of(room, [event_id]).await?;
        let Some(event) = known.get(event_id) else {
            return Ok(());
        };
        let is_rejected = event.standing == Standing::Rejected;
        if !is_taken && !is_rejected && event.standing != Standing::SoftFailed {
            // It has come into the timeline since.
            return Ok(());
        }
        let Ok(pdu) = Pdu::parse(event.event_id.clone(), &event.json) else {
            return Ok(());
        };
        let Some((before, allowed)) = self.judge_anew(room, &pdu).await? else {
            return Ok(());
        };
        let mut prev = pdu.fields.prev_events.iter();
        let is_changed = prev.any(|id| recheck.changed.contains(id))
            || self
                .has_other_state(event, &pdu, &before, recheck.is_begun)
                .await?;
        match (is_rejected, allowed) {
            (false, Ok(())) if !is_changed => return Ok(()),
            (true, Err(_)) if !is_changed => return Ok(()),
            (false, Ok(())) => {
                let after = self.state_after(&before, &pdu).await?;
                self.restate(room, event.position, after).await?;
            }
            (true, Err(_)) => {
                let after = self.unchanged(&before).await?;
                self.restate(room, event.position, after).await?;
            }
            (false, Err(reason)) if is_taken => {
                tracing::info!(room = %room.id(), event = %event_id, reason, "an event is rejected after all");
                self.refuse(room, event, &pdu, &before).await?;
            }
            (false, Err(reason)) => {
                let json = event.json.clone();
                let (incoming, stored) = (Incoming { pdu, json }, Some(event.clone()));
                self.reject(room, incoming, stored, Some(before), reason)
                    .await?;
            }
            (true, Ok(())) => {
                tracing::info!(room = %room.id(), event = %event_id, "an event is allowed after all");
                self.readmit(room, event, pdu.clone(), &before).await?;
            }
        }
        recheck.changed.insert(event_id.clone());
        Ok(())
    }

    /// The state before an event as it is now, and whether that and what allows the event allow it. `None` behind a gap: there, the
    /// state is what another server told, and complete.
    async fn judge_anew(
        &self,
        room: &Room,
        pdu: &Pdu,
    ) -> Result<Option<(StateBefore, Result<(), String>)>> {
        let fields = &pdu.fields;
        let related = fields.prev_events.iter().chain(&fields.auth_events);
        let create = super::missing::create_event_id(room);
        let related = self.known_of(room, related.chain(&create)).await?;
        let prev = fields.prev_events.iter();
        let snapshots: Option<HashSet<i64>> = prev.map(|id| related.get(id)?.snapshot).collect();
        let Some(snapshots) = snapshots else {
            return Ok(None);
        };
        let before = self.state_before(room, &snapshots).await?;
        let allowed = match check_by_auth_events(pdu, room.version(), &related) {
            Ok(()) => {
                self.check_by_state(room, pdu, &before, &Claims::new())
                    .await?
            }
            refused => refused,
        };
        Ok(Some((before, allowed)))
    }

    /// Whether an event isn't stored with the state that comes of what is before it: where it brings a fork together, that was
    /// found without what was missing. Elsewhere the stored one is built on the one before, and is looked at only if it `may`
    /// have been left behind when that was changed.
    async fn has_other_state(
        &self,
        event: &KnownEvent,
        pdu: &Pdu,
        before: &StateBefore,
        may: bool,
    ) -> Result<bool> {
        let Some(snapshot) = event.snapshot else {
            return Ok(false);
        };
        let changes = event.standing != Standing::Rejected && pdu.fields.state_key.is_some();
        let is_same = snapshot == before.base && !changes;
        let mut after = match &before.resolved {
            Some(resolved) => resolved.state.clone(),
            None if !may || is_same => return Ok(false),
            None => self.id_state(before.base).await?.as_ref().clone(),
        };
        if changes {
            after.put(pdu, Assigned::known(event.position));
        }
        Ok(self.id_state(snapshot).await?.map != after.map)
    }

    async fn restate(&self, room: &Arc<Room>, position: i64, after: DerivedState) -> Result<()> {
        self.edit(room, |edit| {
            edit.restate(position, after.clone());
            Ok(())
        })
        .await
    }

    /// Takes an event out of the timeline.
    async fn refuse(
        &self,
        room: &Arc<Room>,
        event: &KnownEvent,
        pdu: &Pdu,
        before: &StateBefore,
    ) -> Result<()> {
        let span = Span {
            room_nid: room.nid(),
            after: i64::MIN,
            to: event.position - 1,
        };
        let newest = self.database.newest_events(span, 1).await?;
        let newest = newest.first().map(|row| row.position).ok_or_else(|| {
            EngineError::Internal("nothing came before an event that is rejected".to_owned())
        })?;
        let head = self.head_now(room).await?;
        let is_end = head.extremities.iter().any(|(id, _)| *id == event.event_id);
        let ends = match is_end {
            true => self.ends_without(room, event, pdu).await?,
            false => Vec::new(),
        };
        let refused = Refused {
            event_id: event.event_id.clone(),
            position: event.position,
            before: before.base,
            ends,
            newest,
        };
        self.edit(room, |edit| {
            edit.refuse(refused.clone());
            Ok(())
        })
        .await?;
        if before.resolved.is_some() {
            let state = self.unchanged(before).await?;
            self.restate(room, event.position, state).await?;
        }
        Ok(())
    }

    /// What an event is built on, and nothing else in the timeline is. Of what was refused too, the same of what that is built
    /// on: the graph has to end somewhere.
    async fn ends_without(
        &self,
        room: &Room,
        event: &KnownEvent,
        pdu: &Pdu,
    ) -> Result<Vec<(OwnedEventId, Assigned)>> {
        let mut ends: HashMap<OwnedEventId, i64> = HashMap::new();
        let mut seen: HashSet<OwnedEventId> = HashSet::new();
        let mut pending = pdu.fields.prev_events.clone();
        while !pending.is_empty() {
            pending.retain(|id| seen.insert(id.clone()));
            let known = self.known_of(room, &pending).await?;
            pending.clear();
            for (id, event) in known {
                match event.standing {
                    Standing::Accepted => _ = ends.insert(id, event.position),
                    Standing::Rejected | Standing::SoftFailed => {
                        let pdu = Pdu::parse(id, &event.json);
                        pending.extend(pdu.map(|pdu| pdu.fields.prev_events).unwrap_or_default());
                    }
                    Standing::Known => {}
                }
            }
        }
        let after = ends.values().min().copied().unwrap_or(i64::MAX);
        self.not_built_on(room, ends, after, Some(event.position))
            .await
    }

    /// Those of some events that nothing in the timeline after a position is built on, or nothing but what stands at `but`.
    pub(super) async fn not_built_on(
        &self,
        room: &Room,
        mut ends: HashMap<OwnedEventId, i64>,
        mut after: i64,
        but: Option<i64>,
    ) -> Result<Vec<(OwnedEventId, Assigned)>> {
        while !ends.is_empty() && after < i64::MAX {
            let span = Span {
                room_nid: room.nid(),
                after,
                to: i64::MAX,
            };
            let rows = self.database.oldest_events(span, BATCH).await?;
            after = match rows.len() as i64 == BATCH {
                true => rows.last().map_or(i64::MAX, |row| row.position),
                false => i64::MAX,
            };
            for row in rows.iter().filter(|row| Some(row.position) != but) {
                let built = Pdu::parse(row.event_id.clone(), &row.json);
                for prev in built.map(|pdu| pdu.fields.prev_events).unwrap_or_default() {
                    ends.remove(&prev);
                }
            }
        }
        let ends = ends.into_iter();
        Ok(ends.map(|(id, at)| (id, Assigned::known(at))).collect())
    }

    /// Puts a rejected event into the timeline.
    async fn readmit(
        &self,
        room: &Arc<Room>,
        event: &KnownEvent,
        pdu: Pdu,
        before: &StateBefore,
    ) -> Result<()> {
        let after = self.state_after(before, &pdu).await?;
        let redactions = self.redacts(room, &pdu, before).await?;
        let incoming = Incoming {
            pdu,
            json: event.json.clone(),
        };
        let state = self.unchanged(before).await?;
        self.edit(room, |edit| {
            let stored = Some(event.position);
            edit.add_outlier(&incoming, Standing::Known, stored, Some(state.clone()));
            edit.readmit(incoming.clone(), redactions.clone(), after.clone());
            Ok(())
        })
        .await
    }
}
