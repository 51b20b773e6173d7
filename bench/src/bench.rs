//! What every scenario needs: the server, its users and rooms, the watched processes, and progress on stderr.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::future::try_join_all;
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    answers::{self, Created, LoggedIn},
    http::{Client, Failure, Target, escape},
    options::Options,
    process::Watch,
    register::Registration,
};

/// A run of the load program against one server.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) target: Target,
    /// The server's processes, as far as they are known.
    pub(crate) watched: Watch,
    /// Distinguishes the users of this run from those of earlier ones.
    run: String,
    users: AtomicUsize,
}

/// A user with one device.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) localpart: String,
    pub(crate) password: String,
    /// The value of the `Authorization` header.
    pub(crate) token: HeaderValue,
}

/// Tells on stderr how far a long preparation has come, at most every five seconds.
struct Progress<'a> {
    what: &'a str,
    total: usize,
    done: usize,
    told: Instant,
}

impl Bench {
    /// `run` must differ from that of every earlier run against the same server.
    pub(crate) fn new(options: Options, run: String) -> Result<Self> {
        let target = Target::parse(&options.url, options.timeout)?;
        let watched = Watch::new(&options.pids)?;
        Ok(Self {
            options,
            target,
            watched,
            run,
            users: AtomicUsize::new(0),
        })
    }

    /// A run against the other server, which is the one that is measured then.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn of_peer(&self) -> Result<Self> {
        let mut options = self.options.clone();
        let url = options.federation.peer_url.clone();
        options.url = url.context("it needs another homeserver: give --peer-url")?;
        options.pids = options.federation.peer_pids.clone();
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        Self::new(options, format!("{}-{number}", self.run))
    }

    /// Makes users, each logged in with one device.
    pub(crate) async fn make_users(&self, count: usize) -> Result<Vec<User>> {
        let registration = Registration::new(self.options.shared_secret.as_deref());
        let what = format!("making {count} users");
        self.in_parallel(
            &what,
            self.options.preparing,
            0..count,
            async |client, _| {
                let localpart = format!(
                    "bench-{}-{}",
                    self.run,
                    self.users.fetch_add(1, Ordering::Relaxed)
                );
                let password = format!("password of {localpart}");
                let token = registration.register(client, &localpart, &password).await?;
                Ok(User {
                    localpart,
                    password,
                    token,
                })
            },
        )
        .await
    }

    /// Does something with each item, several at once on a connection each, and gives the results in the order
    /// of the items.
    pub(crate) async fn in_parallel<T, R>(
        &self,
        what: &str,
        width: usize,
        items: impl IntoIterator<Item = T>,
        work: impl AsyncFn(&mut Client, T) -> Result<R>,
    ) -> Result<Vec<R>> {
        let items: Vec<T> = items.into_iter().collect();
        let progress = RefCell::new(Progress::new(what, items.len()));
        let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
        let slots = RefCell::new(items.into_iter().zip(&mut results));
        let workers = (0..width).map(async |_| {
            let mut client = self.target.client();
            loop {
                let next = slots.borrow_mut().next();
                let Some((item, slot)) = next else {
                    return Ok::<_, anyhow::Error>(());
                };
                *slot = Some(work(&mut client, item).await?);
                progress.borrow_mut().one_more();
            }
        });
        try_join_all(workers)
            .await
            .with_context(|| format!("while {what}"))?;
        drop(slots);
        Ok(results.into_iter().flatten().collect())
    }

    /// Makes a public room.
    pub(crate) async fn make_room(&self, client: &mut Client, creator: &User) -> Result<String> {
        let mut request = json!({ "preset": "public_chat" });
        if let Some(version) = &self.options.room_version {
            request["room_version"] = Value::from(version.as_str());
        }
        let path = "/_matrix/client/v3/createRoom".to_owned();
        let answer = client
            .post(Some(&creator.token), path, request.to_string())
            .await?;
        Ok(answers::read::<Created<'_>>(&answer, "POST /createRoom")?
            .room_id
            .into_owned())
    }

    /// Makes each of the users the creator of a room.
    pub(crate) async fn make_rooms(&self, creators: &[User]) -> Result<Vec<String>> {
        let what = format!("making {} rooms", creators.len());
        self.in_parallel(
            &what,
            self.options.preparing,
            creators,
            async |client, creator| self.make_room(client, creator).await,
        )
        .await
    }

    /// Lets the users join a public room.
    pub(crate) async fn join_all(&self, room_id: &str, users: &[User]) -> Result<()> {
        let what = format!("letting {} users join a room", users.len());
        self.in_parallel(
            &what,
            self.options.preparing,
            users,
            async |client, user| Ok(join(client, user, room_id).await?),
        )
        .await?;
        Ok(())
    }

    /// Sends numbered messages into a room, several at once and hence not quite in their order.
    pub(crate) async fn fill_room(
        &self,
        room_id: &str,
        sender: &User,
        messages: usize,
    ) -> Result<()> {
        let what = format!("sending {messages} messages into a room");
        self.in_parallel(
            &what,
            self.options.preparing,
            0..messages,
            async |client, number| send_message(client, sender, room_id, number).await,
        )
        .await?;
        Ok(())
    }

    /// Logs in with a new device and gives the value of its `Authorization` header.
    pub(crate) async fn log_in(&self, client: &mut Client, user: &User) -> Result<HeaderValue> {
        let request = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": user.localpart },
            "password": user.password,
        });
        let answer = client
            .post(
                None,
                "/_matrix/client/v3/login".to_owned(),
                request.to_string(),
            )
            .await?;
        bearer(&answers::read::<LoggedIn<'_>>(&answer, "POST /login")?.access_token)
    }

    /// Waits for the server to become quiet.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(self.options.settle).await;
    }

    /// Says something about the progress on stderr.
    pub(crate) fn say(&self, what: &str) {
        say(what);
    }
}

