//! What those who have left still read: up to their leaving, and nothing later.

use parley_conformance::{Client, on_each_engine};
use serde_json::json;

use super::{
    BASE, act, act_self, bodies, create, event_id, get_event, get_state, join, quoted, room_path,
    room_path_v1, say, say_related, send, set_state,
};

/// A room that Bob has left, with something of everything before and after that.
struct Left {
    room_id: String,
    root: String,
    edited: String,
    after: String,
    bob: Client,
}

async fn left(server: &parley_conformance::TestServer, how: &str) -> Left {
    let alice = server.register(&format!("alice-{how}")).await;
    let bob = server.register(&format!("bob-{how}")).await;
    let plan = json!({ "preset": "public_chat", "name": "before" });
    let room_id = create(&alice, plan).await;
    join(&bob, &room_id).await.ok();
    let root = say(&alice, &room_id, "root").await;
    let edited = say(&alice, &room_id, "edited").await;
    let relate = async |time: &str| {
        let room_id = room_id.as_str();
        say_related(
            &alice,
            room_id,
            &format!("answer {time}"),
            "m.thread",
            &root,
        )
        .await;
        say_related(
            &alice,
            room_id,
            &format!("edit {time}"),
            "m.replace",
            &edited,
        )
        .await;
        let relation = json!({ "rel_type": "m.reference", "event_id": edited });
        let content = json!({ "m.relates_to": relation });
        send(&alice, room_id, "com.example", content).await.ok();
    };
    relate("before").await;
    match how {
        "leave" => act_self(&bob, &room_id, "leave").await.ok(),
        how => act(&alice, &room_id, how, &bob).await.ok(),
    };
    relate("after").await;
    let after = say(&alice, &room_id, "after").await;
    let name = json!({ "name": "after" });
    set_state(&alice, &room_id, "m.room.name", "", name)
        .await
        .ok();
    Left {
        room_id,
        root,
        edited,
        after,
        bob,
    }
}

