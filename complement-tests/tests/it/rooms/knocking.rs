//! Knocking on rooms, and joining those that are open to the members of others.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{BASE, act, act_self, create, create_public, get_state, join, quoted, set_state};

async fn knock(client: &Client, room: &str, reason: Option<&str>) -> Answer {
    let body = reason.map_or(json!({}), |reason| json!({ "reason": reason }));
    let path = format!("{BASE}/knock/{}", quoted(room));
    client.post(&path, body).await
}

/// A room with that join rule.
async fn create_with_rule(client: &Client, version: &str, rule: Value) -> String {
    let rule = json!({ "type": "m.room.join_rules", "content": rule });
    let plan = json!({ "room_version": version, "initial_state": [rule], "name": "harbour" });
    create(client, plan).await
}

async fn sync(client: &Client, since: Option<&Value>) -> Value {
    let since = since.map_or(String::new(), |since| {
        format!("&since={}", since.as_str().unwrap())
    });
    let path = format!("{BASE}/sync?timeout=0{since}");
    client.get(&path).await.ok()
}

#[tokio::test]
async fn who_knocks_waits_outside_and_is_shown_what_the_room_is() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for version in ["7", "11", "12"] {
            let room_id = create_with_rule(&alice, version, json!({ "join_rule": "knock" })).await;
            join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
            let before = sync(&bob, None).await["next_batch"].clone();
            let answer = knock(&bob, &room_id, Some("rain")).await.ok();
            assert_eq!(answer["room_id"], room_id.as_str());
            let member = get_state(&alice, &room_id, "m.room.member", &bob.user_id)
                .await
                .ok();
            assert_eq!(
                [&member["membership"], &member["reason"]],
                ["knock", "rain"]
            );

            let told = sync(&bob, Some(&before)).await;
            let state = told["rooms"]["knock"][&room_id]["knock_state"]["events"]
                .as_array()
                .unwrap();
            let content = |event_type: &str| {
                let found = state.iter().find(|event| event["type"] == event_type);
                found.unwrap_or_else(|| panic!("{event_type} in {state:?}"))["content"].clone()
            };
            assert_eq!(content("m.room.name")["name"], "harbour");
            assert_eq!(content("m.room.join_rules")["join_rule"], "knock");
            assert_eq!(content("m.room.member")["membership"], "knock");
            assert!(state.iter().all(|event| event.get("event_id").is_none()));
            let after = sync(&bob, Some(&told["next_batch"])).await;
            assert!(after.get("rooms").is_none(), "{after}");
            let anew = sync(&bob, None).await;
            assert!(anew["rooms"]["knock"].get(&room_id).is_some(), "{anew}");
            for path in ["state", "members"] {
                let path = super::room_path(&room_id, path);
                bob.get(&path).await.is_refused(403, "M_FORBIDDEN");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_knock_is_repeated_taken_back_rejected_or_answered() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_with_rule(&alice, "11", json!({ "join_rule": "knock" })).await;
        knock(&bob, &room_id, None).await.ok();
        knock(&bob, &room_id, Some("still here")).await.ok();
        let since = sync(&bob, None).await["next_batch"].clone();
        act_self(&bob, &room_id, "leave").await.ok();
        let told = sync(&bob, Some(&since)).await;
        let events = &told["rooms"]["leave"][&room_id]["timeline"]["events"];
        assert_eq!(events[0]["content"]["membership"], "leave", "{told}");

        knock(&bob, &room_id, None).await.ok();
        act(&alice, &room_id, "kick", &bob).await.ok();
        knock(&bob, &room_id, None).await.ok();
        act(&alice, &room_id, "invite", &bob).await.ok();
        knock(&bob, &room_id, None)
            .await
            .is_refused(403, "M_FORBIDDEN");
        join(&bob, &room_id).await.ok();
        knock(&bob, &room_id, None)
            .await
            .is_refused(403, "M_FORBIDDEN");
        act(&alice, &room_id, "ban", &bob).await.ok();
        knock(&bob, &room_id, None)
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn nobody_knocks_on_what_has_no_door() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let closed = create(&alice, json!({ "room_version": "11" })).await;
        let open = create_public(&alice).await;
        for room in [&closed, &open] {
            knock(&bob, room, None).await.is_refused(403, "M_FORBIDDEN");
        }
        // Version 6 knows no knocking: the rule is no rule there.
        let old = create_with_rule(&alice, "6", json!({ "join_rule": "knock" })).await;
        knock(&bob, &old, None).await.is_refused(403, "M_FORBIDDEN");
        for nowhere in ["!nowhere:parley.test", "#nowhere:parley.test"] {
            knock(&bob, nowhere, None)
                .await
                .is_refused(404, "M_NOT_FOUND");
        }
        knock(&bob, "nowhere", None)
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let outside = server.client();
        knock(&outside, &closed, None)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn an_alias_is_knocked_on_like_its_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let rule = json!({ "type": "m.room.join_rules", "content": { "join_rule": "knock" } });
        let plan = json!({ "room_alias_name": "harbour", "initial_state": [rule] });
        let room_id = create(&alice, plan).await;
        let answer = knock(&bob, "#harbour:parley.test", None).await.ok();
        assert_eq!(answer["room_id"], room_id.as_str());
    })
    .await;
}

