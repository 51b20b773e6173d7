//! What writers do, what they were answered, and whether it is there.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use serde_json::{Value, json};

use super::client::{Client, No};

/// Numbers of one round are below those of the next.
pub(crate) const ROUND: u64 = 1_000_000;

/// What is written over and over; the number of the writing stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    State,
    AccountData,
    RoomAccountData,
    DeviceName,
    Receipt,
    /// Joined or not, see [`is_join`].
    Membership,
}

/// Which writings of something there were.
#[derive(Clone, Copy, Debug, Default)]
struct Writings {
    /// The last that was asked for.
    asked: u64,
    /// The last that was answered, or that was found to stand there after a restart: one that is neither answered nor
    /// overwritten may still be what stands there after the next.
    answered: u64,
}

impl Writings {
    /// Whether a value may be what stands there.
    fn allow(self, number: u64) -> bool {
        (self.answered..=self.asked).contains(&number)
    }
}

/// What the server has answered for.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    /// By room, each writer's messages: the number in the text, and the event id.
    pub(crate) messages: HashMap<(String, usize), Vec<(u64, String)>>,
    /// Sync tokens of the first writer.
    pub(crate) tokens: Vec<String>,
    values: HashMap<(usize, Kind), Writings>,
    /// Devices that were logged in, and whose.
    pub(crate) devices: Vec<(usize, Client)>,
}

impl Promised {
    /// How often something was overwritten and answered for.
    pub(crate) fn kinds(&self) -> usize {
        self.values.values().filter(|one| one.answered > 0).count()
    }
}

/// Whether the writing of that number joined, or left.
fn is_join(number: u64) -> bool {
    number != 0 && (number / 7).is_multiple_of(2)
}

/// Somebody who writes.
pub(crate) struct Writer<'a> {
    pub(crate) index: usize,
    pub(crate) client: Client,
    pub(crate) room: &'a str,
    /// A room that writers join and leave.
    pub(crate) lobby: &'a str,
    pub(crate) promised: &'a Mutex<Promised>,
}

