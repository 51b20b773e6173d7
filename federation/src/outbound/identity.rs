//! Identity servers: asked whose an address is, and to note invitations. None is asked that isn't configured.
//!
//! <https://spec.matrix.org/v1.19/identity-service-api/>

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parley_engine::remote::{NotedInvite, RemoteError, ThirdPartyAddress};
use parley_protocol::third_party::InviteKey;
use reqwest::{Method, RequestBuilder};
use ruma::{
    OwnedUserId, RoomId, UserId,
    api::{EndpointError, error::Error},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{
    client::refusal,
    http::{Connections, ReadError, check_literal, describe, read},
};

/// For the whole of a request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Of an answer, in bytes.
const MAX_SIZE: usize = 64 * 1024;
/// How addresses are hashed.
const ALGORITHM: &str = "sha256";
/// Look-ups of one address, where the pepper has just been exchanged.
const LOOK_UPS: usize = 2;

/// The identity servers that are asked.
#[derive(Clone, Debug)]
pub(crate) struct IdentityServers {
    connections: Connections,
    asked: Vec<String>,
}

#[derive(Deserialize)]
struct HashDetails {
    lookup_pepper: String,
    #[serde(default)]
    algorithms: Vec<String>,
}

impl IdentityServers {
    pub(crate) fn new(connections: Connections, asked: &[String]) -> Self {
        Self {
            connections,
            asked: asked.iter().map(|name| name.to_lowercase()).collect(),
        }
    }

    /// Whether an identity server is asked.
    pub(crate) fn asks(&self, id_server: &str) -> bool {
        self.asked.contains(&id_server.to_lowercase())
    }

    /// Whose an address is.
    pub(crate) async fn look_up(
        &self,
        address: &ThirdPartyAddress,
    ) -> Result<Option<OwnedUserId>, RemoteError> {
        #[derive(Deserialize)]
        struct Found {
            mappings: Map<String, Value>,
        }
        let mut refused = None;
        for _ in 0..LOOK_UPS {
            let details = self.request(address, Method::GET, "hash_details")?;
            let details: HashDetails = self.send(details).await?;
            if !details.algorithms.iter().any(|name| name == ALGORITHM) {
                // In clear text, addresses are not to be given away.
                return Err(RemoteError::Nonsense("it doesn't know SHA-256".to_owned()));
            }
            let text = format!(
                "{} {} {}",
                normal(address),
                address.medium,
                details.lookup_pepper
            );
            let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(text.as_bytes()));
            let body = json!({
                "algorithm": ALGORITHM, "pepper": details.lookup_pepper, "addresses": [hash],
            });
            let question = self.request(address, Method::POST, "lookup")?.json(&body);
            match self.send::<Found>(question).await {
                Ok(found) => return user_of(&found.mappings, &hash),
                Err(error @ RemoteError::Refused { status: 400, .. }) => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| RemoteError::Nonsense("it has no pepper".to_owned())))
    }

    /// Has an invitation noted.
    pub(crate) async fn note_invite(
        &self,
        address: &ThirdPartyAddress,
        room_id: &RoomId,
        sender: &UserId,
        shown: Map<String, Value>,
    ) -> Result<NotedInvite, RemoteError> {
        #[derive(Deserialize)]
        struct Noted {
            token: String,
            public_keys: Vec<InviteKey>,
            display_name: String,
        }
        let mut body = shown;
        body.extend([
            ("medium".to_owned(), address.medium.clone().into()),
            ("address".to_owned(), normal(address).into()),
            ("room_id".to_owned(), room_id.as_str().into()),
            ("sender".to_owned(), sender.as_str().into()),
        ]);
        let request = self.request(address, Method::POST, "store-invite")?;
        let noted: Noted = self.send(request.json(&body)).await?;
        Ok(NotedInvite {
            token: noted.token,
            public_keys: noted.public_keys,
            display_name: noted.display_name,
        })
    }

    /// Whether a key is valid, by the URL that came with it.
    pub(crate) async fn is_key_valid(
        &self,
        url: &str,
        public_key: &str,
    ) -> Result<bool, RemoteError> {
        #[derive(Deserialize)]
        struct Validity {
            valid: bool,
        }
        let mut url = Url::parse(url).map_err(|error| RemoteError::Nonsense(error.to_string()))?;
        if !self.asks(authority(&url)) || url.scheme() != "https" {
            return Err(RemoteError::NotAllowed);
        }
        url.query_pairs_mut().append_pair("public_key", public_key);
        let request = self.to(Method::GET, url)?;
        Ok(self.send::<Validity>(request).await?.valid)
    }

    /// A request of the user who has the token.
    fn request(
        &self,
        address: &ThirdPartyAddress,
        method: Method,
        endpoint: &str,
    ) -> Result<RequestBuilder, RemoteError> {
        if !self.asks(&address.id_server) {
            return Err(RemoteError::NotAllowed);
        }
        let url = format!(
            "https://{}/_matrix/identity/v2/{endpoint}",
            address.id_server
        );
        let url = Url::parse(&url).map_err(|error| RemoteError::Nonsense(error.to_string()))?;
        Ok(self.to(method, url)?.bearer_auth(&address.access_token))
    }

    fn to(&self, method: Method, url: Url) -> Result<RequestBuilder, RemoteError> {
        check_literal(&self.connections.filter, &url).map_err(RemoteError::Unreachable)?;
        Ok(self
            .connections
            .direct
            .request(method, url)
            .timeout(TIMEOUT))
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, RemoteError> {
        let answer = request
            .send()
            .await
            .map_err(|error| RemoteError::Unreachable(describe(&error)))?;
        let status = answer.status();
        let body = read(answer, MAX_SIZE).await.map_err(|error| match error {
            ReadError::TooLarge(limit) => {
                RemoteError::Nonsense(format!("it has more than {limit} bytes"))
            }
            ReadError::Broken(reason) => RemoteError::Unreachable(reason),
        })?;
        if !status.is_success() {
            let mut answer = http::Response::new(body.as_ref());
            *answer.status_mut() = status;
            return Err(refusal(Error::from_http_response(answer)));
        }
        serde_json::from_slice(&body).map_err(|error| RemoteError::Nonsense(error.to_string()))
    }
}

/// The host of a URL, with its port if it names one.
fn authority(url: &Url) -> &str {
    match url.username().is_empty() && url.password().is_none() {
        true => url.authority(),
        false => "",
    }
}

/// An address as identity servers compare it.
///
/// <https://spec.matrix.org/v1.19/appendices/#3pid-types>
fn normal(address: &ThirdPartyAddress) -> String {
    match address.medium.as_str() {
        "email" => address.address.to_lowercase(),
        _ => address.address.clone(),
    }
}

fn user_of(mappings: &Map<String, Value>, hash: &str) -> Result<Option<OwnedUserId>, RemoteError> {
    let Some(user_id) = mappings.get(hash) else {
        return Ok(None);
    };
    let user_id = user_id.as_str().unwrap_or_default();
    let user_id = OwnedUserId::try_from(user_id);
    user_id
        .map(Some)
        .map_err(|error| RemoteError::Nonsense(error.to_string()))
}
