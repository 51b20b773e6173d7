//! Sending events into rooms.

use std::sync::Arc;

use parley_protocol::{
    EventDraft, client_event::ClientFields, content, known, redaction::redacted_json,
};
use parley_storage::commit::{Assigned, NewRedaction, RoomEffect};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId,
    OwnedServerName, OwnedUserId, RoomAliasId, RoomId, UserId,
    events::{StateEventType, TimelineEventType, room::history_visibility::HistoryVisibility},
};
use serde_json::value::RawValue;

use super::{
    Rooms,
    edit::Edit,
    guests::GUEST_ACCESS,
    membership::check_not_there,
    room::Room,
    state::RoomState,
    transactions::{self, Begun, Key, Making},
};
use crate::{
    EngineError, Result,
    limits::Action,
    profiles::{MAX_AVATAR_URL, MAX_DISPLAY_NAME},
    sessions::Session,
};

/// What a room doesn't survive the redaction of: older versions would forget which version they are, and an empty access
/// list shuts out every server.
const UNREDACTABLE: [&str; 2] = ["m.room.create", "m.room.server_acl"];

/// An event that a client sends.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its type.
    pub event_type: &'a str,
    /// Its content.
    pub content: &'a RawValue,
    /// The client's transaction id.
    pub transaction_id: &'a str,
    /// The time that an application service gives it; `None` for now.
    ///
    /// <https://spec.matrix.org/v1.19/application-service-api/#timestamp-massaging>
    pub at: Option<MilliSecondsSinceUnixEpoch>,
    /// The number of the delayed event that this is, if it is one.
    pub(crate) delayed: Option<i64>,
}

impl<'a> Message<'a> {
    /// An event that is sent when it is asked for.
    pub fn new(event_type: &'a str, content: &'a RawValue, transaction_id: &'a str) -> Self {
        Self {
            event_type,
            content,
            transaction_id,
            at: None,
            delayed: None,
        }
    }
}

/// A place of a room's state that a client sets.
#[derive(Clone, Copy, Debug)]
pub struct StateSetting<'a> {
    /// The type of the event.
    pub event_type: &'a StateEventType,
    /// Its state key.
    pub state_key: &'a str,
    /// Its content.
    pub content: &'a RawValue,
    /// The time that an application service gives it; `None` for now.
    pub at: Option<MilliSecondsSinceUnixEpoch>,
    /// The delayed event that this is, if it is one: its number, and what stands for it as a transaction.
    pub(crate) delayed: Option<(i64, &'a str)>,
}

impl<'a> StateSetting<'a> {
    /// A state event that is sent when it is asked for.
    pub fn new(event_type: &'a StateEventType, state_key: &'a str, content: &'a RawValue) -> Self {
        Self {
            event_type,
            state_key,
            content,
            at: None,
            delayed: None,
        }
    }
}

/// An event that is to be redacted.
struct Redacted {
    /// Whether who redacts it has sent it.
    is_own: bool,
    /// Whether it says that guests may join, or may not.
    is_on_guests: bool,
    /// What is left of it, unless it is redacted already.
    redaction: Option<NewRedaction>,
}

/// A redaction that a client asks for.
struct NewRedacting<'a> {
    target: &'a EventId,
    /// What else the redaction says.
    content: CanonicalJsonObject,
    at: Option<MilliSecondsSinceUnixEpoch>,
}

impl Rooms {
    /// Sends an event that is no state event.
    ///
    /// `PUT /rooms/{roomId}/send/{eventType}/{txnId}`
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the room doesn't allow it, `M_BAD_JSON` if the content can't be an event's, `M_TOO_LARGE`.
    pub async fn send(
        &self,
        session: &Session,
        room_id: &RoomId,
        message: Message<'_>,
    ) -> Result<OwnedEventId> {
        let (room, _) = self.joined_room(session, room_id).await?;
        let content = parse(message.content)?;
        known::check_message(message.event_type, &content).map_err(EngineError::bad_json)?;
        let key = Key {
            delayed: message.delayed,
            ..key(session, &room, message.event_type, message.transaction_id)?
        };
        let making = match self.transactions.begin(&self.database, key).await? {
            Begun::Made(event_id) => return Ok(event_id),
            Begun::New(making) => making,
        };
        self.limit_room(&room)?;
        if message.event_type == "m.room.redaction" {
            let redacting = NewRedacting {
                target: &redacts(&content)?,
                content,
                at: message.at,
            };
            return Box::pin(self.redact_new(session, &room, redacting, key, making)).await;
        }
        self.check_relation(session, &room, message.event_type, message.content.get())
            .await?;
        let mut draft = self.draft(session, message.event_type.into(), None, content);
        draft.origin_server_ts = message.at.unwrap_or(draft.origin_server_ts);
        let origin = Some((session.device_nid, Some(message.transaction_id.to_owned())));
        let sent = self
            .edit(&room, |edit| {
                let event_id = edit.append(draft.clone(), origin.clone())?;
                self.settle(edit, message.delayed, &event_id);
                Ok(event_id)
            })
            .await;
        self.sent(sent, key, making).await
    }

