//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

/// Measures a Matrix homeserver over HTTP: how fast it is, how much processor time and memory it takes,
/// and whether every message arrives exactly once.
///
/// The server must be a throw-away one with rate limits switched off: the program makes thousands of users,
/// rooms and messages. Only plain HTTP is spoken; give the address of the server itself rather than of a proxy.
#[derive(Clone, Debug, Parser)]
#[command(name = "parley-bench", version)]
pub(crate) struct Options {
    /// Address of the homeserver, e.g. http://127.0.0.1:8008
    #[arg(
        long,
        default_value = "http://127.0.0.1:8008",
        env = "PARLEY_BENCH_URL"
    )]
    pub(crate) url: String,

    /// Scenarios to run, separated by commas; all but the last four if not given
    #[arg(
        long = "scenario",
        value_enum,
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub(crate) scenarios: Vec<Name>,

    /// Write the result to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Print how this result compares with an earlier one, written by --json
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,

    /// What to call the measured server; by default what it calls itself
    #[arg(long)]
    pub(crate) label: Option<String>,

    /// Process of the server, to report processor time and memory; its children count too. Repeat it for a
    /// database that runs beside the server
    #[arg(long = "pid", value_name = "PID")]
    pub(crate) pids: Vec<u32>,

    /// Make users by /_synapse/admin/v1/register with this secret rather than by open registration
    #[arg(
        long,
        env = "PARLEY_BENCH_SHARED_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub(crate) shared_secret: Option<String>,

    /// Start the server by this shell command, measure how long that takes, run the other scenarios against
    /// it and stop it at the end
    #[arg(long, value_name = "COMMAND")]
    pub(crate) start_command: Option<String>,

    /// Room version of the rooms made; by default the server's default
    #[arg(long, value_name = "VERSION")]
    pub(crate) room_version: Option<String>,

    /// Seconds that a single answer may take before it counts as an error
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) timeout: Duration,

    /// Seconds of quiet before memory is measured
    #[arg(long, default_value = "3", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) settle: Duration,

    /// Users that are made, joins that are done and messages that are sent at once while preparing
    #[arg(long, default_value_t = 8, value_parser = at_least_one, value_name = "N")]
    pub(crate) preparing: usize,

    #[command(flatten)]
    pub(crate) send: SendOptions,
    #[command(flatten)]
    pub(crate) long_poll: LongPollOptions,
    #[command(flatten)]
    pub(crate) messages: MessagesOptions,
    #[command(flatten)]
    pub(crate) join: JoinOptions,
    #[command(flatten)]
    pub(crate) idle: IdleOptions,
    #[command(flatten)]
    pub(crate) initial_sync: InitialSyncOptions,
    #[command(flatten)]
    pub(crate) growth: GrowthOptions,
    #[command(flatten)]
    pub(crate) population: PopulationOptions,
    #[command(flatten)]
    pub(crate) federation: FederationOptions,
    #[command(flatten)]
    pub(crate) start: StartOptions,
}

/// A scenario, in the order in which they run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Name {
    /// From the start of the process to the first answer (needs --start-command)
    Start,
    /// Senders that each write in a room of their own
    SendOwnRooms,
    /// Senders that all write in one room
    SendOneRoom,
    /// People who wait in one room for messages to arrive
    LongPoll,
    /// Readers who page back through the history of a room
    Messages,
    /// People who join one public room
    Join,
    /// Clients that wait while nothing happens
    Idle,
    /// The first /sync of a new device
    InitialSync,
    /// Senders on a server with more and more rooms, then in a room with more and more members (only if it is named)
    Growth,
    /// Many people in many rooms with a long history, all waiting for news (only if it is named)
    Population,
    /// Somebody of --peer-url who joins a large room that only --url is in (only if it is named)
    FederationJoin,
    /// Senders of --url in rooms that --peer-url is in, too (only if it is named)
    FederationSend,
}

