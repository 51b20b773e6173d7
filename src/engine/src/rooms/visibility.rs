//! Which events of a room a user may see.
//!
//! It depends on the history visibility and on the user's membership when the event was sent. Both change by state
//! events, so each is a short list of positions, and an event is judged by where it stands between them, without looking
//! at the state of each event. Between forks of a room that is the order in which this server came to know of them.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-6>

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ruma::{
    UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};

use parley_protocol::StateEvent;

use super::{
    Rooms,
    room::Room,
    state::{RoomState, membership_of, visibility_of, visibility_of_content},
    timeline::TimelineEvent,
};
use crate::{EngineError, Result, erased::ErasedUsers};

/// What a user may see of a room.
#[derive(Clone, Debug)]
pub struct Access {
    /// Each change of the history visibility, oldest first.
    visibilities: Vec<(i64, HistoryVisibility)>,
    /// Each change of the user's membership, oldest first.
    memberships: Vec<(i64, MembershipState)>,
    /// Who asked to be forgotten.
    erased: ErasedUsers,
    /// What held at events of the past that other servers told, by the snapshot of their state: what this server knows
    /// of changes before it came into the room has gaps.
    past: Arc<RwLock<HashMap<i64, (HistoryVisibility, MembershipState)>>>,
}

/// The value that holds at a position, and the one before the change there, if there is a change at the position.
fn at<T: Clone>(changes: &[(i64, T)], position: i64, first: T) -> (T, Option<T>) {
    let count = changes.partition_point(|(changed, _)| *changed <= position);
    let value = |index: usize| changes.get(index).map(|(_, value)| value.clone());
    let Some(index) = count.checked_sub(1) else {
        return (first, None);
    };
    let current = value(index).unwrap_or_else(|| first.clone());
    let changed_here = changes
        .get(index)
        .is_some_and(|(changed, _)| *changed == position);
    let before = changed_here.then(|| index.checked_sub(1).and_then(value).unwrap_or(first));
    (current, before)
}

impl Access {
    /// To a room that this server isn't in: a user's membership there, since a position.
    pub(crate) fn outside(position: i64, membership: MembershipState) -> Self {
        Self {
            visibilities: Vec::new(),
            memberships: vec![(position, membership)],
            erased: ErasedUsers::default(),
            past: Arc::default(),
        }
    }

    /// Whether the user has ever had anything to do with the room, or anyone may read it now.
    pub fn is_possible(&self) -> bool {
        !self.memberships.is_empty() || self.is_world_readable()
    }

    /// Whether anyone may read what is sent now.
    pub fn is_world_readable(&self) -> bool {
        self.visibilities
            .last()
            .is_some_and(|(_, visibility)| *visibility == HistoryVisibility::WorldReadable)
    }

    /// The user's membership right after the event at a position.
    pub fn membership_at(&self, position: i64) -> MembershipState {
        at(&self.memberships, position, MembershipState::Leave).0
    }

    /// The user's membership now.
    pub fn membership(&self) -> MembershipState {
        self.membership_at(i64::MAX)
    }

    /// The position of the event that gave the user their membership of now.
    pub fn membership_since(&self) -> Option<i64> {
        self.memberships.last().map(|(position, _)| *position)
    }

    /// The position of the first event that gave the user a membership.
    pub fn first_position(&self) -> Option<i64> {
        self.memberships.first().map(|(position, _)| *position)
    }

    /// The last position whose state the user may know: now for members and where anyone may read, else when they left.
    pub fn state_limit(&self) -> Option<i64> {
        if self.is_world_readable() || self.membership() == MembershipState::Join {
            return Some(i64::MAX);
        }
        // Who was banned or left was joined before; the end of the last time of being joined is the limit.
        let last_join = self
            .memberships
            .iter()
            .rposition(|(_, membership)| *membership == MembershipState::Join)?;
        self.memberships
            .get(last_join + 1)
            .map(|(position, _)| *position)
    }

