//! What is done with hostile input. Each function takes any bytes; it panics if something is wrong, and says nothing if
//! they are refused.
#![expect(
    clippy::expect_used,
    reason = "a target fails by panicking; what is expected here is what it tests"
)]

mod patterns;
mod room;

use std::{collections::BTreeMap, path::Path};

use parley::config::Config;
use parley_engine::{
    stream::token::Token,
    sync::filter::{room_fits, sender_fits, type_fits},
};
use parley_protocol::{
    Pdu, RoomVersion, StateEvent, Unverified, auth,
    client_event::ClientFields,
    content,
    redaction::redacted_json,
    resolution::{ResolutionError, StateMap, resolve},
};
use ruma::{
    CanonicalJsonObject, RoomVersionId,
    api::client::filter::{FilterDefinition, RoomEventFilter},
    event_id,
    events::StateEventType,
    owned_room_id, room_id,
    signatures::PublicKeyMap,
    user_id,
};
use serde_json::value::RawValue;

pub use self::patterns::push_pattern;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("event", event),
    ("event_auth", event_auth),
    ("pdu", pdu),
    ("state_resolution", state_resolution),
    ("filter", filter),
    ("push_pattern", push_pattern),
    ("token", token),
    ("canonical_json", canonical_json),
    ("configuration", configuration),
];

/// The versions that differ in how events are judged.
const VERSIONS: [&str; 7] = [
    "1",
    "6",
    "10",
    "11",
    "12",
    "org.matrix.msc3757.10",
    "org.matrix.msc3757.11",
];

fn version(id: &str) -> Option<RoomVersion> {
    RoomVersion::new(&RoomVersionId::try_from(id).ok()?)
}

/// Reading an event, showing it to clients, and judging it by the authorisation rules. The input is events, one in each
/// line; the first is judged in a room whose state are the others. They are made canonical first, as all events are.
pub fn event(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let canonical = |line: &str| {
        let object: CanonicalJsonObject = serde_json::from_str(line).ok()?;
        serde_json::to_string(&object).ok()
    };
    let mut lines = text.lines().map(canonical);
    let Some(Some(first)) = lines.next() else {
        return;
    };
    let first = first.as_str();
    let id = event_id!("$fuzz");
    if let Ok(fields) = ClientFields::parse(first) {
        for in_content in [true, false] {
            let body = fields.body(id, || in_content);
            let whole = format!("{{{body}}}");
            serde_json::from_str::<serde_json::Value>(&whole)
                .expect("a body is the inside of an object");
        }
    }
    let state: Vec<StateEvent> = lines
        .filter_map(|line| StateEvent::parse(id.to_owned(), &line?))
        .collect();
    let Ok(event) = Pdu::parse(id.to_owned(), first) else {
        return;
    };
    for version in VERSIONS.into_iter().filter_map(version) {
        let fetch = |event_type: &StateEventType, state_key: &str| {
            state.iter().find(|event| {
                event.event_type.to_string() == event_type.to_string()
                    && event.state_key.as_ref() == state_key
            })
        };
        let _ = auth::check(&event, &version, fetch);
        let _ = event.redacts(version.redacts_in_content());
    }
}

/// Reading an event of another server, and checking its signatures by no keys at all: it is refused. Its id doesn't depend on
/// how it is written, nor on what a redaction takes away.
pub fn pdu(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let room_id = room_id!("!room:x");
    for version in VERSIONS.into_iter().filter_map(version) {
        let Ok(event) = Unverified::read(text, room_id, &version) else {
            continue;
        };
        let object: CanonicalJsonObject =
            serde_json::from_str(text).expect("an event that was read is canonical JSON");
        let canonical = serde_json::to_string(&object).expect("canonical JSON is JSON");
        let again = Unverified::read(&canonical, room_id, &version)
            .expect("an event is read however it is written");
        assert_eq!(again.pdu.event_id, event.pdu.event_id);
        let redacted = redacted_json(&canonical, &version).expect("an event can be redacted");
        if let Ok(redacted) = Unverified::read(&redacted, room_id, &version) {
            assert_eq!(redacted.pdu.event_id, event.pdu.event_id);
        }
        let _ = event.signers(&version);
        assert!(
            event.verify(&PublicKeyMap::new(), &version).is_err(),
            "nobody has signed it by a key that is known"
        );
    }
}

/// A room that is written to as the input says, and its version, which the first byte says.
fn played(input: &[u8], versions: &[&str]) -> Option<room::Room> {
    let (first, steps) = input.split_first()?;
    let id = versions[usize::from(*first) % versions.len()];
    let mut room = room::Room::new(version(id)?);
    room.play(steps);
    Some(room)
}

/// Writing to a room as the input says: what the state allows is allowed by the events that are named for it.
pub fn event_auth(input: &[u8]) {
    let Some(room) = played(input, &VERSIONS) else {
        return;
    };
    for pdu in room.events.values() {
        assert!(
            room.is_allowed_by_its_auth_events(pdu),
            "{} was allowed by the state",
            pdu.event_id
        );
    }
}

