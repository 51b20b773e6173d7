//! Not hearing of somebody.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#ignoring-users>

use parley_conformance::{Client, on_each_engine};
use serde_json::{Value, json};

use super::{
    BASE, act, bodies, create, create_public, event_id, get_event, join, quoted, room_path,
    room_path_v1, say, say_related, send, set_state,
};

async fn ignore(client: &Client, list: Value) -> parley_conformance::Answer {
    let user = quoted(&client.user_id);
    let path = format!("{BASE}/user/{user}/account_data/m.ignored_user_list");
    client.put(&path, json!({ "ignored_users": list })).await
}

#[tokio::test]
async fn nobody_ignores_themselves() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let list = json!({ (alice.user_id.as_str()): {} });
        ignore(&alice, list)
            .await
            .is_refused(400, "M_INVALID_PARAM");
        ignore(&alice, json!({})).await.ok();
    })
    .await;
}

#[tokio::test]
async fn who_is_ignored_is_in_no_page_and_no_context_but_their_state_is() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        say(&bob, &room_id, "before").await;
        let middle = say(&alice, &room_id, "middle").await;
        let unheard = say(&bob, &room_id, "after").await;
        let renamed = json!({ "membership": "join", "displayname": "Robert" });
        set_state(&bob, &room_id, "m.room.member", &bob.user_id, renamed)
            .await
            .ok();
        // What isn't an id does no harm to what is.
        let list = json!({ (bob.user_id.as_str()): {}, "no id": {} });
        ignore(&alice, list).await.ok();
        for direction in ["b", "f"] {
            let path = room_path(&room_id, &format!("messages?limit=100&dir={direction}"));
            let page = alice.get(&path).await.ok();
            assert_eq!(bodies(&page["chunk"]), ["middle"]);
            assert!(page.to_string().contains("Robert"));
        }
        let path = room_path(&room_id, &format!("context/{}?limit=20", quoted(&middle)));
        let context = alice.get(&path).await.ok();
        assert!(bodies(&context["events_before"]).is_empty(), "{context}");
        assert!(bodies(&context["events_after"]).is_empty(), "{context}");
        // Who asks for it is told.
        get_event(&alice, &room_id, &unheard).await.ok();
        ignore(&alice, json!({})).await.ok();
        let path = room_path(&room_id, "messages?limit=100&dir=f");
        let page = alice.get(&path).await.ok();
        assert_eq!(bodies(&page["chunk"]), ["before", "middle", "after"]);
    })
    .await;
}

#[tokio::test]
async fn who_is_ignored_counts_in_no_aggregation() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let carol = server.register("carol").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        join(&carol, &room_id).await.ok();
        let root = say(&alice, &room_id, "root pear").await;
        say_related(&carol, &room_id, "by carol", "m.thread", &root).await;
        say_related(&bob, &room_id, "by bob, pear", "m.thread", &root).await;
        let reference = json!({ "m.relates_to": { "rel_type": "m.reference", "event_id": root } });
        send(&bob, &room_id, "com.example", reference).await.ok();
        let other_root = say(&bob, &room_id, "bob's own").await;
        say_related(&alice, &room_id, "answer", "m.thread", &other_root).await;
        ignore(&alice, json!({ (bob.user_id.as_str()): {} }))
            .await
            .ok();

        let event = get_event(&alice, &room_id, &root).await.ok();
        let bundle = &event["unsigned"]["m.relations"];
        assert!(bundle.get("m.reference").is_none(), "{bundle}");
        assert_eq!(bundle["m.thread"]["count"], 1);
        assert_eq!(
            bundle["m.thread"]["latest_event"]["content"]["body"],
            "by carol"
        );
        let path = room_path_v1(&room_id, &format!("relations/{}", quoted(&root)));
        let related = alice.get(&path).await.ok();
        assert_eq!(bodies(&related["chunk"]), ["by carol"]);
        let threads = alice.get(&room_path_v1(&room_id, "threads")).await.ok();
        // A thread that they began is told of, and what they said in it isn't.
        let roots = threads["chunk"].as_array().unwrap();
        let ids: Vec<String> = roots.iter().map(event_id).collect();
        assert_eq!(ids, [other_root, root.clone()]);
        assert_eq!(roots[0]["content"], json!({}));
        let thread = &roots[0]["unsigned"]["m.relations"]["m.thread"];
        assert_eq!(thread["latest_event"]["content"]["body"], "answer");
        assert_eq!(bodies(&threads["chunk"]), ["root pear"]);
        let search = json!({ "search_categories": { "room_events": {
            "search_term": "pear",
            "event_context": { "before_limit": 5, "after_limit": 5 },
        } } });
        let found = alice.post(&format!("{BASE}/search"), search).await.ok();
        let results = &found["search_categories"]["room_events"]["results"];
        assert_eq!(results.as_array().unwrap().len(), 1, "{results}");
        assert!(!results.to_string().contains("bob's own"), "{results}");
        // For everyone else all of it is there.
        let event = get_event(&carol, &room_id, &root).await.ok();
        assert_eq!(event["unsigned"]["m.relations"]["m.thread"]["count"], 2);
    })
    .await;
}

#[tokio::test]
async fn invitations_of_who_is_ignored_are_not_told() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let before = create(&bob, json!({})).await;
        act(&bob, &before, "invite", &alice).await.ok();
        let since = alice.get(&format!("{BASE}/sync")).await.ok();
        assert!(since["rooms"]["invite"].get(&before).is_some(), "{since}");
        ignore(&alice, json!({ (bob.user_id.as_str()): {} }))
            .await
            .ok();
        let after = create(&bob, json!({})).await;
        act(&bob, &after, "invite", &alice).await.ok();
        let since = since["next_batch"].as_str().unwrap().to_owned();
        for path in [format!("sync?since={since}"), "sync".to_owned()] {
            let told = alice.get(&format!("{BASE}/{path}")).await.ok();
            assert!(told["rooms"].get("invite").is_none(), "{told}");
        }
        let told = alice.get(&format!("{BASE}/notifications")).await.ok();
        assert_eq!(told["notifications"], json!([]));
        // It is there all the same, and can be accepted.
        join(&alice, &after).await.ok();
    })
    .await;
}

#[tokio::test]
async fn who_is_no_longer_ignored_is_heard_from_then_on() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        ignore(&alice, json!({ (bob.user_id.as_str()): {} }))
            .await
            .ok();
        let since = alice.get(&format!("{BASE}/sync")).await.ok();
        say(&bob, &room_id, "unheard").await;
        let path = format!(
            "{BASE}/sync?since={}",
            since["next_batch"].as_str().unwrap()
        );
        let told = alice.get(&path).await.ok();
        let room = &told["rooms"]["join"][&room_id];
        assert!(!room["timeline"].to_string().contains("unheard"), "{told}");
        ignore(&alice, json!({})).await.ok();
        let heard = say(&bob, &room_id, "heard").await;
        let path = format!("{BASE}/sync?since={}", told["next_batch"].as_str().unwrap());
        let told = alice.get(&path).await.ok();
        let events = &told["rooms"]["join"][&room_id]["timeline"]["events"];
        assert_eq!(bodies(events), ["heard"]);
        assert_eq!(event_id(&events[0]), heard);
        let anew = alice.get(&format!("{BASE}/sync")).await.ok();
        assert!(anew.to_string().contains("unheard"));
    })
    .await;
}
