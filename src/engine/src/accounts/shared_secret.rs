//! Registration by a secret that scripts share with the server, as Synapse has it:
//! <https://element-hq.github.io/synapse/latest/admin_api/register_api.html>.

use hmac::{Hmac, KeyInit, Mac};
use parley_storage::tokens;
use sha1::Sha1;

use super::{Account, Accounts, NewUser};
use crate::{EngineError, Result, settings::Secret};

/// How long a challenge may be answered, in milliseconds.
const NONCE_LIFETIME: i64 = 60_000;
/// Characters of a challenge: 238 bits.
const NONCE_LENGTH: usize = 40;

/// Someone who is to get an account, vouched for by the shared secret.
#[derive(Clone, Debug)]
pub struct SharedSecretRegistration {
    /// The challenge that is answered.
    pub nonce: String,
    /// The localpart of the ID, in any case.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// Whether the user is to administer this server.
    pub admin: bool,
    /// Part of what the MAC is over, without a meaning here.
    pub user_type: Option<String>,
    /// HMAC-SHA1 by the shared secret over all of the above, in hexadecimal.
    pub mac: String,
}

impl Accounts {
    /// A challenge to be answered within a minute, once.
    ///
    /// # Errors
    /// `M_UNKNOWN` with status 400 if the server has no shared secret.
    pub async fn registration_nonce(&self) -> Result<String> {
        self.shared_secret()?;
        let nonce = self.random.alphanumeric(NONCE_LENGTH);
        let now = self.clock.now_ms();
        let mut transaction = self.database.write().await?;
        tokens::insert_nonce(&mut transaction, &nonce, now, now + NONCE_LIFETIME).await?;
        transaction.commit().await?;
        Ok(nonce)
    }

    /// Makes an account, whoever may register otherwise.
    ///
    /// # Errors
    /// `M_UNKNOWN` if the server has no shared secret or the challenge isn't good any more, `M_FORBIDDEN` if the MAC is
    /// wrong, and what [`Accounts::create`] refuses.
    pub async fn register_by_shared_secret(
        &self,
        registration: SharedSecretRegistration,
    ) -> Result<Account> {
        let secret = self.shared_secret()?;
        // They separate the parts that the MAC is over.
        let parts = [&registration.username, registration.password.expose()];
        if parts.iter().any(|part| part.contains('\0')) {
            return Err(EngineError::invalid_param(
                "neither the user name nor the password may hold a null character",
            ));
        }
        self.take_nonce(&registration.nonce).await?;
        check_mac(secret, &registration)?;
        self.create(NewUser {
            username: Some(registration.username),
            password: Some(registration.password),
            admin: registration.admin,
            ..NewUser::default()
        })
        .await
    }

    fn shared_secret(&self) -> Result<&Secret> {
        let secret = self.settings.registration.shared_secret.as_ref();
        secret.ok_or_else(|| {
            EngineError::unknown("registration by a shared secret is not enabled on this server")
        })
    }

    async fn take_nonce(&self, nonce: &str) -> Result<()> {
        let unknown = || EngineError::unknown("the nonce is not known, was used or has expired");
        if nonce.contains('\0') {
            return Err(unknown());
        }
        let mut transaction = self.database.write().await?;
        if !tokens::take_nonce(&mut transaction, nonce, self.clock.now_ms()).await? {
            return Err(unknown());
        }
        Ok(transaction.commit().await?)
    }
}

/// Compares the MAC, in a time that tells nothing about it.
fn check_mac(secret: &Secret, registration: &SharedSecretRegistration) -> Result<()> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes())
        .map_err(|error| EngineError::Internal(error.to_string()))?;
    let admin = match registration.admin {
        true => "admin",
        false => "notadmin",
    };
    let parts = [
        &registration.nonce,
        &registration.username,
        registration.password.expose(),
        admin,
    ];
    for (index, part) in parts
        .into_iter()
        .chain(registration.user_type.as_deref())
        .enumerate()
    {
        if index > 0 {
            mac.update(b"\0");
        }
        mac.update(part.as_bytes());
    }
    let given = bytes_of_hex(&registration.mac);
    let right = given.is_some_and(|given| mac.verify_slice(&given).is_ok());
    if right {
        return Ok(());
    }
    Err(EngineError::forbidden("the MAC is wrong"))
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}
