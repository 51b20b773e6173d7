//! Coming into rooms of other servers, and being put out of them before one is in.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, routing::put};
use parley_conformance::{
    Answer, Client, Peer, TestOptions, TestServer, federated, federated_with,
};
use ruma::{
    CanonicalJsonObject, RoomVersionId,
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::{Value, json};

use super::rooms::{ask_to_join, becomes, hear, join_by, say, sync_from, sync_until};
use crate::rooms::{
    BASE, act, act_self, create, create_public, get_event, join, quoted, redact, set_state,
};

/// The template of a membership of the peer's user Eve.
async fn template(peer: &Peer, server: &TestServer, room_id: &str, action: &str) -> Value {
    let eve = quoted(&format!("@eve:{}", peer.name()));
    let path = format!(
        "/_matrix/federation/v1/make_{action}/{}/{eve}?ver=11",
        quoted(room_id)
    );
    peer.get(server, &path).await.ok()["event"].clone()
}

/// An event that is made of a template, and its id.
fn complete(peer: &Peer, template: Value) -> (String, Value) {
    let rules = RoomVersionId::V11.rules().unwrap();
    let mut event: CanonicalJsonObject = serde_json::from_value(template).unwrap();
    hash_and_sign_event(
        peer.name().as_str(),
        peer.pair(),
        &mut event,
        &rules.redaction,
    )
    .unwrap();
    let id = reference_hash(&event, &rules).unwrap();
    (format!("${id}"), serde_json::to_value(event).unwrap())
}

/// Sends a membership by a version of the API.
async fn send(
    peer: &Peer,
    server: &TestServer,
    operation: &str,
    room_id: &str,
    event: (String, Value),
) -> Answer {
    let (id, event) = event;
    let path = format!(
        "/_matrix/federation/{operation}/{}/{}",
        quoted(room_id),
        quoted(&id)
    );
    peer.put(server, &path, event).await
}

#[tokio::test]
async fn servers_of_the_first_version_join_and_leave() {
    federated(1, async |servers| {
        let server = &servers[0];
        let alice = server.register("alice").await;
        let plan = json!({ "preset": "public_chat", "room_version": "11" });
        let room_id = create(&alice, plan).await;
        let peer = Peer::start(Router::new()).await;
        let join = complete(&peer, template(&peer, server, &room_id, "join").await);
        // What is sent has to be what the operation is for.
        let other = send(&peer, server, "v1/send_leave", &room_id, join.clone()).await;
        other.is_refused(400, "M_BAD_JSON");
        let answer = send(&peer, server, "v1/send_join", &room_id, join)
            .await
            .ok();
        assert_eq!(answer[0], 200);
        let is_create = |event: &&Value| event["type"] == "m.room.create";
        let state = answer[1]["state"].as_array().unwrap();
        assert!(state.iter().find(is_create).is_some(), "{answer}");
        assert!(!answer[1]["auth_chain"].as_array().unwrap().is_empty());
        let leave = complete(&peer, template(&peer, server, &room_id, "leave").await);
        let answer = send(&peer, server, "v1/send_leave", &room_id, leave).await;
        assert_eq!(answer.ok(), json!([200, {}]));
    })
    .await;
}

fn is_out(told: &Value, room_id: &str) -> bool {
    told["rooms"]["leave"][room_id].is_object()
}

#[tokio::test]
async fn an_invitation_is_taken_back_by_who_has_sent_it_and_by_nobody_else() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let carol = servers[0].register("carol").await;
        let bob = servers[1].register("bob").await;
        let common = create_public(&alice).await;
        join_by(&bob, &common, &servers[0]).await;
        let plan = json!({ "invite": [carol.user_id] });
        let (one, two) = (
            create(&alice, plan.clone()).await,
            create(&alice, plan).await,
        );
        for room_id in [&one, &two] {
            crate::rooms::join(&carol, room_id).await.ok();
        }
        act(&alice, &one, "invite", &bob).await.ok();
        act(&carol, &two, "invite", &bob).await.ok();
        let told = sync_until(&bob, |told| {
            let invited = &told["rooms"]["invite"];
            invited[&one].is_object() && invited[&two].is_object()
        })
        .await;
        let since = told["next_batch"].as_str().unwrap().to_owned();
        act(&alice, &one, "kick", &bob).await.ok();
        act(&alice, &two, "kick", &bob).await.ok();
        let last = say(&alice, &common, "after that").await;
        hear(&bob, &common, &last).await;
        let path = format!("{BASE}/sync?timeout=0&since={since}");
        let told = bob.get(&path).await.ok();
        assert!(is_out(&told, &one), "{told}");
        assert!(!is_out(&told, &two), "{told}");
        let path = format!("{BASE}/sync?timeout=0");
        let told = bob.get(&path).await.ok();
        assert!(told["rooms"]["invite"][&two].is_object(), "{told}");
    })
    .await;
}

