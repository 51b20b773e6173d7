//! What an application service brings along: <https://spec.matrix.org/v1.19/application-service-api/#registration>.

use std::{collections::BTreeSet, fmt, sync::Arc};

use regex::Regex;
use ruma::{
    ServerName, UserId,
    api::appservice::{Namespace, Registration},
};

use super::Appservice;

/// The registration of an application service, as it stands in its YAML file.
#[derive(Clone)]
pub struct AppserviceRegistration(Arc<Registration>);

impl AsRef<Registration> for AppserviceRegistration {
    fn as_ref(&self) -> &Registration {
        &self.0
    }
}

impl fmt::Debug for AppserviceRegistration {
    /// Without the tokens.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("AppserviceRegistration")
            .field(&self.0.id)
            .finish()
    }
}

impl AppserviceRegistration {
    /// Reads the text of a registration file, YAML.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        let registration: Registration =
            serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        for (name, value) in [
            ("id", &registration.id),
            ("as_token", &registration.as_token),
            ("hs_token", &registration.hs_token),
            ("sender_localpart", &registration.sender_localpart),
        ] {
            if value.is_empty() {
                return Err(format!("`{name}` is empty"));
            }
        }
        let namespaces = &registration.namespaces;
        for list in [&namespaces.users, &namespaces.aliases, &namespaces.rooms] {
            Names::new(list)?;
        }
        Ok(Self(Arc::new(registration)))
    }

    /// The application service at a server of that name.
    pub(super) fn start(&self, server_name: &ServerName) -> Result<Appservice, String> {
        let localpart = &self.0.sender_localpart;
        let sender = UserId::parse(format!("@{localpart}:{server_name}"))
            .ok()
            .filter(|_| !localpart.contains('\0'))
            .ok_or_else(|| format!("{localpart:?} can't be a user name"))?;
        Ok(Appservice {
            users: Names::new(&self.0.namespaces.users)?,
            aliases: Names::new(&self.0.namespaces.aliases)?,
            registration: self.clone(),
            sender,
        })
    }
}

/// Refuses application services that couldn't be told apart.
///
/// # Errors
/// A sentence that names them.
pub(super) fn check_unique(registrations: &[AppserviceRegistration]) -> Result<(), String> {
    let (mut ids, mut tokens) = (BTreeSet::new(), BTreeSet::new());
    for AppserviceRegistration(registration) in registrations {
        let id = &registration.id;
        if !ids.insert(id) {
            return Err(format!("two application services have the id {id:?}"));
        }
        if !tokens.insert(&registration.as_token) {
            return Err(format!(
                "the application service {id:?} has the `as_token` of another"
            ));
        }
    }
    Ok(())
}

/// The names of one kind that an application service is interested in.
#[derive(Debug)]
pub(super) struct Names(Vec<(bool, Regex)>);

impl Names {
    fn new(namespaces: &[Namespace]) -> Result<Self, String> {
        let pattern = |namespace: &Namespace| {
            // The specification doesn't say where a match begins; everywhere it is the beginning of the name.
            Regex::new(&format!("^(?:{})", namespace.regex))
                .map(|regex| (namespace.exclusive, regex))
                .map_err(|error| format!("`regex`: {error}"))
        };
        namespaces
            .iter()
            .map(pattern)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn include(&self, name: &str) -> bool {
        self.0.iter().any(|(_, regex)| regex.is_match(name))
    }

    pub(super) fn include_exclusively(&self, name: &str) -> bool {
        let mut exclusive = self.0.iter().filter(|(exclusive, _)| *exclusive);
        exclusive.any(|(_, regex)| regex.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use ruma::{server_name, user_id};

    use super::*;

    fn yaml(id: &str, token: &str) -> String {
        format!(
            "id: {id}\nurl: null\nas_token: {token}\nhs_token: hs\nsender_localpart: _irc_bot\n\
             namespaces:\n  users:\n    - exclusive: true\n      regex: '@_irc_.*|@irc'\n"
        )
    }

    #[test]
    fn a_namespace_is_matched_from_the_beginning_and_on_this_server() {
        let registration = AppserviceRegistration::parse(&yaml("irc", "as")).unwrap();
        let appservice = registration.start(server_name!("a.test")).unwrap();
        assert_eq!(appservice.sender(), "@_irc_bot:a.test");
        assert!(appservice.covers_user(user_id!("@_irc_x:a.test")));
        assert!(appservice.covers_user(user_id!("@irc:a.test")));
        assert!(!appservice.covers_user(user_id!("@x_irc_:a.test")));
        assert!(!appservice.covers_user(user_id!("@_irc_x:b.test")));
    }

    #[test]
    fn what_is_no_registration_is_refused() {
        for wrong in [
            "[]",
            "id: x",
            &yaml("''", "as"),
            &yaml("irc", "as").replace("@irc'", "('"),
        ] {
            assert!(AppserviceRegistration::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_two_have_the_same_id_or_token() {
        let parse = |id, token| AppserviceRegistration::parse(&yaml(id, token)).unwrap();
        assert!(check_unique(&[parse("a", "1"), parse("b", "2")]).is_ok());
        assert!(check_unique(&[parse("a", "1"), parse("a", "2")]).is_err());
        assert!(check_unique(&[parse("a", "1"), parse("b", "1")]).is_err());
    }

    #[test]
    fn tokens_do_not_get_into_logs() {
        let registration = AppserviceRegistration::parse(&yaml("irc", "s3cret")).unwrap();
        assert!(!format!("{registration:?}").contains("s3cret"));
    }
}
