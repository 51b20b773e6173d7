//! What happens in a room while its members aren't known, and what of it is told once they are.

use super::*;
use crate::{
    federation::rooms::{hear, sync_from},
    rooms::room_path,
};

/// An event of a user of the peer, whichever, that is allowed by some events and built on one.
fn event_on(
    founder: &Resident<'_>,
    prev: &str,
    depth: u64,
    allows: &[&str],
    fields: &Value,
) -> (String, Value) {
    let mut event = json!({
        "room_id": founder.room_id,
        "depth": depth,
        "origin_server_ts": 1_700_000_000_000_u64,
        "prev_events": [prev],
        "auth_events": allows,
    });
    let fields = fields.as_object().unwrap().clone();
    event.as_object_mut().unwrap().extend(fields);
    founder.signed(event)
}

/// Has the first member leave before anybody of the server comes; gives their join, by which they may seem to be a member still.
fn first_member_leaves(founder: &Resident<'_>, holder: &Holder, peer: &Peer) -> String {
    let gone = member(peer, 0);
    let mut held = holder.held();
    let joined = held.events[4].clone();
    let allows = [&held.events[0].0, &held.events[2].0, &joined.0];
    let left = event_on(
        founder,
        &held.last,
        900,
        &allows.map(String::as_str),
        &json!({
            "type": "m.room.member", "sender": gone, "state_key": gone,
            "content": { "membership": "leave" },
        }),
    );
    held.last.clone_from(&left.0);
    held.events[4] = left;
    // Only until all is told: it is no part of the state.
    held.events.push(joined.clone());
    joined.0
}

/// Ends that the first member seems to be one, and tells who is.
fn tell_all(holder: &Holder, joined: &str) {
    holder.held().events.retain(|(id, _)| id != joined);
    holder.open.send_replace(true);
}

async fn sync_since(client: &Client, since: &Value, query: &str) -> Value {
    let since = since["next_batch"].as_str().unwrap();
    sync(client, &format!("{query}&since={since}")).await
}

/// The types of some events, in alphabetical order.
fn types_of(events: &Value) -> Vec<&str> {
    let events = events.as_array().into_iter().flatten();
    let mut types: Vec<&str> = events.filter_map(|event| event["type"].as_str()).collect();
    types.sort_unstable();
    types
}

#[tokio::test]
async fn what_is_told_of_a_room_before_the_join_is_answered_is_taken() {
    /// How long the answer takes, in which what is told comes first.
    const SLOW: Duration = Duration::from_millis(300);
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let alice = servers[0].register("alice").await;
        holder.lets_in.send_replace(false);
        let welcome = async {
            holder.hears(|event| event["type"] == "m.room.member").await;
            let joined = holder.held().heard.last().cloned().unwrap();
            founder.last = founder.id_of(&joined);
            let answer = async {
                tokio::time::sleep(SLOW).await;
                holder.lets_in.send_replace(true);
            };
            tokio::join!(founder.say("welcome"), answer).0
        };
        let ((), said) = tokio::join!(join(&alice, &room_id, &peer), welcome);
        hear_lazily(&alice, &room_id, &said).await;
    })
    .await;
}

#[tokio::test]
async fn who_leaves_before_the_members_are_known_is_told_of_the_room_they_have_left() {
    federated(1, async |servers| {
        let (_peer, _holder, room_id, alice) = enter(&servers[0]).await;
        let before = sync(&alice, "").await;
        assert!(before["rooms"]["join"][&room_id].is_null(), "{before}");
        let said = say(&alice, &room_id, "is anybody here?").await;
        let between = sync_since(&alice, &before, "").await;
        act_self(&alice, &room_id, "leave").await.ok();
        let told = sync_since(&alice, &between, "").await;
        let room = &told["rooms"]["leave"][&room_id];
        // The client knew nothing of the room: all that there is to know is told.
        let timeline = room["timeline"]["events"].as_array().unwrap();
        let is_said = |event: &Value| event["event_id"] == said.as_str();
        assert!(timeline.iter().any(is_said), "{room}");
        let state = types_of(&room["state"]["events"]);
        assert!(state.contains(&"m.room.create"), "{room}");
    })
    .await;
}

