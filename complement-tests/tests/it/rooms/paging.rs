//! Limits, directions and tokens of everything that comes in pages.

use parley_conformance::on_each_engine;
use serde_json::json;

use super::{BASE, bodies, create_public, join, quoted, room_path, room_path_v1, say, say_related};

#[tokio::test]
async fn limits_are_numbers_that_are_not_negative() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let said = quoted(&say(&alice, &room_id, "said").await);
        for path in [
            room_path(&room_id, "messages?dir=b"),
            room_path(&room_id, &format!("context/{said}?")),
            room_path_v1(&room_id, &format!("relations/{said}?")),
            room_path_v1(&room_id, "threads?"),
            room_path_v1(&room_id, "hierarchy?"),
            format!("{BASE}/publicRooms?"),
            format!("{BASE}/notifications?"),
        ] {
            for limit in ["-1", "x", "1.5", "", "99999999999999999999"] {
                let answer = alice.get(&format!("{path}&limit={limit}")).await;
                answer.is_refused(400, "M_INVALID_PARAM");
            }
            alice.get(&format!("{path}&limit=1000000")).await.ok();
            // What an endpoint doesn't know, it passes over.
            alice.get(&format!("{path}&com.example=1")).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn tokens_are_those_that_the_server_gave() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let said = quoted(&say(&alice, &room_id, "said").await);
        let long = "9".repeat(300);
        for path in [
            room_path(&room_id, "messages?dir=b&from="),
            room_path(&room_id, "messages?dir=b&to="),
            room_path(&room_id, "members?at="),
            room_path_v1(&room_id, &format!("relations/{said}?from=")),
            room_path_v1(&room_id, &format!("relations/{said}?to=")),
            room_path_v1(&room_id, "threads?from="),
            room_path_v1(&room_id, "hierarchy?from="),
            format!("{BASE}/publicRooms?since="),
            format!("{BASE}/notifications?from="),
            format!("{BASE}/sync?since="),
        ] {
            for token in ["x", "-1", "s-1", "s1_2_3_4_5_6", "s99999999", "%00", &long] {
                let answer = alice.get(&format!("{path}{token}")).await;
                answer.is_refused(400, "M_INVALID_PARAM");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn tokens_of_sync_and_messages_serve_for_relations_and_members() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        say_related(&alice, &room_id, "before", "m.thread", &root).await;
        let sync = alice.get(&format!("{BASE}/sync")).await.ok();
        let sync = sync["next_batch"].as_str().unwrap();
        let page = alice
            .get(&room_path(&room_id, "messages?dir=b&limit=1"))
            .await;
        let start = page.ok()["start"].as_str().unwrap().to_owned();
        say_related(&alice, &room_id, "after", "m.thread", &root).await;
        for token in [sync, start.as_str()] {
            for (query, expected) in [("dir=b&from", "before"), ("dir=f&from", "after")] {
                let path = format!("relations/{}?{query}={token}", quoted(&root));
                let page = alice.get(&room_path_v1(&room_id, &path)).await.ok();
                assert_eq!(bodies(&page["chunk"]), [expected]);
            }
            let path = room_path(&room_id, &format!("members?at={token}"));
            alice.get(&path).await.ok();
        }
    })
    .await;
}

#[tokio::test]
async fn related_events_come_in_either_direction_page_by_page() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let root = say(&alice, &room_id, "root").await;
        for number in 0..5 {
            say_related(&alice, &room_id, &format!("m{number}"), "m.thread", &root).await;
        }
        for (direction, expected) in [
            ("f", ["m0", "m1", "m2", "m3", "m4"]),
            ("b", ["m4", "m3", "m2", "m1", "m0"]),
        ] {
            let mut seen: Vec<String> = Vec::new();
            let mut from = String::new();
            loop {
                let path = format!("relations/{}?dir={direction}&limit=2{from}", quoted(&root));
                let page = alice.get(&room_path_v1(&room_id, &path)).await.ok();
                seen.extend(bodies(&page["chunk"]).into_iter().map(ToOwned::to_owned));
                assert!(page.get("original_event").is_none());
                match page["next_batch"].as_str() {
                    Some(next) => from = format!("&from={next}"),
                    None => break,
                }
            }
            assert_eq!(seen, expected);
        }
        let path = format!("relations/{}?dir=sideways", quoted(&root));
        let answer = alice.get(&room_path_v1(&room_id, &path)).await;
        answer.is_refused(400, "M_INVALID_PARAM");
    })
    .await;
}

