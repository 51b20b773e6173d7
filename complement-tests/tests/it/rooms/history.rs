//! Reading the past of rooms, and who may.

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{
    BASE, act, act_self, create, create_public, event_id, get_event, get_state, join, quoted,
    room_path, say, set_state,
};

/// The bodies of the texts in a list of events.
fn texts(events: &Value) -> Vec<&str> {
    events
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["content"]["body"].as_str())
        .collect()
}

async fn page(client: &Client, room_id: &str, query: &str) -> Value {
    client
        .get(&room_path(room_id, &format!("messages?{query}")))
        .await
        .ok()
}

#[tokio::test]
async fn pages_lead_to_each_other_in_both_directions() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for number in 0..7 {
            say(&alice, &room_id, &format!("m{number}")).await;
        }
        let newest = page(&alice, &room_id, "dir=b&limit=3").await;
        assert_eq!(texts(&newest["chunk"]), ["m6", "m5", "m4"]);
        let end = newest["end"].as_str().unwrap();
        let older = page(&alice, &room_id, &format!("dir=b&limit=3&from={end}")).await;
        assert_eq!(texts(&older["chunk"]), ["m3", "m2", "m1"]);
        let back = page(&alice, &room_id, &format!("dir=f&limit=2&from={end}")).await;
        assert_eq!(texts(&back["chunk"]), ["m4", "m5"]);
        let end = back["end"].as_str().unwrap();
        let rest = page(&alice, &room_id, &format!("dir=f&from={end}")).await;
        assert_eq!(texts(&rest["chunk"]), ["m6"]);
        let all = page(&alice, &room_id, "dir=b&limit=1000").await;
        assert_eq!(texts(&all["chunk"]).len(), 7);
        assert_eq!(
            all["chunk"].as_array().unwrap().last().unwrap()["type"],
            "m.room.create"
        );
        assert!(all.get("end").is_none(), "{all}");
        let to = newest["end"].as_str().unwrap();
        let bounded = page(&alice, &room_id, &format!("dir=b&limit=1000&to={to}")).await;
        assert_eq!(texts(&bounded["chunk"]), ["m6", "m5", "m4"]);
        // What /sync gives carries more than a position.
        let from_sync = page(&alice, &room_id, &format!("dir=f&from={end}_1f_3")).await;
        assert_eq!(texts(&from_sync["chunk"]), ["m6"]);
    })
    .await;
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let get = async |query: &str| {
            alice
                .get(&room_path(&room_id, &format!("messages?{query}")))
                .await
        };
        get("").await.is_refused(400, "M_MISSING_PARAM");
        get("dir=x").await.is_refused(400, "M_INVALID_PARAM");
        get("dir=b&from=t1")
            .await
            .is_refused(400, "M_INVALID_PARAM");
        get("dir=b&from=s99999999")
            .await
            .is_refused(400, "M_INVALID_PARAM");
        get("dir=b&limit=x")
            .await
            .is_refused(400, "M_INVALID_PARAM");
        get("dir=b&filter=x")
            .await
            .is_refused(400, "M_INVALID_PARAM");
        let all = get("dir=b&limit=100000").await.ok();
        assert_eq!(all["chunk"].as_array().unwrap().len(), 6);
    })
    .await;
}

