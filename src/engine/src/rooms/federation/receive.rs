//! Taking an event of another server into a room.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parley_protocol::{
    Incoming, Pdu, RoomVersion, StateEvent, Unverified, auth, incoming::are_same,
};
use parley_storage::{
    commit::{RoomEffect, Standing},
    federation::KnownEvent,
};
use ruma::{
    EventId, OwnedEventId, OwnedServerName, ServerName,
    events::{StateEventType, TimelineEventType},
};

use super::{
    recheck::{Claims, claims_in},
    resolve::{IdState, StateBefore, pdu_of},
};
use crate::{
    EngineError, Result,
    rooms::{
        ATTEMPTS, Rooms,
        edit::{
            Edit,
            received::{Beside, ReceivedEvent, Redactions},
        },
        guests,
        room::{Head, Room},
        room_write,
    },
    stream::committer::NotCommitted,
};

/// Attempts at finding what becomes of a room without keeping its other writers out.
const POLITE_ATTEMPTS: usize = 3;
/// How long it is waited for what has been written to the room but isn't stored yet.
pub(super) const UNTIL_STORED: Duration = Duration::from_millis(2);

/// Stored events of a room by their ids.
pub(super) type Known = HashMap<OwnedEventId, KnownEvent>;

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the timeline.
    Accepted,
    /// It was there already.
    Known,
    /// It is stored, and not shown: the room as it is now doesn't allow it.
    SoftFailed(String),
    /// The rules of the room refuse it.
    Rejected(String),
    /// What is needed to judge it can't be had now: keys, what allows it, or what it is built on.
    Unanchored(String),
}

impl Verdict {
    fn unanchored(what: &str) -> Self {
        Self::Unanchored(format!("what {what} can't be had"))
    }
}

/// Where an event stands that is allowed there.
struct Place {
    before: StateBefore,
    /// Where it is stored already, without being in the timeline.
    stored: Option<KnownEvent>,
    /// Whether some of what it is built on isn't in the timeline.
    after_gap: bool,
    /// Memberships that are believed, as long as not all are known.
    claims: Claims,
}

/// An event that is allowed where it stands in the graph.
struct Allowed {
    incoming: Incoming,
    place: Place,
    redactions: Redactions,
    /// Why the room's policy server has it not shown.
    refusal: Option<String>,
    /// From whom it was taken for all others in the room, who are to be told of it; or who tells them of it, if it is of a
    /// user of this server.
    pass_on_from: Option<OwnedServerName>,
}

/// What is to be written for an event.
enum Plan {
    OnHead,
    Beside(Beside),
    /// What it stands on isn't stored yet.
    Wait,
}

impl Rooms {
    /// Takes in an event as it came from `origin`.
    ///
    /// # Errors
    /// `M_BAD_JSON` if it is no event of the room, `M_FORBIDDEN` if its signatures are not right.
    pub(super) async fn receive(
        &self,
        room: &Arc<Room>,
        origin: &ServerName,
        json: &str,
    ) -> Result<Verdict> {
        let version = room.version();
        let event = Unverified::read(json, room.id(), version)
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        let incoming = self
            .verify_if_possible(event, version)
            .await
            .map_err(|error| EngineError::forbidden(error.to_string()))?;
        match incoming {
            Some(incoming) => self.take(room, origin, incoming, true).await,
            None => Ok(Verdict::Unanchored(
                "the keys that it is signed with can't be had".to_owned(),
            )),
        }
    }

    /// Takes in an event whose signatures are right. With `fill`, what lies between it and the room's head is asked for.
    pub(super) async fn take(
        &self,
        room: &Arc<Room>,
        origin: &ServerName,
        incoming: Incoming,
        fill: bool,
    ) -> Result<Verdict> {
        self.take_from(room, origin, incoming, fill, None).await
    }

    /// Takes in an event that `origin` gave this server to tell all others in the room. They are told as of what is written
    /// by this server's users: it is written with the event that they are to be.
    pub(super) async fn take_and_pass_on(
        &self,
        room: &Arc<Room>,
        origin: &ServerName,
        incoming: Incoming,
    ) -> Result<Verdict> {
        let pass_on_from = Some(origin.to_owned());
        self.take_from(room, origin, incoming, true, pass_on_from)
            .await
    }

