//! Push rules.

use parley_conformance::on_each_engine;
use serde_json::{Value, json};

use super::{content, joined, nothing, room_of_two, sync, sync_until, token};
use crate::rooms::{BASE, quoted, say, set_state, try_say};

const ALL: &str = "/_matrix/client/v3/pushrules/";

fn rule(kind: &str, id: &str) -> String {
    format!("{BASE}/pushrules/global/{kind}/{}", quoted(id))
}

fn ids(rules: &Value, kind: &str) -> Vec<String> {
    rules["global"][kind]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["rule_id"].as_str().unwrap().to_owned())
        .collect()
}

fn in_sync(answer: &Value) -> Option<Value> {
    content(&answer["account_data"]["events"], "m.push_rules")
}

#[tokio::test]
async fn everyone_has_the_rules_of_the_server_from_the_beginning() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let rules = alice.get(ALL).await.ok();
        let expected = [
            "master",
            "suppress_notices",
            "invite_for_me",
            "member_event",
            "is_user_mention",
            // Until v1.16, and still looked for by tests of the protocol.
            "contains_display_name",
            "is_room_mention",
            "roomnotif",
            "tombstone",
            "reaction",
            "room.server_acl",
            "suppress_edits",
        ];
        assert_eq!(
            ids(&rules, "override"),
            expected.map(|id| format!(".m.rule.{id}"))
        );
        let expected = [
            "call",
            "encrypted_room_one_to_one",
            "room_one_to_one",
            "message",
            "encrypted",
        ];
        assert_eq!(
            ids(&rules, "underride"),
            expected.map(|id| format!(".m.rule.{id}"))
        );
        assert_eq!(ids(&rules, "content"), [".m.rule.contains_user_name"]);
        assert_eq!(ids(&rules, "room"), [""; 0]);
        assert_eq!(ids(&rules, "sender"), [""; 0]);
        assert_eq!(in_sync(&sync(&alice, None, "").await), Some(rules.clone()));
        let global = alice.get(&format!("{BASE}/pushrules/global/")).await.ok();
        assert_eq!(global, rules["global"]);
        assert_eq!(
            in_sync(&sync(&alice, Some(&token(&alice).await), "").await),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn every_change_wakes_a_sync() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = rule("room", "!foo:example.com");
        let changes = [
            (path.clone(), json!({ "actions": ["notify"] })),
            (format!("{path}/enabled"), json!({ "enabled": false })),
            (format!("{path}/enabled"), json!({ "enabled": true })),
            (
                format!("{path}/actions"),
                json!({ "actions": ["dont_notify"] }),
            ),
        ];
        let mut since = token(&alice).await;
        for (path, body) in changes {
            let (found, put) =
                tokio::join!(sync_until(&alice, &since, in_sync), alice.put(&path, body));
            assert_eq!(put.ok(), json!({}));
            assert_eq!(ids(&found.0, "room"), ["!foo:example.com"]);
            since = found.1;
        }
        let rule = alice.get(&path).await.ok();
        let expected = json!({
            "actions": ["dont_notify"],
            "default": false,
            "enabled": true,
            "rule_id": "!foo:example.com",
        });
        assert_eq!(rule, expected);
        let enabled = alice.get(&format!("{path}/enabled")).await.ok();
        assert_eq!(enabled, json!({ "enabled": true }));
        let actions = alice.get(&format!("{path}/actions")).await.ok();
        assert_eq!(actions, json!({ "actions": ["dont_notify"] }));
    })
    .await;
}

