//! Reporting what shouldn't be.

use parley_conformance::{Answer, Client, TestServer, on_each_engine};
use serde_json::{Value, json};

use super::{BASE, create, create_public, join, quoted, room_path, say};

async fn report(client: &Client, room_id: &str, event_id: &str, body: Value) -> Answer {
    let path = room_path(room_id, &format!("report/{}", quoted(event_id)));
    client.post(&path, body).await
}

async fn administrator(server: &TestServer) -> Client {
    let admin = server.register("admin").await;
    server
        .engine()
        .accounts()
        .set_admin(ruma::user_id!("@admin:parley.test"), true)
        .await
        .unwrap();
    admin.log_in_again().await
}

#[tokio::test]
async fn an_administrator_reads_who_reported_which_event_and_why() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create_public(&alice).await;
        join(&bob, &room_id).await.ok();
        let one = say(&alice, &room_id, "one").await;
        let two = say(&alice, &room_id, "two").await;
        report(&bob, &room_id, &one, json!({ "reason": "rude" }))
            .await
            .ok();
        report(&bob, &room_id, &two, json!({ "score": -100 }))
            .await
            .ok();
        let path = "/_synapse/admin/v1/event_reports";
        bob.get(path).await.is_refused(403, "M_FORBIDDEN");
        server
            .client()
            .get(path)
            .await
            .is_refused(401, "M_MISSING_TOKEN");

        let admin = administrator(server).await;
        let told = admin.get(&format!("{path}?limit=1")).await.ok();
        assert_eq!([&told["total"], &told["next_token"]], [2, 1]);
        assert_eq!(told["event_reports"][0]["event_id"], two.as_str());
        let told = admin.get(&format!("{path}?from=1")).await.ok();
        let first = &told["event_reports"][0];
        assert_eq!(first["event_id"], one.as_str());
        assert_eq!(
            [&first["user_id"], &first["sender"]],
            [bob.user_id.as_str(), alice.user_id.as_str()]
        );
        assert_eq!(
            [&first["reason"], &first["room_id"]],
            ["rude", room_id.as_str()]
        );
        assert!(told.get("next_token").is_none());
        let told = admin
            .get(&format!("{path}?user_id={}", quoted(&alice.user_id)))
            .await
            .ok();
        assert_eq!(told["total"], 0);
    })
    .await;
}

#[tokio::test]
async fn only_what_one_sees_is_reported() {
    on_each_engine(async |server| {
        let alice = server.register("alice").await;
        let bob = server.register("bob").await;
        let room_id = create(&alice, json!({})).await;
        let event_id = say(&alice, &room_id, "one").await;
        let body = json!({ "reason": "rude" });
        report(&bob, &room_id, &event_id, body.clone())
            .await
            .is_refused(404, "M_NOT_FOUND");
        report(&alice, &room_id, "$nothing", body.clone())
            .await
            .is_refused(404, "M_NOT_FOUND");
        let long = json!({ "reason": "x".repeat(5_000) });
        report(&alice, &room_id, &event_id, long)
            .await
            .is_refused(413, "M_TOO_LARGE");

        let room = room_path(&room_id, "report");
        bob.post(&room, body.clone()).await.ok();
        let nowhere = room_path("!nowhere:parley.test", "report");
        bob.post(&nowhere, body.clone())
            .await
            .is_refused(404, "M_NOT_FOUND");
        for user in [alice.user_id.as_str(), "@nobody:parley.test"] {
            let path = format!("{BASE}/users/{}/report", quoted(user));
            bob.post(&path, body.clone()).await.ok();
        }
        server
            .client()
            .post(&room, body)
            .await
            .is_refused(401, "M_MISSING_TOKEN");
    })
    .await;
}