/// `send-own-rooms` and `send-one-room`; the length of measuring also holds for `messages`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "send-own-rooms, send-one-room")]
pub(crate) struct SendOptions {
    /// Senders of send-own-rooms, each with a connection and a room
    #[arg(long, default_value_t = 64, value_parser = at_least_one, value_name = "N")]
    pub(crate) senders: usize,
    /// Senders of send-one-room
    #[arg(long, default_value_t = 32, value_parser = at_least_one, value_name = "N")]
    pub(crate) one_room_senders: usize,
    /// Seconds that are measured (also of messages)
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) duration: Duration,
    /// Seconds of the same load before measuring begins (also of messages)
    #[arg(long, default_value = "3", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) warm_up: Duration,
    /// Length of the body of a message in bytes
    #[arg(long, default_value_t = 60, value_name = "BYTES")]
    pub(crate) message_bytes: usize,
}

/// `long-poll`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "long-poll")]
pub(crate) struct LongPollOptions {
    /// People who wait in the room
    #[arg(long, default_value_t = 200, value_parser = at_least_one, value_name = "N")]
    pub(crate) pollers: usize,
    /// Messages that are sent
    #[arg(long, default_value_t = 100, value_parser = at_least_one, value_name = "N")]
    pub(crate) poll_messages: usize,
    /// Messages that are sent each second
    #[arg(long, default_value_t = 5.0, value_parser = positive, value_name = "N")]
    pub(crate) poll_rate: f64,
    /// Seconds after the last message until a message that has not arrived is missed
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) poll_grace: Duration,
}

/// `messages`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "messages")]
pub(crate) struct MessagesOptions {
    /// Messages in the room that is read
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one, value_name = "N")]
    pub(crate) history: usize,
    /// Readers, each from the newest event to the oldest and over again
    #[arg(long, default_value_t = 4, value_parser = at_least_one, value_name = "N")]
    pub(crate) readers: usize,
    /// Events of a page
    #[arg(long, default_value_t = 100, value_parser = at_least_one, value_name = "N")]
    pub(crate) page: usize,
}

/// `join`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "join")]
pub(crate) struct JoinOptions {
    /// People who join the room
    #[arg(long, default_value_t = 500, value_parser = at_least_one, value_name = "N")]
    pub(crate) joiners: usize,
    /// How many of them join at once
    #[arg(long, default_value_t = 8, value_parser = at_least_one, value_name = "N")]
    pub(crate) joining: usize,
}

/// `idle`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "idle")]
pub(crate) struct IdleOptions {
    /// Clients that wait, ten to a room
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one, value_name = "N")]
    pub(crate) idle_polls: usize,
    /// Seconds over which the processor time is measured
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) idle_duration: Duration,
}

/// `initial-sync`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "initial-sync")]
pub(crate) struct InitialSyncOptions {
    /// Rooms that the user is in
    #[arg(long, default_value_t = 100, value_parser = at_least_one, value_name = "N")]
    pub(crate) sync_rooms: usize,
    /// Members of each of these rooms
    #[arg(long, default_value_t = 6, value_parser = at_least_one, value_name = "N")]
    pub(crate) sync_members: usize,
    /// Messages in each of these rooms
    #[arg(long, default_value_t = 20, value_parser = at_least_one, value_name = "N")]
    pub(crate) sync_events: usize,
    /// Devices that are logged in and synchronised, one after the other
    #[arg(long, default_value_t = 10, value_parser = at_least_one, value_name = "N")]
    pub(crate) sync_repeats: usize,
}

/// `growth`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "growth")]
pub(crate) struct GrowthOptions {
    /// The numbers of rooms, and of members, at which sending is measured
    #[arg(long, default_value = "10,100,1000,10000", value_delimiter = ',', value_parser = at_least_one, value_name = "N")]
    pub(crate) growth_steps: Vec<usize>,
}

/// `population`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "population")]
pub(crate) struct PopulationOptions {
    /// People, all of whom wait in /sync at the end
    #[arg(long, default_value_t = 1_000, value_parser = at_least_one, value_name = "N")]
    pub(crate) people: usize,
    /// Rooms, each with six members
    #[arg(long, default_value_t = 2_000, value_parser = at_least_one, value_name = "N")]
    pub(crate) rooms: usize,
    /// Messages in all rooms together
    #[arg(long, default_value_t = 1_000_000, value_parser = at_least_one, value_name = "N")]
    pub(crate) events: usize,
}

