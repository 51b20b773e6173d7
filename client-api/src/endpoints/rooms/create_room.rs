//! `POST /_matrix/client/v3/createRoom`:
//! <https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom>

use parley_engine::{
    limits::Action,
    rooms::create::{InitialState, Preset, RoomPlan},
};
use ruma::{
    CanonicalJsonObject, OwnedRoomAliasId, ServerName,
    api::{
        client::room::{
            Visibility,
            create_room::v3::{Request, Response, RoomPreset},
        },
        error::ErrorKind,
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::invite;
use crate::{ApiError, ClientApi, Incoming, Result, endpoints::admit};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response> {
    let Incoming {
        request, session, ..
    } = incoming;
    admit(&api, &session, Action::RoomCreation)?;
    let plan = plan(request, &api.engine.settings().server_name)?;
    let limits = api.engine.limits();
    limits.check_many(Action::Invite, session.user_nid, plan.invitations())?;
    let room_id = api.engine.rooms().create(&session, &plan).await?;
    Ok(Response::new(room_id))
}

/// What the request asks for, in the engine's terms.
fn plan(request: Request, server_name: &ServerName) -> Result<RoomPlan> {
    let published = match request.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => return Err(invalid("`visibility` is public or private")),
    };
    let preset = match (request.preset, published) {
        (Some(RoomPreset::PublicChat), _) | (None, true) => Preset::PublicChat,
        (Some(RoomPreset::PrivateChat), _) | (None, false) => Preset::PrivateChat,
        (Some(RoomPreset::TrustedPrivateChat), _) => Preset::TrustedPrivateChat,
        (Some(_), _) => {
            return Err(invalid(
                "`preset` is private_chat, public_chat or trusted_private_chat",
            ));
        }
    };
    Ok(RoomPlan {
        notices_for: None,
        version: request.room_version,
        preset,
        published,
        creation_content: object(request.creation_content.as_ref().map(|raw| raw.json()))?,
        power_levels: object(
            request
                .power_level_content_override
                .as_ref()
                .map(|raw| raw.json()),
        )?,
        initial_state: request
            .initial_state
            .iter()
            .map(|raw| initial_state(raw.json()))
            .collect::<Result<_>>()?,
        name: request.name,
        topic: request.topic,
        alias: request
            .room_alias_name
            .map(|name| alias(&name, server_name))
            .transpose()?,
        invite: request.invite,
        invite_addresses: request.invite_3pid.iter().map(invite::address).collect(),
        is_direct: request.is_direct,
        direct_chat: None,
    })
}

fn object(json: Option<&RawValue>) -> Result<CanonicalJsonObject> {
    match json {
        None => Ok(CanonicalJsonObject::new()),
        Some(json) => serde_json::from_str(json.get()).map_err(|error| bad_json(&error)),
    }
}

fn initial_state(json: &RawValue) -> Result<InitialState> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        event_type: String,
        #[serde(default)]
        state_key: String,
        content: Box<RawValue>,
    }
    let event: Event = serde_json::from_str(json.get()).map_err(|error| bad_json(&error))?;
    Ok(InitialState {
        event_type: event.event_type,
        state_key: event.state_key,
        content: event.content,
    })
}

/// The alias of a local part on this server.
fn alias(name: &str, server_name: &ServerName) -> Result<OwnedRoomAliasId> {
    let wrong =
        |character: char| character == ':' || character == '\0' || character.is_whitespace();
    if name.is_empty() || name.contains(wrong) {
        return Err(invalid(
            "`room_alias_name` is the part of an alias between # and :, without spaces",
        ));
    }
    OwnedRoomAliasId::try_from(format!("#{name}:{server_name}"))
        .map_err(|error| invalid(error.to_string()))
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::InvalidParam, message)
}

fn bad_json(error: &serde_json::Error) -> ApiError {
    ApiError::new(ErrorKind::BadJson, error.to_string())
}