    /// Takes in an event of this server's user that `teller` was given to tell all others in the room: this server needn't.
    pub(super) async fn take_told(
        &self,
        room: &Arc<Room>,
        teller: &ServerName,
        incoming: Incoming,
    ) -> Result<Verdict> {
        let told_by = Some(teller.to_owned());
        self.take_from(room, teller, incoming, true, told_by).await
    }

    async fn take_from(
        &self,
        room: &Arc<Room>,
        origin: &ServerName,
        incoming: Incoming,
        fill: bool,
        pass_on_from: Option<OwnedServerName>,
    ) -> Result<Verdict> {
        let Some(expected) = self.expected(room, &incoming.pdu).await? else {
            return self
                .take_unexpected(room, origin, incoming, fill, pass_on_from)
                .await;
        };
        let place = Place {
            before: expected.before,
            stored: None,
            after_gap: false,
            claims: Claims::new(),
        };
        let early = Some(expected.early_redactions);
        self.let_in(room, incoming, place, early, pass_on_from)
            .await
    }

    /// Takes in an event for which it has to be looked what it is built on and what allows it.
    async fn take_unexpected(
        &self,
        room: &Arc<Room>,
        origin: &ServerName,
        incoming: Incoming,
        fill: bool,
        pass_on_from: Option<OwnedServerName>,
    ) -> Result<Verdict> {
        let fields = &incoming.pdu.fields;
        let related = [&incoming.pdu.event_id].into_iter();
        let related = related
            .chain(&fields.auth_events)
            .chain(&fields.prev_events);
        let mut known = self.database.known_events(related).await?;
        let stored = known.remove(&incoming.pdu.event_id);
        if let Some(stored) = &stored {
            check_same(room, &incoming, stored)?;
        }
        // What stands in another room says nothing of this one.
        known.retain(|_, event| event.room_nid == room.nid());
        if stored
            .as_ref()
            .is_some_and(|event| event.standing != Standing::Known)
        {
            return Ok(Verdict::Known);
        }
        if fields.prev_events.is_empty() {
            return Err(EngineError::bad_json("the event is built on nothing"));
        }
        let lacks = |ids: &[OwnedEventId]| !ids.iter().all(|id| known.contains_key(id));
        if lacks(&fields.auth_events) && lacks(&fields.prev_events) {
            // What came before it brings most of what allows it.
            let needed = self.need_prev_events(room, origin, &incoming.pdu, &mut known, fill);
            if needed.await?.is_none() {
                return Ok(Verdict::unanchored("it is built on"));
            }
        }
        self.need_auth_events(room, origin, &incoming.pdu, &mut known)
            .await?;
        if !fields.auth_events.iter().all(|id| known.contains_key(id)) {
            // Not its fault: to refuse it would be for ever.
            return Ok(Verdict::unanchored("allows it"));
        }
        if let Err(reason) = check_by_auth_events(&incoming.pdu, room.version(), &known) {
            let before = self.before_if_known(room, &incoming.pdu, &known).await?;
            return self.reject(room, incoming, stored, before, reason).await;
        }
        let claims = claims_in(room, &incoming.pdu, &known);
        let on_head = self.state_on_head(room, &incoming.pdu).await?;
        let before = if let Some(before) = on_head.filter(|_| stored.is_none()) {
            before
        } else {
            let needed = self.need_prev_events(room, origin, &incoming.pdu, &mut known, fill);
            let Some(needed) = needed.await? else {
                return Ok(Verdict::unanchored("it is built on"));
            };
            self.state_before(room, &needed).await?
        };
        let allowed = self.check_by_state(room, &incoming.pdu, &before, &claims);
        if let Err(reason) = allowed.await? {
            return self
                .reject(room, incoming, stored, Some(before), reason)
                .await;
        }
        let place = Place {
            after_gap: self.is_behind_gap(room, &incoming.pdu, &known).await?,
            before,
            stored,
            claims,
        };
        self.let_in(room, incoming, place, None, pass_on_from).await
    }

    /// Puts an event that is allowed where it stands in the graph into the room, unless the room's policy server or current
    /// state is against it. `early_redactions` are read if they aren't given.
    async fn let_in(
        &self,
        room: &Arc<Room>,
        mut incoming: Incoming,
        place: Place,
        early_redactions: Option<Vec<i64>>,
        pass_on_from: Option<OwnedServerName>,
    ) -> Result<Verdict> {
        let refusal = self.judged_by_policy(room, &mut incoming).await?;
        let early = early_redactions;
        let with_redactions = self.with_redactions(room, incoming, &place.before, early);
        let (incoming, redactions) = with_redactions.await?;
        let allowed = Allowed {
            incoming,
            place,
            redactions,
            refusal,
            pass_on_from,
        };
        self.put(room, allowed).await
    }