/// `federation-join` and `federation-send`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "federation-join, federation-send")]
pub(crate) struct FederationOptions {
    /// Address of another homeserver that federates with that of --url
    #[arg(long, value_name = "URL")]
    pub(crate) peer_url: Option<String>,
    /// Process of the other homeserver, which is the one that is measured
    #[arg(long = "peer-pid", value_name = "PID")]
    pub(crate) peer_pids: Vec<u32>,
    /// Members of the room that is joined
    #[arg(long, default_value_t = 10_000, value_parser = at_least_one, value_name = "N")]
    pub(crate) federation_members: usize,
    /// Rooms that are written in, each by a sender of its own
    #[arg(long, default_value_t = 50, value_parser = at_least_one, value_name = "N")]
    pub(crate) federation_rooms: usize,
    /// Messages in all these rooms together
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one, value_name = "N")]
    pub(crate) federation_messages: usize,
}

/// `start`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "start")]
pub(crate) struct StartOptions {
    /// How many times the server is started; the last one stays for the other scenarios
    #[arg(long, default_value_t = 3, value_parser = at_least_one, value_name = "N")]
    pub(crate) starts: usize,
}

impl Options {
    /// The scenarios to run, in the order in which they run and each once.
    pub(crate) fn chosen(&self) -> Vec<Name> {
        let mut chosen = if self.scenarios.is_empty() {
            let all = Name::value_variants().iter().copied();
            all.filter(|name| name.is_usual()).collect()
        } else {
            self.scenarios.clone()
        };
        if self.start_command.is_some() {
            chosen.push(Name::Start);
        } else if self.scenarios.is_empty() {
            chosen.retain(|name| *name != Name::Start);
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}

impl Name {
    /// Whether it runs if none is named. The others take long, or need another server.
    fn is_usual(self) -> bool {
        !matches!(
            self,
            Self::Growth | Self::Population | Self::FederationJoin | Self::FederationSend
        )
    }

    /// The name as it's written on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::SendOwnRooms => "send-own-rooms",
            Self::SendOneRoom => "send-one-room",
            Self::LongPoll => "long-poll",
            Self::Messages => "messages",
            Self::Join => "join",
            Self::Idle => "idle",
            Self::InitialSync => "initial-sync",
            Self::Growth => "growth",
            Self::Population => "population",
            Self::FederationJoin => "federation-join",
            Self::FederationSend => "federation-send",
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("expected a number above zero".to_owned())
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Options {
        Options::try_parse_from(["parley-bench"].iter().chain(arguments)).unwrap()
    }

    #[test]
    fn the_names_are_those_of_the_command_line() {
        for name in Name::value_variants() {
            assert_eq!(name.to_possible_value().unwrap().get_name(), name.as_str());
        }
    }

    #[test]
    fn every_scenario_but_start_and_the_last_four_runs_by_default() {
        let chosen = parse(&[]).chosen();
        let others = [
            Name::Start,
            Name::Growth,
            Name::Population,
            Name::FederationJoin,
            Name::FederationSend,
        ];
        assert_eq!(chosen.len(), Name::value_variants().len() - others.len());
        for name in others {
            assert!(!chosen.contains(&name));
            assert!(
                parse(&["--scenario", name.as_str()])
                    .chosen()
                    .contains(&name)
            );
        }
    }

    #[test]
    fn a_start_command_adds_the_start_and_puts_it_first() {
        let chosen = parse(&[
            "--start-command",
            "true",
            "--scenario",
            "join,send-one-room,join",
        ])
        .chosen();
        assert_eq!(chosen, [Name::Start, Name::SendOneRoom, Name::Join]);
    }

    #[test]
    fn nothing_and_less_than_nothing_are_refused() {
        for arguments in [
            ["--senders", "0"],
            ["--duration", "-1"],
            ["--poll-rate", "0"],
        ] {
            assert!(
                Options::try_parse_from(["parley-bench"].iter().chain(&arguments)).is_err(),
                "{arguments:?}"
            );
        }
    }
}
