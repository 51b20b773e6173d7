//! Rooms with a policy server that are joined by a server which asks nobody.

use super::*;
use crate::federation::policy::Judge;

/// Has the room of a peer have a policy server, which the peer doesn't ask.
fn police(
    holder: &Holder,
    founder: &Resident<'_>,
    judge: &Judge,
    judging: &Peer,
    server: &TestServer,
) {
    let of_judge = Resident::of_made_up(judging, server, "11");
    let mut held = holder.held();
    let [create, founded, levels, rules] = [0, 1, 2, 3].map(|at| held.events[at].0.clone());
    let joined = of_judge.signed(json!({
        "room_id": founder.room_id, "sender": of_judge.user_id, "state_key": of_judge.user_id,
        "type": "m.room.member", "content": { "membership": "join" }, "depth": 900,
        "origin_server_ts": 1_700_000_000_000_u64,
        "prev_events": [held.last], "auth_events": [create, levels, rules],
    }));
    let named = founder.signed(json!({
        "room_id": founder.room_id, "sender": founder.user_id, "state_key": "",
        "type": "m.room.policy", "content": judge.policy(), "depth": 901,
        "origin_server_ts": 1_700_000_000_000_u64,
        "prev_events": [joined.0], "auth_events": [create, levels, founded],
    }));
    held.last.clone_from(&named.0);
    held.events.extend([joined, named]);
    held.others.push(judging.name().to_string());
}

async fn ask_to_join(client: &Client, room_id: &str, peer: &Peer, reason: &str) -> Answer {
    let via = quoted(peer.name().as_str());
    let path = format!("{BASE}/join/{}?server_name={via}", quoted(room_id));
    client.post(&path, json!({ "reason": reason })).await
}

fn is_signed_by(event: &Value, judging: &Peer) -> bool {
    event["signatures"][judging.name().as_str()]["ed25519:policy_server"].is_string()
}

#[tokio::test]
async fn who_comes_in_by_a_server_that_asks_nobody_is_shown_to_the_policy_server() {
    for tells_all in [true, false] {
        federated(1, async |servers| {
            let judge = Judge::default();
            let judging = judge.start().await;
            let (peer, holder) = holding().await;
            holder.tells_all.store(tells_all, Ordering::SeqCst);
            let founder = fill(&peer, &servers[0], &holder);
            police(&holder, &founder, &judge, &judging, &servers[0]);
            let room_id = &founder.room_id;
            let alice = servers[0].register("alice").await;
            let refused = ask_to_join(&alice, room_id, &peer, "spam").await;
            assert_eq!(refused.body["error"], "no spam here");
            refused.is_refused(403, "M_FORBIDDEN");
            let rooms = alice.get(&format!("{BASE}/joined_rooms")).await.ok();
            assert_eq!(rooms["joined_rooms"], json!([]));
            ask_to_join(&alice, room_id, &peer, "").await.ok();
            assert_eq!(judge.asked(), 2);
            let join_id = own_join(&alice, room_id).await;
            let path = format!("/_matrix/federation/v1/event/{}", quoted(&join_id));
            let told = peer.get(&servers[0], &path).await.ok();
            assert!(is_signed_by(&told["pdus"][0], &judging), "{told}");
        })
        .await;
    }
}

#[tokio::test]
async fn the_policy_server_is_asked_though_its_user_is_not_known_to_be_there() {
    federated(1, async |servers| {
        let judge = Judge::default();
        let judging = judge.start().await;
        let (peer, holder) = holding().await;
        let founder = fill(&peer, &servers[0], &holder);
        police(&holder, &founder, &judge, &judging, &servers[0]);
        let room_id = &founder.room_id;
        let alice = servers[0].register("alice").await;
        let bob = servers[0].register("bob").await;
        join(&alice, room_id, &peer).await;
        holder.is_asked().await;
        let spam = try_say(&alice, room_id, "spam", "spam").await;
        spam.is_refused(403, "M_FORBIDDEN");
        say(&alice, room_id, "hello").await;
        let is_hello = |event: &Value| event["content"]["body"] == "hello";
        holder
            .hears(|event| is_hello(event) && is_signed_by(event, &judging))
            .await;
        // What comes in now is built on what this server knows the state of, so that nobody has to be asked for that.
        let last = own_join(&alice, room_id).await;
        holder.held().last = last;
        // Who needs another server to come in, as they may be banned, is signed before that is asked.
        let refused = ask_to_join(&bob, room_id, &peer, "spam").await;
        refused.is_refused(403, "M_FORBIDDEN");
        ask_to_join(&bob, room_id, &peer, "").await.ok();
        let is_bobs = |event: &&Value| event["state_key"] == bob.user_id.as_str();
        let held = holder.held();
        let joins: Vec<&Value> = held.heard.iter().filter(is_bobs).collect();
        assert!(!joins.is_empty());
        for join in joins {
            assert!(is_signed_by(join, &judging), "{join}");
        }
    })
    .await;
}
