//! The configuration as each crate wants to be told.

use parley_client_api::{ClientApiSettings, WellKnownSettings};
use parley_engine::settings::{
    AccountLimits, DelayedEventSettings, EngineSettings, LoginSettings, PasswordSettings, Policy,
    PresenceSettings, RateLimit, RateLimitSettings, RegistrationMode, RegistrationSettings,
    RoomSettings, Secret, ServerNoticeSettings, SyncSettings, TokenSettings, TurnAccess,
    TurnSettings, UserDirectorySettings,
};
use parley_federation::FederationSettings;
use parley_storage::DatabaseSettings;
use url::Url;

use crate::config::{self, Config};

/// Where the database is and what it may use.
pub(super) fn database(config: &Config) -> DatabaseSettings {
    let database = &config.database;
    DatabaseSettings {
        data_dir: config.server.data_dir.clone(),
        url: database.url.as_ref().map(|url| url.expose().to_owned()),
        connections: match &database.url {
            Some(_) => database.postgres_connections,
            None => database.sqlite_readers,
        },
        sqlite_cache_kib: kib(database.sqlite_cache),
        turns: None,
    }
}

/// What the client-server API is told beside the engine.
pub(super) fn client_api(config: &Config) -> ClientApiSettings {
    ClientApiSettings {
        max_body_size: usize::try_from(config.listener.max_body_size).unwrap_or(usize::MAX),
        well_known: well_known(config),
    }
}

fn well_known(config: &Config) -> WellKnownSettings {
    let address = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
    let well_known = &config.well_known;
    let client = well_known.client_base_url.as_ref();
    WellKnownSettings {
        homeserver_url: client.or(config.server.public_url.as_ref()).map(address),
        server: well_known.server.clone(),
        support_user: well_known.support_user.clone(),
        support_email: well_known.support_email.clone(),
        support_page: well_known.support_page.as_ref().map(Url::to_string),
        livekit_service_url: well_known.livekit_service_url.as_ref().map(address),
    }
}

/// With whom to federate; without what is in files.
pub(super) fn federation(config: &Config) -> FederationSettings {
    let federation = &config.federation;
    FederationSettings {
        enabled: federation.enabled,
        permitted_networks: federation.permitted_networks.clone(),
        notaries: federation.trusted_notaries.clone(),
        allowed_servers: federation.allowed_servers.clone(),
        denied_servers: federation.denied_servers.clone(),
        identity_servers: federation.identity_servers.clone(),
        ..FederationSettings::default()
    }
}

/// The engine's settings.
pub(super) fn engine(config: &Config) -> EngineSettings {
    EngineSettings {
        server_name: config.server.name.clone(),
        registration: registration(&config.registration),
        passwords: passwords(&config.passwords),
        login: LoginSettings {
            by_token: config.login.by_token,
            // Read from files, as the application services are.
            jwt: None,
        },
        appservices: Vec::new(),
        tokens: tokens(&config.tokens),
        rooms: RoomSettings {
            default_version: config.rooms.default_version.clone(),
            max_joined: config.rooms.max_joined,
            forget_on_leave: config.rooms.forget_on_leave,
            ..RoomSettings::default()
        },
        rate_limits: rate_limits(&config.rate_limits),
        limits: account_limits(config),
        delayed_events: DelayedEventSettings {
            max_delay: config.delayed_events.max_delay,
            max_scheduled: config.delayed_events.max_scheduled,
        },
        server_notices: server_notices(&config.server_notices),
        presence: PresenceSettings {
            enabled: config.presence.enabled,
            unavailable_after: config.presence.unavailable_after,
            offline_after: config.presence.offline_after,
        },
        sync: SyncSettings {
            max_timeout: config.sync.max_timeout,
            default_timeline_limit: config.sync.default_timeline_limit,
            max_timeline_limit: config.sync.max_timeline_limit,
        },
        user_directory: UserDirectorySettings {
            all_users: config.user_directory.all_users,
        },
        turn: turn(&config.turn),
    }
}

fn turn(turn: &config::Turn) -> Option<TurnSettings> {
    let secret = |secret: &config::Secret| Secret::new(secret.expose());
    let access = match (&turn.shared_secret, &turn.username, &turn.password) {
        (Some(shared), _, _) => TurnAccess::SharedSecret(secret(shared)),
        (None, Some(username), Some(password)) => TurnAccess::Password {
            username: username.clone(),
            password: secret(password),
        },
        _ => return None,
    };
    (!turn.uris.is_empty()).then(|| TurnSettings {
        uris: turn.uris.clone(),
        access,
        lifetime: turn.lifetime,
        guests: turn.guests,
    })
}

