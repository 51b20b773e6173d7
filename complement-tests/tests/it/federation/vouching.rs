//! Rooms that let in the members of another room, on several servers.

use parley_conformance::{Client, federated};
use serde_json::json;

use super::rooms::{ask_to_join, becomes, hear, join_by, say, sync_until};
use crate::rooms::{BASE, act_self, create, create_public, get_state, quoted, set_state};

/// Makes a room for the members of another.
async fn create_for(client: &Client, other: &str) -> String {
    let allow = json!([{ "type": "m.room_membership", "room_id": other }]);
    let rule = json!({
        "type": "m.room.join_rules",
        "state_key": "",
        "content": { "join_rule": "restricted", "allow": allow },
    });
    create(client, json!({ "initial_state": [rule] })).await
}

#[tokio::test]
async fn who_was_let_in_by_another_server_changes_their_profile_without_its_signature() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let house = create_public(&alice).await;
        join_by(&bob, &house, &servers[0]).await;
        let kitchen = create_for(&alice, &house).await;
        join_by(&bob, &kitchen, &servers[0]).await;
        let joined = get_state(&bob, &kitchen, "m.room.member", &bob.user_id).await;
        let joined = joined.ok();
        let voucher = joined["join_authorised_via_users_server"].clone();
        assert_eq!(voucher, alice.user_id.as_str());

        let path = format!("{BASE}/profile/{}/displayname", quoted(&bob.user_id));
        bob.put(&path, json!({ "displayname": "Bobby" })).await.ok();
        sync_until(&alice, |told| {
            let events = told["rooms"]["join"][&kitchen]["timeline"]["events"].as_array();
            let mut events = events.into_iter().flatten();
            events.any(|event| {
                event["state_key"] == bob.user_id.as_str()
                    && event["content"] == json!({ "membership": "join", "displayname": "Bobby" })
            })
        })
        .await;

        // Said by hand it is left out, as nobody vouches for a change of the profile.
        set_state(&bob, &kitchen, "m.room.member", &bob.user_id, joined)
            .await
            .ok();
        let after = get_state(&bob, &kitchen, "m.room.member", &bob.user_id).await;
        assert_eq!(after.ok()["join_authorised_via_users_server"], json!(null));
        let hello = say(&bob, &kitchen, "hello").await;
        hear(&alice, &kitchen, &hello).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_has_left_a_room_lets_nobody_in_because_of_it() {
    federated(3, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[2].register("carol").await;
        let house = create_public(&alice).await;
        let kitchen = create_for(&alice, &house).await;
        for guest in [&bob, &carol] {
            join_by(guest, &house, &servers[0]).await;
        }
        join_by(&bob, &kitchen, &servers[0]).await;
        let bob_may = json!({ "users": { &bob.user_id: 100 }, "invite": 100 });
        set_state(&alice, &kitchen, "m.room.power_levels", "", bob_may)
            .await
            .ok();
        let marker = say(&alice, &kitchen, "bob may invite").await;
        hear(&bob, &kitchen, &marker).await;
        becomes(&bob, &house, &carol, "join").await;
        act_self(&bob, &house, "leave").await.ok();

        let refused = ask_to_join(&carol, &kitchen, &servers[1]).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["errcode"]),
            (400, &json!("M_UNABLE_TO_AUTHORISE_JOIN")),
            "{}",
            refused.body
        );
        join_by(&carol, &kitchen, &servers[0]).await;
    })
    .await;
}
