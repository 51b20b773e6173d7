//! Joining large rooms: being in them before it is known who else is.

mod meanwhile;
mod policed;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    routing::{get, put},
};
use parley_conformance::{
    Answer, Client, Peer, Resident, TestOptions, TestServer, federated, federated_with,
};
use parley_engine::clock::ManualClock;
use ruma::MilliSecondsSinceUnixEpoch;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::rooms::{say, sync_until};
use crate::rooms::{BASE, act_self, quoted, try_say};

/// Members of the room that the peer holds, beside who made it.
const MEMBERS: usize = 60;
/// How long something may take that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// For clients that load members as they need them.
const LAZY: &str =
    "filter=%7B%22room%22%3A%7B%22state%22%3A%7B%22lazy_load_members%22%3Atrue%7D%7D%7D";

/// A room that a peer holds.
#[derive(Default)]
struct Held {
    /// Its events and their ids, in order; those of the state first.
    events: Vec<(String, Value)>,
    /// What was sent to the peer, joins included.
    heard: Vec<Value>,
    /// Other servers in the room.
    others: Vec<String>,
    /// The event that the next join is built on.
    last: String,
}

/// What a peer that holds a room answers by.
struct Holder {
    held: Mutex<Held>,
    /// How often it was asked who is in the room, before the gate was opened or after.
    asked: watch::Sender<usize>,
    /// Whether it tells who is in the room.
    open: watch::Sender<bool>,
    /// Whether it gives the whole state with a join, also if it needn't.
    tells_all: AtomicBool,
    /// Whether it says that who asks isn't in the room.
    denies: AtomicBool,
    /// Whether it answers joins, which it has taken before.
    lets_in: watch::Sender<bool>,
    name: OnceLock<String>,
}

impl Holder {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    fn state(&self, fits: impl Fn(&Value) -> bool) -> Vec<(String, Value)> {
        let held = self.held();
        let state = held.events.iter().filter(|(_, event)| fits(event));
        state.cloned().collect()
    }

    /// What it answers to who wants to know a state.
    fn tell(&self, state: Value) -> (StatusCode, Json<Value>) {
        if !self.denies.load(Ordering::SeqCst) {
            return (StatusCode::OK, Json(state));
        }
        let refusal = json!({ "errcode": "M_FORBIDDEN", "error": "your server isn't in the room" });
        (StatusCode::FORBIDDEN, Json(refusal))
    }

    /// Waits until it was asked who is in the room.
    async fn is_asked(&self) {
        let mut asked = self.asked.subscribe();
        let is_asked = asked.wait_for(|asked| *asked > 0);
        let in_time = tokio::time::timeout(PATIENCE, is_asked).await;
        in_time.expect("it is asked in time").unwrap();
    }

    /// Waits until it was sent something that fits.
    async fn hears(&self, fits: impl Fn(&Value) -> bool) {
        let heard = async {
            while !self.held().heard.iter().any(&fits) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, heard).await;
        in_time.expect("it is told in time");
    }
}

fn jsons(events: Vec<(String, Value)>) -> Vec<Value> {
    events.into_iter().map(|(_, event)| event).collect()
}

fn ids(events: Vec<(String, Value)>) -> Vec<String> {
    events.into_iter().map(|(id, _)| id).collect()
}

async fn make_join(
    State(holder): State<Arc<Holder>>,
    Path((room_id, user_id)): Path<(String, String)>,
) -> Json<Value> {
    let last = holder.held().last.clone();
    let allows = ids(holder.state(|event| {
        ["m.room.create", "m.room.power_levels", "m.room.join_rules"]
            .contains(&event["type"].as_str().unwrap())
    }));
    let event = json!({
        "room_id": room_id, "sender": user_id, "state_key": user_id, "type": "m.room.member",
        "content": { "membership": "join" }, "depth": 1_000, "origin_server_ts": 1_700_000_000_000_u64,
        "prev_events": [last], "auth_events": allows,
    });
    Json(json!({ "room_version": "11", "event": event }))
}