async fn knock(client: &Client, room_id: &str, server: &TestServer) {
    let via = quoted(server.name());
    let path = format!("{BASE}/knock/{}?server_name={via}", quoted(room_id));
    client.post(&path, json!({})).await.ok();
}

#[tokio::test]
async fn who_knocks_on_a_room_of_another_server_learns_that_they_are_turned_down() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let content = json!({ "join_rule": "knock" });
        let rule = json!({ "type": "m.room.join_rules", "content": content });
        let room_id = create(&alice, json!({ "initial_state": [rule] })).await;
        for _ in 0..2 {
            knock(&bob, &room_id, &servers[0]).await;
            let told = sync_until(&bob, |told| told["rooms"]["knock"][&room_id].is_object()).await;
            act(&alice, &room_id, "kick", &bob).await.ok();
            let since = told["next_batch"].as_str().unwrap();
            let path = format!("{BASE}/sync?timeout=20000&since={since}");
            let told = bob.get(&path).await.ok();
            assert!(is_out(&told, &room_id), "{told}");
        }
        ask_to_join(&bob, &room_id, &servers[0])
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_lets_another_in_tells_the_rest_of_it() {
    federated(3, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[2].register("carol").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        join_by(&carol, &room_id, &servers[0]).await;
        sync_until(&bob, |told| {
            let events = &told["rooms"]["join"][&room_id]["timeline"]["events"];
            let mut events = events.as_array().into_iter().flatten();
            events.any(|event| event["state_key"] == carol.user_id)
        })
        .await;
        // Bob's server had nothing to send; Carol's neither.
        for server in &servers[1..] {
            let all = server.federation().destinations_status().await.unwrap();
            assert!(all.iter().all(|status| status.waiting == 0), "{all:?}");
        }
    })
    .await;
}

/// A server that notes what is sent to it.
async fn listener(heard: Arc<Mutex<Vec<Value>>>) -> Peer {
    let hear = async move |Json(transaction): Json<Value>| {
        let pdus = transaction["pdus"].as_array().cloned().unwrap_or_default();
        heard.lock().unwrap().extend(pdus);
        Json(json!({ "pdus": {} }))
    };
    let path = "/_matrix/federation/v1/send/{transaction_id}";
    Peer::start(Router::new().route(path, put(hear))).await
}

