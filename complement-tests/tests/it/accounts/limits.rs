//! How much an account may have.

use futures::future::join_all;
use parley_conformance::{Answer, Client, PASSWORD, TestOptions, on_each_engine_with};
use parley_engine::settings::{AccountLimits, RateLimit, RateLimitSettings};
use serde_json::{Value, json};

use crate::rooms::{BASE, act_self, create, create_public, join, quoted, room_path, say};

const LIMIT: &str = "M_USER_LIMIT_EXCEEDED";

fn with(change: impl Fn(&mut AccountLimits)) -> impl Fn() -> TestOptions {
    move || {
        let mut options = TestOptions::default();
        change(&mut options.engine.limits);
        options
    }
}

async fn name_room(client: &Client, alias: &str, room_id: &str) -> Answer {
    let path = format!("{BASE}/directory/room/{}", quoted(alias));
    client.put(&path, json!({ "room_id": room_id })).await
}

async fn set_data(client: &Client, room_id: Option<&str>, kind: &str, content: Value) -> Answer {
    let room = room_id.map_or(String::new(), |id| format!("/rooms/{}", quoted(id)));
    let user = quoted(&client.user_id);
    let path = format!("{BASE}/user/{user}{room}/account_data/{kind}");
    client.put(&path, content).await
}

#[tokio::test]
async fn who_has_reached_a_limit_is_told_where_to_read_more() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rooms.max_joined = 2;
        options.engine.limits.info_uri = "https://parley.test/limits?of=rooms".to_owned();
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let third = create_public(&bob).await;
        let first = create_public(&alice).await;
        create_public(&alice).await;
        let refused = alice.post(&format!("{BASE}/createRoom"), json!({})).await;
        refused.is_refused(403, LIMIT);
        assert_eq!(
            refused.body["info_uri"],
            "https://parley.test/limits?of=rooms"
        );
        join(&alice, &third).await.is_refused(403, LIMIT);
        // Joining once more what one is in is no more.
        join(&alice, &first).await.ok();
        crate::rooms::act_self(&alice, &first, "leave").await.ok();
        join(&alice, &third).await.ok();
    })
    .await;
}