#[tokio::test]
async fn rules_stand_where_they_were_put() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let body = json!({ "actions": [], "pattern": "cake" });
        for id in ["a", "b"] {
            alice.put(&rule("content", id), body.clone()).await.ok();
        }
        let after = format!("{}?after=b", rule("content", "c"));
        alice.put(&after, body.clone()).await.ok();
        let before = format!("{}?before=b", rule("content", "d"));
        alice.put(&before, body.clone()).await.ok();
        let rules = alice.get(ALL).await.ok();
        let last = ".m.rule.contains_user_name";
        assert_eq!(ids(&rules, "content"), ["d", "b", "c", "a", last]);
        for (id, place, expected) in [
            ("d", "after=a", ["b", "c", "a", "d"]),
            ("a", "before=c", ["b", "a", "c", "d"]),
            ("b", "after=a", ["a", "b", "c", "d"]),
            ("d", "before=b&after=c", ["a", "d", "b", "c"]),
            ("c", "", ["a", "d", "b", "c"]),
        ] {
            let path = format!("{}?{place}", rule("content", id));
            alice.put(&path, body.clone()).await.ok();
            let rules = alice.get(ALL).await.ok();
            let found = ids(&rules, "content");
            assert_eq!(found[..4], expected, "{id} {place}");
            assert_eq!(found[4], last);
        }
        for place in ["before=nothing", "after=nothing", "before=e"] {
            let path = format!("{}?{place}", rule("content", "e"));
            let answer = alice.put(&path, body.clone()).await;
            answer.is_refused(400, "M_UNKNOWN");
        }
        let conditional = json!({ "actions": [], "conditions": [] });
        for place in ["before=.m.rule.message", "after=.m.rule.message"] {
            let path = format!("{}?{place}", rule("underride", "e"));
            let answer = alice.put(&path, conditional.clone()).await;
            answer.is_refused(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn a_rule_is_removed_unless_it_is_the_servers() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = rule("sender", "@bob:parley.test");
        alice.put(&path, json!({ "actions": [] })).await.ok();
        assert_eq!(alice.delete(&path, nothing()).await.ok(), json!({}));
        alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
        alice
            .delete(&path, nothing())
            .await
            .is_refused(404, "M_NOT_FOUND");
        let master = rule("override", ".m.rule.master");
        let answer = alice.delete(&master, nothing()).await;
        answer.is_refused(400, "M_INVALID_PARAM");
        let enabled = format!("{master}/enabled");
        alice.put(&enabled, json!({ "enabled": true })).await.ok();
        assert_eq!(alice.get(&master).await.ok()["enabled"], true);
        server.restart().await;
        assert_eq!(alice.get(&master).await.ok()["enabled"], true);
    })
    .await;
}

#[tokio::test]
async fn what_can_be_no_rule_is_refused() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let actions = json!({ "actions": [] });
        for (kind, id) in [
            ("override", ".mine"),
            ("override", "a/b"),
            ("room", "no room"),
            ("sender", "nobody"),
            ("nonsense", "a"),
        ] {
            let mut body = actions.clone();
            body["conditions"] = json!([]);
            let answer = alice.put(&rule(kind, id), body).await;
            assert_eq!(answer.status, 400, "{kind} {id}: {}", answer.body);
        }
        let answer = alice.put(&rule("content", "a"), actions.clone()).await;
        answer.is_refused(400, "M_BAD_JSON");
        for rest in ["enabled", "actions"] {
            let path = format!("{}/{rest}", rule("room", "!nowhere:x"));
            alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
            let body = json!({ "actions": [], "enabled": true });
            alice.put(&path, body).await.is_refused(404, "M_NOT_FOUND");
        }
        let large = json!({ "actions": [], "pattern": "x".repeat(1_100_000) });
        let answer = alice.put(&rule("content", "a"), large).await;
        answer.is_refused(413, "M_TOO_LARGE");
    })
    .await;
}

#[tokio::test]
async fn the_rules_of_users_come_before_the_servers_but_for_the_one_that_ends_all() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let body = json!({ "actions": [], "conditions": [] });
        for kind in ["override", "underride"] {
            alice.put(&rule(kind, "mine"), body.clone()).await.ok();
        }
        let rules = alice.get(ALL).await.ok();
        assert_eq!(ids(&rules, "override")[..2], [".m.rule.master", "mine"]);
        assert_eq!(ids(&rules, "underride")[..2], ["mine", ".m.rule.call"]);
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_was_switched_off_stays_so_when_it_is_changed() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let path = rule("content", "a");
        let body = |pattern| json!({ "actions": [], "pattern": pattern });
        alice.put(&path, body("cake")).await.ok();
        assert_eq!(alice.get(&path).await.ok()["enabled"], true);
        let enabled = format!("{path}/enabled");
        alice.put(&enabled, json!({ "enabled": false })).await.ok();
        alice.put(&rule("content", "b"), body("b")).await.ok();
        for place in ["", "?after=b"] {
            alice.put(&format!("{path}{place}"), body("pie")).await.ok();
            let rule = alice.get(&path).await.ok();
            assert_eq!(
                (&rule["enabled"], &rule["pattern"]),
                (&json!(false), &json!("pie"))
            );
        }
    })
    .await;
}

