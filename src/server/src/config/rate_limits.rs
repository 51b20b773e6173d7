//! `[rate_limits]`

use serde::{Deserialize, Serialize};

use super::{
    error::Invalid,
    tree::{Node, Value},
};

/// How often something may be done before `M_LIMIT_EXCEEDED`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Off only where something before this server limits, or in tests.
    pub enabled: bool,
    /// Attempts to log in, by address.
    pub login: RateLimit,
    /// Failed attempts to log in, by the account that is tried.
    pub login_failures: RateLimit,
    /// Registrations and checks whether a name or token is valid, by address.
    pub registration: RateLimit,
    /// Events sent to rooms, by user.
    pub messages: RateLimit,
    /// Events sent to a room by users of this server, and memberships that they change there, by room.
    pub room_messages: RateLimit,
    /// Invitations, by inviting user.
    pub invites: RateLimit,
    /// Invitations, by invited user.
    pub received_invites: RateLimit,
    /// Joins and knocks, by user.
    pub joins: RateLimit,
    /// New and upgraded rooms, by user.
    pub room_creation: RateLimit,
    /// Reports of rooms, events and users, by user.
    pub reports: RateLimit,
    /// Everything else that writes, by user.
    pub writes: RateLimit,
    /// Receipts, typing and presence, by user.
    pub ephemeral: RateLimit,
    /// Managing and looking at delayed events, by user, or by address where nobody says who they are.
    pub delayed_events: RateLimit,
    /// Searches and other reads that cost much, by user.
    pub searches: RateLimit,
    /// Pages of what was said in rooms and who is there, by user: messages, context, relations, threads, events by time,
    /// notifications, state, members. A first /sync counts as ten.
    pub history: RateLimit,
    /// Requests of another server, by its name.
    pub federation: RateLimit,
    /// Requests of other servers, by address, before it is known whose they are.
    pub federation_addresses: RateLimit,
}

/// A bucket that starts full and is refilled steadily.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How often it may be done in the long run.
    pub per_second: f64,
    /// How often it may be done at once.
    pub burst: u32,
}

impl RateLimit {
    const fn new(per_second: f64, burst: u32) -> Self {
        Self { per_second, burst }
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            login: RateLimit::new(0.5, 20),
            login_failures: RateLimit::new(0.1, 5),
            registration: RateLimit::new(0.1, 10),
            messages: RateLimit::new(10.0, 100),
            room_messages: RateLimit::new(200.0, 2_000),
            invites: RateLimit::new(0.5, 30),
            received_invites: RateLimit::new(0.2, 50),
            joins: RateLimit::new(0.5, 30),
            room_creation: RateLimit::new(0.2, 20),
            reports: RateLimit::new(0.1, 10),
            writes: RateLimit::new(20.0, 200),
            ephemeral: RateLimit::new(20.0, 300),
            delayed_events: RateLimit::new(20.0, 200),
            searches: RateLimit::new(5.0, 50),
            history: RateLimit::new(50.0, 500),
            federation: RateLimit::new(50.0, 500),
            federation_addresses: RateLimit::new(200.0, 2_000),
        }
    }
}

impl RateLimits {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let limits = [
            ("rate_limits.login", self.login),
            ("rate_limits.login_failures", self.login_failures),
            ("rate_limits.registration", self.registration),
            ("rate_limits.messages", self.messages),
            ("rate_limits.room_messages", self.room_messages),
            ("rate_limits.invites", self.invites),
            ("rate_limits.received_invites", self.received_invites),
            ("rate_limits.joins", self.joins),
            ("rate_limits.room_creation", self.room_creation),
            ("rate_limits.reports", self.reports),
            ("rate_limits.writes", self.writes),
            ("rate_limits.ephemeral", self.ephemeral),
            ("rate_limits.delayed_events", self.delayed_events),
            ("rate_limits.searches", self.searches),
            ("rate_limits.history", self.history),
            ("rate_limits.federation", self.federation),
            (
                "rate_limits.federation_addresses",
                self.federation_addresses,
            ),
        ];
        // Slower than once in ten days, or faster than a clock of nanoseconds can tell apart.
        let sensible =
            |limit: RateLimit| limit.burst > 0 && (1e-6..=1e6).contains(&limit.per_second);
        match limits.into_iter().find(|(_, limit)| !sensible(*limit)) {
            Some((key, _)) => Err(Invalid::new(
                key,
                "`per_second` must be between 0.000001 and 1000000, `burst` at least 1",
            )),
            None => Ok(()),
        }
    }
}

/// Adds to a limit of which one half is given the other half's default.
pub(super) fn complete(tree: &mut Node) {
    let Ok(defaults) = serde_json::to_value(RateLimits::default()) else {
        return;
    };
    let section = tree
        .as_table_mut()
        .and_then(|sections| sections.get_mut("rate_limits"));
    let Some(limits) = section.and_then(Node::as_table_mut) else {
        return;
    };
    for (name, limit) in limits {
        let origin = limit.origin.clone();
        let (Some(given), Some(default)) = (limit.as_table_mut(), defaults.get(name)) else {
            continue;
        };
        let number = |key: &str| default.get(key).and_then(serde_json::Value::as_f64);
        for (key, value) in [
            ("per_second", number("per_second").map(Value::Float)),
            (
                "burst",
                number("burst").map(|burst| Value::Integer(burst as i64)),
            ),
        ] {
            if let (Some(value), false) = (value, given.contains_key(key)) {
                given.insert(
                    key.to_owned(),
                    Node {
                        origin: origin.clone(),
                        value,
                    },
                );
            }
        }
    }
}
