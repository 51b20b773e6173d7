//! Inviting people by an address, with an identity server.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use parley_conformance::{Answer, Client, Peer, TestOptions, TestServer, federated_with};
use ruma::{
    CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use super::rooms::{hear, say, sync_until};
use crate::rooms::{BASE, act_self, create, create_public, get_state, quoted};

/// An identity server that knows nobody but whom a test names.
#[derive(Clone, Debug, Default)]
struct Identity {
    signs: Arc<OnceLock<(String, Ed25519KeyPair)>>,
    /// Whose all addresses are.
    known: Arc<Mutex<Option<String>>>,
    /// What was noted last.
    noted: Arc<Mutex<Value>>,
    revoked: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Identity {
    async fn start(&self) -> Peer {
        let base = "/_matrix/identity/v2";
        let router = Router::new()
            .route(&format!("{base}/hash_details"), get(hash_details))
            .route(&format!("{base}/lookup"), post(look_up))
            .route(&format!("{base}/store-invite"), post(note))
            .route(&format!("{base}/pubkey/isvalid"), get(is_valid))
            .with_state(self.clone());
        let peer = Peer::start(router).await;
        let pair = peer.pair_as("0");
        self.signs.set((peer.name().to_string(), pair)).unwrap();
        peer
    }

    fn key(&self) -> String {
        let (_, pair) = self.signs.get().unwrap();
        Base64::<Standard>::new(pair.public_key().to_vec()).encode()
    }

    /// What it signs for somebody who has proven that an address is theirs.
    fn signed(&self, mxid: &str, sender: &str) -> Value {
        let (name, pair) = self.signs.get().unwrap();
        let object = json!({ "mxid": mxid, "sender": sender, "token": "abc123" });
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        sign_json(name, pair, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn hash_details(State(identity): State<Identity>, headers: HeaderMap) -> Json<Value> {
    identity.asked.fetch_add(1, Ordering::SeqCst);
    assert_eq!(headers["authorization"], "Bearer of-the-user");
    Json(json!({ "lookup_pepper": "matrixrocks", "algorithms": ["none", "sha256"] }))
}

async fn look_up(State(identity): State<Identity>, Json(asked): Json<Value>) -> Json<Value> {
    // The example of the specification.
    let hash = "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc";
    assert_eq!(asked["addresses"], json!([hash]));
    let known = identity.known.lock().unwrap().clone();
    Json(match known {
        Some(user_id) => json!({ "mappings": { hash: user_id } }),
        None => json!({ "mappings": {} }),
    })
}

async fn note(State(identity): State<Identity>, Json(noted): Json<Value>) -> Json<Value> {
    *identity.noted.lock().unwrap() = noted;
    let (name, _) = identity.signs.get().unwrap();
    Json(json!({
        "token": "abc123",
        "display_name": "a...@e...",
        "public_keys": [{
            "public_key": identity.key(),
            "key_validity_url": format!("https://{name}/_matrix/identity/v2/pubkey/isvalid"),
        }],
    }))
}

async fn is_valid(State(identity): State<Identity>) -> Json<Value> {
    identity.asked.fetch_add(1, Ordering::SeqCst);
    Json(json!({ "valid": !identity.revoked.load(Ordering::SeqCst) }))
}

fn asking(peer: &Peer) -> TestOptions {
    let mut options = TestOptions::default();
    options.federation.identity_servers = vec![peer.name().to_string()];
    options
}

fn address(peer: &Peer) -> Value {
    json!({
        "id_server": peer.name(), "id_access_token": "of-the-user",
        "medium": "email", "address": "Alice@example.com",
    })
}

async fn invite(client: &Client, room_id: &str, address: Value) -> Answer {
    let path = format!("{BASE}/rooms/{}/invite", quoted(room_id));
    client.post(&path, address).await
}

/// Tells a server that an address is a user's.
async fn bind(
    server: &TestServer,
    user: &Client,
    room_id: &str,
    sender: &str,
    signed: Value,
) -> Answer {
    let invite = json!({
        "medium": "email", "address": "alice@example.com", "mxid": user.user_id,
        "room_id": room_id, "sender": sender, "signed": signed,
    });
    let body = json!({
        "medium": "email", "address": "alice@example.com", "mxid": user.user_id,
        "invites": [invite],
    });
    server
        .client()
        .put("/_matrix/federation/v1/3pid/onbind", body)
        .await
}

async fn is_invited(client: &Client, room_id: &str) {
    sync_until(client, |told| told["rooms"]["invite"][room_id].is_object()).await;
}

#[tokio::test]
async fn whose_address_is_known_is_invited_as_if_by_name() {
    let identity = Identity::default();
    let peer = identity.start().await;
    federated_with(
        2,
        |_| asking(&peer),
        async |servers| {
            let alice = servers[0].register("alice").await;
            let bob = servers[1].register("bob").await;
            *identity.known.lock().unwrap() = Some(bob.user_id.clone());
            let room_id = create(&alice, json!({})).await;
            invite(&alice, &room_id, address(&peer)).await.ok();
            is_invited(&bob, &room_id).await;
            let room_id = create(&alice, json!({ "invite_3pid": [address(&peer)] })).await;
            is_invited(&bob, &room_id).await;
        },
    )
    .await;
}

#[tokio::test]
async fn who_proves_an_address_is_invited_from_another_server_and_joins() {
    let identity = Identity::default();
    let peer = identity.start().await;
    federated_with(
        2,
        |_| asking(&peer),
        async |servers| {
            let alice = servers[0].register("alice").await;
            let bob = servers[1].register("bob").await;
            let room_id = create(&alice, json!({ "name": "harbour" })).await;
            invite(&alice, &room_id, address(&peer)).await.ok();
            let noted = identity.noted.lock().unwrap().clone();
            assert_eq!(noted["address"], "alice@example.com");
            assert_eq!(noted["room_name"], "harbour");
            assert_eq!(noted["sender"], alice.user_id);
            let kind = "m.room.third_party_invite";
            let event = get_state(&alice, &room_id, kind, "abc123").await.ok();
            assert_eq!(event["display_name"], "a...@e...");
            assert_eq!(event["public_key"], identity.key());
            let signed = identity.signed(&bob.user_id, &alice.user_id);
            bind(&servers[1], &bob, &room_id, &alice.user_id, signed)
                .await
                .ok();
            is_invited(&bob, &room_id).await;
            let member = get_state(&alice, &room_id, "m.room.member", &bob.user_id).await;
            assert_eq!(
                member.ok()["third_party_invite"]["display_name"],
                "a...@e..."
            );
            act_self(&bob, &room_id, "join").await.ok();
            let said = say(&bob, &room_id, "hello").await;
            hear(&alice, &room_id, &said).await;
        },
    )
    .await;
}

#[tokio::test]
async fn who_proves_an_address_is_invited_by_their_own_server_where_that_is_in_the_room() {
    let identity = Identity::default();
    let peer = identity.start().await;
    federated_with(
        1,
        |_| asking(&peer),
        async |servers| {
            let alice = servers[0].register("alice").await;
            let bob = servers[0].register("bob").await;
            let room_id = create(&alice, json!({})).await;
            invite(&alice, &room_id, address(&peer)).await.ok();
            let signed = identity.signed(&bob.user_id, &alice.user_id);
            bind(&servers[0], &bob, &room_id, &alice.user_id, signed)
                .await
                .ok();
            is_invited(&bob, &room_id).await;
            act_self(&bob, &room_id, "join").await.ok();
        },
    )
    .await;
}

#[tokio::test]
async fn who_comes_with_what_was_signed_joins_with_it() {
    let identity = Identity::default();
    let peer = identity.start().await;
    federated_with(
        2,
        |_| asking(&peer),
        async |servers| {
            let alice = servers[0].register("alice").await;
            for (count, server) in [&servers[0], &servers[1]].into_iter().enumerate() {
                let bob = server.register(&format!("bob{count}")).await;
                let room_id = create(&alice, json!({})).await;
                invite(&alice, &room_id, address(&peer)).await.ok();
                let path = format!(
                    "{BASE}/join/{}?server_name={}",
                    quoted(&room_id),
                    quoted(servers[0].name())
                );
                let signed = identity.signed(&alice.user_id, &alice.user_id);
                let body = json!({ "third_party_signed": signed });
                bob.post(&path, body).await.is_refused(403, "M_FORBIDDEN");
                let signed = identity.signed(&bob.user_id, &alice.user_id);
                let body = json!({ "third_party_signed": signed });
                bob.post(&path, body).await.ok();
            }
        },
    )
    .await;
}

#[tokio::test]
async fn an_invitation_is_exchanged_only_if_it_is_signed_by_a_key_that_is_valid_still() {
    let identity = Identity::default();
    let peer = identity.start().await;
    let stranger = Identity::default();
    let _strange = stranger.start().await;
    federated_with(
        2,
        |_| asking(&peer),
        async |servers| {
            let alice = servers[0].register("alice").await;
            let bob = servers[1].register("bob").await;
            let carol = servers[1].register("carol").await;
            let room_id = create(&alice, json!({})).await;
            invite(&alice, &room_id, address(&peer)).await.ok();
            let sender = alice.user_id.as_str();
            let right = identity.signed(&bob.user_id, sender);
            let mut changed = right.clone();
            changed["sender"] = json!(carol.user_id);
            let mut other_token = right.clone();
            other_token["token"] = json!("other");
            for wrong in [
                stranger.signed(&bob.user_id, sender),
                changed,
                other_token,
                identity.signed(&carol.user_id, sender),
            ] {
                let answer = bind(&servers[1], &bob, &room_id, sender, wrong).await;
                answer.is_refused(403, "M_FORBIDDEN");
            }
            identity.revoked.store(true, Ordering::SeqCst);
            let answer = bind(&servers[1], &bob, &room_id, sender, right.clone()).await;
            answer.is_refused(403, "M_FORBIDDEN");
            identity.revoked.store(false, Ordering::SeqCst);
            let mut nobody = bob.clone();
            nobody.user_id = format!("@nobody:{}", servers[1].name());
            let answer = bind(&servers[1], &nobody, &room_id, sender, right.clone()).await;
            answer.is_refused(404, "M_NOT_FOUND");
            bind(&servers[1], &bob, &room_id, sender, right).await.ok();
            is_invited(&bob, &room_id).await;
        },
    )
    .await;
}

#[tokio::test]
async fn no_identity_server_is_asked_that_is_not_configured() {
    let identity = Identity::default();
    let peer = identity.start().await;
    federated_with(
        1,
        |_| TestOptions::default(),
        async |servers| {
            let alice = servers[0].register("alice").await;
            let room_id = create_public(&alice).await;
            let refused = invite(&alice, &room_id, address(&peer)).await;
            refused.is_refused(403, "M_THREEPID_DENIED");
            let plan = json!({ "invite_3pid": [address(&peer)] });
            let refused = alice.post(&format!("{BASE}/createRoom"), plan).await;
            refused.is_refused(403, "M_THREEPID_DENIED");
            assert_eq!(identity.asked(), 0);
        },
    )
    .await;
}
