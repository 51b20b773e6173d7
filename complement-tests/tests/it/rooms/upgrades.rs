//! Replacing rooms by those of another version.

use parley_conformance::{Answer, Client, TestOptions, on_each_engine, on_each_engine_with};
use serde_json::{Value, json};

use super::{
    BASE, act, act_self, create, create_public, get_state, join, quoted, room_path, say, set_state,
    try_say,
};

async fn try_upgrade(client: &Client, room_id: &str, body: Value) -> Answer {
    client.post(&room_path(room_id, "upgrade"), body).await
}

/// Upgrades a room; the id of the new one.
async fn upgrade(client: &Client, room_id: &str, version: &str) -> String {
    let answer = try_upgrade(client, room_id, json!({ "new_version": version })).await;
    answer.ok()["replacement_room"].as_str().unwrap().to_owned()
}

async fn account_data(client: &Client, rest: &str) -> Value {
    let path = format!("{BASE}/user/{}/{rest}", quoted(&client.user_id));
    client.get(&path).await.body
}

async fn set_account_data(client: &Client, rest: &str, content: Value) {
    let path = format!("{BASE}/user/{}/{rest}", quoted(&client.user_id));
    client.put(&path, content).await.ok();
}

#[tokio::test]
async fn an_upgraded_room_and_the_new_one_name_each_other() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for (old, new) in [
            ("10", "11"),
            ("11", "12"),
            ("12", "12"),
            ("12", "11"),
            ("5", "6"),
        ] {
            let content = json!({ "type": "m.space", "m.federate": false });
            let plan =
                json!({ "room_version": old, "creation_content": content, "name": "harbour" });
            let old_id = create(&alice, plan).await;
            let new_id = upgrade(&alice, &old_id, new).await;
            let tombstone = get_state(&alice, &old_id, "m.room.tombstone", "")
                .await
                .ok();
            assert_eq!(tombstone["replacement_room"], new_id.as_str());
            let create = get_state(&alice, &new_id, "m.room.create", "").await.ok();
            assert_eq!(create["predecessor"]["room_id"], old_id.as_str());
            assert_eq!(create["room_version"], new);
            assert_eq!(create["type"], "m.space");
            assert_eq!(create["m.federate"], false);
            let named = &create["predecessor"]["event_id"];
            if new == "12" {
                assert!(named.is_null(), "{create}");
            } else {
                let path = room_path(&old_id, "state/m.room.tombstone/?format=event");
                assert_eq!(*named, alice.get(&path).await.ok()["event_id"]);
            }
            let name = get_state(&alice, &new_id, "m.room.name", "").await.ok();
            assert_eq!(name["name"], "harbour");
            say(&alice, &new_id, "hello").await;
        }
    })
    .await;
}