    /// The last position at which there may be events that the user may see.
    pub fn history_limit(&self) -> i64 {
        let Some(known) = self.state_limit() else {
            return i64::MAX;
        };
        let invited = end_of_last(&self.memberships, &MembershipState::Invite);
        let open = end_of_last(&self.visibilities, &HistoryVisibility::WorldReadable);
        known.max(invited).max(open)
    }

    /// What held at an event of the past.
    fn then(&self, event: &TimelineEvent) -> Option<(HistoryVisibility, MembershipState)> {
        let past = self.past.read().unwrap_or_else(PoisonError::into_inner);
        past.get(&event.snapshot).cloned()
    }

    /// Whether the user may see an event. What held at one of the past must have been looked up:
    /// [`Rooms::look_up_past`].
    pub fn sees(&self, event: &TimelineEvent, user_id: &UserId) -> bool {
        if event.position < 0 {
            return self.sees_past(event);
        }
        let (visibility, visibility_before) = at(
            &self.visibilities,
            event.position,
            HistoryVisibility::Shared,
        );
        let (membership, membership_before) =
            at(&self.memberships, event.position, MembershipState::Leave);
        let own_membership = event.event_type.as_ref() == "m.room.member"
            && event.state_key.as_deref() == Some(user_id.as_str());
        // Who changes the visibility, or their own membership, is judged by the better of before and after.
        let visibilities = [Some(visibility), visibility_before];
        let memberships = [
            Some(membership),
            membership_before.filter(|_| own_membership),
        ];
        visibilities.iter().flatten().any(|visibility| {
            memberships
                .iter()
                .flatten()
                .any(|membership| self.allows(visibility, membership, event.position))
        }) || (own_membership
            && !matches!(
                at(&self.memberships, event.position, MembershipState::Leave).0,
                MembershipState::Knock
            ))
    }

    /// Whether the user may see an event of the past. One that changes the visibility is judged by the better of before and
    /// after.
    fn sees_past(&self, event: &TimelineEvent) -> bool {
        let Some((visibility, membership)) = self.then(event) else {
            return false;
        };
        let is_change = event.event_type.as_ref() == "m.room.history_visibility"
            && event.state_key.as_deref() == Some("");
        let before = is_change.then(|| {
            let replaced = event.replaced.as_ref();
            replaced.map_or(HistoryVisibility::Shared, |replaced| {
                visibility_of_content(&replaced.content)
            })
        });
        let mut visibilities = [Some(visibility), before].into_iter().flatten();
        visibilities.any(|visibility| self.allows(&visibility, &membership, event.position))
    }

    /// Whether an event is shown redacted: its sender asked to be forgotten before the user could see it.
    pub fn veils(&self, event: &TimelineEvent, user_id: &UserId) -> bool {
        let Some(erased_after) = self.erased.get(&event.sender) else {
            return false;
        };
        let before = |changed: i64| changed <= *erased_after;
        let then = Self {
            visibilities: self.visibilities.clone(),
            memberships: self
                .memberships
                .iter()
                .filter(|(changed, _)| before(*changed))
                .cloned()
                .collect(),
            erased: ErasedUsers::default(),
            past: self.past.clone(),
        };
        let was_joined = then
            .memberships
            .iter()
            .any(|(_, membership)| *membership == MembershipState::Join);
        !(was_joined && then.sees(event, user_id))
    }

