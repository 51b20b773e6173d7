//! Rooms that let in the members of another room, on several servers.

use parley_conformance::federated;
use serde_json::json;

use super::rooms::{hear, join_by, say, sync_until};
use crate::rooms::{BASE, create, create_public, get_state, quoted, set_state};

#[tokio::test]
async fn who_was_let_in_by_another_server_changes_their_profile_without_its_signature() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let house = create_public(&alice).await;
        join_by(&bob, &house, &servers[0]).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": house }]);
        let rule = json!({
            "type": "m.room.join_rules",
            "state_key": "",
            "content": { "join_rule": "restricted", "allow": allow },
        });
        let kitchen = create(&alice, json!({ "initial_state": [rule] })).await;
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
