//! Which state is told along with a timeline.

use parley_conformance::on_each_engine;
use serde_json::{Value, json};

use super::{joined, sync, sync_after, types};
use crate::rooms::{act_self, create, create_public, join, say, set_state};

fn lazy() -> Value {
    json!({ "room": { "state": { "lazy_load_members": true }, "timeline": { "limit": 1 } } })
}

#[tokio::test]
async fn the_state_after_a_timeline_holds_what_the_timeline_changed() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let told = sync_after(&alice, None, json!({})).await;
        let room = joined(&told, &room_id);
        assert!(room.get("state").is_none(), "{room}");
        let state = types(&room["state_after"]["events"]);
        assert!(state.contains(&"m.room.create".to_owned()), "{state:?}");
        assert!(
            state.contains(&format!("m.room.member {}", alice.user_id)),
            "{state:?}"
        );

        for name in ["one", "two"] {
            let content = json!({ "name": name });
            set_state(&alice, &room_id, "m.room.name", "", content)
                .await
                .ok();
        }
        say(&alice, &room_id, "hello").await;
        let news = sync_after(&alice, Some(&told["next_batch"]), json!({})).await;
        let room = joined(&news, &room_id);
        let timeline = types(&room["timeline"]["events"]);
        assert_eq!(timeline, ["m.room.name", "m.room.name", "m.room.message"]);
        assert_eq!(types(&room["state_after"]["events"]), ["m.room.name"]);
        assert_eq!(room["state_after"]["events"][0]["content"]["name"], "two");

        say(&alice, &room_id, "again").await;
        let news = sync_after(&alice, Some(&news["next_batch"]), json!({})).await;
        assert_eq!(
            joined(&news, &room_id)["state_after"],
            json!({ "events": [] })
        );

        let before = sync(&alice, Some(&told["next_batch"]), json!({})).await;
        let room = joined(&before, &room_id);
        assert!(room.get("state_after").is_none(), "{room}");
        assert_eq!(room["state"], json!({ "events": [] }));
    })
    .await;
}

#[tokio::test]
async fn the_state_after_a_limited_timeline_is_that_of_now() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let one = json!({ "room": { "timeline": { "limit": 1 } } });
        let since = sync(&alice, None, json!({})).await["next_batch"].clone();
        for name in ["one", "two"] {
            let content = json!({ "name": name });
            set_state(&alice, &room_id, "m.room.name", "", content)
                .await
                .ok();
        }
        let after = sync_after(&alice, Some(&since), one.clone()).await;
        let state = &joined(&after, &room_id)["state_after"]["events"];
        assert_eq!(types(state), ["m.room.name"]);
        assert_eq!(state[0]["content"]["name"], "two");
        // At the start of the timeline it was the other.
        let before = sync(&alice, Some(&since), one).await;
        let state = &joined(&before, &room_id)["state"]["events"];
        assert_eq!(types(state), ["m.room.name"]);
        assert_eq!(state[0]["content"]["name"], "one");
    })
    .await;
}

#[tokio::test]
async fn lazily_loaded_members_who_wrote_are_in_the_state_after() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        // Without a name, the room would be named after its members.
        let plan = json!({ "preset": "public_chat", "name": "named" });
        let room_id = create(&alice, plan).await;
        for client in [&bob, &carol] {
            join(client, &room_id).await.ok();
        }
        let told = sync_after(&alice, None, lazy()).await;
        let state = types(&joined(&told, &room_id)["state_after"]["events"]);
        assert!(
            state.contains(&format!("m.room.member {}", carol.user_id)),
            "{state:?}"
        );
        assert!(
            !state.contains(&format!("m.room.member {}", bob.user_id)),
            "{state:?}"
        );
        say(&bob, &room_id, "hi").await;
        let news = sync_after(&alice, Some(&told["next_batch"]), lazy()).await;
        let state = types(&joined(&news, &room_id)["state_after"]["events"]);
        assert_eq!(state, [format!("m.room.member {}", bob.user_id)]);
    })
    .await;
}

