//! Who may not write, and how often one may.

use std::{sync::Arc, time::Duration};

use parley_conformance::{TestOptions, on_each_engine, on_each_engine_with};
use parley_engine::{clock::ManualClock, limits::UserLimit, settings::RateLimit};
use serde_json::json;

use super::{
    BASE, act, act_self, create_public, get_event, join, quoted, room_path, say, set_state, try_say,
};

/// Little of everything, and then nothing for long.
fn options() -> TestOptions {
    let mut options = TestOptions::default();
    let limits = &mut options.engine.rate_limits;
    limits.enabled = true;
    let few = RateLimit::new(0.001, 3);
    limits.messages = few;
    limits.invites = few;
    limits.joins = few;
    limits.room_creation = few;
    options
}

#[tokio::test]
async fn who_does_something_too_often_is_told_to_wait() {
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        create_public(&alice).await;
        create_public(&alice).await;
        let answer = alice.post(&format!("{BASE}/createRoom"), json!({})).await;
        answer.is_refused(429, "M_LIMIT_EXCEEDED");
        assert!(answer.body["retry_after_ms"].is_u64());
        assert!(answer.headers.contains_key("retry-after"));
        for text in ["a", "b", "c"] {
            say(&alice, &room_id, text).await;
        }
        let refused = [
            try_say(&alice, &room_id, "d", "d").await,
            set_state(&alice, &room_id, "m.room.name", "", json!({})).await,
            alice
                .put(&room_path(&room_id, "redact/$x/1"), json!({}))
                .await,
        ];
        for answer in refused {
            answer.is_refused(429, "M_LIMIT_EXCEEDED");
        }
        for _ in 0..3 {
            join(&bob, &room_id).await.ok();
        }
        join(&bob, &room_id)
            .await
            .is_refused(429, "M_LIMIT_EXCEEDED");
        act_self(&bob, &room_id, "join")
            .await
            .is_refused(429, "M_LIMIT_EXCEEDED");
        say(&bob, &room_id, "others are not limited").await;
        for _ in 0..3 {
            act(&alice, &room_id, "invite", &bob)
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        act(&alice, &room_id, "invite", &bob)
            .await
            .is_refused(429, "M_LIMIT_EXCEEDED");
    })
    .await;
}

#[tokio::test]
async fn a_suspended_user_reads_leaves_redacts_what_was_theirs_and_does_nothing_else() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let other_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let id = say(&bob, &room_id, "hello").await;
        let others = say(&alice, &room_id, "hello").await;
        let user_id = bob.user_id.as_str().try_into().unwrap();
        server
            .engine()
            .accounts()
            .set_suspended(user_id, true)
            .await
            .unwrap();
        let redact = |id: &str| room_path(&room_id, &format!("redact/{}/1", quoted(id)));
        let alias = format!("{BASE}/directory/room/{}", quoted("#bob:parley.test"));
        let chat = format!(
            "/_matrix/client/unstable/im.parley/direct_chat/{}",
            quoted(&alice.user_id)
        );
        let refused = [
            try_say(&bob, &room_id, "again", "2").await,
            set_state(&bob, &room_id, "com.example", &bob.user_id, json!({})).await,
            bob.put(&redact(&others), json!({})).await,
            bob.post(&format!("{BASE}/createRoom"), json!({})).await,
            join(&bob, &other_id).await,
            act_self(&bob, &other_id, "join").await,
            act(&bob, &room_id, "invite", &alice).await,
            act(&bob, &room_id, "kick", &alice).await,
            bob.put(&alias, json!({ "room_id": room_id })).await,
            bob.post(&chat, json!({})).await,
        ];
        for answer in refused {
            answer.is_refused(403, "M_USER_SUSPENDED");
        }
        bob.put(&redact(&id), json!({})).await.ok();
        get_event(&bob, &room_id, &id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        act_self(&bob, &room_id, "forget").await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_room_takes_no_more_than_it_may_whoever_sends() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        // Of which a join takes one.
        options.engine.rate_limits.room_messages = RateLimit::new(0.001, 4);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let other_id = create_public(&alice).await;
        // Who isn't in the room doesn't use up what it may take.
        for text in ["a", "b", "c", "d"] {
            try_say(&bob, &room_id, text, text)
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        join(&bob, &room_id).await.ok();
        for (client, text) in [(&alice, "a"), (&bob, "b"), (&alice, "c")] {
            say(client, &room_id, text).await;
        }
        let refused = try_say(&bob, &room_id, "d", "d").await;
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        // What was sent before is answered again.
        say(&alice, &room_id, "c").await;
        say(&alice, &other_id, "other rooms aren't limited").await;
    })
    .await;
}

#[tokio::test]
async fn an_administrator_gives_a_user_limits_of_their_own() {
    on_each_engine_with(options, async |server| {
        let admin = server.register("admin").await;
        let bot = server.register("bot").await;
        let user_id = admin.user_id.as_str().try_into().unwrap();
        let accounts = server.engine().accounts();
        accounts.set_admin(user_id, true).await.unwrap();
        let path = |user_id: &str| {
            format!(
                "/_synapse/admin/v1/users/{}/override_ratelimit",
                quoted(user_id)
            )
        };
        let own = path(&bot.user_id);
        let unlimited = json!({ "messages_per_second": 0, "burst_count": 0 });
        server
            .client()
            .get(&own)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
        bot.post(&own, unlimited.clone())
            .await
            .is_refused(403, "M_FORBIDDEN");
        assert_eq!(admin.get(&own).await.ok(), json!({}));
        for (other, status, code) in [
            ("@nobody:parley.test", 404, "M_NOT_FOUND"),
            ("@bot:elsewhere.test", 400, "M_INVALID_PARAM"),
            ("bot", 400, "M_INVALID_PARAM"),
        ] {
            admin.get(&path(other)).await.is_refused(status, code);
        }
        let negative = json!({ "messages_per_second": -1 });
        admin
            .post(&own, negative)
            .await
            .is_refused(400, "M_INVALID_PARAM");

        assert_eq!(admin.post(&own, unlimited.clone()).await.ok(), unlimited);
        let room_id = create_public(&bot).await;
        for number in 0..10 {
            say(&bot, &room_id, &number.to_string()).await;
        }
        server.restart().await;
        assert_eq!(admin.get(&own).await.ok(), unlimited);
        say(&bot, &room_id, "after the restart").await;

        admin.delete(&own, json!({})).await.ok();
        for number in 10..13 {
            say(&bot, &room_id, &number.to_string()).await;
        }
        let refused = try_say(&bot, &room_id, "more", "more").await;
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
    })
    .await;
}