async fn send_join(
    State(holder): State<Arc<Holder>>,
    RawQuery(query): RawQuery,
    Json(join): Json<Value>,
) -> Json<Value> {
    let omits = query.is_some_and(|query| query.contains("omit_members=true"))
        && !holder.tells_all.load(Ordering::SeqCst);
    let is_member = |event: &Value| event["type"] == "m.room.member";
    let is_founder = |event: &Value| is_member(event) && event["depth"] == 2;
    let mut servers = vec![holder.name.get().unwrap().clone()];
    servers.extend(holder.held().others.iter().cloned());
    holder.held().heard.push(join.clone());
    let _ = holder
        .lets_in
        .subscribe()
        .wait_for(|lets_in| *lets_in)
        .await;
    Json(json!({
        "event": join,
        "state": jsons(holder.state(|event| !omits || !is_member(event))),
        "auth_chain": jsons(holder.state(is_founder)),
        "members_omitted": omits,
        "servers_in_room": servers,
    }))
}

async fn state_ids(State(holder): State<Arc<Holder>>) -> (StatusCode, Json<Value>) {
    holder.asked.send_modify(|asked| *asked += 1);
    let _ = holder.open.subscribe().wait_for(|open| *open).await;
    let state = ids(holder.state(|_| true));
    holder.tell(json!({ "pdu_ids": state, "auth_chain_ids": state }))
}

async fn whole_state(State(holder): State<Arc<Holder>>) -> (StatusCode, Json<Value>) {
    let state = jsons(holder.state(|_| true));
    holder.tell(json!({ "pdus": state, "auth_chain": state }))
}

async fn one_event(State(holder): State<Arc<Holder>>, Path(id): Path<String>) -> Json<Value> {
    let held = holder.held();
    let event = held.events.iter().find(|(held, _)| *held == id);
    let pdus: Vec<&Value> = event.iter().map(|(_, event)| event).collect();
    Json(json!({ "origin": holder.name.get(), "origin_server_ts": 1, "pdus": pdus }))
}

async fn event_auth(State(holder): State<Arc<Holder>>) -> Json<Value> {
    Json(json!({ "auth_chain": jsons(holder.state(|_| true)) }))
}

async fn hear(State(holder): State<Arc<Holder>>, Json(transaction): Json<Value>) -> Json<Value> {
    let pdus = transaction["pdus"].as_array().cloned().unwrap_or_default();
    holder.held().heard.extend(pdus);
    Json(json!({ "pdus": {} }))
}

/// A peer that holds a room of [`MEMBERS`] members and its founder, and doesn't tell who they are until it may.
async fn holding() -> (Peer, Arc<Holder>) {
    let holder = Arc::new(Holder {
        held: Mutex::default(),
        asked: watch::Sender::new(0),
        open: watch::Sender::new(false),
        tells_all: AtomicBool::new(false),
        denies: AtomicBool::new(false),
        lets_in: watch::Sender::new(true),
        name: OnceLock::new(),
    });
    let base = "/_matrix/federation";
    let router = Router::new()
        .route(
            &format!("{base}/v1/make_join/{{room}}/{{user}}"),
            get(make_join),
        )
        .route(
            &format!("{base}/v2/send_join/{{room}}/{{event}}"),
            put(send_join),
        )
        .route(&format!("{base}/v1/state_ids/{{room}}"), get(state_ids))
        .route(&format!("{base}/v1/state/{{room}}"), get(whole_state))
        .route(
            &format!("{base}/v1/event_auth/{{room}}/{{event}}"),
            get(event_auth),
        )
        .route(&format!("{base}/v1/event/{{event}}"), get(one_event))
        .route(&format!("{base}/v1/send/{{transaction}}"), put(hear))
        .with_state(holder.clone());
    let peer = Peer::start(router).await;
    holder.name.set(peer.name().to_string()).unwrap();
    (peer, holder)
}

