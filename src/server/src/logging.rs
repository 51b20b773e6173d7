//! The log: what is written to standard error, in which form.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::PanicHookInfo,
};

use parley::config::{Log, LogFormat};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Sets up the log of the process. Panics are logged too, in the span where they happen.
pub(crate) fn init(log: &Log) -> anyhow::Result<()> {
    let mut filter: Targets = log.filter.parse()?;
    // PostgreSQL tells with every start that its tables are there already.
    if !log.filter.contains("sqlx") {
        filter = filter.with_target("sqlx", LevelFilter::WARN);
    }
    let registry = tracing_subscriber::registry();
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match log.format {
        LogFormat::Text => {
            let layer = layer.with_ansi(io::stderr().is_terminal());
            registry.with(layer.with_filter(filter)).try_init()?;
        }
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_span_list(false);
            registry.with(layer.with_filter(filter)).try_init()?;
        }
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(target: "panic", location, %backtrace, "{message}");
    } else {
        tracing::error!(target: "panic", location, "{message}");
    }
}