    /// Redacts an event. A suspended user may redact their own, and no other.
    ///
    /// `PUT /rooms/{roomId}/redact/{eventId}/{txnId}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if the room has no such event, `M_FORBIDDEN` if the user may not redact it.
    pub async fn redact(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &EventId,
        transaction_id: &str,
        reason: Option<String>,
    ) -> Result<OwnedEventId> {
        let (room, _) = self.joined_room(session, room_id).await?;
        // The same transaction id for another event is another request.
        let transaction_id = transactions::of_redaction(target, transaction_id);
        let key = key(session, &room, "m.room.redaction", &transaction_id)?;
        let making = match self.transactions.begin(&self.database, key).await? {
            Begun::Made(event_id) => return Ok(event_id),
            Begun::New(making) => making,
        };
        self.limit_room(&room)?;
        let mut content = CanonicalJsonObject::new();
        if let Some(reason) = reason {
            content.insert("reason".to_owned(), reason.into());
        }
        let redacting = NewRedacting {
            target,
            content,
            at: None,
        };
        self.redact_new(session, &room, redacting, key, making)
            .await
    }

    async fn redact_new(
        &self,
        session: &Session,
        room: &Arc<Room>,
        redacting: NewRedacting<'_>,
        key: Key<'_>,
        making: Making,
    ) -> Result<OwnedEventId> {
        let target = self.redacted_event(session, room, redacting.target).await?;
        let mut draft = self.draft(
            session,
            TimelineEventType::RoomRedaction,
            None,
            redacting.content.clone(),
        );
        draft.redacts = Some(redacting.target.to_owned());
        draft.origin_server_ts = redacting.at.unwrap_or(draft.origin_server_ts);
        let is_own = matches!(&target, Some(target) if target.is_own);
        let origin = Some((session.device_nid, Some(key.transaction_id.to_owned())));
        let sent = self
            .edit(room, |edit| {
                let levels = edit.state()?.power_levels();
                if !is_own && !levels.user_can_redact_event_of_other(&session.user_id) {
                    return Err(EngineError::forbidden(
                        "you may not redact events of others in this room",
                    ));
                }
                let (draft, origin) = (draft.clone(), origin.clone());
                let event_id = match &target {
                    Some(target) => {
                        edit.append_redacting(draft, origin, target.redaction.clone())?
                    }
                    None => {
                        let later = redacting.target.to_owned();
                        edit.append_redacting_later(draft, origin, later)?
                    }
                };
                self.settle(edit, key.delayed, &event_id);
                Ok(event_id)
            })
            .await;
        let event_id = self.sent(sent, key, making).await?;
        if target.is_some_and(|target| target.is_on_guests) {
            Box::pin(self.follow_guest_access(room)).await;
        }
        Ok(event_id)
    }

    /// The event that is to be redacted; `None` if this server doesn't have it, but another in the room may.
    async fn redacted_event(
        &self,
        session: &Session,
        room: &Room,
        target: &EventId,
    ) -> Result<Option<Redacted>> {
        let unknown = || EngineError::not_found("there is no such event in this room");
        let Some(row) = self.database.event(target).await? else {
            let state = self.registry.load(room).await?;
            let servers = room.servers(&state);
            let is_other = |server: &OwnedServerName| server != self.server_name();
            if !servers.iter().any(|(server, _)| is_other(server)) {
                return Err(unknown());
            }
            // Nobody of this server has sent it.
            session.may_write()?;
            return Ok(None);
        };
        if row.room_nid != room.nid() {
            return Err(unknown());
        }
        let fields = ClientFields::parse(&row.json)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        if UNREDACTABLE.contains(&fields.event_type.as_ref()) {
            return Err(EngineError::forbidden(format!(
                "the {} event of a room can't be redacted",
                fields.event_type
            )));
        }
        let is_own = *fields.sender == *session.user_id;
        if !is_own {
            session.may_write()?;
        }
        let outlier = self.database.outlier_number(target).await?;
        let json = redacted_json(&row.json, room.version())
            .ok_or_else(|| EngineError::Internal("a stored event can't be redacted".to_owned()))?;
        let redaction = NewRedaction {
            target: row.position,
            event_id: row.event_id,
            outlier,
            json,
            told: Assigned::default(),
        };
        Ok(Some(Redacted {
            is_own,
            is_on_guests: fields.event_type == GUEST_ACCESS,
            // An event stays redacted by the first redaction.
            redaction: row.redacted_by.is_none().then_some(redaction),
        }))
    }

