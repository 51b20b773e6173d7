//! Events that relate to others: edits, reactions, threads.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{BASE, create_public, event_id, get_event, join, quoted, room_path, say};

/// Sends an event that relates to another; the answer.
async fn relate(client: &Client, room_id: &str, event_type: &str, content: Value) -> Answer {
    // Every content of these tests is sent once, so it is its own transaction id.
    let transaction = quoted(&content.to_string());
    let path = format!("send/{event_type}/{transaction}");
    client.put(&room_path(room_id, &path), content).await
}

async fn edit(client: &Client, room_id: &str, target: &str, text: &str) -> String {
    let content = json!({
        "msgtype": "m.text",
        "body": format!("* {text}"),
        "m.new_content": { "msgtype": "m.text", "body": text },
        "m.relates_to": { "rel_type": "m.replace", "event_id": target },
    });
    event_id(
        &relate(client, room_id, "m.room.message", content)
            .await
            .ok(),
    )
}

async fn react(client: &Client, room_id: &str, target: &str, key: &str) -> Answer {
    let relation = json!({ "rel_type": "m.annotation", "event_id": target, "key": key });
    let content = json!({ "m.relates_to": relation });
    relate(client, room_id, "m.reaction", content).await
}

async fn answer_in_thread(client: &Client, room_id: &str, root: &str, text: &str) -> String {
    let relation = json!({ "rel_type": "m.thread", "event_id": root });
    let content = json!({ "msgtype": "m.text", "body": text, "m.relates_to": relation });
    event_id(
        &relate(client, room_id, "m.room.message", content)
            .await
            .ok(),
    )
}

/// What is told with an event about those that relate to it.
async fn bundled(client: &Client, room_id: &str, event_id: &str) -> Value {
    let event = get_event(client, room_id, event_id).await.ok();
    event["unsigned"]["m.relations"].clone()
}

/// A page of the events that relate to another.
async fn relations(client: &Client, room_id: &str, target: &str, rest: &str) -> Answer {
    let room_id = quoted(room_id);
    let path = format!(
        "/_matrix/client/v1/rooms/{room_id}/relations/{}{rest}",
        quoted(target)
    );
    client.get(&path).await
}

fn ids(page: &Value) -> Vec<&str> {
    let events = page["chunk"].as_array().unwrap().iter();
    events
        .map(|event| event["event_id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn an_event_is_told_with_the_newest_edit_of_its_author_until_that_is_redacted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let original = say(&alice, &room_id, "tee").await;
        assert_eq!(bundled(&bob, &room_id, &original).await, Value::Null);
        let first = edit(&alice, &room_id, &original, "tea").await;
        // Times of events are in milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let second = edit(&alice, &room_id, &original, "teas").await;
        edit(&bob, &room_id, &original, "beer").await;
        let told = bundled(&bob, &room_id, &original).await;
        assert_eq!(told["m.replace"]["event_id"], second.as_str());
        let event = get_event(&bob, &room_id, &original).await.ok();
        assert_eq!(event["content"]["body"], "tee");

        let path = format!("redact/{}/1", quoted(&second));
        alice.put(&room_path(&room_id, &path), json!({})).await.ok();
        let told = bundled(&bob, &room_id, &original).await;
        assert_eq!(told["m.replace"]["event_id"], first.as_str());
    })
    .await;
}

#[tokio::test]
async fn who_has_left_is_not_told_of_later_edits() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let original = say(&alice, &room_id, "for bob").await;
        bob.post(&room_path(&room_id, "leave"), json!({}))
            .await
            .ok();
        edit(&alice, &room_id, &original, "not for bob").await;
        assert_eq!(bundled(&bob, &room_id, &original).await, Value::Null);
        let page = relations(&bob, &room_id, &original, "").await.ok();
        assert_eq!(ids(&page), Vec::<&str>::new());
    })
    .await;
}

