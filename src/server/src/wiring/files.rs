//! What the configuration names by the path of a file, and the engine wants to have read.

use std::{fs, path::Path};

use parley_engine::{
    accounts::check_jwt_settings,
    appservices::check_registrations,
    settings::{AppserviceRegistration, EngineSettings, JwtKey, JwtSettings, Secret},
};

use parley_federation::FederationSettings;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{WiringError, settings};
use crate::config::{self, Config};

/// Adds what is in the files.
pub(super) fn read(config: &Config, settings: &mut EngineSettings) -> Result<(), WiringError> {
    settings.login.jwt = jwt(&config.jwt)?;
    for path in &config.appservices.registrations {
        let registration = AppserviceRegistration::parse(&text(path)?);
        settings
            .appservices
            .push(registration.map_err(|message| refused(path, message))?);
    }
    check_registrations(&settings.appservices, &settings.server_name)
        .map_err(WiringError::Appservices)
}

fn jwt(jwt: &config::Jwt) -> Result<Option<JwtSettings>, WiringError> {
    let by_secret = jwt.algorithm.starts_with("HS");
    let key = match (&jwt.secret, &jwt.public_key) {
        (Some(secret), path) if by_secret || path.is_none() => {
            JwtKey::Secret(Secret::new(secret.expose()))
        }
        (_, Some(path)) => JwtKey::PublicKey(text(path)?),
        (_, None) => return Ok(None),
    };
    let settings = JwtSettings {
        algorithm: jwt.algorithm.clone(),
        subject_claim: jwt.subject_claim.clone(),
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        create_accounts: jwt.create_accounts,
        ..JwtSettings::new(key)
    };
    check_jwt_settings(&settings).map_err(WiringError::Jwt)?;
    Ok(Some(settings))
}

/// What the federation crate is told, with the certificates that the configuration names.
pub(super) fn federation(config: &Config) -> Result<FederationSettings, WiringError> {
    let mut settings = settings::federation(config);
    if let Some(path) = &config.federation.ca_file {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        settings.authorities = certificates.map_err(|error| refused(path, error.to_string()))?;
        if settings.authorities.is_empty() {
            return Err(refused(path, "there is no certificate in it".to_owned()));
        }
    }
    Ok(settings)
}

fn text(path: &Path) -> Result<String, WiringError> {
    fs::read_to_string(path).map_err(|error| refused(path, error.to_string()))
}

fn refused(path: &Path, message: String) -> WiringError {
    WiringError::File {
        path: path.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_config(text: &str) -> Result<EngineSettings, String> {
        let config = Config::parse(text, Path::new("parley.toml"), []).unwrap();
        let mut engine = settings::engine(&config);
        read(&config, &mut engine).map_err(|error| error.to_string())?;
        Ok(engine)
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let refused = read_config("appservices.registrations = [\"/nowhere/irc.yaml\"]");
        assert!(refused.unwrap_err().contains("/nowhere/irc.yaml"));
    }

    #[test]
    fn a_registration_that_is_none_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "id: irc").unwrap();
        let path = file.path().display();
        let refused = read_config(&format!("appservices.registrations = [\"{path}\"]"));
        assert!(refused.unwrap_err().contains(&path.to_string()));
    }

    #[test]
    fn a_secret_alone_lets_log_in_by_tokens() {
        let text = "jwt.secret = \"0123456789abcdef\"\njwt.issuer = \"portal\"";
        let jwt = read_config(text).unwrap().login.jwt.unwrap();
        assert_eq!(jwt.issuer.as_deref(), Some("portal"));
        let refused = read_config(&format!("{text}\njwt.algorithm = \"ES256\""));
        assert!(refused.unwrap_err().contains("public key"));
        assert!(read_config("").unwrap().login.jwt.is_none());
    }
}
