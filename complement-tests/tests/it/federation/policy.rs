//! Rooms with a policy server.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{post, put},
};
use parley_conformance::{Answer, Client, Peer, Resident, TestServer, federated};
use ruma::{
    CanonicalJsonObject, RoomVersionId,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_event},
};
use serde_json::{Value, json};

use super::rooms::{becomes, hear, join_by, read, say};
use crate::rooms::{BASE, act_self, create, get_state, quoted, room_path, set_state, try_say};

/// Signs whatever isn't spam.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    /// Its name, and its key.
    signs: Arc<OnceLock<(String, Ed25519KeyPair)>>,
    asked: Arc<AtomicUsize>,
}

impl Judge {
    pub(super) async fn start(&self) -> Peer {
        let told = put(async || Json(json!({ "pdus": {} })));
        let router = Router::new()
            .route("/_matrix/federation/v1/send/{id}", told)
            .route("/_matrix/policy/v1/sign", post(judge))
            .with_state(self.clone());
        let peer = Peer::start(router).await;
        let pair = peer.pair_as("policy_server");
        self.signs.set((peer.name().to_string(), pair)).unwrap();
        peer
    }

    /// The signature on an event.
    fn sign(&self, event: &Value) -> Value {
        let (name, pair) = self.signs.get().unwrap();
        let mut event: CanonicalJsonObject = serde_json::from_value(event.clone()).unwrap();
        event.remove("signatures");
        let rules = RoomVersionId::V11.rules().unwrap();
        sign_event(name, pair, &mut event, &rules.redaction).unwrap();
        serde_json::to_value(&event["signatures"]).unwrap()
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// What names it in a room.
    pub(super) fn policy(&self) -> Value {
        let (name, pair) = self.signs.get().unwrap();
        let key = Base64::<Standard>::new(pair.public_key().to_vec()).encode();
        json!({ "via": name, "public_keys": { "ed25519": key } })
    }
}

async fn judge(State(judge): State<Judge>, Json(event): Json<Value>) -> (StatusCode, Json<Value>) {
    judge.asked.fetch_add(1, Ordering::SeqCst);
    match event["content"].to_string().contains("spam") {
        true => {
            let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "no spam here" });
            (StatusCode::BAD_REQUEST, Json(refusal))
        }
        false => (StatusCode::OK, Json(judge.sign(&event))),
    }
}

async fn room_with(alice: &Client, policy: Value) -> String {
    let room_id = create(
        alice,
        json!({ "preset": "public_chat", "room_version": "11" }),
    )
    .await;
    set_state(alice, &room_id, "m.room.policy", "", policy)
        .await
        .ok();
    room_id
}

#[tokio::test]
async fn what_people_say_is_signed_by_the_policy_server_or_refused_in_its_words() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let judge = Judge::default();
        let peer = judge.start().await;
        let room_id = room_with(&alice, judge.policy()).await;
        // Without a user in the room it is none.
        say(&alice, &room_id, "spam for now").await;
        assert_eq!(judge.asked(), 0);
        let _resident = Resident::join(&peer, &servers[0], &room_id).await;
        join_by(&bob, &room_id, &servers[0]).await;
        let asked = judge.asked();
        let said = say(&alice, &room_id, "hello").await;
        assert_eq!(judge.asked(), asked + 1);
        // Who gets it with the signature needn't ask.
        hear(&bob, &room_id, &said).await;
        assert_eq!(judge.asked(), asked + 1);
        let refused = try_say(&alice, &room_id, "more spam", "more").await;
        assert_eq!(refused.body["error"], "no spam here");
        refused.is_refused(403, "M_FORBIDDEN");
        let refused = try_say(&bob, &room_id, "spam from afar", "afar").await;
        refused.is_refused(403, "M_FORBIDDEN");
        let asked = judge.asked();
        let kind = "m.room.policy";
        set_state(&alice, &room_id, kind, "", json!({})).await.ok();
        assert_eq!(judge.asked(), asked);
        say(&alice, &room_id, "spam is free again").await;
        let read = read(&alice, &room_id).await;
        assert_eq!(read, ["spam is free again", "hello", "spam for now"]);
    })
    .await;
}

