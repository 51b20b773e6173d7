//! What is fleeting, as other servers tell it in transactions.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

use std::time::Duration;

use parley_engine::{EngineError, presence::RemotePresence, receipts::RemoteReceipt};
use ruma::{
    OwnedUserId, RoomId, ServerName, UserId,
    api::federation::transactions::edu::{Edu, PresenceContent, ReceiptContent, TypingContent},
    events::receipt::ReceiptThread,
    serde::Raw,
};

use crate::Federation;

/// How long somebody types unless their server says so again.
const TYPING: Duration = Duration::from_secs(30);
/// Of one transaction: users whose presence is told, and receipts.
const MAX_EACH: usize = 1_000;

/// Takes what a server tells. What it may not tell, or what makes no sense, is passed over.
pub(super) async fn receive(federation: &Federation, origin: &ServerName, edus: Vec<Raw<Edu>>) {
    for edu in edus {
        let Ok(edu) = edu.deserialize() else {
            tracing::debug!(%origin, "an EDU makes no sense");
            continue;
        };
        let taken = match edu {
            Edu::Typing(content) => typing(federation, origin, &content).await,
            Edu::Receipt(content) => receipts(federation, origin, content).await,
            Edu::Presence(content) => presence(federation, origin, content).await,
            _ => Ok(()),
        };
        if let Err(error) = taken {
            tracing::debug!(%origin, %error, "an EDU isn't taken");
        }
    }
}

async fn typing(
    federation: &Federation,
    origin: &ServerName,
    content: &TypingContent,
) -> Result<(), EngineError> {
    let engine = federation.engine();
    if content.user_id.server_name() != origin || !heeds(federation, origin, &content.room_id).await
    {
        return Ok(());
    }
    let registry = engine.rooms().registry();
    let Some(room) = registry.get(&content.room_id).await? else {
        return Ok(());
    };
    let state = registry.load(&room).await?;
    if room.may_have(&state, &content.user_id) {
        let timeout = content.typing.then_some(TYPING);
        engine.typing().set(room.nid(), &content.user_id, timeout);
    }
    Ok(())
}

async fn receipts(
    federation: &Federation,
    origin: &ServerName,
    content: ReceiptContent,
) -> Result<(), EngineError> {
    let mut taken = Vec::new();
    for (room_id, receipts) in content.receipts.into_iter().take(MAX_EACH) {
        if !heeds(federation, origin, &room_id).await {
            continue;
        }
        let own = |(user_id, _): &(OwnedUserId, _)| user_id.server_name() == origin;
        for (user_id, receipt) in receipts.read.into_iter().filter(own) {
            let thread = match &receipt.data.thread {
                ReceiptThread::Main => Some("main".to_owned()),
                ReceiptThread::Thread(root) => Some(root.to_string()),
                _ => None,
            };
            let received_at = receipt.data.ts.map_or(0, |time| i64::from(time.get()));
            let receipts = receipt.event_ids.into_iter().take(MAX_EACH);
            taken.extend(receipts.map(|event_id| RemoteReceipt {
                room_id: room_id.clone(),
                user_id: user_id.clone(),
                event_id,
                thread: thread.clone(),
                received_at,
            }));
            if taken.len() >= MAX_EACH {
                taken.truncate(MAX_EACH);
                return federation.engine().receipts().take(taken).await;
            }
        }
    }
    federation.engine().receipts().take(taken).await
}

async fn presence(
    federation: &Federation,
    origin: &ServerName,
    content: PresenceContent,
) -> Result<(), EngineError> {
    let own = |user_id: &UserId| user_id.server_name() == origin;
    for update in content.push.into_iter().take(MAX_EACH) {
        if !own(&update.user_id) {
            continue;
        }
        let said = RemotePresence {
            presence: update.presence,
            status_message: update.status_msg,
            last_active_ago: i64::try_from(u64::from(update.last_active_ago)).unwrap_or(i64::MAX),
        };
        federation
            .engine()
            .presence()
            .take(&update.user_id, said)
            .await?;
    }
    Ok(())
}

/// Whether what a server tells of a room is heeded.
async fn heeds(federation: &Federation, origin: &ServerName, room_id: &RoomId) -> bool {
    let rooms = federation.engine().rooms();
    rooms.heeds_server(origin, room_id).await.unwrap_or(false)
}