#[tokio::test]
async fn filters_take_types_senders_and_urls() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "preset": "public_chat" })).await;
        join(&bob, &room_id).await.ok();
        say(&alice, &room_id, "by alice").await;
        say(&bob, &room_id, "by bob").await;
        let path = room_path(&room_id, "send/m.room.message/url");
        alice
            .put(
                &path,
                json!({ "msgtype": "m.image", "body": "picture", "url": "mxc://a/b" }),
            )
            .await
            .ok();
        let filtered = async |filter: Value| {
            let query = format!("dir=f&limit=100&filter={}", quoted(&filter.to_string()));
            page(&alice, &room_id, &query).await["chunk"].clone()
        };
        assert_eq!(
            texts(&filtered(json!({ "types": ["m.room.message"] })).await),
            ["by alice", "by bob", "picture"]
        );
        assert_eq!(filtered(json!({ "types": [] })).await, json!([]));
        assert_eq!(
            texts(&filtered(json!({ "types": ["*.message"], "not_senders": [bob.user_id] })).await),
            ["by alice", "picture"]
        );
        assert_eq!(
            filtered(json!({ "not_types": ["m.room.*"] })).await,
            json!([])
        );
        assert_eq!(
            texts(&filtered(json!({ "senders": [bob.user_id] })).await),
            ["by bob"]
        );
        assert_eq!(
            texts(&filtered(json!({ "contains_url": true })).await),
            ["picture"]
        );
        assert_eq!(
            texts(&filtered(json!({ "contains_url": false })).await),
            ["by alice", "by bob"]
        );
        assert_eq!(filtered(json!({ "not_rooms": [room_id] })).await, json!([]));
        assert_eq!(
            filtered(json!({ "limit": 1 }))
                .await
                .as_array()
                .unwrap()
                .len(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn lazily_loaded_members_are_one_for_each_sender_as_they_were_then() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "preset": "public_chat" })).await;
        join(&bob, &room_id).await.ok();
        let said = say(&bob, &room_id, "before").await;
        let renamed = json!({ "membership": "join", "displayname": "Robert" });
        set_state(&bob, &room_id, "m.room.member", &bob.user_id, renamed)
            .await
            .ok();
        let lazy = quoted(&json!({ "lazy_load_members": true }).to_string());
        let state =
            page(&alice, &room_id, &format!("dir=b&limit=100&filter={lazy}")).await["state"]
                .clone();
        let mut keys: Vec<&str> = state
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["state_key"].as_str().unwrap())
            .collect();
        keys.sort_unstable();
        assert_eq!(keys, [alice.user_id.as_str(), bob.user_id.as_str()]);
        assert!(state.to_string().contains("Robert"));
        let path = room_path(
            &room_id,
            &format!("context/{}?limit=0&filter={lazy}", quoted(&said)),
        );
        let context = alice.get(&path).await.ok();
        let members: Vec<&Value> = context["state"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["type"] == "m.room.member")
            .collect();
        assert_eq!(members.len(), 1, "{context}");
        assert_eq!(members[0]["state_key"], bob.user_id.as_str());
        assert!(
            members[0]["content"]
                .get("displayname")
                .is_none_or(|name| name != "Robert")
        );
    })
    .await;
}

#[tokio::test]
async fn context_is_half_before_and_half_after() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        let mut ids = Vec::new();
        for number in 0..7 {
            ids.push(say(&alice, &room_id, &format!("m{number}")).await);
        }
        let path = room_path(&room_id, &format!("context/{}?limit=4", quoted(&ids[3])));
        let context = alice.get(&path).await.ok();
        assert_eq!(context["event"]["content"]["body"], "m3");
        assert_eq!(texts(&context["events_before"]), ["m2", "m1"]);
        assert_eq!(texts(&context["events_after"]), ["m4", "m5"]);
        assert_eq!(context["state"].as_array().unwrap().len(), 6);
        let (start, end) = (
            context["start"].as_str().unwrap(),
            context["end"].as_str().unwrap(),
        );
        assert_eq!(
            texts(&page(&alice, &room_id, &format!("dir=b&limit=1&from={start}")).await["chunk"]),
            ["m0"]
        );
        assert_eq!(
            texts(&page(&alice, &room_id, &format!("dir=f&limit=9&from={end}")).await["chunk"]),
            ["m6"]
        );
        let path = room_path(&room_id, "context/$nothing");
        alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

/// A room in which something was said before Bob had to do with it, while he was invited, while he was joined, and after
/// he left. Whether he sees each.
async fn what_bob_sees(alice: &Client, bob: &Client, visibility: &str) -> [bool; 4] {
    let content = json!({ "history_visibility": visibility });
    let initial =
        json!({ "type": "m.room.history_visibility", "state_key": "", "content": content });
    let room_id = create(alice, json!({ "initial_state": [initial] })).await;
    let before = say(alice, &room_id, "before").await;
    act(alice, &room_id, "invite", bob).await.ok();
    let invited = say(alice, &room_id, "invited").await;
    join(bob, &room_id).await.ok();
    let joined = say(alice, &room_id, "joined").await;
    act_self(bob, &room_id, "leave").await.ok();
    let after = say(alice, &room_id, "after").await;

    let mut seen = [false; 4];
    for (seen, id) in seen.iter_mut().zip([&before, &invited, &joined, &after]) {
        let event = get_event(bob, &room_id, id).await;
        let context = bob
            .get(&room_path(&room_id, &format!("context/{}", quoted(id))))
            .await;
        assert_eq!(event.status, context.status);
        *seen = event.status == 200;
        if !*seen {
            event.is_refused(404, "M_NOT_FOUND");
            context.is_refused(404, "M_NOT_FOUND");
        }
    }
    // Pages in both directions agree with single events.
    let backward = page(bob, &room_id, "dir=b&limit=100").await;
    let mut backward = texts(&backward["chunk"]);
    backward.reverse();
    let forward = page(bob, &room_id, "dir=f&limit=100").await;
    assert_eq!(backward, texts(&forward["chunk"]));
    let expected: Vec<&str> = ["before", "invited", "joined", "after"]
        .into_iter()
        .zip(seen)
        .filter_map(|(text, seen)| seen.then_some(text))
        .collect();
    assert_eq!(backward, expected);
    seen
}

