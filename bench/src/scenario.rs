//! The scenarios: each makes its own users and rooms, then measures.

mod federation;
mod growth;
mod idle;
mod initial_sync;
mod join;
mod long_poll;
mod messages;
mod population;
mod send;
mod start;
#[cfg(test)]
mod tests;

use anyhow::Result;

pub(crate) use self::start::start;
use crate::{bench::Bench, options::Name, report::Outcome};

/// Runs a scenario; [`start`] runs before all others and isn't one that can be run here.
pub(crate) async fn run(bench: &Bench, name: Name) -> Result<Outcome> {
    match name {
        Name::Start => anyhow::bail!("start needs --start-command"),
        Name::SendOwnRooms => send::own_rooms(bench).await,
        Name::SendOneRoom => send::one_room(bench).await,
        Name::LongPoll => long_poll::run(bench).await,
        Name::Messages => messages::run(bench).await,
        Name::Join => join::run(bench).await,
        Name::Idle => idle::run(bench).await,
        Name::InitialSync => initial_sync::run(bench).await,
        Name::Growth => growth::run(bench).await,
        Name::Population => population::run(bench).await,
        Name::FederationJoin => federation::join(bench).await,
        Name::FederationSend => federation::send(bench).await,
    }
}

/// The path of a /sync that isn't seen as presence: who polls for the load program isn't 'online' to others,
/// which would be work beside what is measured. The filter is given escaped, which is done once for many polls.
fn sync_path(since: Option<&str>, wait: std::time::Duration, filter: &str) -> String {
    let timeout = wait.as_millis();
    let mut path =
        format!("/_matrix/client/v3/sync?set_presence=offline&timeout={timeout}&filter={filter}");
    if let Some(since) = since {
        path.push_str("&since=");
        path.push_str(&crate::http::escape(since));
    }
    path
}
