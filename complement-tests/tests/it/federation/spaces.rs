//! Spaces and rooms that other servers tell of.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    routing::{get, put},
};
use parley_conformance::{Answer, Client, Peer, Resident, TestServer, federated};
use serde_json::{Value, json};

use super::rooms::{join_by, sync_until};
use crate::rooms::{act_self, create, quoted, set_state};

const V1: &str = "/_matrix/client/v1";

async fn hierarchy(client: &Client, space: &str) -> Answer {
    let path = format!("{V1}/rooms/{}/hierarchy", quoted(space));
    client.get(&path).await
}

/// The ids of the rooms of a space, as somebody sees it.
async fn ids(client: &Client, space: &str) -> Vec<String> {
    let page = hierarchy(client, space).await.ok();
    let rooms = page["rooms"].as_array().unwrap();
    let id = |room: &Value| room["room_id"].as_str().unwrap().to_owned();
    rooms.iter().map(id).collect()
}

async fn space(client: &Client) -> String {
    let content = json!({ "type": "m.space" });
    create(
        client,
        json!({ "preset": "public_chat", "creation_content": content }),
    )
    .await
}

async fn add(client: &Client, space: &str, room: &str, via: &TestServer) {
    let content = json!({ "via": [via.name()] });
    set_state(client, space, "m.space.child", room, content)
        .await
        .ok();
}

/// A room for the members of another.
fn restricted_to(other: &str) -> Value {
    let allow = json!([{ "type": "m.room_membership", "room_id": other }]);
    let content = json!({ "join_rule": "restricted", "allow": allow });
    let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": content });
    json!({ "initial_state": [rule] })
}

#[tokio::test]
async fn a_space_is_walked_across_servers() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let (root, inner, deep) = (space(&alice).await, space(&bob).await, space(&bob).await);
        let one = create(&bob, json!({ "preset": "public_chat" })).await;
        let two = create(&alice, json!({ "preset": "public_chat" })).await;
        let hidden = create(&bob, json!({})).await;
        add(&alice, &root, &inner, &servers[1]).await;
        add(&bob, &inner, &deep, &servers[1]).await;
        add(&bob, &inner, &hidden, &servers[1]).await;
        add(&bob, &deep, &one, &servers[1]).await;
        // What the asking server has itself, it knows best; a loop ends.
        add(&bob, &deep, &two, &servers[0]).await;
        add(&bob, &deep, &root, &servers[0]).await;
        let found = ids(&alice, &root).await;
        assert_eq!(found, [&root, &inner, &deep, &one, &two].map(Clone::clone));
        // Who comes by the other way sees the same, and what is theirs.
        let found = ids(&bob, &deep).await;
        let all = [&deep, &one, &two, &root, &inner, &hidden].map(Clone::clone);
        assert_eq!(found, all);
        let answer = hierarchy(&alice, "!nowhere:127.0.0.1:1").await;
        answer.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_room_of_another_server_is_shown_to_those_who_may_join_it() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let carol = servers[0].register("carol").await;
        let bob = servers[1].register("bob").await;
        let root = space(&alice).await;
        let room = create(&bob, restricted_to(&root)).await;
        add(&alice, &root, &room, &servers[1]).await;
        // The other server doesn't know who is in the space.
        assert_eq!(ids(&alice, &root).await, [&*root]);
        join_by(&bob, &root, &servers[0]).await;
        assert_eq!(ids(&alice, &root).await, [&*root, &*room]);
        assert_eq!(ids(&carol, &root).await, [&*root]);
        act_self(&carol, &root, "join").await.ok();
        assert_eq!(ids(&carol, &root).await, [&*root, &*room]);
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_sees_a_room_of_another_server_before_they_join() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let carol = servers[0].register("carol").await;
        let bob = servers[1].register("bob").await;
        let room = create(
            &bob,
            json!({ "name": "harbour", "invite": [alice.user_id] }),
        )
        .await;
        sync_until(&alice, |told| told["rooms"]["invite"][&room].is_object()).await;
        let via = quoted(servers[1].name());
        let path = format!("{V1}/room_summary/{}?via={via}", quoted(&room));
        let summary = alice.get(&path).await.ok();
        assert_eq!(summary["name"], "harbour");
        assert_eq!(summary["membership"], "invite");
        carol.get(&path).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn the_summary_of_a_room_is_asked_of_the_servers_that_the_client_names() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let plan =
            json!({ "preset": "public_chat", "name": "harbour", "room_alias_name": "harbour" });
        let room = create(&bob, plan).await;
        let path = format!("{V1}/room_summary/{}", quoted(&room));
        let with_via = format!("{path}?via=127.0.0.1:1&via={}", quoted(servers[1].name()));
        let summary = alice.get(&with_via).await.ok();
        assert_eq!(summary["name"], "harbour");
        assert_eq!(summary["num_joined_members"], 1);
        assert_eq!(summary["membership"], "leave");
        let alias = quoted(&format!("#harbour:{}", servers[1].name()));
        let by_alias = format!("{V1}/room_summary/{alias}");
        assert_eq!(alice.get(&by_alias).await.ok()["room_id"], *room);
        // Nobody who isn't logged in has this server ask others.
        let anyone = servers[0].client();
        anyone.get(&with_via).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

/// A server that tells of a space, and of another room under the same address.
async fn liar(asked: Arc<AtomicUsize>, room_id: &'static str) -> Peer {
    let children_state = json!([{ "type": "m.space.child" }, 7]);
    let told = json!({
        "room": told_space(room_id, children_state),
        "children": [{}], "inaccessible_children": [],
    });
    teller(asked, told).await
}

