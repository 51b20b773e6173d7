//! `GET /_matrix/client/v3/rooms/{roomId}/joined_members`:
//! <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidjoined_members>

use std::collections::BTreeMap;

use ruma::{UserId, api::client::membership::joined_members::v3::Request};
use serde::{Deserialize, Serialize};

use super::limit_history;
use crate::{ApiError, ClientApi, Incoming, RawJson, Result};

/// Not ruma's type, which leaves out what is null: clients rely on the keys.
#[derive(Serialize)]
struct Answer<'a> {
    joined: BTreeMap<&'a UserId, Profile>,
}

#[derive(Default, Deserialize, Serialize)]
struct Profile {
    #[serde(rename(deserialize = "displayname"))]
    display_name: Option<String>,
    avatar_url: Option<String>,
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    limit_history(&api, &incoming.session)?;
    let rooms = api.engine.rooms();
    let (room, _) = rooms
        .joined_room(&incoming.session, &incoming.room_id)
        .await?;
    rooms.need_all_members(&room).await?;
    let (_, state) = rooms
        .joined_room(&incoming.session, &incoming.room_id)
        .await?;
    let joined = state
        .joined_members()
        .map(|(user_id, member)| {
            let profile = member.entry.event.content_as().unwrap_or_default();
            (user_id.as_ref(), profile)
        })
        .collect();
    let json = serde_json::to_vec(&Answer { joined }).map_err(|_| ApiError::internal())?;
    Ok(RawJson(json.into()))
}