/// Resolving the branches of a room that is written to as the input says: the outcome doesn't depend on the order of the
/// branches, a state agrees with itself, and what all branches have stays.
pub fn state_resolution(input: &[u8]) {
    // The first has an algorithm of its own.
    let Some(room) = played(input, &VERSIONS[1..]) else {
        return;
    };
    let mut states: Vec<StateMap> = room
        .branches
        .iter()
        .map(|branch| branch.state.clone())
        .collect();
    let resolved = sorted(resolve(&room.version, &states, &room.events));
    for ((event_type, state_key), id) in &states[0] {
        let place = (event_type.clone(), state_key.clone());
        if states.iter().all(|state| state.get(&place) == Some(id)) {
            let place = (event_type.to_string(), state_key.clone());
            assert_eq!(resolved.get(&place), Some(&id.to_string()), "{place:?}");
        }
    }
    let twice = [states[0].clone(), states[0].clone()];
    let same = sorted(resolve(&room.version, &twice, &room.events));
    assert_eq!(same, sorted(Ok(states[0].clone())));
    states.reverse();
    assert_eq!(
        resolved,
        sorted(resolve(&room.version, &states, &room.events))
    );
}

/// A resolved state in a form that can be shown.
fn sorted(resolved: Result<StateMap, ResolutionError>) -> BTreeMap<(String, String), String> {
    let entries = resolved
        .expect("states of a room can be resolved")
        .into_iter();
    let entries = entries
        .map(|((event_type, state_key), id)| ((event_type.to_string(), state_key), id.to_string()));
    entries.collect()
}

/// Reading a filter, and asking it about an event. The patterns of types are held against a plain way to match them.
pub fn filter(input: &[u8]) {
    let Ok(filter) = serde_json::from_slice::<FilterDefinition>(input) else {
        return;
    };
    let again = serde_json::to_vec(&filter).expect("a filter is JSON");
    serde_json::from_slice::<FilterDefinition>(&again).expect("a filter is read as it is written");
    let room = &filter.room;
    for section in [
        &room.timeline,
        &room.state,
        &room.ephemeral,
        &room.account_data,
    ] {
        ask(section);
    }
}

fn ask(filter: &RoomEventFilter) {
    let room_id = owned_room_id!("!room:x");
    room_fits(&room_id, filter.rooms.as_deref(), &filter.not_rooms);
    sender_fits(
        user_id!("@a:x"),
        filter.senders.as_deref(),
        &filter.not_senders,
    );
    for event_type in ["", "m.room.message", "m.room.member", "aaaaab", "ä.ö"] {
        let any = |patterns: &[String]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| matches(pattern.as_bytes(), event_type.as_bytes()))
        };
        assert_eq!(
            type_fits(event_type, filter.types.as_deref(), &filter.not_types),
            filter.types.as_deref().is_none_or(any) && !any(&filter.not_types),
            "{event_type}"
        );
    }
}

/// Whether a pattern matches, byte by byte: what has matched so far is kept for each place in the pattern.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    let skip_stars = |reached: &mut Vec<bool>| {
        for (at, byte) in pattern.iter().enumerate() {
            if reached[at] && *byte == b'*' {
                reached[at + 1] = true;
            }
        }
    };
    skip_stars(&mut reached);
    for byte in text {
        let mut next = vec![false; pattern.len() + 1];
        for (at, wanted) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            if *wanted == b'*' {
                next[at] = true;
            } else if wanted == byte {
                next[at + 1] = true;
            }
        }
        skip_stars(&mut next);
        reached = next;
    }
    reached[pattern.len()]
}

/// Reading a token of a client: it is refused, or it is one that this server writes.
pub fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(token) = Token::parse(text, i64::MAX) else {
        return;
    };
    assert!(
        token.position >= 0 || text.starts_with('b'),
        "only the past of a room stands before the stream"
    );
    let again =
        Token::parse(&token.to_string(), i64::MAX).expect("a token is read as it is written");
    assert_eq!(again.position, token.position);
    assert_eq!(again.instance, token.instance);
    if token.instance != 0 {
        assert_eq!(again.fleeting, token.fleeting);
    }
    assert!(
        Token::parse(text, token.position - 1).is_err(),
        "no token is from the future"
    );
}

/// Canonical JSON: what is written is read as the same, and has one form.
pub fn canonical_json(input: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Box<RawValue>>(input) else {
        return;
    };
    let Ok(object) = content::parse(&json) else {
        return;
    };
    let written = serde_json::to_string(&object).expect("canonical JSON is JSON");
    let again: CanonicalJsonObject =
        serde_json::from_str(&written).expect("canonical JSON is read again");
    assert_eq!(object, again);
    let rewritten = serde_json::to_string(&again).expect("canonical JSON is JSON");
    assert_eq!(written, rewritten);
}

/// Reading a configuration: what is accepted can be shown.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    // Secrets are read from files that the configuration names, which may be any device of the machine.
    if text.contains("_file") {
        return;
    }
    match Config::parse(text, Path::new("fuzz.toml"), []) {
        Ok(config) => {
            config
                .to_masked_toml()
                .expect("a configuration can be shown");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error says something"),
    }
}
