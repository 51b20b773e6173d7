//! State resolution of rooms of version 1.
//!
//! Places in which states differ are decided in passes: power levels, join rules, members, all others. What a pass
//! decides on counts for those after it. Where the prose leaves something open, this does what the other servers do that
//! know the algorithm, since the one thing that matters is that all come to the same state:
//!
//! - Each place is decided on by itself: what another place of the same pass was decided to be doesn't count.
//! - Where no event of a place is allowed, the one of the lowest depth stands there.
//!
//! <https://spec.matrix.org/v1.19/rooms/v1/#state-resolution>

use std::collections::BTreeMap;

use ruma::{EventId, OwnedEventId, events::StateEventType};
use sha1::{Digest, Sha1};

use super::{EventMap, StateMap};
use crate::{Pdu, RoomVersion, auth};

/// A place of the state: type and state key.
type Place = (StateEventType, String);

/// The places in which states differ, with the events there, those of the lowest depth first.
type Conflicts<'a> = BTreeMap<Place, Vec<&'a Pdu>>;

/// Resolves states. Of `events`, those that the states differ in are needed, and of the others the create event, the
/// power levels, the join rules, the invitations of third parties and the members.
pub(super) fn resolve(version: &RoomVersion, states: &[StateMap], events: &EventMap) -> StateMap {
    let (mut resolved, mut conflicts) = split(states, events);
    for decides in [is_power_levels, is_join_rules, is_member] {
        let passed: Vec<(Place, OwnedEventId)> = conflicts
            .extract_if(.., |place, _| decides(place))
            .filter_map(|(place, candidates)| {
                let event = last_allowed(version, &place, &candidates, &resolved, events)?;
                Some((place, event.event_id.clone()))
            })
            .collect();
        resolved.extend(passed);
    }
    let others: Vec<(Place, OwnedEventId)> = conflicts
        .into_iter()
        .filter_map(|(place, candidates)| {
            let event = highest_allowed(version, &candidates, &resolved, events)?;
            Some((place, event.event_id.clone()))
        })
        .collect();
    resolved.extend(others);
    resolved
}

fn is_power_levels((event_type, state_key): &Place) -> bool {
    *event_type == StateEventType::RoomPowerLevels && state_key.is_empty()
}

fn is_join_rules((event_type, state_key): &Place) -> bool {
    *event_type == StateEventType::RoomJoinRules && state_key.is_empty()
}

fn is_member((event_type, _): &Place) -> bool {
    *event_type == StateEventType::RoomMember
}

/// What no state contradicts, and the places in which some differ. A place that is in some states only is no conflict.
fn split<'a>(states: &[StateMap], events: &'a EventMap) -> (StateMap, Conflicts<'a>) {
    let mut found: BTreeMap<&Place, Vec<&OwnedEventId>> = BTreeMap::new();
    for (place, event_id) in states.iter().flatten() {
        let there = found.entry(place).or_default();
        if !there.contains(&event_id) {
            there.push(event_id);
        }
    }
    let mut agreed = StateMap::new();
    let mut conflicts = Conflicts::new();
    for (place, ids) in found {
        if let [only] = ids.as_slice() {
            agreed.insert(place.clone(), (*only).clone());
            continue;
        }
        let mut candidates: Vec<&Pdu> = ids
            .into_iter()
            .filter_map(|id| events.get(id).map(AsRef::as_ref))
            .collect();
        candidates.sort_by_key(|pdu| {
            let hash: [u8; 20] = Sha1::digest(pdu.event_id.as_bytes()).into();
            (pdu.fields.depth, std::cmp::Reverse(hash))
        });
        conflicts.insert(place.clone(), candidates);
    }
    (agreed, conflicts)
}

/// The last of those that each allow the next; the first needs nobody's leave.
fn last_allowed<'a>(
    version: &RoomVersion,
    place: &Place,
    candidates: &[&'a Pdu],
    resolved: &StateMap,
    events: &EventMap,
) -> Option<&'a Pdu> {
    let (first, later) = candidates.split_first()?;
    let mut stands = *first;
    for next in later {
        let allowed = is_allowed(version, next, |wanted| match wanted == place {
            true => Some(stands),
            false => stands_in(resolved, events, wanted),
        });
        if !allowed {
            break;
        }
        stands = next;
    }
    Some(stands)
}

/// The highest that is allowed; where none is, the lowest.
fn highest_allowed<'a>(
    version: &RoomVersion,
    candidates: &[&'a Pdu],
    resolved: &StateMap,
    events: &EventMap,
) -> Option<&'a Pdu> {
    let allowed = candidates
        .iter()
        .rev()
        .find(|event| is_allowed(version, event, |wanted| stands_in(resolved, events, wanted)));
    allowed.or(candidates.first()).copied()
}

fn stands_in<'a>(resolved: &StateMap, events: &'a EventMap, place: &Place) -> Option<&'a Pdu> {
    let id: &EventId = resolved.get(place)?;
    events.get(id).map(AsRef::as_ref)
}

