//! Who is in a room: invite, join, leave, kick, ban, unban, forget.

use parley_conformance::{Client, TestOptions, on_each_engine, on_each_engine_with};
use serde_json::{Value, json};

use super::{
    BASE, act, act_self, create, create_public, get_state, join, quoted, room_path, say, set_state,
    try_say,
};

/// What a member event says of a user.
async fn membership(client: &Client, room_id: &str, of: &Client) -> Value {
    get_state(client, room_id, "m.room.member", &of.user_id)
        .await
        .ok()["membership"]
        .clone()
}

#[tokio::test]
async fn a_public_room_is_joined_by_id_and_by_alias_and_joining_twice_changes_nothing() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let plan = json!({ "preset": "public_chat", "room_alias_name": "harbour" });
        let room_id = create(&alice, plan).await;
        let answer = join(&bob, "#harbour:parley.test").await.ok();
        assert_eq!(answer["room_id"], room_id.as_str());
        let path = room_path(
            &room_id,
            &format!("state/m.room.member/{}?format=event", quoted(&bob.user_id)),
        );
        let first = alice.get(&path).await.ok();
        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "join").await.ok();
        let second = alice.get(&path).await.ok();
        assert_eq!(first["event_id"], second["event_id"]);
        join(&bob, "#nowhere:parley.test")
            .await
            .is_refused(404, "M_NOT_FOUND");
        join(&bob, "!nowhere:parley.test")
            .await
            .is_refused(404, "M_NOT_FOUND");
        join(&bob, "nowhere")
            .await
            .is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn a_join_without_a_body_is_a_join() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let post = reqwest::Method::POST;
        let path = format!("{BASE}/join/{}", quoted(&room_id));
        bob.send(post.clone(), &path, None::<String>).await.ok();
        let path = room_path(&room_id, "leave");
        bob.send(post, &path, None::<String>).await.ok();
    })
    .await;
}

#[tokio::test]
async fn what_a_client_adds_to_its_join_is_kept_but_not_what_the_server_says() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let body = json!({ "foo": "bar", "reason": "why not", "membership": "ban", "third_party_invite": {} });
        bob.post(&room_path(&room_id, "join"), body).await.ok();
        let member = get_state(&bob, &room_id, "m.room.member", &bob.user_id).await.ok();
        assert_eq!(member["foo"], "bar");
        assert_eq!(member["reason"], "why not");
        assert_eq!(member["membership"], "join");
        assert!(member.get("third_party_invite").is_none());
    })
    .await;
}

#[tokio::test]
async fn who_is_not_invited_stays_out_and_who_is_comes_in() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
        act(&bob, &room_id, "invite", &bob).await.is_refused(403, "M_FORBIDDEN");
        act(&alice, &room_id, "invite", &alice).await.is_refused(403, "M_FORBIDDEN");
        act(&alice, &room_id, "invite", &bob).await.ok();
        assert_eq!(membership(&alice, &room_id, &bob).await, "invite");
        join(&bob, &room_id).await.ok();
        act(&alice, &room_id, "invite", &bob).await.is_refused(403, "M_FORBIDDEN");
        let answer = alice.post(&room_path(&room_id, "invite"), json!({ "user_id": "@nobody:parley.test" })).await;
        answer.is_refused(404, "M_NOT_FOUND");
        let answer = alice.post(&room_path(&room_id, "invite"), json!({ "user_id": "nobody" })).await;
        answer.is_refused(400, "M_BAD_JSON");
        let email = json!({ "id_server": "id.example", "id_access_token": "t", "medium": "email", "address": "a@b.example" });
        let answer = alice.post(&room_path(&room_id, "invite"), email).await;
        answer.is_refused(403, "M_THREEPID_DENIED");
    })
    .await;
}

