//! Searching for what was said.

use parley_conformance::{Answer, Client, on_each_engine};
use serde_json::{Value, json};

use super::{BASE, act_self, create, create_public, join, quoted, room_path, say, set_state};

async fn try_search(client: &Client, criteria: Value, next: &str) -> Answer {
    let path = format!("{BASE}/search?next_batch={}", quoted(next));
    let body = json!({ "search_categories": { "room_events": criteria } });
    client.post(&path, body).await
}

async fn search(client: &Client, criteria: Value) -> Value {
    let answer = try_search(client, criteria, "").await.ok();
    answer["search_categories"]["room_events"].clone()
}

/// The ids of the events that were found.
fn found(results: &Value) -> Vec<&str> {
    let results = results["results"].as_array().unwrap();
    results
        .iter()
        .map(|result| result["result"]["event_id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn what_was_said_is_found_by_all_of_its_words_in_any_case() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let one = say(&alice, &room_id, "The quick brown Fox").await;
        let two = say(&alice, &room_id, "a fox, quick-footed: and_more").await;
        say(&alice, &room_id, "nothing of the kind").await;
        let recent = |term: &str| json!({ "search_term": term, "order_by": "recent" });
        let told = search(&alice, recent("QUICK fox")).await;
        assert_eq!(found(&told), [&*two, &*one]);
        assert_eq!(told["count"], 2);
        assert_eq!(told["highlights"], json!(["quick", "fox"]));
        let result = &told["results"][1]["result"];
        assert_eq!(
            [&result["room_id"], &result["content"]["body"]],
            [room_id.as_str(), "The quick brown Fox"]
        );
        assert_eq!(found(&search(&alice, recent("more footed")).await), [&*two]);
        for nothing in ["brown footed", "qui", "", "\"", "* OR", "'; --"] {
            let told = search(&alice, recent(nothing)).await;
            assert_eq!(told["results"], json!([]), "{nothing}");
        }
        let ranked = search(&alice, json!({ "search_term": "quick" })).await;
        assert_eq!(ranked["results"].as_array().unwrap().len(), 2);
        assert!(
            ranked["results"][0]["rank"].as_f64().unwrap()
                >= ranked["results"][1]["rank"].as_f64().unwrap()
        );
    })
    .await;
}

