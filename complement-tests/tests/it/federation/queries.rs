//! What one server asks another for its users.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{any, get, post},
};
use parley_conformance::{Client, Peer, TestOptions, federated, federated_with};
use parley_engine::settings::{RateLimit, RateLimitSettings};
use serde_json::{Value, json};

use super::rooms::{join_by, say};
use crate::rooms::{BASE, create, quoted};

async fn profile(client: &Client, user_id: &str) -> parley_conformance::Answer {
    client
        .get(&format!("{BASE}/profile/{}", quoted(user_id)))
        .await
}

#[tokio::test]
async fn profiles_of_other_servers_are_shown() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let user = quoted(&bob.user_id);
        let path = format!("{BASE}/profile/{user}/displayname");
        bob.put(&path, json!({ "displayname": "Bob of two" }))
            .await
            .ok();
        let shown = profile(&alice, &bob.user_id).await.ok();
        assert_eq!(shown["displayname"], "Bob of two");
        assert_eq!(
            alice.get(&path).await.ok(),
            json!({ "displayname": "Bob of two" })
        );
        let path = format!("{BASE}/profile/{user}/avatar_url");
        alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
        let nobody = format!("@nobody:{}", servers[1].name());
        profile(&alice, &nobody)
            .await
            .is_refused(404, "M_NOT_FOUND");
        profile(&alice, "@nobody:127.0.0.1:1")
            .await
            .is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn what_in_a_profile_of_another_server_should_be_a_string_and_is_none_is_not_set() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let tell = async || {
            Json(json!({
                "displayname": null,
                "avatar_url": { "url": "mxc://a/b" },
                "m.tz": 7,
                "org.example.nothing": null,
            }))
        };
        let path = "/_matrix/federation/v1/query/profile";
        let peer = Peer::start(Router::new().route(path, get(tell))).await;
        let user_id = format!("@user:{}", peer.name());
        // Fields of one's own hold any JSON.
        let nothing = json!({ "org.example.nothing": null });
        assert_eq!(profile(&alice, &user_id).await.ok(), nothing);
        let field = async |name: &str| {
            let path = format!("{BASE}/profile/{}/{name}", quoted(&user_id));
            alice.get(&path).await
        };
        for name in ["displayname", "avatar_url", "m.tz"] {
            field(name).await.is_refused(404, "M_NOT_FOUND");
        }
        assert_eq!(field("org.example.nothing").await.ok(), nothing);
    })
    .await;
}

#[tokio::test]
async fn one_odd_room_in_the_directory_of_another_server_takes_none_of_the_others_along() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let tell = async || {
            let room = |room_id: &str, alias: &str| {
                json!({
                    "room_id": room_id, "canonical_alias": alias, "num_joined_members": 1,
                    "world_readable": true, "guest_can_join": false,
                })
            };
            Json(json!({
                "chunk": [
                    room("!one:peer", "#one:peer"),
                    room("!odd:peer", "no alias"),
                    room("no id", "#no-id:peer"),
                    7,
                    { "room_id": "!less:peer" },
                    room("!two:peer", "#two:peer"),
                ],
                "next_batch": "next",
                "total_room_count_estimate": 9,
            }))
        };
        let path = "/_matrix/federation/v1/publicRooms";
        let peer = Peer::start(Router::new().route(path, post(tell))).await;
        let path = format!("{BASE}/publicRooms?server={}", quoted(peer.name().as_str()));
        let told = alice.get(&path).await.ok();
        let rooms = told["chunk"].as_array().unwrap().iter();
        let rooms: Vec<_> = rooms.map(|room| room["room_id"].clone()).collect();
        assert_eq!(rooms, ["!one:peer", "!two:peer"]);
        assert_eq!(told["chunk"][0]["canonical_alias"], "#one:peer");
        assert_eq!(told["next_batch"], "next");
        assert_eq!(told["total_room_count_estimate"], 9);
    })
    .await;
}