    /// The room's current state, if an event is built on exactly the room's head.
    async fn state_on_head(&self, room: &Room, pdu: &Pdu) -> Result<Option<StateBefore>> {
        let head = self.head_now(room).await?;
        let base = current_snapshot(&head);
        Ok((base != 0 && builds_on(&head, pdu)).then_some(StateBefore {
            base,
            resolved: None,
        }))
    }

    /// The state before an event, if what it is built on is here: nobody is asked for the sake of a rejected event, but
    /// what is built on it needs not ask either.
    async fn before_if_known(
        &self,
        room: &Room,
        pdu: &Pdu,
        known: &Known,
    ) -> Result<Option<StateBefore>> {
        let prev = pdu.fields.prev_events.iter();
        let snapshots: Option<HashSet<i64>> = prev.map(|id| known.get(id)?.snapshot).collect();
        match snapshots {
            Some(snapshots) => Ok(Some(self.state_before(room, &snapshots).await?)),
            None => Ok(None),
        }
    }

    /// Stores an event that the rules refuse, so that what is built on it finds it.
    pub(super) async fn reject(
        &self,
        room: &Arc<Room>,
        incoming: Incoming,
        stored: Option<KnownEvent>,
        before: Option<StateBefore>,
        reason: String,
    ) -> Result<Verdict> {
        tracing::debug!(room = %room.id(), event = %incoming.pdu.event_id, reason, "an event is rejected");
        let after = match before {
            Some(before) => Some(self.unchanged(&before).await?),
            None => None,
        };
        let position = stored.map(|event| event.position);
        self.edit(room, |edit| {
            edit.add_outlier(&incoming, Standing::Rejected, position, after.clone());
            Ok(())
        })
        .await?;
        Ok(Verdict::Rejected(reason))
    }

