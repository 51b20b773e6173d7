//! Making rooms.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use std::sync::Arc;

use parley_protocol::{
    EventDraft, Placement, RoomVersion, build, content, known, room_id_of_create_event,
};
use parley_storage::commit::{Assigned, RoomEffect};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomAliasId, OwnedRoomId, OwnedUserId,
    RoomVersionId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{Value, json, value::RawValue};

use super::{
    Rooms,
    edit::Edit,
    membership::{MembershipDetails, distinct},
    room::Room,
    send::{aliases_in, check_retention, check_visibility, parse},
};
use crate::{EngineError, Result, places::Place, remote::ThirdPartyAddress, sessions::Session};

/// The most users that can be invited while a room is made.
const MAX_INVITES: usize = 500;
/// The most events of initial state.
const MAX_INITIAL_STATE: usize = 500;

/// A bundle of settings for a new room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// By invitation; the creator rules.
    PrivateChat,
    /// By invitation; those invited have the power of the creator.
    TrustedPrivateChat,
    /// For everyone.
    PublicChat,
}

/// A new room as its creator wants it.
#[derive(Clone, Debug)]
pub struct RoomPlan {
    /// The version; the server's default if `None`.
    pub version: Option<RoomVersionId>,
    /// The settings that the others build on.
    pub preset: Preset,
    /// Whether it stands in the room directory.
    pub published: bool,
    /// More content of the create event.
    pub creation_content: CanonicalJsonObject,
    /// What of the default power levels is different.
    pub power_levels: CanonicalJsonObject,
    /// State events, over what the preset gives.
    pub initial_state: Vec<InitialState>,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// Its alias on this server.
    pub alias: Option<OwnedRoomAliasId>,
    /// Who is invited.
    pub invite: Vec<OwnedUserId>,
    /// The addresses of who else is invited.
    pub invite_addresses: Vec<ThirdPartyAddress>,
    /// Whether it is a direct chat; carried to the invitations.
    pub is_direct: bool,
    /// The one direct chat of two users that this room becomes.
    pub direct_chat: Option<(i64, i64)>,
    /// The user to whom the server writes in this room.
    pub notices_for: Option<i64>,
}

impl RoomPlan {
    /// A private room, and nothing special about it.
    pub fn new() -> Self {
        Self {
            version: None,
            preset: Preset::PrivateChat,
            published: false,
            creation_content: CanonicalJsonObject::new(),
            power_levels: CanonicalJsonObject::new(),
            initial_state: Vec::new(),
            name: None,
            topic: None,
            alias: None,
            invite: Vec::new(),
            invite_addresses: Vec::new(),
            is_direct: false,
            direct_chat: None,
            notices_for: None,
        }
    }

    /// How many invitations it takes.
    pub fn invitations(&self) -> usize {
        distinct(&self.invite).len() + self.invite_addresses.len()
    }
}

impl Default for RoomPlan {
    fn default() -> Self {
        Self::new()
    }
}

/// A state event that a new room begins with.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// Its type.
    pub event_type: String,
    /// Its state key.
    pub state_key: String,
    /// Its content.
    pub content: Box<RawValue>,
}

/// An event of a new room: type, state key, content.
type Step = (TimelineEventType, String, CanonicalJsonObject);

impl Rooms {
    /// Makes a room with all its first events, in one piece: either all of it is there or nothing.
    ///
    /// # Errors
    /// `M_UNSUPPORTED_ROOM_VERSION`, `M_ROOM_IN_USE` if the alias is taken, `M_INVALID_ROOM_STATE` if the wanted state
    /// contradicts itself, `M_USER_LIMIT_EXCEEDED`, `M_FORBIDDEN` if the user may not invite somebody.
    pub async fn create(&self, session: &Session, plan: &RoomPlan) -> Result<OwnedRoomId> {
        let version = plan
            .version
            .as_ref()
            .unwrap_or(&self.settings.default_version);
        let version = creatable(version)?;
        let places = self.places_for(session, plan).await?;
        self.check_plan(session, plan).await?;
        let steps = self.steps(session, plan, &version)?;
        let joining = self.profile_of(&session.user_id).await?;
        let invited = self.invited(session, plan).await?;
        let room = self.new_room(&version, session, plan)?;
        let (room, create) = room;
        let details = MembershipDetails::default();
        self.found(&room, |edit| {
            let origin = Some((session.device_nid, None));
            edit.push_create(create, origin.clone());
            let user = &session.user_id;
            let join = self.member_event(user, user, MembershipState::Join, &details, joining);
            edit.append(join, origin.clone())?;
            for (event_type, state_key, content) in steps {
                let draft = self.draft(session, event_type, Some(state_key), content);
                edit.append(draft, origin.clone()).map_err(invalid_state)?;
            }
            for draft in invited {
                edit.append(draft, origin.clone())?;
            }
            self.add_effects(session, plan, edit);
            Ok(())
        })
        .await
        .map_err(|error| taken(error, plan))?;
        drop(places);
        self.invite_others(session, plan, &room).await;
        Ok(room.id().to_owned())
    }

