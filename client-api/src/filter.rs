//! Which events a client wants: <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use parley_engine::rooms::timeline::TimelineEvent;
use ruma::{
    RoomId,
    api::client::filter::{LazyLoadOptions, RoomEventFilter, UrlFilter},
};
use serde::{Deserialize, de::IgnoredAny};

/// Whether a room's events are wanted at all.
pub(crate) fn wants_room(filter: &RoomEventFilter, room_id: &RoomId) -> bool {
    let listed = |rooms: &[ruma::OwnedRoomId]| rooms.iter().any(|room| room == room_id);
    filter.rooms.as_deref().is_none_or(listed) && !listed(&filter.not_rooms)
}

/// Whether an event is wanted, its room aside.
pub(crate) fn wants(filter: &RoomEventFilter, event: &TimelineEvent) -> bool {
    let of_type = |types: &[String]| types.iter().any(|glob| matches(glob, &event.event_type));
    let by = |senders: &[ruma::OwnedUserId]| senders.contains(&event.sender);
    filter.types.as_deref().is_none_or(of_type)
        && !of_type(&filter.not_types)
        && filter.senders.as_deref().is_none_or(by)
        && !by(&filter.not_senders)
        && filter
            .url_filter
            .is_none_or(|wanted| (wanted == UrlFilter::EventsWithUrl) == has_url(event))
}

/// Whether the members are to be left out who sent nothing of what is shown.
pub(crate) fn is_lazy(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { .. })
}

fn has_url(event: &TimelineEvent) -> bool {
    #[derive(Deserialize)]
    struct Content {
        url: Option<IgnoredAny>,
    }
    serde_json::from_str::<Content>(event.content()).is_ok_and(|content| content.url.is_some())
}

/// Whether a text is what `glob` describes, in which `*` stands for any characters.
pub(crate) fn matches(glob: &str, text: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let mut parts = rest.split('*');
    let end = parts.next_back().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (glob, text, expected) in [
            ("m.room.message", "m.room.message", true),
            ("m.room.message", "m.room.messages", false),
            ("m.room.*", "m.room.name", true),
            ("m.room.*", "m.room.", true),
            ("m.room.*", "m.reaction", false),
            ("*", "", true),
            ("*.name", "m.room.name", true),
            ("m.*.na*e", "m.room.name", true),
            ("m.*.na*e", "m.room.names", false),
            ("a*a", "a", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("", "m", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }
}