#[tokio::test]
async fn an_event_that_only_another_server_has_is_redacted_by_who_may_redact_others() {
    federated(1, async |servers| {
        let server = &servers[0];
        let alice = server.register("alice").await;
        let carol = server.register("carol").await;
        let plan = json!({ "preset": "public_chat", "room_version": "11" });
        let room_id = create(&alice, plan).await;
        crate::rooms::join(&carol, &room_id).await.ok();
        let elsewhere = "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        // As long as this server has all of the room, there is no such event.
        redact(&alice, &room_id, elsewhere)
            .await
            .is_refused(404, "M_NOT_FOUND");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let peer = listener(heard.clone()).await;
        let join = complete(&peer, template(&peer, server, &room_id, "join").await);
        send(&peer, server, "v2/send_join", &room_id, join)
            .await
            .ok();
        redact(&carol, &room_id, elsewhere)
            .await
            .is_refused(403, "M_FORBIDDEN");
        let redaction = redact(&alice, &room_id, elsewhere).await.ok();
        let id = redaction["event_id"].as_str().unwrap();
        let event = get_event(&alice, &room_id, id).await.ok();
        assert_eq!(event["redacts"], elsewhere);
        let arrived = async {
            loop {
                let redacts = |pdu: &Value| pdu["content"]["redacts"] == elsewhere;
                if heard.lock().unwrap().iter().any(redacts) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let arrived = tokio::time::timeout(std::time::Duration::from_secs(20), arrived).await;
        arrived.expect("the other server is told");
    })
    .await;
}

#[tokio::test]
async fn a_join_shows_the_invitation_that_it_follows() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(
            &alice,
            json!({ "invite": [bob.user_id], "is_direct": true }),
        )
        .await;
        sync_until(&bob, |told| told["rooms"]["invite"][&room_id].is_object()).await;
        crate::rooms::join(&bob, &room_id).await.ok();
        servers[1].restart().await;
        let state = format!("m.room.member/{}?format=event", quoted(&bob.user_id));
        let path = format!("{BASE}/rooms/{}/state/{state}", quoted(&room_id));
        let join = bob.get(&path).await.ok();
        let before = &join["unsigned"]["prev_content"];
        assert_eq!(before["membership"], "invite", "{join}");
        assert_eq!(before["is_direct"], true, "{join}");
    })
    .await;
}

#[tokio::test]
async fn settings_of_a_room_go_over_to_the_one_that_replaces_it_on_another_server() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let old = create_public(&alice).await;
        join_by(&bob, &old, &servers[0]).await;
        let rule = |room_id: &str| format!("{BASE}/pushrules/global/room/{}", quoted(room_id));
        bob.put(&rule(&old), json!({ "actions": [] })).await.ok();
        let path = format!("{BASE}/rooms/{}/upgrade", quoted(&old));
        let new = alice.post(&path, json!({ "new_version": "11" })).await.ok();
        let new = new["replacement_room"].as_str().unwrap();
        sync_until(&bob, |told| {
            let events = &told["rooms"]["join"][&old]["timeline"]["events"];
            let mut events = events.as_array().into_iter().flatten();
            events.any(|event| event["type"] == "m.room.tombstone")
        })
        .await;
        bob.get(&rule(new)).await.is_refused(404, "M_NOT_FOUND");
        join_by(&bob, new, &servers[0]).await;
        assert_eq!(bob.get(&rule(new)).await.ok()["rule_id"], *new);
    })
    .await;
}

#[tokio::test]
async fn a_room_that_one_user_has_declined_and_another_joined_is_told_to_both() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[1].register("carol").await;
        let readable = json!({
            "type": "m.room.history_visibility",
            "state_key": "",
            "content": { "history_visibility": "world_readable" },
        });
        let room_id = create(&alice, json!({ "initial_state": [readable] })).await;
        for guest in [&bob, &carol] {
            act(&alice, &room_id, "invite", guest).await.ok();
            sync_until(guest, |told| told["rooms"]["invite"][&room_id].is_object()).await;
        }
        act_self(&bob, &room_id, "leave").await.ok();
        join_by(&carol, &room_id, &servers[0]).await;

        let filter = quoted(r#"{"room":{"include_leave":true}}"#);
        let told = bob.get(&format!("{BASE}/sync?filter={filter}")).await.ok();
        assert!(told["rooms"]["leave"][&room_id].is_object(), "{told}");
        sync_until(&carol, |told| told["rooms"]["join"][&room_id].is_object()).await;
    })
    .await;
}

