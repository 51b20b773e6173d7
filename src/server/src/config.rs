//! The configuration: sections with safe defaults, read from TOML, the environment and secret files.
//!
//! Every key has a default, so an empty configuration is a working one. What is read is first a
//! tree of values that remember where they were written ([`tree`]); the environment and secret
//! files are laid over it, unknown keys are refused with the nearest known one, and only then is
//! it turned into the typed sections below. So every error names a file and line or a variable.
//!
//! `example.toml` beside these files documents every key; a test holds it to the defaults.

mod appservices;
mod database;
mod delayed_events;
mod deserialize;
mod duration;
mod environment;
mod error;
mod federation;
mod federation_listener;
mod jwt;
mod known_keys;
mod limits;
mod listener;
mod log;
mod login;
mod metrics;
mod network;
mod passwords;
mod presence;
mod rate_limits;
mod registration;
mod rooms;
mod secret;
mod secret_files;
mod server;
mod server_notices;
mod size;
mod sync;
mod tokens;
mod tree;
mod turn;
mod user_directory;
mod well_known;

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::{
    appservices::Appservices,
    database::{Database, DatabaseUrl},
    delayed_events::DelayedEvents,
    error::ConfigError,
    federation::Federation,
    federation_listener::FederationListener,
    jwt::Jwt,
    limits::Limits,
    listener::Listener,
    log::{Log, LogFormat},
    login::Login,
    metrics::Metrics,
    passwords::Passwords,
    presence::Presence,
    rate_limits::{RateLimit, RateLimits},
    registration::{Policy, Registration, RegistrationMode},
    rooms::Rooms,
    secret::Secret,
    server::Server,
    server_notices::ServerNotices,
    sync::Sync,
    tokens::Tokens,
    turn::Turn,
    user_directory::UserDirectory,
    well_known::WellKnown,
};
use self::{error::Invalid, tree::Node};

/// A commented configuration file that holds every key with its default.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// Everything an administrator can set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[server]`: who this server is and where its data lies.
    pub server: Server,
    /// `[listener]`: where requests are accepted, and their limits.
    pub listener: Listener,
    /// `[federation_listener]`: an additional address for other servers.
    pub federation_listener: FederationListener,
    /// `[federation]`: with which other servers this one speaks.
    pub federation: Federation,
    /// `[database]`: the embedded SQLite or a PostgreSQL.
    pub database: Database,
    /// `[registration]`: who may create an account.
    pub registration: Registration,
    /// `[passwords]`: how passwords are hashed and what is demanded of them.
    pub passwords: Passwords,
    /// `[login]`: how one can log in, beside by a password.
    pub login: Login,
    /// `[jwt]`: logging in by JSON Web Tokens of another service.
    pub jwt: Jwt,
    /// `[tokens]`: how long logins last.
    pub tokens: Tokens,
    /// `[rooms]`: defaults and limits of rooms.
    pub rooms: Rooms,
    /// `[appservices]`: bridges and bots.
    pub appservices: Appservices,
    /// `[rate_limits]`: how often something may be done.
    pub rate_limits: RateLimits,
    /// `[limits]`: how much an account may have.
    pub limits: Limits,
    /// `[delayed_events]`: which events may be sent later.
    pub delayed_events: DelayedEvents,
    /// `[server_notices]`: as whom the server writes to its users.
    pub server_notices: ServerNotices,
    /// `[presence]`: whether and when users count as online.
    pub presence: Presence,
    /// `[sync]`: limits of `/sync`.
    pub sync: Sync,
    /// `[user_directory]`: whom users find by a search.
    pub user_directory: UserDirectory,
    /// `[turn]`: the servers that relay calls.
    pub turn: Turn,
    /// `[log]`: what is logged, in which form.
    pub log: Log,
    /// `[metrics]`: the listener for Prometheus.
    pub metrics: Metrics,
    /// `[well_known]`: what clients and servers discover under `/.well-known/matrix/`.
    pub well_known: WellKnown,
}

impl Config {
    /// Reads the file at `path`, if one is given, and lays `environment` over it.
    ///
    /// Of the environment only variables of the form `PARLEY_SECTION__KEY` are considered.
    ///
    /// # Errors
    /// The first thing that is wrong, with the place where it was written: a file that cannot be
    /// read, a syntax error, an unknown key, a value of the wrong type, or values that contradict
    /// each other.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::parse("", Path::new(""), environment);
        };
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path, environment)
    }

    /// Like [`Config::load`] for a file that is already in memory; `path` is used in errors only.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn parse(
        text: &str,
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut tree = Node::from_toml(text, &Arc::from(path))?;
        environment::overlay(&mut tree, environment)?;
        secret_files::resolve(&mut tree)?;
        known_keys::check(&tree)?;
        rate_limits::complete(&mut tree);
        let config = Self::deserialize(&tree).map_err(ConfigError::from)?;
        config.check().map_err(|invalid| {
            let origin = tree.origin_of(invalid.key).cloned();
            ConfigError::Value {
                origin,
                key: invalid.key.to_owned(),
                message: invalid.message,
            }
        })?;
        Ok(config)
    }

    /// What the types alone cannot refuse.
    fn check(&self) -> Result<(), Invalid> {
        self.server.check()?;
        self.listener.check()?;
        self.federation_listener.check()?;
        self.federation.check()?;
        self.database.check()?;
        self.registration.check()?;
        self.passwords.check()?;
        self.jwt.check()?;
        self.tokens.check()?;
        self.rooms.check()?;
        self.rate_limits.check()?;
        self.limits.check()?;
        self.delayed_events.check()?;
        self.server_notices.check()?;
        self.sync.check()?;
        self.turn.check()?;
        self.log.check()?;
        self.well_known.check()
    }

    /// The effective configuration as TOML, secrets masked.
    ///
    /// # Errors
    /// If a value cannot be expressed in TOML; no value of these types is such.
    pub fn to_masked_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}