#[tokio::test]
async fn who_is_put_out_by_a_fork_before_the_members_are_known_is_told_so() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let (eagerly, lazily) = (sync(&alice, "").await, sync(&alice, LAZY).await);
        let join_id = own_join(&alice, &room_id).await;
        say(&alice, &room_id, "on the other side of the fork").await;
        let mut allows = founder.auth_events.clone();
        allows.push(join_id.clone());
        let allows: Vec<&str> = allows.iter().map(String::as_str).collect();
        let fields = json!({
            "type": "m.room.member", "sender": founder.user_id, "state_key": alice.user_id,
            "content": { "membership": "ban" },
        });
        let (_, ban) = event_on(&founder, &join_id, 1_001, &allows, &fields);
        founder.send(vec![ban]).await.ok();
        let is_left = |told: &Value| told["rooms"]["leave"][&room_id].is_object();
        let told = sync_from(&alice, &eagerly, is_left).await;
        let room = &told["rooms"]["leave"][&room_id];
        let state = types_of(&room["state"]["events"]);
        assert!(state.contains(&"m.room.create"), "{room}");
        let told = sync_since(&alice, &lazily, LAZY).await;
        assert!(is_left(&told), "{told}");
    })
    .await;
}

/// Has a server be sure that others would have heard of its join by now.
async fn has_tried_long(server: &TestServer) {
    let database = server.database();
    for mut row in database.due_partial_rooms(i64::MAX - 1, 1).await.unwrap() {
        row.attempts = 8;
        database.set_partial_retry(&row, 0).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_said_not_to_be_in_the_room_takes_its_users_out() {
    federated(1, async |servers| {
        let (peer, holder, room_id, alice) = enter(&servers[0]).await;
        let (eagerly, lazily) = (sync(&alice, "").await, sync(&alice, LAZY).await);
        holder.denies.store(true, Ordering::SeqCst);
        holder.open.send_replace(true);
        // Who hasn't heard of the join says so too: that isn't believed for a while.
        let mut asked = holder.asked.subscribe();
        let asked = asked.wait_for(|asked| *asked > 2);
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        asked.expect("it is asked again in time").unwrap();
        let told = sync_since(&alice, &eagerly, "").await;
        assert!(told["rooms"]["leave"][&room_id].is_null(), "{told}");
        let is_left = async {
            while sync_since(&alice, &eagerly, "").await["rooms"]["leave"][&room_id].is_null() {
                has_tried_long(&servers[0]).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let is_left = tokio::time::timeout(PATIENCE, is_left).await;
        is_left.expect("it is told in time");
        let told = sync_since(&alice, &lazily, LAZY).await;
        assert!(told["rooms"]["leave"][&room_id].is_object(), "{told}");
        // Others may come, and who has left doesn't read what is said then.
        holder.denies.store(false, Ordering::SeqCst);
        let carol = servers[0].register("carol").await;
        join(&carol, &room_id, &peer).await;
        say(&carol, &room_id, "among us").await;
        let page = alice.get(&room_path(&room_id, "messages?dir=b")).await.ok();
        assert!(!page.to_string().contains("among us"), "{page}");
        join(&alice, &room_id, &peer).await;
        say(&alice, &room_id, "back again").await;
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 3);
    })
    .await;
}

#[tokio::test]
async fn who_turns_out_not_to_have_been_let_in_is_told_that_they_have_left() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let joined = first_member_leaves(&founder, &holder, &peer);
        let alice = servers[0].register("alice").await;
        let bob = servers[0].register("bob").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let join_id = own_join(&alice, &room_id).await;
        let by_founder: Vec<&str> = founder.auth_events.iter().map(String::as_str).collect();
        let rules = json!({
            "type": "m.room.join_rules", "sender": founder.user_id, "state_key": "",
            "content": { "join_rule": "invite" },
        });
        let rules = event_on(&founder, &join_id, 1_001, &by_founder, &rules);
        let by_gone = [by_founder[0], by_founder[2], &rules.0, &joined];
        let invite = json!({
            "type": "m.room.member", "sender": member(&peer, 0), "state_key": bob.user_id,
            "content": { "membership": "invite" },
        });
        let invite = event_on(&founder, &rules.0, 1_002, &by_gone, &invite);
        founder.send(vec![rules.1, invite.1]).await.ok();
        let is_invited = |told: &Value| told["rooms"]["invite"][&room_id].is_object();
        sync_until(&bob, is_invited).await;
        act_self(&bob, &room_id, "join").await.ok();
        let (eagerly, lazily) = (sync(&bob, "").await, sync(&bob, LAZY).await);
        assert!(lazily["rooms"]["join"][&room_id].is_object(), "{lazily}");
        tell_all(&holder, &joined);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 1);
        for (before, query) in [(eagerly, ""), (lazily, LAZY)] {
            let told = sync_since(&bob, &before, query).await;
            assert!(told["rooms"]["leave"][&room_id].is_object(), "{told}");
        }
        servers[0].restart().await;
        let rooms = bob.get(&format!("{BASE}/joined_rooms")).await.ok();
        assert_eq!(rooms["joined_rooms"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn what_belongs_to_a_room_and_changed_before_the_members_were_known_comes_with_it() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let (room, user) = (quoted(&room_id), quoted(&alice.user_id));
        let own = format!("{BASE}/user/{user}/rooms/{room}");
        for (path, content) in [
            ("account_data/im.test", json!({ "kept": true })),
            ("tags/u.work", json!({ "order": 0.5 })),
        ] {
            alice.put(&format!("{own}/{path}"), content).await.ok();
        }
        let said = say(&alice, &room_id, "is anybody here?").await;
        let read = json!({ "m.fully_read": said });
        let markers = room_path(&room_id, "read_markers");
        alice.post(&markers, read).await.ok();
        let (answer, event) = founder.message("I am", |event| {
            event["prev_events"] = json!([said]);
            event["depth"] = json!(2_000);
            event["auth_events"] = json!(founder.auth_events);
        });
        let user_id = &founder.user_id;
        let typing = json!({ "room_id": room_id, "user_id": user_id, "typing": true });
        let has_read = json!({ user_id: { "data": { "ts": 5 }, "event_ids": [said] } });
        let receipt = json!({ &room_id: { "m.read": has_read } });
        let transaction = json!({
            "origin": peer.name(), "origin_server_ts": 1, "pdus": [event],
            "edus": [
                { "edu_type": "m.typing", "content": typing },
                { "edu_type": "m.receipt", "content": receipt },
            ],
        });
        let path = "/_matrix/federation/v1/send/1";
        peer.put(&servers[0], path, transaction).await.ok();
        hear_lazily(&alice, &room_id, &answer).await;
        // A client that was told up to here learns of it with the room.
        let before = sync(&alice, "").await;
        assert!(before["rooms"]["join"][&room_id].is_null(), "{before}");
        holder.open.send_replace(true);
        let is_told = |told: &Value| told["rooms"]["join"][&room_id].is_object();
        let told = sync_from(&alice, &before, is_told).await;
        let room = &told["rooms"]["join"][&room_id];
        let data = types_of(&room["account_data"]["events"]);
        assert_eq!(data, ["im.test", "m.fully_read", "m.tag"], "{room}");
        let ephemeral = types_of(&room["ephemeral"]["events"]);
        assert_eq!(ephemeral, ["m.receipt", "m.typing"], "{room}");
        let unread = &room["unread_notifications"];
        assert_eq!(unread["notification_count"], 1, "{room}");
        // Once.
        let told = sync_since(&alice, &told, "").await;
        let data = &told["rooms"]["join"][&room_id]["account_data"]["events"];
        assert!(types_of(data).is_empty(), "{told}");
    })
    .await;
}

#[tokio::test]
async fn the_room_goes_on_where_all_that_followed_each_other_last_is_refused_after_all() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let joined = first_member_leaves(&founder, &holder, &peer);
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let join_id = own_join(&alice, &room_id).await;
        let allows = [&*founder.auth_events[0], &founder.auth_events[2], &joined];
        let mut last = join_id.clone();
        let mut events = Vec::new();
        for depth in 1_001..1_004 {
            let fields = json!({
                "type": "m.room.message", "sender": member(&peer, 0),
                "content": { "msgtype": "m.text", "body": depth.to_string() },
            });
            let (id, event) = event_on(&founder, &last, depth, &allows, &fields);
            events.push(event);
            last = id;
        }
        founder.send(events).await.ok();
        hear_lazily(&alice, &room_id, &last).await;
        tell_all(&holder, &joined);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 1);
        say(&alice, &room_id, "who was that?").await;
        holder
            .hears(|event| {
                let is_said = event["content"]["body"] == "who was that?";
                is_said && event["prev_events"] == json!([join_id])
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_crash_amid_judging_anew_leaves_nothing_as_it_was_judged_before() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let joined = first_member_leaves(&founder, &holder, &peer);
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let join_id = own_join(&alice, &room_id).await;
        let second_joined = holder.held().events[5].0.clone();
        let founded = [
            founder.auth_events[0].clone(),
            founder.auth_events[2].clone(),
        ];
        let by_first = [&*founded[0], &founded[1], &joined];
        let by_second = [&*founded[0], &founded[1], &second_joined];
        let of = |sender: usize, fields: Value| {
            let mut event = json!({ "sender": member(&peer, sender) });
            let fields = fields.as_object().unwrap().clone();
            event.as_object_mut().unwrap().extend(fields);
            event
        };
        // What the first sets, who has left, is in the state that what the second does is built on.
        let note = json!({ "type": "test.note", "state_key": "", "content": { "text": "wrong" } });
        let note = event_on(&founder, &join_id, 1_001, &by_first, &of(0, note));
        let other = json!({
            "type": "test.note", "state_key": "other", "content": { "text": "right" },
        });
        let other = event_on(&founder, &note.0, 1_002, &by_second, &of(1, other));
        let text = json!({
            "type": "m.room.message", "content": { "msgtype": "m.text", "body": "hello" },
        });
        let text = event_on(&founder, &other.0, 1_003, &by_second, &of(1, text));
        let (note_id, text_id) = (note.0.clone(), text.0.clone());
        founder.send(jsons(vec![note, other, text])).await.ok();
        hear_lazily(&alice, &room_id, &text_id).await;
        servers[0].fail_to("UPDATE OF snapshot", "events").await;
        tell_all(&holder, &joined);
        let note_path = room_path(&room_id, &format!("event/{}", quoted(&note_id)));
        let refused = async {
            while alice.get(&note_path).await.status != 404 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let refused = tokio::time::timeout(PATIENCE, refused).await;
        refused.expect("it is refused in time");
        servers[0].restart().await;
        servers[0].mend("events").await;
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 1);
        let note = alice.get(&room_path(&room_id, "state/test.note")).await;
        note.is_refused(404, "M_NOT_FOUND");
        let other = alice
            .get(&room_path(&room_id, "state/test.note/other"))
            .await;
        assert_eq!(other.ok()["text"], "right");
        // Others are told the same of the state before what was said.
        let (room, event) = (quoted(&room_id), quoted(&text_id));
        let path = format!("/_matrix/federation/v1/state_ids/{room}?event_id={event}");
        let state = peer.get(&servers[0], &path).await.ok();
        let ids = state["pdu_ids"].as_array().unwrap();
        assert!(!ids.contains(&json!(note_id)), "{state}");
        hear(&alice, &room_id, &text_id).await;
        say(&alice, &room_id, "the room goes on").await;
    })
    .await;
}

