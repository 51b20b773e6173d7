//! `[server]`

use std::{path::PathBuf, time::Duration};

use ruma::{OwnedServerName, server_name};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    duration::{self, SECOND},
    error::Invalid,
};

/// Who this server is and where its data lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// The part of user IDs behind the colon. It can never be changed once there are accounts.
    pub name: OwnedServerName,
    /// The address at which clients reach this server, if it isn't the listener's own.
    pub public_url: Option<Url>,
    /// The folder for everything that is kept. It is made if it isn't there.
    pub data_dir: PathBuf,
    /// How long `/ready` says no, while requests are still answered, before a stop.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// How long a stop waits for requests that are being answered.
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            name: server_name!("localhost").to_owned(),
            public_url: None,
            data_dir: PathBuf::from("parley-data"),
            drain_delay: Duration::ZERO,
            // Docker kills after ten seconds.
            stop_timeout: SECOND * 8,
        }
    }
}

impl Server {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        const KEY: &str = "server.public_url";
        let Some(url) = &self.public_url else {
            return Ok(());
        };
        check_web_address(KEY, url)
    }
}

/// Refuses what a client couldn't append `/_matrix/` to.
pub(super) fn check_web_address(key: &'static str, url: &Url) -> Result<(), Invalid> {
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Invalid::new(
            key,
            "expected an address that begins with https:// or http://",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Invalid::new(
            key,
            "an address with `?` or `#` has no place for a path",
        ));
    }
    Ok(())
}
