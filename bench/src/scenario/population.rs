//! A server that is lived on: many people in many rooms with a long history, all of them waiting for news. How much memory
//! that takes.

use anyhow::Result;

use super::idle::wait;
use crate::{
    bench::{Bench, User, join, send_message},
    options::Name,
    report::{Figure, Outcome},
};

/// Members of each room.
const ROOM_SIZE: usize = 6;
/// Messages that are sent at once while the rooms are filled.
const SENDING: usize = 32;

/// Fills the rooms, and measures while everyone waits.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let options = &bench.options.population;
    let people = bench.make_users(options.people).await?;
    let creators: Vec<User> = people.iter().cycle().take(options.rooms).cloned().collect();
    let rooms = bench.make_rooms(&creators).await?;
    move_in(bench, &people, &rooms).await?;
    let messages = options.events.div_ceil(rooms.len());
    let what = format!("sending {} messages", messages * rooms.len());
    bench
        .in_parallel(
            &what,
            SENDING,
            rooms.iter().zip(&creators),
            async |client, (room, creator)| {
                for number in 0..messages {
                    send_message(client, creator, room, number).await?;
                }
                Ok(())
            },
        )
        .await?;
    let mut outcome = wait(bench, Name::Population, people).await?;
    for (name, value) in [
        ("rooms", options.rooms),
        ("events", messages * options.rooms),
    ] {
        outcome.parameters.insert(name.to_owned(), value.into());
    }
    if let Some(memory) = outcome.memory {
        let memory = Figure::less("memory while all wait", memory.mib(), "MiB");
        outcome.figures.push(memory);
    }
    Ok(outcome)
}

/// Gives each room its members: its creator, and those who come after them.
async fn move_in(bench: &Bench, people: &[User], rooms: &[String]) -> Result<()> {
    let moves = rooms.iter().enumerate().flat_map(|(number, room)| {
        let others = 1..ROOM_SIZE.min(people.len());
        // Another distance on each round, or the same people would be in all rooms together.
        let round = number / people.len() + 1;
        others.map(move |other| (room, &people[(number + other * round) % people.len()]))
    });
    let what = format!("moving into {} rooms", rooms.len());
    let width = bench.options.preparing;
    bench
        .in_parallel(&what, width, moves, async |client, (room, user)| {
            Ok(join(client, user, room).await?)
        })
        .await?;
    Ok(())
}