/// Says something about the progress on stderr.
pub(crate) fn say(what: &str) {
    eprintln!("  {what}");
}

/// Joins a public room.
pub(crate) async fn join(client: &mut Client, user: &User, room_id: &str) -> Result<(), Failure> {
    let path = format!("/_matrix/client/v3/rooms/{}/join", escape(room_id));
    client.post(Some(&user.token), path, "{}").await.map(drop)
}

/// Sends a message that can be recognised by its number.
pub(crate) async fn send_message(
    client: &mut Client,
    sender: &User,
    room_id: &str,
    number: usize,
) -> Result<()> {
    numbered_message(client, sender, room_id, number).await?;
    Ok(())
}

/// The same; gives the server's answer.
pub(crate) async fn numbered_message(
    client: &mut Client,
    sender: &User,
    room_id: &str,
    number: usize,
) -> Result<Bytes, Failure> {
    let room_id = escape(room_id);
    let path = format!("/_matrix/client/v3/rooms/{room_id}/send/m.room.message/bench-{number}");
    let body = json!({ "msgtype": "m.text", "body": answers::message(number) });
    client
        .put(Some(&sender.token), path, Bytes::from(body.to_string()))
        .await
}

/// The value of an `Authorization` header.
pub(crate) fn bearer(access_token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {access_token}"))
        .context("the server gave an access token that no header can hold")?;
    value.set_sensitive(true);
    Ok(value)
}

impl<'a> Progress<'a> {
    fn new(what: &'a str, total: usize) -> Self {
        say(what);
        Self {
            what,
            total,
            done: 0,
            told: Instant::now(),
        }
    }

    fn one_more(&mut self) {
        self.done += 1;
        if self.told.elapsed() > Duration::from_secs(5) && self.done < self.total {
            say(&format!("{}: {} of {}", self.what, self.done, self.total));
            self.told = Instant::now();
        }
    }
}
