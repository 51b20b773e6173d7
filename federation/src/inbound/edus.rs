//! What is fleeting, as other servers tell it in transactions.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#edus>

use std::{collections::BTreeMap, time::Duration};

use parley_engine::{EngineError, presence::RemotePresence, receipts::RemoteReceipt};
use ruma::{
    EventId, OwnedRoomId, OwnedUserId, RoomId, ServerName,
    api::federation::transactions::edu::{Edu, ReceiptData, TypingContent},
    events::receipt::ReceiptThread,
    presence::PresenceState,
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Federation;

/// How long somebody types unless their server says so again.
const TYPING: Duration = Duration::from_secs(30);
/// Of one transaction: users whose presence is told, and receipts.
const MAX_EACH: usize = 1_000;
/// Of an event's id, in bytes.
const MAX_EVENT_ID: usize = 255;

/// What an EDU tells, of those that are taken. Presence and receipts are of many users, so each is read by itself: one that
/// makes no sense takes nothing from the others.
enum Told<'a> {
    Typing(TypingContent),
    /// By the ids of rooms.
    Receipts(BTreeMap<String, &'a RawValue>),
    Presence(Vec<&'a RawValue>),
    Other,
}

/// What is told of the presence of one user.
#[derive(Deserialize)]
struct PresenceUpdate {
    user_id: OwnedUserId,
    presence: PresenceState,
    status_msg: Option<String>,
    /// The specification demands it; ruma's type does, too, but there are servers that leave it out.
    last_active_ago: Option<i64>,
}

/// Takes what a server tells. What it may not tell, or what makes no sense, is passed over.
pub(super) async fn receive(federation: &Federation, origin: &ServerName, edus: Vec<Raw<Edu>>) {
    for edu in edus {
        let Ok(told) = read(&edu) else {
            tracing::debug!(%origin, "an EDU makes no sense");
            continue;
        };
        let taken = match told {
            Told::Typing(content) => typing(federation, origin, &content).await,
            Told::Receipts(rooms) => receipts(federation, origin, rooms).await,
            Told::Presence(updates) => presence(federation, origin, updates).await,
            Told::Other => Ok(()),
        };
        if let Err(error) = taken {
            tracing::debug!(%origin, %error, "an EDU isn't taken");
        }
    }
}

fn read(edu: &Raw<Edu>) -> serde_json::Result<Told<'_>> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        edu_type: String,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Presence<'a> {
        #[serde(borrow)]
        push: Vec<&'a RawValue>,
    }
    let edu: Envelope<'_> = serde_json::from_str(edu.json().get())?;
    let content = edu.content.get();
    Ok(match &*edu.edu_type {
        "m.typing" => Told::Typing(serde_json::from_str(content)?),
        "m.receipt" => Told::Receipts(serde_json::from_str(content)?),
        "m.presence" => Told::Presence(serde_json::from_str::<Presence<'_>>(content)?.push),
        _ => Told::Other,
    })
}

/// Who has read what of a room, by what is told of it.
fn readers(told: &RawValue) -> impl Iterator<Item = (OwnedUserId, ReceiptData)> {
    #[derive(Default, Deserialize)]
    struct Receipts<'a> {
        #[serde(rename = "m.read", default, borrow)]
        read: BTreeMap<String, &'a RawValue>,
    }
    let told: Receipts<'_> = serde_json::from_str(told.get()).unwrap_or_default();
    told.read
        .into_iter()
        .filter_map(|(user_id, receipt)| Some((user_id.try_into().ok()?, read_receipt(receipt)?)))
}

fn read_receipt(told: &RawValue) -> Option<ReceiptData> {
    let receipt: ReceiptData = serde_json::from_str(told.get()).ok()?;
    let root = match &receipt.data.thread {
        ReceiptThread::Thread(root) => Some(root),
        _ => None,
    };
    // What is taken of an EDU is stored together: one receipt that can't be would keep the others from it.
    let is_id = |id: &EventId| id.as_str().len() <= MAX_EVENT_ID && !id.as_str().contains('\0');
    let mut ids = receipt.event_ids.iter().chain(root);
    ids.all(|id| is_id(id)).then_some(receipt)
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
    rooms: BTreeMap<String, &RawValue>,
) -> Result<(), EngineError> {
    let mut taken = Vec::new();
    for (room_id, told) in rooms.into_iter().take(MAX_EACH) {
        let Ok(room_id) = OwnedRoomId::try_from(room_id) else {
            continue;
        };
        if !heeds(federation, origin, &room_id).await {
            continue;
        }
        let own = |(user_id, _): &(OwnedUserId, _)| user_id.server_name() == origin;
        for (user_id, receipt) in readers(told).filter(own) {
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
    updates: Vec<&RawValue>,
) -> Result<(), EngineError> {
    for update in updates.into_iter().take(MAX_EACH) {
        let Ok(update) = serde_json::from_str::<PresenceUpdate>(update.get()) else {
            continue;
        };
        if update.user_id.server_name() != origin {
            continue;
        }
        let said = RemotePresence {
            presence: update.presence,
            status_message: update.status_msg,
            last_active_ago: update.last_active_ago.unwrap_or(0),
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

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn edu(edu_type: &str, content: Value) -> Raw<Edu> {
        let edu = json!({ "edu_type": edu_type, "content": content });
        Raw::from_json(to_raw_value(&edu).unwrap())
    }

    fn receipt(data: Value, event_id: &str) -> Value {
        json!({ "data": data, "event_ids": [event_id] })
    }

    fn who_read(told: &Value) -> Vec<OwnedUserId> {
        let told = to_raw_value(told).unwrap();
        readers(&told).map(|(user_id, _)| user_id).collect()
    }

    #[test]
    fn one_receipt_that_makes_no_sense_takes_nothing_from_the_others_of_the_room() {
        let good = receipt(json!({ "ts": 5 }), "$a");
        let told = json!({ "m.read": {
            "no user": good,
            "@id:b": receipt(json!({ "ts": 5 }), "no id"),
            "@long:b": receipt(json!({ "ts": 5 }), &format!("${}", "x".repeat(255))),
            "@none:b": null,
            "@nul:b": receipt(json!({ "ts": 5 }), "$\0"),
            "@root:b": receipt(json!({ "ts": 5, "thread_id": "$\0" }), "$a"),
            "@thread:b": receipt(json!({ "ts": 5, "thread_id": 7 }), "$a"),
            "@time:b": receipt(json!({ "ts": "five" }), "$a"),
            "@untimed:b": receipt(json!({}), "$a"),
            "@you:b": good,
        } });
        let read = [user_id!("@untimed:b"), user_id!("@you:b")];
        assert_eq!(who_read(&told), read);
    }

    #[test]
    fn a_room_of_which_nothing_is_told_that_makes_sense_takes_nothing_from_others() {
        for told in [json!({}), json!(7), json!({ "m.read": null })] {
            assert!(who_read(&told).is_empty(), "{told}");
        }
        let edu = edu("m.receipt", json!({ "!a:b": {}, "!c:d": 7, "no room": {} }));
        let Told::Receipts(rooms) = read(&edu).unwrap() else {
            panic!("these are receipts");
        };
        assert_eq!(rooms.len(), 3);
    }

    #[test]
    fn presence_is_read_also_where_it_is_not_said_when_somebody_was_active() {
        let edu = edu(
            "m.presence",
            json!({ "push": [7, { "user_id": "@a:b", "presence": "online" }] }),
        );
        let Told::Presence(updates) = read(&edu).unwrap() else {
            panic!("this is presence");
        };
        let read = |update: &RawValue| serde_json::from_str::<PresenceUpdate>(update.get());
        assert!(read(updates[0]).is_err());
        let update = read(updates[1]).unwrap();
        assert_eq!(update.user_id, "@a:b");
        assert_eq!(update.last_active_ago, None);
    }

    #[test]
    fn what_is_no_edu_at_all_makes_no_sense() {
        let edus = [
            edu("m.presence", json!({})),
            edu("m.presence", json!({ "push": {} })),
            edu("m.receipt", json!([])),
            edu("m.typing", json!({ "typing": true })),
            Raw::from_json(to_raw_value(&json!(7)).unwrap()),
        ];
        for edu in edus {
            assert!(read(&edu).is_err(), "{edu:?}");
        }
    }
}