    /// Has it noted, together with an event, that this was a delayed one.
    fn settle(&self, edit: &mut Edit<'_>, delayed: Option<i64>, event_id: &EventId) {
        if let Some(nid) = delayed {
            edit.effect(RoomEffect::SendsDelayed {
                nid,
                event_id: event_id.to_owned(),
                sent_at: self.clock.now_ms(),
            });
        }
    }

    /// Notes what a transaction gave, which may be that it was made before.
    async fn sent(
        &self,
        sent: Result<OwnedEventId>,
        key: Key<'_>,
        making: Making,
    ) -> Result<OwnedEventId> {
        let event_id = match sent {
            Ok(event_id) => event_id,
            Err(error) => {
                let repeated = self.transactions.repeated(&self.database, key, error);
                Box::pin(repeated).await?
            }
        };
        making.made(&event_id);
        Ok(event_id)
    }

    /// Sets a place of a room's state. Setting what is there already gives the event that is there.
    ///
    /// `PUT /rooms/{roomId}/state/{eventType}/{stateKey}`
    ///
    /// # Errors
    /// As [`Rooms::send`]; also if a canonical alias doesn't stand for this room.
    pub async fn set_state(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_type: &StateEventType,
        state_key: &str,
        content: &RawValue,
    ) -> Result<OwnedEventId> {
        let setting = StateSetting::new(event_type, state_key, content);
        self.set_state_place(session, room_id, setting).await
    }

    /// The same for what may be a delayed event, or has a time that an application service gives it.
    ///
    /// # Errors
    /// As [`Rooms::set_state`].
    pub async fn set_state_place(
        &self,
        session: &Session,
        room_id: &RoomId,
        setting: StateSetting<'_>,
    ) -> Result<OwnedEventId> {
        let (event_id, room) = self.put_state(session, room_id, setting).await?;
        if *setting.event_type == StateEventType::RoomTombstone {
            self.follow_tombstone(&room).await;
        }
        Ok(event_id)
    }

    async fn put_state(
        &self,
        session: &Session,
        room_id: &RoomId,
        setting: StateSetting<'_>,
    ) -> Result<(OwnedEventId, Arc<Room>)> {
        let StateSetting {
            event_type,
            state_key,
            content,
            at,
            delayed,
        } = setting;
        if *event_type == StateEventType::RoomMember {
            // Whether they may join is decided where one joins.
            session.must_not_be_guest()?;
        }
        let (room, state) = self.joined_room(session, room_id).await?;
        self.limit_room(&room)?;
        let mut content = parse(content)?;
        if *event_type == StateEventType::RoomMember {
            // Whoever can vouch for a join is the server's to say.
            content.remove("join_authorised_via_users_server");
        }
        self.check_state(&room, &state, event_type, &content)
            .await?;
        let invited = invited(event_type, state_key, &content)
            .filter(|_| state.power_levels().user_can_invite(&session.user_id));
        if let Some(invited) = &invited {
            self.limits.check(Action::Invite, session.user_nid)?;
            self.check_invitable(invited, &session.user_id).await?;
            self.limit_received(session, invited)?;
            self.need_member(&room, invited).await?;
        }
        let mut draft = self.draft(
            session,
            event_type.to_string().into(),
            Some(state_key.to_owned()),
            content,
        );
        draft.origin_server_ts = at.unwrap_or(draft.origin_server_ts);
        let canonical = serde_json::to_string(&draft.content)
            .map_err(|error| EngineError::bad_json(error.to_string()))?;
        if let Some(invited) = invited.filter(|invited| !self.is_local(invited)) {
            let check = |state: &RoomState| check_not_there(state, &invited);
            let event_id = self.invite_remote(&room, draft, &invited, check).await?;
            return Ok((event_id, room));
        }
        let shut_out = self
            .shut_out(&state, event_type, state_key, &draft.content)
            .await?;
        self.edit(&room, |edit| {
            let settled = delayed.map(|(nid, _)| nid);
            if let Some(same) = unchanged(edit.state()?, &draft, &canonical) {
                self.settle(edit, settled, &same);
                return Ok(same);
            }
            let transaction_id = delayed.map(|(_, transaction_id)| transaction_id.to_owned());
            let origin = Some((session.device_nid, transaction_id));
            let event_id = edit.append(draft.clone(), origin)?;
            self.settle(edit, settled, &event_id);
            if let Some(shut_out) = &shut_out {
                self.remove_guests(edit, shut_out)?;
            }
            Ok(event_id)
        })
        .await
        .map(|event_id| (event_id, room))
    }

