//! Making users: by open registration, or by Synapse's registration with a shared secret.

use anyhow::{Context as _, Result};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::{
    answers::{self, LoggedIn, MoreAuthentication, Nonce},
    bench::bearer,
    http::{Client, Failure},
};

/// How users are made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Registration<'a> {
    /// `POST /_matrix/client/v3/register` with the dummy stage of authentication.
    Open,
    /// `/_synapse/admin/v1/register` with this secret.
    SharedSecret(&'a str),
}

impl<'a> Registration<'a> {
    /// By the shared secret if there is one.
    pub(crate) fn new(shared_secret: Option<&'a str>) -> Self {
        shared_secret.map_or(Self::Open, Self::SharedSecret)
    }

    /// Makes a user and gives the value of its `Authorization` header.
    pub(crate) async fn register(
        self,
        client: &mut Client,
        localpart: &str,
        password: &str,
    ) -> Result<HeaderValue> {
        let answer = match self {
            Self::Open => register_openly(client, localpart, password).await.context(
                "open registration failed; the server must allow registration without verification \
                 (m.login.dummy), or give --shared-secret",
            )?,
            Self::SharedSecret(secret) => register_by_secret(client, secret, localpart, password)
                .await
                .context("--shared-secret")?,
        };
        bearer(&answers::read::<LoggedIn<'_>>(&answer, "the registration")?.access_token)
    }
}

async fn register_openly(
    client: &mut Client,
    localpart: &str,
    password: &str,
) -> Result<bytes::Bytes> {
    let mut request = json!({
        "username": localpart,
        "password": password,
        "auth": { "type": "m.login.dummy" },
    });
    let path = || "/_matrix/client/v3/register".to_owned();
    match client.post(None, path(), request.to_string()).await {
        // The server insists on a session, which it has just begun.
        Err(Failure::Status {
            status: StatusCode::UNAUTHORIZED,
            body,
        }) => {
            let more: MoreAuthentication<'_> = answers::read(&body, "POST /register")?;
            request["auth"]["session"] = Value::from(more.session);
            Ok(client.post(None, path(), request.to_string()).await?)
        }
        answer => Ok(answer?),
    }
}

async fn register_by_secret(
    client: &mut Client,
    secret: &str,
    localpart: &str,
    password: &str,
) -> Result<bytes::Bytes> {
    let path = || "/_synapse/admin/v1/register".to_owned();
    let answer = client.get(None, path()).await?;
    let nonce = answers::read::<Nonce<'_>>(&answer, "GET /_synapse/admin/v1/register")?.nonce;
    let request = json!({
        "nonce": nonce,
        "username": localpart,
        "password": password,
        "admin": false,
        "mac": mac(secret, &nonce, localpart, password)?,
    });
    Ok(client.post(None, path(), request.to_string()).await?)
}

/// HMAC-SHA1 in hexadecimal of nonce, name, password and 'notadmin', with a zero byte between each.
fn mac(secret: &str, nonce: &str, localpart: &str, password: &str) -> Result<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes())?;
    mac.update(
        [nonce, localpart, password, "notadmin"]
            .join("\0")
            .as_bytes(),
    );
    Ok(mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mac_is_the_one_that_openssl_computes() {
        // printf 'n\0u\0p\0notadmin' | openssl dgst -sha1 -hmac s
        assert_eq!(
            mac("s", "n", "u", "p").unwrap(),
            "26f3059760aebb1bcdcebc65f1bcb7b75691a8d6"
        );
    }
}
