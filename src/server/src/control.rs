//! What `parley user` does, in this process or in that of the running server.
//!
//! A server that runs has its data locked and much of it in memory, so commands are handed to it:
//! through a socket in the data folder that only its owner can open. Where no server runs, the
//! data is opened directly.

mod accounts;
#[cfg(unix)]
pub(crate) mod socket;

use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, Secret},
    wiring::{self, Homeserver},
};

/// Something to be done with accounts. A user is named by ID or by its part before the colon.
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
    let answer = accounts::execute(&homeserver.engine, command).await;
    homeserver.close().await;
    answer
}
