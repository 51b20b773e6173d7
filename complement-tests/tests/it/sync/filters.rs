//! What a filter lets through: <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{joined, sync, types};
use crate::rooms::{BASE, act_self, create_public, join, quoted, room_path, say, set_state};

async fn send(client: &Client, room_id: &str, event_type: &str, content: Value) {
    let path = room_path(room_id, &format!("send/{event_type}/{event_type}"));
    client.put(&path, content).await.ok();
}

/// The types of a room's timeline through a filter of it, from a point on.
async fn timeline(client: &Client, since: &Value, room_id: &str, filter: Value) -> Vec<String> {
    let filter = json!({ "room": { "timeline": filter } });
    let told = sync(client, Some(since), filter).await;
    match joined(&told, room_id).get("timeline") {
        Some(timeline) => types(&timeline["events"]),
        None => Vec::new(),
    }
}

/// The same read from the room's history.
async fn history(client: &Client, room_id: &str, filter: Value) -> Vec<String> {
    let filter = quoted(&filter.to_string());
    let path = room_path(
        room_id,
        &format!("messages?dir=f&limit=100&filter={filter}"),
    );
    let mut found = types(&client.get(&path).await.ok()["chunk"]);
    found.retain(|event| !event.starts_with("m.room"));
    found
}

#[tokio::test]
async fn a_timeline_has_the_types_and_senders_that_are_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let since = sync(&alice, None, json!({})).await["next_batch"].clone();
        let url = json!({ "url": "mxc://parley.test/a" });
        send(&alice, &room_id, "a.one", json!({})).await;
        send(&alice, &room_id, "a.two", url).await;
        send(&bob, &room_id, "b.one", json!({})).await;
        for (filter, expected) in [
            (json!({}), &["a.one", "a.two", "b.one"][..]),
            (json!({ "types": ["a.*"] }), &["a.one", "a.two"]),
            (json!({ "types": ["*.one"] }), &["a.one", "b.one"]),
            (json!({ "types": [] }), &[]),
            (json!({ "not_types": ["a.*"] }), &["b.one"]),
            (
                json!({ "types": ["a.*"], "not_types": ["a.two"] }),
                &["a.one"],
            ),
            (json!({ "senders": [bob.user_id] }), &["b.one"]),
            (json!({ "not_senders": [bob.user_id] }), &["a.one", "a.two"]),
            (
                json!({ "senders": [bob.user_id], "not_senders": [bob.user_id] }),
                &[],
            ),
            (json!({ "senders": [] }), &[]),
            (json!({ "contains_url": true }), &["a.two"]),
            (json!({ "contains_url": false }), &["a.one", "b.one"]),
            (json!({ "rooms": [room_id] }), &["a.one", "a.two", "b.one"]),
            (json!({ "rooms": [] }), &[]),
            (json!({ "not_rooms": [room_id] }), &[]),
            (json!({ "rooms": [room_id], "not_rooms": [room_id] }), &[]),
        ] {
            let found = timeline(&alice, &since, &room_id, filter.clone()).await;
            assert_eq!(found, expected, "{filter}");
            assert_eq!(
                history(&alice, &room_id, filter.clone()).await,
                expected,
                "{filter}"
            );
        }
        let newest = timeline(
            &alice,
            &since,
            &room_id,
            json!({ "limit": 1, "types": ["a.*"] }),
        )
        .await;
        assert_eq!(newest, ["a.two"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_around_an_event_passes_a_filter_too() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        send(&alice, &room_id, "a.one", json!({})).await;
        let event_id = say(&alice, &room_id, "here").await;
        send(&alice, &room_id, "b.one", json!({})).await;
        let around = async |filter: Value| {
            let filter = quoted(&filter.to_string());
            let path = format!("context/{}?limit=2&filter={filter}", quoted(&event_id));
            let told = alice.get(&room_path(&room_id, &path)).await.ok();
            [types(&told["events_before"]), types(&told["events_after"])].concat()
        };
        assert_eq!(around(json!({})).await, ["a.one", "b.one"]);
        assert_eq!(around(json!({ "types": ["b.*"] })).await, ["b.one"]);
        assert_eq!(around(json!({ "not_rooms": [room_id] })).await, [""; 0]);
        let state = async |filter: Value| {
            let filter = quoted(&filter.to_string());
            let path = format!("context/{}?filter={filter}", quoted(&event_id));
            let told = alice.get(&room_path(&room_id, &path)).await.ok();
            types(&told["state"])
        };
        assert!(state(json!({})).await.contains(&"m.room.create".to_owned()));
        let joined = json!({ "types": ["m.room.member"] });
        let member = format!("m.room.member {}", alice.user_id);
        assert_eq!(state(joined).await, [member]);
        let lazy = json!({ "lazy_load_members": true, "not_types": ["m.room.*"] });
        assert_eq!(state(lazy).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn rooms_are_told_that_are_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let one = create_public(&alice).await;
        let other = create_public(&alice).await;
        let left = create_public(&alice).await;
        act_self(&alice, &left, "leave").await.ok();
        let told = async |filter: Value| {
            let told = sync(&alice, None, json!({ "room": filter })).await;
            [&one, &other, &left].map(|room_id| {
                let sections = ["join", "leave"].into_iter();
                let mut sections =
                    sections.filter(|name| told["rooms"][name].get(room_id).is_some());
                sections.next().unwrap_or_default().to_owned()
            })
        };
        for (filter, expected) in [
            (json!({}), ["join", "join", ""]),
            (json!({ "include_leave": true }), ["join", "join", "leave"]),
            (json!({ "rooms": [one] }), ["join", "", ""]),
            (json!({ "rooms": [] }), ["", "", ""]),
            (json!({ "not_rooms": [one] }), ["", "join", ""]),
            (
                json!({ "rooms": [one, other], "not_rooms": [one] }),
                ["", "join", ""],
            ),
        ] {
            assert_eq!(told(filter.clone()).await, expected, "{filter}");
        }
    })
    .await;
}