#[tokio::test]
async fn who_left_was_kicked_or_banned_reads_up_to_that() {
    on_each_engine(async |server| {
        for how in ["leave", "kick", "ban"] {
            let Left {
                room_id,
                edited,
                after,
                bob,
                ..
            } = left(server, how).await;
            for direction in ["b", "f"] {
                let path = format!("messages?limit=100&dir={direction}");
                let page = bob.get(&room_path(&room_id, &path)).await.ok();
                let texts = bodies(&page["chunk"]);
                assert_eq!(texts.len(), 4, "{texts:?}");
                assert!(
                    !texts.iter().any(|text| text.contains("after")),
                    "{texts:?}"
                );
            }
            let name = get_state(&bob, &room_id, "m.room.name", "").await.ok();
            assert_eq!(name["name"], "before");
            get_event(&bob, &room_id, &edited).await.ok();
            let event = get_event(&bob, &room_id, &after).await;
            event.is_refused(404, "M_NOT_FOUND");
            let path = format!("context/{}?limit=100", quoted(&edited));
            let context = bob.get(&room_path(&room_id, &path)).await.ok();
            for later in ["answer after", "edit after"] {
                assert!(!context.to_string().contains(later), "{context}");
            }
            let path = format!("context/{}", quoted(&after));
            let context = bob.get(&room_path(&room_id, &path)).await;
            context.is_refused(404, "M_NOT_FOUND");
            for path in ["joined_members", "aliases"] {
                let answer = bob.get(&room_path(&room_id, path)).await;
                answer.is_refused(403, "M_FORBIDDEN");
            }
            let body = json!({ "msgtype": "m.text", "body": "x" });
            let answer = send(&bob, &room_id, "m.room.message", body).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn who_left_is_told_of_relations_up_to_that() {
    on_each_engine(async |server| {
        let Left {
            room_id,
            root,
            edited,
            bob,
            ..
        } = left(server, "leave").await;
        let related = async |target: &str| {
            let path = format!("relations/{}?dir=f", quoted(target));
            bob.get(&room_path_v1(&room_id, &path)).await.ok()
        };
        assert_eq!(bodies(&related(&root).await["chunk"]), ["answer before"]);
        assert_eq!(bodies(&related(&edited).await["chunk"]), ["edit before"]);
        let event = get_event(&bob, &room_id, &edited).await.ok();
        let bundle = &event["unsigned"]["m.relations"];
        assert_eq!(bundle["m.replace"]["content"]["body"], "edit before");
        let references = bundle["m.reference"]["chunk"].as_array().unwrap();
        assert_eq!(references.len(), 1, "{bundle}");
        let threads = bob.get(&room_path_v1(&room_id, "threads")).await.ok();
        assert_eq!(bodies(&threads["chunk"]), ["root"]);
        let thread = &threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"];
        assert_eq!(thread["count"], 1, "{threads}");
        assert_eq!(thread["latest_event"]["content"]["body"], "answer before");
        let path = room_path_v1(&room_id, "timestamp_to_event?dir=b&ts=99999999999999");
        let newest = bob.get(&path).await.ok();
        let newest = get_event(&bob, &room_id, &event_id(&newest)).await.ok();
        assert_eq!(newest["state_key"], bob.user_id);
    })
    .await;
}

#[tokio::test]
async fn who_left_finds_nothing_of_later_by_searching() {
    on_each_engine(async |server| {
        let Left { room_id, bob, .. } = left(server, "leave").await;
        let filter = json!({ "rooms": [room_id] });
        let search = json!({ "search_categories": { "room_events": {
            "search_term": "after", "filter": filter, "include_state": true,
        } } });
        let found = bob.post(&format!("{BASE}/search"), search).await.ok();
        let found = &found["search_categories"]["room_events"];
        assert_eq!(found["results"], json!([]), "{found}");
    })
    .await;
}

#[tokio::test]
async fn who_left_finds_what_was_said_with_its_relations_of_that_time() {
    on_each_engine(async |server| {
        let Left {
            room_id,
            root,
            edited,
            bob,
            ..
        } = left(server, "leave").await;
        let find = async |term: &str, event_id: &str| {
            let search = json!({ "search_categories": { "room_events": {
                "search_term": term, "filter": { "rooms": [room_id] },
            } } });
            let found = bob.post(&format!("{BASE}/search"), search).await.ok();
            let results = &found["search_categories"]["room_events"]["results"];
            let results = results.as_array().unwrap();
            let mut results = results.iter().map(|result| &result["result"]);
            let found = results.find(|result| result["event_id"] == event_id);
            found.unwrap()["unsigned"]["m.relations"].clone()
        };
        let bundle = find("edited", &edited).await;
        assert_eq!(bundle["m.replace"]["content"]["body"], "edit before");
        let references = bundle["m.reference"]["chunk"].as_array().unwrap();
        assert_eq!(references.len(), 1, "{bundle}");
        let bundle = find("root", &root).await;
        assert_eq!(bundle["m.thread"]["count"], 1);
    })
    .await;
}

#[tokio::test]
async fn an_archived_room_is_told_as_it_was_left() {
    on_each_engine(async |server| {
        let Left {
            room_id,
            edited,
            bob,
            ..
        } = left(server, "leave").await;
        let plain = bob.get(&format!("{BASE}/sync")).await.ok();
        assert!(plain.get("rooms").is_none(), "{plain}");
        let filter = quoted(&json!({ "room": { "include_leave": true } }).to_string());
        let told = bob.get(&format!("{BASE}/sync?filter={filter}")).await.ok();
        let room = &told["rooms"]["leave"][&room_id];
        assert!(!room.to_string().contains("after\""), "{room}");
        let events = room["timeline"]["events"].as_array().unwrap();
        let shown = events.iter().find(|event| event["event_id"] == *edited);
        let bundle = &shown.unwrap()["unsigned"]["m.relations"];
        assert_eq!(bundle["m.replace"]["content"]["body"], "edit before");
        let last = events.last().unwrap();
        assert_eq!(last["state_key"], bob.user_id);
        act_self(&bob, &room_id, "forget").await.ok();
        let told = bob.get(&format!("{BASE}/sync?filter={filter}")).await.ok();
        assert!(told.get("rooms").is_none(), "{told}");
        for path in ["messages?dir=b", "state", "members"] {
            let answer = bob.get(&room_path(&room_id, path)).await;
            answer.is_refused(403, "M_FORBIDDEN");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_again_pages_to_what_invited_users_see() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "preset": "private_chat" })).await;
        let invited = json!({ "history_visibility": "invited" });
        set_state(&alice, &room_id, "m.room.history_visibility", "", invited)
            .await
            .ok();
        act(&alice, &room_id, "invite", &bob).await.ok();
        join(&bob, &room_id).await.ok();
        say(&alice, &room_id, "while bob is there").await;
        act_self(&bob, &room_id, "leave").await.ok();
        say(&alice, &room_id, "after bob").await;
        act(&alice, &room_id, "invite", &bob).await.ok();
        say(&alice, &room_id, "for who is invited").await;
        let page = bob
            .get(&room_path(&room_id, "messages?dir=b&limit=50"))
            .await;
        let page = page.ok();
        assert_eq!(
            bodies(&page["chunk"]),
            ["for who is invited", "while bob is there"]
        );
    })
    .await;
}

#[tokio::test]
async fn who_has_left_pages_to_what_anyone_could_read_for_a_while() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({ "preset": "public_chat" })).await;
        join(&bob, &room_id).await.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        say(&alice, &room_id, "for members").await;
        for (visibility, text) in [
            ("world_readable", "for all"),
            ("shared", "for members again"),
        ] {
            let content = json!({ "history_visibility": visibility });
            set_state(&alice, &room_id, "m.room.history_visibility", "", content)
                .await
                .ok();
            say(&alice, &room_id, text).await;
        }
        let page = bob
            .get(&room_path(&room_id, "messages?dir=b&limit=50"))
            .await;
        assert_eq!(bodies(&page.ok()["chunk"]), ["for all"]);
    })
    .await;
}
