//! Names for rooms.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-aliases>

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedRoomId, OwnedServerName,
    RoomAliasId, RoomId, UserId, api::error::ErrorKind, events::StateEventType,
};

use parley_storage::commit::RoomEffect;

use super::{Rooms, edit::Edit, room::Room, state::RoomState};
use crate::{
    EngineError, Result,
    places::{Counted, Place},
    sessions::Session,
};

impl Rooms {
    /// The room that an alias stands for, and servers by which it can be joined. The server of the alias is asked, if
    /// that isn't this one; with `insist`, although it failed lately. It comes first then: of it alone it is known that it
    /// answers.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such alias.
    pub async fn resolve_alias(
        &self,
        alias: &RoomAliasId,
        insist: bool,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let server = alias.server_name();
        match self.outside.get() {
            Some(remote) if server != self.key.server_name() => {
                let resolved = remote.query_directory(server, alias, insist).await?;
                let others = resolved.servers.into_iter().filter(|other| other != server);
                let servers = std::iter::once(server.to_owned()).chain(others).collect();
                Ok((resolved.room_id, servers))
            }
            _ => self.resolve_alias_here(alias).await,
        }
    }

    /// The room that an alias of this server stands for, and servers by which it can be joined.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such alias.
    pub async fn resolve_alias_here(
        &self,
        alias: &RoomAliasId,
    ) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        let found = self.database.alias(alias).await?;
        let (room_id, _) = found.ok_or_else(|| unknown(alias))?;
        let mut servers = self.servers_to_join_by(&room_id).await?;
        if servers.is_empty() {
            servers.push(self.server_name().to_owned());
        }
        Ok((room_id, servers))
    }

    /// Makes an alias for a room that the user is joined to.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it isn't one of this server, `M_ROOM_IN_USE` if it is taken, `M_EXCLUSIVE` if it belongs to an
    /// application service, `M_FORBIDDEN` if the room has too many or the user isn't in it, `M_USER_LIMIT_EXCEEDED`.
    pub async fn create_alias(
        &self,
        session: &Session,
        alias: &RoomAliasId,
        room_id: &RoomId,
    ) -> Result<()> {
        if alias.server_name() != self.key.server_name() {
            return Err(EngineError::invalid_param(format!(
                "an alias that is made here ends in :{}",
                self.key.server_name()
            )));
        }
        self.appservices
            .check_alias(session.appservice.as_deref(), alias)?;
        let (room, _) = self.joined_room(session, room_id).await?;
        let _among_others = self.place_among_aliases(&room).await?;
        let _place = self.place_for_alias(session).await?;
        let made = self
            .database
            .add_alias(alias, room.nid(), session.user_nid, self.clock.now_ms())
            .await?;
        if !made {
            return Err(EngineError::refused(
                ErrorKind::RoomInUse,
                format!("the room alias {alias} exists already"),
            ));
        }
        Ok(())
    }

    /// A place for one more alias of a room.
    async fn place_among_aliases(&self, room: &Room) -> Result<Place> {
        let most = self.account_limits.aliases_per_room;
        let count = || self.database.alias_count_of(room.nid());
        let place = self
            .places
            .take(Counted::AliasesOf(room.nid()), most, count);
        let too_many = || EngineError::forbidden(format!("a room has at most {most} aliases"));
        place.await?.ok_or_else(too_many)
    }

    /// A place for one more alias that a user makes.
    ///
    /// # Errors
    /// `M_USER_LIMIT_EXCEEDED`.
    pub(super) async fn place_for_alias(&self, session: &Session) -> Result<Place> {
        let user_nid = session.user_nid;
        let most = self.account_limits.aliases_per_user;
        let count = || self.database.alias_count(user_nid);
        let place = self.places.take(Counted::AliasesBy(user_nid), most, count);
        place.await?.ok_or_else(|| {
            let message = format!("you have made {most} room aliases, as many as you may");
            self.account_limits.reached(message)
        })
    }

    /// Removes an alias: who made it may, who may set the room's main alias, and administrators of this server. If the
    /// room shows the alias as its own, it stops doing so, as far as the user may change that.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such alias, `M_EXCLUSIVE` if it belongs to an application service, `M_FORBIDDEN`.
    pub async fn delete_alias(&self, session: &Session, alias: &RoomAliasId) -> Result<()> {
        self.appservices
            .check_alias(session.appservice.as_deref(), alias)?;
        let (room_id, creator) = self
            .database
            .alias(alias)
            .await?
            .ok_or_else(|| unknown(alias))?;
        let room = self.room(&room_id).await?;
        let state = self.registry.load(&room).await?;
        let may_set = may_set_aliases(&state, &session.user_id);
        if creator != session.user_id && !may_set && !session.admin {
            return Err(EngineError::forbidden("you may not remove this alias"));
        }
        self.edit(&room, |edit| {
            edit.effect(RoomEffect::NoAlias {
                alias: alias.to_string(),
            });
            if may_set && let Some(content) = canonical_without(edit, alias)? {
                let draft = self.draft(
                    session,
                    "m.room.canonical_alias".into(),
                    Some(String::new()),
                    content,
                );
                edit.append(draft, Some((session.device_nid, None)))?;
            }
            Ok(())
        })
        .await
    }

    /// The aliases on this server of a room that the user is joined to, or that anyone may read.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may not know them.
    pub async fn aliases(
        &self,
        session: &Session,
        room_id: &RoomId,
    ) -> Result<Vec<OwnedRoomAliasId>> {
        let (room, state, access) = self.readable(room_id, &session.user_id).await?;
        if !state.is_joined(&session.user_id) && !access.is_world_readable() {
            return Err(EngineError::forbidden("you are not joined to this room"));
        }
        let aliases = self.database.aliases_of(room.nid()).await?;
        Ok(aliases
            .into_iter()
            .filter_map(|alias| alias.try_into().ok())
            .collect())
    }
}

/// Whether a user decides by which names a room is known.
pub(super) fn may_set_aliases(state: &RoomState, user_id: &UserId) -> bool {
    state.is_joined(user_id)
        && state
            .power_levels()
            .user_can_send_state(user_id, StateEventType::RoomCanonicalAlias)
}

fn unknown(alias: &RoomAliasId) -> EngineError {
    EngineError::not_found(format!("there is no room alias {alias}"))
}

/// What the room's `m.room.canonical_alias` says without an alias; `None` if it doesn't name it.
fn canonical_without(edit: &Edit<'_>, alias: &RoomAliasId) -> Result<Option<CanonicalJsonObject>> {
    let Some(mut content) = edit
        .state()?
        .get("m.room.canonical_alias", "")
        .and_then(|entry| entry.event.content_as::<CanonicalJsonObject>())
    else {
        return Ok(None);
    };
    let before = content.clone();
    let names = |value: &CanonicalJsonValue| value.as_str() == Some(alias.as_str());
    if content.get("alias").is_some_and(names) {
        content.remove("alias");
    }
    if let Some(CanonicalJsonValue::Array(others)) = content.get_mut("alt_aliases") {
        others.retain(|other| !names(other));
        if others.is_empty() {
            content.remove("alt_aliases");
        }
    }
    Ok((content != before).then_some(content))
}
