//! State resolution where state is owned.
//!
//! ruma knows nothing of the rule of [`owned_state`], and judges events in the midst of the algorithm. Two things make it
//! possible to judge them outside of it: an event under that rule decides on no other, and when its turn comes, the power
//! levels, by which alone the rule judges, have been decided on. So the states are resolved without the events that the
//! rule might refuse, which are few; by what comes of that they are judged; and then the states are resolved with those
//! that it doesn't refuse.

use std::collections::HashSet;

use ruma::{
    EventId, OwnedEventId,
    events::{StateEventType, TimelineEventType},
};

use super::{EventIdSet, EventMap, ResolutionError, StateMap, conflicted, resolve_by};
use crate::{Pdu, RoomVersion, owned_state};

/// Resolves states, as [`resolve_with`](super::resolve_with) says.
pub(super) fn resolve(
    version: &RoomVersion,
    states: &[StateMap],
    chains: Vec<EventIdSet>,
    events: &EventMap,
) -> Result<StateMap, ResolutionError> {
    let doubtful = doubtful(states, events);
    if doubtful.is_empty() {
        return resolve_masked(version, states, chains, events);
    }
    let ids = doubtful.iter().map(|pdu| &pdu.event_id).collect();
    let decided = resolve_masked(version, &without(states, &ids), chains.clone(), events)?;
    let refused = doubtful
        .into_iter()
        .filter(|pdu| !is_allowed(pdu, version, &decided, events))
        .map(|pdu| &pdu.event_id)
        .collect();
    resolve_masked(version, &without(states, &refused), chains, events)
}

/// The events in conflict that stand where others than their senders own the state.
fn doubtful<'a>(states: &[StateMap], events: &'a EventMap) -> Vec<&'a Pdu> {
    let conflicted = conflicted(states);
    let conflicted = conflicted.iter().filter_map(|id| events.get(id));
    let pdus = conflicted.map(AsRef::as_ref);
    pdus.filter(|pdu| owned_state::is_doubtful(pdu)).collect()
}

fn without(states: &[StateMap], left_out: &HashSet<&OwnedEventId>) -> Vec<StateMap> {
    let mut states = states.to_vec();
    for state in &mut states {
        state.retain(|_, id| !left_out.contains(id));
    }
    states
}

/// Whether the rule allows an event by what was decided on; what that leaves out is as the event's own `auth_events` say.
fn is_allowed(pdu: &Pdu, version: &RoomVersion, decided: &StateMap, events: &EventMap) -> bool {
    let fetch = |event_type: &StateEventType, state_key: &str| {
        let place = (event_type.clone(), state_key.to_owned());
        let stands = |event: &&Pdu| {
            let is_type = TimelineEventType::from(place.0.clone()) == event.fields.event_type;
            is_type && event.fields.state_key.as_deref() == Some(state_key)
        };
        let event = |id: &OwnedEventId| events.get(id).map(AsRef::as_ref).filter(is_accepted);
        let named = pdu.fields.auth_events.iter().filter_map(event).find(stands);
        decided.get(&place).and_then(event).or(named)
    };
    owned_state::check(pdu, version, fetch).is_ok()
}

fn is_accepted(event: &&Pdu) -> bool {
    !event.rejected
}

/// Resolves states by ruma's rules but the one for state keys with `@`.
fn resolve_masked(
    version: &RoomVersion,
    states: &[StateMap],
    chains: Vec<EventIdSet>,
    events: &EventMap,
) -> Result<StateMap, ResolutionError> {
    let states: Vec<StateMap> = states
        .iter()
        .map(|state| with_keys(state.clone(), owned_state::masked_key))
        .collect();
    let fetch = |id: &EventId| {
        let event = events.get(id)?;
        Some(owned_state::masked(event).into_owned())
    };
    let resolved = resolve_by(version, &states, chains, events, fetch)?;
    Ok(with_keys(resolved, owned_state::unmasked_key))
}

