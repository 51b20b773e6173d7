//! Replacing a room by one of another version.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#room-upgrades>

mod content;

use std::{collections::BTreeSet, sync::Arc};

use parley_protocol::RoomVersion;
use parley_storage::commit::{RoomEffect, Write};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde_json::json;

use self::content::{CARRIED, aliases_split, closed_levels, is_child, new_levels};
use super::{
    ATTEMPTS, Rooms,
    create::creatable,
    edit::{Edit, Origin},
    membership::MembershipDetails,
    room::{Head, Room},
    state::RoomState,
};
use crate::{EngineError, Result, sessions::Session, stream::committer::NotCommitted};

/// A room that is to be replaced.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// The version of the new room.
    pub version: RoomVersionId,
    /// Who shall stand above all power levels of the new room beside the user who upgrades, where its version knows that.
    pub additional_creators: Vec<OwnedUserId>,
}

/// What is looked up before the rooms' locks are taken.
struct Plan<'a> {
    session: &'a Session,
    version: RoomVersion,
    additional_creators: &'a [OwnedUserId],
    /// The tombstone that the old room has already.
    tombstone: Option<OwnedEventId>,
    /// The aliases that go over.
    aliases: Vec<String>,
    /// What the user's member event says of them.
    profile: CanonicalJsonObject,
    /// The other one, if it is the one direct chat of two people.
    is_direct_chat: bool,
}

impl Plan<'_> {
    fn origin(&self) -> Origin {
        Some((self.session.device_nid, None))
    }
}

/// How an attempt to replace a room ended.
enum Attempt {
    /// The new room is there.
    Made(Arc<Room>),
    /// The room got another tombstone since the plan was made.
    Forestalled,
    /// Another node moved the old room on.
    Outdated,
}

