//! What a client's filter lets through.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UInt, UserId,
    api::client::filter::{LazyLoadOptions, RoomEventFilter, UrlFilter},
};
use serde::Deserialize;

use crate::rooms::timeline::TimelineEvent;

/// Whether a type is wanted: matched by one of `types`, if there are such, and by none of `not_types`. In both, `*` stands
/// for any characters.
pub fn type_fits(event_type: &str, types: Option<&[String]>, not_types: &[String]) -> bool {
    types.is_none_or(|types| types.iter().any(|pattern| matches(pattern, event_type)))
        && !not_types.iter().any(|pattern| matches(pattern, event_type))
}

/// Whether a pattern, in which `*` stands for any characters, matches the whole text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    // There is at least the part after the last star.
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

/// Whether a sender is wanted.
pub fn sender_fits(
    sender: &UserId,
    senders: Option<&[OwnedUserId]>,
    not_senders: &[OwnedUserId],
) -> bool {
    let listed = |users: &[OwnedUserId]| users.iter().any(|user| user == sender);
    senders.is_none_or(listed) && !listed(not_senders)
}

/// Whether a room is wanted.
pub fn room_fits(
    room_id: &RoomId,
    rooms: Option<&[OwnedRoomId]>,
    not_rooms: &[OwnedRoomId],
) -> bool {
    rooms.is_none_or(|rooms| rooms.iter().any(|room| room == room_id))
        && !not_rooms.iter().any(|room| room == room_id)
}

/// Whether anything of a room is wanted in a section.
pub fn section_has_room(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    room_fits(room_id, filter.rooms.as_deref(), &filter.not_rooms)
}

/// Keeps the newest, which come last, of so many as the filter allows.
pub fn keep_newest<T>(events: &mut Vec<T>, limit: Option<UInt>) {
    let limit = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    events.drain(..events.len().saturating_sub(limit));
}

/// Whether an event is wanted, its room aside.
pub fn event_fits(filter: &RoomEventFilter, event: &TimelineEvent) -> bool {
    type_fits(
        &event.event_type,
        filter.types.as_deref(),
        &filter.not_types,
    ) && sender_fits(
        &event.sender,
        filter.senders.as_deref(),
        &filter.not_senders,
    ) && filter
        .url_filter
        .is_none_or(|wanted| has_url(event) == (wanted == UrlFilter::EventsWithUrl))
}

/// Whether the filter lets every event through.
pub fn is_open(filter: &RoomEventFilter) -> bool {
    filter.types.is_none()
        && filter.not_types.is_empty()
        && filter.senders.is_none()
        && filter.not_senders.is_empty()
        && filter.url_filter.is_none()
}

/// Whether members are sent as they are needed; `Some(true)` if also those that were sent before.
pub fn lazy_members(filter: &RoomEventFilter) -> Option<bool> {
    match filter.lazy_load_options {
        LazyLoadOptions::Enabled {
            include_redundant_members,
        } => Some(include_redundant_members),
        LazyLoadOptions::Disabled => None,
    }
}

fn has_url(event: &TimelineEvent) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_str::<Content>(event.content()).is_ok_and(|content| content.url.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(matches("m.room.*", "m.room.message"));
        assert!(matches("*", ""));
        assert!(matches("*.room.*age", "m.room.message"));
        assert!(matches("m.*.m*e", "m.room.message"));
        assert!(!matches("m.room.*", "m.reaction"));
        assert!(!matches("m.room", "m.room.message"));
        assert!(!matches("*x", "m.room.message"));
        assert!(!matches("aa*aa", "aaa"));
    }

    #[test]
    fn what_is_not_wanted_wins_over_what_is() {
        let types = ["m.room.*".to_owned()];
        let not_types = ["m.room.member".to_owned()];
        assert!(type_fits("m.room.message", Some(&types), &not_types));
        assert!(!type_fits("m.room.member", Some(&types), &not_types));
        assert!(!type_fits("m.room.message", Some(&[]), &[]));
    }
}
