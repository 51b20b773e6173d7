//! Finding users by their names.

use parley_conformance::{Client, TestOptions, on_each_engine, on_each_engine_with};
use serde_json::{Value, json};

async fn search(client: &Client, term: &str) -> Value {
    let body = json!({ "search_term": term });
    client
        .post("/_matrix/client/v3/user_directory/search", body)
        .await
        .ok()
}

pub(crate) async fn found(client: &Client, term: &str) -> Vec<String> {
    let answer = search(client, term).await;
    let results = answer["results"].as_array().unwrap().iter();
    let name = |user: &Value| user["user_id"].as_str().unwrap().to_owned();
    results.map(name).collect()
}

pub(crate) async fn name(client: &Client, name: &str) {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", client.user_id);
    client.put(&path, json!({ "displayname": name })).await.ok();
}

async fn room(owner: &Client, preset: &str) -> String {
    let room = owner
        .post("/_matrix/client/v3/createRoom", json!({ "preset": preset }))
        .await
        .ok();
    room["room_id"].as_str().unwrap().to_owned()
}

async fn join(client: &Client, room: &str) {
    let path = format!("/_matrix/client/v3/rooms/{room}/join");
    client.post(&path, json!({})).await.ok();
}

fn everyone() -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.user_directory.all_users = true;
    options
}

