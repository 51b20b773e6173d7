//! `[well_known]`

use ruma::{OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{error::Invalid, server::check_web_address};

/// What clients and servers discover under `/.well-known/matrix/`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WellKnown {
    /// `m.homeserver` for clients; without it `server.public_url`, and without that none.
    pub client_base_url: Option<Url>,
    /// `m.server`: where other servers find this one.
    pub server: Option<OwnedServerName>,
    /// Who answers questions, by Matrix.
    pub support_user: Option<OwnedUserId>,
    /// Who answers questions, by e-mail.
    pub support_email: Option<String>,
    /// A page with help.
    pub support_page: Option<Url>,
    /// The LiveKit service that carries calls (MatrixRTC).
    pub livekit_service_url: Option<Url>,
}

impl WellKnown {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let addresses = [
            ("well_known.client_base_url", &self.client_base_url),
            ("well_known.livekit_service_url", &self.livekit_service_url),
        ];
        for (key, address) in addresses {
            if let Some(url) = address {
                check_web_address(key, url)?;
            }
        }
        if self
            .support_email
            .as_ref()
            .is_some_and(|address| !address.contains('@'))
        {
            return Err(Invalid::new(
                "well_known.support_email",
                "expected an e-mail address",
            ));
        }
        Ok(())
    }
}
