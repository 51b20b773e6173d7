//! What other servers may see of a room's past, in which form.

use std::collections::{HashMap, HashSet};

use parley_protocol::{StateEvent, redaction::redacted_json};
use parley_storage::federation::KnownEvent;
use ruma::{
    ServerName,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};

use super::{join::raw, resolve::pdu_of};
use crate::{
    Result,
    erased::ErasedUsers,
    remote::RawPdu,
    rooms::{
        Rooms,
        room::Room,
        state::{membership_of, visibility_of},
    },
};

/// Member events that are read at once.
const CHUNK: usize = 100;

/// Memberships that were looked up, by the positions of their events.
type Memberships = HashMap<i64, MembershipState>;

impl Rooms {
    /// Events as a server may see them: those that none of its users could see are redacted, and what users wrote who asked
    /// to be forgotten before the server came.
    pub(super) async fn shown_to_server(
        &self,
        origin: &ServerName,
        room: &Room,
        events: Vec<KnownEvent>,
    ) -> Result<Vec<RawPdu>> {
        let is_own = |event: &KnownEvent| {
            pdu_of(event).is_some_and(|pdu| pdu.fields.sender.server_name() == origin)
        };
        let others = events.iter().filter(|event| !is_own(event));
        // What only stands for others has no place in history, and is asked for to check those.
        let snapshots = others.filter_map(|event| event.snapshot).collect();
        let seen = self.seen_by_server(origin, &snapshots).await?;
        let forgotten = self.forgotten_for(origin, room, &events).await?;
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let is_hidden = !is_own(&event)
                && event
                    .snapshot
                    .is_some_and(|snapshot| !seen.contains(&snapshot));
            let json = match is_hidden || forgotten.contains(&event.position) {
                false => event.json,
                true => redacted_json(&event.json, room.version()).unwrap_or_default(),
            };
            shown.push(raw(&json)?);
        }
        Ok(shown)
    }

    /// With which of some states a user of a server could see what was sent.
    pub(in crate::rooms) async fn seen_by_server(
        &self,
        origin: &ServerName,
        snapshots: &HashSet<i64>,
    ) -> Result<HashSet<i64>> {
        let asked = snapshots.iter().copied().collect();
        let visibility = "m.room.history_visibility";
        let decided = self.database.state_event_in(asked, visibility, "").await?;
        let positions: HashSet<i64> = decided.values().copied().collect();
        let events = self
            .state_events_by_position(positions.into_iter().collect())
            .await?;
        let mut memberships = Memberships::new();
        let mut seen = HashSet::with_capacity(snapshots.len());
        for snapshot in snapshots {
            let event = decided.get(snapshot).and_then(|at| events.get(at));
            let enough: &[MembershipState] = match event.map(visibility_of) {
                Some(HistoryVisibility::Joined) => &[MembershipState::Join],
                Some(HistoryVisibility::Invited) => {
                    &[MembershipState::Join, MembershipState::Invite]
                }
                _ => &[],
            };
            if enough.is_empty()
                || self
                    .has_member_of(origin, *snapshot, enough, &mut memberships)
                    .await?
            {
                seen.insert(*snapshot);
            }
        }
        Ok(seen)
    }

    /// Whether a user of a server has one of some memberships in a state.
    async fn has_member_of(
        &self,
        origin: &ServerName,
        snapshot: i64,
        enough: &[MembershipState],
        known: &mut Memberships,
    ) -> Result<bool> {
        let members = self.database.members_of_server(snapshot, origin).await?;
        let is_enough = |membership: &MembershipState| enough.contains(membership);
        if members
            .iter()
            .any(|at| known.get(at).is_some_and(is_enough))
        {
            return Ok(true);
        }
        let unknown: Vec<i64> = members
            .into_iter()
            .filter(|at| !known.contains_key(at))
            .collect();
        // The first that is found is enough, mostly one of the newest.
        for chunk in unknown.chunks(CHUNK) {
            let events = self.state_events_by_position(chunk.to_vec()).await?;
            let read = events.iter().map(|(at, event)| (*at, membership_of(event)));
            let read: Memberships = read.collect();
            let is_found = read.values().any(is_enough);
            known.extend(read);
            if is_found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The positions of those events that a server is shown redacted since their senders asked to be forgotten when it had
    /// nobody in the room. States are not among them: rooms are what those say, on all servers.
    async fn forgotten_for(
        &self,
        origin: &ServerName,
        room: &Room,
        events: &[KnownEvent],
    ) -> Result<HashSet<i64>> {
        let erased: ErasedUsers = self.erased.users().await?;
        let mut forgotten = HashSet::new();
        if erased.is_empty() {
            return Ok(forgotten);
        }
        let mut was_here: HashMap<i64, bool> = HashMap::new();
        for event in events {
            let pdu = pdu_of(event).filter(|pdu| pdu.fields.state_key.is_none());
            let erased_after = pdu.and_then(|pdu| erased.get(&pdu.fields.sender).copied());
            let Some(erased_after) = erased_after else {
                continue;
            };
            let was_here = match was_here.get(&erased_after) {
                Some(was_here) => *was_here,
                None => {
                    let found = self.was_in(origin, room, erased_after).await?;
                    was_here.insert(erased_after, found);
                    found
                }
            };
            if !was_here {
                forgotten.insert(event.position);
            }
        }
        Ok(forgotten)
    }

    /// Whether a server had a user in a room at a position of the stream.
    async fn was_in(&self, origin: &ServerName, room: &Room, position: i64) -> Result<bool> {
        let Some(snapshot) = self.database.snapshot_at(room.nid(), position).await? else {
            return Ok(false);
        };
        let enough = [MembershipState::Join];
        self.has_member_of(origin, snapshot, &enough, &mut Memberships::new())
            .await
    }

    /// State events by their positions.
    async fn state_events_by_position(
        &self,
        positions: Vec<i64>,
    ) -> Result<HashMap<i64, StateEvent>> {
        let rows = self.database.events_at(positions).await?;
        let events = rows.into_iter().filter_map(|row| {
            let event = StateEvent::parse(row.event_id, &row.json)?;
            Some((row.position, event))
        });
        Ok(events.collect())
    }
}