/// Makes the room that a peer holds.
fn fill<'a>(peer: &'a Peer, server: &'a TestServer, holder: &Holder) -> Resident<'a> {
    let mut founder = Resident::of_made_up(peer, server, "11");
    let mut plan: Vec<(&str, String, String, Value)> = vec![
        (
            "m.room.create",
            String::new(),
            founder.user_id.clone(),
            json!({ "room_version": "11" }),
        ),
        (
            "m.room.member",
            founder.user_id.clone(),
            founder.user_id.clone(),
            json!({ "membership": "join" }),
        ),
        (
            "m.room.power_levels",
            String::new(),
            founder.user_id.clone(),
            json!({
                "users": { founder.user_id.clone(): 100, member(peer, 0): 100, member(peer, 1): 50 },
                "events": { "test.note": 0 },
            }),
        ),
        (
            "m.room.join_rules",
            String::new(),
            founder.user_id.clone(),
            json!({ "join_rule": "public" }),
        ),
    ];
    for number in 0..MEMBERS {
        let user_id = format!("@member{number}:{}", peer.name());
        plan.push((
            "m.room.member",
            user_id.clone(),
            user_id,
            json!({ "membership": "join" }),
        ));
    }
    let mut held = holder.held();
    for (depth, (event_type, state_key, sender, content)) in plan.into_iter().enumerate() {
        // All that stand before the members allow them.
        let allows: Vec<String> = held
            .events
            .iter()
            .take(4)
            .map(|(id, _)| id.clone())
            .collect();
        let allows = match event_type {
            "m.room.member" if depth >= 4 => allows
                .into_iter()
                .enumerate()
                .filter(|(at, _)| *at != 1)
                .map(|(_, id)| id)
                .collect(),
            _ => allows,
        };
        let prev: Vec<&String> = held.events.last().map(|(id, _)| id).into_iter().collect();
        let event = founder.signed(json!({
            "room_id": founder.room_id, "sender": sender, "state_key": state_key, "type": event_type,
            "content": content, "depth": depth + 1, "origin_server_ts": 1_700_000_000_000_u64,
            "prev_events": prev, "auth_events": allows,
        }));
        held.events.push(event);
    }
    held.last = held.events.last().unwrap().0.clone();
    founder.auth_events = [0, 1, 2].map(|at| held.events[at].0.clone()).to_vec();
    founder
}

/// Has a user of the server join a room that a peer holds, whose members the server asks for then.
async fn enter(server: &TestServer) -> (Peer, Arc<Holder>, String, Client) {
    let (peer, holder) = holding().await;
    let room_id = fill(&peer, server, &holder).room_id;
    let alice = server.register("alice").await;
    join(&alice, &room_id, &peer).await;
    holder.is_asked().await;
    (peer, holder, room_id, alice)
}

async fn join(client: &Client, room_id: &str, peer: &Peer) {
    let via = quoted(peer.name().as_str());
    let path = format!("{BASE}/join/{}?server_name={via}", quoted(room_id));
    client.post(&path, json!({})).await.ok();
}

async fn sync(client: &Client, query: &str) -> Value {
    let path = format!("{BASE}/sync?timeout=0&{query}");
    client.get(&path).await.ok()
}

async fn joined_members(client: &Client, room_id: &str) -> usize {
    let path = format!("{BASE}/rooms/{}/joined_members", quoted(room_id));
    let answer = client.get(&path).await.ok();
    answer["joined"].as_object().unwrap().len()
}