    /// What the rules of a room don't check but a server does for its own users.
    async fn check_state(
        &self,
        room: &Room,
        state: &RoomState,
        event_type: &StateEventType,
        content: &CanonicalJsonObject,
    ) -> Result<()> {
        let name = event_type.to_string();
        known::check_state(&name, content, room.version(), self.key.server_name())
            .map_err(EngineError::bad_json)?;
        match event_type {
            StateEventType::RoomCreate => Err(EngineError::invalid_param("a room is created once")),
            _ if name == "m.room.redaction" => Err(EngineError::invalid_param(
                "a redaction is no part of a room's state",
            )),
            StateEventType::RoomCanonicalAlias => self.check_aliases(room, state, content).await,
            StateEventType::RoomHistoryVisibility => check_visibility(content),
            StateEventType::RoomPowerLevels => check_creators(state, content),
            StateEventType::RoomMember => check_names(content),
            _ if name == "m.room.retention" => check_retention(content),
            _ => Ok(()),
        }
    }

    /// Every alias that is new in `m.room.canonical_alias` must stand for the room.
    async fn check_aliases(
        &self,
        room: &Room,
        state: &RoomState,
        content: &CanonicalJsonObject,
    ) -> Result<()> {
        let before = state.get("m.room.canonical_alias", "");
        let before: Option<CanonicalJsonObject> = before.and_then(|entry| entry.event.content_as());
        // What older rooms may say in another shape names nothing.
        let known = before.and_then(|content| aliases_in(&content).ok());
        let known = known.unwrap_or_default();
        for alias in aliases_in(content)? {
            if known.contains(&alias) {
                continue;
            }
            let parsed = <&RoomAliasId>::try_from(alias.as_str()).map_err(|_| {
                EngineError::invalid_param(format!("{alias:?} is not a room alias"))
            })?;
            let target = self.database.alias(parsed).await?;
            if target.is_none_or(|(target, _)| target != room.id()) {
                return Err(EngineError::refused(
                    ruma::api::error::ErrorKind::BadAlias,
                    format!("{alias} doesn't stand for this room"),
                ));
            }
        }
        Ok(())
    }

    /// An event of the session's user, made now.
    pub(super) fn draft(
        &self,
        session: &Session,
        event_type: TimelineEventType,
        state_key: Option<String>,
        content: CanonicalJsonObject,
    ) -> EventDraft {
        self.draft_of(&session.user_id, event_type, state_key, content)
    }

    pub(super) fn draft_of(
        &self,
        sender: &UserId,
        event_type: TimelineEventType,
        state_key: Option<String>,
        content: CanonicalJsonObject,
    ) -> EventDraft {
        EventDraft {
            sender: sender.to_owned(),
            event_type,
            state_key,
            content,
            redacts: None,
            origin_server_ts: self.now(),
        }
    }
}

/// The transaction of a request.
fn key<'a>(
    session: &Session,
    room: &Room,
    event_type: &'a str,
    transaction_id: &'a str,
) -> Result<Key<'a>> {
    if transaction_id.contains('\0') {
        return Err(EngineError::invalid_param(
            "a transaction id has no null bytes",
        ));
    }
    Ok(Key {
        device_nid: session.device_nid,
        room_nid: room.nid(),
        event_type,
        transaction_id,
        delayed: None,
    })
}

/// Reads a client's content.
pub(super) fn parse(json: &RawValue) -> Result<CanonicalJsonObject> {
    content::parse(json).map_err(|error| EngineError::bad_json(error.to_string()))
}

/// Whom a state event invites.
fn invited(
    event_type: &StateEventType,
    state_key: &str,
    content: &CanonicalJsonObject,
) -> Option<OwnedUserId> {
    let membership = content.get("membership")?.as_str()?;
    (*event_type == StateEventType::RoomMember && membership == "invite")
        .then(|| OwnedUserId::try_from(state_key).ok())
        .flatten()
}