/// A section of a room through a filter of it, from the start: the types of its events, sorted.
async fn section(client: &Client, room_id: &str, name: &str, filter: &Value) -> Vec<String> {
    let filter = json!({ "room": { name: filter, "timeline": { "types": [] } } });
    let told = sync(client, None, filter).await;
    let mut found = types(&joined(&told, room_id)[name]["events"]);
    found.sort();
    found
}

#[tokio::test]
async fn fleeting_events_are_told_that_are_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let event_id = say(&alice, &room_id, "read me").await;
        let receipt = format!("receipt/m.read/{}", quoted(&event_id));
        bob.post(&room_path(&room_id, &receipt), json!({}))
            .await
            .ok();
        let typing = format!("typing/{}", quoted(&bob.user_id));
        let body = json!({ "typing": true, "timeout": 60_000 });
        bob.put(&room_path(&room_id, &typing), body).await.ok();
        for (filter, expected) in [
            (json!({}), &["m.receipt", "m.typing"][..]),
            (json!({ "types": ["m.receipt"] }), &["m.receipt"]),
            (json!({ "not_types": ["m.rec*"] }), &["m.typing"]),
            (json!({ "limit": 1 }), &["m.receipt"]),
            (json!({ "not_rooms": [room_id] }), &[]),
            (json!({ "not_senders": [bob.user_id] }), &[]),
            (
                json!({ "senders": [bob.user_id] }),
                &["m.receipt", "m.typing"],
            ),
        ] {
            let found = section(&alice, &room_id, "ephemeral", &filter).await;
            assert_eq!(found, expected, "{filter}");
        }
    })
    .await;
}

#[tokio::test]
async fn account_data_and_state_of_a_room_are_told_that_are_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let own = format!("{BASE}/user/{}/rooms/{}", alice.user_id, quoted(&room_id));
        for event_type in ["x.one", "x.two"] {
            let path = format!("{own}/account_data/{event_type}");
            alice.put(&path, json!({})).await.ok();
        }
        let member = format!("m.room.member {}", bob.user_id);
        let of_bob = json!({ "types": ["m.room.member"], "senders": [bob.user_id] });
        for (name, filter, expected) in [
            ("account_data", json!({}), &["x.one", "x.two"][..]),
            ("account_data", json!({ "types": ["*.one"] }), &["x.one"]),
            ("account_data", json!({ "limit": 1 }), &["x.two"]),
            ("account_data", json!({ "rooms": [] }), &[]),
            (
                "state",
                json!({ "types": ["m.room.create"] }),
                &["m.room.create"],
            ),
            ("state", of_bob, &[&member]),
            ("state", json!({ "not_rooms": [room_id] }), &[]),
        ] {
            let found = section(&alice, &room_id, name, &filter).await;
            assert_eq!(found, expected, "{name} {filter}");
        }
    })
    .await;
}

