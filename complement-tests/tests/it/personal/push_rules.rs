//! Push rules.

use parley_conformance::on_each_engine;
use serde_json::{Value, json};

use super::{content, nothing, sync, sync_until, token};
use crate::rooms::{BASE, quoted};

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
        assert_eq!(ids(&rules, "override")[0], ".m.rule.master");
        assert!(ids(&rules, "underride").contains(&".m.rule.message".to_owned()));
        assert_eq!(ids(&rules, "room"), [""; 0]);
        assert_eq!(ids(&rules, "sender"), [""; 0]);
        assert_eq!(rules["global"]["content"][0]["pattern"], "alice");
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
        let expected = ["d", "b", "c", "a", ".m.rule.contains_user_name"];
        assert_eq!(ids(&rules, "content"), expected);
        let nowhere = format!("{}?before=nothing", rule("content", "e"));
        alice
            .put(&nowhere, body)
            .await
            .is_refused(404, "M_NOT_FOUND");
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