    /// Invites the users of other servers, now that there is a room that they can be invited to.
    async fn invite_others(&self, session: &Session, plan: &RoomPlan, room: &Arc<Room>) {
        let details = MembershipDetails {
            is_direct: plan.is_direct,
            ..MembershipDetails::default()
        };
        for user_id in distinct(&plan.invite) {
            if self.is_local(user_id) {
                continue;
            }
            let invited = self.invite(session, room.id(), user_id, &details).await;
            if let Err(error) = invited {
                // The room is there; who made it sees who is missing.
                tracing::info!(%error, room = %room.id(), %user_id, "a user can't be invited");
            }
        }
        for address in &plan.invite_addresses {
            let invited = self
                .invite_address(session, room.id(), address, &details)
                .await;
            if let Err(error) = invited {
                tracing::info!(%error, room = %room.id(), "an address can't be invited");
            }
        }
    }

    async fn check_plan(&self, session: &Session, plan: &RoomPlan) -> Result<()> {
        let invited = plan.invite.len() + plan.invite_addresses.len();
        if invited > MAX_INVITES || plan.initial_state.len() > MAX_INITIAL_STATE {
            return Err(EngineError::invalid_param(format!(
                "a new room has at most {MAX_INVITES} invited users and {MAX_INITIAL_STATE} events of initial state"
            )));
        }
        if let Some(alias) = &plan.alias {
            self.appservices
                .check_alias(session.appservice.as_deref(), alias)?;
            if self.database.alias(alias).await?.is_some() {
                return Err(room_in_use());
            }
        }
        for user_id in &plan.invite {
            self.check_invitable(user_id, &session.user_id).await?;
        }
        if plan.notices_for.is_none() {
            // Those of other servers are counted when they are invited.
            for user_id in distinct(&plan.invite) {
                if self.is_local(user_id) {
                    self.limit_received(session, user_id)?;
                }
            }
        }
        for address in &plan.invite_addresses {
            self.check_address(address)?;
        }
        Ok(())
    }

    /// Places for the room and its alias.
    async fn places_for(
        &self,
        session: &Session,
        plan: &RoomPlan,
    ) -> Result<(Option<Place>, Option<Place>)> {
        let room = match plan.notices_for {
            None => Some(self.place_for_room(session).await?),
            // The server may be in as many rooms as it has users.
            Some(_) => None,
        };
        let alias = match plan.alias {
            Some(_) => Some(self.place_for_alias(session).await?),
            None => None,
        };
        Ok((room, alias))
    }

    /// The room with its create event, built.
    fn new_room(
        &self,
        version: &RoomVersion,
        session: &Session,
        plan: &RoomPlan,
    ) -> Result<(Arc<Room>, parley_protocol::BuiltEvent)> {
        let mut content = plan.creation_content.clone();
        known::check_state("m.room.create", &content, version, self.key.server_name())
            .map_err(|reason| invalid_state(EngineError::bad_json(reason)))?;
        if version.creators_are_privileged() {
            add_creators(&mut content, session, plan)?;
        }
        let named = self.name_ahead(version)?;
        self.create_event(named, version, session, content)
    }

    /// The id of a new room, where it doesn't follow from the create event.
    pub(super) fn name_ahead(&self, version: &RoomVersion) -> Result<Option<OwnedRoomId>> {
        (!version.room_id_is_create_event())
            .then(|| self.new_room_id())
            .transpose()
    }

    /// A room with its create event, built.
    pub(super) fn create_event(
        &self,
        named: Option<OwnedRoomId>,
        version: &RoomVersion,
        session: &Session,
        mut content: CanonicalJsonObject,
    ) -> Result<(Arc<Room>, parley_protocol::BuiltEvent)> {
        content.insert("room_version".to_owned(), version.id().to_string().into());
        if version.rules().authorization.use_room_create_sender {
            content.remove("creator");
        } else {
            content.insert("creator".to_owned(), session.user_id.to_string().into());
        }
        let draft = EventDraft {
            sender: session.user_id.clone(),
            event_type: TimelineEventType::RoomCreate,
            state_key: Some(String::new()),
            content,
            redacts: None,
            origin_server_ts: self.founding.next(self.clock.as_ref()),
        };
        let placement = Placement {
            room_id: named.as_deref(),
            version,
            prev_events: Vec::new(),
            auth_events: Vec::new(),
            depth: 1,
        };
        let built = build(draft, placement, &self.key)?;
        let room_id = match named {
            Some(room_id) => room_id,
            None => room_id_of_create_event(&built.pdu)
                .ok_or_else(|| EngineError::Internal("a create event names no room".to_owned()))?,
        };
        let room = Room::new(room_id, version.clone(), Assigned::default());
        Ok((self.registry.insert(room), built))
    }