#[tokio::test]
async fn what_another_server_sends_without_signature_is_shown_only_if_the_policy_server_signs_it() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let judge = Judge::default();
        let peer = judge.start().await;
        let room_id = room_with(&alice, judge.policy()).await;
        let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let asked = judge.asked();
        let right = mallory.say("hello").await;
        hear(&alice, &room_id, &right).await;
        assert_eq!(judge.asked(), asked + 1);
        mallory.say("spam").await;
        // What is built on it is judged by itself.
        let next = mallory.say("hello again").await;
        hear(&alice, &room_id, &next).await;
        assert_eq!(read(&alice, &room_id).await, ["hello again", "hello"]);
        // With the signature, nobody is asked.
        let asked = judge.asked();
        let (id, mut signed) = mallory.message("signed", |_| ());
        let signatures = judge.sign(&signed);
        let own = peer.name().as_str();
        signed["signatures"][own]["ed25519:policy_server"] =
            signatures[own]["ed25519:policy_server"].clone();
        mallory.send(vec![signed]).await.ok();
        hear(&alice, &room_id, &id).await;
        assert_eq!(judge.asked(), asked);
    })
    .await;
}

#[tokio::test]
async fn without_its_policy_server_a_room_is_silent_until_that_is_taken_away() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let judge = Judge::default();
        let peer = judge.start().await;
        let room_id = room_with(&alice, judge.policy()).await;
        let resident = Resident::join(&peer, &servers[0], &room_id).await;
        say(&alice, &room_id, "before").await;
        drop(resident);
        drop(peer);
        let refused = try_say(&alice, &room_id, "meanwhile", "meanwhile").await;
        assert!(!refused.status.is_success());
        set_state(&alice, &room_id, "m.room.policy", "", json!({}))
            .await
            .ok();
        say(&alice, &room_id, "after").await;
        assert_eq!(read(&alice, &room_id).await, ["after", "before"]);
    })
    .await;
}

#[tokio::test]
async fn many_who_speak_at_once_are_all_signed() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let judge = Judge::default();
        let peer = judge.start().await;
        let room_id = room_with(&alice, judge.policy()).await;
        let _resident = Resident::join(&peer, &servers[0], &room_id).await;
        let texts: Vec<String> = (0..20).map(|count| format!("at once {count}")).collect();
        let all = texts.iter().map(|text| say(&alice, &room_id, text));
        futures::future::join_all(all).await;
        let mut said = read(&alice, &room_id).await;
        said.sort();
        let mut texts = texts;
        texts.sort();
        assert_eq!(said, texts);
    })
    .await;
}

/// Has somebody do something to a room by another server, for a reason.
async fn ask_by(
    client: &Client,
    action: &str,
    room_id: &str,
    by: &TestServer,
    reason: &str,
) -> Answer {
    let (room, by) = (quoted(room_id), quoted(by.name()));
    let path = format!("{BASE}/{action}/{room}?server_name={by}");
    client.post(&path, json!({ "reason": reason })).await
}

#[tokio::test]
async fn what_another_server_brings_is_signed_before_it_is_told_and_comes_back_with_the_signature()
{
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let judge = Judge::default();
        let peer = judge.start().await;
        let room_id = room_with(&alice, judge.policy()).await;
        let _resident = Resident::join(&peer, &servers[0], &room_id).await;
        let asked = judge.asked();
        let refused = ask_by(&bob, "join", &room_id, &servers[0], "spam").await;
        refused.is_refused(403, "M_FORBIDDEN");
        let of_bob = get_state(&alice, &room_id, "m.room.member", &bob.user_id).await;
        of_bob.is_refused(404, "M_NOT_FOUND");
        ask_by(&bob, "join", &room_id, &servers[0], "").await.ok();
        // The server that comes in needn't ask.
        assert_eq!(judge.asked(), asked + 2);
        let member = format!("state/m.room.member/{}?format=event", quoted(&bob.user_id));
        let join = bob.get(&room_path(&room_id, &member)).await.ok();
        let join_id = join["event_id"].as_str().unwrap();
        let path = format!("/_matrix/federation/v1/event/{}", quoted(join_id));
        for server in &*servers {
            let join = peer.get(server, &path).await.ok()["pdus"][0].take();
            let signatures = &join["signatures"][peer.name().as_str()];
            assert!(signatures["ed25519:policy_server"].is_string(), "{join}");
        }
        let rules = json!({ "join_rule": "knock" });
        let set = set_state(&alice, &room_id, "m.room.join_rules", "", rules);
        set.await.ok();
        let carol = servers[1].register("carol").await;
        act_self(&bob, &room_id, "leave").await.ok();
        becomes(&alice, &room_id, &bob, "leave").await;
        let refused = ask_by(&carol, "knock", &room_id, &servers[0], "spam").await;
        refused.is_refused(403, "M_FORBIDDEN");
        ask_by(&carol, "knock", &room_id, &servers[0], "")
            .await
            .ok();
        becomes(&alice, &room_id, &carol, "knock").await;
    })
    .await;
}