    /// Puts the redacted form in the place of the events that are shown so.
    pub(crate) fn veil<'e>(
        &self,
        events: impl IntoIterator<Item = &'e mut Arc<TimelineEvent>>,
        user_id: &UserId,
        room: &Room,
    ) {
        if self.erased.is_empty() {
            return;
        }
        for event in events {
            if self.veils(event, user_id) {
                *event = Arc::new(event.redacted(room.version()));
            }
        }
    }

    fn allows(
        &self,
        visibility: &HistoryVisibility,
        membership: &MembershipState,
        position: i64,
    ) -> bool {
        match (visibility, membership) {
            (HistoryVisibility::WorldReadable, _)
            | (_, MembershipState::Join)
            | (HistoryVisibility::Invited, MembershipState::Invite) => true,
            (HistoryVisibility::Shared, _) => self.joined_after(position),
            _ => false,
        }
    }

    /// Whether the user joined at some time after a position.
    fn joined_after(&self, position: i64) -> bool {
        self.memberships
            .iter()
            .rev()
            .take_while(|(changed, _)| *changed > position)
            .any(|(_, membership)| *membership == MembershipState::Join)
    }
}

/// Where a value last ended to hold: the end of time if it still does.
fn end_of_last<T: PartialEq>(changes: &[(i64, T)], value: &T) -> i64 {
    let last = changes.iter().rposition(|(_, held)| held == value);
    last.map_or(i64::MIN, |last| {
        changes.get(last + 1).map_or(i64::MAX, |(end, _)| *end)
    })
}

impl Rooms {
    /// What a user may see of a room.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn access(&self, room: &Room, state: &RoomState, user_id: &UserId) -> Result<Access> {
        let visibilities = state
            .visibilities()
            .iter()
            .map(|(position, value)| (position.get(), value.clone()))
            .collect();
        let history = self
            .database
            .slot_history(room.nid(), "m.room.member", user_id.as_str())
            .await?;
        let mut memberships: Vec<(i64, MembershipState)> = history
            .into_iter()
            .filter_map(|(position, json)| {
                let event = StateEvent::parse(ruma::event_id!("$history").to_owned(), &json)?;
                Some((position, membership_of(&event)))
            })
            .collect();
        let last = memberships.last().map(|(_, membership)| membership.clone());
        let was_joined = last == Some(MembershipState::Join);
        if was_joined != state.is_joined(user_id) {
            // It was no event of the timeline: the resolution of a fork has undone a join, or another server had taken one of which
            // this one didn't hear until it came in by somebody else's.
            let noted = self.database.membership(user_id, room.nid()).await?;
            let noted = noted.map(|(membership, since)| (since, membership.as_str().into()));
            memberships.extend(noted.filter(|(_, membership)| Some(membership) != last.as_ref()));
        }
        Ok(Access {
            visibilities,
            memberships,
            erased: self.erased.users().await?,
            past: Arc::default(),
        })
    }

    /// Looks up what held at those of some events that are of the past before this server came into the room.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn look_up_past(
        &self,
        access: &Access,
        events: &[Arc<TimelineEvent>],
        user_id: &UserId,
    ) -> Result<()> {
        for event in events.iter().filter(|event| event.position < 0) {
            if access.then(event).is_some() {
                continue;
            }
            let visibility = self
                .event_of_state(event.snapshot, "m.room.history_visibility", "")
                .await?
                .map_or(HistoryVisibility::Shared, |event| visibility_of(&event));
            let membership = self
                .event_of_state(event.snapshot, "m.room.member", user_id.as_str())
                .await?
                .map_or(MembershipState::Leave, |event| membership_of(&event));
            let mut past = access.past.write().unwrap_or_else(PoisonError::into_inner);
            past.insert(event.snapshot, (visibility, membership));
        }
        Ok(())
    }

    async fn event_of_state(
        &self,
        snapshot: i64,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<StateEvent>> {
        let position = self
            .database
            .state_event(snapshot, event_type, state_key)
            .await?;
        let rows = match position {
            Some(position) => self.database.events_at(vec![position]).await?,
            None => Vec::new(),
        };
        Ok(rows
            .into_iter()
            .find_map(|row| StateEvent::parse(row.event_id, &row.json)))
    }

    /// What a user may see of a room, who may see something of it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if they may see nothing, also if there is no such room.
    pub(crate) async fn readable(
        &self,
        room_id: &ruma::RoomId,
        user_id: &UserId,
    ) -> Result<(std::sync::Arc<Room>, std::sync::Arc<RoomState>, Access)> {
        let (room, state, access) = self.glimpsed(room_id, user_id).await?;
        match access.is_possible() {
            true => Ok((room, state, access)),
            false => Err(not_a_member()),
        }
    }

    /// The same also for who may see nothing of it now: single events may be of a time when anyone could read the room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is no such room, or the user has forgotten it.
    pub(crate) async fn glimpsed(
        &self,
        room_id: &ruma::RoomId,
        user_id: &UserId,
    ) -> Result<(std::sync::Arc<Room>, std::sync::Arc<RoomState>, Access)> {
        let room = self.registry.get(room_id).await?;
        let room = room.ok_or_else(not_a_member)?;
        let state = self.registry.load(&room).await?;
        let access = self.access(&room, &state, user_id).await?;
        // Who is joined has forgotten nothing.
        if !state.is_joined(user_id)
            && let Some(nid) = self.database.user_nid(user_id).await?
            && self.database.is_forgotten(nid, room.nid()).await? == Some(true)
        {
            return Err(not_a_member());
        }
        Ok((room, state, access))
    }
}