/// Syncs lazily until a room's timeline has an event; gives what is told of the room.
async fn hear_lazily(client: &Client, room_id: &str, event_id: &str) -> Value {
    let told = async {
        loop {
            let told = sync(client, LAZY).await;
            let room = told["rooms"]["join"][room_id].clone();
            let events = room["timeline"]["events"].as_array().cloned();
            let mut events = events.into_iter().flatten();
            if events.any(|event| event["event_id"] == event_id) {
                return room;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .expect("it is told in time")
}

#[tokio::test]
async fn a_room_is_used_before_its_members_are_known_and_whole_afterwards() {
    federated(1, async |servers| {
        let (_peer, holder, room_id, alice) = enter(&servers[0]).await;
        let lazily = sync(&alice, LAZY).await;
        assert!(lazily["rooms"]["join"][&room_id].is_object(), "{lazily}");
        let eagerly = sync(&alice, "").await;
        assert!(eagerly["rooms"]["join"][&room_id].is_null(), "{eagerly}");
        let said = say(&alice, &room_id, "is anybody here?").await;
        holder
            .hears(|event| event["content"]["body"] == "is anybody here?")
            .await;
        let members = joined_members(&alice, &room_id);
        let told = async {
            holder.open.send_replace(true);
            sync_until(&alice, |told| told["rooms"]["join"][&room_id].is_object()).await
        };
        let (members, told) = tokio::join!(members, told);
        assert_eq!(members, MEMBERS + 2);
        let room = &told["rooms"]["join"][&room_id];
        assert_eq!(room["summary"]["m.joined_member_count"], MEMBERS + 2);
        let state = room["state"]["events"].as_array().unwrap();
        let is_member = |event: &&Value| event["type"] == "m.room.member";
        assert_eq!(state.iter().filter(is_member).count(), MEMBERS + 1);
        let timeline = room["timeline"]["events"].as_array().unwrap();
        assert!(
            timeline.iter().any(|event| event["event_id"] == said),
            "{room}"
        );
        // Who knew it already learns how many are in it, and isn't told of everybody.
        let since = lazily["next_batch"].as_str().unwrap();
        let lazily = sync(&alice, &format!("{LAZY}&since={since}")).await;
        let room = &lazily["rooms"]["join"][&room_id];
        assert_eq!(room["summary"]["m.joined_member_count"], MEMBERS + 2);
        let state = room["state"]["events"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(state.len() < 10, "{room}");
    })
    .await;
}

#[tokio::test]
async fn members_are_asked_for_again_after_a_restart() {
    federated(1, async |servers| {
        let (_peer, holder, room_id, alice) = enter(&servers[0]).await;
        servers[0].restart().await;
        let eagerly = sync(&alice, "").await;
        assert!(eagerly["rooms"]["join"][&room_id].is_null(), "{eagerly}");
        holder.open.send_replace(true);
        sync_until(&alice, |told| told["rooms"]["join"][&room_id].is_object()).await;
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 2);
        // It stays so.
        servers[0].restart().await;
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 2);
    })
    .await;
}

#[tokio::test]
async fn a_room_whose_members_are_not_known_is_left_and_joined_again() {
    federated(1, async |servers| {
        let (peer, holder, room_id, alice) = enter(&servers[0]).await;
        act_self(&alice, &room_id, "leave").await.ok();
        let lazily = sync(&alice, LAZY).await;
        assert!(lazily["rooms"]["join"][&room_id].is_null(), "{lazily}");
        holder
            .hears(|event| event["content"]["membership"] == "leave")
            .await;
        join(&alice, &room_id, &peer).await;
        let lazily = sync(&alice, LAZY).await;
        assert!(lazily["rooms"]["join"][&room_id].is_object(), "{lazily}");
        holder.open.send_replace(true);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 2);
    })
    .await;
}

#[tokio::test]
async fn others_are_not_let_in_nor_told_the_state_while_members_are_missing() {
    federated(1, async |servers| {
        let (peer, holder, room_id, alice) = enter(&servers[0]).await;
        let said = say(&alice, &room_id, "hello").await;
        let room = quoted(&room_id);
        let zoe = quoted(&format!("@zoe:{}", peer.name()));
        for action in ["join", "knock"] {
            let path = format!("/_matrix/federation/v1/make_{action}/{room}/{zoe}?ver=11");
            let answer = peer.get(&servers[0], &path).await;
            answer.is_refused(404, "M_NOT_FOUND");
        }
        for what in ["state", "state_ids"] {
            let event = quoted(&said);
            let path = format!("/_matrix/federation/v1/{what}/{room}?event_id={event}");
            let answer = peer.get(&servers[0], &path).await;
            answer.is_refused(403, "M_BAD_STATE");
        }
        // What is said it is told: it is in the room, though nobody knows by whom.
        let path = format!("/_matrix/federation/v1/event/{}", quoted(&said));
        peer.get(&servers[0], &path).await.ok();
        holder.open.send_replace(true);
        joined_members(&alice, &room_id).await;
        let path = format!("/_matrix/federation/v1/make_join/{room}/{zoe}?ver=11");
        peer.get(&servers[0], &path).await.ok();
    })
    .await;
}

#[tokio::test]
async fn who_is_not_known_to_be_a_member_is_believed_until_all_are_known() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        // The last but one has left since.
        let gone = format!("@member{}:{}", MEMBERS - 2, peer.name());
        let joined = holder.held().events[MEMBERS + 2].clone();
        let mut allows = founder.auth_events.clone();
        allows[1].clone_from(&joined.0);
        let left = founder.signed(json!({
            "room_id": room_id, "sender": gone, "state_key": gone, "type": "m.room.member",
            "content": { "membership": "leave" }, "depth": 900, "origin_server_ts": 1_700_000_000_000_u64,
            "prev_events": [holder.held().last], "auth_events": allows,
        }));
        {
            let mut held = holder.held();
            held.events[MEMBERS + 2] = left.clone();
            held.events.push(joined.clone());
            held.last.clone_from(&left.0);
        }
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let join_id = own_join(&alice, &room_id).await;
        // What allows it doesn't say that its sender has left.
        let member = holder.held().events[MEMBERS + 3].clone();
        let mut said = Vec::new();
        for (sender, allowing) in [(gone.clone(), &joined.0), (sender_of(&member), &member.0)] {
            let mut allows = founder.auth_events.clone();
            allows[1].clone_from(allowing);
            let (id, event) = founder.message("hello", |event| {
                event["sender"] = json!(sender);
                event["auth_events"] = json!(allows);
                event["prev_events"] = json!([join_id]);
                event["depth"] = json!(2_000);
            });
            founder.send(vec![event]).await.ok();
            let room = hear_lazily(&alice, &room_id, &id).await;
            let state = room["state"]["events"].as_array().unwrap();
            let of_sender = |event: &Value| event["state_key"] == sender.as_str();
            assert!(state.iter().any(of_sender), "{room}");
            said.push(id);
        }
        holder.held().events.retain(|(id, _)| *id != joined.0);
        holder.open.send_replace(true);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 1);
        let path = |id: &str| format!("{BASE}/rooms/{}/event/{}", quoted(&room_id), quoted(id));
        let answer = alice.get(&path(&said[0])).await;
        answer.is_refused(404, "M_NOT_FOUND");
        alice.get(&path(&said[1])).await.ok();
        // The room goes on.
        say(&alice, &room_id, "who was that?").await;
    })
    .await;
}

