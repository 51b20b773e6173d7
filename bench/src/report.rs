//! Results: what a scenario gives, and the file that `--json` writes and `--compare` reads.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    bench::Bench,
    latency::Summary,
    measure::{Reading, Tally},
    options::Name,
    process::Memory,
};

/// The version of the file; raised when a figure changes its meaning.
const FORMAT: u32 = 1;

/// A share of one processor above which the load program itself may be what limits the server.
const BUSY_PERCENT: f64 = 85.0;

/// A whole run.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Document {
    format: u32,
    /// What the server is called in tables.
    pub(crate) label: String,
    /// Seconds since 1970.
    measured_at: u64,
    machine: Machine,
    pub(crate) outcomes: Vec<Outcome>,
}

/// Where it was measured: figures of different machines don't compare.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Machine {
    processors: usize,
    model: String,
    kernel: String,
}

/// What a scenario measures and how it was set.
#[derive(Clone, Debug)]
pub(crate) struct Title {
    pub(crate) scenario: Name,
    /// One of the things that are counted, e.g. 'message sent'.
    pub(crate) operation: &'static str,
    pub(crate) parameters: BTreeMap<String, Value>,
}

/// What a scenario gives.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: Name,
    pub(crate) operation: String,
    pub(crate) parameters: BTreeMap<String, Value>,
    /// How many operations were done, and in how many seconds.
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    /// None where the server isn't asked for as much as it can do.
    pub(crate) rate_per_second: Option<f64>,
    pub(crate) latency: Option<Summary>,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Processor time of the watched processes. None if none is watched.
    pub(crate) cpu_ms_per_operation: Option<f64>,
    /// Memory of the watched processes at the end.
    pub(crate) memory: Option<Memory>,
    /// Processor time of the load program itself, in percent of one processor.
    pub(crate) own_cpu_percent: f64,
    /// What only this scenario has.
    pub(crate) figures: Vec<Figure>,
    /// What the server did wrong: a message lost, for instance.
    pub(crate) problems: Vec<String>,
    /// Why the numbers may not be the server's best.
    pub(crate) doubts: Vec<String>,
}

/// A number with its meaning.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// None for what is neither good nor bad.
    pub(crate) better: Option<Better>,
}

/// Which way is good.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    More,
    Less,
}

impl Title {
    /// A title with the parameters of the scenario.
    pub(crate) fn new<const N: usize>(
        scenario: Name,
        operation: &'static str,
        parameters: [(&str, Value); N],
    ) -> Self {
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self {
            scenario,
            operation,
            parameters,
        }
    }
}

impl Figure {
    /// Something of which less is better.
    pub(crate) fn less(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.to_owned(),
            better: Some(Better::Less),
        }
    }

    /// Something of which more is better.
    pub(crate) fn more(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            better: Some(Better::More),
            ..Self::less(name, value, unit)
        }
    }

    /// Something that is worth knowing but neither good nor bad.
    pub(crate) fn fact(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            better: None,
            ..Self::less(name, value, unit)
        }
    }
}

impl Outcome {
    /// What was counted and measured, with the memory that is held now.
    pub(crate) fn new(
        bench: &Bench,
        title: Title,
        tally: &Tally,
        reading: Reading,
    ) -> Result<Self> {
        let memory = if bench.watched.is_empty() {
            None
        } else {
            Some(bench.watched.memory()?)
        };
        let seconds = reading.wall.as_secs_f64();
        let operations = tally.operations;
        let each = |total: f64| total / operations.max(1) as f64;
        let mut outcome = Self {
            scenario: title.scenario,
            operation: title.operation.to_owned(),
            parameters: title.parameters,
            operations,
            seconds,
            rate_per_second: Some(operations as f64 / seconds),
            latency: tally.latencies.summary(),
            errors: tally.errors.clone(),
            cpu_ms_per_operation: reading.cpu.map(|cpu| each(cpu.as_secs_f64() * 1e3)),
            memory,
            own_cpu_percent: reading.own.as_secs_f64() / seconds * 100.0,
            figures: Vec::new(),
            problems: Vec::new(),
            doubts: Vec::new(),
        };
        outcome.doubt();
        Ok(outcome)
    }

    /// Notes what anyone would hold against the result.
    fn doubt(&mut self) {
        if self.own_cpu_percent > BUSY_PERCENT {
            self.doubts.push(format!(
                "the load program itself used {:.0}% of a processor: the server may be faster than this",
                self.own_cpu_percent
            ));
        }
        if self.errors.keys().any(|kind| kind.starts_with("429")) {
            self.doubts
                .push("the server limits rates: switch that off to measure it".to_owned());
        }
    }