    /// Puts an allowed event into the room.
    async fn put(&self, room: &Arc<Room>, allowed: Allowed) -> Result<Verdict> {
        for attempt in 0..ATTEMPTS {
            let planned = match attempt < POLITE_ATTEMPTS {
                true => {
                    let head = self.head_now(room).await?;
                    Some((self.plan(room, &head, &allowed).await?, head))
                }
                false => None,
            };
            let permit = self.committer.reserve().await?;
            let mut guard = room.head.lock().await;
            let head = self.current_head(room, &mut guard).await?;
            let plan = match planned {
                Some((plan, on)) if on.extremities_are(&head) => plan,
                Some(_) => continue,
                None => self.plan(room, &head, &allowed).await?,
            };
            if matches!(plan, Plan::Wait) {
                drop((guard, permit));
                tokio::time::sleep(UNTIL_STORED).await;
                continue;
            }
            let before = head.state.clone();
            let (verdict, pending) = self.write(room, head, &mut guard, &allowed, plan, permit)?;
            let after = guard.as_ref().and_then(|head| head.state.as_deref());
            let shuts_out = guests::shuts_out(before.as_deref(), after);
            drop((before, guard));
            match pending.committed().await {
                Ok(()) => {
                    let event_type = &allowed.incoming.pdu.fields.event_type;
                    if *event_type == TimelineEventType::RoomTombstone {
                        self.follow_tombstone(room).await;
                    }
                    if shuts_out {
                        Box::pin(self.follow_guest_access(room)).await;
                    }
                    return Ok(verdict);
                }
                Err(NotCommitted::Rebuild) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(NotCommitted::Rebuild.into())
    }

    pub(super) async fn head_now(&self, room: &Room) -> Result<Head> {
        let mut guard = room.head.lock().await;
        self.current_head(room, &mut guard).await
    }

    /// Finds where an event goes, and what becomes of the room's current state.
    async fn plan(&self, room: &Room, head: &Head, allowed: &Allowed) -> Result<Plan> {
        let pdu = &allowed.incoming.pdu;
        if allowed.place.stored.is_none() && allowed.refusal.is_none() && builds_on(head, pdu) {
            return Ok(Plan::OnHead);
        }
        let after = self.state_after(&allowed.place.before, pdu).await?;
        // Where the state after it is stored already, something is built on it.
        let stored = allowed.place.stored.as_ref();
        let is_extremity = stored.is_none_or(|event| event.snapshot.is_none());
        let (left, stay): (Vec<_>, Vec<_>) = head
            .extremities
            .iter()
            .cloned()
            .partition(|(id, _)| is_extremity && pdu.fields.prev_events.contains(id));
        let beside = |changes, extremities| {
            Plan::Beside(Beside {
                after: after.clone(),
                extremities,
                is_extremity,
                after_gap: allowed.place.after_gap,
                changes,
            })
        };
        let state = head.state.as_ref();
        let Some(state) = state.filter(|_| is_extremity) else {
            return Ok(beside(Vec::new(), stay));
        };
        let is_plain = pdu.fields.state_key.is_none() && allowed.place.before.resolved.is_none();
        let same_as_current =
            head.extremities.len() == 1 && allowed.place.before.base == current_snapshot(head);
        let takes_its_place = left.len() == 1 && pdu.fields.prev_events.len() == 1;
        if is_plain && (same_as_current || takes_its_place) {
            // As many states as before, and the same.
            return Ok(beside(Vec::new(), stay));
        }
        let current = match current_snapshot(head) {
            0 => Arc::new(IdState::of_room(state)),
            snapshot => self.id_state(snapshot).await?,
        };
        let mut states = Vec::with_capacity(stay.len() + 1);
        let positions: Vec<i64> = stay.iter().map(|(_, at)| at.get()).collect();
        if head.extremities.len() == 1 && stay.len() == 1 {
            states.push(Arc::clone(&current));
        } else if positions.contains(&0) {
            return Ok(Plan::Wait);
        } else {
            let rows = self.database.events_at(positions).await?;
            let snapshots: HashSet<i64> = rows.iter().map(|row| row.snapshot).collect();
            for snapshot in snapshots {
                states.push(self.id_state(snapshot).await?);
            }
        }
        let itself = pdu.event_id.clone();
        states.push(Arc::new(self.own_state(allowed).await?));
        let resolved = self.resolve(room, states, Some(pdu)).await?;
        let changes = self
            .current_changes(&current.map, &resolved, &itself)
            .await?;
        Ok(beside(changes, stay))
    }

    /// The state after an event that isn't stored.
    async fn own_state(&self, allowed: &Allowed) -> Result<IdState> {
        let mut state = match &allowed.place.before.resolved {
            Some(resolved) => resolved.state.clone(),
            None => self
                .id_state(allowed.place.before.base)
                .await?
                .as_ref()
                .clone(),
        };
        state.put(&allowed.incoming.pdu, Default::default());
        Ok(state)
    }

    /// Queues what is to be written for an event, with the room's lock held.
    fn write<'a>(
        &'a self,
        room: &Arc<Room>,
        head: Head,
        guard: &mut Option<Head>,
        allowed: &Allowed,
        plan: Plan,
        permit: crate::stream::committer::Permit<'a>,
    ) -> Result<(Verdict, crate::stream::committer::Pending)> {
        let mut edit = Edit::new(room, &self.key, head);
        let pdu = &allowed.incoming.pdu;
        let state = edit.state()?.clone();
        let allows = match &allowed.refusal {
            Some(refusal) => Err(refusal.clone()),
            None => auth::check(pdu, room.version(), |event_type, state_key| {
                let claimed = || {
                    let claims = &allowed.place.claims;
                    let place = (event_type.to_string(), state_key.to_owned());
                    // If all members have come to be known since, nothing is believed.
                    claims.get(&place).filter(|_| room.lacks_members())
                };
                state.event(event_type, state_key).or_else(claimed)
            }),
        };
        let verdict = match (allows, plan) {
            (Ok(()), plan) => {
                let position = edit.append_received(ReceivedEvent {
                    incoming: allowed.incoming.clone(),
                    redactions: allowed.redactions.clone(),
                    beside: match plan {
                        Plan::Beside(beside) => Some(beside),
                        _ => None,
                    },
                });
                if let Some(origin) = allowed.pass_on_from.clone() {
                    let event = position;
                    edit.effect(RoomEffect::PassOn { event, origin });
                }
                Verdict::Accepted
            }
            (Err(reason), plan) => {
                let stored = allowed.place.stored.as_ref().map(|event| event.position);
                // On the head, the current state is the state before the event.
                let (standing, after, verdict) = match plan {
                    Plan::Beside(beside) => (
                        Standing::SoftFailed,
                        Some(beside.after),
                        Verdict::SoftFailed(reason),
                    ),
                    _ => {
                        let after = edit.current_state();
                        (Standing::Rejected, after, Verdict::Rejected(reason))
                    }
                };
                edit.add_outlier(&allowed.incoming, standing, stored, after);
                verdict
            }
        };
        let (write, publication, head) = edit.finish(room.clone());
        *guard = Some(head);
        let pending = permit.queue(room_write(write), vec![publication]);
        Ok((verdict, pending))
    }

    /// Whether the room allows an event by the state before it, and by `claims` where nothing stands in that.
    pub(super) async fn check_by_state(
        &self,
        room: &Room,
        pdu: &Pdu,
        before: &StateBefore,
        claims: &Claims,
    ) -> Result<Result<(), String>> {
        let fields = &pdu.fields;
        let deciding = auth::deciding_state(
            &fields.event_type,
            &fields.sender,
            fields.state_key.as_deref(),
            &fields.content,
            room.version(),
        );
        let mut deciding = match deciding {
            Ok(deciding) => deciding,
            Err(reason) => return Ok(Err(reason)),
        };
        deciding.push((StateEventType::RoomCreate, String::new()));
        let events = self.state_events(before, deciding).await?;
        Ok(auth::check(pdu, room.version(), |event_type, state_key| {
            let place = (event_type.to_string(), state_key.to_owned());
            events.get(&place).or_else(|| claims.get(&place))
        }))
    }

    /// Some of the events of a state.
    pub(super) async fn state_events(
        &self,
        state: &StateBefore,
        places: Vec<(StateEventType, String)>,
    ) -> Result<HashMap<(String, String), StateEvent>> {
        let mut positions = Vec::with_capacity(places.len());
        for (event_type, state_key) in places {
            let position = match &state.resolved {
                Some(resolved) => {
                    let ids = &resolved.state;
                    let id = ids.map.get(&(event_type, state_key));
                    id.and_then(|id| ids.positions.get(id)).map(|at| at.get())
                }
                None => {
                    self.database
                        .state_event(state.base, &event_type.to_string(), &state_key)
                        .await?
                }
            };
            positions.extend(position);
        }
        self.state_events_at(positions).await
    }

    /// The state events at some positions, by type and state key.
    pub(super) async fn state_events_at(
        &self,
        positions: Vec<i64>,
    ) -> Result<HashMap<(String, String), StateEvent>> {
        let rows = self.database.events_at(positions).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| StateEvent::parse(row.event_id, &row.json))
            .map(|event| {
                let place = (event.event_type.to_string(), event.state_key.to_string());
                (place, event)
            })
            .collect())
    }
}