fn is_allowed<'a>(
    version: &RoomVersion,
    event: &Pdu,
    stands: impl Fn(&Place) -> Option<&'a Pdu>,
) -> bool {
    let fetch = |event_type: &StateEventType, state_key: &str| {
        stands(&(event_type.clone(), state_key.to_owned()))
    };
    auth::check_state_dependent(event, version, fetch).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ruma::RoomVersionId;
    use serde_json::{Value, json};

    use super::*;

    /// The events of a room of two people, of which one is above the other.
    struct Room(EventMap);

    const ALICE: &str = "@alice:a";
    const BOB: &str = "@bob:b";
    const CREATE: &str = "$create:a";
    const ALICE_JOINS: &str = "$alice-joins:a";
    const BOB_JOINS: &str = "$bob-joins:b";
    const LEVELS: &str = "$levels:a";
    const RULES: &str = "$rules:a";

    impl Room {
        fn new() -> Self {
            let mut room = Self(EventMap::new());
            let create = json!({ "creator": ALICE });
            room.add(CREATE, 1, ALICE, "m.room.create", "", create);
            let join = json!({ "membership": "join" });
            room.add(ALICE_JOINS, 2, ALICE, "m.room.member", ALICE, join.clone());
            room.add(LEVELS, 3, ALICE, "m.room.power_levels", "", levels(0, 50));
            let rules = json!({ "join_rule": "public" });
            room.add(RULES, 4, ALICE, "m.room.join_rules", "", rules);
            room.add(BOB_JOINS, 5, BOB, "m.room.member", BOB, join);
            room
        }

        /// Adds an event; gives its id.
        fn add<'i>(
            &mut self,
            id: &'i str,
            depth: u64,
            sender: &str,
            event_type: &str,
            state_key: &str,
            content: Value,
        ) -> &'i str {
            let json = json!({
                "room_id": "!room:a", "sender": sender, "type": event_type, "state_key": state_key,
                "content": content, "depth": depth, "origin_server_ts": 1,
                "prev_events": [["$before:a", {}]], "auth_events": [[CREATE, {}]],
            });
            let event_id = OwnedEventId::try_from(id).unwrap();
            let pdu = Pdu::parse(event_id.clone(), &json.to_string()).unwrap();
            self.0.insert(event_id, Arc::new(pdu));
            id
        }

        /// The state with these events over what all begins with.
        fn state(&self, ids: &[&str]) -> StateMap {
            [CREATE, ALICE_JOINS, LEVELS, RULES, BOB_JOINS]
                .iter()
                .chain(ids)
                .map(|id| {
                    let pdu = &self.0[<&EventId>::try_from(*id).unwrap()];
                    let event_type = pdu.fields.event_type.to_string();
                    let place = (event_type.into(), pdu.fields.state_key.clone().unwrap());
                    (place, pdu.event_id.clone())
                })
                .collect()
        }

        /// What two states are resolved to in a place, whichever comes first.
        fn resolve(&self, one: &[&str], other: &[&str], event_type: &str, key: &str) -> String {
            let version = RoomVersion::new(&RoomVersionId::V1).unwrap();
            let states = [self.state(one), self.state(other)];
            let resolved = resolve(&version, &states, &self.0);
            let reversed = [states[1].clone(), states[0].clone()];
            assert_eq!(resolve(&version, &reversed, &self.0), resolved);
            let place = (event_type.into(), key.to_owned());
            resolved
                .get(&place)
                .map_or_else(String::new, ToString::to_string)
        }

        fn name<'i>(&mut self, id: &'i str, depth: u64, sender: &str) -> &'i str {
            self.add(id, depth, sender, "m.room.name", "", json!({ "name": id }))
        }
    }

    fn levels(bob: i64, state_default: i64) -> Value {
        json!({ "users": { ALICE: 100, BOB: bob }, "state_default": state_default })
    }

    /// Those ids first whose SHA-1 is lower.
    fn by_hash<'i>(one: &'i str, other: &'i str) -> [&'i str; 2] {
        let mut ids = [one, other];
        ids.sort_by_key(|id| <[u8; 20]>::from(Sha1::digest(id.as_bytes())));
        ids
    }

    #[test]
    fn what_only_some_states_have_is_kept_without_being_judged() {
        let mut room = Room::new();
        let name = room.name("$by-bob:b", 6, BOB);
        assert_eq!(room.resolve(&[name], &[], "m.room.name", ""), name);
    }

    #[test]
    fn power_levels_of_the_lowest_depth_count_until_something_later_is_allowed_by_them() {
        let mut room = Room::new();
        let kind = "m.room.power_levels";
        let low = room.add("$low:a", 6, ALICE, kind, "", levels(10, 50));
        let high = room.add("$high:a", 7, ALICE, kind, "", levels(20, 50));
        assert_eq!(room.resolve(&[low], &[high], kind, ""), high);
        // Bob stands at 10 there, and the levels need 50.
        let seized = room.add("$seized:b", 7, BOB, kind, "", levels(100, 0));
        assert_eq!(room.resolve(&[low], &[seized], kind, ""), low);
        // Which says nothing of him where his come first: nobody is asked about the first.
        let first = room.add("$first:b", 5, BOB, kind, "", levels(100, 0));
        let second = room.add("$second:a", 6, ALICE, kind, "", levels(0, 50));
        assert_eq!(room.resolve(&[first], &[second], kind, ""), first);
    }

    #[test]
    fn after_the_first_power_levels_that_arent_allowed_no_others_are_looked_at() {
        let mut room = Room::new();
        let kind = "m.room.power_levels";
        let low = room.add("$low:a", 6, ALICE, kind, "", levels(10, 50));
        let refused = room.add("$refused:b", 7, BOB, kind, "", levels(100, 0));
        let allowed = room.add("$allowed:a", 8, ALICE, kind, "", levels(30, 50));
        let version = RoomVersion::new(&RoomVersionId::V1).unwrap();
        let states = [low, refused, allowed].map(|id| room.state(&[id]));
        let resolved = resolve(&version, &states, &room.0);
        assert_eq!(resolved[&(kind.into(), String::new())], low);
    }

    #[test]
    fn at_the_same_depth_the_id_with_the_greater_hash_comes_first() {
        let mut room = Room::new();
        let kind = "m.room.power_levels";
        let [low, high] = by_hash("$one:a", "$two:a");
        room.add(low, 6, ALICE, kind, "", levels(10, 50));
        room.add(high, 6, ALICE, kind, "", levels(20, 50));
        assert_eq!(room.resolve(&[low], &[high], kind, ""), low);
        let [low, high] = by_hash("$name-one:a", "$name-two:a");
        room.name(low, 7, ALICE);
        room.name(high, 7, ALICE);
        assert_eq!(room.resolve(&[low], &[high], "m.room.name", ""), low);
    }

    #[test]
    fn join_rules_are_decided_by_the_power_levels_that_were_decided_on() {
        let mut room = Room::new();
        let (levels_kind, kind) = ("m.room.power_levels", "m.room.join_rules");
        let shut = room.add(
            "$shut:a",
            6,
            ALICE,
            kind,
            "",
            json!({ "join_rule": "invite" }),
        );
        let open = room.add(
            "$open:b",
            7,
            BOB,
            kind,
            "",
            json!({ "join_rule": "public" }),
        );
        assert_eq!(room.resolve(&[shut], &[open], kind, ""), shut);
        let raised = room.add("$raised:a", 6, ALICE, levels_kind, "", levels(50, 50));
        let resolved = room.resolve(&[shut, raised], &[open], kind, "");
        assert_eq!(resolved, open);
    }

    #[test]
    fn members_are_decided_by_the_join_rules_that_were_decided_on() {
        let mut room = Room::new();
        let kind = "m.room.member";
        let carol = "@carol:c";
        let left = json!({ "membership": "leave" });
        let left = room.add("$left:c", 6, carol, kind, carol, left);
        let join = json!({ "membership": "join" });
        let join = room.add("$join:c", 7, carol, kind, carol, join);
        assert_eq!(room.resolve(&[left], &[join], kind, carol), join);
        let shut = json!({ "join_rule": "invite" });
        let shut = room.add("$shut:a", 6, ALICE, "m.room.join_rules", "", shut);
        assert_eq!(room.resolve(&[left, shut], &[join], kind, carol), left);
    }

    #[test]
    fn a_ban_stands_against_a_join_of_any_depth() {
        let mut room = Room::new();
        let kind = "m.room.member";
        let ban = json!({ "membership": "ban" });
        let ban = room.add("$ban:a", 6, ALICE, kind, BOB, ban);
        let again = json!({ "membership": "join", "displayname": "Bob" });
        let again = room.add("$again:b", 9, BOB, kind, BOB, again);
        assert_eq!(room.resolve(&[ban], &[again], kind, BOB), ban);
    }

    #[test]
    fn of_all_else_the_highest_counts_that_is_allowed_by_what_was_decided_on() {
        let mut room = Room::new();
        let kind = "m.room.name";
        let low = room.name("$low:a", 6, ALICE);
        let high = room.name("$high:a", 7, ALICE);
        assert_eq!(room.resolve(&[low], &[high], kind, ""), high);
        let not_allowed = room.name("$bob:b", 8, BOB);
        assert_eq!(room.resolve(&[high], &[not_allowed], kind, ""), high);
        let raised = room.add(
            "$raised:a",
            6,
            ALICE,
            "m.room.power_levels",
            "",
            levels(50, 50),
        );
        let resolved = room.resolve(&[high, raised], &[not_allowed], kind, "");
        assert_eq!(resolved, not_allowed);
    }

    #[test]
    fn where_nothing_is_allowed_the_lowest_stands() {
        let mut room = Room::new();
        let low = room.name("$low:b", 6, BOB);
        let high = room.name("$high:b", 7, BOB);
        assert_eq!(room.resolve(&[low], &[high], "m.room.name", ""), low);
    }
}
