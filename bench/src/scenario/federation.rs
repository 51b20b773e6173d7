//! Two homeservers that federate: `--url` has the rooms, `--peer-url` comes into them.

mod join;
mod send;

use anyhow::{Context as _, Result};

pub(crate) use self::{join::run as join, send::run as send};
use crate::{
    answers::{self, WhoAmI},
    bench::{Bench, User},
    http::{Client, Failure, escape},
};

/// The name of the server that a user is of.
async fn server_of(bench: &Bench, user: &User) -> Result<String> {
    let mut client = bench.target.client();
    let path = "/_matrix/client/v3/account/whoami".to_owned();
    let answer = client.get(Some(&user.token), path).await?;
    let user_id = answers::read::<WhoAmI<'_>>(&answer, "GET /account/whoami")?.user_id;
    let (_, server) = user_id
        .split_once(':')
        .context("the server gave a user ID without a server name")?;
    Ok(server.to_owned())
}

/// Joins a room by another server.
async fn join_by(
    client: &mut Client,
    user: &User,
    room_id: &str,
    server: &str,
) -> Result<(), Failure> {
    let (room, via) = (escape(room_id), escape(server));
    let path = format!("/_matrix/client/v3/join/{room}?via={via}&server_name={via}");
    client.post(Some(&user.token), path, "{}").await.map(drop)
}