impl Head {
    pub(super) fn extremities_are(&self, other: &Self) -> bool {
        let ids = |head: &Self| -> Vec<OwnedEventId> {
            head.extremities.iter().map(|(id, _)| id.clone()).collect()
        };
        self.generation == other.generation && ids(self) == ids(other)
    }
}

/// Whether an event is the one that is stored under its id.
///
/// # Errors
/// `M_FORBIDDEN` if it is another. Where ids are hashes, it never is.
pub(super) fn check_same(room: &Room, incoming: &Incoming, stored: &KnownEvent) -> Result<()> {
    let is_same =
        stored.room_nid == room.nid() && are_same(&incoming.json, &stored.json, room.version());
    match is_same {
        true => Ok(()),
        false => Err(EngineError::forbidden("another event has that id")),
    }
}

/// Whether an event is built on exactly the room's forward extremities.
pub(super) fn builds_on(head: &Head, pdu: &Pdu) -> bool {
    let prev: HashSet<&EventId> = pdu.fields.prev_events.iter().map(AsRef::as_ref).collect();
    prev.len() == head.extremities.len()
        && head
            .extremities
            .iter()
            .all(|(id, _)| prev.contains(id.as_ref() as &EventId))
}

/// The number of the snapshot of the current state; 0 if it isn't stored yet.
pub(super) fn current_snapshot(head: &Head) -> i64 {
    head.chain.last().map_or(0, |(_, at)| at.get())
}

/// Whether an event is allowed by its auth events.
pub(super) fn check_by_auth_events(
    pdu: &Pdu,
    version: &RoomVersion,
    known: &Known,
) -> Result<(), String> {
    auth::check_by_auth_events(pdu, version, |id| {
        known.get(id).and_then(pdu_of).map(Arc::new)
    })
}