#[tokio::test]
async fn an_invitation_can_be_declined_even_when_nobody_is_left() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "invite": [bob.user_id] })).await;
        act_self(&alice, &room_id, "leave").await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn who_was_never_there_cannot_leave_nor_forget() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        act_self(&bob, &room_id, "leave")
            .await
            .is_refused(403, "M_FORBIDDEN");
        act_self(&bob, &room_id, "forget")
            .await
            .is_refused(404, "M_NOT_FOUND");
        act_self(&bob, "!nowhere:parley.test", "leave")
            .await
            .is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_kicked_user_may_come_back_and_a_banned_one_may_not() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let body = json!({ "user_id": bob.user_id, "reason": "noise" });
        alice.post(&room_path(&room_id, "kick"), body).await.ok();
        let member = get_state(&alice, &room_id, "m.room.member", &bob.user_id)
            .await
            .ok();
        assert_eq!(
            (&member["membership"], &member["reason"]),
            (&json!("leave"), &json!("noise"))
        );
        act(&alice, &room_id, "kick", &bob)
            .await
            .is_refused(403, "M_FORBIDDEN");
        join(&bob, &room_id).await.ok();
        act(&alice, &room_id, "unban", &bob)
            .await
            .is_refused(403, "M_BAD_STATE");
        act(&alice, &room_id, "ban", &bob).await.ok();
        join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
        act(&alice, &room_id, "invite", &bob)
            .await
            .is_refused(403, "M_FORBIDDEN");
        act(&alice, &room_id, "kick", &bob)
            .await
            .is_refused(403, "M_FORBIDDEN");
        act_self(&bob, &room_id, "leave")
            .await
            .is_refused(403, "M_FORBIDDEN");
        act(&alice, &room_id, "unban", &bob).await.ok();
        assert_eq!(membership(&alice, &room_id, &bob).await, "leave");
        join(&bob, &room_id).await.ok();
    })
    .await;
}

#[tokio::test]
async fn only_those_with_power_remove_others_and_none_above_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        for version in ["11", "12"] {
            let room_id = create(
                &alice,
                json!({ "preset": "public_chat", "room_version": version }),
            )
            .await;
            for user in [&bob, &carol] {
                join(user, &room_id).await.ok();
            }
            for action in ["kick", "ban"] {
                act(&bob, &room_id, action, &carol)
                    .await
                    .is_refused(403, "M_FORBIDDEN");
                act(&bob, &room_id, action, &alice)
                    .await
                    .is_refused(403, "M_FORBIDDEN");
            }
            let mut levels = get_state(&alice, &room_id, "m.room.power_levels", "")
                .await
                .ok();
            levels["users"][&bob.user_id] = json!(50);
            set_state(&alice, &room_id, "m.room.power_levels", "", levels)
                .await
                .ok();
            act(&bob, &room_id, "kick", &alice)
                .await
                .is_refused(403, "M_FORBIDDEN");
            act(&bob, &room_id, "ban", &carol).await.ok();
            act(&carol, &room_id, "unban", &carol)
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_not_in_the_room_removes_nobody_and_says_nothing() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        for action in ["kick", "ban", "unban", "invite"] {
            act(&bob, &room_id, action, &alice)
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        act(&alice, &room_id, "kick", &bob)
            .await
            .is_refused(403, "M_FORBIDDEN");
        try_say(&bob, &room_id, "hello", "1")
            .await
            .is_refused(403, "M_FORBIDDEN");
        set_state(&bob, &room_id, "m.room.name", "", json!({}))
            .await
            .is_refused(403, "M_FORBIDDEN");
        for room_id in [room_id.as_str(), "!nowhere:parley.test"] {
            for path in [
                "state",
                "messages?dir=b",
                "members",
                "joined_members",
                "aliases",
            ] {
                bob.get(&room_path(room_id, path))
                    .await
                    .is_refused(403, "M_FORBIDDEN");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_is_forgotten_only_after_leaving_and_seen_again_after_coming_back() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "invite": [bob.user_id] })).await;
        join(&bob, &room_id).await.ok();
        let before = say(&alice, &room_id, "before").await;
        act_self(&bob, &room_id, "forget")
            .await
            .is_refused(400, "M_UNKNOWN");
        act_self(&bob, &room_id, "leave").await.ok();
        bob.get(&room_path(&room_id, "messages?dir=b")).await.ok();
        act_self(&bob, &room_id, "forget").await.ok();
        for path in ["messages?dir=b", "messages", "members", "state"] {
            bob.get(&room_path(&room_id, path))
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
        act(&alice, &room_id, "invite", &bob).await.ok();
        join(&bob, &room_id).await.ok();
        let page = bob
            .get(&room_path(&room_id, "messages?dir=b&limit=100"))
            .await
            .ok();
        let ids: Vec<&Value> = page["chunk"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["event_id"])
            .collect();
        assert!(ids.contains(&&json!(before)), "{page}");
    })
    .await;
}

