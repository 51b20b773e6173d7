//! A disk that is full for a while.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::{
    client::{Client, No},
    namespace::{command, small_disk},
    program::{PARLEY, Program},
};

/// Size of the disk.
const KIB: u32 = 24 * 1024;
/// How often it is filled.
const ROUNDS: usize = 3;
/// People who write at once.
const WRITERS: usize = 4;
/// How often each is refused before there is space again.
const REFUSALS: usize = 5;

/// The disk as it is seen from outside of the program's name space.
struct Disk(PathBuf);

impl Disk {
    fn of(program: &Program, folder: &Path) -> Self {
        let folder = folder.strip_prefix("/").unwrap();
        Self(Path::new(&format!("/proc/{}/root", program.id())).join(folder))
    }

    /// Leaves no byte.
    fn fill(&self) {
        let mut file = File::create(self.0.join("fill")).unwrap();
        for size in [1 << 16, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }

    /// Kills the program; what was on its disk then.
    fn kill(self, mut program: Program, folder: &Path) {
        let id = program.id().to_string();
        let stopped = Command::new("kill").args(["-STOP", &id]).status().unwrap();
        assert!(stopped.success());
        for entry in fs::read_dir(&self.0).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
        program.kill();
    }
}

/// What one writer was answered.
#[derive(Debug, Default)]
struct Answers {
    /// The text of each message and its event.
    made: Vec<(String, String)>,
    /// Texts of messages that were refused.
    refused: Vec<String>,
}

async fn send(client: &Client, room: &str, text: &str) -> Result<String, No> {
    let path = format!("/v3/rooms/{room}/send/m.room.message/{text}");
    let answer = client
        .put(&path, json!({ "msgtype": "m.text", "body": text }))
        .await?;
    Ok(answer["event_id"].as_str().unwrap().to_owned())
}

/// Sends until that was refused often enough.
async fn send_until_refused(client: Client, room: String, name: String) -> Answers {
    let mut answers = Answers::default();
    for number in 0..100_000 {
        let text = format!("{name}-{number}");
        match send(&client, &room, &text).await {
            Ok(event_id) => answers.made.push((text, event_id)),
            Err(No::Refused(status)) => {
                assert_eq!(status, 500);
                answers.refused.push(text);
            }
            Err(No::Gone) => panic!("the program is gone"),
        }
        if answers.refused.len() == REFUSALS {
            return answers;
        }
    }
    panic!("the disk was never full");
}

/// Nothing else can be written either, and everything can be read.
async fn nothing_is_half_made(clients: &[Client], url: &str, room: &str, round: usize) {
    let alice = &clients[0];
    let name = format!("late{round}");
    let plan = json!({ "room_alias_name": name, "preset": "public_chat" });
    assert!(alice.post("/v3/createRoom", plan).await.is_err());
    let alias = format!("/v3/directory/room/%23{name}:localhost");
    assert!(alice.get(&alias).await.is_err());
    assert!(Client::try_register(url, &name).await.is_err());
    assert!(alice.log_in_again().await.is_err());
    let data = format!("/v3/user/{}/account_data/com.example", alice.user_id);
    assert!(alice.put(&data, json!({ "round": round })).await.is_err());
    let stored = alice.get(&data).await;
    assert_ne!(stored.ok(), Some(json!({ "round": round })));
    alice.history(room).await;
    alice.get("/v3/sync?timeout=0").await.unwrap();
}

/// What was refused can be done now, once.
async fn all_is_made_now(clients: &[Client], url: &str, round: usize) {
    let alice = &clients[0];
    let name = format!("late{round}");
    let plan = json!({ "room_alias_name": name, "preset": "public_chat" });
    alice.post("/v3/createRoom", plan).await.unwrap();
    Client::register(url, &name).await;
    alice.log_in_again().await.unwrap();
    let data = format!("/v3/user/{}/account_data/com.example", alice.user_id);
    alice.put(&data, json!({ "round": round })).await.unwrap();
}

/// Every message that was answered is there, once, and no other.
async fn check(client: &Client, room: &str, made: &HashMap<String, String>) {
    let stored = client.history(room).await;
    let mut seen = HashSet::new();
    for (event_id, text) in &stored {
        assert_eq!(made.get(text), Some(event_id), "{text} was refused");
        assert!(seen.insert(text), "{text} is there twice");
    }
    assert_eq!(seen.len(), made.len(), "a message is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_is_full_writers_are_refused_and_afterwards_all_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let Some(command) = command(&small_disk(KIB), &data, PARLEY) else {
        return;
    };
    let program = Program::start_by(command, folder.path()).await;
    let disk = Disk::of(&program, &data);
    let url = program.url();
    let mut clients = Vec::new();
    for writer in 0..WRITERS {
        clients.push(Client::register(&url, &format!("writer{writer}")).await);
    }
    let plan = json!({ "preset": "public_chat" });
    let answer = clients[0].post("/v3/createRoom", plan).await.unwrap();
    let room = answer["room_id"].as_str().unwrap().to_owned();
    for client in &clients[1..] {
        let path = format!("/v3/rooms/{room}/join");
        client.post(&path, json!({})).await.unwrap();
    }
    let since = clients[1].get("/v3/sync?timeout=0").await.unwrap();
    let mut made = HashMap::new();
    for round in 0..ROUNDS {
        disk.fill();
        let mut tasks = Vec::new();
        for (writer, client) in clients.iter().enumerate() {
            let name = format!("{round}-{writer}");
            tasks.push(tokio::spawn(send_until_refused(
                client.clone(),
                room.clone(),
                name,
            )));
        }
        let mut refused = Vec::new();
        for (writer, task) in tasks.into_iter().enumerate() {
            let answers = task.await.unwrap();
            made.extend(answers.made);
            refused.extend(answers.refused.into_iter().map(|text| (writer, text)));
        }
        check(&clients[0], &room, &made).await;
        nothing_is_half_made(&clients, &url, &room, round).await;
        disk.free();
        // The same transactions again: they weren't made, so they are made now.
        for (writer, text) in refused {
            let event_id = send(&clients[writer], &room, &text).await.unwrap();
            made.insert(text, event_id);
        }
        all_is_made_now(&clients, &url, round).await;
        check(&clients[0], &room, &made).await;
    }
    disk.fill();
    println!("{} messages were made", made.len());
    disk.kill(program, &data);
    fs::remove_file(data.join("fill")).unwrap();
    let program = Program::start(folder.path()).await;
    let client = clients[1].at(&program.url());
    check(&client, &room, &made).await;
    let since = since["next_batch"].as_str().unwrap();
    let path = format!("/v3/sync?timeout=0&since={since}");
    client.get(&path).await.unwrap();
}