#[tokio::test]
async fn presence_and_account_data_are_told_that_are_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        sync(&bob, None, json!({})).await;
        for event_type in ["x.one", "x.two"] {
            let path = format!("{BASE}/user/{}/account_data/{event_type}", alice.user_id);
            alice.put(&path, json!({})).await.ok();
        }
        let told = async |section: &str, filter: Value| {
            let told = sync(&alice, None, json!({ section: filter })).await;
            let events = told[section]["events"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let name = |event: &Value| {
                event["sender"]
                    .as_str()
                    .or(event["type"].as_str())
                    .unwrap()
                    .to_owned()
            };
            let mut found: Vec<String> = events.iter().map(name).collect();
            found.sort();
            found
        };
        let both = [alice.user_id.clone(), bob.user_id.clone()];
        assert_eq!(told("presence", json!({})).await, both);
        assert_eq!(
            told("presence", json!({ "senders": [bob.user_id] })).await,
            both[1..]
        );
        assert_eq!(
            told("presence", json!({ "not_senders": [bob.user_id] })).await,
            both[..1]
        );
        assert_eq!(
            told("presence", json!({ "not_types": ["*"] })).await,
            [""; 0]
        );
        assert_eq!(told("presence", json!({ "limit": 1 })).await.len(), 1);
        let own = json!({ "types": ["x.*"] });
        assert_eq!(told("account_data", own).await, ["x.one", "x.two"]);
        let own = json!({ "types": ["x.*"], "limit": 1 });
        assert_eq!(told("account_data", own).await, ["x.two"]);
        let rules = json!({ "not_types": ["x.*", "m.push*"] });
        assert_eq!(told("account_data", rules).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_stored_filter_is_applied_by_its_number() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let filter = json!({ "room": { "timeline": { "types": ["m.room.topic"] } } });
        let path = format!("{BASE}/user/{}/filter", alice.user_id);
        let id = alice.post(&path, filter).await.ok()["filter_id"].clone();
        set_state(
            &alice,
            &room_id,
            "m.room.topic",
            "",
            json!({ "topic": "a" }),
        )
        .await
        .ok();
        say(&alice, &room_id, "hidden").await;
        let id = id.as_str().unwrap();
        let told = alice.get(&format!("{BASE}/sync?filter={id}")).await.ok();
        assert_eq!(
            types(&joined(&told, &room_id)["timeline"]["events"]),
            ["m.room.topic"]
        );
        let unknown = alice.get(&format!("{BASE}/sync?filter=4711")).await;
        unknown.is_refused(404, "M_NOT_FOUND");
        for nonsense in ["{", "{\"room\":1}"] {
            let path = format!("{BASE}/sync?filter={}", quoted(nonsense));
            alice.get(&path).await.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn of_events_the_fields_are_told_that_are_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let content = json!({ "body": "a", "a.b": { "c": 1, "d": 2 } });
        send(&alice, &room_id, "a.one", content).await;
        // Without those, an event is none.
        let fields = [
            "type",
            "event_id",
            "sender",
            "origin_server_ts",
            "content.body",
            r"content.a\.b.c",
        ];
        let filter = json!({
            "event_fields": fields,
            "room": { "timeline": { "types": ["a.*"] }, "state": { "types": [] } },
        });
        let told = sync(&alice, None, filter).await;
        let mut event = joined(&told, &room_id)["timeline"]["events"][0].clone();
        assert_eq!(
            event["content"].take(),
            json!({ "body": "a", "a.b": { "c": 1 } })
        );
        let names: Vec<&String> = event.as_object().unwrap().keys().collect();
        let expected = ["content", "event_id", "origin_server_ts", "sender", "type"];
        assert_eq!(names, expected);
    })
    .await;
}

