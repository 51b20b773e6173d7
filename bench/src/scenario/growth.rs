//! What a message costs as a server gets more rooms, and as a room gets more members: a curve that should be flat.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::send::send;
use crate::{
    bench::{Bench, User, join},
    options::Name,
    report::{Figure, Outcome},
};

/// Who sends, all at once, at every step.
const SENDERS: usize = 8;

/// Measures at each step: first with so many rooms, which the senders write in by turns, then with so many members of a
/// room, none of whom is there.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let mut steps = bench.options.growth.growth_steps.clone();
    steps.sort_unstable();
    steps.dedup();
    let mut figures = Vec::new();
    let by_rooms = rooms(bench, &steps, &mut figures).await?;
    let by_members = members(bench, &steps, &mut figures).await?;
    let mut outcome = by_members;
    outcome.problems.extend(by_rooms.problems);
    for (kind, count) in by_rooms.errors {
        *outcome.errors.entry(kind).or_default() += count;
    }
    let steps: Vec<Value> = steps.into_iter().map(Value::from).collect();
    outcome.parameters.insert("steps".to_owned(), steps.into());
    outcome.figures.extend(figures);
    Ok(outcome)
}

async fn rooms(bench: &Bench, steps: &[usize], figures: &mut Vec<Figure>) -> Result<Outcome> {
    let senders = bench.make_users(SENDERS).await?;
    let mut rooms: Vec<Vec<String>> = vec![Vec::new(); SENDERS];
    let mut last = None;
    for step in steps {
        for (sender, rooms) in senders.iter().zip(&mut rooms) {
            let missing = step.div_ceil(SENDERS).saturating_sub(rooms.len());
            let creators = vec![sender.clone(); missing];
            rooms.extend(bench.make_rooms(&creators).await?);
        }
        bench.settle().await;
        let all = tokens(&senders).zip(rooms.clone()).collect();
        let outcome = send(bench, Name::Growth, all).await?;
        note(figures, &outcome, &format!("{step} rooms"));
        last = Some(outcome);
    }
    last.context("no step")
}

async fn members(bench: &Bench, steps: &[usize], figures: &mut Vec<Figure>) -> Result<Outcome> {
    let senders = bench.make_users(SENDERS).await?;
    let room = bench
        .make_room(&mut bench.target.client(), &senders[0])
        .await?;
    bench.join_all(&room, &senders[1..]).await?;
    let mut members = SENDERS;
    let mut last = None;
    for step in steps {
        let new = bench.make_users(step.saturating_sub(members)).await?;
        members += new.len();
        let what = format!("letting {} more join", new.len());
        let width = bench.options.preparing;
        bench
            .in_parallel(&what, width, &new, async |client, user| {
                Ok(join(client, user, &room).await?)
            })
            .await?;
        bench.settle().await;
        let all = tokens(&senders)
            .map(|token| (token, vec![room.clone()]))
            .collect();
        let outcome = send(bench, Name::Growth, all).await?;
        note(figures, &outcome, &format!("{step} members"));
        last = Some(outcome);
    }
    last.context("no step")
}

fn tokens(senders: &[User]) -> impl Iterator<Item = http::HeaderValue> {
    senders.iter().map(|sender| sender.token.clone())
}

fn note(figures: &mut Vec<Figure>, outcome: &Outcome, with: &str) {
    if let Some(rate) = outcome.rate_per_second {
        figures.push(Figure::more(format!("sends with {with}"), rate, "/s"));
    }
    if let Some(cpu) = outcome.cpu_ms_per_operation {
        figures.push(Figure::less(
            format!("CPU of a send with {with}"),
            cpu,
            "ms",
        ));
    }
}
