//! The command line.

mod configuration;
mod federation;
mod password;
mod serve;
mod signals;
mod user;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use parley::config::Config;

/// What is read when no file is named, if it is there.
const DEFAULT_FILE: &str = "parley.toml";

/// A Matrix homeserver.
///
/// Without a command it serves: on http://127.0.0.1:8008, with its data in ./parley-data.
#[derive(Debug, Parser)]
#[command(name = "parley", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// The configuration file [default: parley.toml, if it is there]
    #[arg(short, long, global = true, env = "PARLEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the homeserver (what happens without a command, too)
    Serve,
    /// Make, list and change accounts
    #[command(subcommand)]
    User(user::Command),
    /// Look at how it goes with other servers
    #[command(subcommand)]
    Federation(federation::Command),
    /// Print an example of the configuration, check the configuration, or show it
    #[command(subcommand)]
    Config(configuration::Command),
}

impl Arguments {
    /// Does what was asked for.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.config.or_else(default_file);
        match self.command.unwrap_or(Command::Serve) {
            Command::Serve => serve::run(load(path.as_deref())?, path.as_deref()),
            Command::User(command) => command.run(&load(path.as_deref())?),
            Command::Federation(command) => command.run(&load(path.as_deref())?),
            Command::Config(command) => command.run(path.as_deref()),
        }
    }
}

fn default_file() -> Option<PathBuf> {
    let path = PathBuf::from(DEFAULT_FILE);
    path.is_file().then_some(path)
}

/// The configuration of the file, if there is one, and the environment.
fn load(path: Option<&Path>) -> anyhow::Result<Config> {
    // A variable that isn't text cannot be one of ours.
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.into_string().ok()?))
    });
    Config::load(path, environment).context("the configuration is refused")
}