#[tokio::test]
async fn relations_are_followed_over_three_events_and_the_answer_says_so() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let first = say(&alice, &room_id, "e0").await;
        let mut target = first.clone();
        for number in 1..6 {
            let text = format!("e{number}");
            target = say_related(&alice, &room_id, &text, "m.reference", &target).await;
        }
        let related = async |query: &str| {
            let path = format!("relations/{}?dir=f{query}", quoted(&first));
            alice.get(&room_path_v1(&room_id, &path)).await.ok()
        };
        let direct = related("").await;
        assert_eq!(bodies(&direct["chunk"]), ["e1"]);
        assert!(direct.get("recursion_depth").is_none(), "{direct}");
        let deep = related("&recurse=true").await;
        assert_eq!(bodies(&deep["chunk"]), ["e1", "e2", "e3"]);
        assert_eq!(deep["recursion_depth"], 3);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_room_is_none_that_one_is_a_member_of() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = "!unknown:parley.test";
        for path in ["messages?dir=b", "state", "members", "joined_members"] {
            let answer = alice.get(&room_path(room_id, path)).await;
            assert!(matches!(answer.status.as_u16(), 403 | 404), "{answer:?}");
        }
        let answer = alice.get(&room_path(room_id, "event/$x")).await;
        answer.is_refused(404, "M_NOT_FOUND");
        let body = json!({ "msgtype": "m.text", "body": "x" });
        let path = room_path(room_id, "send/m.room.message/1");
        let answer = alice.put(&path, body).await;
        assert!(matches!(answer.status.as_u16(), 403 | 404));
    })
    .await;
}

#[tokio::test]
async fn a_page_of_nothing_is_empty_or_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let said = quoted(&say(&alice, &room_id, "said").await);
        let get = async |path: String| alice.get(&path).await;
        let page = get(room_path(&room_id, "messages?dir=b&limit=0"))
            .await
            .ok();
        assert_eq!(page["chunk"], json!([]));
        let path = format!("context/{said}?limit=0");
        let context = get(room_path(&room_id, &path)).await.ok();
        assert_eq!(context["events_before"], json!([]));
        assert_eq!(context["events_after"], json!([]));
        let path = format!("relations/{said}?limit=0");
        let related = get(room_path_v1(&room_id, &path)).await.ok();
        assert_eq!(related["chunk"], json!([]));
        // These two say that there is no such limit.
        for path in ["threads?limit=0", "hierarchy?limit=0"] {
            let answer = get(room_path_v1(&room_id, path)).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn paging_goes_on_over_more_events_than_a_page_has_that_one_does_not_hear() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        say(&alice, &room_id, "before").await;
        for number in 0..30 {
            say(&bob, &room_id, &format!("unheard {number}")).await;
        }
        say(&alice, &room_id, "after").await;
        let ignored = json!({ "ignored_users": { &bob.user_id: {} } });
        let path = format!(
            "{BASE}/user/{}/account_data/m.ignored_user_list",
            quoted(&alice.user_id)
        );
        alice.put(&path, ignored).await.ok();
        for direction in ["b", "f"] {
            let (mut found, mut from) = (Vec::new(), String::new());
            for _ in 0..60 {
                let path = format!("messages?dir={direction}&limit=5{from}");
                let page = alice.get(&room_path(&room_id, &path)).await.ok();
                found.extend(page["chunk"].as_array().unwrap().clone());
                let Some(end) = page["end"].as_str() else {
                    break;
                };
                from = format!("&from={end}");
            }
            if direction == "b" {
                found.reverse();
            }
            assert_eq!(bodies(&json!(found)), ["before", "after"]);
            assert_eq!(found[0]["type"], "m.room.create");
        }
    })
    .await;
}