#[tokio::test]
async fn what_a_failing_server_answers_of_its_rooms_is_no_refusal() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let fail = async || (StatusCode::BAD_GATEWAY, "down");
        let peer = Peer::start(Router::new().fallback(any(fail))).await;
        let path = format!("{BASE}/publicRooms?server={}", quoted(peer.name().as_str()));
        alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn public_rooms_of_other_servers_are_listed_and_found_by_their_alias() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room = json!({
            "name": "harbour",
            "visibility": "public",
            "preset": "public_chat",
            "room_alias_name": "harbour",
        });
        let room_id = create(&alice, room).await;
        create(
            &alice,
            json!({ "name": "lighthouse", "visibility": "public" }),
        )
        .await;
        let server = quoted(servers[0].name());
        let path = format!("{BASE}/publicRooms?server={server}");
        let all = bob.get(&path).await.ok();
        assert_eq!(all["chunk"].as_array().unwrap().len(), 2);
        assert_eq!(all["total_room_count_estimate"], 2);
        let filter = json!({ "filter": { "generic_search_term": "harb" } });
        let found = bob.post(&path, filter).await.ok();
        assert_eq!(found["chunk"].as_array().unwrap().len(), 1);
        assert_eq!(found["chunk"][0]["room_id"], room_id);
        let alias = quoted(&format!("#harbour:{}", servers[0].name()));
        let path = format!("{BASE}/directory/room/{alias}");
        let resolved = bob.get(&path).await.ok();
        assert_eq!(resolved["room_id"], room_id);
        assert_eq!(resolved["servers"], json!([servers[0].name()]));
        let path = format!("{BASE}/publicRooms?server=127.0.0.1:1");
        bob.get(&path).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn an_alias_of_another_server_is_resolved_although_one_name_that_it_tells_is_none() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let tell = async || {
            let servers = json!(["bad_name", "good.test", ""]);
            Json(json!({ "room_id": "!room:good.test", "servers": servers }))
        };
        let path = "/_matrix/federation/v1/query/directory";
        let peer = Peer::start(Router::new().route(path, any(tell))).await;
        let alias = quoted(&format!("#room:{}", peer.name()));
        let path = format!("{BASE}/directory/room/{alias}");
        let resolved = alice.get(&path).await.ok();
        assert_eq!(resolved["room_id"], "!room:good.test");
        let told = resolved["servers"].as_array().unwrap();
        let others: Vec<&Value> = told
            .iter()
            .filter(|name| **name != *peer.name().as_str())
            .collect();
        assert_eq!(others, ["good.test"]);
    })
    .await;
}