    fn new_room_id(&self) -> Result<OwnedRoomId> {
        let id = format!(
            "!{}:{}",
            self.random.alphanumeric(18),
            self.key.server_name()
        );
        OwnedRoomId::try_from(id).map_err(|error| EngineError::Internal(error.to_string()))
    }

    /// The state events after the creator's join, in the order of the spec.
    fn steps(
        &self,
        session: &Session,
        plan: &RoomPlan,
        version: &RoomVersion,
    ) -> Result<Vec<Step>> {
        let mut steps = vec![(
            TimelineEventType::RoomPowerLevels,
            String::new(),
            power_levels(session, plan, version)?,
        )];
        if let Some(alias) = &plan.alias {
            steps.push(step("m.room.canonical_alias", &json!({ "alias": alias }))?);
        }
        for preset in preset_events(plan.preset) {
            if !plan
                .initial_state
                .iter()
                .any(|state| state.event_type == preset.0.to_string() && state.state_key.is_empty())
            {
                steps.push(preset);
            }
        }
        for state in &plan.initial_state {
            if matches!(state.event_type.as_str(), "m.room.create" | "m.room.member") {
                return Err(invalid_state(EngineError::forbidden(format!(
                    "{} can't be given as initial state",
                    state.event_type
                ))));
            }
            let content = parse(&state.content)?;
            self.check_initial(&state.event_type, &content, plan, version)
                .map_err(invalid_state)?;
            steps.push((
                state.event_type.as_str().into(),
                state.state_key.clone(),
                content,
            ));
        }
        if let Some(name) = &plan.name {
            steps.push(step("m.room.name", &json!({ "name": name }))?);
        }
        if let Some(topic) = &plan.topic {
            let text = json!({ "topic": topic, "m.topic": { "m.text": [{ "body": topic }] } });
            steps.push(step("m.room.topic", &text)?);
        }
        Ok(steps)
    }

    /// What is checked of state when it is set is checked of that which a room begins with, too.
    fn check_initial(
        &self,
        event_type: &str,
        content: &CanonicalJsonObject,
        plan: &RoomPlan,
        version: &RoomVersion,
    ) -> Result<()> {
        known::check_state(event_type, content, version, self.key.server_name())
            .map_err(EngineError::bad_json)?;
        match event_type {
            "m.room.canonical_alias" => {
                let own = plan.alias.as_ref().map(|alias| alias.as_str());
                let mut aliases = aliases_in(content)?.into_iter();
                match aliases.find(|alias| Some(alias.as_str()) != own) {
                    Some(alias) => Err(EngineError::invalid_param(format!(
                        "{alias} doesn't stand for the new room"
                    ))),
                    None => Ok(()),
                }
            }
            "m.room.history_visibility" => check_visibility(content),
            "m.room.retention" => check_retention(content),
            _ => Ok(()),
        }
    }

    async fn invited(&self, session: &Session, plan: &RoomPlan) -> Result<Vec<EventDraft>> {
        let details = MembershipDetails {
            is_direct: plan.is_direct,
            ..MembershipDetails::default()
        };
        let mut drafts = Vec::new();
        for user_id in distinct(&plan.invite) {
            if *user_id == session.user_id {
                return Err(EngineError::forbidden("you can't invite yourself"));
            }
            if !self.is_local(user_id) {
                continue;
            }
            let profile = self.profile_of(user_id).await?;
            let membership = MembershipState::Invite;
            drafts.push(self.member_event(
                &session.user_id,
                user_id,
                membership,
                &details,
                profile,
            ));
        }
        Ok(drafts)
    }

    fn add_effects(&self, session: &Session, plan: &RoomPlan, edit: &mut Edit<'_>) {
        if let Some(alias) = &plan.alias {
            edit.effect(RoomEffect::Alias {
                alias: alias.to_string(),
                creator: session.user_id.clone(),
                created_at: i64::from(self.now().get()),
            });
        }
        if plan.published {
            edit.effect(RoomEffect::Publish);
        }
        if let Some((one, other)) = plan.direct_chat {
            edit.effect(RoomEffect::DirectChat { one, other });
        }
        if let Some(user_nid) = plan.notices_for {
            edit.effect(RoomEffect::NoticeRoom { user_nid });
        }
    }
}