fn sender_of(event: &(String, Value)) -> String {
    event.1["sender"].as_str().unwrap().to_owned()
}

/// The id of the join of somebody who is in a room.
async fn own_join(client: &Client, room_id: &str) -> String {
    let member = format!("m.room.member/{}?format=event", quoted(&client.user_id));
    let path = format!("{BASE}/rooms/{}/state/{member}", quoted(room_id));
    let event = client.get(&path).await.ok();
    event["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_built_on_an_event_that_is_refused_after_all_is_judged_anew() {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        let mut founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        // Who may kick has left, and who is kicked by them hasn't.
        let (kicker, kicked) = (member(&peer, 0), member(&peer, 1));
        let (kicker_joined, kicked_joined) = {
            let held = holder.held();
            (held.events[4].clone(), held.events[5].clone())
        };
        let allowed_by = |joins: &[&str]| {
            let mut allows = founder.auth_events.clone();
            allows.truncate(1);
            allows.push(founder.auth_events[2].clone());
            allows.extend(joins.iter().map(|id| (*id).to_owned()));
            allows
        };
        let left = founder.signed(json!({
            "room_id": room_id, "sender": kicker, "state_key": kicker, "type": "m.room.member",
            "content": { "membership": "leave" }, "depth": 900, "origin_server_ts": 1_700_000_000_000_u64,
            "prev_events": [holder.held().last], "auth_events": allowed_by(&[&kicker_joined.0]),
        }));
        {
            let mut held = holder.held();
            held.events[4] = left.clone();
            held.events.push(kicker_joined.clone());
            held.last.clone_from(&left.0);
        }
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.is_asked().await;
        let mut last = own_join(&alice, &room_id).await;
        let joins = [&*kicker_joined.0, &*kicked_joined.0];
        let plans = [
            ("m.room.member", &kicker, &kicked, json!({ "membership": "leave" }), allowed_by(&joins)),
            ("im.test", &kicked, &kicked, json!({ "here": true }), allowed_by(&joins[1..])),
        ];
        let mut sent = Vec::new();
        for (depth, (event_type, sender, state_key, content, allows)) in (2_000..).zip(plans) {
            let (id, event) = founder.signed(json!({
                "room_id": room_id, "sender": sender, "state_key": state_key, "type": event_type,
                "content": content, "depth": depth, "origin_server_ts": 1_700_000_000_000_u64,
                "prev_events": [last], "auth_events": allows,
            }));
            last.clone_from(&id);
            sent.push((id, event));
        }
        let kick_id = sent[0].0.clone();
        let (sentinel, event) = founder.message("all there?", |event| {
            event["prev_events"] = json!([last]);
            event["depth"] = json!(2_010);
            event["auth_events"] = json!(founder.auth_events);
        });
        sent.push((sentinel.clone(), event));
        founder.send(jsons(sent)).await.ok();
        hear_lazily(&alice, &room_id, &sentinel).await;
        let of_kicked = format!("im.test/{}", quoted(&kicked));
        let path = format!("{BASE}/rooms/{}/state/{of_kicked}", quoted(&room_id));
        alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
        holder.held().events.retain(|(id, _)| *id != kicker_joined.0);
        holder.open.send_replace(true);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 1);
        assert_eq!(alice.get(&path).await.ok()["here"], true);
        let path = format!("{BASE}/rooms/{}/event/{}", quoted(&room_id), quoted(&kick_id));
        alice.get(&path).await.is_refused(404, "M_NOT_FOUND");
    })
    .await;
}