#[tokio::test]
async fn settings_bans_and_children_go_over_and_members_do_not() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let child = create_public(&alice).await;
        let plan = json!({
            "room_version": "11", "preset": "public_chat", "topic": "ships",
            "creation_content": { "type": "m.space" },
            "power_level_content_override": { "users": { &alice.user_id: 100, &carol.user_id: 50 }, "redact": 75 },
        });
        let old_id = create(&alice, plan).await;
        for user in [&bob, &carol] {
            join(user, &old_id).await.ok();
        }
        let body = json!({ "user_id": bob.user_id, "reason": "noise" });
        alice.post(&room_path(&old_id, "ban"), body).await.ok();
        let states = [
            ("m.room.history_visibility", "", json!({ "history_visibility": "joined" })),
            ("m.room.guest_access", "", json!({ "guest_access": "can_join" })),
            ("m.room.server_acl", "", json!({ "allow": ["*"] })),
            ("m.space.child", child.as_str(), json!({ "via": ["parley.test"] })),
            ("m.space.child", "!gone:parley.test", json!({})),
            ("com.example.own", "", json!({ "a": 1 })),
        ];
        for (event_type, state_key, content) in &states {
            set_state(&alice, &old_id, event_type, state_key, content.clone()).await.ok();
        }
        let new_id = upgrade(&alice, &old_id, "12").await;
        for (event_type, state_key, content) in &states[..4] {
            let carried = get_state(&alice, &new_id, event_type, state_key).await.ok();
            assert_eq!(carried, *content, "{event_type}");
        }
        for (event_type, state_key, _) in &states[4..] {
            let absent = get_state(&alice, &new_id, event_type, state_key).await;
            absent.is_refused(404, "M_NOT_FOUND");
        }
        let topic = get_state(&alice, &new_id, "m.room.topic", "").await.ok();
        assert_eq!(topic["topic"], "ships");
        let ban = get_state(&alice, &new_id, "m.room.member", &bob.user_id).await.ok();
        assert_eq!([&ban["membership"], &ban["reason"]], ["ban", "noise"]);
        let member = get_state(&alice, &new_id, "m.room.member", &carol.user_id).await;
        member.is_refused(404, "M_NOT_FOUND");
        let levels = get_state(&alice, &new_id, "m.room.power_levels", "").await.ok();
        assert_eq!(levels["users"], json!({ &carol.user_id: 50 }));
        assert_eq!(levels["redact"], 75);
        join(&carol, &new_id).await.ok();
        join(&bob, &new_id).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn an_upgraded_room_is_closed_to_who_has_no_power() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let old_id = create(
            &alice,
            json!({ "preset": "public_chat", "room_version": "11" }),
        )
        .await;
        join(&bob, &old_id).await.ok();
        upgrade(&alice, &old_id, "11").await;
        let levels = get_state(&alice, &old_id, "m.room.power_levels", "")
            .await
            .ok();
        assert_eq!([&levels["events_default"], &levels["invite"]], [50, 50]);
        try_say(&bob, &old_id, "still here?", "1")
            .await
            .is_refused(403, "M_FORBIDDEN");
        say(&alice, &old_id, "moved").await;
    })
    .await;
}

#[tokio::test]
async fn whoever_may_close_a_room_can_upgrade_it_and_keeps_their_level() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let levels = json!({
            "users": { &alice.user_id: 100, &bob.user_id: 60 },
            "events": { "m.room.tombstone": 60, "m.room.name": 90, "m.room.power_levels": 100 },
        });
        let plan = json!({
            "room_version": "10", "preset": "public_chat", "name": "harbour", "power_level_content_override": levels,
        });
        let old_id = create(&alice, plan).await;
        for user in [&bob, &carol] {
            join(user, &old_id).await.ok();
        }
        let body = json!({ "new_version": "11" });
        try_upgrade(&carol, &old_id, body.clone()).await.is_refused(403, "M_FORBIDDEN");
        let new_id = upgrade(&bob, &old_id, "11").await;
        let levels = get_state(&bob, &new_id, "m.room.power_levels", "").await.ok();
        assert_eq!(levels["users"][&bob.user_id], 60);
        assert_eq!(levels["users"][&alice.user_id], 100);
        let name = json!({ "name": "mine" });
        set_state(&bob, &new_id, "m.room.name", "", name).await.is_refused(403, "M_FORBIDDEN");
        // The level of power levels themselves was above bob's: the old room stays open.
        join(&alice, &new_id).await.ok();
        say(&carol, &old_id, "still open").await;
    })
    .await;
}

#[tokio::test]
async fn creators_of_a_version_12_room_are_those_that_the_upgrade_names() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let content = json!({ "additional_creators": [carol.user_id] });
        let plan =
            json!({ "room_version": "12", "creation_content": content, "preset": "public_chat" });
        let old_id = create(&alice, plan).await;
        // Named twice is named once, and who upgrades is a creator anyway.
        let creators = [&bob.user_id, &alice.user_id, &bob.user_id];
        let body = json!({ "new_version": "12", "additional_creators": creators });
        let answer = try_upgrade(&alice, &old_id, body).await.ok();
        let new_id = answer["replacement_room"].as_str().unwrap();
        let create = get_state(&alice, new_id, "m.room.create", "").await.ok();
        assert_eq!(create["additional_creators"], json!([bob.user_id]));
        join(&bob, new_id).await.ok();
        set_state(&bob, new_id, "m.room.name", "", json!({ "name": "ours" }))
            .await
            .ok();
        // Down to a version without creators, who upgrades is on top.
        let third = upgrade(&bob, new_id, "11").await;
        let levels = get_state(&bob, &third, "m.room.power_levels", "")
            .await
            .ok();
        assert_eq!(levels["users"], json!({ &bob.user_id: 100 }));
        let create = get_state(&bob, &third, "m.room.create", "").await.ok();
        assert!(create.get("additional_creators").is_none());
    })
    .await;
}