#[tokio::test]
async fn the_last_to_leave_can_forget_the_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        act_self(&alice, &room_id, "leave").await.ok();
        act_self(&alice, &room_id, "forget").await.ok();
        act_self(&alice, &room_id, "forget").await.ok();
        alice
            .get(&room_path(&room_id, "messages?dir=b"))
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn joined_rooms_are_those_one_is_in() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let one = create_public(&alice).await;
        let two = create(&alice, json!({ "invite": [bob.user_id] })).await;
        let rooms =
            async || bob.get(&format!("{BASE}/joined_rooms")).await.ok()["joined_rooms"].clone();
        assert_eq!(rooms().await, json!([]));
        join(&bob, &one).await.ok();
        assert_eq!(rooms().await, json!([one]));
        join(&bob, &two).await.ok();
        act_self(&bob, &one, "leave").await.ok();
        assert_eq!(rooms().await, json!([two]));
    })
    .await;
}

#[tokio::test]
async fn joined_members_are_told_with_names_even_if_they_have_none() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        for version in ["v3", "r0"] {
            let path = format!(
                "/_matrix/client/{version}/rooms/{}/joined_members",
                quoted(&room_id)
            );
            let joined = alice.get(&path).await.ok()["joined"].clone();
            assert_eq!(joined.as_object().unwrap().len(), 1);
            let own = joined[&alice.user_id].as_object().unwrap();
            assert!(
                own.contains_key("display_name") && own.contains_key("avatar_url"),
                "{own:?}"
            );
            bob.get(&path).await.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn members_of_an_allowed_room_join_a_restricted_one() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let club = create_public(&alice).await;
        for version in ["8", "10", "12"] {
            let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }] });
            let rule = json!({ "type": "m.room.join_rules", "state_key": "", "content": rule });
            let room_id = create(&alice, json!({ "room_version": version, "initial_state": [rule] })).await;
            join(&bob, &room_id)
                .await
                .is_refused(403, "M_FORBIDDEN");
            join(&bob, &club).await.ok();
            join(&bob, &room_id).await.ok();
            let member = get_state(&bob, &room_id, "m.room.member", &bob.user_id).await.ok();
            assert_eq!(member["join_authorised_via_users_server"], alice.user_id.as_str());
            act_self(&bob, &club, "leave").await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn who_may_not_invite_is_not_told_who_exists() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let levels = json!({ "invite": 50 });
        let plan = json!({ "preset": "public_chat", "power_level_content_override": levels });
        let room_id = create(&alice, plan).await;
        join(&bob, &room_id).await.ok();
        let invite = async |client: &Client| {
            let nobody = json!({ "user_id": "@nobody:parley.test" });
            client.post(&room_path(&room_id, "invite"), nobody).await
        };
        invite(&bob).await.is_refused(403, "M_FORBIDDEN");
        invite(&alice).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_room_is_forgotten_upon_leaving_where_the_server_is_set_to() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rooms.forget_on_leave = true;
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        for path in ["messages?dir=b", "members", "state"] {
            bob.get(&room_path(&room_id, path))
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        let capabilities = bob.get(&format!("{BASE}/capabilities")).await.ok();
        let forced = &capabilities["capabilities"]["m.forget_forced_upon_leave"];
        assert_eq!(forced["enabled"], true);
        join(&bob, &room_id).await.ok();
        bob.get(&room_path(&room_id, "messages?dir=b")).await.ok();
        // So it is if others put them out.
        for how in ["kick", "ban"] {
            act(&alice, &room_id, how, &bob).await.ok();
            bob.get(&room_path(&room_id, "messages?dir=b"))
                .await
                .is_refused(403, "M_FORBIDDEN");
            let everything = json!({ "room": { "include_leave": true } }).to_string();
            let path = format!("{BASE}/sync?timeout=0&filter={}", quoted(&everything));
            let rooms = &bob.get(&path).await.ok()["rooms"];
            assert!(rooms["leave"].get(&room_id).is_none(), "{rooms}");
            if how == "kick" {
                join(&bob, &room_id).await.ok();
            }
        }
    })
    .await;
}
