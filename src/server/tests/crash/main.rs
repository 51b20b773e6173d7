//! Nothing that was acknowledged is lost: the program is killed at random moments under load and started again on the
//! same data, and everything it answered for is there, once, in order.
//!
//! `PARLEY_CRASH_KILLS` sets how often it is killed (20 by default), `PARLEY_CRASH_SEED` repeats a run.

#![expect(
    clippy::unwrap_used,
    reason = "helpers outside of test functions are tests too"
)]

mod client;
mod program;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use self::{client::Client, program::Program};

/// People who write at once.
const WRITERS: usize = 6;
/// Rooms that they write to.
const ROOMS: usize = 3;

/// What the server has answered for.
#[derive(Debug, Default)]
struct Promised {
    /// By room, each writer's messages: the number in the text, and the event id.
    messages: HashMap<(String, usize), Vec<(u64, String)>>,
    /// Sync tokens, and whose.
    tokens: Vec<(usize, String)>,
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_each_kill_once_and_in_order() {
    let kills = environment("PARLEY_CRASH_KILLS").unwrap_or(20);
    let seed = environment("PARLEY_CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    println!("PARLEY_CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // For the client; there is no TLS here.
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path()).await;
    let (clients, rooms) = set_up(&program).await;
    let promised = Arc::new(Mutex::new(Promised::default()));
    for kill in 0..kills {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = load(&program, &clients, &rooms, &promised, &stop, kill);
        tokio::time::sleep(Duration::from_millis(random.random_range(50..500))).await;
        program.kill();
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        program = Program::start(folder.path()).await;
        check_messages(&program, &clients, &rooms, &promised).await;
        check_tokens(&program, &clients, &promised).await;
    }
    let promised = promised.lock().unwrap();
    let messages: usize = promised.messages.values().map(Vec::len).sum();
    println!(
        "{kills} kills, {messages} messages answered, {} tokens",
        promised.tokens.len()
    );
    assert!(messages as u64 > kills, "the load was no load");
    program.stop();
}

/// Registers the writers and puts all of them into all rooms.
async fn set_up(program: &Program) -> (Vec<Client>, Vec<String>) {
    let mut clients = Vec::new();
    for writer in 0..WRITERS {
        clients.push(Client::register(program.url(), &format!("writer{writer}")).await);
    }
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let answer = clients[0]
            .post("/v3/createRoom", json!({ "preset": "public_chat" }))
            .await;
        rooms.push(answer["room_id"].as_str().unwrap().to_owned());
    }
    for client in &clients[1..] {
        for room in &rooms {
            client
                .post(&format!("/v3/rooms/{room}/join"), json!({}))
                .await;
        }
    }
    (clients, rooms)
}

fn load(
    program: &Program,
    clients: &[Client],
    rooms: &[String],
    promised: &Arc<Mutex<Promised>>,
    stop: &Arc<AtomicBool>,
    round: u64,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for (writer, client) in clients.iter().enumerate() {
        let client = client.at(program.url());
        let (promised, stop) = (promised.clone(), stop.clone());
        let room = rooms[writer % ROOMS].clone();
        tasks.push(tokio::spawn(async move {
            write(&client, &room, writer, round, &promised, &stop).await;
        }));
    }
    let client = clients[0].at(program.url());
    let (promised, stop) = (promised.clone(), stop.clone());
    tasks.push(tokio::spawn(async move {
        follow(&client, &promised, &stop).await
    }));
    tasks
}

/// Sends numbered messages, each as soon as the one before was answered.
async fn write(
    client: &Client,
    room: &str,
    writer: usize,
    round: u64,
    promised: &Mutex<Promised>,
    stop: &AtomicBool,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let number = round * 1_000_000 + number;
        let path = format!("/v3/rooms/{room}/send/m.room.message/{number}");
        let body = json!({ "msgtype": "m.text", "body": format!("{writer} {number}") });
        let Some(answer) = client.try_put(&path, body).await else {
            return;
        };
        let event_id = answer["event_id"].as_str().unwrap().to_owned();
        let mut promised = promised.lock().unwrap();
        promised
            .messages
            .entry((room.to_owned(), writer))
            .or_default()
            .push((number, event_id));
    }
}

/// Syncs all the time and keeps the tokens.
async fn follow(client: &Client, promised: &Mutex<Promised>, stop: &AtomicBool) {
    let mut path = "/v3/sync?timeout=0".to_owned();
    while !stop.load(Ordering::Relaxed) {
        let Some(answer) = client.try_get(&path).await else {
            return;
        };
        let token = answer["next_batch"].as_str().unwrap();
        promised.lock().unwrap().tokens.push((0, token.to_owned()));
        path = format!("/v3/sync?timeout=200&since={token}");
    }
}

async fn check_messages(
    program: &Program,
    clients: &[Client],
    rooms: &[String],
    promised: &Mutex<Promised>,
) {
    for room in rooms {
        let stored = clients[0].at(program.url()).history(room).await;
        let mut last: HashMap<usize, u64> = HashMap::new();
        let mut seen: HashMap<&str, u64> = HashMap::new();
        for (event_id, body) in &stored {
            let (writer, number) = body.split_once(' ').unwrap();
            let (writer, number) = (writer.parse().unwrap(), number.parse().unwrap());
            let before = last.insert(writer, number);
            assert!(
                before < Some(number),
                "writer {writer}: {number} after {before:?} in {room}"
            );
            assert_eq!(
                seen.insert(event_id, number),
                None,
                "{event_id} is there twice"
            );
        }
        let promised = promised.lock().unwrap();
        for ((promised_room, writer), messages) in &promised.messages {
            for (number, event_id) in messages.iter().filter(|_| promised_room == room) {
                assert_eq!(
                    seen.get(event_id.as_str()),
                    Some(number),
                    "message {number} of writer {writer} is lost"
                );
            }
        }
    }
}

/// Every token that was given works, and the last one tells nothing twice.
async fn check_tokens(program: &Program, clients: &[Client], promised: &Mutex<Promised>) {
    let tokens = promised.lock().unwrap().tokens.clone();
    let stride = (tokens.len() / 20).max(1);
    for (writer, token) in tokens.iter().rev().step_by(stride) {
        let path = format!("/v3/sync?timeout=0&since={token}");
        let answer = clients[*writer].at(program.url()).try_get(&path).await;
        assert!(answer.is_some(), "the token {token} doesn't work any more");
    }
}