#[tokio::test]
async fn the_paths_of_all_rules_end_in_a_slash() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        for path in ["pushrules", "pushrules/global"] {
            let answer = alice.get(&format!("{BASE}/{path}")).await;
            answer.is_refused(404, "M_UNRECOGNIZED");
            alice.get(&format!("{BASE}/{path}/")).await.ok();
        }
        let answer = server.client().get(ALL).await;
        answer.is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}

#[tokio::test]
async fn the_first_rule_of_all_ends_all_notifications() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let master = format!("{}/enabled", rule("override", ".m.rule.master"));
        for (enabled, expected) in [(true, 0), (false, 2)] {
            bob.put(&master, json!({ "enabled": enabled })).await.ok();
            say(&alice, &room_id, &format!("{enabled}")).await;
            let told = sync(&bob, None, "").await;
            let counts = &joined(&told, &room_id)["unread_notifications"];
            let count = counts["notification_count"].as_u64().unwrap();
            assert!(count <= expected && (enabled || count > 0), "{counts}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_rule_without_conditions_may_leave_them_out() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let always = json!({ "actions": ["notify"] });
        for kind in ["override", "underride"] {
            alice.put(&rule(kind, "a"), always.clone()).await.ok();
            let told = alice.get(&rule(kind, "a")).await.ok();
            assert_eq!(told["conditions"], json!([]));
        }
        for conditions in [json!("x"), json!([{}]), json!([{ "kind": 1 }])] {
            let body = json!({ "actions": [], "conditions": conditions });
            let answer = alice.put(&rule("override", "a"), body).await;
            answer.is_refused(400, "M_BAD_JSON");
        }
        let answer = alice.put(&rule("override", "a"), json!({})).await;
        answer.is_refused(400, "M_BAD_JSON");
        // What this server doesn't know is kept for those who do.
        let unknown = json!({ "kind": "com.example.kind", "com.example": 1 });
        let body = json!({ "actions": ["com.example.act"], "conditions": [unknown] });
        alice.put(&rule("override", "b"), body.clone()).await.ok();
        let told = alice.get(&rule("override", "b")).await.ok();
        assert_eq!(told["conditions"], body["conditions"]);
        assert_eq!(told["actions"], body["actions"]);
    })
    .await;
}