/// The version, if rooms of it can be made.
///
/// # Errors
/// `M_UNSUPPORTED_ROOM_VERSION`.
pub(super) fn creatable(version: &RoomVersionId) -> Result<RoomVersion> {
    RoomVersion::new(version).ok_or_else(|| {
        EngineError::refused(
            ruma::api::error::ErrorKind::UnsupportedRoomVersion,
            format!("this server can't make rooms of version {version}"),
        )
    })
}

/// Refuses a room whose wanted state the rules don't allow.
fn invalid_state(error: EngineError) -> EngineError {
    match error {
        EngineError::Refused { message, .. } => {
            EngineError::refused(ruma::api::error::ErrorKind::InvalidRoomState, message)
        }
        error => error,
    }
}

fn room_in_use() -> EngineError {
    EngineError::refused(
        ruma::api::error::ErrorKind::RoomInUse,
        "that alias is taken",
    )
}

/// A commit that failed because somebody else took the alias at the same moment.
fn taken(error: EngineError, plan: &RoomPlan) -> EngineError {
    match &error {
        EngineError::Duplicate if plan.alias.is_some() => room_in_use(),
        _ => error,
    }
}

/// Since version 12, those invited to a trusted chat are creators as well.
fn add_creators(
    content: &mut CanonicalJsonObject,
    session: &Session,
    plan: &RoomPlan,
) -> Result<()> {
    let user_id = |id: &CanonicalJsonValue| {
        let id = id.as_str()?;
        <&UserId>::try_from(id).ok().map(ToString::to_string)
    };
    let mut creators: Vec<String> = match content.get("additional_creators") {
        None => Vec::new(),
        Some(list) => list
            .as_array()
            .and_then(|list| list.iter().map(user_id).collect())
            .ok_or_else(|| {
                EngineError::invalid_param("`additional_creators` is a list of user ids")
            })?,
    };
    if plan.preset == Preset::TrustedPrivateChat {
        creators.extend(plan.invite.iter().map(ToString::to_string));
    }
    creators.retain(|id| *id != session.user_id.as_str());
    creators.sort_unstable();
    creators.dedup();
    if creators.is_empty() {
        content.remove("additional_creators");
    } else {
        let creators = creators.into_iter().map(Into::into).collect::<Vec<_>>();
        content.insert("additional_creators".to_owned(), creators.into());
    }
    Ok(())
}

/// The power levels of a new room: the spec's defaults, the preset's, then the creator's wishes.
pub(super) fn power_levels(
    session: &Session,
    plan: &RoomPlan,
    version: &RoomVersion,
) -> Result<CanonicalJsonObject> {
    let mut users = serde_json::Map::new();
    if !version.creators_are_privileged() {
        users.insert(session.user_id.to_string(), json!(100));
        if plan.preset == Preset::TrustedPrivateChat {
            users.extend(
                plan.invite
                    .iter()
                    .map(|user| (user.to_string(), json!(100))),
            );
        }
    }
    let tombstone = if version.creators_are_privileged() {
        150
    } else {
        100
    };
    let levels = json!({
        "ban": 50,
        "events": {
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.encryption": 100,
            "m.room.history_visibility": 100,
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.server_acl": 100,
            "m.room.tombstone": tombstone,
        },
        "events_default": 0,
        "invite": if plan.preset == Preset::PublicChat { 50 } else { 0 },
        "kick": 50,
        "redact": 50,
        "state_default": 50,
        "users": users,
        "users_default": 0,
    });
    let mut levels = to_content(&levels)?;
    levels.extend(plan.power_levels.clone());
    Ok(levels)
}

/// The events of a preset. Where guests are kept out there is none that says so, as that is what holds without one.
fn preset_events(preset: Preset) -> Vec<Step> {
    let (join_rule, guests) = match preset {
        Preset::PublicChat => ("public", None),
        Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", Some("can_join")),
    };
    let guests =
        guests.map(|guests| step("m.room.guest_access", &json!({ "guest_access": guests })));
    [
        step("m.room.join_rules", &json!({ "join_rule": join_rule })),
        step(
            "m.room.history_visibility",
            &json!({ "history_visibility": "shared" }),
        ),
    ]
    .into_iter()
    .chain(guests)
    .flatten()
    .collect()
}

fn step(event_type: &str, value: &Value) -> Result<Step> {
    Ok((event_type.into(), String::new(), to_content(value)?))
}

pub(super) fn to_content(value: &Value) -> Result<CanonicalJsonObject> {
    content::from_serializable(value).map_err(|error| EngineError::bad_json(error.to_string()))
}

/// A text in an event's content.
pub(super) fn text_of(event: &parley_protocol::StateEvent, field: &str) -> Option<String> {
    let content: CanonicalJsonObject = event.content_as()?;
    content.get(field)?.as_str().map(ToOwned::to_owned)
}
