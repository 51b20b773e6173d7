//! Server notices: what the server itself has to tell a user, in a room of its own for each.
//!
//! The user is invited to it and can't decline, but may leave once they are in; then the next notice invites them again.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#server-notices>

use std::sync::Arc;

use parley_protocol::EventDraft;
use parley_storage::{Database, Transaction, accounts, profiles};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, OwnedUserId, UserId,
    api::error::ErrorKind,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{
    Rooms,
    create::{InitialState, RoomPlan, to_content},
    edit::Edit,
    membership::{Change, MembershipDetails},
    room::Room,
    send::Message,
};
use crate::{
    EngineError, Result,
    appservices::Appservices,
    clock::Clock,
    sessions::{AccountKind, Session},
    settings::{EngineSettings, ServerNoticeSettings},
    text,
};

/// How often a room is looked for and made while other requests make it.
const ATTEMPTS: usize = 3;
/// By which clients know the room.
const TAG: &str = "m.server_notice";
/// What members can do who aren't named: nothing, by a power under the least that anything needs.
const POWER_OF_READERS: i64 = -10;
/// Characters of a transaction ID that the server makes.
const TRANSACTION_ID_LENGTH: usize = 32;

/// What an administrator has to tell a user.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The type of the event.
    pub event_type: String,
    /// Its state key, if it is to be a state event: to pin a notice, say.
    pub state_key: Option<String>,
    /// Its content. A message that doesn't say what kind it is becomes an `m.server_notice`.
    pub content: Map<String, Value>,
    /// Of notices to one user with the same ID only the first is sent.
    pub transaction_id: Option<String>,
}

/// The user by whom the server writes to its users.
#[derive(Clone, Debug)]
pub(crate) struct Notices {
    settings: ServerNoticeSettings,
    user_id: OwnedUserId,
    user_nid: i64,
}

impl Notices {
    /// Makes the user, if there isn't one yet; `None` if the server sends no notices.
    ///
    /// # Errors
    /// If the name can't be, or is somebody else's.
    pub(crate) async fn start(
        settings: &EngineSettings,
        database: &Database,
        appservices: &Appservices,
        clock: &dyn Clock,
    ) -> Result<Option<Self>> {
        let Some(notices) = &settings.server_notices else {
            return Ok(None);
        };
        let name = &notices.localpart;
        let refuse = |why: &dyn std::fmt::Display| {
            EngineError::Internal(format!("server notices can't come from {name:?}: {why}"))
        };
        let user_id =
            text::user_id_of(name, &settings.server_name).map_err(|error| refuse(&error))?;
        let check = appservices.check_user(None, &user_id);
        check.map_err(|error| refuse(&error))?;
        let mut transaction = database.write().await?;
        let user_nid = database.intern_user(&mut transaction, &user_id).await?;
        let account = accounts::NewAccount {
            user_nid,
            password_hash: None,
            kind: AccountKind::Server.as_str(),
            admin: false,
            created_at: clock.now_ms(),
        };
        accounts::insert(&mut transaction, &account).await?;
        let display_name = Value::from(notices.display_name.as_str());
        let avatar = notices.avatar_url.as_ref().map(|url| url.as_str().into());
        set_profile(
            &mut transaction,
            user_nid,
            "displayname",
            Some(display_name),
        )
        .await?;
        set_profile(&mut transaction, user_nid, "avatar_url", avatar).await?;
        transaction.commit().await?;
        let account = accounts::get(database, user_nid).await?;
        if account.is_none_or(|account| account.kind != AccountKind::Server.as_str()) {
            return Err(refuse(&"somebody has an account of that name"));
        }
        Ok(Some(Self {
            settings: notices.clone(),
            user_id,
            user_nid,
        }))
    }

    fn session(&self) -> Session {
        Session::of_server(self.user_nid, &self.user_id)
    }

