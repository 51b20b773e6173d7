//! `GET /_matrix/client/v3/notifications`: <https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3notifications>

use parley_engine::{
    limits::Action,
    stream::token::Token,
    unread::{Notification, NotificationsRequest},
};
use ruma::api::client::push::get_notifications::v3::Request;
use serde_json::{Value, json};

use crate::{
    ApiError, ClientApi, Incoming, RawJson, Result,
    events::{EventWriter, Shown},
};

pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<RawJson> {
    let session = &incoming.session;
    let limits = api.engine.limits();
    limits.check(Action::History, session.user_nid)?;
    let from = api.engine.sync().token(incoming.from.as_deref()).await?;
    let wanted = NotificationsRequest {
        to: from.map(|token| token.position),
        limit: incoming
            .limit
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        only_highlights: incoming.only.as_deref() == Some("highlight"),
    };
    let rooms = api.engine.rooms();
    let unread = api.engine.unread();
    let found = unread.notifications(rooms, session, wanted).await?;
    let events = found.list.iter().map(|notification| &notification.event);
    let writer = EventWriter::new(&api, session, events).await?;
    let shown: Vec<Value> = found
        .list
        .iter()
        .map(|notification| show(&writer, notification))
        .collect::<serde_json::Result<_>>()
        .map_err(|_| ApiError::internal())?;
    let mut answer = json!({ "notifications": shown });
    if let Some(next) = found.next {
        answer["next_token"] = Token::at(next).to_string().into();
    }
    Ok(RawJson(answer.to_string().into()))
}

fn show(writer: &EventWriter<'_>, notification: &Notification) -> serde_json::Result<Value> {
    let event = writer.event(&notification.event, Shown::default());
    Ok(json!({
        "actions": notification.actions,
        "event": serde_json::from_str::<Value>(&event)?,
        "read": notification.read,
        "room_id": notification.room.id(),
        "ts": notification.event.origin_server_ts,
    }))
}