#[tokio::test]
async fn what_a_rule_is_switched_to_has_its_type() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let master = rule("override", ".m.rule.master");
        for (part, body) in [
            ("enabled", json!({})),
            ("enabled", json!({ "enabled": "x" })),
            ("actions", json!({})),
            ("actions", json!({ "actions": "notify" })),
            ("actions", json!({ "actions": [1] })),
        ] {
            let answer = alice.put(&format!("{master}/{part}"), body).await;
            answer.is_refused(400, "M_BAD_JSON");
        }
        for (kind, id) in [
            ("override", "none"),
            ("override", ".m.rule.none"),
            ("other", "none"),
        ] {
            let answer = alice.get(&rule(kind, id)).await;
            answer.is_refused(404, "M_NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test]
async fn no_pattern_makes_the_server_fail() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let patterns = [
            format!("a{}", "?".repeat(500)),
            "*a".repeat(250),
            "a*b".to_owned(),
            "[(\\".to_owned(),
            "\u{1f600}*".repeat(80),
        ];
        for (number, pattern) in patterns.iter().enumerate() {
            let body = json!({ "actions": ["notify"], "pattern": pattern });
            let path = rule("content", &format!("{number}"));
            bob.put(&path, body).await.ok();
        }
        // A member whose name is a pattern of everything, as long as a name may be.
        let name = format!("a{}", "?".repeat(511));
        let member = json!({ "membership": "join", "displayname": name });
        set_state(&bob, &room_id, "m.room.member", &bob.user_id, member)
            .await
            .ok();
        let since = token(&bob).await;
        let long = "a ".repeat(20_000);
        try_say(&alice, &room_id, &long, "long").await.ok();
        let told = sync(&bob, Some(&since), "").await;
        let counts = &joined(&told, &room_id)["unread_notifications"];
        assert_eq!(counts["notification_count"], 1);
        let list = bob.get(&format!("{BASE}/notifications")).await.ok();
        assert_eq!(list["notifications"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_name_of_wildcards_is_looked_for_as_it_stands() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        let member = json!({ "membership": "join", "displayname": "B*b?" });
        set_state(&bob, &room_id, "m.room.member", &bob.user_id, member)
            .await
            .ok();
        let highlighted = async || {
            let told = sync(&bob, None, "").await;
            joined(&told, &room_id)["unread_notifications"]["highlight_count"].clone()
        };
        say(&alice, &room_id, "blurbs").await;
        assert_eq!(highlighted().await, 0);
        say(&alice, &room_id, "hello b*b?, are you there").await;
        assert_eq!(highlighted().await, 1);
    })
    .await;
}

#[tokio::test]
async fn rules_are_limited_in_number_and_in_what_they_look_for() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let long = "a".repeat(513);
        let body = json!({ "actions": [], "pattern": long });
        let refused = alice.put(&rule("content", "long"), body).await;
        refused.is_refused(413, "M_TOO_LARGE");
        let condition = json!({ "kind": "event_match", "key": "type", "pattern": long });
        for conditions in [json!([condition]), json!(vec![json!({ "kind": "x" }); 101])] {
            let body = json!({ "actions": [], "conditions": conditions });
            for kind in ["override", "underride"] {
                let refused = alice.put(&rule(kind, "long"), body.clone()).await;
                refused.is_refused(413, "M_TOO_LARGE");
            }
        }
        let body = json!({ "actions": [] });
        for number in 0..1_000 {
            let path = rule("room", &format!("!room{number}:parley.test"));
            alice.put(&path, body.clone()).await.ok();
        }
        let path = rule("room", "!another:parley.test");
        let refused = alice.put(&path, body.clone()).await;
        refused.is_refused(413, "M_TOO_LARGE");
        // One that is there can be changed, and makes place when it goes.
        let first = rule("room", "!room0:parley.test");
        alice.put(&first, body.clone()).await.ok();
        alice.delete(&first, nothing()).await.ok();
        alice.put(&path, body).await.ok();
    })
    .await;
}

#[tokio::test]
async fn two_devices_that_add_rules_at_once_lose_none() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let phone = alice.log_in_again().await;
        let add = async |client: &parley_conformance::Client, name: &str| {
            let paths = (0..10).map(|number| rule("content", &format!("{name}{number}")));
            let body = json!({ "actions": [], "pattern": "cake" });
            let paths: Vec<String> = paths.collect();
            let added = paths.iter().map(|path| client.put(path, body.clone()));
            for answer in futures::future::join_all(added).await {
                answer.ok();
            }
        };
        tokio::join!(add(&alice, "a"), add(&phone, "b"));
        let rules = alice.get(ALL).await.ok();
        assert_eq!(ids(&rules, "content").len(), 21, "{rules}");
    })
    .await;
}

#[tokio::test]
async fn the_actions_of_older_versions_do_nothing() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = room_of_two(&alice, &bob).await;
        for (text, actions, expected) in [
            ("one", json!(["notify"]), 1),
            ("two", json!(["dont_notify"]), 1),
            ("three", json!(["coalesce"]), 1),
            ("four", json!([]), 1),
        ] {
            let body = json!({ "actions": actions });
            let path = rule("room", &room_id);
            bob.put(&path, body).await.ok();
            say(&alice, &room_id, text).await;
            let told = bob.get(&format!("{BASE}/notifications")).await.ok();
            let list = told["notifications"].as_array().unwrap();
            let is_told = list
                .iter()
                .any(|one| one["event"]["content"]["body"] == text);
            assert_eq!(is_told, text == "one", "{actions}: {told}");
            // What was counted stays counted.
            let told = sync(&bob, None, "").await;
            let counts = &joined(&told, &room_id)["unread_notifications"];
            assert_eq!(counts["notification_count"], expected, "{actions}");
        }
    })
    .await;
}
