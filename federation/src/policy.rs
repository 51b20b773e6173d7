//! With whom this server speaks.

use ruma::ServerName;

use crate::FederationSettings;

/// Lists of servers.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    enabled: bool,
    allowed: Vec<String>,
    denied: Vec<String>,
}

impl Policy {
    pub(crate) fn new(settings: &FederationSettings) -> Self {
        let lower = |patterns: &[String]| patterns.iter().map(|text| text.to_lowercase()).collect();
        Self {
            enabled: settings.enabled,
            allowed: lower(&settings.allowed_servers),
            denied: lower(&settings.denied_servers),
        }
    }

    /// Whether this server speaks with others at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether this server speaks with another.
    pub(crate) fn allows(&self, server: &ServerName) -> bool {
        let is_in = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, server));
        self.enabled && !is_in(&self.denied) && (self.allowed.is_empty() || is_in(&self.allowed))
    }
}

/// Whether a server is meant by a name, with its port or without, or by `*.` and a domain.
fn matches(pattern: &str, server: &ServerName) -> bool {
    let host = server.host().to_lowercase();
    match pattern.strip_prefix("*.") {
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.')),
        None => host == *pattern || server.as_str().to_lowercase() == *pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allowed: &[&str], denied: &[&str], server: &str) -> bool {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let settings = FederationSettings {
            allowed_servers: texts(allowed),
            denied_servers: texts(denied),
            ..FederationSettings::default()
        };
        Policy::new(&settings).allows(server.try_into().unwrap())
    }

    #[test]
    fn a_list_of_allowed_servers_shuts_out_all_others() {
        assert!(allows(&[], &[], "a.example"));
        assert!(allows(&["a.example"], &[], "A.example:8448"));
        assert!(!allows(&["a.example"], &[], "b.example"));
        assert!(allows(&["*.example"], &[], "b.example"));
        assert!(!allows(&["*.example"], &[], "bexample"));
        assert!(!allows(&["*.example"], &[], "example"));
    }

    #[test]
    fn a_denied_server_is_shut_out_even_if_it_is_allowed() {
        assert!(!allows(&["a.example"], &["a.example"], "a.example"));
        assert!(!allows(&[], &["*.a.example"], "b.a.example:1"));
        assert!(allows(&[], &["a.example:1"], "a.example:2"));
    }
}
