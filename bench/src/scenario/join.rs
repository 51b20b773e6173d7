//! Many people join one public room: `POST /rooms/{roomId}/join`, which costs more with each member where a
//! server works through the whole membership.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    bench::{Bench, join},
    latency::Latencies,
    measure::{Meter, Recorder},
    options::Name,
    report::{Figure, Outcome, Title},
};

/// Some at once, until all have joined.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let options = &bench.options.join;
    let creator = bench.make_users(1).await?.remove(0);
    let room = bench
        .make_room(&mut bench.target.client(), &creator)
        .await?;
    let joiners = bench.make_users(options.joiners).await?;
    bench.settle().await;

    let recorder = Recorder::from_now()?;
    let meter = Meter::start(&bench.watched)?;
    let times = bench
        .in_parallel(
            "measuring",
            options.joining,
            &joiners,
            async |client, user| {
                let begun = Instant::now();
                match join(client, user, &room).await {
                    Ok(()) => recorder.success(begun, 1),
                    Err(failure) => recorder.failure(&failure),
                }
                Ok(begun.elapsed())
            },
        )
        .await?;
    let reading = meter.read()?;

    let tally = recorder.tally();
    if tally.operations == 0 {
        bail!("nobody could join; errors: {:?}", tally.errors);
    }
    let parameters = [
        ("joiners", Value::from(options.joiners)),
        ("joining", options.joining.into()),
    ];
    let title = Title::new(Name::Join, "join", parameters);
    let mut outcome = Outcome::new(bench, title, &tally, reading)?;
    let tenth = times.len().div_ceil(10);
    let (first, last) = (&times[..tenth], &times[times.len() - tenth..]);
    outcome
        .figures
        .push(Figure::less("p50 of the first tenth", median(first)?, "ms"));
    outcome
        .figures
        .push(Figure::less("p50 of the last tenth", median(last)?, "ms"));
    Ok(outcome)
}

/// In milliseconds.
fn median(times: &[Duration]) -> Result<f64> {
    let mut latencies = Latencies::new()?;
    for time in times {
        latencies.record(*time);
    }
    Ok(latencies.summary().map_or(0.0, |summary| summary.p50_ms))
}