fn not_a_member() -> EngineError {
    EngineError::forbidden("you aren't a member of this room")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(visibilities: &[(i64, &str)], memberships: &[(i64, &str)]) -> Access {
        Access {
            visibilities: visibilities
                .iter()
                .map(|(at, value)| (*at, (*value).into()))
                .collect(),
            memberships: memberships
                .iter()
                .map(|(at, value)| (*at, (*value).into()))
                .collect(),
            erased: ErasedUsers::default(),
            past: Arc::default(),
        }
    }

    fn sees(access: &Access, position: i64) -> bool {
        let user = ruma::user_id!("@me:a");
        let json = format!(
            r#"{{"content":{{}},"origin_server_ts":1,"sender":"@you:a","type":"m.room.message","depth":{position}}}"#
        );
        let row = parley_storage::events::EventRow {
            position,
            room_nid: 1,
            event_id: ruma::event_id!("$e").to_owned(),
            snapshot: 1,
            current_snapshot: None,
            replaces: None,
            redacted_by: None,
            device_nid: None,
            transaction_id: None,
            json,
            replaced_json: None,
            replaced_id: None,
            after_gap: false,
            room_version: None,
        };
        access.sees(&TimelineEvent::from_row(row).unwrap(), user)
    }

    #[test]
    fn shared_history_is_seen_by_who_joins_later_and_not_by_who_left() {
        let access = access(&[(3, "shared")], &[(10, "join"), (20, "leave")]);
        assert!(sees(&access, 5));
        assert!(sees(&access, 15));
        assert!(!sees(&access, 25));
        assert_eq!(access.state_limit(), Some(20));
    }

    #[test]
    fn joined_history_is_seen_only_while_joined() {
        let access = access(
            &[(3, "joined")],
            &[(8, "invite"), (10, "join"), (20, "leave"), (30, "join")],
        );
        assert_eq!(
            [5, 9, 15, 25, 35].map(|position| sees(&access, position)),
            [false, false, true, false, true]
        );
    }

    #[test]
    fn invited_history_is_seen_from_the_invitation_on_accepted_or_not() {
        let visibility = [(3, "invited")];
        assert!(sees(
            &access(&visibility, &[(8, "invite"), (10, "join")]),
            9
        ));
        assert!(!sees(
            &access(&visibility, &[(8, "invite"), (10, "join")]),
            7
        ));
        let refused = access(&visibility, &[(8, "invite"), (10, "leave")]);
        assert_eq!(
            [7, 9, 11].map(|position| sees(&refused, position)),
            [false, true, false]
        );
    }

    #[test]
    fn world_readable_history_is_seen_by_everyone_as_long_as_it_is_that() {
        let access = access(&[(3, "world_readable"), (10, "joined")], &[]);
        assert!(sees(&access, 5));
        assert!(!sees(&access, 15));
    }
}
