//! Servers that lie, or break what they touch: what they send is bounded, and without effect on anything else.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post, put},
};
use parley_conformance::{Client, Peer, Resident, federated};
use serde_json::{Value, json};

use super::{
    rooms::{hear, read, say, sync_until},
    versions::invitation,
};
use crate::rooms::{create, get_event, get_state};

/// What a hostile server says when it is asked.
#[derive(Clone, Debug, Default)]
struct Lies {
    /// Events by their ids.
    events: Arc<Mutex<Vec<(String, Value)>>>,
    /// What it was asked for.
    asked: Arc<AtomicUsize>,
}

impl Lies {
    fn add(&self, (id, event): (String, Value)) -> String {
        self.events.lock().unwrap().push((id.clone(), event));
        id
    }

    fn all(&self) -> Vec<Value> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let events = self.events.lock().unwrap();
        events.iter().map(|(_, event)| event.clone()).collect()
    }

    fn ids(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        events.iter().map(|(id, _)| id.clone()).collect()
    }

    fn one(&self, wanted: &str) -> Value {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let events = self.events.lock().unwrap();
        let found = events.iter().find(|(id, _)| id == wanted);
        let pdus: Vec<Value> = found.map(|(_, event)| event.clone()).into_iter().collect();
        json!({ "origin": "liar", "origin_server_ts": 1, "pdus": pdus })
    }

    /// A server that is told things, and says of all that it is asked what it has made up.
    fn router(&self) -> Router {
        let base = "/_matrix/federation/v1";
        Router::new()
            .route(
                &format!("{base}/send/{{id}}"),
                put(async || Json(json!({ "pdus": {} }))),
            )
            .route(
                &format!("{base}/event/{{id}}"),
                get(async |State(lies): State<Lies>, Path(id): Path<String>| Json(lies.one(&id))),
            )
            .route(
                &format!("{base}/event_auth/{{room}}/{{id}}"),
                get(async |State(lies): State<Lies>| Json(json!({ "auth_chain": lies.all() }))),
            )
            .route(
                &format!("{base}/get_missing_events/{{room}}"),
                post(async |State(lies): State<Lies>| Json(json!({ "events": lies.all() }))),
            )
            .route(
                &format!("{base}/state_ids/{{room}}"),
                get(async |State(lies): State<Lies>| {
                    Json(json!({ "pdu_ids": lies.ids(), "auth_chain_ids": lies.ids() }))
                }),
            )
            .route(
                &format!("{base}/state/{{room}}"),
                get(async |State(lies): State<Lies>| {
                    Json(json!({ "pdus": lies.all(), "auth_chain": lies.all() }))
                }),
            )
            .with_state(self.clone())
    }
}

/// A room in which anyone may set the topic.
async fn open_room(client: &Client, version: &str) -> String {
    let plan = json!({ "preset": "public_chat", "room_version": version });
    create(client, plan).await
}

async fn name_of(client: &Client, room_id: &str) -> Value {
    let answer = get_state(client, room_id, "m.room.name", "").await;
    answer.body["name"].clone()
}