#[tokio::test]
async fn without_a_limit_there_is_none() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rooms.max_joined = 0;
        options.engine.tokens.max_devices = 0;
        let limits = &mut options.engine.limits;
        limits.aliases_per_room = 0;
        limits.aliases_per_user = 0;
        limits.account_data = 0;
        limits.filters = 0;
        limits.pushers = 0;
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        alice.log_in_again().await;
        let room_id = create_public(&alice).await;
        name_room(&alice, "#a:parley.test", &room_id).await.ok();
        set_data(&alice, None, "com.example", json!({})).await.ok();
        add_pusher(&alice, "one").await.ok();
        let filter = store_filter(&alice, 1).await;
        store_filter(&alice, 2).await;
        read_filter(&alice, &filter).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_user_makes_a_limited_number_of_aliases() {
    on_each_engine_with(with(|limits| limits.aliases_per_user = 2), async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let plan = json!({ "preset": "public_chat", "room_alias_name": "one" });
        let room_id = create(&alice, plan).await;
        name_room(&alice, "#two:parley.test", &room_id).await.ok();
        name_room(&alice, "#three:parley.test", &room_id)
            .await
            .is_refused(403, LIMIT);
        let plan = json!({ "room_alias_name": "three" });
        let refused = alice.post(&format!("{BASE}/createRoom"), plan).await;
        refused.is_refused(403, LIMIT);
        join(&bob, &room_id).await.ok();
        name_room(&bob, "#three:parley.test", &room_id).await.ok();
        let path = format!("{BASE}/directory/room/{}", quoted("#two:parley.test"));
        alice.delete(&path, json!({})).await.ok();
        name_room(&alice, "#four:parley.test", &room_id).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_room_has_a_limited_number_of_aliases() {
    on_each_engine_with(with(|limits| limits.aliases_per_room = 1), async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        name_room(&alice, "#one:parley.test", &room_id).await.ok();
        name_room(&alice, "#two:parley.test", &room_id)
            .await
            .is_refused(403, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn account_data_is_limited_in_number_and_size() {
    let options = with(|limits| {
        limits.account_data = 2;
        limits.account_data_size = 100;
    });
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        set_data(&alice, None, "one", json!({})).await.ok();
        set_data(&alice, Some(&room_id), "two", json!({}))
            .await
            .ok();
        for room in [None, Some(room_id.as_str())] {
            let refused = set_data(&alice, room, "three", json!({})).await;
            refused.is_refused(403, LIMIT);
            assert!(
                refused.body["info_uri"]
                    .as_str()
                    .unwrap()
                    .starts_with("https://parley.test/")
            );
        }
        // What is there can be changed.
        set_data(&alice, None, "one", json!({ "a": "b" }))
            .await
            .ok();
        let large = json!({ "a": "b".repeat(100) });
        set_data(&alice, None, "one", large)
            .await
            .is_refused(413, "M_TOO_LARGE");
    })
    .await;
}

async fn add_pusher(client: &Client, pushkey: &str) -> Answer {
    let pusher = json!({
        "kind": "http",
        "app_id": "com.example",
        "app_display_name": "Example",
        "device_display_name": "Phone",
        "pushkey": pushkey,
        "lang": "en",
        "data": { "url": "https://push.example/_matrix/push/v1/notify" },
    });
    client.post(&format!("{BASE}/pushers/set"), pusher).await
}

#[tokio::test]
async fn a_user_has_a_limited_number_of_pushers() {
    on_each_engine_with(with(|limits| limits.pushers = 2), async |server| {
        let alice = server.register("alice").await;
        add_pusher(&alice, "one").await.ok();
        add_pusher(&alice, "two").await.ok();
        add_pusher(&alice, "three").await.is_refused(403, LIMIT);
        // One that is there already isn't one more.
        add_pusher(&alice, "two").await.ok();
        let gone = json!({ "kind": null, "app_id": "com.example", "pushkey": "one" });
        alice.post(&format!("{BASE}/pushers/set"), gone).await.ok();
        add_pusher(&alice, "three").await.ok();
    })
    .await;
}

async fn store_filter(client: &Client, limit: u32) -> String {
    let path = format!("{BASE}/user/{}/filter", quoted(&client.user_id));
    let filter = json!({ "room": { "timeline": { "limit": limit } } });
    let answer = client.post(&path, filter).await.ok();
    answer["filter_id"].as_str().unwrap().to_owned()
}

async fn read_filter(client: &Client, id: &str) -> Answer {
    let user = quoted(&client.user_id);
    client.get(&format!("{BASE}/user/{user}/filter/{id}")).await
}

#[tokio::test]
async fn the_oldest_filter_goes_when_there_is_one_too_many() {
    on_each_engine_with(with(|limits| limits.filters = 2), async |server| {
        let alice = server.register("alice").await;
        let ids = [
            store_filter(&alice, 1).await,
            store_filter(&alice, 2).await,
            store_filter(&alice, 3).await,
        ];
        read_filter(&alice, &ids[0])
            .await
            .is_refused(404, "M_NOT_FOUND");
        for id in &ids[1..] {
            read_filter(&alice, id).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn a_profile_has_a_limited_size() {
    on_each_engine_with(with(|limits| limits.profile_size = 200), async |server| {
        let alice = server.register("alice").await;
        let set = async |field: &str, length: usize| {
            let path = format!("{BASE}/profile/{}/{field}", quoted(&alice.user_id));
            alice.put(&path, json!({ field: "x".repeat(length) })).await
        };
        set("com.example.a", 100).await.ok();
        set("com.example.b", 100)
            .await
            .is_refused(400, "M_PROFILE_TOO_LARGE");
        set("com.example.a", 150).await.ok();
    })
    .await;
}

#[tokio::test]
async fn reading_what_was_said_is_limited_by_user() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits = RateLimitSettings {
            enabled: true,
            history: RateLimit::new(0.001, 9),
            ..RateLimitSettings::default()
        };
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let event = quoted(&say(&alice, &room_id, "hello").await);
        let v1 = format!("/_matrix/client/v1/rooms/{}", quoted(&room_id));
        let paths = [
            room_path(&room_id, "messages?dir=b"),
            room_path(&room_id, &format!("context/{event}")),
            format!("{v1}/relations/{event}"),
            format!("{v1}/threads"),
            format!("{v1}/timestamp_to_event?ts=0&dir=f"),
            room_path(&room_id, "state"),
            room_path(&room_id, "members"),
            room_path(&room_id, "joined_members"),
            format!("{BASE}/notifications"),
        ];
        for path in &paths {
            alice.get(path).await.ok();
        }
        for path in &paths {
            alice.get(path).await.is_refused(429, "M_LIMIT_EXCEEDED");
        }
        bob.get(&paths[0]).await.ok();
        // A first /sync counts as many; one that goes on from it as none.
        let carol = server.register("carol").await;
        let told = carol.get(&format!("{BASE}/sync?timeout=0")).await.ok();
        let since = told["next_batch"].as_str().unwrap();
        let on = format!("{BASE}/sync?timeout=0&since={since}");
        carol.get(&on).await.ok();
        let full = format!("{on}&full_state=true");
        for path in [&format!("{BASE}/sync?timeout=0"), &full] {
            carol.get(path).await.is_refused(429, "M_LIMIT_EXCEEDED");
        }
    })
    .await;
}

#[tokio::test]
async fn beginning_to_prove_who_one_is_is_limited_by_user() {
    let options = || {
        let mut options = TestOptions::default();
        options.engine.rate_limits = RateLimitSettings {
            enabled: true,
            writes: RateLimit::new(0.001, 4),
            ..RateLimitSettings::default()
        };
        options
    };
    on_each_engine_with(options, async |server| {
        let alice = server.register("alice").await;
        let ask = async || {
            let device = format!("{BASE}/devices/{}", quoted(&alice.device_id));
            let new_password = json!({ "new_password": "a password that is new" });
            let devices = json!({ "devices": [alice.device_id] });
            [
                alice
                    .post(&format!("{BASE}/account/deactivate"), json!({}))
                    .await,
                alice
                    .post(&format!("{BASE}/account/password"), new_password)
                    .await,
                alice.post(&format!("{BASE}/delete_devices"), devices).await,
                alice.delete(&device, json!({})).await,
            ]
        };
        for answer in ask().await {
            assert_eq!(answer.status, 401);
        }
        for answer in ask().await {
            answer.is_refused(429, "M_LIMIT_EXCEEDED");
        }
    })
    .await;
}

/// Demands that as many of what was asked for at once were made as there may be, and that the others were refused.
#[track_caller]
fn made(answers: Vec<Answer>, count: usize) {
    let (made, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    refused
        .iter()
        .for_each(|answer| answer.is_refused(403, LIMIT));
    assert_eq!(made.len(), count);
}

fn few_of_each() -> TestOptions {
    let mut options = TestOptions::default();
    options.engine.rooms.max_joined = 3;
    options.engine.tokens.max_devices = 3;
    let limits = &mut options.engine.limits;
    limits.aliases_per_user = 3;
    limits.account_data = 3;
    limits.pushers = 3;
    options
}

#[tokio::test]
async fn what_is_asked_for_at_once_gets_past_no_limit() {
    on_each_engine_with(few_of_each, async |server| {
        let alice = server.register("alice").await;
        let names: Vec<String> = (0..12).map(|number| number.to_string()).collect();
        let room_id = create_public(&alice).await;
        let alias = |name: &String| format!("#{name}:parley.test");
        let asked = names
            .iter()
            .map(async |name| name_room(&alice, &alias(name), &room_id).await);
        made(join_all(asked).await, 3);
        let asked = names
            .iter()
            .map(|name| set_data(&alice, None, name, json!({})));
        made(join_all(asked).await, 3);
        let asked = names.iter().map(|name| add_pusher(&alice, name));
        made(join_all(asked).await, 3);
        let asked = names.iter().map(async |_| {
            let login = json!({
                "type": "m.login.password",
                "identifier": { "type": "m.id.user", "user": alice.user_id },
                "password": PASSWORD,
            });
            alice.post(&format!("{BASE}/login"), login).await
        });
        made(join_all(asked).await, 2);
    })
    .await;
}

#[tokio::test]
async fn rooms_that_are_made_and_joined_at_once_count_together() {
    on_each_engine_with(few_of_each, async |server| {
        let alice = server.register("alice").await;
        let mut rooms = Vec::new();
        for name in ["bob", "carol"] {
            let other = server.register(name).await;
            for _ in 0..3 {
                rooms.push(create_public(&other).await);
            }
        }
        let create = format!("{BASE}/createRoom");
        let joins = join_all(rooms.iter().map(|room_id| join(&alice, room_id)));
        let creations = join_all((0..6).map(|_| alice.post(&create, json!({}))));
        let (joins, creations) = tokio::join!(joins, creations);
        made([joins, creations].concat(), 3);
        let told = alice.get(&format!("{BASE}/joined_rooms")).await.ok();
        let joined = told["joined_rooms"].as_array().unwrap();
        assert_eq!(joined.len(), 3);
        // Who leaves one has a place for one more.
        let left = joined[0].as_str().unwrap();
        act_self(&alice, left, "leave").await.ok();
        made(
            join_all((0..6).map(|_| alice.post(&create, json!({})))).await,
            1,
        );
    })
    .await;
}