/// A state with other state keys where `other` gives such.
fn with_keys(state: StateMap, other: fn(&TimelineEventType, &str) -> Option<String>) -> StateMap {
    state
        .into_iter()
        .map(|((event_type, state_key), id)| {
            let key = other(&TimelineEventType::from(event_type.clone()), &state_key);
            ((event_type, key.unwrap_or(state_key)), id)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ruma::RoomVersionId;
    use serde_json::{Value, json};

    use super::*;
    use crate::resolution;

    const ALICE: &str = "@alice:a";
    const BOB: &str = "@bob:b";
    const CAROL: &str = "@carol:c";
    const OF_CAROL: &str = "@carol:c_device";
    const CREATE: &str = "$create";
    const LEVELS: &str = "$levels";

    /// The events of a room in which Alice is above Bob, who is above Carol.
    struct Room {
        events: EventMap,
        version: RoomVersion,
    }

    impl Room {
        fn new() -> Self {
            let version = RoomVersionId::try_from("org.matrix.msc3757.10").unwrap();
            let mut room = Self {
                events: EventMap::new(),
                version: RoomVersion::new(&version).unwrap(),
            };
            let creator = json!({ "creator": ALICE });
            room.add(CREATE, 1, [ALICE, "m.room.create", ""], creator, &[]);
            let join = json!({ "membership": "join" });
            for (id, user) in [("$alice", ALICE), ("$bob", BOB), ("$carol", CAROL)] {
                let place = [user, "m.room.member", user];
                room.add(id, 2, place, join.clone(), &[CREATE]);
            }
            let place = [ALICE, "m.room.power_levels", ""];
            room.add(LEVELS, 3, place, levels(50), &[CREATE, "$alice"]);
            room
        }

        /// Adds an event of a sender, a type and a state key.
        fn add(&mut self, id: &str, at: u64, of: [&str; 3], content: Value, auth: &[&str]) {
            let [sender, event_type, state_key] = of;
            let json = json!({
                "room_id": "!room:a", "sender": sender, "type": event_type, "state_key": state_key,
                "content": content, "depth": at, "origin_server_ts": at,
                "prev_events": [], "auth_events": auth,
            });
            let event_id = OwnedEventId::try_from(id).unwrap();
            let pdu = Pdu::parse(event_id.clone(), &json.to_string()).unwrap();
            self.events.insert(event_id, Arc::new(pdu));
        }

        /// Adds an event of a member to a place, allowed by power levels.
        fn write(&mut self, id: &str, at: u64, sender: &str, state_key: &str, levels: &str) {
            let member = match sender {
                ALICE => "$alice",
                BOB => "$bob",
                _ => "$carol",
            };
            let of = [sender, "test", state_key];
            self.add(id, at, of, json!({}), &[CREATE, levels, member]);
        }

        /// Adds power levels that have Bob at a level.
        fn put_bob_at(&mut self, id: &str, at: u64, level: i64) {
            let of = [ALICE, "m.room.power_levels", ""];
            self.add(id, at, of, levels(level), &[CREATE, LEVELS, "$alice"]);
        }

        /// The state with these events over what all begins with.
        fn state(&self, ids: &[&str]) -> StateMap {
            [CREATE, "$alice", "$bob", "$carol", LEVELS]
                .iter()
                .chain(ids)
                .map(|id| {
                    let pdu = &self.events[<&EventId>::try_from(*id).unwrap()];
                    let event_type = pdu.fields.event_type.to_string();
                    let place = (event_type.into(), pdu.fields.state_key.clone().unwrap());
                    (place, pdu.event_id.clone())
                })
                .collect()
        }

        /// What two states are resolved to, whichever comes first.
        fn resolve(&self, one: &[&str], other: &[&str]) -> StateMap {
            let states = [self.state(one), self.state(other)];
            let resolved = resolution::resolve(&self.version, &states, &self.events).unwrap();
            let reversed = [states[1].clone(), states[0].clone()];
            let again = resolution::resolve(&self.version, &reversed, &self.events).unwrap();
            assert_eq!(again, resolved);
            resolved
        }

        /// What stands in a place after that.
        fn stands(&self, one: &[&str], other: &[&str], state_key: &str) -> Option<OwnedEventId> {
            let place = ("test".into(), state_key.to_owned());
            self.resolve(one, other).remove(&place)
        }
    }

    fn levels(bob: i64) -> Value {
        json!({ "users": { ALICE: 100, BOB: bob }, "events": { "test": 0 } })
    }

    #[test]
    fn the_later_of_an_owners_event_and_one_of_somebody_above_them_stands() {
        let mut room = Room::new();
        room.write("$own", 4, CAROL, OF_CAROL, LEVELS);
        room.write("$over", 5, BOB, OF_CAROL, LEVELS);
        room.write("$again", 6, CAROL, OF_CAROL, LEVELS);
        let stands = room.stands(&["$own"], &["$over"], OF_CAROL);
        assert_eq!(stands.unwrap(), "$over");
        let stands = room.stands(&["$again"], &["$over"], OF_CAROL);
        assert_eq!(stands.unwrap(), "$again");
    }

    #[test]
    fn who_is_no_longer_above_an_owner_overwrites_nothing_that_is_in_conflict() {
        let mut room = Room::new();
        room.put_bob_at("$lowered", 4, 0);
        room.write("$own", 5, CAROL, OF_CAROL, "$lowered");
        room.write("$over", 6, BOB, OF_CAROL, LEVELS);
        let stands = room.stands(&["$lowered", "$own"], &["$over"], OF_CAROL);
        assert_eq!(stands.unwrap(), "$own");
        // Nor what wasn't there.
        let stands = room.stands(&["$lowered"], &["$over"], OF_CAROL);
        assert_eq!(stands, None);
    }

    #[test]
    fn what_is_in_all_states_stands_whoever_wrote_it() {
        let mut room = Room::new();
        room.write("$over", 4, BOB, OF_CAROL, LEVELS);
        room.put_bob_at("$lowered", 5, 0);
        let stands = room.stands(&["$lowered", "$over"], &["$over"], OF_CAROL);
        assert_eq!(stands.unwrap(), "$over");
    }

    #[test]
    fn an_event_whose_owner_is_malformed_never_stands() {
        let mut room = Room::new();
        room.write("$bad", 4, ALICE, "@oops", LEVELS);
        assert_eq!(room.stands(&["$bad"], &[], "@oops"), None);
    }

    #[test]
    fn masks_of_state_keys_are_taken_off_again() {
        let mut room = Room::new();
        let keys = ["@carol:c", OF_CAROL, "%@carol:c", "plain", ""];
        let ids = ["$e0", "$e1", "$e2", "$e3", "$e4"];
        for (id, key) in ids.iter().zip(keys) {
            room.write(id, 4, CAROL, key, LEVELS);
        }
        room.write("$e5", 5, BOB, "", LEVELS);
        let resolved = room.resolve(&ids, &["$e0", "$e5"]);
        let mut expected = room.state(&ids);
        expected.extend(room.state(&["$e5"]));
        assert_eq!(resolved, expected);
    }
}