#[tokio::test]
async fn levels_that_are_text_become_numbers_where_the_version_wants_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let levels = json!({ "users": { &alice.user_id: "100" }, "ban": " 60 ", "events": { "m.room.name": "70" } });
        let plan = json!({ "room_version": "6", "power_level_content_override": levels });
        let old_id = create(&alice, plan).await;
        let new_id = upgrade(&alice, &old_id, "11").await;
        let levels = get_state(&alice, &new_id, "m.room.power_levels", "").await.ok();
        assert_eq!(levels["users"][&alice.user_id], 100);
        assert_eq!([&levels["ban"], &levels["events"]["m.room.name"]], [60, 70]);
    })
    .await;
}

#[tokio::test]
async fn aliases_and_the_place_in_the_directory_move() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let plan = json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": "harbour" });
        let old_id = create(&alice, plan).await;
        let path = format!("{BASE}/directory/room/{}", quoted("#pier:parley.test"));
        alice.put(&path, json!({ "room_id": old_id })).await.ok();
        let aliases = json!({ "alias": "#harbour:parley.test", "alt_aliases": ["#pier:parley.test"] });
        set_state(&alice, &old_id, "m.room.canonical_alias", "", aliases.clone()).await.ok();
        let new_id = upgrade(&alice, &old_id, "12").await;
        for alias in ["#harbour:parley.test", "#pier:parley.test"] {
            let path = format!("{BASE}/directory/room/{}", quoted(alias));
            assert_eq!(alice.get(&path).await.ok()["room_id"], new_id.as_str());
        }
        let moved = get_state(&alice, &new_id, "m.room.canonical_alias", "").await.ok();
        assert_eq!(moved, aliases);
        let left = get_state(&alice, &old_id, "m.room.canonical_alias", "").await.ok();
        assert_eq!(left, json!({}));
        let visibility = async |room_id: &str| {
            let path = format!("{BASE}/directory/list/room/{}", quoted(room_id));
            alice.get(&path).await.ok()["visibility"].clone()
        };
        assert_eq!(visibility(&new_id).await, "public");
        assert_eq!(visibility(&old_id).await, "private");
        let rooms = alice.get(&format!("{BASE}/publicRooms")).await.ok();
        assert_eq!(rooms["chunk"].as_array().unwrap().len(), 1);
        assert_eq!(rooms["chunk"][0]["canonical_alias"], "#harbour:parley.test");
    })
    .await;
}

#[tokio::test]
async fn who_upgrades_a_room_twice_gets_one_room_to_which_all_leads() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for (number, version) in ["11", "12", "11", "12"].into_iter().enumerate() {
            let name = format!("harbour{number}");
            let plan =
                json!({ "preset": "public_chat", "visibility": "public", "room_alias_name": name });
            let old_id = create(&alice, plan).await;
            let (one, other, third) = tokio::join!(
                upgrade(&alice, &old_id, version),
                upgrade(&alice, &old_id, version),
                upgrade(&alice, &old_id, version),
            );
            assert_eq!([&other, &third], [&one, &one]);
            // The answer may have been lost, too.
            assert_eq!(upgrade(&alice, &old_id, version).await, one);
            let tombstone = get_state(&alice, &old_id, "m.room.tombstone", "").await;
            assert_eq!(tombstone.ok()["replacement_room"], one);
            let alias = format!("#{name}:parley.test");
            let path = format!("{BASE}/directory/room/{}", quoted(&alias));
            assert_eq!(alice.get(&path).await.ok()["room_id"], one);
            let shown = get_state(&alice, &one, "m.room.canonical_alias", "").await;
            assert_eq!(shown.ok()["alias"], alias);
            let joined = alice.get(&format!("{BASE}/joined_rooms")).await.ok();
            assert_eq!(
                joined["joined_rooms"].as_array().unwrap().len(),
                2 * (number + 1)
            );
            let rooms = alice.get(&format!("{BASE}/publicRooms")).await.ok();
            assert_eq!(rooms["chunk"].as_array().unwrap().len(), number + 1);
        }
    })
    .await;
}