    /// What stands in the rooms beside the notices.
    fn decoration(&self) -> Result<Vec<(&'static str, CanonicalJsonObject)>> {
        let settings = &self.settings;
        let topic = settings
            .room_topic
            .as_ref()
            .map(|topic| json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } }));
        let avatar = settings.avatar_url.as_ref();
        let avatar = avatar.map(|url| json!({ "url": url }));
        let events = [
            ("m.room.name", Some(json!({ "name": settings.room_name }))),
            ("m.room.topic", topic),
            ("m.room.avatar", avatar),
        ];
        let given = events
            .into_iter()
            .filter_map(|(event_type, content)| Some((event_type, content?)));
        given
            .map(|(event_type, content)| Ok((event_type, to_content(&content)?)))
            .collect()
    }

    fn plan(&self, user_id: &UserId, user_nid: i64) -> Result<RoomPlan> {
        let decoration = self.decoration()?.into_iter();
        let initial_state = decoration.map(|(event_type, content)| {
            let content =
                to_raw_value(&content).map_err(|error| EngineError::Internal(error.to_string()))?;
            Ok(InitialState {
                event_type: event_type.to_owned(),
                state_key: String::new(),
                content,
            })
        });
        Ok(RoomPlan {
            power_levels: to_content(&json!({ "users_default": POWER_OF_READERS }))?,
            initial_state: initial_state.collect::<Result<_>>()?,
            invite: vec![user_id.to_owned()],
            notices_for: Some(user_nid),
            ..RoomPlan::new()
        })
    }
}

async fn set_profile(
    transaction: &mut Transaction,
    user_nid: i64,
    field: &str,
    value: Option<Value>,
) -> Result<()> {
    match value {
        Some(value) => profiles::set(transaction, user_nid, field, &value.to_string()).await?,
        None => {
            profiles::delete(transaction, user_nid, field).await?;
        }
    }
    Ok(())
}

impl Rooms {
    /// Sends a notice to a user of this server: makes the room if they have none yet, and invites them if they aren't there.
    ///
    /// # Errors
    /// `M_UNKNOWN` if this server sends no notices; `M_INVALID_PARAM` if the user isn't one of its own, `M_NOT_FOUND` if
    /// they have no account; else as [`Rooms::send`].
    pub async fn notify(&self, user_id: &UserId, notice: Notice) -> Result<OwnedEventId> {
        let notices = self
            .notices
            .as_ref()
            .ok_or_else(|| EngineError::unknown("this server sends no notices"))?;
        let user_nid = self.receiver(notices, user_id).await?;
        if notice.state_key.is_some() && notice.event_type == "m.room.member" {
            return Err(EngineError::invalid_param(
                "a notice can't change who is in the room",
            ));
        }
        let session = notices.session();
        let room_id = self.notice_room(notices, user_id, user_nid).await?;
        let receiver = Session::of_server(user_nid, user_id);
        let tag = self
            .account_data
            .set_tag(&receiver, &room_id, TAG, Map::new());
        if let Err(error) = tag.await {
            // The notice matters more than how it looks.
            tracing::warn!(%error, %user_id, "the room for server notices can't be tagged");
        }
        tracing::info!(%user_id, "sending a server notice");
        self.send_notice(&session, &room_id, notice).await
    }

    async fn receiver(&self, notices: &Notices, user_id: &UserId) -> Result<i64> {
        if user_id.server_name() != self.key.server_name() {
            return Err(EngineError::invalid_param(
                "only users of this server get notices",
            ));
        }
        let account = accounts::find(&self.database, user_id.as_str()).await?;
        let account = account
            .filter(|account| account.deactivated_at.is_none())
            .filter(|account| account.user_nid != notices.user_nid);
        let nid = account.map(|account| account.user_nid);
        nid.ok_or_else(|| EngineError::not_found("there is no such account on this server"))
    }

    async fn send_notice(
        &self,
        session: &Session,
        room_id: &ruma::RoomId,
        notice: Notice,
    ) -> Result<OwnedEventId> {
        let mut content = notice.content;
        if notice.event_type == "m.room.message" && !content.contains_key("msgtype") {
            content.insert("msgtype".to_owned(), "m.server_notice".into());
        }
        let content =
            to_raw_value(&content).map_err(|error| EngineError::bad_json(error.to_string()))?;
        let event_type = notice.event_type.as_str();
        if let Some(state_key) = &notice.state_key {
            return self
                .set_state(session, room_id, &event_type.into(), state_key, &content)
                .await;
        }
        let transaction_id = notice
            .transaction_id
            .unwrap_or_else(|| self.random.alphanumeric(TRANSACTION_ID_LENGTH));
        let message = Message::new(event_type, &content, &transaction_id);
        self.send(session, room_id, message).await
    }