impl Rooms {
    /// Replaces a room by a new one of another version: makes the new room with what can be carried over, moves the
    /// aliases and the place in the directory, and closes the old room. Either all of it happens or nothing.
    ///
    /// Carried over are the settings of the room, its bans, and the children of a space; the members have to join anew.
    ///
    /// Who asks again for what they have, as after a lost answer, gets the room that is there.
    ///
    /// `POST /rooms/{roomId}/upgrade`
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`; `M_FORBIDDEN` if the user isn't in the room, may not close it, or somebody else replaces
    /// it at the same time.
    pub async fn upgrade(
        &self,
        session: &Session,
        room_id: &RoomId,
        upgrade: &Upgrade,
    ) -> Result<OwnedRoomId> {
        let version = creatable(&upgrade.version)?;
        let (old, _) = self.joined_room(session, room_id).await?;
        self.need_all_members(&old).await?;
        let (old, state) = self.joined_room(session, room_id).await?;
        let levels = state.power_levels();
        if !levels.user_can_send_state(&session.user_id, StateEventType::RoomTombstone) {
            return Err(EngineError::forbidden("you may not upgrade this room"));
        }
        if let Some(new_id) = self.own_successor(session, &old, &state, &version).await? {
            return Ok(new_id);
        }
        let _place = self.place_for_room(session).await?;
        let plan = Plan {
            session,
            version,
            additional_creators: &upgrade.additional_creators,
            tombstone: tombstone_of(&state),
            aliases: self.database.aliases_of(old.nid()).await?,
            profile: self.profile_of(&session.user_id).await?,
            is_direct_chat: self.direct_chat_of(&old).await?.is_some(),
        };
        for _ in 0..ATTEMPTS {
            match self.replace(&old, &plan).await? {
                Attempt::Made(new) => {
                    if let Err(error) = self.hand_over(session, &old, &state, &new).await {
                        tracing::warn!(%error, room = %new.id(), "settings weren't taken over");
                    }
                    return Ok(new.id().to_owned());
                }
                Attempt::Forestalled => {
                    if let Some(new_id) = self.successor_meanwhile(&old, &plan).await? {
                        return Ok(new_id);
                    }
                }
                Attempt::Outdated => {}
            }
        }
        Err(NotCommitted::Rebuild.into())
    }

    /// The room of that version by which the user has replaced the old one, if they are in it still.
    async fn own_successor(
        &self,
        session: &Session,
        old: &Room,
        state: &RoomState,
        version: &RoomVersion,
    ) -> Result<Option<OwnedRoomId>> {
        let tombstone = state.get("m.room.tombstone", "");
        let is_own = tombstone.is_some_and(|entry| entry.event.sender == session.user_id);
        let Some(new_id) = state.successor().filter(|_| is_own) else {
            return Ok(None);
        };
        let (new, new_state) = match self.joined_room(session, &new_id).await {
            Ok(joined) => joined,
            Err(EngineError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_wanted = new.version().id() == version.id()
            && new_state.predecessor().as_deref() == Some(old.id());
        Ok(is_wanted.then_some(new_id))
    }

    /// The room that has come to replace the old one since the plan was made, if it is what the user wants; `None` if
    /// none has, as it wasn't committed.
    async fn successor_meanwhile(
        &self,
        old: &Room,
        plan: &Plan<'_>,
    ) -> Result<Option<OwnedRoomId>> {
        let state = self.registry.load(old).await?;
        if tombstone_of(&state) == plan.tombstone {
            return Ok(None);
        }
        let own = self.own_successor(plan.session, old, &state, &plan.version);
        match own.await? {
            Some(new_id) => Ok(Some(new_id)),
            None => Err(EngineError::forbidden(
                "the room has just been replaced by another one",
            )),
        }
    }

    /// Replaces the room as it is now, unless it has been replaced since the plan was made: else what it was known by
    /// would go to one new room, and its tombstone would name the other.
    async fn replace(&self, old: &Arc<Room>, plan: &Plan<'_>) -> Result<Attempt> {
        let permit = self.committer.reserve().await?;
        let mut old_head = old.head.lock().await;
        let head = self.current_head(old, &mut old_head).await?;
        let mut before = Edit::new(old, &self.key, head);
        if tombstone_of(before.state()?) != plan.tombstone {
            drop((before, old_head));
            // The other tombstone was queued before this: it is for all to see then, or has failed.
            let pending = permit.queue(Write::default(), Vec::new());
            pending.committed().await?;
            return Ok(Attempt::Forestalled);
        }
        let (new, create) = self.bury(&mut before, plan)?;
        // Nobody else knows the new room yet.
        let mut new_head = new.head.lock().await;
        let mut after = Edit::new(&new, &self.key, Head::empty(new.generation()));
        after.push_create(create, plan.origin());
        self.furnish(&mut after, before.state()?, plan)?;
        self.close(&mut before, plan)?;
        after.effect(RoomEffect::Succeed {
            room_nid: old.nid(),
        });
        let (old_write, old_publication, head_before) = before.finish(old.clone());
        let (new_write, new_publication, head_after) = after.finish(new.clone());
        *old_head = Some(head_before);
        let write = Write {
            rooms: vec![old_write, new_write],
            ..Write::default()
        };
        let pending = permit.queue(write, vec![old_publication, new_publication]);
        drop(old_head);
        match pending.committed().await {
            Ok(()) => {
                *new_head = Some(head_after);
                drop(new_head);
                Ok(Attempt::Made(new))
            }
            Err(NotCommitted::Rebuild) => Ok(Attempt::Outdated),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Puts the tombstone into the old room, and makes the create event of the new one: each names the other, as far as
    /// the version of the new room allows.
    fn bury(
        &self,
        before: &mut Edit<'_>,
        plan: &Plan<'_>,
    ) -> Result<(Arc<Room>, parley_protocol::BuiltEvent)> {
        let old_id = before.room().id().to_owned();
        let old_create = before
            .state()?
            .get("m.room.create", "")
            .map(|entry| entry.event.clone());
        let mut content = CanonicalJsonObject::new();
        let old_content: CanonicalJsonObject = old_create
            .and_then(|event| event.content_as())
            .unwrap_or_default();
        for (key, value) in old_content {
            if matches!(key.as_str(), "type" | "m.federate") {
                content.insert(key, value);
            }
        }
        let upgrader = plan.session.user_id.as_str();
        let creators = plan.additional_creators.iter().map(|user| user.as_str());
        let others: BTreeSet<&str> = creators.filter(|user| *user != upgrader).collect();
        if plan.version.creators_are_privileged() && !others.is_empty() {
            let creators: Vec<_> = others.into_iter().map(Into::into).collect();
            content.insert("additional_creators".to_owned(), creators.into());
        }
        let named = self.name_ahead(&plan.version)?;
        let mut tombstone = None;
        if let Some(new_id) = &named {
            tombstone = Some(self.entomb(before, new_id, plan)?);
        }
        let predecessor = predecessor(&old_id, tombstone.as_deref())?;
        content.insert("predecessor".to_owned(), predecessor.into());
        let (new, create) = self.create_event(named, &plan.version, plan.session, content)?;
        if tombstone.is_none() {
            self.entomb(before, new.id(), plan)?;
        }
        Ok((new, create))
    }

    fn entomb(
        &self,
        before: &mut Edit<'_>,
        new_id: &RoomId,
        plan: &Plan<'_>,
    ) -> Result<OwnedEventId> {
        let content = super::create::to_content(&json!({
            "body": "This room has been replaced",
            "replacement_room": new_id,
        }))?;
        self.append(before, "m.room.tombstone", content, plan)
    }

    /// Fills the new room: first its creator comes in, power levels come last, so that whoever upgrades a room can carry
    /// over what they might not be allowed to set themselves.
    fn furnish(&self, after: &mut Edit<'_>, old: &RoomState, plan: &Plan<'_>) -> Result<()> {
        let details = MembershipDetails::default();
        let user = &plan.session.user_id;
        let profile = plan.profile.clone();
        let join = self.member_event(user, user, MembershipState::Join, &details, profile);
        after.append(join, plan.origin())?;
        for event_type in CARRIED {
            if let Some(entry) = old.get(event_type, "")
                && let Some(content) = entry.event.content_as()
            {
                self.append(after, event_type, content, plan)?;
            }
        }
        let (moved, _) = aliases_split(old, &plan.aliases);
        if !moved.is_empty() {
            self.append(after, "m.room.canonical_alias", moved, plan)?;
        }
        for entry in old
            .of_type("m.space.child")
            .filter(|entry| is_child(&entry.event))
        {
            let key = Some(entry.event.state_key.to_string());
            let content = entry.event.content_as().unwrap_or_default();
            let event_type = TimelineEventType::SpaceChild;
            let draft = self.draft(plan.session, event_type, key, content);
            after.append(draft, plan.origin())?;
        }
        self.carry_members(after, old, plan)?;
        let levels = new_levels(old, plan.session, plan.additional_creators, &plan.version)?;
        self.append(after, "m.room.power_levels", levels, plan)?;
        Ok(())
    }

    /// Carries over who is banned; and who talks to whom, if it is a direct chat.
    fn carry_members(&self, after: &mut Edit<'_>, old: &RoomState, plan: &Plan<'_>) -> Result<()> {
        let mut members: Vec<_> = old.members().collect();
        members.sort_unstable_by_key(|(user_id, _)| *user_id);
        for (user_id, member) in members {
            let is_partner = plan.is_direct_chat
                && member.membership == MembershipState::Join
                && *user_id != plan.session.user_id;
            let membership = match &member.membership {
                MembershipState::Ban => MembershipState::Ban,
                _ if is_partner => MembershipState::Invite,
                _ => continue,
            };
            let details = MembershipDetails {
                reason: super::create::text_of(&member.entry.event, "reason")
                    .filter(|_| !is_partner),
                is_direct: is_partner,
                ..MembershipDetails::default()
            };
            let sender = &plan.session.user_id;
            let profile = CanonicalJsonObject::new();
            let draft = self.member_event(sender, user_id, membership, &details, profile);
            // One who is a creator of the new room can't be banned from it.
            allowed(after.append(draft, plan.origin()))?;
        }
        Ok(())
    }

    /// Has nobody speak in the old room any more, as far as the user may decide that.
    fn close(&self, before: &mut Edit<'_>, plan: &Plan<'_>) -> Result<()> {
        let state = before.state()?.clone();
        let (moved, rest) = aliases_split(&state, &plan.aliases);
        if !moved.is_empty() {
            allowed(self.append(before, "m.room.canonical_alias", rest, plan))?;
        }
        if let Some(levels) = closed_levels(&state) {
            allowed(self.append(before, "m.room.power_levels", levels, plan))?;
        }
        Ok(())
    }

    /// Adds a state event with an empty state key.
    fn append(
        &self,
        edit: &mut Edit<'_>,
        event_type: &str,
        content: CanonicalJsonObject,
        plan: &Plan<'_>,
    ) -> Result<OwnedEventId> {
        let key = Some(String::new());
        let draft = self.draft(plan.session, event_type.into(), key, content);
        edit.append(draft, plan.origin())
    }
}

/// What the create event says of the old room. Since version 12 it can't name the tombstone, which names the room, whose
/// id is the hash of the create event.
fn predecessor(old_id: &RoomId, tombstone: Option<&EventId>) -> Result<CanonicalJsonObject> {
    let mut predecessor = super::create::to_content(&json!({ "room_id": old_id }))?;
    if let Some(event_id) = tombstone {
        predecessor.insert("event_id".to_owned(), event_id.to_string().into());
    }
    Ok(predecessor)
}

/// The event that says that a room was replaced.
fn tombstone_of(state: &RoomState) -> Option<OwnedEventId> {
    let tombstone = state.get("m.room.tombstone", "")?;
    Some(tombstone.event.event_id.clone())
}

/// Takes it that the rules may forbid something that isn't needed.
fn allowed<T>(result: Result<T>) -> Result<()> {
    match result {
        Ok(_) | Err(EngineError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
