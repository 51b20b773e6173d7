//! Logging in by a JSON Web Token that another service signed: `org.matrix.login.jwt`.
//!
//! Not in the specification, but what Synapse has for portals that know their users already:
//! <https://element-hq.github.io/synapse/latest/jwt.html>.

mod provider;

use std::{collections::HashSet, fmt, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use parley_storage::accounts;
use serde_json::{Map, Value};

use super::{Account, Accounts, NewUser, is_guest_name};
use crate::{
    EngineError, Result,
    settings::{JwtKey, JwtSettings},
    text,
};

/// By how much the clocks of the signing service and of this server may differ, in seconds.
const LEEWAY: i64 = 60;

/// What tokens are checked by.
#[derive(Clone)]
pub(super) struct JwtVerifier {
    key: Arc<DecodingKey>,
    validation: Arc<Validation>,
    settings: Arc<JwtSettings>,
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JwtVerifier(..)")
    }
}

/// Whether tokens could be checked by these settings.
///
/// # Errors
/// A sentence that says what is wrong: the algorithm isn't known, or the key isn't one of that algorithm.
pub fn check_settings(settings: &JwtSettings) -> Result<(), String> {
    JwtVerifier::new(settings).map(drop)
}

impl JwtVerifier {
    pub(super) fn new(settings: &JwtSettings) -> Result<Self, String> {
        provider::install();
        let algorithm: Algorithm = settings
            .algorithm
            .parse()
            .map_err(|_| format!("no algorithm is called {:?}", settings.algorithm))?;
        let key = decoding_key(algorithm, &settings.key)?;
        let mut validation = Validation::new(algorithm);
        // Times are compared to the engine's own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let mut required = HashSet::new();
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            required.insert("iss".to_owned());
        }
        // A token for an audience that isn't this server is refused even where none is configured.
        if !settings.audiences.is_empty() {
            validation.set_audience(&settings.audiences);
            required.insert("aud".to_owned());
        }
        validation.required_spec_claims = required;
        Ok(Self {
            key: Arc::new(key),
            validation: Arc::new(validation),
            settings: Arc::new(settings.clone()),
        })
    }

    /// The user name that a token vouches for.
    fn username(&self, token: &str, now_ms: i64) -> Result<String> {
        let refused =
            |reason: String| EngineError::forbidden(format!("the token is refused: {reason}"));
        // Told apart from a wrong signature, as it is the commonest mistake in setting this up.
        let header = decode_header(token).map_err(|error| refused(error.to_string()))?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(refused("it is signed by another algorithm".to_owned()));
        }
        let claims = decode::<Map<String, Value>>(token, &self.key, &self.validation)
            .map_err(|error| refused(error.to_string()))?
            .claims;
        check_times(&claims, now_ms / 1_000).map_err(|reason| refused(reason.to_owned()))?;
        let subject = &self.settings.subject_claim;
        match claims.get(subject).and_then(Value::as_str) {
            Some(name) => Ok(name.to_owned()),
            None => Err(refused(format!("it has no text as `{subject}`"))),
        }
    }
}

/// Compares `exp` and `nbf` to the time, if they are there.
fn check_times(claims: &Map<String, Value>, now: i64) -> Result<(), &'static str> {
    let time = |claim: &str| match claims.get(claim) {
        None => Ok(None),
        // Fractions of seconds are allowed, and don't matter here.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, far beyond any time"
        )]
        Some(value) => match value.as_f64() {
            Some(seconds) => Ok(Some(seconds as i64)),
            None => Err("a time in it is not a number"),
        },
    };
    if time("exp")?.is_some_and(|end| end.saturating_add(LEEWAY) <= now) {
        return Err("it has expired");
    }
    if time("nbf")?.is_some_and(|start| start.saturating_sub(LEEWAY) > now) {
        return Err("it is not valid yet");
    }
    Ok(())
}

