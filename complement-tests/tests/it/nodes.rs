//! Two nodes over one database are one homeserver.

use std::{collections::HashSet, time::Duration};

use parley_conformance::{Client, TestServer, on_each_engine};
use serde_json::json;

/// Messages that each writer sends.
const MESSAGES: usize = 40;
/// Writers on each node.
const WRITERS: usize = 3;

/// Reads a room by /sync, asking the nodes in turn with the token that the other gave, until it has seen `count` messages.
async fn read_in_turn(nodes: [&Client; 2], since: String, count: usize) -> Vec<String> {
    let mut since = since;
    let mut seen = Vec::new();
    let mut turn = 0;
    // Slow machines write more between two requests than a client is sent by default.
    let filter = "%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:100%7D%7D%7D";
    while seen.len() < count {
        let node = nodes[turn % 2];
        turn += 1;
        assert!(turn < 2_000, "only {} of {count} messages came", seen.len());
        let answer = node
            .get(&format!(
                "/_matrix/client/v3/sync?timeout=1000&since={since}&filter={filter}"
            ))
            .await
            .ok();
        since = answer["next_batch"].as_str().unwrap().to_owned();
        for (_, room) in answer["rooms"]["join"].as_object().into_iter().flatten() {
            assert_eq!(
                room["timeline"]["limited"],
                json!(false),
                "a reader that is always there sees no gap"
            );
            for event in room["timeline"]["events"].as_array().unwrap() {
                if event["type"] == "m.room.message" {
                    seen.push(event["event_id"].as_str().unwrap().to_owned());
                }
            }
        }
    }
    seen
}

/// Sends numbered messages, one after the other.
async fn write(client: Client, room: String, name: String) -> Vec<String> {
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{name}-{number}");
        let body = json!({ "msgtype": "m.text", "body": format!("{name} {number}") });
        let answer = client.put(&path, body).await.ok();
        sent.push(answer["event_id"].as_str().unwrap().to_owned());
    }
    sent
}

/// A room of writers, and where a reader stands in it.
async fn set_up(first: &TestServer, second: &TestServer) -> (Vec<Client>, Client, String, String) {
    let reader = first.register("reader").await;
    let room = reader
        .post(
            "/_matrix/client/v3/createRoom",
            json!({ "preset": "public_chat" }),
        )
        .await
        .ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let mut writers = Vec::new();
    for number in 0..WRITERS * 2 {
        // Each has an account on one node and writes on the other.
        let (home, other) = if number % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let writer = home.register(&format!("writer{number}")).await.at(other);
        writer
            .post(&format!("/_matrix/client/v3/rooms/{room}/join"), json!({}))
            .await
            .ok();
        writers.push(writer);
    }
    let since = reader.get("/_matrix/client/v3/sync?timeout=0").await.ok()["next_batch"]
        .as_str()
        .unwrap()
        .to_owned();
    (writers, reader, room, since)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_write_to_a_room_at_once_and_all_readers_see_one_order() {
    on_each_engine(async |first| {
        let Some(second) = first.second_node().await else {
            return;
        };
        let (writers, reader, room, since) = set_up(first, &second).await;
        let count = writers.len() * MESSAGES;
        let writing = writers.iter().enumerate().map(|(number, writer)| {
            tokio::spawn(write(writer.clone(), room.clone(), format!("w{number}")))
        });
        let writing: Vec<_> = writing.collect();
        let (on_first, on_second) = (reader.at(first), reader.at(&second));
        let (one, other, both) = tokio::join!(
            read_in_turn([&on_first, &on_first], since.clone(), count),
            read_in_turn([&on_second, &on_second], since.clone(), count),
            read_in_turn([&on_first, &on_second], since.clone(), count),
        );
        let mut sent = HashSet::new();
        for task in writing {
            let events = task.await.unwrap();
            let order: Vec<_> = one
                .iter()
                .filter(|id| events.contains(*id))
                .cloned()
                .collect();
            assert_eq!(
                order, events,
                "a writer's messages stand in the order in which they were sent"
            );
            sent.extend(events);
        }
        assert_eq!(one.len(), count, "nothing came twice");
        assert_eq!(
            one.iter().cloned().collect::<HashSet<_>>(),
            sent,
            "nothing is missing"
        );
        assert_eq!(one, other);
        assert_eq!(one, both, "a token of one node works on the other");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_made_on_one_node_counts_on_the_other() {
    on_each_engine(async |first| {
        let Some(second) = first.second_node().await else {
            return;
        };
        let alice = first.register("alice").await;
        let bob = second.register("bob").await;
        let room = alice
            .post(
                "/_matrix/client/v3/createRoom",
                json!({ "invite": [bob.user_id] }),
            )
            .await
            .ok();
        let room = room["room_id"].as_str().unwrap().to_owned();
        let since = bob.get("/_matrix/client/v3/sync?timeout=1000").await.ok();
        assert!(since["rooms"]["invite"].get(&room).is_some(), "{since}");
        bob.post(&format!("/_matrix/client/v3/rooms/{room}/join"), json!({}))
            .await
            .ok();
        let kick = json!({ "user_id": &bob.user_id });
        alice
            .post(&format!("/_matrix/client/v3/rooms/{room}/kick"), kick)
            .await
            .ok();
        let body = json!({ "msgtype": "m.text", "body": "am I in?" });
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
        for _ in 0..100 {
            // The news takes a moment to the other node; what it doesn't know yet, the commit does.
            let answer = bob.put(&path, body.clone()).await;
            if answer.status == 403 {
                return;
            }
        }
        panic!("who was kicked can still write");
    })
    .await;
}

#[tokio::test]
async fn a_logout_at_one_node_holds_at_the_other_at_once() {
    // Far less than what a node believes without hearing of it.
    const SOON: Duration = Duration::from_secs(5);
    on_each_engine(async |first| {
        let Some(second) = first.second_node().await else {
            return;
        };
        let alice = first.register("alice").await;
        let other = alice.log_in_again().await;
        let whoami = "/_matrix/client/v3/account/whoami";
        for device in [&alice, &other] {
            device.at(&second).get(whoami).await.ok();
        }
        other
            .post("/_matrix/client/v3/logout", json!({}))
            .await
            .ok();
        let refused = async {
            while other.at(&second).get(whoami).await.status == 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, refused).await.unwrap();
        alice.at(&second).get(whoami).await.ok();
        // What an administrator does to an account holds as well.
        let user_id = alice.user_id.as_str().try_into().unwrap();
        let accounts = first.engine().accounts();
        accounts.set_locked(user_id, true).await.unwrap();
        let locked = async {
            while alice.at(&second).get(whoami).await.status == 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, locked).await.unwrap();
    })
    .await;
}