#[tokio::test]
async fn names_and_topics_are_found_by_their_keys() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create(&alice, json!({ "name": "harbour" })).await;
        set_state(
            &alice,
            &room_id,
            "m.room.topic",
            "",
            json!({ "topic": "harbour life" }),
        )
        .await
        .ok();
        say(&alice, &room_id, "harbour").await;
        for (keys, types) in [
            (json!(["content.body"]), vec!["m.room.message"]),
            (json!(["content.name"]), vec!["m.room.name"]),
            (
                json!(["content.name", "content.topic"]),
                vec!["m.room.topic", "m.room.name"],
            ),
        ] {
            let told = search(
                &alice,
                json!({ "search_term": "harbour", "keys": keys, "order_by": "recent" }),
            )
            .await;
            let results = told["results"].as_array().unwrap();
            let found: Vec<_> = results
                .iter()
                .map(|result| result["result"]["type"].as_str().unwrap())
                .collect();
            assert_eq!(found, types);
        }
        let all = search(&alice, json!({ "search_term": "harbour" })).await;
        assert_eq!(all["count"], 3);
        for criteria in [
            json!({ "search_term": "a", "keys": ["content.other"] }),
            json!({ "search_term": "a", "order_by": "other" }),
        ] {
            try_search(&alice, criteria, "")
                .await
                .is_refused(400, "M_INVALID_PARAM");
        }
        try_search(&alice, json!({ "search_term": "harbour" }), "nonsense")
            .await
            .is_refused(400, "M_INVALID_PARAM");
        try_search(&alice, json!({}), "")
            .await
            .is_refused(400, "M_BAD_JSON");
        try_search(&server.client(), json!({ "search_term": "a" }), "")
            .await
            .is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn results_come_page_by_page_with_what_was_said_around_them() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let mut said = Vec::new();
        for number in 0..5 {
            said.push(say(&alice, &room_id, &format!("message {number}")).await);
        }
        let criteria = json!({
            "search_term": "message", "order_by": "recent", "filter": { "limit": 2, "rooms": [room_id] },
            "event_context": { "before_limit": 1, "after_limit": 1, "include_profile": true },
            "include_state": true,
            "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] },
        });
        let first = search(&alice, criteria.clone()).await;
        assert_eq!(found(&first), [&*said[4], &*said[3]]);
        let context = &first["results"][1]["context"];
        assert_eq!(context["events_before"][0]["event_id"], said[2].as_str());
        assert_eq!(context["events_after"][0]["event_id"], said[4].as_str());
        assert!(context["profile_info"].get(&alice.user_id).is_some());
        let start = quoted(context["start"].as_str().unwrap());
        let back = alice.get(&room_path(&room_id, &format!("messages?dir=b&limit=1&from={start}"))).await.ok();
        assert_eq!(back["chunk"][0]["event_id"], said[1].as_str());
        let groups = &first["groups"];
        assert_eq!(groups["sender"][&alice.user_id]["results"], json!([said[4], said[3]]));
        assert_eq!(groups["room_id"][&room_id]["order"], 0);
        let state = first["state"][&room_id].as_array().unwrap();
        assert!(state.iter().any(|event| event["type"] == "m.room.create"));
        // What is said meanwhile doesn't move the pages.
        say(&alice, &room_id, "message 6").await;
        let mut next = first["next_batch"].as_str().unwrap().to_owned();
        let mut rest = Vec::new();
        loop {
            let page = try_search(&alice, criteria.clone(), &next).await.ok();
            let page = &page["search_categories"]["room_events"];
            rest.extend(found(page).into_iter().map(ToOwned::to_owned));
            match page["next_batch"].as_str() {
                Some(token) => next = token.to_owned(),
                None => break,
            }
        }
        assert_eq!(rest, [&*said[2], &*said[1], &*said[0]]);
    })
    .await;
}

#[tokio::test]
async fn nobody_finds_what_they_may_not_see() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        let secret = create(&alice, json!({})).await;
        say(&alice, &secret, "treasure").await;
        let before = say(&alice, &room_id, "treasure here").await;
        join(&bob, &room_id).await.ok();
        let term = json!({ "search_term": "treasure" });
        assert_eq!(found(&search(&bob, term.clone()).await), [&*before]);
        let named = json!({ "search_term": "treasure", "filter": { "rooms": [secret] } });
        assert_eq!(search(&bob, named).await["results"], json!([]));

        act_self(&bob, &room_id, "leave").await.ok();
        say(&alice, &room_id, "treasure moved").await;
        assert_eq!(search(&bob, term).await["results"], json!([]));
        let named = json!({ "search_term": "treasure", "filter": { "rooms": [room_id] } });
        assert_eq!(found(&search(&bob, named.clone()).await), [&*before]);
        act_self(&bob, &room_id, "forget").await.ok();
        assert_eq!(search(&bob, named).await["results"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn what_is_redacted_ignored_or_filtered_away_is_not_found() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let gone = say(&alice, &room_id, "apple one").await;
        let kept = say(&alice, &room_id, "apple two").await;
        let of_bob = say(&bob, &room_id, "apple three").await;
        let recent = json!({ "search_term": "apple", "order_by": "recent" });
        assert_eq!(
            found(&search(&alice, recent.clone()).await),
            [&*of_bob, &*kept, &*gone]
        );
        alice
            .put(
                &room_path(&room_id, &format!("redact/{}/1", quoted(&gone))),
                json!({}),
            )
            .await
            .ok();
        assert_eq!(
            found(&search(&alice, recent.clone()).await),
            [&*of_bob, &*kept]
        );
        let filtered = json!({ "search_term": "apple", "filter": { "senders": [bob.user_id] } });
        assert_eq!(found(&search(&alice, filtered).await), [&*of_bob]);
        let path = format!(
            "{BASE}/user/{}/account_data/m.ignored_user_list",
            quoted(&alice.user_id)
        );
        alice
            .put(&path, json!({ "ignored_users": { &bob.user_id: {} } }))
            .await
            .ok();
        assert_eq!(found(&search(&alice, recent).await), [&*kept]);
    })
    .await;
}

