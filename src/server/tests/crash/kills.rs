//! The program is killed at random moments under load and started again on the same data: everything it answered for is
//! there, once, in order.

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

use super::{
    client::{Client, No},
    program::Program,
    work::{Promised, ROUND, Writer},
};

/// People who write at once.
const WRITERS: usize = 6;
/// Rooms that they write to.
const ROOMS: usize = 3;

/// Who writes where.
struct Load {
    clients: Vec<Client>,
    rooms: Vec<String>,
    lobby: String,
    promised: Mutex<Promised>,
    stop: AtomicBool,
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
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path()).await;
    let load = Arc::new(Load::new(&program).await);
    for kill in 0..kills {
        load.stop.store(false, Ordering::Relaxed);
        let tasks = start(&load, &program, kill);
        tokio::time::sleep(Duration::from_millis(random.random_range(50..500))).await;
        program.kill();
        load.stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        program = Program::start(folder.path()).await;
        load.check_messages(&program).await;
        load.check_tokens(&program).await;
        for index in 0..WRITERS {
            load.writer(index, &program.url()).check().await;
        }
    }
    let promised = load.promised.lock().unwrap();
    let messages: usize = promised.messages.values().map(Vec::len).sum();
    println!(
        "{kills} kills, {messages} messages answered, {} tokens, {} devices, {} kinds of values",
        promised.tokens.len(),
        promised.devices.len(),
        promised.kinds(),
    );
    assert!(messages as u64 > kills, "the load was no load");
}

/// Everyone writes, and the first also syncs, until the server is gone.
fn start(load: &Arc<Load>, program: &Program, round: u64) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    for index in 0..WRITERS {
        let (load, url) = (load.clone(), program.url());
        tasks.push(tokio::spawn(async move {
            let writer = load.writer(index, &url);
            for number in 0.. {
                if load.stop.load(Ordering::Relaxed) {
                    return;
                }
                match writer.work(round * ROUND + number).await {
                    Ok(()) => {}
                    Err(No::Gone) => return,
                    Err(refused) => panic!("writer {index}: {refused:?}"),
                }
            }
        }));
    }
    let (load, url) = (load.clone(), program.url());
    tasks.push(tokio::spawn(async move { load.follow(&url).await }));
    tasks
}

impl Load {
    /// Registers the writers and puts all of them into all rooms but the lobby.
    async fn new(program: &Program) -> Self {
        let mut clients = Vec::new();
        for writer in 0..WRITERS {
            clients.push(Client::register(&program.url(), &format!("writer{writer}")).await);
        }
        let plan = json!({
            "preset": "public_chat",
            "power_level_content_override": { "events": { "com.example.number": 0 } },
        });
        let mut rooms = Vec::new();
        for _ in 0..=ROOMS {
            let answer = clients[0].post("/v3/createRoom", plan.clone()).await;
            rooms.push(answer.unwrap()["room_id"].as_str().unwrap().to_owned());
        }
        let lobby = rooms.pop().unwrap();
        let path = format!("/v3/rooms/{lobby}/leave");
        // Somebody has to stay, or nobody could come back.
        let keeper = Client::register(&program.url(), "keeper").await;
        let join = format!("/v3/rooms/{lobby}/join");
        keeper.post(&join, json!({})).await.unwrap();
        clients[0].post(&path, json!({})).await.unwrap();
        for client in &clients[1..] {
            for room in &rooms {
                let path = format!("/v3/rooms/{room}/join");
                client.post(&path, json!({})).await.unwrap();
            }
            // Who was never there can't leave, which is what a writer's first move may be after an early kill.
            client.post(&join, json!({})).await.unwrap();
            client.post(&path, json!({})).await.unwrap();
        }
        Self {
            clients,
            rooms,
            lobby,
            promised: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    fn writer(&self, index: usize, url: &str) -> Writer<'_> {
        Writer {
            index,
            client: self.clients[index].at(url),
            room: &self.rooms[index % ROOMS],
            lobby: &self.lobby,
            promised: &self.promised,
        }
    }

    /// Syncs all the time and keeps the tokens.
    async fn follow(&self, url: &str) {
        let client = self.clients[0].at(url);
        let mut path = "/v3/sync?timeout=0".to_owned();
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(answer) = client.get(&path).await else {
                return;
            };
            let token = answer["next_batch"].as_str().unwrap();
            self.promised.lock().unwrap().tokens.push(token.to_owned());
            path = format!("/v3/sync?timeout=200&since={token}");
        }
    }

    async fn check_messages(&self, program: &Program) {
        for room in &self.rooms {
            let stored = self.clients[0].at(&program.url()).history(room).await;
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
            let promised = self.promised.lock().unwrap();
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

    /// Every token that was given works.
    async fn check_tokens(&self, program: &Program) {
        let tokens = self.promised.lock().unwrap().tokens.clone();
        let client = self.clients[0].at(&program.url());
        for token in tokens.iter().rev().step_by((tokens.len() / 20).max(1)) {
            let path = format!("/v3/sync?timeout=0&since={token}");
            let answer = client.get(&path).await;
            assert!(answer.is_ok(), "the token {token} doesn't work any more");
        }
    }
}