    /// Whether every request succeeded and nothing was found wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.errors.is_empty() && self.problems.is_empty()
    }

    /// The number of requests that failed.
    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Every number of the result that says how good the server is.
    pub(crate) fn all_figures(&self) -> Vec<Figure> {
        let mut all = Vec::new();
        all.extend(
            self.rate_per_second
                .map(|rate| Figure::more("rate", rate, "/s")),
        );
        if let Some(latency) = self.latency {
            all.push(Figure::less("p50", latency.p50_ms, "ms"));
            all.push(Figure::less("p99", latency.p99_ms, "ms"));
        }
        let cpu = self.cpu_ms_per_operation;
        all.extend(cpu.map(|cpu| Figure::less(format!("CPU per {}", self.operation), cpu, "ms")));
        all.extend(
            self.memory
                .map(|memory| Figure::less("memory", memory.mib(), "MiB")),
        );
        all.extend(
            self.figures
                .iter()
                .filter(|figure| figure.better.is_some())
                .cloned(),
        );
        all
    }
}

impl Document {
    /// A run of this moment on this machine.
    pub(crate) fn new(label: String, outcomes: Vec<Outcome>) -> Self {
        Self {
            format: FORMAT,
            label,
            measured_at: now().as_secs(),
            machine: Machine::this(),
            outcomes,
        }
    }

    /// Writes the result as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        fs::write(path, json).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads what [`Document::write`] has written.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let json = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let document: Self = serde_json::from_slice(&json)
            .with_context(|| format!("{} is not a result of this program", path.display()))?;
        if document.format != FORMAT {
            bail!(
                "{} has format {}, this program knows {FORMAT}",
                path.display(),
                document.format
            );
        }
        Ok(document)
    }

    /// Whether both were measured on machines that look the same.
    pub(crate) fn is_of_same_machine(&self, other: &Self) -> bool {
        self.machine == other.machine
    }

    /// The machine in words.
    pub(crate) fn machine(&self) -> String {
        let Machine {
            processors,
            model,
            kernel,
        } = &self.machine;
        format!("{processors} processors, {model}, Linux {kernel}")
    }
}

/// The time since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "it only dates a result and makes the names of its users new"
)]
pub(crate) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl Machine {
    fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            model: model
                .map_or("processor unknown", |(_, model)| model)
                .trim()
                .to_owned(),
            kernel: kernel.trim().to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A result with a round number everywhere.
    pub(crate) fn outcome(scenario: Name, rate: f64) -> Outcome {
        Outcome {
            scenario,
            operation: "message sent".to_owned(),
            parameters: BTreeMap::from([("senders".to_owned(), Value::from(64))]),
            operations: 1000,
            seconds: 10.0,
            rate_per_second: Some(rate),
            latency: Some(Summary {
                p50_ms: 1.0,
                p90_ms: 2.0,
                p99_ms: 4.0,
                max_ms: 8.0,
            }),
            errors: BTreeMap::new(),
            cpu_ms_per_operation: Some(0.5),
            memory: Some(Memory {
                rss_mib: 64.0,
                pss_mib: Some(32.0),
            }),
            own_cpu_percent: 20.0,
            figures: vec![Figure::fact("rooms", 3.0, "")],
            problems: Vec::new(),
            doubts: Vec::new(),
        }
    }

    #[test]
    fn a_result_that_is_written_can_be_read_again() {
        let path = std::env::temp_dir().join(format!("parley-bench-{}.json", std::process::id()));
        let written = Document::new("A".to_owned(), vec![outcome(Name::Join, 7.0)]);
        written.write(&path).unwrap();
        let read = Document::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            serde_json::to_value(&written).unwrap()
        );
        assert!(read.is_of_same_machine(&written));
    }

    #[test]
    fn a_busy_load_program_and_rate_limits_are_held_against_the_result() {
        let mut result = outcome(Name::SendOwnRooms, 1.0);
        result.doubt();
        assert!(result.doubts.is_empty());
        result.own_cpu_percent = 97.0;
        result.errors.insert("429 M_LIMIT_EXCEEDED".to_owned(), 3);
        result.doubt();
        assert_eq!((result.doubts.len(), result.error_count()), (2, 3));
    }

    #[test]
    fn facts_are_not_compared() {
        let names: Vec<String> = outcome(Name::Join, 7.0)
            .all_figures()
            .into_iter()
            .map(|figure| figure.name)
            .collect();
        assert_eq!(
            names,
            ["rate", "p50", "p99", "CPU per message sent", "memory"]
        );
    }
}