fn decoding_key(algorithm: Algorithm, key: &JwtKey) -> Result<DecodingKey, String> {
    let kind = match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return match key {
                JwtKey::Secret(secret) => Ok(DecodingKey::from_secret(secret.expose().as_bytes())),
                JwtKey::PublicKey(_) => {
                    Err("that algorithm takes a secret, no public key".to_owned())
                }
            };
        }
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem,
        Algorithm::EdDSA => DecodingKey::from_ed_pem,
        _ => DecodingKey::from_rsa_pem,
    };
    let JwtKey::PublicKey(pem) = key else {
        return Err("that algorithm takes a public key, no secret".to_owned());
    };
    kind(pem.as_bytes()).map_err(|error| format!("the public key can't be read: {error}"))
}

impl Accounts {
    /// Whether one can log in by a JSON Web Token.
    pub fn has_jwt_login(&self) -> bool {
        self.jwt.is_some()
    }

    /// The account of whom a JSON Web Token vouches for. It is made if there is none and the settings allow it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the token isn't good or there is no such account, `M_UNKNOWN` if this way to log in is off;
    /// `M_USER_LOCKED`, `M_USER_DEACTIVATED`; what [`Accounts::create`] refuses.
    pub async fn log_in_by_jwt(&self, token: &str) -> Result<Account> {
        let Some(jwt) = &self.jwt else {
            return Err(EngineError::unknown(
                "this server knows no such way to log in",
            ));
        };
        let username = jwt.username(token, self.clock.now_ms())?;
        let user_id = text::user_id_of(&username, &self.settings.server_name)?;
        if is_guest_name(user_id.localpart()) {
            return Err(EngineError::forbidden(
                "the token names somebody by digits alone, as guests are",
            ));
        }
        if let Some(row) = accounts::find(&self.database, user_id.as_str()).await? {
            return self.admitted(row);
        }
        if !jwt.settings.create_accounts {
            return Err(EngineError::forbidden("there is no such account"));
        }
        self.create(NewUser {
            username: Some(username),
            ..NewUser::default()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;

    const NOW: i64 = 1_700_000_000;

    fn claims(json: Value) -> Map<String, Value> {
        json.as_object().unwrap().clone()
    }

    #[test]
    fn a_token_is_good_between_its_times_give_or_take_a_minute() {
        let check = |json| check_times(&claims(json), NOW);
        assert!(check(serde_json::json!({})).is_ok());
        assert!(check(serde_json::json!({ "exp": NOW - 59, "nbf": 1_700_000_059.5 })).is_ok());
        assert_eq!(
            check(serde_json::json!({ "exp": NOW - 60 })),
            Err("it has expired")
        );
        assert!(check(serde_json::json!({ "nbf": NOW + 61 })).is_err());
        assert!(check(serde_json::json!({ "exp": "tomorrow" })).is_err());
    }

    #[test]
    fn a_key_has_to_be_one_of_its_algorithm() {
        let settings = |algorithm: &str, key| JwtSettings {
            algorithm: algorithm.to_owned(),
            ..JwtSettings::new(key)
        };
        let secret = || JwtKey::Secret(Secret::new("secret"));
        let public = || JwtKey::PublicKey("no PEM".to_owned());
        assert_eq!(check_settings(&settings("HS256", secret())), Ok(()));
        assert!(check_settings(&settings("HS256", public())).is_err());
        assert!(check_settings(&settings("RS256", secret())).is_err());
        assert!(check_settings(&settings("RS256", public())).is_err());
        assert!(check_settings(&settings("none", secret())).is_err());
    }

    /// Made by OpenSSL 3: for each kind of key a public key, and a token `{"sub":"alice"}` signed by its private key.
    const SIGNED: &[(&str, &str, &str)] = include!("jwt/signed.in");

    #[test]
    fn tokens_of_every_kind_of_key_are_verified() {
        for (algorithm, pem, token) in SIGNED {
            let settings = JwtSettings {
                algorithm: (*algorithm).to_owned(),
                ..JwtSettings::new(JwtKey::PublicKey((*pem).to_owned()))
            };
            let verifier = JwtVerifier::new(&settings).unwrap();
            assert_eq!(verifier.username(token, 0).unwrap(), "alice", "{algorithm}");
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { 'B' } else { 'A' };
            let forged = format!("{signed}.{first}{}", &signature[1..]);
            assert!(verifier.username(&forged, 0).is_err(), "{algorithm}");
        }
    }
}
