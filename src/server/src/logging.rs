//! The log: what is written to standard error, in which form.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::PanicHookInfo,
};

use parley::config::{Log, LogFormat};
use tracing::Subscriber;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Libraries that say what an administrator has no use for, and from what on they are heard: PostgreSQL says at `info` that
/// tables are there already, and the resolution of states warns of each event that it doesn't take over, as is its task.
const CHATTY: [(&str, LevelFilter); 2] =
    [("sqlx", LevelFilter::WARN), ("ruma", LevelFilter::ERROR)];

/// Sets up the log of the process. Panics are logged too, in the span where they happen.
pub(crate) fn init(log: &Log) -> anyhow::Result<()> {
    let ansi = io::stderr().is_terminal();
    subscriber(log, ansi, io::stderr)?.try_init()?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn subscriber<W>(
    log: &Log,
    ansi: bool,
    writer: W,
) -> anyhow::Result<Box<dyn Subscriber + Send + Sync>>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // The filter is a layer of its own, not one of the layer that writes: those lose the event
    // that follows when a library asks whether another would be logged, as sqlx does.
    let registry = tracing_subscriber::registry().with(filter(&log.filter)?);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    Ok(match log.format {
        LogFormat::Text => Box::new(registry.with(layer.with_ansi(ansi))),
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_span_list(false);
            Box::new(registry.with(layer))
        }
    })
}

/// The configured filter, with chatty libraries heard less unless it names them.
fn filter(configured: &str) -> anyhow::Result<Targets> {
    let filter: Targets = configured.parse()?;
    let level = filter.default_level().unwrap_or(LevelFilter::OFF);
    let unnamed = CHATTY
        .into_iter()
        .filter(|(library, _)| !configured.contains(library));
    Ok(filter.with_targets(unnamed.map(|(library, heard)| (library, level.min(heard)))))
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged meanwhile.
    fn logged(filter: &str, format: LogFormat, logging: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);

        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let lines = Lines::default();
        let writer = lines.clone();
        let filter = filter.to_owned();
        let subscriber =
            subscriber(&Log { format, filter }, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, logging);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_line_is_lost_after_a_library_asked_whether_another_would_be_logged() {
        // What `init` does for libraries that log by `log`; an error says that it is done already.
        let _ = tracing_log::LogTracer::init();
        let log = logged("info", LogFormat::Text, || {
            let _ = log::log_enabled!(target: "sqlx", log::Level::Info);
            tracing::info!("kept");
        });
        assert!(log.contains("kept"), "{log}");
    }

    #[test]
    fn chatty_libraries_are_heard_less_unless_they_are_named() {
        let speak = || {
            tracing::warn!(target: "ruma_state_res::event_auth", "chat");
            tracing::warn!(target: "sqlx::query", "warning");
        };
        let heard = |filter: &str| {
            let log = logged(filter, LogFormat::Text, speak);
            (log.contains("chat"), log.contains("warning"))
        };
        assert_eq!(heard("debug"), (false, true));
        assert_eq!(heard("info,ruma=debug"), (true, true));
        assert_eq!(heard("error"), (false, false));
        assert_eq!(heard("parley=debug"), (false, false));
    }

    #[test]
    fn json_is_one_object_a_line_with_the_request() {
        let log = logged("info", LogFormat::Json, || {
            let _span = tracing::info_span!("request", id = "abc").entered();
            tracing::info!(answer = 42, "two\nlines");
        });
        let line: serde_json::Value = serde_json::from_str(log.trim_end()).unwrap();
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["answer"], 42);
        assert_eq!(line["span"]["id"], "abc");
    }
}