#[tokio::test]
async fn where_two_users_upgrade_a_room_at_once_the_tombstone_names_a_room_that_one_was_given() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let levels = json!({ "users": { &alice.user_id: 100, &bob.user_id: 100 } });
        let plan = json!({
            "preset": "public_chat", "room_version": "11", "power_level_content_override": levels,
        });
        let old_id = create(&alice, plan).await;
        join(&bob, &old_id).await.ok();
        let body = json!({ "new_version": "11" });
        let (by_alice, by_bob) = tokio::join!(
            try_upgrade(&alice, &old_id, body.clone()),
            try_upgrade(&bob, &old_id, body.clone()),
        );
        let mut given = Vec::new();
        for answer in [by_alice, by_bob] {
            match answer.status.as_u16() {
                // The other was first.
                403 => answer.is_refused(403, "M_FORBIDDEN"),
                _ => given.push(answer.ok()["replacement_room"].clone()),
            }
        }
        let tombstone = get_state(&alice, &old_id, "m.room.tombstone", "").await;
        let named = tombstone.ok()["replacement_room"].clone();
        assert!(given.contains(&named), "{named} is not in {given:?}");
    })
    .await;
}

#[tokio::test]
async fn an_upgraded_room_can_be_upgraded_again_to_another_version_or_when_the_new_room_was_left() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let old_id = create_public(&alice).await;
        let mut given = vec![upgrade(&alice, &old_id, "11").await];
        given.push(upgrade(&alice, &old_id, "12").await);
        act_self(&alice, &given[1], "leave").await.ok();
        given.push(upgrade(&alice, &old_id, "12").await);
        for (number, new_id) in given.iter().enumerate() {
            assert!(!given[..number].contains(new_id), "{given:?}");
        }
        let tombstone = get_state(&alice, &old_id, "m.room.tombstone", "").await;
        assert_eq!(tombstone.ok()["replacement_room"], given[2]);
    })
    .await;
}

#[tokio::test]
async fn what_users_keep_of_a_room_goes_over_when_they_follow() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for by_hand in [false, true] {
            let old_id = create(
                &alice,
                json!({ "preset": "public_chat", "room_version": "11" }),
            )
            .await;
            join(&bob, &old_id).await.ok();
            for user in [&alice, &bob] {
                let path = format!("{BASE}/pushrules/global/room/{}", quoted(&old_id));
                user.put(&path, json!({ "actions": ["dont_notify"] }))
                    .await
                    .ok();
                let tag = format!("rooms/{}/tags/m.favourite", quoted(&old_id));
                set_account_data(user, &tag, json!({ "order": 0.5 })).await;
                set_account_data(user, "account_data/m.direct", json!({ "@x:y": [old_id] })).await;
            }
            let new_id = match by_hand {
                false => upgrade(&alice, &old_id, "12").await,
                true => {
                    let content = json!({ "predecessor": { "room_id": old_id } });
                    let plan = json!({ "preset": "public_chat", "creation_content": content });
                    let new_id = create(&alice, plan).await;
                    let tombstone = json!({ "body": "moved", "replacement_room": new_id });
                    set_state(&alice, &old_id, "m.room.tombstone", "", tombstone)
                        .await
                        .ok();
                    new_id
                }
            };
            join(&bob, &new_id).await.ok();
            for user in [&alice, &bob] {
                let path = format!("{BASE}/pushrules/global/room/{}", quoted(&new_id));
                user.get(&path).await.ok();
                let tags = account_data(user, &format!("rooms/{}/tags", quoted(&new_id))).await;
                assert_eq!(tags["tags"], json!({ "m.favourite": { "order": 0.5 } }));
                let direct = account_data(user, "account_data/m.direct").await;
                assert_eq!(direct, json!({ "@x:y": [old_id, new_id] }));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_that_only_claims_to_replace_another_gets_nothing() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let mallory = server.register("mallory").await;
        let room_id = create_public(&alice).await;
        let tag = format!("rooms/{}/tags/m.favourite", quoted(&room_id));
        set_account_data(&alice, &tag, json!({})).await;
        let content = json!({ "predecessor": { "room_id": room_id } });
        let plan = json!({ "preset": "public_chat", "creation_content": content });
        let trap = create(&mallory, plan).await;
        join(&alice, &trap).await.ok();
        let tags = account_data(&alice, &format!("rooms/{}/tags", quoted(&trap))).await;
        assert_eq!(tags["tags"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_upgraded_stays_as_it_is() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        for (version, code) in [
            ("org.example.unknown", "M_UNSUPPORTED_ROOM_VERSION"),
            ("99", "M_UNSUPPORTED_ROOM_VERSION"),
        ] {
            let body = json!({ "new_version": version });
            try_upgrade(&alice, &room_id, body)
                .await
                .is_refused(400, code);
        }
        let body = json!({ "new_version": "12" });
        try_upgrade(&alice, &room_id, json!({}))
            .await
            .is_refused(400, "M_BAD_JSON");
        try_upgrade(&bob, &room_id, body.clone())
            .await
            .is_refused(403, "M_FORBIDDEN");
        join(&bob, &room_id).await.ok();
        try_upgrade(&bob, &room_id, body.clone())
            .await
            .is_refused(403, "M_FORBIDDEN");
        let outside = server.client();
        try_upgrade(&outside, &room_id, body.clone())
            .await
            .is_refused(401, "M_MISSING_TOKEN");
        act_self(&alice, &room_id, "leave").await.ok();
        try_upgrade(&alice, &room_id, body)
            .await
            .is_refused(403, "M_FORBIDDEN");
        let tombstone = get_state(&bob, &room_id, "m.room.tombstone", "").await;
        tombstone.is_refused(404, "M_NOT_FOUND");
        say(&bob, &room_id, "open").await;
    })
    .await;
}

#[tokio::test]
async fn who_is_in_as_many_rooms_as_allowed_upgrades_none() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rooms.max_joined = 1;
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let body = json!({ "new_version": "12" });
        try_upgrade(&alice, &room_id, body)
            .await
            .is_refused(403, "M_USER_LIMIT_EXCEEDED");
    })
    .await;
}