#[tokio::test]
async fn a_knock_restricted_room_lets_members_in_and_others_knock() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let club = create_public(&alice).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
        let rule = json!({ "join_rule": "knock_restricted", "allow": allow });
        for version in ["10", "12"] {
            let room_id = create_with_rule(&alice, version, rule.clone()).await;
            join(&bob, &club).await.ok();
            join(&bob, &room_id).await.ok();
            let member = get_state(&bob, &room_id, "m.room.member", &bob.user_id)
                .await
                .ok();
            assert_eq!(
                member["join_authorised_via_users_server"],
                alice.user_id.as_str()
            );
            join(&carol, &room_id).await.is_refused(403, "M_FORBIDDEN");
            knock(&carol, &room_id, None).await.ok();
            act(&alice, &room_id, "invite", &carol).await.ok();
            join(&carol, &room_id).await.ok();
        }
        // Before version 10 the two rules can't be had at once.
        let old = create_with_rule(&alice, "9", rule).await;
        join(&bob, &old).await.is_refused(403, "M_FORBIDDEN");
        knock(&carol, &old, None)
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn a_restricted_room_is_closed_when_the_allowed_room_or_the_rule_is_left() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let club = create_public(&alice).await;
        let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
        let rule = json!({ "join_rule": "restricted", "allow": allow });
        let room_id = create_with_rule(&alice, "10", rule).await;
        join(&bob, &club).await.ok();
        join(&bob, &room_id).await.ok();
        // Who is inside may go on changing their own membership.
        let path = format!("{BASE}/profile/{}/displayname", quoted(&bob.user_id));
        bob.put(&path, json!({ "displayname": "Bob" })).await.ok();
        let member = get_state(&alice, &room_id, "m.room.member", &bob.user_id)
            .await
            .ok();
        assert_eq!(member["displayname"], "Bob");
        act_self(&bob, &room_id, "leave").await.ok();
        act_self(&bob, &club, "leave").await.ok();
        join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");

        join(&bob, &club).await.ok();
        for nonsense in [
            json!([{ "type": "m.room_membership" }]),
            json!([{ "type": "x", "room_id": club }]),
            json!([]),
        ] {
            let rule = json!({ "join_rule": "restricted", "allow": nonsense });
            set_state(&alice, &room_id, "m.room.join_rules", "", rule)
                .await
                .ok();
            join(&bob, &room_id).await.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn without_anybody_who_may_invite_nobody_is_let_into_a_restricted_room() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let club = create_public(&alice).await;
        for user in [&bob, &carol] {
            join(user, &club).await.ok();
        }
        let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
        let rule = json!({ "join_rule": "restricted", "allow": allow });
        let rule = json!({ "type": "m.room.join_rules", "content": rule });
        let levels = json!({ "invite": 50 });
        let plan = json!({ "room_version": "10", "initial_state": [rule], "power_level_content_override": levels });
        let room_id = create(&alice, plan).await;
        join(&bob, &room_id).await.ok();
        act_self(&alice, &room_id, "leave").await.ok();
        join(&carol, &room_id).await.is_refused(400, "M_UNABLE_TO_GRANT_JOIN");
    })
    .await;
}