#[tokio::test]
async fn nobody_reacts_twice_in_the_same_way_unless_the_first_time_was_redacted() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let cake = say(&alice, &room_id, "cake").await;
        let reaction = event_id(&react(&bob, &room_id, &cake, "+").await.ok());
        react(&alice, &room_id, &cake, "+").await.ok();
        react(&bob, &room_id, &cake, "-").await.ok();
        let send = "send/m.reaction/another";
        let relation = json!({ "rel_type": "m.annotation", "event_id": cake, "key": "+" });
        let content = json!({ "m.relates_to": relation });
        let again = bob.put(&room_path(&room_id, send), content.clone()).await;
        again.is_refused(400, "M_DUPLICATE_ANNOTATION");
        // The request that made it may still be repeated.
        let repeated = react(&bob, &room_id, &cake, "+").await.ok();
        assert_eq!(event_id(&repeated), reaction);

        let path = format!("redact/{}/1", quoted(&reaction));
        bob.put(&room_path(&room_id, &path), json!({})).await.ok();
        bob.put(&room_path(&room_id, send), content).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_root_tells_of_its_thread() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        join(&carol, &room_id).await.ok();
        let root = say(&alice, &room_id, "which?").await;
        answer_in_thread(&bob, &room_id, &root, "assam").await;
        let latest = answer_in_thread(&bob, &room_id, &root, "ceylon").await;
        let change = edit(&bob, &room_id, &latest, "darjeeling").await;
        for (reader, participated) in [(&alice, true), (&bob, true), (&carol, false)] {
            let thread = bundled(reader, &room_id, &root).await["m.thread"].clone();
            assert_eq!(thread["count"], 2);
            assert_eq!(thread["current_user_participated"], participated);
            let newest = &thread["latest_event"];
            assert_eq!(newest["event_id"], latest.as_str());
            let replaced = &newest["unsigned"]["m.relations"]["m.replace"];
            assert_eq!(replaced["event_id"], change.as_str());
        }
    })
    .await;
}

#[tokio::test]
async fn relations_come_by_pages_by_kind_and_over_several_steps() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        let mut replies = Vec::new();
        for text in ["1", "2", "3"] {
            replies.push(answer_in_thread(&alice, &room_id, &root, text).await);
        }
        let reaction = event_id(&react(&alice, &room_id, &replies[0], "+").await.ok());

        let page = relations(&alice, &room_id, &root, "?limit=2").await.ok();
        assert_eq!(ids(&page), [&replies[2], &replies[1]]);
        let from = page["next_batch"].as_str().unwrap();
        let rest = relations(&alice, &room_id, &root, &format!("?from={from}")).await;
        let rest = rest.ok();
        assert_eq!(ids(&rest), [&replies[0]]);
        assert!(rest.get("next_batch").is_none());

        let forward = relations(&alice, &room_id, &root, "/m.thread/m.room.message?dir=f").await;
        assert_eq!(ids(&forward.ok()), [&replies[0], &replies[1], &replies[2]]);
        for none in ["/m.replace", "/m.thread/m.sticker"] {
            let page = relations(&alice, &room_id, &root, none).await.ok();
            assert_eq!(ids(&page), Vec::<&str>::new());
        }
        let deep = relations(&alice, &room_id, &root, "?recurse=true&limit=1").await;
        let deep = deep.ok();
        assert_eq!(ids(&deep), [&reaction]);
        assert_eq!(deep["recursion_depth"], 3);
        relations(&alice, &room_id, "$nothing", "")
            .await
            .is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn who_is_ignored_is_not_heard_but_their_state_is_seen() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let account_data = |user_id: &str| {
            format!(
                "{BASE}/user/{}/account_data/m.ignored_user_list",
                quoted(user_id)
            )
        };
        let since = alice.get(&format!("{BASE}/sync")).await.ok()["next_batch"].clone();
        let ignored = json!({ "ignored_users": { (bob.user_id.as_str()): {} } });
        alice.put(&account_data(&alice.user_id), ignored).await.ok();
        say(&bob, &room_id, "unheard").await;
        bob.post(&room_path(&room_id, "leave"), json!({}))
            .await
            .ok();
        let path = format!("{BASE}/sync?since={}", since.as_str().unwrap());
        let answer = alice.get(&path).await.ok();
        let events = &answer["rooms"]["join"][&room_id]["timeline"]["events"];
        let types: Vec<_> = events
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["type"])
            .collect();
        assert_eq!(types, ["m.room.member"]);
    })
    .await;
}

#[tokio::test]
async fn what_relates_to_another_event_begins_no_thread() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        let inside = answer_in_thread(&alice, &room_id, &root, "inside").await;
        let edit = edit(&alice, &room_id, &root, "better").await;
        for target in [inside, edit] {
            let relation = json!({ "rel_type": "m.thread", "event_id": target });
            let content = json!({ "msgtype": "m.text", "body": "x", "m.relates_to": relation });
            let answer = relate(&alice, &room_id, "m.room.message", content).await;
            answer.is_refused(400, "M_UNKNOWN");
        }
        // A reply is no relation in that sense.
        let reply = json!({ "m.in_reply_to": { "event_id": root } });
        let content = json!({ "msgtype": "m.text", "body": "reply", "m.relates_to": reply });
        let reply = relate(&alice, &room_id, "m.room.message", content)
            .await
            .ok();
        answer_in_thread(&alice, &room_id, &event_id(&reply), "about it").await;
    })
    .await;
}