#[tokio::test]
async fn rooms_are_left_out_of_a_search() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let one = create_public(&alice).await;
        let other = create_public(&alice).await;
        say(&alice, &one, "apple one").await;
        let wanted = say(&alice, &other, "apple two").await;
        for filter in [
            json!({ "not_rooms": [one] }),
            json!({ "rooms": [one, other], "not_rooms": [one] }),
        ] {
            let criteria = json!({ "search_term": "apple", "filter": filter });
            assert_eq!(found(&search(&alice, criteria).await), [&*wanted]);
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_invited_finds_what_was_said_without_the_state() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let visibility = json!({ "history_visibility": "invited" });
        let visibility = json!({
            "type": "m.room.history_visibility", "state_key": "", "content": visibility,
        });
        let plan = json!({ "invite": [bob.user_id], "initial_state": [visibility] });
        let room_id = create(&alice, plan).await;
        let said = say(&alice, &room_id, "apple").await;
        let own = create(&bob, json!({})).await;
        let own_said = say(&bob, &own, "apple").await;
        let criteria = json!({
            "search_term": "apple", "order_by": "recent", "include_state": true,
            "filter": { "rooms": [room_id, own] },
        });
        let told = search(&bob, criteria).await;
        assert_eq!(found(&told), [&*own_said, &*said]);
        let state = told["state"].as_object().unwrap();
        assert_eq!(state.keys().collect::<Vec<_>>(), [&own]);
    })
    .await;
}

#[tokio::test]
async fn the_index_outlives_a_restart_and_takes_up_what_was_said_before() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let room_id = create_public(&alice).await;
        let one = say(&alice, &room_id, "pear one").await;
        server.restart().await;
        let two = say(&alice, &room_id, "pear two").await;
        let recent = json!({ "search_term": "pear", "order_by": "recent" });
        assert_eq!(found(&search(&alice, recent.clone()).await), [&*two, &*one]);
        server.restart().await;
        assert_eq!(found(&search(&alice, recent).await), [&*two, &*one]);
    })
    .await;
}

#[tokio::test]
async fn each_group_has_its_own_next_page() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let one = create_public(&alice).await;
        let two = create_public(&alice).await;
        join(&bob, &two).await.ok();
        for number in 0..4 {
            say(&alice, &one, &format!("grape one {number}")).await;
            say(&bob, &two, &format!("grape two {number}")).await;
        }
        let search = async |next: Option<&str>, key: &str| {
            let body = json!({ "search_categories": { "room_events": {
                "search_term": "grape",
                "order_by": "recent",
                "filter": { "limit": 3 },
                "groupings": { "group_by": [{ "key": key }] },
            } } });
            let query = next.map_or(String::new(), |next| {
                format!("?next_batch={}", quoted(next))
            });
            let answer = alice
                .post(&format!("{BASE}/search{query}"), body)
                .await
                .ok();
            answer["search_categories"]["room_events"].clone()
        };
        let texts = |page: &Value| {
            let results = page["results"].as_array().unwrap().iter();
            let text = |found: &Value| {
                found["result"]["content"]["body"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            results.map(text).collect::<Vec<_>>()
        };
        for (key, group) in [("room_id", &one), ("sender", &alice.user_id)] {
            let first = search(None, key).await;
            assert_eq!(texts(&first), ["grape two 3", "grape one 3", "grape two 2"]);
            let next = first["groups"][key][group]["next_batch"].as_str().unwrap();
            let rest = search(Some(next), key).await;
            assert_eq!(texts(&rest), ["grape one 2", "grape one 1", "grape one 0"]);
            let end = rest["next_batch"].as_str().unwrap();
            let end = search(Some(end), key).await;
            assert!(texts(&end).is_empty(), "{end}");
            assert!(end.get("next_batch").is_none(), "{end}");
        }
    })
    .await;
}