#[tokio::test]
async fn members_who_changed_in_a_gap_are_told_also_to_who_loads_them_lazily() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        say(&bob, &room_id, "seen").await;
        let since = sync(&alice, None, lazy()).await["next_batch"].clone();
        join(&carol, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        say(&alice, &room_id, "newest").await;
        let told = sync(&alice, Some(&since), lazy()).await;
        let room = joined(&told, &room_id);
        assert_eq!(room["timeline"]["limited"], true);
        let state = types(&room["state"]["events"]);
        for client in [&bob, &carol] {
            let member = format!("m.room.member {}", client.user_id);
            assert!(state.contains(&member), "{member} in {state:?}");
        }
        let left = room["state"]["events"].as_array().unwrap().iter();
        let mut left = left.filter(|event| event["content"]["membership"] == "leave");
        assert_eq!(left.next().unwrap()["state_key"], bob.user_id.as_str());
    })
    .await;
}

#[tokio::test]
async fn members_are_told_once_unless_they_are_wanted_again() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let redundant = json!({ "room": { "state": {
            "lazy_load_members": true,
            "include_redundant_members": true,
        } } });
        let mut since = sync(&alice, None, lazy()).await["next_batch"].clone();
        for (text, filter, expected) in [
            ("one", lazy(), 0),
            ("two", lazy(), 0),
            ("three", redundant.clone(), 1),
            ("four", redundant, 1),
        ] {
            say(&bob, &room_id, text).await;
            let told = sync(&alice, Some(&since), filter).await;
            since = told["next_batch"].clone();
            let state = joined(&told, &room_id)["state"]["events"]
                .as_array()
                .unwrap();
            assert_eq!(state.len(), expected, "{text}: {state:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn state_that_a_filter_keeps_from_the_timeline_is_told_as_state() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let messages = json!({ "room": { "timeline": { "types": ["m.room.message"] } } });
        let since = sync(&alice, None, messages.clone()).await["next_batch"].clone();
        for at in ["before", "after"] {
            let content = json!({ "name": at });
            set_state(&alice, &room_id, "m.room.name", "", content)
                .await
                .ok();
            say(&alice, &room_id, at).await;
        }
        set_state(
            &alice,
            &room_id,
            "m.room.topic",
            "",
            json!({ "topic": "last" }),
        )
        .await
        .ok();
        let told = sync(&alice, Some(&since), messages).await;
        let room = joined(&told, &room_id);
        assert_eq!(types(&room["timeline"]["events"]), ["m.room.message"; 2]);
        let state = &room["state"]["events"];
        assert_eq!(types(state), ["m.room.name", "m.room.topic"]);
        assert_eq!(state[0]["content"]["name"], "after");
    })
    .await;
}

#[tokio::test]
async fn the_whole_state_is_told_when_it_is_asked_for() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let first = sync(&alice, None, json!({})).await;
        let since = first["next_batch"].as_str().unwrap();
        for (parameter, name) in [("", "state"), ("&use_state_after=true", "state_after")] {
            let path = format!(
                "/_matrix/client/v3/sync?timeout=30000&full_state=true&since={since}{parameter}"
            );
            // It is answered at once.
            let told = alice.get(&path).await.ok();
            let room = joined(&told, &room_id);
            assert_eq!(room["timeline"]["events"], json!([]));
            let state = types(&room[name]["events"]);
            assert!(state.contains(&"m.room.create".to_owned()), "{state:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_joins_is_told_of_their_own_membership_however_members_are_loaded() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let since = sync(&bob, None, lazy()).await["next_batch"].clone();
        join(&bob, &room_id).await.ok();
        say(&alice, &room_id, "one").await;
        say(&alice, &room_id, "two").await;
        for since in [Some(&since), None] {
            let told = sync(&bob, since, lazy()).await;
            let room = joined(&told, &room_id);
            assert_eq!(types(&room["timeline"]["events"]), ["m.room.message"]);
            let state = &room["state"]["events"];
            let mut events = state.as_array().unwrap().iter();
            assert!(
                events.any(|event| event["state_key"] == bob.user_id),
                "{state}"
            );
        }
    })
    .await;
}
