//! `parley-simulation`: runs as many seeds as wanted. Exits with 1 if one of them fails.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
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
    // Nothing, unless it's wanted.
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let wanted: Targets = wanted.parse().unwrap_or_default();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(layer.with_filter(wanted))
        .init();
    let next = AtomicU64::new(options.seed);
    let end = options.seed.saturating_add(options.seeds);
    let failed = AtomicBool::new(false);
    let (events, requests) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= end {
                        return;
                    }
                    match run(plan(&options, seed)) {
                        Ok(outcome) => {
                            events.fetch_add(outcome.events, Ordering::SeqCst);
                            requests.fetch_add(outcome.requests, Ordering::SeqCst);
                            if !tell(&options, seed, &outcome) {
                                failed.store(true, Ordering::SeqCst);
                            }
                        }
                        Err(error) => {
                            println!("seed {seed} can't be run: {error}");
                            failed.store(true, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    let (events, requests) = (events.into_inner(), requests.into_inner());
    println!(
        "{} seeds, {events} events acknowledged, {requests} requests",
        options.seeds
    );
    match failed.into_inner() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn plan(options: &Options, seed: u64) -> Plan {
    Plan {
        seed,
        servers: options.servers,
        steps: options.steps,
    }
}

/// Says what came of a run. Whether all is well.
fn tell(options: &Options, seed: u64, outcome: &Outcome) -> bool {
    if options.verbose {
        outcome.trace.iter().for_each(|line| println!("{line}"));
    }
    if outcome.wrong.is_empty() {
        if options.verbose {
            println!("seed {seed}: all agree; trace {:016x}", outcome.hash);
        }
        return true;
    }
    println!("seed {seed} FAILED; trace {:016x}", outcome.hash);
    outcome.wrong.iter().for_each(|line| println!("  {line}"));
    let steps = options.steps;
    println!("  again: cargo run -p parley-simulation -- --seed {seed} --steps {steps} --verbose");
    false
}
