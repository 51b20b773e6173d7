//! The list of what somebody was notified of.

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{nothing, room_of_two};
use crate::rooms::{BASE, act, create, event_id, quoted, room_path, say, set_state};

async fn list(client: &Client, query: &str) -> Value {
    client
        .get(&format!("{BASE}/notifications?{query}"))
        .await
        .ok()
}

fn ids(list: &Value) -> Vec<&str> {
    let events = list["notifications"].as_array().unwrap().iter();
    events
        .map(|one| one["event"]["event_id"].as_str().unwrap())
        .collect()
}

async fn mention(alice: &Client, bob: &Client, room_id: &str) -> String {
    let content = json!({
        "msgtype": "m.text",
        "body": "you",
        "m.mentions": { "user_ids": [bob.user_id] },
    });
    let path = room_path(room_id, "send/m.room.message/mention");
    event_id(&alice.put(&path, content).await.ok())
}

#[tokio::test]
async fn what_notified_is_listed_newest_first_and_marked_when_it_is_read() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let one = say(&alice, &room_id, "one").await;
        let two = mention(&alice, &bob, &room_id).await;
        set_state(
            &alice,
            &room_id,
            "m.room.name",
            "",
            json!({ "name": "quiet" }),
        )
        .await
        .ok();
        let redacted = say(&alice, &room_id, "redacted").await;
        let redact = format!("redact/{}/1", quoted(&redacted));
        alice
            .put(&room_path(&room_id, &redact), nothing())
            .await
            .ok();
        say(&bob, &room_id, "own").await;
        let receipt = format!("receipt/m.read/{}", quoted(&one));
        bob.post(&room_path(&room_id, &receipt), nothing())
            .await
            .ok();

        let all = list(&bob, "").await;
        assert_eq!(ids(&all), [two.as_str(), one.as_str()]);
        assert!(all.get("next_token").is_none(), "{all}");
        let [newest, oldest] = [0, 1].map(|index| &all["notifications"][index]);
        assert_eq!(newest["room_id"], room_id.as_str());
        assert_eq!(newest["actions"][0], "notify");
        assert_eq!(newest["ts"], newest["event"]["origin_server_ts"]);
        // Who writes has read.
        assert_eq!(
            (&newest["read"], &oldest["read"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(ids(&list(&bob, "only=highlight").await), [two.as_str()]);
        assert_eq!(ids(&list(&alice, "").await).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_long_list_is_read_page_by_page_and_outlives_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let mut sent = Vec::new();
        for number in 0..7 {
            sent.push(say(&alice, &room_id, &number.to_string()).await);
        }
        sent.reverse();
        let mut found = Vec::new();
        let mut from = String::new();
        for page in 0..3 {
            let answer = list(&bob, &format!("limit=3{from}")).await;
            found.extend(ids(&answer).into_iter().map(str::to_owned));
            from = match answer["next_token"].as_str() {
                Some(token) => format!("&from={token}"),
                None => break,
            };
            if page == 0 {
                server.restart().await;
                say(&alice, &room_id, "newer").await;
            }
        }
        assert_eq!(found, sent);
    })
    .await;
}

#[tokio::test]
async fn an_invitation_notifies_and_what_was_sent_before_a_join_does_not() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "preset": "private_chat" })).await;
        say(&alice, &room_id, "before").await;
        act(&alice, &room_id, "invite", &bob).await.ok();
        let invited = list(&bob, "").await;
        assert_eq!(
            invited["notifications"].as_array().unwrap().len(),
            1,
            "{invited}"
        );
        let event = &invited["notifications"][0]["event"];
        assert_eq!(event["content"]["membership"], "invite");
        assert_eq!(event["state_key"], bob.user_id.as_str());
    })
    .await;
}

#[tokio::test]
async fn a_list_is_ones_own_and_a_token_has_to_be_one() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = format!("{BASE}/notifications");
        let stranger = server.client().get(&path).await;
        stranger.is_refused(401, "M_MISSING_TOKEN");
        let answer = alice.get(&format!("{path}?from=nonsense")).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        assert_eq!(list(&alice, "").await, json!({ "notifications": [] }));
    })
    .await;
}

#[tokio::test]
async fn a_page_on_which_nothing_fits_leads_to_what_is_behind_it() {
    // More than is looked at for a page.
    const MESSAGES: usize = 5_200;
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let behind = mention(&alice, &bob, &room_id).await;
        let numbers: Vec<usize> = (0..MESSAGES).collect();
        for together in numbers.chunks(200) {
            let said = together.iter().map(async |number| {
                say(&alice, &room_id, &number.to_string()).await;
            });
            futures::future::join_all(said).await;
        }
        let first = list(&bob, "only=highlight").await;
        assert_eq!(first["notifications"], json!([]));
        let token = first["next_token"].as_str().expect("there is more");
        let next = list(&bob, &format!("only=highlight&from={token}")).await;
        assert_eq!(ids(&next), [behind.as_str()]);
        assert!(next.get("next_token").is_none(), "{next}");
    })
    .await;
}