#[tokio::test]
async fn the_invitations_of_a_new_room_count_like_others() {
    let options = || {
        let mut options = TestOptions::default();
        let limits = &mut options.engine.rate_limits;
        limits.enabled = true;
        limits.invites = RateLimit::new(0.001, 3);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let carol = server.register("carol").await;
        let mut others = Vec::new();
        for name in ["bob", "dan", "eve", "fay"] {
            others.push(server.register(name).await.user_id);
        }
        // A room for more than three can be made by who has invited nobody lately.
        let plan = json!({ "invite": others });
        let create = format!("{BASE}/createRoom");
        alice.post(&create, plan).await.ok();
        let refused = alice.post(&create, json!({ "invite": others[..1] })).await;
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        // And by nobody else, nor is anything made of it.
        let room_id = create_public(&carol).await;
        let body = json!({ "user_id": others[0] });
        carol.post(&room_path(&room_id, "invite"), body).await.ok();
        let plan = json!({ "invite": others[..3] });
        let refused = carol.post(&create, plan).await;
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        let rooms = carol.get(&format!("{BASE}/joined_rooms")).await.ok();
        assert_eq!(rooms["joined_rooms"], json!([room_id]));
        // Naming somebody twice is one invitation.
        let plan = json!({ "invite": [others[1], others[1], others[2]] });
        carol.post(&create, plan).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_room_takes_no_more_changes_of_memberships_than_it_may_but_for_leaving() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        options.engine.rate_limits.room_messages = RateLimit::new(0.001, 4);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create_public(&alice).await;
        // Who may not do it doesn't use up what the room takes.
        for _ in 0..5 {
            act(&bob, &room_id, "kick", &alice)
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        act(&alice, &room_id, "invite", &bob).await.ok();
        join(&bob, &room_id).await.ok();
        let path = format!("{BASE}/profile/{}/displayname", quoted(&bob.user_id));
        bob.put(&path, json!({ "displayname": "Bob" })).await.ok();
        act(&alice, &room_id, "ban", &carol).await.ok();
        for answer in [
            act(&alice, &room_id, "unban", &carol).await,
            act(&alice, &room_id, "kick", &bob).await,
            try_say(&alice, &room_id, "a", "a").await,
        ] {
            answer.is_refused(429, "M_LIMIT_EXCEEDED");
        }
        // A profile is changed all the same, or the room would keep the old name.
        bob.put(&path, json!({ "displayname": "Rob" })).await.ok();
        let joined = room_path(&room_id, "joined_members");
        let joined = alice.get(&joined).await.ok();
        assert_eq!(joined["joined"][&bob.user_id]["display_name"], "Rob");
        act_self(&bob, &room_id, "leave").await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_user_gets_no_more_invitations_than_they_may_whoever_invites() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        options.engine.rate_limits.received_invites = RateLimit::new(0.001, 3);
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let dan = server.register("dan").await;
        let first = create_public(&alice).await;
        let second = create_public(&bob).await;
        // An invitation that the room doesn't allow is none.
        for _ in 0..4 {
            act(&bob, &first, "invite", &carol)
                .await
                .is_refused(403, "M_FORBIDDEN");
        }
        act(&alice, &first, "invite", &carol).await.ok();
        let invite = json!({ "membership": "invite" });
        set_state(
            &bob,
            &second,
            "m.room.member",
            &carol.user_id,
            invite.clone(),
        )
        .await
        .ok();
        let plan = json!({ "invite": [carol.user_id] });
        let create = format!("{BASE}/createRoom");
        bob.post(&create, plan.clone()).await.ok();
        for answer in [
            bob.post(&create, plan).await,
            act(&alice, &first, "invite", &carol).await,
            set_state(&alice, &first, "m.room.member", &carol.user_id, invite).await,
        ] {
            answer.is_refused(429, "M_LIMIT_EXCEEDED");
        }
        act(&alice, &first, "invite", &dan).await.ok();
        join(&carol, &first).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_user_may_have_less_than_others() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits.enabled = true;
        options.clock = Some(Arc::new(ManualClock::new(1_700_000_000_000)));
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let user_id = bob.user_id.as_str().try_into().unwrap();
        let little = UserLimit {
            per_second: 1,
            burst: 1,
        };
        let accounts = server.engine().accounts();
        accounts
            .set_rate_limit(user_id, Some(little))
            .await
            .unwrap();
        say(&bob, &room_id, "one").await;
        let refused = try_say(&bob, &room_id, "two", "two").await;
        refused.is_refused(429, "M_LIMIT_EXCEEDED");
        for text in ["a", "b", "c"] {
            say(&alice, &room_id, text).await;
        }
        server.clock().advance(Duration::from_secs(1));
        say(&bob, &room_id, "two").await;
    })
    .await;
}
