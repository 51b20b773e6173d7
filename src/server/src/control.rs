//! What `parley user` and `parley federation` do, in this process or in that of the running server.
//!
//! A server that runs has its data locked and much of it in memory, so commands are handed to it:
//! through a socket in the data folder that only its owner can open. Where no server runs, the
//! data is opened directly.

mod accounts;
mod federation;
#[cfg(unix)]
pub(crate) mod socket;

use std::path::Path;

use parley_federation::{DestinationStatus, Federation, Finding};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Secret},
    wiring::{self, Homeserver},
};

/// Something to be done. A user is named by ID or by its part before the colon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Make an account.
    Create {
        /// The part of the ID before the colon.
        username: String,
        /// The password.
        password: Password,
        /// Whether the user is to administer the server.
        admin: bool,
    },
    /// List all accounts.
    List,
    /// Give a user another password.
    ResetPassword {
        /// Who.
        user: String,
        /// The new one.
        password: Password,
        /// Whether the user's devices stay logged in.
        keep_devices: bool,
    },
    /// Deactivate an account for good.
    Deactivate {
        /// Who.
        user: String,
        /// Whether the user's profile is removed too.
        erase: bool,
    },
    /// See whether a server is found, reached and trusted, and trusts this one.
    CheckFederation {
        /// The name of the server.
        server: String,
    },
    /// List how it goes with other servers.
    Destinations,
    /// Try a server again at once.
    Retry {
        /// The name of the server.
        server: String,
    },
}

/// A password on its way to the server. Never printed.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Secret::from(String::new()).fmt(formatter)
    }
}

/// What came of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The account of this user was made or changed.
    Done {
        /// The ID of the user.
        user_id: String,
    },
    /// All accounts, in the order in which they were made.
    Accounts(Vec<ListedAccount>),
    /// What was found of a server.
    Findings(Vec<Finding>),
    /// How it goes with other servers.
    Destinations(Vec<DestinationStatus>),
    /// The server is tried again; whether it was to be left alone.
    Retried(bool),
}

/// An account in a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListedAccount {
    /// The ID of the user.
    pub user_id: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at: i64,
    /// Whether the user administers the server.
    pub admin: bool,
    /// Whether it was deactivated.
    pub deactivated: bool,
    /// Whether its user may only log out.
    pub locked: bool,
    /// Whether its user may only read.
    pub suspended: bool,
}

/// Why a command wasn't carried out: a sentence for an administrator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// The hash of a password as the configuration wants it, in the form in which it is stored.
///
/// # Errors
/// What is demanded of new passwords is demanded of it.
pub async fn hash_password(config: &Config, password: &str) -> Result<String, Refusal> {
    let hash = wiring::hash_password(config, password).await;
    hash.map_err(|error| Refusal(error.to_string()))
}

/// Makes the keys in a file, as Synapse writes it, those of this server; their ids.
///
/// # Errors
/// What is wrong with the file, or that the server runs: it would go on with the key that it has.
pub async fn import_keys(config: &Config, path: &Path) -> Result<Vec<String>, Refusal> {
    let refusal = |error: &dyn std::fmt::Display| Refusal(error.to_string());
    #[cfg(unix)]
    if socket::connect(&config.server.data_dir).await.is_some() {
        return Err(Refusal("stop the server first".to_owned()));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Refusal(format!("{}: {error}", path.display())))?;
    crate::server::make_data_folder(&config.server.data_dir).map_err(|error| refusal(&error))?;
    let homeserver = Homeserver::open(config)
        .await
        .map_err(|error| refusal(&error))?;
    let imported = homeserver.import_keys(&text).await;
    homeserver.close().await;
    imported.map_err(|error| Refusal(format!("{}: {error}", path.display())))
}

/// Carries a command out: by the server that runs on this data, or else on the data itself.
///
/// # Errors
/// What is wrong with the command, or why the data cannot be opened.
pub async fn run(config: &Config, command: Command) -> Result<Answer, Refusal> {
    let refusal = |error: &dyn std::fmt::Display| Refusal(error.to_string());
    #[cfg(unix)]
    if let Some(server) = socket::connect(&config.server.data_dir).await {
        return socket::ask(server, &command)
            .await
            .map_err(|error| Refusal(format!("the running server did not answer: {error}")))?;
    }
    crate::server::make_data_folder(&config.server.data_dir).map_err(|error| refusal(&error))?;
    let homeserver = Homeserver::open(config)
        .await
        .map_err(|error| refusal(&error))?;
    let answer = match homeserver.federation(config).await {
        Ok(federation) => execute(&federation, command).await,
        Err(error) => Err(refusal(&error)),
    };
    homeserver.close().await;
    answer
}

/// Carries a command out in this process.
async fn execute(federation: &Federation, command: Command) -> Result<Answer, Refusal> {
    match command {
        Command::CheckFederation { server } => federation::check(federation, &server).await,
        Command::Destinations => federation::destinations(federation).await,
        Command::Retry { server } => federation::retry(federation, &server).await,
        command => accounts::execute(federation.engine(), command).await,
    }
}