#[tokio::test]
async fn events_come_as_servers_send_them_where_a_filter_wants_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        send(&alice, &room_id, "a.one", json!({ "body": "a" })).await;
        let filter = |format: &str, fields: Value| {
            let mut filter = json!({
                "event_format": format,
                "room": { "timeline": { "limit": 1 }, "state": { "types": ["m.room.create"] } },
            });
            if fields.is_array() {
                filter["event_fields"] = fields;
            }
            filter
        };
        let told = sync(&alice, None, filter("federation", Value::Null)).await;
        let room = joined(&told, &room_id);
        let event = &room["timeline"]["events"][0];
        assert_eq!(event["content"], json!({ "body": "a" }));
        for field in [
            "auth_events",
            "depth",
            "event_id",
            "hashes",
            "origin_server_ts",
            "prev_events",
            "sender",
            "signatures",
            "type",
        ] {
            assert!(event.get(field).is_some(), "{field}: {event}");
        }
        assert_eq!(event["room_id"], json!(room_id));
        // What is told to this device alone stays.
        assert_eq!(event["unsigned"]["transaction_id"], "a.one");
        let create = &room["state"]["events"][0];
        assert!(
            create["signatures"].is_object() && create["unsigned"].is_object(),
            "{create}"
        );
        let own = crate::rooms::get_event(&alice, &room_id, event["event_id"].as_str().unwrap());
        let own = own.await.ok();
        assert!(own.get("hashes").is_none(), "{own}");

        let told = sync(&alice, None, filter("client", Value::Null)).await;
        let event = &joined(&told, &room_id)["timeline"]["events"][0];
        assert!(event.get("hashes").is_none(), "{event}");
        let fields = [
            "content",
            "depth",
            "event_id",
            "origin_server_ts",
            "sender",
            "type",
        ];
        let told = sync(&alice, None, filter("federation", json!(fields))).await;
        let event = &joined(&told, &room_id)["timeline"]["events"][0];
        let names: Vec<&String> = event.as_object().unwrap().keys().collect();
        assert_eq!(names, fields);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_filter_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let event_id = say(&alice, &room_id, "here").await;
        let context = format!("context/{}?", quoted(&event_id));
        for (path, filters) in [
            (format!("{BASE}/sync?"), ["{", r#"{"room":5}"#]),
            (
                room_path(&room_id, "messages?dir=b&"),
                ["{", r#"{"types":5}"#],
            ),
            (room_path(&room_id, &context), ["{", r#"{"types":5}"#]),
        ] {
            for filter in filters {
                let path = format!("{path}filter={}", quoted(filter));
                let answer = alice.get(&path).await;
                assert_eq!(answer.status, 400, "{path}: {}", answer.body);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_fleeting_is_told_of_the_rooms_that_are_wanted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let mut rooms = Vec::new();
        for _ in 0..2 {
            let room_id = create_public(&alice).await;
            join(&bob, &room_id).await.ok();
            let event_id = say(&alice, &room_id, "read me").await;
            let receipt = format!("receipt/m.read/{}", quoted(&event_id));
            let receipt = room_path(&room_id, &receipt);
            bob.post(&receipt, json!({})).await.ok();
            let typing = format!("typing/{}", quoted(&bob.user_id));
            let body = json!({ "typing": true, "timeout": 60_000 });
            bob.put(&room_path(&room_id, &typing), body).await.ok();
            rooms.push(room_id);
        }
        let both = ["m.receipt", "m.typing"];
        for filter in [
            json!({ "rooms": [rooms[0]] }),
            json!({ "not_rooms": [rooms[1]] }),
        ] {
            let wanted = section(&alice, &rooms[0], "ephemeral", &filter).await;
            assert_eq!(wanted, both, "{filter}");
            let hidden = section(&alice, &rooms[1], "ephemeral", &filter).await;
            assert_eq!(hidden, [""; 0], "{filter}");
        }
    })
    .await;
}

#[tokio::test]
async fn in_the_fields_of_a_stored_filter_a_backslash_makes_a_dot_part_of_a_name() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let content = json!({
            "m.relates_to": { "rel_type": "a.kind", "event_id": "$a" },
            "m": { "relates_to": "not this" },
            r"a\b": "a backslash",
            "other": 1,
        });
        send(&alice, &room_id, "a.one", content).await;
        let fields = [
            "type",
            "event_id",
            "sender",
            "origin_server_ts",
            r"content.m\.relates_to.rel_type",
            r"content.a\\b",
        ];
        let filter = json!({
            "event_fields": fields,
            "room": { "timeline": { "types": ["a.*"] }, "state": { "types": [] } },
        });
        let path = format!("{BASE}/user/{}/filter", quoted(&alice.user_id));
        let stored = alice.post(&path, filter.clone()).await.ok();
        let id = stored["filter_id"].as_str().unwrap();
        server.restart().await;
        assert_eq!(alice.get(&format!("{path}/{id}")).await.ok(), filter);
        let told = alice.get(&format!("{BASE}/sync?filter={id}")).await.ok();
        let event = &joined(&told, &room_id)["timeline"]["events"][0];
        let wanted = json!({ "m.relates_to": { "rel_type": "a.kind" }, r"a\b": "a backslash" });
        assert_eq!(event["content"], wanted);
    })
    .await;
}
