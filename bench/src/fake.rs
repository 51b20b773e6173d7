//! A homeserver for the tests of the scenarios: one room's worth of the API, kept in memory, with faults on demand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post, put},
};
use clap::Parser as _;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use crate::{bench::Bench, options::Options};

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Incremental answers leave out the message 'message 1'.
    Drops,
    /// Incremental answers hold the last message that was already delivered.
    Repeats,
    /// Sending is refused by a rate limit.
    Limits,
    /// The history ends after its first page.
    ForgetsHistory,
}

#[derive(Clone)]
struct Fake {
    fault: Fault,
    ids: Arc<AtomicUsize>,
    /// Rooms and the bodies of their messages.
    log: Arc<watch::Sender<Vec<(String, String)>>>,
    /// How often rooms were joined or made.
    joined: Arc<Mutex<HashMap<String, usize>>>,
}

type Answer = (StatusCode, Json<Value>);

/// Serves until the test ends and gives a run against it, with these further arguments.
pub(crate) async fn bench(fault: Fault, arguments: &str) -> Bench {
    let fake = Fake {
        fault,
        ids: Arc::default(),
        log: Arc::new(watch::Sender::new(Vec::new())),
        joined: Arc::default(),
    };
    let client = Router::new()
        .route("/register", post(register))
        .route(
            "/login",
            post(async |State(fake): State<Fake>| ok(fake.device())),
        )
        .route("/createRoom", post(create_room))
        .route("/account/whoami", get(who_am_i))
        .route("/rooms/{room}/join", post(join))
        .route("/join/{room}", post(join))
        .route("/rooms/{room}/joined_members", get(joined_members))
        .route("/rooms/{room}/event/{event}", get(event))
        .route("/rooms/{room}/send/{kind}/{transaction}", put(send))
        .route("/rooms/{room}/messages", get(messages))
        .route("/sync", get(sync));
    let router = Router::new()
        .nest("/_matrix/client/v3", client)
        .with_state(fake);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let quick = "--settle 0 --warm-up 0 --duration 0.2 --poll-grace 0.3 --poll-rate 500 --idle-duration 0.1";
    let words = format!("parley-bench --url {url} --peer-url {url} {quick} {arguments}");
    Bench::new(
        Options::parse_from(words.split_whitespace()),
        "test".to_owned(),
    )
    .unwrap()
}

impl Fake {
    fn id(&self) -> usize {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn device(&self) -> Value {
        let id = self.id();
        json!({ "user_id": format!("@{id}:fake"), "access_token": format!("token-{id}") })
    }
}

fn ok(answer: Value) -> Answer {
    (StatusCode::OK, Json(answer))
}

/// Insists on a session, as the specification has it.
async fn register(State(fake): State<Fake>, Json(request): Json<Value>) -> Answer {
    if request["auth"]["session"] == "the session" {
        return ok(fake.device());
    }
    (
        StatusCode::UNAUTHORIZED,
        Json(json!({ "session": "the session", "flows": [] })),
    )
}

async fn create_room(State(fake): State<Fake>) -> Answer {
    let room = format!("!{}/odd name:fake", fake.id());
    fake.joined.lock().unwrap().insert(room.clone(), 1);
    ok(json!({ "room_id": room }))
}

async fn who_am_i() -> Answer {
    ok(json!({ "user_id": "@somebody:fake" }))
}

async fn join(State(fake): State<Fake>, Path(room): Path<String>) -> Answer {
    *fake.joined.lock().unwrap().entry(room).or_default() += 1;
    ok(json!({}))
}

async fn joined_members(State(fake): State<Fake>, Path(room): Path<String>) -> Answer {
    let count = fake.joined.lock().unwrap()[&room];
    let joined: HashMap<String, Value> = (0..count)
        .map(|number| (format!("@{number}:fake"), json!({})))
        .collect();
    ok(json!({ "joined": joined }))
}

async fn event() -> Answer {
    ok(json!({}))
}

async fn send(
    State(fake): State<Fake>,
    Path((room, _, _)): Path<(String, String, String)>,
    Json(content): Json<Value>,
) -> Answer {
    if fake.fault == Fault::Limits {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            Json(json!({ "errcode": "M_LIMIT_EXCEEDED" })),
        );
    }
    let body = content["body"].as_str().unwrap().to_owned();
    fake.log.send_modify(|log| log.push((room, body)));
    ok(json!({ "event_id": "$event" }))
}

async fn messages(
    State(fake): State<Fake>,
    Path(room): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let limit: usize = query["limit"].parse().unwrap();
    let from: usize = query.get("from").map_or(0, |from| from.parse().unwrap());
    let count = fake
        .log
        .borrow()
        .iter()
        .filter(|(other, _)| *other == room)
        .count();
    let chunk = vec![json!({}); limit.min(count - from)];
    let mut page = json!({ "start": from.to_string(), "chunk": chunk });
    if from + limit < count && fake.fault != Fault::ForgetsHistory {
        page["end"] = json!((from + limit).to_string());
    }
    ok(page)
}

async fn sync(State(fake): State<Fake>, Query(query): Query<HashMap<String, String>>) -> Answer {
    let mut log = fake.log.subscribe();
    let since: Option<usize> = query.get("since").map(|since| since.parse().unwrap());
    let wait = Duration::from_millis(query["timeout"].parse().unwrap());
    if let Some(since) = since {
        // An answer without events, if nothing happens in time.
        let _ = tokio::time::timeout(wait, log.wait_for(|log| log.len() > since)).await;
    }
    let log = log.borrow().clone();
    let mut first = since.unwrap_or(0);
    if fake.fault == Fault::Repeats {
        first = first.saturating_sub(1);
    }
    let mut rooms: HashMap<String, Vec<Value>> = HashMap::new();
    for (room, body) in &log[first..] {
        if fake.fault != Fault::Drops || body != "message 1" {
            rooms
                .entry(room.clone())
                .or_default()
                .push(json!({ "content": { "body": body } }));
        }
    }
    let join: HashMap<String, Value> = rooms
        .into_iter()
        .map(|(room, events)| (room, json!({ "timeline": { "events": events } })))
        .collect();
    ok(json!({ "next_batch": log.len().to_string(), "rooms": { "join": join } }))
}
