//! `POST /_matrix/client/unstable/im.parley/direct_chat/{userId}`, an operation of Parley's own: docs/direct-chats.md

use parley_engine::limits::Action;
use ruma::{
    OwnedUserId,
    api::{
        IncomingRequest, auth_scheme::AccessToken, client::room::create_room,
        error::DeserializationError,
    },
    metadata,
};
use serde_json::json;

use crate::{ClientApi, Incoming, RawJson, Result, endpoints::admit};

/// Whose direct chat with the sender is wanted.
#[derive(Debug)]
pub(super) struct Request {
    user_id: OwnedUserId,
}

metadata! {
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/im.parley/direct_chat/{user_id}",
}

impl IncomingRequest for Request {
    type EndpointError = ruma::api::error::Error;
    /// What is answered is another; ruma wants a type of its own kind here.
    type OutgoingResponse = create_room::v3::Response;

    fn try_from_http_request_inner(
        _: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let user_id = path.first().copied().unwrap_or_default();
        Ok(Self {
            user_id: user_id.try_into()?,
        })
    }
}

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    admit(&api, session, Action::Write)?;
    let limits = api.engine.limits();
    let chat = api
        .engine
        .rooms()
        .direct_chat(session, &incoming.user_id, || {
            limits.check(Action::RoomCreation, session.user_nid)?;
            limits.check(Action::Invite, session.user_nid)
        })
        .await?;
    let answer = json!({ "room_id": chat.room_id, "created": chat.created });
    Ok(RawJson(answer.to_string().into()))
}