#[tokio::test]
async fn who_left_and_came_back_between_two_syncs_is_told_what_the_room_has_become() {
    let options = |_| {
        let mut options = TestOptions::default();
        options.engine.rooms.join_without_members = false;
        options
    };
    federated_with(2, options, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[1].register("carol").await;
        let room_id = create_public(&bob).await;
        join_by(&alice, &room_id, &servers[1]).await;
        let known = sync_until(&alice, |told| told["rooms"]["join"][&room_id].is_object()).await;
        let since = known["next_batch"].as_str().unwrap();
        act_self(&alice, &room_id, "leave").await.ok();
        becomes(&bob, &room_id, &alice, "leave").await;
        // Nobody tells Alice's server of that.
        join(&carol, &room_id).await.ok();
        let topic = json!({ "topic": "who is away" });
        set_state(&bob, &room_id, "m.room.topic", "", topic)
            .await
            .ok();
        join_by(&alice, &room_id, &servers[1]).await;
        for (mode, section) in [("", "state"), ("&use_state_after=true", "state_after")] {
            let path = format!("{BASE}/sync?timeout=0&since={since}{mode}");
            let told = alice.get(&path).await.ok();
            let room = &told["rooms"]["join"][&room_id];
            let state = room[section]["events"].as_array();
            let state = state.unwrap_or_else(|| panic!("{mode}: {told}"));
            let has = |event_type: &str, state_key: &str| {
                let fits =
                    |event: &&Value| event["type"] == event_type && event["state_key"] == state_key;
                state.iter().any(|event| fits(&event))
            };
            assert!(has("m.room.member", &carol.user_id), "{mode}: {room}");
            assert!(has("m.room.topic", ""), "{mode}: {room}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_invitation_by_a_state_event_reaches_the_invited_users_server() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(&alice, json!({ "name": "by state" })).await;
        let invite = json!({ "membership": "invite", "reason": "come" });
        let answer = set_state(&alice, &room_id, "m.room.member", &bob.user_id, invite);
        let invitation = answer.await.ok()["event_id"].clone();
        let told = bob.get(&format!("{BASE}/sync?timeout=0")).await.ok();
        let shown = &told["rooms"]["invite"][&room_id]["invite_state"]["events"];
        let own = |event: &&Value| event["state_key"] == bob.user_id.as_str();
        let own = shown.as_array().unwrap().iter().find(own).unwrap();
        assert_eq!(own["content"]["reason"], "come");
        join(&bob, &room_id).await.ok();
        let page = get_event(&alice, &room_id, invitation.as_str().unwrap()).await;
        assert_eq!(page.ok()["state_key"], bob.user_id.as_str());
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_again_where_their_server_was_before_comes_back_or_declines() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let room_id = create(&alice, json!({ "invite": [bob.user_id] })).await;
        let mut before = Value::Null;
        for does_join in [true, false, true] {
            let is_invited = |told: &Value| told["rooms"]["invite"][&room_id].is_object();
            before = sync_from(&bob, &before, is_invited).await;
            if does_join {
                act_self(&bob, &room_id, "join").await.ok();
                becomes(&alice, &room_id, &bob, "join").await;
            }
            act_self(&bob, &room_id, "leave").await.ok();
            becomes(&alice, &room_id, &bob, "leave").await;
            act(&alice, &room_id, "invite", &bob).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn guests_are_put_out_when_another_server_has_the_room_take_none_any_more() {
    let options = |_| {
        let mut options = TestOptions::default();
        options.engine.registration.guests = true;
        options
    };
    federated_with(2, options, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let mut guest = servers[0].client();
        let path = format!("{BASE}/register?kind=guest");
        let answer = guest.post(&path, json!({})).await.ok();
        guest.take_login(&answer);
        for is_redacted in [false, true] {
            let levels = json!({ "events": { "m.room.guest_access": 0 }, "redact": 0 });
            let plan = json!({ "preset": "public_chat", "power_level_content_override": levels });
            let room_id = create(&alice, plan).await;
            let access = async |by: &Client, access: &str| {
                let access = json!({ "guest_access": access });
                let answer = set_state(by, &room_id, "m.room.guest_access", "", access).await;
                answer.ok()["event_id"].as_str().unwrap().to_owned()
            };
            let open = access(&alice, "can_join").await;
            join(&guest, &room_id).await.ok();
            join_by(&bob, &room_id, &servers[0]).await;
            if is_redacted {
                redact(&bob, &room_id, &open).await.ok();
            } else {
                access(&bob, "forbidden").await;
            }
            for sees in [&alice, &bob] {
                becomes(sees, &room_id, &guest, "leave").await;
            }
        }
    })
    .await;
}