#[tokio::test]
async fn the_history_visibility_decides_what_is_seen_of_which_time() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for (visibility, expected) in [
            ("world_readable", [true, true, true, true]),
            ("shared", [true, true, true, false]),
            ("invited", [false, true, true, false]),
            ("joined", [false, false, true, false]),
        ] {
            let seen = what_bob_sees(&alice, &bob, visibility).await;
            assert_eq!(seen, expected, "{visibility}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_reads_on_from_the_invitation_where_the_room_says_so_and_no_more_after_declining()
 {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for visibility in ["invited", "shared", "joined"] {
            let content = json!({ "history_visibility": visibility });
            let initial =
                json!({ "type": "m.room.history_visibility", "state_key": "", "content": content });
            let room_id = create(&alice, json!({ "initial_state": [initial] })).await;
            let before = say(&alice, &room_id, "before").await;
            act(&alice, &room_id, "invite", &bob).await.ok();
            let invited = say(&alice, &room_id, "invited").await;
            let seen = get_event(&bob, &room_id, &invited).await;
            assert_eq!(seen.status == 200, visibility == "invited", "{visibility}");
            act_self(&bob, &room_id, "leave").await.ok();
            let after = say(&alice, &room_id, "after").await;
            for id in [before, after] {
                let event = get_event(&bob, &room_id, &id).await;
                event.is_refused(404, "M_NOT_FOUND");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_was_never_in_a_room_reads_it_only_if_anyone_may() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        for visibility in ["world_readable", "shared", "invited", "joined"] {
            let content = json!({ "history_visibility": visibility });
            let initial =
                json!({ "type": "m.room.history_visibility", "state_key": "", "content": content });
            let room_id = create(&alice, json!({ "initial_state": [initial] })).await;
            let id = say(&alice, &room_id, "hello").await;
            let event = get_event(&bob, &room_id, &id).await;
            let page = bob.get(&room_path(&room_id, "messages?dir=b")).await;
            let state = bob.get(&room_path(&room_id, "state")).await;
            let name = get_state(&bob, &room_id, "m.room.create", "").await;
            if visibility == "world_readable" {
                assert_eq!(event.ok()["unsigned"]["membership"], "leave");
                assert_eq!(texts(&page.ok()["chunk"]), ["hello"]);
                state.ok();
                name.ok();
            } else {
                event.is_refused(404, "M_NOT_FOUND");
                page.is_refused(403, "M_FORBIDDEN");
                state.is_refused(403, "M_FORBIDDEN");
                name.is_refused(403, "M_FORBIDDEN");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn who_left_knows_the_state_of_that_time_and_no_later_one() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create(&alice, json!({ "preset": "public_chat", "name": "before" })).await;
        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        set_state(
            &alice,
            &room_id,
            "m.room.name",
            "",
            json!({ "name": "after" }),
        )
        .await
        .ok();
        join(&carol, &room_id).await.ok();
        for _ in 0..2 {
            let name = get_state(&bob, &room_id, "m.room.name", "").await.ok();
            assert_eq!(name["name"], "before");
            let state = bob.get(&room_path(&room_id, "state")).await.ok();
            assert!(!state.to_string().contains("after"), "{state}");
            let members = bob.get(&room_path(&room_id, "members")).await.ok();
            let mut members: Vec<(&str, &str)> = members["chunk"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| {
                    (
                        event["state_key"].as_str().unwrap(),
                        event["content"]["membership"].as_str().unwrap(),
                    )
                })
                .collect();
            members.sort_unstable();
            assert_eq!(
                members,
                [
                    (alice.user_id.as_str(), "join"),
                    (bob.user_id.as_str(), "leave")
                ]
            );
            server.restart().await;
        }
    })
    .await;
}

#[tokio::test]
async fn members_are_told_as_they_were_and_by_membership() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create(&alice, json!({ "preset": "public_chat" })).await;
        let start = page(&alice, &room_id, "dir=b&limit=1").await["start"]
            .as_str()
            .unwrap()
            .to_owned();
        join(&bob, &room_id).await.ok();
        act(&alice, &room_id, "invite", &carol).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        let members = async |query: &str| {
            let answer = alice
                .get(&room_path(&room_id, &format!("members?{query}")))
                .await
                .ok();
            let mut ids: Vec<String> = answer["chunk"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| {
                    assert_eq!(event["room_id"], room_id.as_str());
                    event["state_key"].as_str().unwrap()[1..2].to_owned()
                })
                .collect();
            ids.sort_unstable();
            ids.concat()
        };
        assert_eq!(members("").await, "abc");
        assert_eq!(members("membership=join").await, "a");
        assert_eq!(members("membership=leave").await, "b");
        assert_eq!(members("not_membership=leave").await, "ac");
        assert_eq!(members("membership=join&not_membership=leave").await, "ac");
        assert_eq!(members(&format!("at={start}")).await, "a");
        // Before the room there was nobody to ask; the first state that can be told is that with Alice.
        assert_eq!(members("at=s0").await, "a");
        alice
            .get(&room_path(&room_id, "members?at=x"))
            .await
            .is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn history_and_tokens_outlast_a_restart() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({})).await;
        for number in 0..4 {
            say(&alice, &room_id, &format!("m{number}")).await;
        }
        let newest = page(&alice, &room_id, "dir=b&limit=2").await;
        server.restart().await;
        let end = newest["end"].as_str().unwrap();
        let older = page(&alice, &room_id, &format!("dir=b&limit=2&from={end}")).await;
        assert_eq!(texts(&older["chunk"]), ["m1", "m0"]);
        let last = say(&alice, &room_id, "m4").await;
        let event = get_event(&alice, &room_id, &last).await.ok();
        assert_eq!(event_id(&event), last);
        assert_eq!(
            texts(&page(&alice, &room_id, "dir=b&limit=2").await["chunk"]),
            ["m4", "m3"]
        );
    })
    .await;
}