    /// The room for a user's notices, to which they are invited or joined.
    async fn notice_room(
        &self,
        notices: &Notices,
        user_id: &UserId,
        user_nid: i64,
    ) -> Result<OwnedRoomId> {
        for _ in 0..ATTEMPTS {
            if let Some(room_id) = self.database.notice_room(user_nid).await? {
                let room = self.room(&room_id).await?;
                self.redecorate(notices, &room).await?;
                self.fetch_receiver(notices, &room, user_id).await?;
                return Ok(room_id);
            }
            let plan = notices.plan(user_id, user_nid)?;
            match self.create(&notices.session(), &plan).await {
                // Made by another request at the same moment: it is found the next time round.
                Err(EngineError::Duplicate) => {}
                made => return made,
            }
        }
        Err(EngineError::Duplicate)
    }

    /// Invites the receiver, unless they are in the room or invited already.
    async fn fetch_receiver(
        &self,
        notices: &Notices,
        room: &Arc<Room>,
        user_id: &UserId,
    ) -> Result<()> {
        let invitation = Change {
            sender: &notices.user_id,
            target: user_id,
            membership: MembershipState::Invite,
            details: &MembershipDetails::default(),
        };
        self.change(&notices.session(), room, invitation, |edit, _| {
            let member = edit.state()?.member(user_id);
            let present = member.filter(|member| {
                matches!(
                    member.membership,
                    MembershipState::Join | MembershipState::Invite
                )
            });
            Ok(present.map(|member| member.entry.event.event_id.clone()))
        })
        .await
        .map(|_| ())
    }

    /// Gives a room the name, topic and picture that are configured by now, and its sender theirs.
    async fn redecorate(&self, notices: &Notices, room: &Arc<Room>) -> Result<()> {
        let wanted = notices.decoration()?;
        let profile = self.profile_of(&notices.user_id).await?;
        let sender = &notices.user_id;
        self.edit(room, |edit| {
            for (event_type, content) in &wanted {
                if content_of(edit, event_type, "")?.as_ref() != Some(content) {
                    let draft =
                        self.notice_state(sender, (*event_type).into(), "", content.clone());
                    edit.append(draft, None)?;
                }
            }
            let mut member = profile.clone();
            member.insert("membership".to_owned(), "join".to_owned().into());
            if content_of(edit, "m.room.member", sender.as_str())?.as_ref() != Some(&member) {
                let event_type = TimelineEventType::RoomMember;
                let draft = self.notice_state(sender, event_type, sender.as_str(), member);
                edit.append(draft, None)?;
            }
            Ok(())
        })
        .await
    }

    fn notice_state(
        &self,
        sender: &UserId,
        event_type: TimelineEventType,
        state_key: &str,
        content: CanonicalJsonObject,
    ) -> EventDraft {
        self.draft_of(sender, event_type, Some(state_key.to_owned()), content)
    }

    /// Whether a user is the one by whom the server writes to its users.
    pub(crate) fn is_server(&self, user_id: &UserId) -> bool {
        let notices = self.notices.as_ref();
        notices.is_some_and(|notices| notices.user_id == user_id)
    }

    /// Lets pass an invited user who may decline: all but those whom the server invites to tell them something.
    ///
    /// # Errors
    /// `M_CANNOT_LEAVE_SERVER_NOTICE_ROOM`.
    pub(super) async fn check_may_decline(&self, session: &Session, room: &Room) -> Result<()> {
        let (room, user) = (room.nid(), session.user_nid);
        if !self.database.is_notice_room(room, user).await? {
            return Ok(());
        }
        Err(EngineError::refused(
            ErrorKind::CannotLeaveServerNoticeRoom,
            "you can't decline to hear from this server; you may leave the room once you have joined it",
        ))
    }
}

fn content_of(
    edit: &Edit<'_>,
    event_type: &str,
    state_key: &str,
) -> Result<Option<CanonicalJsonObject>> {
    let entry = edit.state()?.get(event_type, state_key);
    Ok(entry.and_then(|entry| entry.event.content_as()))
}