fn account_limits(config: &Config) -> AccountLimits {
    let limits = &config.limits;
    let info = limits.info_url.as_ref();
    let info = info.or(config.well_known.support_page.as_ref());
    let defaults = AccountLimits::new(&config.server.name);
    AccountLimits {
        info_uri: info.map_or(defaults.info_uri, Url::to_string),
        aliases_per_room: limits.aliases_per_room,
        aliases_per_user: limits.aliases_per_user,
        account_data: limits.account_data,
        account_data_size: bytes(limits.account_data_size),
        filters: limits.filters,
        profile_size: bytes(limits.profile_size),
        pushers: limits.pushers,
    }
}

fn server_notices(notices: &config::ServerNotices) -> Option<ServerNoticeSettings> {
    Some(ServerNoticeSettings {
        localpart: notices.localpart.clone()?,
        display_name: notices.display_name.clone(),
        avatar_url: notices.avatar_url.clone(),
        room_name: notices.room_name.clone(),
        room_topic: notices.room_topic.clone(),
    })
}

fn registration(registration: &config::Registration) -> RegistrationSettings {
    let secret = |secret: &config::Secret| Secret::new(secret.expose());
    RegistrationSettings {
        mode: match registration.mode {
            config::RegistrationMode::Closed => RegistrationMode::Closed,
            config::RegistrationMode::Token => RegistrationMode::Token,
            config::RegistrationMode::OpenWithoutVerification => RegistrationMode::Open,
        },
        tokens: registration.tokens.iter().map(secret).collect(),
        shared_secret: registration.shared_secret.as_ref().map(secret),
        guests: registration.guests,
        terms: registration.terms.iter().map(policy).collect(),
    }
}

fn policy(policy: &config::Policy) -> Policy {
    Policy {
        id: policy.id.clone(),
        version: policy.version.clone(),
        language: policy.language.clone(),
        name: policy.name.clone(),
        url: policy.url.clone(),
    }
}

fn passwords(passwords: &config::Passwords) -> PasswordSettings {
    PasswordSettings {
        memory_kib: kib(passwords.memory),
        iterations: passwords.iterations,
        parallelism: passwords.parallelism,
        minimum_length: passwords.minimum_length,
    }
}

fn tokens(tokens: &config::Tokens) -> TokenSettings {
    TokenSettings {
        access_token_lifetime: tokens.access_token_lifetime,
        refresh_token_lifetime: tokens.refresh_token_lifetime,
        session_lifetime: tokens.session_lifetime,
        login_token_lifetime: tokens.login_token_lifetime,
        openid_token_lifetime: tokens.openid_token_lifetime,
        authentication_timeout: tokens.authentication_timeout,
        max_devices: tokens.max_devices,
    }
}

fn rate_limits(limits: &config::RateLimits) -> RateLimitSettings {
    let limit = |limit: config::RateLimit| RateLimit::new(limit.per_second, limit.burst);
    RateLimitSettings {
        enabled: limits.enabled,
        login: limit(limits.login),
        login_failures: limit(limits.login_failures),
        registration: limit(limits.registration),
        messages: limit(limits.messages),
        room_messages: limit(limits.room_messages),
        invites: limit(limits.invites),
        received_invites: limit(limits.received_invites),
        joins: limit(limits.joins),
        room_creation: limit(limits.room_creation),
        reports: limit(limits.reports),
        writes: limit(limits.writes),
        ephemeral: limit(limits.ephemeral),
        delayed_events: limit(limits.delayed_events),
        searches: limit(limits.searches),
        history: limit(limits.history),
        federation: limit(limits.federation),
        federation_addresses: limit(limits.federation_addresses),
    }
}

/// The same for sizes that are told in bytes.
fn bytes(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Sizes are limited where the configuration is checked, far below where this would overflow.
fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_engine() {
        let config = Config::default();
        let own = EngineSettings::new(config.server.name.clone());
        assert_eq!(format!("{:#?}", engine(&config)), format!("{own:#?}"));
    }

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_database() {
        let config = Config::default();
        let own = DatabaseSettings::sqlite(&config.server.data_dir);
        assert_eq!(format!("{:#?}", database(&config)), format!("{own:#?}"));
    }
}