#[tokio::test]
async fn an_event_of_a_time_when_anyone_could_read_is_read_by_anyone() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let visible = |visibility: &str| json!({ "history_visibility": visibility });
        let initial = json!({
            "type": "m.room.history_visibility", "state_key": "", "content": visible("joined"),
        });
        let plan = json!({ "preset": "public_chat", "initial_state": [initial] });
        let room_id = create(&alice, plan).await;
        let change = async |visibility: &str| {
            let content = visible(visibility);
            let event_type = "m.room.history_visibility";
            let changed = set_state(&alice, &room_id, event_type, "", content).await;
            event_id(&changed.ok())
        };
        let events = [
            (say(&alice, &room_id, "closed").await, false),
            (change("world_readable").await, true),
            (say(&alice, &room_id, "open").await, true),
            (change("joined").await, true),
            (say(&alice, &room_id, "closed again").await, false),
        ];
        for (event, open) in &events {
            let found = get_event(&bob, &room_id, event).await;
            let path = format!("context/{}?limit=20", quoted(event));
            let context = bob.get(&room_path(&room_id, &path)).await;
            if *open {
                found.ok();
                let context = context.ok();
                assert!(!context.to_string().contains("closed"), "{context}");
            } else {
                found.is_refused(404, "M_NOT_FOUND");
                context.is_refused(404, "M_NOT_FOUND");
            }
        }
        // The room as a whole isn't open now.
        for path in ["messages?dir=b", "state"] {
            let answer = bob.get(&room_path(&room_id, path)).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
        // Who comes in sees the same of the past.
        join(&bob, &room_id).await.ok();
        let page = page(&bob, &room_id, "dir=f&limit=100").await;
        assert_eq!(texts(&page["chunk"]), ["open"]);
    })
    .await;
}

#[tokio::test]
async fn an_event_is_read_without_its_room_by_who_may_see_it() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let event = say(&alice, &room_id, "before").await;
        let path = |event_id: &str| format!("{BASE}/events/{}", quoted(event_id));
        let own = get_event(&alice, &room_id, &event).await.ok();
        let mut told = alice.get(&path(&event)).await.ok();
        assert_eq!(told["room_id"], room_id.as_str());
        // It grows older from one answer to the next.
        told["unsigned"]["age"] = own["unsigned"]["age"].clone();
        assert_eq!(told, own);
        let nobody = server.client().get(&path(&event)).await;
        nobody.is_refused(401, "M_MISSING_TOKEN");
        for unseen in [event.as_str(), "$unknown"] {
            let answer = bob.get(&path(unseen)).await;
            answer.is_refused(404, "M_NOT_FOUND");
        }
        join(&bob, &room_id).await.ok();
        bob.get(&path(&event)).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        let after = say(&alice, &room_id, "after").await;
        bob.get(&path(&event)).await.ok();
        let answer = bob.get(&path(&after)).await;
        answer.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}