#[tokio::test]
async fn a_relation_that_is_not_whole_is_an_event_like_any_other() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        for relation in [
            json!("x"),
            json!({ "event_id": root }),
            json!({ "rel_type": "m.thread" }),
            json!({ "rel_type": 1, "event_id": root }),
            json!({ "rel_type": "m.thread", "event_id": "no id" }),
            json!({ "rel_type": "m.thread", "event_id": "$unknown" }),
        ] {
            let content = json!({ "msgtype": "m.text", "body": "x", "m.relates_to": relation });
            relate(&alice, &room_id, "m.room.message", content)
                .await
                .ok();
        }
        assert_eq!(bundled(&alice, &room_id, &root).await, Value::Null);
        // Reactions are not counted by the server.
        react(&alice, &room_id, &root, "+1").await.ok();
        assert_eq!(bundled(&alice, &room_id, &root).await, Value::Null);
    })
    .await;
}

#[tokio::test]
async fn messages_can_be_filtered_by_how_they_relate_to_others() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        for kind in ["m.thread", "m.reference"] {
            let relation = json!({ "rel_type": kind, "event_id": root });
            let content = json!({ "msgtype": "m.text", "body": kind, "m.relates_to": relation });
            relate(&alice, &room_id, "m.room.message", content)
                .await
                .ok();
        }
        let texts = async |filter: Value| {
            let filter = quoted(&filter.to_string());
            let path = room_path(
                &room_id,
                &format!("messages?dir=f&limit=100&filter={filter}"),
            );
            let page = alice.get(&path).await.ok();
            let events = page["chunk"].as_array().unwrap().iter();
            let texts = events.filter_map(|event| event["content"]["body"].as_str());
            texts.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let only = "org.matrix.msc3874.rel_types";
        let not = "org.matrix.msc3874.not_rel_types";
        let all = ["root", "m.thread", "m.reference"];
        assert_eq!(texts(json!({ "types": ["m.room.message"] })).await, all);
        assert_eq!(texts(json!({ only: ["m.thread"] })).await, all[1..2]);
        assert_eq!(
            texts(json!({ only: ["m.thread", "m.reference"] })).await,
            all[1..]
        );
        assert_eq!(
            texts(json!({ not: ["m.thread"] })).await,
            ["root", "m.reference"]
        );
        let both = json!({ only: ["m.thread", "m.reference"], not: ["m.reference"] });
        assert_eq!(texts(both).await, ["m.thread"]);
        assert_eq!(texts(json!({ only: [] })).await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn what_relates_from_another_room_is_passed_over() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let other = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        answer_in_thread(&alice, &other, &root, "elsewhere").await;
        edit(&alice, &other, &root, "elsewhere").await;
        let reference = json!({ "rel_type": "m.reference", "event_id": root });
        let content = json!({ "m.relates_to": reference });
        relate(&alice, &other, "com.example", content).await.ok();
        assert_eq!(bundled(&alice, &room_id, &root).await, Value::Null);
        let related = relations(&alice, &room_id, &root, "?recurse=true").await;
        assert_eq!(related.ok()["chunk"], json!([]));
        for room in [&room_id, &other] {
            let path = format!("/_matrix/client/v1/rooms/{}/threads", quoted(room));
            assert_eq!(alice.get(&path).await.ok()["chunk"], json!([]));
        }
        relations(&alice, &other, &root, "")
            .await
            .is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn relations_of_relations_are_followed_three_steps() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        let mut chain = vec![answer_in_thread(&alice, &room_id, &root, "answer").await];
        for _ in 0..3 {
            let reaction = react(&alice, &room_id, chain.last().unwrap(), "+").await;
            chain.push(event_id(&reaction.ok()));
        }
        let near = relations(&alice, &room_id, &root, "?dir=f").await.ok();
        assert_eq!(ids(&near), [&chain[0]]);
        let deep = relations(&alice, &room_id, &root, "?dir=f&recurse=true").await;
        assert_eq!(ids(&deep.ok()), [&chain[0], &chain[1], &chain[2]]);
        let of_answer = relations(&alice, &room_id, &chain[0], "?dir=f&recurse=true").await;
        assert_eq!(ids(&of_answer.ok()), [&chain[1], &chain[2], &chain[3]]);
        // Of a kind and a type only what is of both, however far it is.
        let reactions = "/m.annotation/m.reaction?dir=f&recurse=true";
        let reactions = relations(&alice, &room_id, &root, reactions).await.ok();
        assert_eq!(ids(&reactions), [&chain[1], &chain[2]]);
    })
    .await;
}
