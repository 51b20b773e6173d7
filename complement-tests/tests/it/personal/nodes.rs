//! What is fleeting reaches the other node, too, and what is kept in memory there follows.

use std::time::Duration;

use parley_conformance::{Client, TestServer, on_each_engine};
use serde_json::{Value, json};

use super::{content, joined, next, nothing, own, room_of_two, sync, sync_until};
use crate::rooms::{BASE, create_public, quoted, room_path, say};

/// Somebody at each of two nodes who share a room, where the second syncs from.
struct Pair {
    alice: Client,
    bob: Client,
    room_id: String,
    since: String,
    /// Runs as long as this is there.
    _second: TestServer,
}

async fn pair(first: &TestServer) -> Option<Pair> {
    let second = first.second_node().await?;
    let alice = first.register("alice").await;
    let bob = second.register("bob").await;
    let room_id = room_of_two(&alice, &bob.at(first)).await;
    // The news of it may take a moment to the other node.
    let is_there = |answer: &Value| joined(answer, &room_id).is_object().then_some(());
    let first = sync(&bob, None, "").await;
    let since = next(&first);
    let since = match is_there(&first) {
        Some(()) => since,
        None => sync_until(&bob, &since, is_there).await.1,
    };
    let pair = Pair {
        alice,
        bob,
        since,
        _second: second,
        room_id,
    };
    Some(pair)
}

fn presence(answer: &Value, client: &Client, wanted: &str) -> Option<Value> {
    let events = answer["presence"]["events"].as_array()?.iter();
    let mut of_user = events.filter(|event| event["sender"] == client.user_id.as_str());
    let content = of_user.next()?["content"].clone();
    (content["presence"] == wanted).then_some(content)
}

#[tokio::test]
async fn typing_is_seen_at_the_other_node() {
    on_each_engine(async |server| {
        let Some(pair) = pair(server).await else {
            return;
        };
        let path = format!("typing/{}", quoted(&pair.alice.user_id));
        let path = room_path(&pair.room_id, &path);
        let room_id = &pair.room_id;
        let typing = |wanted: Value| {
            move |answer: &Value| {
                let events = &joined(answer, room_id)["ephemeral"]["events"];
                let users = content(events, "m.typing")?["user_ids"].clone();
                (users == wanted).then_some(())
            }
        };
        let body = json!({ "typing": true, "timeout": 30_000 });
        pair.alice.put(&path, body).await.ok();
        let wanted = json!([pair.alice.user_id]);
        let (_, next) = sync_until(&pair.bob, &pair.since, typing(wanted)).await;
        pair.alice.put(&path, json!({ "typing": false })).await.ok();
        sync_until(&pair.bob, &next, typing(json!([]))).await;
    })
    .await;
}

#[tokio::test]
async fn presence_is_seen_at_the_other_node_and_ends_with_the_first() {
    on_each_engine(async |server| {
        let Some(pair) = pair(server).await else {
            return;
        };
        let Pair { alice, bob, .. } = &pair;
        let path = format!("{BASE}/presence/{}/status", quoted(&alice.user_id));
        let body = json!({ "presence": "unavailable", "status_msg": "there" });
        alice.put(&path, body).await.ok();
        let unavailable = |answer: &Value| presence(answer, alice, "unavailable");
        let (told, next) = sync_until(bob, &pair.since, unavailable).await;
        assert_eq!(told["status_msg"], "there");
        assert_eq!(bob.get(&path).await.ok()["presence"], "unavailable");
        // A node that starts asks who is present.
        let third = server.second_node().await.unwrap();
        let there = bob.at(&third);
        let seen = async {
            while there.get(&path).await.ok()["presence"] != "unavailable" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), seen)
            .await
            .unwrap();
        server.engine().stop().await;
        let offline = |answer: &Value| presence(answer, alice, "offline");
        sync_until(bob, &next, offline).await;
    })
    .await;
}

#[tokio::test]
async fn receipts_and_push_rules_of_one_node_hold_at_the_other() {
    on_each_engine(async |server| {
        let Some(pair) = pair(server).await else {
            return;
        };
        let Pair {
            alice,
            bob,
            room_id,
            ..
        } = &pair;
        let there = bob.at(server);
        let event = say(alice, room_id, "hello").await;
        let unread = |answer: &Value| {
            joined(answer, room_id)["unread_notifications"]["notification_count"].as_u64()
        };
        let (count, next) = sync_until(bob, &pair.since, |answer| {
            unread(answer).filter(|count| *count > 0)
        })
        .await;
        assert_eq!(count, 1);
        let path = format!("receipt/m.read/{}", quoted(&event));
        there.post(&room_path(room_id, &path), nothing()).await.ok();
        let (count, next) = sync_until(bob, &next, &unread).await;
        assert_eq!(count, 0);
        let mute = format!("{BASE}/pushrules/global/room/{}", quoted(room_id));
        there.put(&mute, json!({ "actions": [] })).await.ok();
        let changed =
            |answer: &Value| content(&answer["account_data"]["events"], "m.push_rules").map(|_| ());
        let (_, next) = sync_until(bob, &next, changed).await;
        say(alice, room_id, "not heard").await;
        let (count, _) = sync_until(bob, &next, &unread).await;
        assert_eq!(count, 0);
        assert_eq!(unread(&sync(&there, None, "").await), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_at_both_nodes_at_once_is_changed() {
    /// Changes of each kind at each node.
    const CHANGES: usize = 20;
    on_each_engine(async |server| {
        let Some(second) = server.second_node().await else {
            return;
        };
        let alice = server.register("alice").await;
        let there = alice.at(&second);
        let room_id = create_public(&alice).await;
        let tags = own(&alice, &format!("rooms/{}/tags", quoted(&room_id)));
        let rules = format!("{BASE}/pushrules/global/content");
        let rule = || json!({ "actions": [], "pattern": "x" });
        for number in 0..CHANGES {
            let here_and_there =
                |path: &str| [1, 2].map(|node| format!("{path}/u.{number}.{node}"));
            let [one_tag, other_tag] = here_and_there(&tags);
            let [one_rule, other_rule] = here_and_there(&rules);
            let answers = tokio::join!(
                alice.put(&one_tag, nothing()),
                there.put(&other_tag, nothing()),
                alice.put(&one_rule, rule()),
                there.put(&other_rule, rule()),
            );
            let (one, other, one_more, last) = answers;
            for answer in [one, other, one_more, last] {
                answer.ok();
            }
        }
        let told = alice.get(&tags).await.ok();
        assert_eq!(told["tags"].as_object().unwrap().len(), 2 * CHANGES);
        for node in [&alice, &there] {
            // The last change may take a moment to the other node.
            let all_told = async {
                let own_rules = async || {
                    let told = node.get(&format!("{BASE}/pushrules/")).await.ok();
                    let content = told["global"]["content"].as_array().unwrap().clone();
                    content
                        .iter()
                        .filter(|rule| rule["default"] == false)
                        .count()
                };
                while own_rules().await < 2 * CHANGES {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let all_told = tokio::time::timeout(Duration::from_secs(10), all_told);
            all_told.await.expect("all rules are there");
        }
    })
    .await;
}