impl Writer<'_> {
    fn promised(&self) -> MutexGuard<'_, Promised> {
        self.promised.lock().unwrap()
    }

    /// Sends a message, and does one other thing.
    pub(crate) async fn work(&self, number: u64) -> Result<(), No> {
        let event_id = self.send(number).await?;
        let Self { room, lobby, .. } = self;
        let Client {
            user_id, device_id, ..
        } = &self.client;
        let value = json!({ "number": number });
        match number % 7 {
            0 => {
                let path = format!("/v3/rooms/{room}/state/com.example.number/{user_id}");
                self.put(Kind::State, number, &path, value).await
            }
            1 => {
                let path = format!("/v3/user/{user_id}/account_data/com.example.number");
                self.put(Kind::AccountData, number, &path, value).await
            }
            2 => {
                let path =
                    format!("/v3/user/{user_id}/rooms/{room}/account_data/com.example.number");
                self.put(Kind::RoomAccountData, number, &path, value).await
            }
            3 => {
                let name = json!({ "display_name": number.to_string() });
                let path = format!("/v3/devices/{device_id}");
                self.put(Kind::DeviceName, number, &path, name).await
            }
            4 => {
                let path = format!("/v3/rooms/{room}/receipt/m.read/{event_id}");
                self.post(Kind::Receipt, number, &path).await
            }
            5 => {
                let action = if is_join(number) { "join" } else { "leave" };
                let path = format!("/v3/rooms/{lobby}/{action}");
                self.post(Kind::Membership, number, &path).await
            }
            // Once in a round: there is a limit to devices.
            _ if number % ROUND < 7 => {
                let device = self.client.log_in_again().await?;
                self.promised().devices.push((self.index, device));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn send(&self, number: u64) -> Result<String, No> {
        let room = self.room;
        let path = format!("/v3/rooms/{room}/send/m.room.message/{number}");
        let text = format!("{} {number}", self.index);
        let body = json!({ "msgtype": "m.text", "body": text });
        let answer = self.client.put(&path, body).await?;
        let event_id = answer["event_id"].as_str().unwrap().to_owned();
        self.promised()
            .messages
            .entry((room.to_owned(), self.index))
            .or_default()
            .push((number, event_id.clone()));
        Ok(event_id)
    }

    async fn put(&self, kind: Kind, number: u64, path: &str, body: Value) -> Result<(), No> {
        self.asked(kind, number);
        self.client.put(path, body).await?;
        self.answered(kind, number);
        Ok(())
    }

    async fn post(&self, kind: Kind, number: u64, path: &str) -> Result<(), No> {
        self.asked(kind, number);
        self.client.post(path, json!({})).await?;
        self.answered(kind, number);
        Ok(())
    }

    fn asked(&self, kind: Kind, number: u64) {
        let mut promised = self.promised();
        promised.values.entry((self.index, kind)).or_default().asked = number;
    }

    fn answered(&self, kind: Kind, number: u64) {
        let mut promised = self.promised();
        let writings = promised.values.entry((self.index, kind)).or_default();
        writings.answered = number;
    }

    /// What was answered for is there, or something newer that was asked for.
    pub(crate) async fn check(&self) {
        let Self { room, lobby, .. } = self;
        let user_id = &self.client.user_id;
        let all = self.client.get("/v3/sync?timeout=0").await.unwrap();
        let told = &all["rooms"]["join"][*room];
        let number = |content: &Value| content["number"].as_u64().unwrap();
        let data = content(&all["account_data"]["events"], "com.example.number");
        self.expect(Kind::AccountData, data.map(number));
        let data = content(&told["account_data"]["events"], "com.example.number");
        self.expect(Kind::RoomAccountData, data.map(number));
        let path = format!("/v3/rooms/{room}/state/com.example.number/{user_id}");
        let state = self.client.get(&path).await.ok();
        self.expect(Kind::State, state.as_ref().map(number));
        self.check_receipt(told);
        let joined = self.client.get("/v3/joined_rooms").await.unwrap();
        let joined = joined["joined_rooms"].as_array().unwrap();
        let is_joined = joined.iter().any(|id| id == lobby);
        let writings = self.writings(Kind::Membership);
        assert!(
            [writings.answered, writings.asked]
                .into_iter()
                .any(|number| is_join(number) == is_joined),
            "{user_id} joined: {is_joined}, but {writings:?}"
        );
        if is_join(writings.asked) == is_joined {
            self.answered(Kind::Membership, writings.asked);
        }
        self.check_devices().await;
    }

    fn check_receipt(&self, told: &Value) {
        let receipts = content(&told["ephemeral"]["events"], "m.receipt");
        let events = receipts.and_then(Value::as_object).into_iter().flatten();
        let mut own = events.filter(|(_, read)| read["m.read"].get(&self.client.user_id).is_some());
        let event_id = own.next().map(|(event_id, _)| event_id.as_str());
        let number = event_id.map(|event_id| {
            let promised = self.promised();
            let sent = &promised.messages[&(self.room.to_owned(), self.index)];
            sent.iter().find(|(_, id)| id == event_id).unwrap().0
        });
        self.expect(Kind::Receipt, number);
    }

    async fn check_devices(&self) {
        let answer = self.client.get("/v3/devices").await.unwrap();
        let devices = answer["devices"].as_array().unwrap();
        let is_own = |device: &&Value| device["device_id"] == self.client.device_id.as_str();
        let own = devices.iter().find(is_own).unwrap();
        let name = own["display_name"].as_str();
        self.expect(Kind::DeviceName, name.map(|name| name.parse().unwrap()));
        let promised = self.promised().devices.clone();
        let of_user = promised.iter().filter(|(index, _)| *index == self.index);
        for (count, (_, device)) in of_user.rev().enumerate() {
            let is_it = |known: &Value| known["device_id"] == device.device_id.as_str();
            assert!(devices.iter().any(is_it), "{} is lost", device.device_id);
            if count < 3 {
                let mut client = self.client.clone();
                client.token.clone_from(&device.token);
                client.get("/v3/account/whoami").await.unwrap();
            }
        }
    }

    fn writings(&self, kind: Kind) -> Writings {
        let promised = self.promised();
        let writings = promised.values.get(&(self.index, kind));
        writings.copied().unwrap_or_default()
    }

    fn expect(&self, kind: Kind, found: Option<u64>) {
        let writings = self.writings(kind);
        let number = found.unwrap_or_default();
        assert!(
            writings.allow(number),
            "{kind:?} of writer {}: {number} is there, but {writings:?}",
            self.index
        );
        self.answered(kind, number);
    }
}

/// The content of an event of a type in a list.
fn content<'a>(events: &'a Value, event_type: &str) -> Option<&'a Value> {
    let mut events = events.as_array()?.iter();
    let event = events.find(|event| event["type"] == event_type)?;
    Some(&event["content"])
}