#[tokio::test]
async fn users_of_public_rooms_are_found_by_both_names_in_any_case() {
    on_each_engine(async |server| {
        let (alice, bob) = (server.register("alice-b").await, server.register("bob").await);
        room(&alice, "public_chat").await;
        name(&alice, "Ärmel Schöner").await;
        let path = format!("/_matrix/client/v3/profile/{}/avatar_url", alice.user_id);
        alice.put(&path, json!({ "avatar_url": "mxc://parley.test/a" })).await.ok();
        for term in ["alice", "ALI", "alice-b", "@alice-b", "@alice-b:parley.test", "ärm", "schöner ÄRMEL", " b "] {
            let answer = search(&bob, term).await;
            let user = json!({
                "user_id": alice.user_id, "display_name": "Ärmel Schöner", "avatar_url": "mxc://parley.test/a",
            });
            assert_eq!(answer, json!({ "results": [user], "limited": false }), "{term}");
        }
        for term in ["lice", "alice schönerer", "alice:elsewhere.test", "", "@", "%", "nul\0"] {
            assert!(found(&bob, term).await.is_empty(), "{term}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_in_no_common_and_no_open_room_is_not_found() {
    on_each_engine(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        assert!(found(&bob, "alice").await.is_empty());
        let private = room(&alice, "private_chat").await;
        assert!(found(&bob, "alice").await.is_empty());
        let path = format!("/_matrix/client/v3/rooms/{private}/invite");
        alice
            .post(&path, json!({ "user_id": bob.user_id }))
            .await
            .ok();
        assert!(found(&bob, "alice").await.is_empty());
        join(&bob, &private).await;
        assert_eq!(found(&bob, "alice").await, [alice.user_id.as_str()]);
        let path = format!("/_matrix/client/v3/rooms/{private}/leave");
        bob.post(&path, json!({})).await.ok();
        assert!(found(&bob, "alice").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_room_is_open_as_long_as_its_rules_say_so() {
    on_each_engine(async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = room(&alice, "public_chat").await;
        let set = async |kind: &str, content: Value| {
            let path = format!("/_matrix/client/v3/rooms/{room}/state/{kind}");
            alice.put(&path, content).await.ok();
        };
        assert_eq!(found(&bob, "alice").await.len(), 1);
        set("m.room.join_rules", json!({ "join_rule": "invite" })).await;
        assert!(found(&bob, "alice").await.is_empty());
        set(
            "m.room.history_visibility",
            json!({ "history_visibility": "world_readable" }),
        )
        .await;
        assert_eq!(found(&bob, "alice").await.len(), 1);
        set(
            "m.room.history_visibility",
            json!({ "history_visibility": "shared" }),
        )
        .await;
        assert!(found(&bob, "alice").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn everyone_is_found_where_that_is_wanted_but_not_who_is_gone_and_oneself_in_open_rooms() {
    on_each_engine_with(everyone, async |server| {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        server.restart().await;
        assert_eq!(found(&bob, "alice").await, [alice.user_id.as_str()]);
        assert!(found(&bob, "bob").await.is_empty());
        room(&bob, "private_chat").await;
        assert!(found(&bob, "bob").await.is_empty());
        room(&bob, "public_chat").await;
        assert_eq!(found(&bob, "bob").await, [bob.user_id.as_str()]);
        name(&alice, "Carol").await;
        assert_eq!(found(&bob, "carol").await, [alice.user_id.as_str()]);
        name(&alice, "").await;
        assert!(found(&bob, "carol").await.is_empty());
        let user_id = ruma::UserId::parse(&alice.user_id).unwrap();
        let accounts = server.engine().accounts();
        accounts.deactivate(&user_id, false).await.unwrap();
        assert!(found(&bob, "alice").await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_name_itself_comes_first_then_words_then_beginnings() {
    on_each_engine_with(everyone, async |server| {
        let searcher = server.register("searcher").await;
        for user in [
            "z-ann",
            "annabel",
            "ann",
            "friend-annabella",
            "named-annabella",
        ] {
            let client = server.register(user).await;
            if user == "friend-annabella" {
                let room = room(&searcher, "public_chat").await;
                join(&client, &room).await;
            }
            if user == "named-annabella" {
                name(&client, "Nn").await;
            }
        }
        let expected = [
            "ann",
            "z-ann",
            "friend-annabella",
            "named-annabella",
            "annabel",
        ];
        let expected = expected.map(|name| format!("@{name}:parley.test"));
        assert_eq!(found(&searcher, "ann").await, expected);
        let body = json!({ "search_term": "ann", "limit": 2 });
        let answer = searcher
            .post("/_matrix/client/v3/user_directory/search", body)
            .await
            .ok();
        assert_eq!(answer["results"].as_array().unwrap().len(), 2);
        assert_eq!(answer["limited"], true);
        assert_eq!(search(&searcher, "ann").await["limited"], false);
    })
    .await;
}

#[tokio::test]
async fn who_is_not_logged_in_or_says_nothing_finds_nobody() {
    on_each_engine(async |server| {
        let path = "/_matrix/client/v3/user_directory/search";
        let alice = server.register("alice").await;
        let body = json!({ "search_term": "alice" });
        alice
            .without_token()
            .post(path, body)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
        alice
            .post(path, json!({}))
            .await
            .is_refused(400, "M_BAD_JSON");
    })
    .await;
}

#[tokio::test]
async fn the_name_of_one_room_is_not_found_and_accents_have_no_case() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let base = "/_matrix/client/v3";
        let path = format!("{base}/profile/{}/displayname", alice.user_id);
        alice
            .put(&path, json!({ "displayname": "\u{c9}lodie" }))
            .await
            .ok();
        let plan = json!({ "preset": "public_chat" });
        let room = alice.post(&format!("{base}/createRoom"), plan).await.ok();
        let room = room["room_id"].as_str().unwrap();
        let path = format!("{base}/rooms/{room}/state/m.room.member/{}", alice.user_id);
        let nick = json!({ "membership": "join", "displayname": "Nightingale" });
        alice.put(&path, nick).await.ok();
        assert_eq!(found(&bob, "\u{e9}LODIE").await, [alice.user_id.as_str()]);
        assert!(found(&bob, "nightingale").await.is_empty());
        let profile = bob.get(&format!("{base}/profile/{}", alice.user_id)).await;
        assert_eq!(profile.ok()["displayname"], "\u{c9}lodie");
    })
    .await;
}

#[tokio::test]
async fn an_exact_localpart_is_found_whatever_it_is_made_of() {
    on_each_engine_with(everyone, async |server| {
        let searcher = server.register("searcher").await;
        for localpart in ["a.b-c_d=e/f", "_-_", "..="] {
            let user = server.register(localpart).await;
            for term in [localpart, &format!("@{localpart}"), &user.user_id] {
                assert_eq!(
                    found(&searcher, term).await,
                    [user.user_id.as_str()],
                    "{term}"
                );
            }
        }
        for term in ["=", "\0", "-_-"] {
            assert!(found(&searcher, term).await.is_empty(), "{term}");
        }
    })
    .await;
}
