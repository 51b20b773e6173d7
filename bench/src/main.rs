//! `parley-bench` measures a Matrix homeserver over HTTP; `bench/README.md` explains its scenarios and results.

mod answers;
mod bench;
#[cfg(test)]
mod fake;
mod http;
mod latency;
mod measure;
mod options;
mod process;
mod register;
mod report;
mod scenario;
mod server;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;

use crate::{
    bench::{Bench, say},
    options::{Name, Options},
    report::{Document, Outcome},
    server::Server,
};

// One thread: it's enough for tens of thousands of requests each second, and leaves the rest to the server.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("parley-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all went well.
async fn run(options: Options) -> Result<bool> {
    raise_file_limit();
    // Read first: a mistyped name should be noticed before minutes of measuring.
    let earlier = options.compare.as_deref().map(Document::read).transpose()?;
    let run = format!("{:x}", report::now().as_millis());
    let mut bench = Bench::new(options, run)?;
    let mut server = None;
    let measured = tokio::select! {
        measured = measure(&mut bench, &mut server) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Some(server) = server {
        server.stop().await?;
    }
    let (document, failed) = measured?;
    println!("{}", table::result(&document));
    if let Some(earlier) = earlier {
        println!("{}", table::comparison(&document, &earlier));
    }
    if let Some(path) = &bench.options.json {
        document.write(path)?;
    }
    Ok(!failed && document.outcomes.iter().all(Outcome::is_good))
}

/// Runs the chosen scenarios; also gives whether one of them could not be run to its end.
async fn measure(bench: &mut Bench, server: &mut Option<Server>) -> Result<(Document, bool)> {
    let mut outcomes = Vec::new();
    let mut failed = false;
    let chosen = bench.options.chosen();
    if let Some(command) = bench.options.start_command.clone() {
        eprintln!("{}", Name::Start.as_str());
        let (outcome, started) = scenario::start(bench, &command).await?;
        outcomes.push(outcome);
        *server = Some(started);
    }
    let label = label(bench).await?;
    for name in chosen
        .into_iter()
        .filter(|name| *name != Name::Start || server.is_none())
    {
        eprintln!("{}", name.as_str());
        match scenario::run(bench, name).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                say(&format!("FAILED: {error:#}"));
                failed = true;
            }
        }
    }
    Ok((Document::new(label, outcomes), failed))
}

/// What the server is called: `--label`, or what it says of itself. An error if it doesn't answer at all.
async fn label(bench: &Bench) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        server: Server,
    }
    #[derive(Deserialize)]
    struct Server {
        name: String,
        version: String,
    }
    let mut client = bench.target.client();
    let versions = client
        .get(None, "/_matrix/client/versions".to_owned())
        .await;
    versions.with_context(|| format!("no homeserver answers at {}", bench.options.url))?;
    if let Some(label) = &bench.options.label {
        return Ok(label.clone());
    }
    let version = client
        .get(None, "/_matrix/federation/v1/version".to_owned())
        .await;
    let said = version
        .ok()
        .and_then(|answer| answers::read::<Answer>(&answer, "its version").ok());
    Ok(said.map_or("server".to_owned(), |Answer { server }| {
        format!("{} {}", server.name, server.version)
    }))
}

/// A poll is a file, and the usual limit of 1,024 is soft. If it can't be raised, `connection` errors will tell.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