/// The event that a redaction's content names.
fn redacts(content: &CanonicalJsonObject) -> Result<OwnedEventId> {
    content
        .get("redacts")
        .and_then(|value| value.as_str())
        .and_then(|id| OwnedEventId::try_from(id).ok())
        .ok_or_else(|| {
            EngineError::missing_param("a redaction names the event it redacts as `redacts`")
        })
}

/// The event that is in the draft's place already and says the same, by the same sender.
fn unchanged(state: &RoomState, draft: &EventDraft, canonical: &str) -> Option<OwnedEventId> {
    let entry = state.get(&draft.event_type.to_string(), draft.state_key.as_deref()?)?;
    let same = entry.event.sender == draft.sender && entry.event.content.get() == canonical;
    same.then(|| entry.event.event_id.clone())
}

pub(super) fn aliases_in(content: &CanonicalJsonObject) -> Result<Vec<String>> {
    let wrong = || EngineError::bad_json("`alias` is a text and `alt_aliases` a list of texts");
    let mut aliases = Vec::new();
    match content.get("alias") {
        None | Some(ruma::CanonicalJsonValue::Null) => {}
        Some(alias) => aliases.push(alias.as_str().ok_or_else(wrong)?.to_owned()),
    }
    if let Some(others) = content.get("alt_aliases") {
        for alias in others.as_array().ok_or_else(wrong)? {
            aliases.push(alias.as_str().ok_or_else(wrong)?.to_owned());
        }
    }
    aliases.retain(|alias| !alias.is_empty());
    Ok(aliases)
}

/// How long events are kept: milliseconds, the shortest not over the longest.
///
/// <https://github.com/matrix-org/matrix-spec-proposals/pull/1763>
pub(super) fn check_retention(content: &CanonicalJsonObject) -> Result<()> {
    let lifetime = |key: &str| match content.get(key) {
        None | Some(ruma::CanonicalJsonValue::Null) => Ok(None),
        Some(ruma::CanonicalJsonValue::Integer(time)) if i64::from(*time) >= 0 => Ok(Some(*time)),
        Some(_) => Err(EngineError::bad_json(format!(
            "`{key}` is a number of milliseconds"
        ))),
    };
    match (lifetime("min_lifetime")?, lifetime("max_lifetime")?) {
        (Some(shortest), Some(longest)) if shortest > longest => Err(EngineError::invalid_param(
            "`min_lifetime` is not more than `max_lifetime`",
        )),
        _ => Ok(()),
    }
}

/// Who has made a room stands above all power levels, and isn't named in them.
///
/// <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules>
fn check_creators(state: &RoomState, content: &CanonicalJsonObject) -> Result<()> {
    let named = content.get("users").and_then(|users| users.as_object());
    let is_creator = |user_id: &&String| {
        <&UserId>::try_from(user_id.as_str()).is_ok_and(|user_id| state.is_privileged(user_id))
    };
    match named.and_then(|named| named.keys().find(is_creator)) {
        Some(user_id) => Err(EngineError::bad_json(format!(
            "{user_id} has made the room and has no level in `users`"
        ))),
        None => Ok(()),
    }
}

/// What a membership says of a user's name and picture is held to the limits of profiles.
fn check_names(content: &CanonicalJsonObject) -> Result<()> {
    let limits = [
        ("displayname", MAX_DISPLAY_NAME),
        ("avatar_url", MAX_AVATAR_URL),
    ];
    for (field, limit) in limits {
        match content.get(field) {
            None | Some(CanonicalJsonValue::Null) => {}
            Some(CanonicalJsonValue::String(text)) if text.len() <= limit => {}
            Some(_) => {
                return Err(EngineError::bad_json(format!(
                    "`{field}` is a text of at most {limit} bytes"
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn check_visibility(content: &CanonicalJsonObject) -> Result<()> {
    let visibility = content
        .get("history_visibility")
        .and_then(|value| value.as_str());
    match visibility.map(HistoryVisibility::from) {
        Some(
            HistoryVisibility::Invited
            | HistoryVisibility::Joined
            | HistoryVisibility::Shared
            | HistoryVisibility::WorldReadable,
        ) => Ok(()),
        _ => Err(EngineError::invalid_param(
            "`history_visibility` is one of invited, joined, shared, world_readable",
        )),
    }
}
