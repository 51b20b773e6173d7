//! `parley-simulation`: runs as many seeds as wanted. Exits with 1 if one of them fails.

use std::{
    io,
    process::{Command, ExitCode, Output},
    sync::atomic::{AtomicU64, Ordering},
};

use clap::Parser;
use parley_simulation::{Outcome, Plan, run};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Runs several homeservers on a bad network and demands that they agree in the end.
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, each the one before and 1.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many servers, 5 at most; by default 3 to 5, as the seed says.
    #[arg(long)]
    servers: Option<usize>,
    /// How often a user does something in each run.
    #[arg(long, default_value_t = 60)]
    steps: usize,
    /// Runs at once.
    #[arg(long, default_value_t = threads())]
    threads: usize,
    /// Prints what happened, also where all is well.
    #[arg(long)]
    verbose: bool,
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let is_well = match options.seeds {
        1 => one(&options),
        _ => all(&options),
    };
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs the seed. Whether all is well.
fn one(options: &Options) -> bool {
    // Nothing, unless it's wanted.
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let wanted: Targets = wanted.parse().unwrap_or_default();
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    tracing_subscriber::registry()
        .with(layer.with_filter(wanted))
        .init();
    let plan = Plan {
        seed: options.seed,
        servers: options.servers,
        steps: options.steps,
    };
    match run(plan) {
        Ok(outcome) => tell(options, &outcome),
        Err(error) => {
            println!("seed {} can't be run: {error}", options.seed);
            false
        }
    }
}

/// Runs each seed in a process of its own: what a process has set up for one run would make the next another. Whether all is
/// well.
fn all(options: &Options) -> bool {
    let next = AtomicU64::new(options.seed);
    let end = options.seed.saturating_add(options.seeds);
    let failed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end {
                        return;
                    }
                    if !is_well(seed, child(options, seed)) {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} seeds, {failed} failed", options.seeds);
    failed == 0
}

fn child(options: &Options, seed: u64) -> io::Result<Output> {
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("--seed").arg(seed.to_string());
    child.arg("--steps").arg(options.steps.to_string());
    if let Some(servers) = options.servers {
        child.arg("--servers").arg(servers.to_string());
    }
    if options.verbose {
        child.arg("--verbose");
    }
    child.output()
}

/// Passes on what the run of a seed says. Whether all is well.
fn is_well(seed: u64, ended: io::Result<Output>) -> bool {
    match ended {
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            output.status.success()
        }
        Err(error) => {
            println!("seed {seed} can't be run: {error}");
            false
        }
    }
}

/// Says what came of a run. Whether all is well.
fn tell(options: &Options, outcome: &Outcome) -> bool {
    let Options { seed, steps, .. } = options;
    let Outcome {
        hash,
        events,
        requests,
        ..
    } = outcome;
    if options.verbose {
        outcome.trace.iter().for_each(|line| println!("{line}"));
    }
    if outcome.wrong.is_empty() {
        println!("seed {seed}: all agree; {events} events, {requests} requests, trace {hash:016x}");
        return true;
    }
    println!("seed {seed} FAILED; trace {hash:016x}");
    outcome.wrong.iter().for_each(|line| println!("  {line}"));
    println!("  again: cargo run -p parley-simulation -- --seed {seed} --steps {steps} --verbose");
    false
}
