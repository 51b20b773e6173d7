//! Rooms of every version, and the ways of servers that know only the first two.

use std::sync::{Arc, OnceLock};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::put,
};
use parley_conformance::{Client, Peer, Resident, federated};
use ruma::{
    CanonicalJsonObject, RoomVersionId,
    signatures::{Ed25519KeyPair, sign_event},
};
use serde_json::{Value, json};

use super::rooms::{hear, join_by, say, sync_until};
use crate::rooms::{BASE, act_self, create, get_event, get_state, quoted, redact, set_state};

#[tokio::test]
async fn rooms_of_every_version_span_servers() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let told = alice.get(&format!("{BASE}/capabilities")).await.ok();
        let versions = told["capabilities"]["m.room_versions"]["available"].clone();
        for version in (1..=12).map(|version: u32| version.to_string()) {
            assert_eq!(versions[&version], "stable");
            let plan = json!({ "preset": "public_chat", "room_version": version });
            let room_id = create(&alice, plan).await;
            join_by(&bob, &room_id, &servers[0]).await;
            let hello = say(&bob, &room_id, "hello").await;
            hear(&alice, &room_id, &hello).await;
            let topic = json!({ "topic": version });
            set_state(&alice, &room_id, "m.room.topic", "", topic.clone())
                .await
                .ok();
            let welcome = say(&alice, &room_id, "welcome").await;
            hear(&bob, &room_id, &welcome).await;
            let seen = get_state(&bob, &room_id, "m.room.topic", "").await.ok();
            assert_eq!(seen, topic, "{version}");
            let redaction = redact(&alice, &room_id, &hello).await.ok();
            hear(&bob, &room_id, redaction["event_id"].as_str().unwrap()).await;
            let left = get_event(&bob, &room_id, &hello).await.ok();
            assert_eq!(left["content"], json!({}), "{version}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_invitation_comes_as_servers_send_it_that_know_the_first_versions_only() {
    federated(1, async |servers| {
        let bob = servers[0].register("bob").await;
        let peer = Peer::start(Router::new()).await;
        for version in ["1", "2"] {
            let mut mallory = Resident::of_made_up(&peer, &servers[0], version);
            mallory.room_id = format!("!of-version-{version}:{}", peer.name());
            let (id, mut invite) = mallory.message("", |event| {
                event["type"] = json!("m.room.member");
                event["state_key"] = json!(bob.user_id);
                event["content"] = json!({ "membership": "invite" });
            });
            let shown = json!([{
                "type": "m.room.create", "state_key": "", "sender": mallory.user_id,
                "content": { "creator": mallory.user_id, "room_version": version },
            }]);
            invite["unsigned"] = json!({ "invite_room_state": shown });
            let path = format!(
                "/_matrix/federation/v1/invite/{}/{}",
                quoted(&mallory.room_id),
                quoted(&id)
            );
            let answer = peer.put(&servers[0], &path, invite.clone()).await.ok();
            assert_eq!(answer[0], 200);
            let event = &answer[1]["event"];
            assert_eq!(event["event_id"], invite["event_id"]);
            assert!(event["signatures"].get(servers[0].name()).is_some());
            let room_id = &mallory.room_id;
            sync_until(&bob, |told| told["rooms"]["invite"][room_id].is_object()).await;
        }
        let mallory = Resident::of_made_up(&peer, &servers[0], "1");
        for (id, wrong) in [
            mallory.message("", |event| event["type"] = json!("m.room.name")),
            mallory.message("", |event| {
                event["type"] = json!("m.room.member");
                event["state_key"] = json!(bob.user_id);
                event["content"] = json!({ "membership": "join" });
            }),
            mallory.message("", |event| {
                event["type"] = json!("m.room.member");
                event["state_key"] = json!("@carol:elsewhere.test");
                event["content"] = json!({ "membership": "invite" });
            }),
        ] {
            let path = format!(
                "/_matrix/federation/v1/invite/{}/{}",
                quoted(&mallory.room_id),
                quoted(&id)
            );
            let refused = peer.put(&servers[0], &path, wrong).await;
            refused.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

/// The name and the key of a server that answers.
type Signer = Arc<OnceLock<(String, Ed25519KeyPair)>>;

#[tokio::test]
async fn a_server_that_knows_only_the_older_way_of_inviting_is_invited_that_way() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let signer = Signer::default();
        let signs = async |State(signer): State<Signer>,
                           Path((_, _)): Path<(String, String)>,
                           Json(mut event): Json<Value>| {
            let (name, pair) = signer.get().unwrap();
            event.as_object_mut().unwrap().remove("unsigned");
            let mut event: CanonicalJsonObject = serde_json::from_value(event).unwrap();
            let rules = RoomVersionId::V1.rules().unwrap();
            sign_event(name, pair, &mut event, &rules.redaction).unwrap();
            Json(json!([200, { "event": event }]))
        };
        let told = put(async || Json(json!({ "pdus": {} })));
        let router = Router::new()
            .route("/_matrix/federation/v1/send/{id}", told)
            .route("/_matrix/federation/v1/invite/{room}/{event}", put(signs))
            .with_state(Arc::clone(&signer));
        let peer = Peer::start(router).await;
        signer
            .set((peer.name().to_string(), peer.pair_as("peer")))
            .unwrap();
        let carol = format!("@carol:{}", peer.name());
        for (version, is_known) in [("1", true), ("2", true), ("11", false)] {
            let room_id = create(&alice, json!({ "room_version": version })).await;
            let path = format!("{BASE}/rooms/{}/invite", quoted(&room_id));
            let answer = alice.post(&path, json!({ "user_id": carol })).await;
            assert_eq!(answer.status.is_success(), is_known, "{version}");
            if is_known {
                let member = get_state(&alice, &room_id, "m.room.member", &carol).await;
                assert_eq!(member.ok()["membership"], "invite");
            }
            act_self(&alice, &room_id, "leave").await.ok();
        }
    })
    .await;
}

/// An invitation, and where it is sent.
pub(super) fn invitation(by: &Resident<'_>, user: &Client) -> (String, Value) {
    let (id, invite) = by.message("", |event| {
        event["type"] = json!("m.room.member");
        event["state_key"] = json!(user.user_id);
        event["content"] = json!({ "membership": "invite" });
    });
    let (room, event) = (quoted(&by.room_id), quoted(&id));
    let path = format!("/_matrix/federation/v2/invite/{room}/{event}");
    (path, invite)
}

#[tokio::test]
async fn an_invitation_need_not_show_anything_of_the_room() {
    federated(1, async |servers| {
        let bob = servers[0].register("bob").await;
        let peer = Peer::start(Router::new()).await;
        for (name, shown) in [("left-out", None), ("null", Some(Value::Null))] {
            let mut mallory = Resident::of_made_up(&peer, &servers[0], "11");
            mallory.room_id = format!("!{name}:{}", peer.name());
            let (path, invite) = invitation(&mallory, &bob);
            let mut body = json!({ "room_version": "11", "event": invite });
            if let Some(shown) = shown {
                body["invite_room_state"] = shown;
            }
            let answer = peer.put(&servers[0], &path, body).await.ok();
            let signatures = &answer["event"]["signatures"];
            assert!(signatures.get(servers[0].name()).is_some(), "{name}");
            let room_id = &mallory.room_id;
            sync_until(&bob, |told| told["rooms"]["invite"][room_id].is_object()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_invitation_since_version_12_shows_events_of_the_room_and_its_create_event() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(
            &alice,
            json!({ "room_version": "12", "preset": "public_chat" }),
        )
        .await;
        let peer = Peer::start(Router::new()).await;
        let mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let state: Vec<Value> = mallory.state.iter().map(|(_, event)| event.clone()).collect();
        let rest: Vec<&Value> = state
            .iter()
            .filter(|event| event["type"] != "m.room.create")
            .collect();
        let mut forged = state.clone();
        for event in &mut forged {
            event["signatures"] = json!({});
        }
        let stripped: Vec<Value> = state
            .iter()
            .map(|event| {
                let (kind, content) = (&event["type"], &event["content"]);
                json!({ "type": kind, "state_key": "", "sender": event["sender"], "content": content })
            })
            .collect();
        for (shown, is_right) in [
            (None, false),
            (Some(Value::Null), false),
            (Some(json!([])), false),
            (Some(json!([null])), false),
            (Some(json!(rest)), false),
            (Some(json!(forged)), false),
            (Some(json!(stripped)), false),
            (Some(json!(state)), true),
        ] {
            let (path, invite) = invitation(&mallory, &bob);
            let mut body = json!({ "room_version": "12", "event": invite });
            if let Some(shown) = shown {
                body["invite_room_state"] = shown;
            }
            let answer = peer.put(&servers[1], &path, body).await;
            match is_right {
                true => _ = answer.ok(),
                false => answer.is_refused(400, "M_INVALID_PARAM"),
            }
        }
    })
    .await;
}
