//! What a room is called that has no name.

use parley_conformance::on_each_engine;
use serde_json::{Value, json};

use super::{joined, sync};
use crate::rooms::{BASE, act, act_self, create, event_id, join, quoted, redact, set_state};

#[tokio::test]
async fn a_room_without_a_name_is_told_with_its_heroes() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let mut others = Vec::new();
        for number in 0..7 {
            others.push(server.register(&format!("user{number}")).await);
        }
        let room_id = create(&alice, json!({ "preset": "public_chat" })).await;
        let first = sync(&alice, None, json!({})).await;
        for (number, other) in others.iter().enumerate() {
            match number % 2 {
                0 => join(other, &room_id).await.ok(),
                _ => act(&alice, &room_id, "invite", other).await.ok(),
            };
        }
        let told = sync(&alice, Some(&first["next_batch"]), json!({})).await;
        let summary = &joined(&told, &room_id)["summary"];
        assert_eq!(summary["m.joined_member_count"], 5);
        assert_eq!(summary["m.invited_member_count"], 3);
        let ids: Vec<&str> = others.iter().map(|other| other.user_id.as_str()).collect();
        // The first five who came, and never oneself.
        assert_eq!(summary["m.heroes"], json!(ids[..5]));
        let by_another = sync(&others[0], None, json!({})).await;
        let heroes = &joined(&by_another, &room_id)["summary"]["m.heroes"];
        assert_eq!(
            heroes,
            &json!([alice.user_id, ids[1], ids[2], ids[3], ids[4]])
        );

        // Who is a hero is told with their member event, also to who loads members lazily.
        let lazy = json!({ "room": {
            "state": { "lazy_load_members": true }, "timeline": { "limit": 1 },
        } });
        let told_lazily = sync(&alice, None, lazy).await;
        let room = joined(&told_lazily, &room_id);
        let all = [&room["state"]["events"], &room["timeline"]["events"]];
        let events = all.iter().flat_map(|events| events.as_array().unwrap());
        let members: Vec<&Value> = events
            .filter(|event| event["type"] == "m.room.member")
            .map(|event| &event["state_key"])
            .collect();
        for id in &ids[..5] {
            assert!(members.contains(&&json!(id)), "{id} is not in {members:?}");
        }
        assert!(members.contains(&&json!(alice.user_id)), "{members:?}");

        let name = json!({ "name": "Harbour" });
        set_state(&alice, &room_id, "m.room.name", "", name)
            .await
            .ok();
        let told = sync(&alice, None, json!({})).await;
        assert!(joined(&told, &room_id)["summary"].get("m.heroes").is_none());
    })
    .await;
}

#[tokio::test]
async fn where_everyone_has_left_those_who_left_are_the_heroes() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "invite": [bob.user_id] })).await;
        act_self(&bob, &room_id, "leave").await.ok();
        let told = sync(&alice, None, json!({})).await;
        let summary = &joined(&told, &room_id)["summary"];
        assert_eq!(summary["m.heroes"], json!([bob.user_id]));
        assert_eq!(summary["m.joined_member_count"], 1);
        assert_eq!(summary["m.invited_member_count"], 0);
    })
    .await;
}

#[tokio::test]
async fn a_room_that_loses_its_name_is_told_with_its_heroes() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for (event_type, key, emptied) in [
            ("m.room.name", "name", Some(json!({ "name": "" }))),
            ("m.room.name", "name", None),
            ("m.room.canonical_alias", "alias", Some(json!({}))),
            ("m.room.canonical_alias", "alias", None),
        ] {
            let room_id = create(&alice, json!({ "preset": "public_chat" })).await;
            let alias = format!("#harbour{}:parley.test", emptied.is_some());
            if key == "alias" {
                let path = format!("{BASE}/directory/room/{}", quoted(&alias));
                alice.put(&path, json!({ "room_id": room_id })).await.ok();
            }
            join(&bob, &room_id).await.ok();
            let called = set_state(&alice, &room_id, event_type, "", json!({ key: alias })).await;
            let called = event_id(&called.ok());
            let lazy = json!({ "room": {
                "state": { "lazy_load_members": true }, "timeline": { "limit": 1 },
            } });
            let before = sync(&alice, None, lazy.clone()).await;
            let summary = &joined(&before, &room_id)["summary"];
            assert!(summary.get("m.heroes").is_none(), "{summary}");

            let taken_away = match emptied {
                Some(content) => set_state(&alice, &room_id, event_type, "", content).await,
                None => redact(&alice, &room_id, &called).await,
            };
            taken_away.ok();
            let told = sync(&alice, Some(&before["next_batch"]), lazy).await;
            let room = joined(&told, &room_id);
            assert_ne!(room["timeline"]["limited"], true);
            assert_eq!(room["summary"]["m.heroes"], json!([bob.user_id]));
            let mut members = room["state"]["events"].as_array().unwrap().iter();
            let is_bob = |event: &Value| {
                event["type"] == "m.room.member" && event["state_key"] == bob.user_id
            };
            assert!(members.any(is_bob), "{room}");
        }
    })
    .await;
}