fn member(peer: &Peer, number: usize) -> String {
    format!("@member{number}:{}", peer.name())
}

#[tokio::test]
async fn what_of_a_joined_state_cannot_be_checked_for_want_of_keys_is_asked_for_again() {
    let now = i64::from(MilliSecondsSinceUnixEpoch::now().get());
    let options = |_| TestOptions {
        clock: Some(Arc::new(ManualClock::new(now))),
        ..TestOptions::default()
    };
    federated_with(1, options, async |servers| {
        let (peer, holder) = holding().await;
        holder.tells_all.store(true, Ordering::SeqCst);
        let founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let absent = Peer::start(Router::new()).await;
        let keys = absent.publish(json!({}));
        let guest = Resident::of_made_up(&absent, &servers[0], "11");
        let mut allows = founder.auth_events.clone();
        allows[1].clone_from(&holder.held().events[3].0);
        let joined = guest.signed(json!({
            "room_id": room_id, "sender": guest.user_id, "state_key": guest.user_id,
            "type": "m.room.member", "content": { "membership": "join" }, "depth": 900,
            "origin_server_ts": 1_700_000_000_000_u64,
            "prev_events": [holder.held().last], "auth_events": allows,
        }));
        {
            let mut held = holder.held();
            held.last.clone_from(&joined.0);
            held.events.push(joined);
        }
        let alice = servers[0].register("alice").await;
        join(&alice, &room_id, &peer).await;
        holder.open.send_replace(true);
        holder.is_asked().await;
        let lazily = sync(&alice, LAZY).await;
        assert!(lazily["rooms"]["join"][&room_id].is_object(), "{lazily}");
        let eagerly = sync(&alice, "").await;
        assert!(eagerly["rooms"]["join"][&room_id].is_null(), "{eagerly}");
        absent.publish(keys);
        // A server that gave no keys isn't asked again at once. What was under way meanwhile may have put it off once more.
        let is_whole = async {
            while sync(&alice, "").await["rooms"]["join"][&room_id].is_null() {
                servers[0].clock().advance(Duration::from_secs(61));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let is_whole = tokio::time::timeout(Duration::from_secs(60), is_whole);
        is_whole.await.expect("the members are known in time");
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 3);
    })
    .await;
}

#[tokio::test]
async fn a_leave_that_others_have_not_heard_of_is_not_undone_by_another_users_return() {
    leave_unheard(true).await;
}

#[tokio::test]
async fn a_leave_that_others_have_not_heard_of_stands_also_where_members_come_later() {
    leave_unheard(false).await;
}

/// Bob's leave, and what he did before it, hasn't reached the server by which Alice comes back. That tells all members with the
/// join, or later.
async fn leave_unheard(tells_all: bool) {
    federated(1, async |servers| {
        let (peer, holder) = holding().await;
        holder.tells_all.store(true, Ordering::SeqCst);
        holder.open.send_replace(true);
        let founder = fill(&peer, &servers[0], &holder);
        let room_id = founder.room_id.clone();
        let alice = servers[0].register("alice").await;
        let bob = servers[0].register("bob").await;
        join(&alice, &room_id, &peer).await;
        act_self(&bob, &room_id, "join").await.ok();
        let of_bob = |membership: &'static str| {
            let bob = bob.user_id.clone();
            move |event: &Value| {
                event["state_key"] == bob.as_str() && event["content"]["membership"] == membership
            }
        };
        holder.hears(of_bob("join")).await;
        // The peer has taken in that he came, and not yet that he went.
        let heard = |fits: &dyn Fn(&Value) -> bool| {
            let held = holder.held();
            let event = held.heard.iter().find(|event| fits(event));
            event.cloned().unwrap()
        };
        let joined = heard(&of_bob("join"));
        let joined = (founder.id_of(&joined), joined);
        holder.held().events.push(joined);
        let note = format!("{BASE}/rooms/{}/state/test.note", quoted(&room_id));
        let set = bob.put(&note, json!({ "text": "gone fishing" })).await;
        set.ok();
        act_self(&bob, &room_id, "leave").await.ok();
        act_self(&alice, &room_id, "leave").await.ok();
        holder.hears(of_bob("leave")).await;
        let left = founder.id_of(&heard(&of_bob("leave")));
        holder.tells_all.store(tells_all, Ordering::SeqCst);
        holder.open.send_replace(tells_all);
        join(&alice, &room_id, &peer).await;
        say(&alice, &room_id, "back again").await;
        holder.open.send_replace(true);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 2);
        // What led to the leave stands as well.
        assert_eq!(alice.get(&note).await.ok()["text"], "gone fishing");
        say(&alice, &room_id, "where is Bob?").await;
        // So others learn of it at the latest.
        holder
            .hears(|event| {
                let prev = event["prev_events"].as_array();
                prev.is_some_and(|prev| prev.contains(&json!(left)))
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_room_becomes_whole_on_all_nodes() {
    federated(1, async |servers| {
        let Some(second) = servers[0].second_node().await else {
            return;
        };
        let (_peer, holder, room_id, alice) = enter(&servers[0]).await;
        let there = alice.at(&second);
        let lazily =
            async { while sync(&there, LAZY).await["rooms"]["join"][&room_id].is_null() {} };
        tokio::time::timeout(PATIENCE, lazily).await.unwrap();
        let eagerly = sync(&there, "").await;
        assert!(eagerly["rooms"]["join"][&room_id].is_null(), "{eagerly}");
        let told = async {
            holder.open.send_replace(true);
            sync_until(&there, |told| told["rooms"]["join"][&room_id].is_object()).await
        };
        let (members, _) = tokio::join!(joined_members(&there, &room_id), told);
        assert_eq!(members, MEMBERS + 2);
        assert_eq!(joined_members(&alice, &room_id).await, MEMBERS + 2);
    })
    .await;
}
