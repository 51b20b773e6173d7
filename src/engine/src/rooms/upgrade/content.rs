//! What the events say that go along with an upgrade.

use parley_protocol::{RoomVersion, StateEvent};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int, OwnedUserId, RoomId};

use super::super::{
    create::{Preset, RoomPlan, power_levels},
    state::RoomState,
};
use crate::{Result, sessions::Session};

/// The settings that a new room takes over, but for power levels and aliases.
pub(super) const CARRIED: [&str; 9] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.retention",
];

/// The level that it takes to speak in a room that was replaced.
const CLOSED: i64 = 50;

/// Whether a `m.space.child` event names a child.
pub(super) fn is_child(event: &StateEvent) -> bool {
    let content: CanonicalJsonObject = event.content_as().unwrap_or_default();
    let via = content.get("via").and_then(CanonicalJsonValue::as_array);
    via.is_some_and(|via| !via.is_empty()) && <&RoomId>::try_from(&*event.state_key).is_ok()
}

/// What `m.room.canonical_alias` says of the aliases that go over, and what is left of it without them. Both are empty
/// if there is no such event.
pub(super) fn aliases_split(
    state: &RoomState,
    moving: &[String],
) -> (CanonicalJsonObject, CanonicalJsonObject) {
    let mut rest: CanonicalJsonObject = state
        .get("m.room.canonical_alias", "")
        .and_then(|entry| entry.event.content_as())
        .unwrap_or_default();
    let mut moved = CanonicalJsonObject::new();
    let moves = |alias: &CanonicalJsonValue| {
        alias
            .as_str()
            .is_some_and(|alias| moving.iter().any(|moving| moving == alias))
    };
    if rest.get("alias").is_some_and(moves) {
        moved.extend(rest.remove_entry("alias"));
    }
    if let Some(CanonicalJsonValue::Array(aliases)) = rest.remove("alt_aliases") {
        let (go, stay): (Vec<_>, Vec<_>) = aliases.into_iter().partition(moves);
        for (content, aliases) in [(&mut moved, go), (&mut rest, stay)] {
            if !aliases.is_empty() {
                content.insert("alt_aliases".to_owned(), aliases.into());
            }
        }
    }
    (moved, rest)
}

/// The power levels of the old room such that only moderators speak and invite; `None` if they are so already, or there
/// are none.
pub(super) fn closed_levels(state: &RoomState) -> Option<CanonicalJsonObject> {
    let entry = state.get("m.room.power_levels", "")?;
    let mut content: CanonicalJsonObject = entry.event.content_as()?;
    let level = |content: &CanonicalJsonObject, key: &str| content.get(key).and_then(integer);
    let lowest = CLOSED.max(
        level(&content, "users_default")
            .unwrap_or(0)
            .saturating_add(1),
    );
    let before = content.clone();
    for key in ["events_default", "invite"] {
        if level(&content, key).unwrap_or(0) < lowest {
            content.insert(key.to_owned(), Int::new_saturating(lowest).into());
        }
    }
    (content != before).then_some(content)
}

/// The power levels of the new room: those of the old one, in the form that the version of the new one wants.
///
/// # Errors
/// If they can't be made.
pub(super) fn new_levels(
    old: &RoomState,
    session: &Session,
    additional_creators: &[OwnedUserId],
    version: &RoomVersion,
) -> Result<CanonicalJsonObject> {
    let content = old
        .get("m.room.power_levels", "")
        .and_then(|entry| entry.event.content_as::<CanonicalJsonObject>());
    let Some(mut content) = content else {
        let plan = RoomPlan {
            preset: Preset::PrivateChat,
            ..RoomPlan::new()
        };
        return power_levels(session, &plan, version);
    };
    make_integers(&mut content);
    let users = content
        .entry("users".to_owned())
        .or_insert_with(|| CanonicalJsonObject::new().into());
    if let CanonicalJsonValue::Object(users) = users {
        if version.creators_are_privileged() {
            // Creators stand above all levels, and must not have one.
            users.remove(session.user_id.as_str());
            users.retain(|user, _| !additional_creators.iter().any(|creator| creator == user));
        } else if old.is_privileged(&session.user_id) {
            // Who stood above all levels is on top of them.
            let top = highest(users).max(100);
            let top = Int::new_saturating(top).into();
            users.insert(session.user_id.to_string(), top);
        }
    }
    Ok(content)
}

fn highest(users: &CanonicalJsonObject) -> i64 {
    users.values().filter_map(integer).max().unwrap_or(0)
}

/// A level, which rooms of old versions may hold as text.
fn integer(value: &CanonicalJsonValue) -> Option<i64> {
    match value {
        CanonicalJsonValue::Integer(level) => Some((*level).into()),
        CanonicalJsonValue::String(level) => level.trim().parse().ok(),
        _ => None,
    }
}

/// Makes integers of what is text, and takes out what is no level.
fn make_integers(content: &mut CanonicalJsonObject) {
    content.retain(|key, value| match key.as_str() {
        "ban" | "events_default" | "invite" | "kick" | "redact" | "state_default"
        | "users_default" => make_integer(value),
        "events" | "notifications" | "users" => match value {
            CanonicalJsonValue::Object(levels) => {
                levels.retain(|_, value| make_integer(value));
                true
            }
            _ => false,
        },
        _ => true,
    });
}

fn make_integer(value: &mut CanonicalJsonValue) -> bool {
    let Some(level) = integer(value) else {
        return false;
    };
    *value = Int::new_saturating(level).into();
    true
}
