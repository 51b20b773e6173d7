//! Finding users of other servers.

use parley_conformance::federated;
use serde_json::json;

use super::rooms::{becomes, join_by, sync_until};
use crate::{
    accounts::user_directory::{found, name},
    rooms::{act_self, create, create_public, join},
};

#[tokio::test]
async fn users_of_other_servers_are_found_by_the_names_they_have_in_common_rooms() {
    federated(2, async |servers| {
        let alice = servers[0].register("alice").await;
        let carol = servers[0].register("carol").await;
        let bob = servers[1].register("bob").await;
        name(&bob, "Robert Müller").await;
        let plan = json!({ "preset": "private_chat", "invite": [bob.user_id] });
        let room_id = create(&alice, plan).await;
        join(&bob, &room_id).await.ok();
        let elsewhere = bob.user_id.replace("bob", "rob");
        let id = [bob.user_id.as_str()];
        for (term, expected) in [
            ("müller", &id[..]),
            ("bob", &id[..]),
            (bob.user_id.as_str(), &id[..]),
            (elsewhere.as_str(), &[]),
        ] {
            assert_eq!(found(&alice, term).await, expected, "{term}");
        }
        // Who is in no room with them doesn't find them.
        assert!(found(&carol, "müller").await.is_empty());
        // The other server has come into the room with a state.
        assert_eq!(found(&bob, "alice").await, [alice.user_id.as_str()]);
        name(&bob, "Bobby Tables").await;
        sync_until(&alice, |told| told.to_string().contains("Bobby Tables")).await;
        assert_eq!(found(&alice, "tables").await, id);
        assert!(found(&alice, "müller").await.is_empty());
        act_self(&bob, &room_id, "leave").await.ok();
        becomes(&alice, &room_id, &bob, "leave").await;
        assert!(found(&alice, "tables").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn who_is_in_a_room_that_a_server_comes_into_is_found_there() {
    federated(3, async |servers| {
        let alice = servers[0].register("alice").await;
        let bob = servers[1].register("bob").await;
        let carol = servers[2].register("carol").await;
        name(&bob, "Robert").await;
        let room_id = create_public(&alice).await;
        join_by(&bob, &room_id, &servers[0]).await;
        join_by(&carol, &room_id, &servers[0]).await;
        becomes(&carol, &room_id, &bob, "join").await;
        for (term, user) in [("alice", &alice), ("robert", &bob)] {
            assert_eq!(found(&carol, term).await, [user.user_id.as_str()], "{term}");
        }
    })
    .await;
}