/// What a server tells of a space.
fn told_space(room_id: &str, children_state: Value) -> Value {
    json!({
        "room_id": room_id, "num_joined_members": 1, "world_readable": true,
        "guest_can_join": false, "join_rule": "public", "room_type": "m.space",
        "children_state": children_state,
    })
}

/// A server that tells the same of every room.
async fn teller(asked: Arc<AtomicUsize>, told: Value) -> Peer {
    let tell = async move || {
        asked.fetch_add(1, Ordering::SeqCst);
        Json(told.clone())
    };
    let path = "/_matrix/federation/v1/hierarchy/{room_id}";
    Peer::start(Router::new().route(path, get(tell))).await
}

#[tokio::test]
async fn what_a_server_tells_of_a_room_is_kept_for_a_while_and_believed_of_that_room_only() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let asked = Arc::new(AtomicUsize::new(0));
        let peer = liar(asked.clone(), "!told:peer").await;
        let summary = async |room_id: &str| {
            let via = quoted(peer.name().as_str());
            let path = format!("{V1}/room_summary/{}?via={via}", quoted(room_id));
            alice.get(&path).await
        };
        for _ in 0..2 {
            assert_eq!(summary("!told:peer").await.ok()["room_type"], "m.space");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        summary("!other:peer").await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_space_is_walked_although_lists_of_another_server_are_null_or_hold_what_is_no_id() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let null = json!({
            "room": told_space("!told:peer", Value::Null),
            "children": null, "inaccessible_children": null,
        });
        let named = |room_id: &str| {
            json!({
                "type": "m.space.child", "state_key": room_id, "sender": "@a:peer",
                "origin_server_ts": 1, "content": { "via": ["peer"] },
            })
        };
        let room = |room_id: &str| {
            let mut room = told_space(room_id, Value::Null);
            room["room_type"].take();
            room
        };
        let strange = json!({
            "room": told_space("!told:peer", json!([named("!hidden:peer"), named("!seen:peer")])),
            "children": [null, room("!hidden:peer"), room("!seen:peer")],
            "inaccessible_children": ["no id", null, 7, "!hidden:peer"],
        });
        for (told, seen) in [
            (null, &["!told:peer"][..]),
            (strange, &["!told:peer", "!seen:peer"][..]),
        ] {
            let asked = Arc::new(AtomicUsize::new(0));
            let peer = teller(asked.clone(), told).await;
            let root = space(&alice).await;
            let content = json!({ "via": [peer.name()] });
            let put = set_state(&alice, &root, "m.space.child", "!told:peer", content).await;
            put.ok();
            assert_eq!(ids(&alice, &root).await, [&[&*root][..], seen].concat());
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_tells_others_of_no_room_whose_version_does_not_know_its_join_rule() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let root = space(&alice).await;
        let told = Router::new().route(
            "/_matrix/federation/v1/send/{id}",
            put(async || Json(json!({ "pdus": {} }))),
        );
        let peer = Peer::start(told).await;
        Resident::join(&peer, &servers[0], &root).await;
        let (mut shown, mut hidden) = (Vec::new(), Vec::new());
        for (version, rule, is_known) in [
            ("7", "restricted", false),
            ("8", "restricted", true),
            ("9", "knock_restricted", false),
            ("10", "knock_restricted", true),
        ] {
            let mut plan = restricted_to(&root);
            plan["room_version"] = json!(version);
            plan["initial_state"][0]["content"]["join_rule"] = json!(rule);
            let room = create(&alice, plan).await;
            add(&alice, &root, &room, &servers[0]).await;
            match is_known {
                true => shown.push(room),
                false => hidden.push(room),
            }
        }
        let path = format!("/_matrix/federation/v1/hierarchy/{}", quoted(&root));
        let answer = peer.get(&servers[0], &path).await.ok();
        let children = answer["children"].as_array().unwrap().iter();
        let mut told: Vec<&str> = children
            .map(|room| room["room_id"].as_str().unwrap())
            .collect();
        let mut kept = answer["inaccessible_children"].as_array().unwrap().clone();
        told.sort_unstable();
        shown.sort_unstable();
        assert_eq!(told, shown);
        kept.sort_unstable_by_key(ToString::to_string);
        hidden.sort_unstable();
        assert_eq!(json!(kept), json!(hidden));
    })
    .await;
}

#[tokio::test]
async fn a_server_tells_others_of_what_their_users_may_see() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let root = space(&alice).await;
        let open = create(&alice, json!({ "preset": "public_chat" })).await;
        let hidden = create(&alice, json!({})).await;
        for room in [&open, &hidden] {
            add(&alice, &root, room, &servers[0]).await;
        }
        // A child of what is no space is none.
        add(&alice, &open, &hidden, &servers[0]).await;
        let peer = Peer::start(Router::new()).await;
        let ask = async |room: &str| {
            let path = format!("/_matrix/federation/v1/hierarchy/{}", quoted(room));
            peer.get(&servers[0], &path).await
        };
        let told = ask(&root).await.ok();
        assert_eq!(told["room"]["children_state"].as_array().unwrap().len(), 2);
        assert_eq!(told["children"][0]["room_id"], *open);
        assert_eq!(told["inaccessible_children"], json!([hidden]));
        let told = ask(&open).await.ok();
        assert_eq!(told["room"]["children_state"], json!([]));
        ask(&hidden).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}
