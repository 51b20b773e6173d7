//! From the start of the process to the first answer.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{
    bench::Bench,
    measure::{Meter, Recorder},
    options::Name,
    process::Watch,
    report::{Figure, Outcome, Title},
    server::Server,
};

/// Starts the server some times and gives the last one, which goes on running and is watched from then on.
pub(crate) async fn start(bench: &mut Bench, command: &str) -> Result<(Outcome, Server)> {
    let starts = bench.options.start.starts;
    let recorder = Recorder::from_now()?;
    let unwatched = bench.watched.clone();
    let mut cpu_to_answer = 0.0;
    for number in 1..=starts {
        bench.say(&format!("start {number} of {starts}"));
        let (server, took) = Server::start(command, &bench.target).await?;
        recorder.lasted(took);
        cpu_to_answer += Watch::new(&[server.pid()])?.cpu()?.as_secs_f64() * 1e3;
        if number < starts {
            server.stop().await?;
            continue;
        }
        bench.watched = unwatched.clone();
        bench.watched.add(server.pid());
        let idle = measure_idle(bench, &recorder).await;
        let mut outcome = match idle {
            Ok(outcome) => outcome,
            Err(error) => {
                server.stop().await?;
                return Err(error);
            }
        };
        let each = cpu_to_answer / starts as f64;
        outcome
            .figures
            .push(Figure::less("CPU until the first answer", each, "ms"));
        return Ok((outcome, server));
    }
    bail!("--starts must be at least 1")
}

async fn measure_idle(bench: &Bench, recorder: &Recorder) -> Result<Outcome> {
    bench.settle().await;
    let meter = Meter::start(&bench.watched)?;
    bench.settle().await;
    let reading = meter.read()?;
    let parameters = [("starts", Value::from(bench.options.start.starts))];
    let title = Title::new(Name::Start, "start", parameters);
    let mut outcome = Outcome::new(bench, title, &recorder.tally(), reading)?;
    outcome.rate_per_second = None;
    outcome.cpu_ms_per_operation = None;
    if let Some(cpu) = reading.cpu {
        let share = cpu.as_secs_f64() * 1e3 / outcome.seconds;
        outcome
            .figures
            .push(Figure::less("CPU when idle", share, "ms/s"));
    }
    Ok(outcome)
}
