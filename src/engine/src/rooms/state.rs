//! The current state of a room, in memory.

use std::sync::Arc;

use parley_protocol::{RoomVersion, StateEvent, auth, power};
use parley_storage::commit::Assigned;
use rpds::HashTrieMapSync;
use ruma::{
    EventId, OwnedServerName, OwnedUserId, ServerName, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{
            history_visibility::HistoryVisibility,
            join_rules::{JoinRule, RoomJoinRulesEventContent},
            member::MembershipState,
            power_levels::{RoomPowerLevels, UserPowerLevel},
        },
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An event of the state, and where it stands in the stream.
#[derive(Clone, Debug)]
pub struct StateEntry {
    /// The event.
    pub event: Arc<StateEvent>,
    /// Its position, once committed.
    pub position: Assigned,
}

/// A member event, with the membership that it gives.
#[derive(Clone, Debug)]
pub struct Member {
    /// The event.
    pub entry: StateEntry,
    /// What it says.
    pub membership: MembershipState,
}

/// The state of a room at one point. Cloning it is cheap, and clones share what they have in common, so each state event
/// may keep the state after it.
#[derive(Clone, Debug)]
pub struct RoomState {
    events: HashTrieMapSync<(Box<str>, Box<str>), StateEntry>,
    members: HashTrieMapSync<OwnedUserId, Member>,
    /// How many users of each server are joined.
    servers: HashTrieMapSync<OwnedServerName, usize>,
    joined: usize,
    invited: usize,
    power_levels: Arc<RoomPowerLevels>,
    /// Each change of the history visibility, oldest first.
    visibilities: Arc<[(Assigned, HistoryVisibility)]>,
}

impl RoomState {
    /// The state after a room's create event.
    pub fn new(create: StateEntry, version: &RoomVersion) -> Self {
        let power_levels = Arc::new(power::power_levels(None, &create.event, version));
        let key = (Box::from("m.room.create"), Box::from(""));
        Self {
            events: HashTrieMapSync::new_sync().insert(key, create),
            members: HashTrieMapSync::new_sync(),
            servers: HashTrieMapSync::new_sync(),
            joined: 0,
            invited: 0,
            power_levels,
            visibilities: Arc::new([]),
        }
    }

    /// The state of a room of which nothing is known.
    pub(crate) fn unknown(version: &RoomVersion) -> Self {
        Self {
            events: HashTrieMapSync::new_sync(),
            members: HashTrieMapSync::new_sync(),
            servers: HashTrieMapSync::new_sync(),
            joined: 0,
            invited: 0,
            power_levels: Arc::new(power::default_power_levels(version)),
            visibilities: Arc::new([]),
        }
    }

    /// The state after one more event.
    pub fn apply(&mut self, entry: StateEntry, version: &RoomVersion) {
        let at = entry.position.clone();
        self.apply_at(entry, &at, version);
    }

    /// The same for an event that takes its place because of another, which stands at a position after it.
    pub(crate) fn apply_at(&mut self, entry: StateEntry, at: &Assigned, version: &RoomVersion) {
        match &entry.event.event_type {
            TimelineEventType::RoomMember => return self.apply_member(entry),
            TimelineEventType::RoomHistoryVisibility if entry.event.state_key.is_empty() => {
                self.note_visibility(at, visibility_of(&entry.event));
            }
            _ => {}
        }
        let event = entry.event.clone();
        let key = (
            event.event_type.to_string().into_boxed_str(),
            event.state_key.clone(),
        );
        self.events.insert_mut(key, entry);
        self.decide_power(&event, version);
    }

    fn note_visibility(&mut self, at: &Assigned, visibility: HistoryVisibility) {
        let mut visibilities = self.visibilities.to_vec();
        visibilities.push((at.clone(), visibility));
        self.visibilities = visibilities.into();
    }

    /// The state without what stands in a place, as it is where a fork is resolved to that. `at` is the position of the
    /// event that did it.
    pub(crate) fn remove(
        &mut self,
        event_type: &str,
        state_key: &str,
        at: &Assigned,
        version: &RoomVersion,
    ) {
        if event_type == "m.room.member" {
            if let Ok(user_id) = <&UserId>::try_from(state_key)
                && let Some(member) = self.members.get(user_id).cloned()
            {
                self.count(user_id, &member.membership, false);
                self.members.remove_mut(user_id);
            }
            return;
        }
        let key = (Box::from(event_type), Box::from(state_key));
        if !self.events.remove_mut(&key) || !state_key.is_empty() {
            return;
        }
        match event_type {
            "m.room.history_visibility" => self.note_visibility(at, HistoryVisibility::Shared),
            "m.room.power_levels" => {
                if let Some(create) = self.get("m.room.create", "") {
                    let levels = power::power_levels(None, &create.event, version);
                    self.power_levels = Arc::new(levels);
                }
            }
            _ => {}
        }
    }

    /// Reads the power levels anew, if `event` is one that decides on them.
    fn decide_power(&mut self, event: &StateEvent, version: &RoomVersion) {
        let decides = matches!(
            event.event_type,
            TimelineEventType::RoomPowerLevels | TimelineEventType::RoomCreate
        );
        if decides && let Some(create) = self.get("m.room.create", "") {
            let levels = self
                .get("m.room.power_levels", "")
                .map(|entry| entry.event.as_ref());
            self.power_levels = Arc::new(power::power_levels(levels, &create.event, version));
        }
    }

    /// Puts what a redaction leaves of an event into the place of that event. Whether the state has that event.
    ///
    /// What redaction leaves is what the authorisation rules need: nobody's membership changes by it, nor who may read.
    pub(crate) fn redact(&mut self, target: &EventId, json: &str, version: &RoomVersion) -> bool {
        let Some(event) = StateEvent::parse(target.to_owned(), json) else {
            return false;
        };
        let event_type = event.event_type.to_string();
        let Some(entry) = self
            .get(&event_type, &event.state_key)
            .filter(|entry| entry.event.event_id == target)
            .cloned()
        else {
            return false;
        };
        let event = Arc::new(event);
        let entry = StateEntry {
            event: event.clone(),
            ..entry
        };
        if event.event_type == TimelineEventType::RoomMember {
            self.apply_member(entry);
        } else {
            let key = (event_type.into_boxed_str(), event.state_key.clone());
            self.events.insert_mut(key, entry);
            self.decide_power(&event, version);
        }
        true
    }

    fn apply_member(&mut self, entry: StateEntry) {
        // A member event of nobody is state like any other to the rules, and of no use to anyone.
        let Ok(user_id) = OwnedUserId::try_from(entry.event.state_key.as_ref()) else {
            return;
        };
        let membership = membership_of(&entry.event);
        let old = self.members.get(&user_id);
        let old = old.map(|member| member.membership.clone());
        // Who changes their name stays where they are.
        if old.as_ref() != Some(&membership) {
            if let Some(old) = old {
                self.count(&user_id, &old, false);
            }
            self.count(&user_id, &membership, true);
        }
        self.members
            .insert_mut(user_id, Member { entry, membership });
    }

    /// Counts a member who has come, or gone.
    fn count(&mut self, user_id: &UserId, membership: &MembershipState, comes: bool) {
        let step = |count: usize| match comes {
            true => count + 1,
            false => count.saturating_sub(1),
        };
        match membership {
            MembershipState::Join => {
                self.joined = step(self.joined);
                let server = user_id.server_name();
                match step(self.servers.get(server).copied().unwrap_or_default()) {
                    0 => {
                        self.servers.remove_mut(server);
                    }
                    count => self.servers.insert_mut(server.to_owned(), count),
                }
            }
            MembershipState::Invite => self.invited = step(self.invited),
            _ => {}
        }
    }

    /// All events of the state, in no order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &StateEntry> {
        let members = self.members.values().map(|member| &member.entry);
        self.events.values().chain(members)
    }

    /// Sets the visibilities that the room has had, oldest first; for a room that is being loaded.
    pub(crate) fn set_visibilities(&mut self, visibilities: Vec<(Assigned, HistoryVisibility)>) {
        self.visibilities = visibilities.into();
    }

    /// The event in a place of the state.
    pub fn get(&self, event_type: &str, state_key: &str) -> Option<&StateEntry> {
        if event_type == "m.room.member" {
            let user_id = <&UserId>::try_from(state_key).ok()?;
            return self.members.get(user_id).map(|member| &member.entry);
        }
        self.events
            .get(&(Box::from(event_type), Box::from(state_key)))
    }

    /// The event in a place of the state, for the authorisation rules.
    pub fn event(&self, event_type: &StateEventType, state_key: &str) -> Option<&StateEvent> {
        self.get(&event_type.to_string(), state_key)
            .map(|entry| entry.event.as_ref())
    }

    /// The events of the state that decide on an event: its `auth_events`, if it is built on this state.
    ///
    /// # Errors
    /// Says what is wrong with the event's content, where that names further places.
    pub fn deciding(
        &self,
        event_type: &TimelineEventType,
        sender: &UserId,
        state_key: Option<&str>,
        content: &RawValue,
        version: &RoomVersion,
    ) -> Result<Vec<&StateEvent>, String> {
        let places = auth::deciding_state(event_type, sender, state_key, content, version)?;
        let events = places.iter();
        Ok(events
            .filter_map(|(event_type, state_key)| self.event(event_type, state_key))
            .collect())
    }

    /// All events of the state but the memberships.
    pub fn events(&self) -> impl Iterator<Item = &StateEntry> {
        self.events.values()
    }

    /// The events of one type, memberships aside, in no order.
    pub fn of_type<'a>(&'a self, event_type: &'a str) -> impl Iterator<Item = &'a StateEntry> {
        let is_of_type =
            move |(key, _): &(&(Box<str>, Box<str>), &StateEntry)| *key.0 == *event_type;
        self.events
            .iter()
            .filter(is_of_type)
            .map(|(_, entry)| entry)
    }

    /// All events of the state.
    pub fn all(&self) -> impl Iterator<Item = &StateEntry> {
        self.events
            .values()
            .chain(self.members.values().map(|member| &member.entry))
    }

    /// Everyone who has a membership, whichever.
    pub fn members(&self) -> impl Iterator<Item = (&OwnedUserId, &Member)> {
        self.members.iter()
    }

    /// The users who are joined.
    pub fn joined_members(&self) -> impl Iterator<Item = (&OwnedUserId, &Member)> {
        self.members
            .iter()
            .filter(|(_, member)| member.membership == MembershipState::Join)
    }

    /// A user's member event.
    pub fn member(&self, user_id: &UserId) -> Option<&Member> {
        self.members.get(user_id)
    }

    /// A user's membership; who never had one is not in the room.
    pub fn membership(&self, user_id: &UserId) -> MembershipState {
        self.members
            .get(user_id)
            .map_or(MembershipState::Leave, |member| member.membership.clone())
    }

    /// Whether a user is joined.
    pub fn is_joined(&self, user_id: &UserId) -> bool {
        self.members
            .get(user_id)
            .is_some_and(|member| member.membership == MembershipState::Join)
    }

    /// The servers whose users are joined, each with how many are.
    pub fn servers(&self) -> impl Iterator<Item = (&OwnedServerName, usize)> {
        self.servers
            .iter()
            .map(|(server, joined)| (server, *joined))
    }

    /// Whether a user of a server is joined.
    pub fn has_server(&self, server: &ServerName) -> bool {
        self.servers.contains_key(server)
    }

    /// Whether a user of a server is invited.
    pub fn invites_server(&self, server: &ServerName) -> bool {
        let is_invited = |(user_id, member): (&OwnedUserId, &Member)| {
            member.membership == MembershipState::Invite && user_id.server_name() == server
        };
        self.invited > 0 && self.members.iter().any(is_invited)
    }

    /// How many users are joined.
    pub fn joined_count(&self) -> usize {
        self.joined
    }

    /// How many users are invited.
    pub fn invited_count(&self) -> usize {
        self.invited
    }

    /// Who may do what.
    pub fn power_levels(&self) -> &RoomPowerLevels {
        &self.power_levels
    }

    /// Whether a user stands above all power levels: who made the room, since version 12.
    pub fn is_privileged(&self, user_id: &UserId) -> bool {
        self.power_levels.for_user(user_id) == UserPowerLevel::Infinite
    }

    /// Each change of the history visibility, oldest first. Before the first, it is `shared`.
    pub fn visibilities(&self) -> &[(Assigned, HistoryVisibility)] {
        &self.visibilities
    }

    /// The history visibility that holds now.
    pub fn visibility(&self) -> HistoryVisibility {
        self.visibilities
            .last()
            .map_or(HistoryVisibility::Shared, |(_, visibility)| {
                visibility.clone()
            })
    }

    /// Who may join.
    pub fn join_rule(&self) -> JoinRule {
        self.get("m.room.join_rules", "")
            .and_then(|entry| entry.event.content_as::<RoomJoinRulesEventContent>())
            .map_or(JoinRule::Invite, |content| content.join_rule)
    }

    /// A text in the content of a state event with an empty state key, such as the room's name.
    pub fn text(&self, event_type: &str, field: &str) -> Option<String> {
        let content: serde_json::Map<String, serde_json::Value> =
            self.get(event_type, "")?.event.content_as()?;
        content
            .get(field)?
            .as_str()
            .filter(|text| !text.is_empty())
            .map(ToOwned::to_owned)
    }
}

/// The membership that a member event gives.
pub fn membership_of(event: &StateEvent) -> MembershipState {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    event
        .content_as::<Content>()
        .map_or(MembershipState::Leave, |content| content.membership)
}

/// The visibility that an event gives; `shared` where it is not one of the spec's.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>
pub fn visibility_of(event: &StateEvent) -> HistoryVisibility {
    visibility_of_content(event.content.get())
}

/// The same of the content alone, which is JSON.
pub fn visibility_of_content(content: &str) -> HistoryVisibility {
    #[derive(Deserialize)]
    struct Content {
        history_visibility: HistoryVisibility,
    }
    let visibility = serde_json::from_str(content)
        .map_or(HistoryVisibility::Shared, |content: Content| {
            content.history_visibility
        });
    match visibility {
        HistoryVisibility::Invited
        | HistoryVisibility::Joined
        | HistoryVisibility::Shared
        | HistoryVisibility::WorldReadable => visibility,
        _ => HistoryVisibility::Shared,
    }
}
