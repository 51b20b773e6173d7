//! Somebody joins a large room that only another server is in: how soon they can write, and how soon their server knows
//! everybody who is there.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::Instant;

use super::{join_by, server_of};
use crate::{
    answers::{self, JoinedMembers},
    bench::{Bench, User, send_message},
    http::{Client, Failure, escape},
    measure::{Meter, Recorder},
    options::Name,
    report::{Figure, Outcome, Title},
};

/// After what time it's given up to wait for all members.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at who is there.
const LOOK: Duration = Duration::from_millis(50);

/// Fills a room on one server and has one user of the other join it.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let options = &bench.options.federation;
    let peer = bench.of_peer()?;
    let members = bench.make_users(options.federation_members).await?;
    let mut client = bench.target.client();
    let room = bench.make_room(&mut client, &members[0]).await?;
    bench.join_all(&room, &members[1..]).await?;
    let joiner = peer.make_users(1).await?.remove(0);
    let server = server_of(bench, &members[0]).await?;
    bench.settle().await;

    bench.say("measuring");
    let mut client = peer.target.client();
    let recorder = Recorder::from_now()?;
    let meter = Meter::start(&peer.watched)?;
    let begun = Instant::now();
    join_by(&mut client, &joiner, &room, &server).await?;
    let joined = begun.elapsed();
    send_message(&mut client, &joiner, &room, 0).await?;
    let usable = begun.elapsed();
    recorder.lasted(usable);
    let known = wait_for_members(&mut client, &joiner, &room, members.len() + 1).await?;
    let complete = begun.elapsed();
    let reading = meter.read()?;

    let parameters = [("members", Value::from(members.len()))];
    let title = Title::new(Name::FederationJoin, "join", parameters);
    let mut outcome = Outcome::new(&peer, title, &recorder.tally(), reading)?;
    outcome.rate_per_second = None;
    outcome.figures.extend([
        Figure::less("until the join is answered", joined.as_secs_f64(), "s"),
        Figure::less("until a message is answered", usable.as_secs_f64(), "s"),
        Figure::less("until all members are known", complete.as_secs_f64(), "s"),
    ]);
    if let Some(peak) = peer.watched.peak_mib()? {
        outcome
            .figures
            .push(Figure::less("most memory so far", peak, "MiB"));
    }
    if known != members.len() + 1 {
        outcome.problems.push(format!(
            "{known} members are known, and {} are there",
            members.len() + 1
        ));
    }
    Ok(outcome)
}

/// Waits until the joiner's server knows so many members; gives how many it knows in the end.
async fn wait_for_members(
    client: &mut Client,
    joiner: &User,
    room: &str,
    expected: usize,
) -> Result<usize> {
    let until = Instant::now() + PATIENCE;
    loop {
        let path = format!("/_matrix/client/v3/rooms/{}/joined_members", escape(room));
        let known = match client.get(Some(&joiner.token), path).await {
            Ok(answer) => {
                let members: JoinedMembers<'_> = answers::read(&answer, "GET /joined_members")?;
                members.joined.len()
            }
            // A server may wait for them itself, and not for ever.
            Err(Failure::Status { status, .. }) if status.is_server_error() => 0,
            Err(failure) => return Err(failure.into()),
        };
        if known >= expected || Instant::now() > until {
            return Ok(known);
        }
        tokio::time::sleep(LOOK).await;
    }
}