#[tokio::test]
async fn an_upgraded_direct_chat_stays_that_of_both() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let direct = async |one: &Client, other: &Client| {
            let path = format!(
                "/_matrix/client/unstable/im.parley/direct_chat/{}",
                quoted(&other.user_id)
            );
            one.post(&path, json!({})).await.ok()["room_id"].clone()
        };
        let old_id = direct(&alice, &bob).await;
        assert_eq!(direct(&bob, &alice).await, old_id);
        let new_id = upgrade(&alice, old_id.as_str().unwrap(), "12").await;
        let member = get_state(&alice, &new_id, "m.room.member", &bob.user_id)
            .await
            .ok();
        assert_eq!(member["membership"], "invite");
        assert_eq!(direct(&bob, &alice).await, new_id.as_str());
        act(&alice, &new_id, "kick", &bob).await.ok();
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_outlives_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let old_id = create(&alice, json!({ "room_version": "11" })).await;
        let new_id = upgrade(&alice, &old_id, "12").await;
        server.restart().await;
        let tombstone = get_state(&alice, &old_id, "m.room.tombstone", "")
            .await
            .ok();
        assert_eq!(tombstone["replacement_room"], new_id.as_str());
        say(&alice, &new_id, "hello").await;
        say(&alice, &old_id, "hello").await;
    })
    .await;
}

#[tokio::test]
async fn a_room_is_upgraded_whose_power_levels_say_little() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for (levels, old, new) in [
            (json!({ "users": { &alice.user_id: 100 } }), "11", "12"),
            (json!({ "users": { &alice.user_id: 100 } }), "10", "11"),
            (json!({ "events": {}, "users_default": 100 }), "10", "11"),
            (json!({ "events": {} }), "12", "12"),
            (json!({}), "12", "11"),
        ] {
            let plan = json!({ "preset": "public_chat", "room_version": old });
            let old_id = create(&alice, plan).await;
            set_state(&alice, &old_id, "m.room.power_levels", "", levels.clone())
                .await
                .ok();
            let new_id = upgrade(&alice, &old_id, new).await;
            let tombstone = get_state(&alice, &old_id, "m.room.tombstone", "").await;
            assert_eq!(tombstone.ok()["replacement_room"], new_id, "{levels}");
            say(&alice, &new_id, "hello").await;
        }
    })
    .await;
}
