//! The list of what somebody was notified of, where it happened on another server.

use parley_conformance::{Client, TestServer, federated};
use serde_json::{Value, json};

use super::rooms::{say, sync_from, sync_until};
use crate::rooms::{BASE, act, act_self, create, create_public, join, quoted};

/// Somebody of the first server who has invited one of the second to two rooms, one before and one after what was said in a
/// third, which is of the second.
struct Invited {
    alice: Client,
    bob: Client,
    /// The rooms of the invitations, the newest first.
    rooms: [String; 2],
    /// The room in which something was said.
    home: String,
}

async fn invited(servers: &[TestServer]) -> Invited {
    let alice = servers[0].register("alice").await;
    let bob = servers[1].register("bob").await;
    let carol = servers[1].register("carol").await;
    let home = create_public(&carol).await;
    join(&bob, &home).await.ok();
    let first = invite(&alice, &bob).await;
    say(&carol, &home, "between").await;
    let second = invite(&alice, &bob).await;
    say(&carol, &home, "after").await;
    Invited {
        alice,
        bob,
        rooms: [second, first],
        home,
    }
}

/// Makes a room and invites somebody, who hears of it.
async fn invite(alice: &Client, bob: &Client) -> String {
    let room_id = create(alice, json!({ "invite": [bob.user_id] })).await;
    sync_until(bob, |told| told["rooms"]["invite"][&room_id].is_object()).await;
    room_id
}

async fn list(client: &Client, query: &str) -> Value {
    let path = format!("{BASE}/notifications?{query}");
    client.get(&path).await.ok()
}

/// The rooms of what is in a list, in its order.
fn rooms(list: &Value) -> Vec<&str> {
    let notifications = list["notifications"].as_array().unwrap().iter();
    let rooms = notifications.map(|one| one["room_id"].as_str().unwrap());
    rooms.collect()
}

#[tokio::test]
async fn an_invitation_of_another_server_is_in_the_list_in_its_place() {
    federated(2, async |servers| {
        let Invited {
            alice,
            bob,
            rooms: [second, first],
            home,
        } = invited(servers).await;
        let all = list(&bob, "").await;
        assert_eq!(rooms(&all), [&home, &second, &home, &first]);
        let invitation = &all["notifications"][1];
        assert_eq!(invitation["actions"][0], "notify");
        assert_eq!(invitation["read"], false);
        let event = &invitation["event"];
        assert_eq!(event["type"], "m.room.member");
        assert_eq!(event["content"]["membership"], "invite");
        assert_eq!(event["sender"], alice.user_id.as_str());
        assert_eq!(event["state_key"], bob.user_id.as_str());
        assert_eq!(invitation["ts"], event["origin_server_ts"]);
        // Page by page it is the same.
        let mut pages = Vec::new();
        let mut from = String::new();
        while pages.len() < 10 {
            let page = list(&bob, &format!("limit=1{from}")).await;
            pages.extend(page["notifications"].as_array().unwrap().clone());
            match page["next_token"].as_str() {
                Some(token) => from = format!("&from={token}"),
                None => break,
            }
        }
        let ids = |notifications: &[Value]| -> Vec<Value> {
            let ids = notifications.iter();
            ids.map(|one| one["event"]["event_id"].clone()).collect()
        };
        let all = all["notifications"].as_array().unwrap();
        assert_eq!(ids(&pages), ids(all));
    })
    .await;
}

#[tokio::test]
async fn an_invitation_that_is_declined_or_of_somebody_ignored_or_not_to_notify_is_in_no_list() {
    federated(2, async |servers| {
        let invited = invited(servers).await;
        let Invited { alice, bob, .. } = &invited;
        let [second, first] = &invited.rooms;
        let home = invited.home.as_str();
        act_self(bob, second, "leave").await.ok();
        assert_eq!(rooms(&list(bob, "").await), [home, home, first.as_str()]);
        let rule = format!("{BASE}/pushrules/global/override/.m.rule.invite_for_me/enabled");
        bob.put(&rule, json!({ "enabled": false })).await.ok();
        assert_eq!(rooms(&list(bob, "").await), [home, home]);
        bob.put(&rule, json!({ "enabled": true })).await.ok();
        let ignored = format!(
            "{BASE}/user/{}/account_data/m.ignored_user_list",
            quoted(&bob.user_id)
        );
        let ignore = json!({ "ignored_users": { &alice.user_id: {} } });
        bob.put(&ignored, ignore).await.ok();
        assert_eq!(rooms(&list(bob, "").await), [home, home]);
        // An invitation that is taken back is gone, too.
        bob.put(&ignored, json!({ "ignored_users": {} })).await.ok();
        let before = sync_until(bob, |told| told["rooms"]["invite"][first].is_object()).await;
        act(alice, first, "kick", bob).await.ok();
        sync_from(bob, &before, |told| {
            told["rooms"]["leave"][first].is_object()
        })
        .await;
        assert_eq!(rooms(&list(bob, "").await), [home, home]);
    })
    .await;
}