#[tokio::test]
async fn what_follows_an_event_that_failed_softly_is_judged_anew_as_well() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let joined = first_member_leaves(&founder, &holder, &peer);
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let join_id = own_join(&alice, &room_id).await;
        let [second, third] = [5, 6].map(|at| holder.held().events[at].0.clone());
        let [create, founded, levels] = [0, 1, 2].map(|at| founder.auth_events[at].clone());
        let ban = json!({
            "type": "m.room.member", "sender": founder.user_id, "state_key": member(&peer, 1),
            "content": { "membership": "ban" },
        });
        let allows = [&*create, &founded, &levels, &second];
        let ban = event_on(&founder, &join_id, 1_001, &allows, &ban);
        // On the other side of the fork, the first sets something, who has left; and the second says something about it, who is
        // banned by now.
        let note = json!({
            "type": "test.note", "sender": member(&peer, 0), "state_key": "", "content": { "text": "wrong" },
        });
        let note = event_on(&founder, &join_id, 1_001, &[&create, &levels, &joined], &note);
        let of = |number: usize, text: &str| {
            json!({
                "type": "m.room.message", "sender": member(&peer, number),
                "content": { "msgtype": "m.text", "body": text },
            })
        };
        let allows = [&*create, &levels, &second];
        let unheard = event_on(&founder, &note.0, 1_002, &allows, &of(1, "unheard"));
        let allows = [&*create, &levels, &third];
        let heard = event_on(&founder, &unheard.0, 1_003, &allows, &of(2, "heard"));
        let last = event_on(&founder, &heard.0, 1_004, &allows, &of(2, "last"));
        let (note_id, unheard_id, last_id) = (note.0.clone(), unheard.0.clone(), last.0.clone());
        founder.send(jsons(vec![ban, note, unheard, heard, last])).await.ok();
        hear_lazily(&alice, &room_id, &last_id).await;
        let path = room_path(&room_id, &format!("event/{}", quoted(&unheard_id)));
        alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
        tell_all(&holder, &joined);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS);
        let note = alice.get(&room_path(&room_id, "state/test.note")).await;
        note.is_refused(404, "M_NOT_FOUND");
        let (room, event) = (quoted(&room_id), quoted(&last_id));
        let path = format!("/_matrix/federation/v1/state_ids/{room}?event_id={event}");
        let state = peer.get(&servers[0], &path).await.ok();
        let ids = state["pdu_ids"].as_array().unwrap();
        assert!(!ids.contains(&json!(note_id)), "{state}");
    })
    .await;
}