#[tokio::test]
async fn events_that_are_too_large_or_malformed_are_left_out_and_the_next_has_its_turn() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = open_room(&alice, "11").await;
        let peer = Peer::start(Lies::default().router()).await;
        let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let changed = |change: fn(&mut Value)| mallory.message("wrong", change).1;
        let mut events = vec![
            json!({}),
            json!({ "room_id": room_id }),
            json!({ "room_id": room_id, "type": 7 }),
            changed(|event| event["depth"] = json!(-1)),
            changed(|event| event["depth"] = json!("deep")),
            changed(|event| event["type"] = json!("x".repeat(300))),
            changed(|event| event["state_key"] = json!("x".repeat(300))),
            changed(|event| event["type"] = json!("null\u{0}")),
            changed(|event| event["prev_events"] = json!([])),
            changed(|event| event["prev_events"] = json!({ "a": "b" })),
            changed(|event| event["prev_events"] = json!(vec!["$x"; 50])),
            changed(|event| event["auth_events"] = json!(vec!["$x"; 50])),
            changed(|event| event["content"] = json!("text")),
            changed(|event| event["sender"] = json!("nobody")),
        ];
        let mut large = mallory.message("large", |_| ()).1;
        large["content"]["body"] = json!("x".repeat(70_000));
        events.push(large);
        let mut deep = mallory.message("deep", |_| ()).1;
        deep["content"]["deep"] = (0..50).fold(json!(1), |inner, _| json!([inner]));
        events.push(deep);
        let right = mallory.message("right", |_| ());
        events.push(right.1);
        mallory.send(events).await.ok();
        hear(&alice, &room_id, &right.0).await;
        assert_eq!(read(&alice, &room_id).await, ["right"]);
        let said = say(&alice, &room_id, "and on").await;
        hear(&alice, &room_id, &said).await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_no_such_event_has_makes_it_no_less_of_an_event() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let peer = Peer::start(Lies::default().router()).await;
        for version in ["2", "10", "11"] {
            let room_id = open_room(&alice, version).await;
            let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
            let odd = [
                json!(7),
                json!("x"),
                json!(null),
                json!(["$x"]),
                json!({ "a": "b" }),
            ];
            for redacts in odd {
                let (id, event) = mallory.message("odd", |event| event["redacts"] = redacts);
                mallory.send(vec![event]).await.ok();
                mallory.last = id;
            }
            let (early, event) = mallory.message("early", |event| {
                event["origin_server_ts"] = json!(-5);
            });
            mallory.send(vec![event]).await.ok();
            mallory.last = early;
            let last = mallory.say("right").await;
            hear(&alice, &room_id, &last).await;
            let said = read(&alice, &room_id).await;
            assert_eq!(
                said,
                ["right", "early", "odd", "odd", "odd", "odd", "odd"],
                "{version}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_redaction_is_told_with_the_target_that_its_version_looks_at() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let peer = Peer::start(Lies::default().router()).await;
        for (version, in_content) in [("10", false), ("11", true)] {
            let room_id = open_room(&alice, version).await;
            let text = format!("kept in {version}");
            let kept = say(&alice, &room_id, &text).await;
            let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
            let own = mallory.say("own").await;
            hear(&alice, &room_id, &own).await;
            let (inside, beside) = match in_content {
                true => (&own, &kept),
                false => (&kept, &own),
            };
            let (id, event) = mallory.message("", |event| {
                event["type"] = json!("m.room.redaction");
                event["content"] = json!({ "redacts": inside });
                event["redacts"] = json!(beside);
            });
            mallory.send(vec![event]).await.ok();
            hear(&alice, &room_id, &id).await;
            let told = get_event(&alice, &room_id, &id).await.ok();
            assert_eq!(told["redacts"], own, "{version}");
            let redacted = get_event(&alice, &room_id, &own).await.ok();
            assert_eq!(redacted["content"], json!({}), "{version}");
            let left = get_event(&alice, &room_id, &kept).await.ok();
            assert_eq!(left["content"]["body"], text);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_signed_by_somebody_else_or_by_nobody_changes_nothing() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = open_room(&alice, "11").await;
        let peer = Peer::start(Lies::default().router()).await;
        let other = Peer::start(Router::new()).await;
        let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let of_alice = mallory
            .message("in the name of alice", |event| {
                event["sender"] = json!(alice.user_id)
            })
            .1;
        let of_other = mallory
            .message("in the name of another", |event| {
                event["sender"] = json!(format!("@carol:{}", other.name()));
            })
            .1;
        let mut unsigned = mallory.message("unsigned", |_| ()).1;
        unsigned["signatures"] = json!({});
        let mut wrong = mallory.message("wrong", |_| ()).1;
        let signature = &mut wrong["signatures"][peer.name().as_str()]["ed25519:peer"];
        let text = signature.as_str().unwrap().to_owned();
        let (first, rest) = text.split_at(1);
        *signature = json!(format!("{}{rest}", if first == "A" { "B" } else { "A" }));
        let mut unknown = mallory.message("by a key that is not there", |_| ()).1;
        let signatures = unknown["signatures"][peer.name().as_str()].take();
        unknown["signatures"][peer.name().as_str()] =
            json!({ "ed25519:unknown": signatures["ed25519:peer"] });
        let right = mallory.message("right", |_| ());
        let events = vec![of_alice, of_other, unsigned, wrong, unknown, right.1];
        mallory.send(events).await.ok();
        hear(&alice, &room_id, &right.0).await;
        assert_eq!(read(&alice, &room_id).await, ["right"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_allowed_by_forged_events_only_is_not_taken() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = open_room(&alice, "11").await;
        let lies = Lies::default();
        let peer = Peer::start(lies.router()).await;
        let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let joined = mallory.auth_events.last().unwrap().clone();
        let real_create = mallory
            .state
            .iter()
            .find(|(_, event)| event["type"] == "m.room.create");
        let real_create = real_create.unwrap().0.clone();
        // A room of the same id that is the peer's own, and one in which its user was given all power.
        let forged_create = lies.add(mallory.message("", |event| {
            event["type"] = json!("m.room.create");
            event["state_key"] = json!("");
            event["content"] = json!({ "room_version": "11" });
            event["prev_events"] = json!([]);
            event["auth_events"] = json!([]);
            event["depth"] = json!(1);
        }));
        let power = json!({ "users": { mallory.user_id.clone(): 100 } });
        let seized = |auth: Value| {
            mallory.message("", |event| {
                event["type"] = json!("m.room.power_levels");
                event["state_key"] = json!("");
                event["content"] = power.clone();
                event["auth_events"] = auth;
            })
        };
        let of_forged = lies.add(seized(json!([forged_create, joined])));
        let of_real = lies.add(seized(json!([real_create, joined])));
        let name = |auth: Value| {
            let named = mallory.message("", |event| {
                event["type"] = json!("m.room.name");
                event["state_key"] = json!("");
                event["content"] = json!({ "name": "seized" });
                event["auth_events"] = auth;
            });
            named.1
        };
        let events = vec![
            name(json!([forged_create, of_forged, joined])),
            name(json!([real_create, of_forged, joined])),
            name(json!([real_create, of_real, joined])),
            name(json!([real_create, joined])),
            name(json!(["$nowhere", joined])),
            name(json!([])),
        ];
        mallory.send(events).await.ok();
        let right = mallory.say("right").await;
        hear(&alice, &room_id, &right).await;
        assert_eq!(name_of(&alice, &room_id).await, Value::Null);
        let levels = get_state(&alice, &room_id, "m.room.power_levels", "")
            .await
            .ok();
        assert!(levels["users"].get(&mallory.user_id).is_none(), "{levels}");
    })
    .await;
}

#[tokio::test]
async fn events_in_a_circle_are_not_taken_and_end_nobodys_search() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        // Where servers give the ids, such a circle can be made.
        let room_id = open_room(&alice, "1").await;
        let lies = Lies::default();
        let peer = Peer::start(lies.router()).await;
        let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let id = |name: &str| format!("${name}:{}", peer.name());
        let (one, other) = (id("one"), id("other"));
        for (own, next) in [(&one, &other), (&other, &one)] {
            let built_on = mallory.message("in a circle", |event| {
                event["event_id"] = json!(own);
                event["prev_events"] = json!([[next, {}]]);
                event["depth"] = json!(1_000);
            });
            lies.add(built_on);
        }
        let (two, more) = (id("two"), id("more"));
        for (own, next) in [(&two, &more), (&more, &two)] {
            let allowed_by = mallory.message("allowed by itself", |event| {
                event["event_id"] = json!(own);
                let mut auth = event["auth_events"].as_array().unwrap().clone();
                auth.push(json!([next, {}]));
                event["auth_events"] = json!(auth);
            });
            lies.add(allowed_by);
        }
        mallory.send(lies.all()).await.ok();
        let itself = id("itself");
        let on_itself = mallory.message("on itself", |event| {
            event["event_id"] = json!(itself);
            event["prev_events"] = json!([[itself, {}]]);
        });
        mallory.send(vec![on_itself.1]).await.ok();
        let right = mallory.say("right").await;
        hear(&alice, &room_id, &right).await;
        assert_eq!(read(&alice, &room_id).await, ["right"]);
        assert!(lies.asked.load(Ordering::Relaxed) < 200);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_keeps_no_other_room_waiting() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let stuck_id = open_room(&alice, "11").await;
        let other_id = open_room(&alice, "11").await;
        let silent = post(async || {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            Json(json!({}))
        });
        let asked = "/_matrix/federation/v1/get_missing_events/{room}";
        let told = put(async || Json(json!({ "pdus": {} })));
        let router = Router::new()
            .route(asked, silent)
            .route("/_matrix/federation/v1/send/{id}", told);
        let peer = Peer::start(router).await;
        let mut stuck = Resident::join(&peer, &servers[0], &stuck_id).await;
        let mut other = Resident::join(&peer, &servers[0], &other_id).await;
        let lost = stuck.message("after a gap", |event| {
            event["prev_events"] = json!(["$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"]);
        });
        stuck.send(vec![lost.1]).await.ok();
        let said = other.say("elsewhere").await;
        hear(&alice, &other_id, &said).await;
        let said = say(&alice, &stuck_id, "here too").await;
        hear(&alice, &stuck_id, &said).await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_events_in_one_room_is_bounded_and_goes_past_the_others() {
    const AT_ONCE: usize = 50;
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let flooded_id = open_room(&alice, "11").await;
        let other_id = open_room(&alice, "11").await;
        let silent = post(async || {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            Json(json!({}))
        });
        let asked = "/_matrix/federation/v1/get_missing_events/{room}";
        let told = put(async || Json(json!({ "pdus": {} })));
        let router = Router::new()
            .route(asked, silent)
            .route("/_matrix/federation/v1/send/{id}", told);
        let peer = Peer::start(router).await;
        let mut flood = Resident::join(&peer, &servers[0], &flooded_id).await;
        let mut other = Resident::join(&peer, &servers[0], &other_id).await;
        let mut count = 0;
        // More than may wait for a room.
        let refused = loop {
            let events = (0..AT_ONCE).map(|index| {
                let text = format!("{count} {index}");
                let (_, event) = flood.message(&text, |event| {
                    event["prev_events"] = json!(["$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"]);
                });
                event
            });
            let events = events.collect();
            let answer = flood.send(events).await;
            count += AT_ONCE;
            if answer.status != 200 {
                break answer;
            }
            assert!(count <= 20_000, "nothing ends the flood");
        };
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        let said = other.say("elsewhere").await;
        hear(&alice, &other_id, &said).await;
        // Also in one transaction with what can't be taken.
        let (too_much, passed) = (
            flood.message("too much", |_| ()),
            other.message("passed", |_| ()),
        );
        let mixed = flood.send(vec![too_much.1, passed.1]).await;
        mixed.is_refused(429, "M_LIMIT_EXCEEDED");
        hear(&alice, &other_id, &passed.0).await;
        let said = say(&alice, &flooded_id, "here too").await;
        hear(&alice, &flooded_id, &said).await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_not_there_is_not_asked_for_with_each_event() {
    federated(1, async |servers| {
        let alice = servers[0].register("alice").await;
        let room_id = open_room(&alice, "11").await;
        let peer = Peer::start(Lies::default().router()).await;
        let mut mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let asked = peer.asked_for_keys();
        let events = (0..30).map(|count| {
            let mut event = mallory.message("unknown", |_| ()).1;
            let own = &mut event["signatures"][peer.name().as_str()];
            let signature = own["ed25519:peer"].take();
            let key_id = format!("ed25519:other{count}");
            *own = json!({ key_id: signature });
            event
        });
        let events = events.collect();
        mallory.send(events).await.ok();
        let right = mallory.say("right").await;
        hear(&alice, &room_id, &right).await;
        assert!(peer.asked_for_keys() <= asked + 1);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_version_that_came_with_an_invitation_keeps_nobody_out_of_the_room() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = open_room(&alice, "10").await;
        let peer = Peer::start(Lies::default().router()).await;
        let mallory = Resident::join(&peer, &servers[0], &room_id).await;
        let (path, invite) = invitation(&mallory, &bob);
        let body = json!({ "room_version": "9", "event": invite, "invite_room_state": [] });
        let answer = peer.put(&servers[1], &path, body).await;
        answer.ok();
        super::rooms::join_by(&bob, &room_id, &servers[0]).await;
        let said = say(&bob, &room_id, "here").await;
        hear(&alice, &room_id, &said).await;
    })
    .await;
}

#[tokio::test]
async fn what_an_invitation_shows_of_a_room_is_told_where_it_has_the_shape_of_state() {
    federated(1, async |servers| {
        let bob = servers[0].register("bob").await;
        let peer = Peer::start(Lies::default().router()).await;
        let mallory = Resident::of_made_up(&peer, &servers[0], "11");
        let (path, invite) = invitation(&mallory, &bob);
        let state = |kind: &str, content: Value| {
            let sender = &mallory.user_id;
            json!({ "type": kind, "state_key": "", "sender": sender, "content": content })
        };
        let shown = json!([
            null,
            7,
            "text",
            {},
            [],
            state("m.room.topic", Value::Null),
            state("m.room.avatar", json!(7)),
            state("m.room.join_rules", json!("text")),
            state("m.room.encryption", json!([])),
            state("m.room.name", json!({ "name": "good" })),
        ]);
        let body = json!({ "room_version": "11", "event": invite, "invite_room_state": shown });
        peer.put(&servers[0], &path, body).await.ok();
        let room_id = &mallory.room_id;
        let told = sync_until(&bob, |told| told["rooms"]["invite"][room_id].is_object()).await;
        let events = &told["rooms"]["invite"][room_id]["invite_state"]["events"];
        let events = events.as_array().unwrap();
        let kinds: Vec<&str> = events
            .iter()
            .filter_map(|event| event["type"].as_str())
            .collect();
        // The last is the invitation itself.
        assert_eq!(kinds, ["m.room.name", "m.room.member"]);
        assert_eq!(events[0]["content"], json!({ "name": "good" }));
    })
    .await;
}
