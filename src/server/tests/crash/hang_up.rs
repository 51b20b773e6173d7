//! Clients that go away in the middle of a request: what they asked for happened wholly or not at all.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    client::{Client, No},
    program::Program,
};

/// How often each thing is asked for.
const TIMES: usize = 60;
/// How long a client waits at most before it goes away, in microseconds: about as long as an answer takes.
const LONGEST: u64 = 6_000;

/// Sends requests and goes away.
struct Rude<'a> {
    address: &'a str,
    random: StdRng,
}

impl Rude<'_> {
    /// Sends a request, without its last byte if it is to be cut short, and hangs up.
    async fn ask(&mut self, token: &str, method: &str, path: &str, body: &Value, whole: bool) {
        let body = body.to_string();
        let mut request = format!(
            "{method} /_matrix/client{path} HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if !whole {
            request.pop();
        }
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let wait = Duration::from_micros(self.random.random_range(0..LONGEST));
        tokio::time::sleep(wait).await;
    }
}

/// What went on in the test.
struct Scene<'a> {
    rude: Rude<'a>,
    url: String,
    alice: Client,
    bob: Client,
    room: String,
}

async fn scene(program: &Program) -> Scene<'_> {
    let seed = rand::rng().random();
    println!("the seed is {seed}");
    let url = program.url();
    let alice = Client::register(&url, "alice").await;
    let bob = Client::register(&url, "bob").await;
    let answer = alice.post("/v3/createRoom", json!({})).await.unwrap();
    Scene {
        rude: Rude {
            address: program.address(),
            random: StdRng::seed_from_u64(seed),
        },
        url,
        alice,
        bob,
        room: answer["room_id"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test]
async fn a_message_is_sent_once_or_not_and_never_if_its_request_was_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path()).await;
    let mut scene = scene(&program).await;
    let path = |text: &str| format!("/v3/rooms/{}/send/m.room.message/{text}", scene.room);
    let content = |text: &str| json!({ "msgtype": "m.text", "body": text });
    let token = scene.alice.token.clone();
    for number in 0..TIMES {
        for (name, whole) in [("whole", true), ("cut", false)] {
            let text = format!("{name}-{number}");
            let rude = &mut scene.rude;
            rude.ask(&token, "PUT", &path(&text), &content(&text), whole)
                .await;
        }
    }
    let mut made = Vec::new();
    for number in 0..TIMES {
        let text = format!("whole-{number}");
        let answer = scene.alice.put(&path(&text), content(&text)).await.unwrap();
        made.push((answer["event_id"].as_str().unwrap().to_owned(), text));
    }
    let mut stored = scene.alice.history(&scene.room).await;
    made.sort_unstable();
    stored.sort_unstable();
    assert_eq!(stored, made);
}

#[tokio::test]
async fn a_room_is_made_with_all_that_belongs_to_it_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path()).await;
    let mut scene = scene(&program).await;
    let plan = |number: usize| {
        json!({
            "room_alias_name": format!("room{number}"),
            "name": format!("Room {number}"),
            "invite": [scene.bob.user_id],
        })
    };
    let token = scene.alice.token.clone();
    for number in 0..TIMES {
        let rude = &mut scene.rude;
        rude.ask(&token, "POST", "/v3/createRoom", &plan(number), true)
            .await;
    }
    let mut made_at_once = 0;
    for number in 0..TIMES {
        // Either it is there, or it can be made now.
        match scene.alice.post("/v3/createRoom", plan(number)).await {
            Ok(_) => {}
            Err(No::Refused(status)) => {
                assert_eq!(status, 400);
                made_at_once += 1;
            }
            Err(No::Gone) => panic!("the program is gone"),
        }
        let path = format!("/v3/directory/room/%23room{number}:localhost");
        let answer = scene.alice.get(&path).await.unwrap();
        let room = answer["room_id"].as_str().unwrap();
        let path = format!("/v3/rooms/{room}/state/m.room.name/");
        let name = scene.alice.get(&path).await.unwrap();
        assert_eq!(name["name"], format!("Room {number}"));
        let path = format!("/v3/rooms/{room}/state/m.room.member/{}", scene.bob.user_id);
        let member = scene.alice.get(&path).await.unwrap();
        assert_eq!(member["membership"], "invite");
    }
    println!("{made_at_once} of {TIMES} rooms were made for clients that had gone");
    let told = scene.bob.get("/v3/sync?timeout=0").await.unwrap();
    let invited = told["rooms"]["invite"].as_object().unwrap();
    assert_eq!(invited.len(), TIMES, "no room is there twice");
}

#[tokio::test]
async fn who_was_logged_out_is_out_everywhere_and_who_was_not_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path()).await;
    let mut scene = scene(&program).await;
    let mut devices = Vec::new();
    for _ in 0..TIMES {
        let device = scene.alice.log_in_again().await.unwrap();
        // The token is remembered from here on.
        device.get("/v3/account/whoami").await.unwrap();
        devices.push(device);
    }
    for device in &devices {
        let rude = &mut scene.rude;
        rude.ask(&device.token, "POST", "/v3/logout", &json!({}), true)
            .await;
    }
    let settled = scene.alice.get("/v3/devices").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let listed = scene.alice.get("/v3/devices").await.unwrap();
    let count = |answer: &Value| answer["devices"].as_array().unwrap().len();
    println!(
        "{} devices are left, at first {}",
        count(&listed),
        count(&settled)
    );
    for device in devices {
        let known = listed["devices"].as_array().unwrap().iter();
        let is_listed = known
            .clone()
            .any(|known| known["device_id"] == device.device_id.as_str());
        let works = device.get("/v3/account/whoami").await.is_ok();
        assert_eq!(works, is_listed, "{}", device.device_id);
    }
}

#[tokio::test]
async fn an_account_is_there_or_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path()).await;
    let mut scene = scene(&program).await;
    for number in 0..TIMES / 4 {
        let body = json!({
            "auth": { "type": "m.login.dummy" },
            "username": format!("user{number}"),
            "password": super::client::PASSWORD,
        });
        let rude = &mut scene.rude;
        rude.ask("", "POST", "/v3/register", &body, true).await;
    }
    for number in 0..TIMES / 4 {
        let name = format!("user{number}");
        let made = Client::try_register(&scene.url, &name).await;
        let mut nobody = Client::nobody(&scene.url);
        nobody.user_id = format!("@{name}:localhost");
        let device = nobody.log_in_again().await.unwrap();
        let answer = device.get("/v3/account/whoami").await.unwrap();
        assert_eq!(answer["user_id"], nobody.user_id);
        if let Err(no) = made {
            assert_eq!(no, No::Refused(reqwest::StatusCode::BAD_REQUEST));
        }
    }
}
