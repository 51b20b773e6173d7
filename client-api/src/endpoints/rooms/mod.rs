//! Rooms: making them, being in them, writing to them, reading them.

mod aliases;
mod ban;
mod context;
mod create_room;
mod direct_chat;
mod forget;
mod get_event;
mod get_event_by_id;
mod get_state;
mod get_state_event;
mod hierarchy;
mod initial_sync;
mod invite;
mod join;
mod join_by_alias;
mod joined_members;
mod joined_rooms;
mod kick;
mod knock;
mod leave;
mod member_content;
mod members;
mod messages;
mod new_events;
mod redact;
mod relations;
mod report;
mod search;
mod send;
mod set_state;
mod summary;
mod threads;
mod timestamp_to_event;
mod unban;
mod upgrade;

use axum::Router;
use parley_engine::{limits::Action, sessions::Session};

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomOrAliasId};

use crate::{ClientApi, Result, route, route_at};

/// The paths at which a place of the state with an empty key is read and set, which ruma doesn't list.
const EMPTY_STATE_KEY: [&str; 4] = [
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
];

/// Adds the endpoints of this area.
pub(crate) fn routes(router: Router<ClientApi>) -> Router<ClientApi> {
    let router = route(router, create_room::handle);
    let router = route(router, joined_rooms::handle);
    let router = route(router, initial_sync::handle);
    let router = route(router, new_events::handle);
    let router = route(router, join::handle);
    let router = route(router, join_by_alias::handle);
    let router = route(router, knock::handle);
    let router = route(router, leave::handle);
    let router = route(router, invite::handle);
    let router = route(router, kick::handle);
    let router = route(router, ban::handle);
    let router = route(router, unban::handle);
    let router = route(router, forget::handle);
    let router = route(router, send::handle);
    let router = route(router, redact::handle);
    let router = route(router, get_state::handle);
    let router = route(router, get_state_event::handle);
    let router = route(router, set_state::handle);
    let router = route(router, messages::handle);
    let router = route(router, context::handle);
    let router = route(router, get_event::handle);
    let router = route(router, get_event_by_id::handle);
    let router = route(router, relations::all);
    let router = route(router, relations::by_rel_type);
    let router = route(router, relations::by_event_type);
    let router = route(router, members::handle);
    let router = route(router, joined_members::handle);
    let router = route(router, aliases::handle);
    let router = route(router, search::handle);
    let router = route(router, threads::handle);
    let router = route(router, report::event);
    let router = route(router, report::room);
    let router = route(router, report::user);
    let router = route(router, upgrade::handle);
    let router = route(router, hierarchy::handle);
    let router = route(router, summary::handle);
    let router = route(router, timestamp_to_event::handle);
    let router = route(router, direct_chat::handle);
    EMPTY_STATE_KEY.iter().fold(router, |router, path| {
        let router = route_at(router, path, get_state_event::handle);
        route_at(router, path, set_state::handle)
    })
}

/// Counts the reading of a page of what was said, or of who is in a room.
///
/// # Errors
/// `M_LIMIT_EXCEEDED`.
fn limit_history(api: &ClientApi, session: &Session) -> Result<()> {
    let limits = api.engine.limits();
    Ok(limits.check(Action::History, session.user_nid)?)
}

/// The room that a request names by its id or an alias, and servers that are known to be in it. Without `asks_others`, only
/// this server's aliases are known.
///
/// # Errors
/// `M_NOT_FOUND` if there is no such alias.
async fn named_room(
    api: &ClientApi,
    name: &RoomOrAliasId,
    asks_others: bool,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
    let named: Result<OwnedRoomId, OwnedRoomAliasId> = name.to_owned().try_into();
    let rooms = api.engine.rooms();
    match named {
        Ok(room_id) => Ok((room_id, Vec::new())),
        Err(alias) if asks_others => Ok(rooms.resolve_alias(&alias, true).await?),
        Err(alias) => Ok(rooms.resolve_alias_here(&alias).await?),
    }
}