#[tokio::test]
async fn an_alias_of_a_server_that_fails_or_does_not_know_it_is_not_found() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        for (status, code) in [
            (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
        ] {
            let refuse = move || async move {
                let body = json!({ "errcode": code, "error": "there is none" });
                (status, Json(body))
            };
            let peer = Peer::start(Router::new().fallback(any(refuse))).await;
            let alias = quoted(&format!("#room:{}", peer.name()));
            let path = format!("{BASE}/directory/room/{alias}");
            alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn who_joins_by_an_alias_asks_the_server_of_the_alias_before_any_other() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let listed = Arc::new(Mutex::new(json!([])));
        let tell = async |State(listed): State<Arc<Mutex<Value>>>| {
            let servers = listed.lock().unwrap().clone();
            Json(json!({ "room_id": "!room:127.0.0.1:1", "servers": servers }))
        };
        let refuse = || async {
            let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "by invitation only" });
            (StatusCode::FORBIDDEN, Json(refusal))
        };
        let router = Router::new()
            .route("/_matrix/federation/v1/query/directory", get(tell))
            .fallback(any(refuse))
            .with_state(listed.clone());
        let peer = Peer::start(router).await;
        let own = peer.name().as_str();
        let alias = quoted(&format!("#room:{own}"));
        // There is nobody at that port.
        let dead = "127.0.0.1:1";
        for servers in [json!([dead]), json!([dead, own]), json!([own, dead])] {
            *listed.lock().unwrap() = servers;
            let path = format!("{BASE}/directory/room/{alias}");
            let resolved = alice.get(&path).await.ok();
            assert_eq!(resolved["servers"], json!([own, dead]));
            // Where nobody lets a user in, they are told what the first said.
            let joined = alice.post(&format!("{BASE}/join/{alias}"), json!({})).await;
            joined.is_refused(403, "M_FORBIDDEN");
            let reason = joined.body["error"].as_str().unwrap();
            assert!(reason.contains("by invitation only"), "{reason}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_not_logged_in_has_others_asked_within_limits_only() {
    let options = |_| {
        let mut options = TestOptions::default();
        options.engine.rate_limits = RateLimitSettings {
            enabled: true,
            searches: RateLimit::new(0.001, 2),
            ..RateLimitSettings::default()
        };
        options
    };
    federated_with(2, options, async |servers| {
        let alice = servers[0].register("alice").await;
        let room = json!({ "visibility": "public", "room_alias_name": "harbour" });
        create(&alice, room).await;
        let here = servers[1].client();
        let alias = quoted(&format!("#harbour:{}", servers[0].name()));
        // An alias of another server isn't looked up for a summary.
        let v1 = "/_matrix/client/v1/room_summary";
        here.get(&format!("{v1}/{alias}"))
            .await
            .is_refused(404, "M_NOT_FOUND");
        let paths = [
            format!("{BASE}/publicRooms?server={}", quoted(servers[0].name())),
            format!("{BASE}/directory/room/{alias}"),
            format!("{BASE}/profile/{}", quoted(&alice.user_id)),
            format!("{BASE}/profile/{}/displayname", quoted(&alice.user_id)),
        ];
        here.get(&paths[0]).await.ok();
        for path in &paths {
            here.get(path).await.is_refused(429, "M_LIMIT_EXCEEDED");
        }
        // What is this server's own is told.
        let there = servers[0].client();
        for path in &paths[1..3] {
            for _ in 0..3 {
                there.get(path).await.ok();
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_in_a_room_learns_which_event_was_at_a_time() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(&alice, json!({ "preset": "public_chat" })).await;
        let said = say(&alice, &room_id, "then").await;
        let room = ruma::RoomId::parse(&room_id).unwrap();
        let name = servers[0].name().to_owned();
        let name = <&ruma::ServerName>::try_from(name.as_str()).unwrap();
        let ask = async || {
            let remote = servers[1].engine().outside().remote().unwrap().clone();
            let now = ruma::MilliSecondsSinceUnixEpoch::now();
            let direction = ruma::api::Direction::Backward;
            remote.timestamp_to_event(name, &room, now, direction).await
        };
        assert!(ask().await.unwrap_err().to_string().contains("refused"));
        join_by(&bob, &room_id, &servers[0]).await;
        let (event_id, _) = ask().await.unwrap();
        assert_ne!(event_id, said, "the join came after it");
    })
    .await;
}

#[tokio::test]
async fn no_other_server_logs_a_client_out() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let refuse = || async {
            let body =
                json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "log in", "soft_logout": true });
            (StatusCode::UNAUTHORIZED, Json(body))
        };
        let peer = Peer::start(Router::new().fallback(any(refuse))).await;
        let name = peer.name();
        let room = quoted(&format!("!room:{name}"));
        let path = format!("{BASE}/join/{room}?server_name={}", quoted(name.as_str()));
        let joined = alice.post(&path, json!({})).await;
        joined.is_refused(502, "M_UNKNOWN");
        let shown = profile(&alice, &format!("@user:{name}")).await;
        shown.is_refused(502, "M_UNKNOWN");
        let alias = quoted(&format!("#room:{name}"));
        let path = format!("{BASE}/directory/room/{alias}");
        alice.get(&path).await.is_refused(502, "M_UNKNOWN");
        let path = format!("{BASE}/publicRooms?server={}", quoted(name.as_str()));
        alice.get(&path).await.is_refused(502, "M_UNKNOWN");
        let room_id = create(&alice, json!({})).await;
        let path = format!("{BASE}/rooms/{}/invite", quoted(&room_id));
        let user = json!({ "user_id": format!("@user:{name}") });
        alice.post(&path, user).await.is_refused(502, "M_UNKNOWN");
    })
    .await;
}
