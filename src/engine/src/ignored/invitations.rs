//! Of whom a user wants invitations.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#invite-permission>, and by users and servers
//! <https://github.com/matrix-org/matrix-spec-proposals/pull/4155>

use ruma::UserId;
use serde::Deserialize;
use wildmatch::WildMatch;

/// The type of account data that says whether invitations are wanted at all.
pub(super) const ALL: &str = "m.invite_permission_config";
/// The type of account data that says of which users and servers they are, as proposed.
pub(super) const BY_SENDER: &str = "org.matrix.msc4155.invite_permission_config";
/// Patterns that are looked at; what a client puts there beyond is passed over.
const MAX_PATTERNS: usize = 1_000;

/// What becomes of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    /// It is told.
    Allow,
    /// It isn't told, and whoever sends it doesn't learn that.
    Ignore,
    /// It is refused.
    Block,
}

/// Of whom a user wants invitations.
#[derive(Debug)]
pub(super) struct Rules {
    /// Whether to begin with none is wanted.
    none: bool,
    by_sender: Option<BySender>,
}

/// Patterns of users and servers, in which `*` and `?` stand for any characters and any one.
#[derive(Debug, Deserialize)]
struct BySender {
    enabled: Option<bool>,
    allowed_users: Option<Patterns>,
    ignored_users: Option<Patterns>,
    blocked_users: Option<Patterns>,
    allowed_servers: Option<Patterns>,
    ignored_servers: Option<Patterns>,
    blocked_servers: Option<Patterns>,
}

#[derive(Debug, Deserialize)]
#[serde(from = "Vec<String>")]
struct Patterns(Vec<WildMatch>);

impl From<Vec<String>> for Patterns {
    fn from(patterns: Vec<String>) -> Self {
        let patterns = patterns.iter().take(MAX_PATTERNS);
        Self(patterns.map(|pattern| WildMatch::new(pattern)).collect())
    }
}

impl Rules {
    /// Reads what both types of account data say; `None` if every invitation is wanted. What has another shape says nothing.
    pub(super) fn parse(all: Option<&str>, by_sender: Option<&str>) -> Option<Self> {
        #[derive(Deserialize)]
        struct All {
            default_action: String,
        }
        let all = all.and_then(|content| serde_json::from_str::<All>(content).ok());
        let by_sender =
            by_sender.and_then(|content| serde_json::from_str::<BySender>(content).ok());
        let rules = Self {
            none: all.is_some_and(|all| all.default_action == "block"),
            by_sender: by_sender.filter(|rules| rules.enabled != Some(false)),
        };
        (rules.none || rules.by_sender.is_some()).then_some(rules)
    }

    /// What becomes of an invitation by somebody. Users come before servers, and to allow before to ignore before to block.
    pub(super) fn reception(&self, sender: &UserId) -> Reception {
        let by_sender = self.by_sender.as_ref();
        by_sender
            .and_then(|rules| rules.reception(sender))
            .unwrap_or(match self.none {
                true => Reception::Block,
                false => Reception::Allow,
            })
    }

    /// About how many bytes this takes.
    pub(super) fn bytes(&self) -> u64 {
        const PATTERN: u64 = 120;
        let patterns = self.by_sender.as_ref().map_or(0, |rules| {
            let lists = rules.users().into_iter().chain(rules.servers());
            lists
                .filter_map(|(patterns, _)| patterns.as_ref())
                .map(|patterns| patterns.0.len() as u64)
                .sum()
        });
        (patterns + 1) * PATTERN
    }
}

impl BySender {
    fn users(&self) -> [(&Option<Patterns>, Reception); 3] {
        [
            (&self.allowed_users, Reception::Allow),
            (&self.ignored_users, Reception::Ignore),
            (&self.blocked_users, Reception::Block),
        ]
    }

    fn servers(&self) -> [(&Option<Patterns>, Reception); 3] {
        [
            (&self.allowed_servers, Reception::Allow),
            (&self.ignored_servers, Reception::Ignore),
            (&self.blocked_servers, Reception::Block),
        ]
    }

    fn reception(&self, sender: &UserId) -> Option<Reception> {
        let server = sender.server_name().host();
        let users = self
            .users()
            .map(|(patterns, then)| (patterns, then, sender.as_str()));
        let servers = self
            .servers()
            .map(|(patterns, then)| (patterns, then, server));
        users
            .into_iter()
            .chain(servers)
            .find_map(|(patterns, then, name)| {
                let patterns = &patterns.as_ref()?.0;
                patterns
                    .iter()
                    .any(|pattern| pattern.matches(name))
                    .then_some(then)
            })
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn reception(by_sender: &str, sender: &UserId) -> Reception {
        Rules::parse(None, Some(by_sender))
            .map_or(Reception::Allow, |rules| rules.reception(sender))
    }

    #[test]
    fn invitations_are_blocked_only_in_those_words() {
        let blocks = |content| Rules::parse(content, None).is_some();
        assert!(blocks(Some("{\"default_action\":\"block\"}")));
        for content in [
            None,
            Some("{}"),
            Some("{\"default_action\":\"allow\"}"),
            Some("{\"default_action\":true}"),
        ] {
            assert!(!blocks(content), "{content:?}");
        }
    }

    #[test]
    fn users_come_before_servers_and_to_allow_before_all_else() {
        let rules = r#"{
            "allowed_users": ["@a:evil.org"], "ignored_users": ["@a:*", "@i*:evil.org"], "blocked_users": ["@?:good.org"],
            "allowed_servers": ["good.org"], "ignored_servers": null, "blocked_servers": ["*.org"]
        }"#;
        for (sender, expected) in [
            (user_id!("@a:evil.org"), Reception::Allow),
            (user_id!("@a:else.net"), Reception::Ignore),
            (user_id!("@ian:evil.org"), Reception::Ignore),
            (user_id!("@b:good.org"), Reception::Block),
            (user_id!("@bob:good.org:8448"), Reception::Allow),
            (user_id!("@bob:evil.org"), Reception::Block),
            (user_id!("@bob:else.net"), Reception::Allow),
        ] {
            assert_eq!(reception(rules, sender), expected, "{sender}");
        }
    }

    #[test]
    fn who_is_allowed_is_so_where_all_others_are_blocked() {
        let all = Some("{\"default_action\":\"block\"}");
        let rules = Rules::parse(all, Some(r#"{"allowed_users":["@a:x"]}"#)).unwrap();
        assert_eq!(rules.reception(user_id!("@a:x")), Reception::Allow);
        assert_eq!(rules.reception(user_id!("@b:x")), Reception::Block);
    }

    #[test]
    fn rules_that_are_none_or_switched_off_allow_everybody() {
        for rules in [
            "{}",
            r#"{"blocked_users":"@a:x"}"#,
            r#"{"blocked_users":[1]}"#,
            r#"{"enabled":false,"blocked_users":["*"]}"#,
        ] {
            assert_eq!(
                reception(rules, user_id!("@a:x")),
                Reception::Allow,
                "{rules}"
            );
        }
    }
}
