//! What an administrator may decide about the engine. The defaults are safe ones.

use std::{fmt, time::Duration};

use ruma::{OwnedMxcUri, OwnedServerName, RoomVersionId, ServerName};
use url::Url;

use crate::EngineError;

pub use crate::appservices::AppserviceRegistration;

/// All settings of the engine.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// The part of this server's user IDs behind the colon.
    pub server_name: OwnedServerName,
    /// Who may create an account.
    pub registration: RegistrationSettings,
    /// How passwords are hashed and what is demanded of them.
    pub passwords: PasswordSettings,
    /// How one can log in, beside by a password.
    pub login: LoginSettings,
    /// How long logins last.
    pub tokens: TokenSettings,
    /// Bridges and bots that own parts of this server's names.
    pub appservices: Vec<AppserviceRegistration>,
    /// Defaults and limits of rooms.
    pub rooms: RoomSettings,
    /// How often something may be done.
    pub rate_limits: RateLimitSettings,
    /// How much an account may have.
    pub limits: AccountLimits,
    /// Which events may be sent later.
    pub delayed_events: DelayedEventSettings,
    /// As whom the server writes to its users, if it does.
    pub server_notices: Option<ServerNoticeSettings>,
    /// Whether and when users count as online.
    pub presence: PresenceSettings,
    /// Limits of /sync.
    pub sync: SyncSettings,
    /// Whom users find by a search.
    pub user_directory: UserDirectorySettings,
    /// The TURN servers that relay calls, if there are any.
    pub turn: Option<TurnSettings>,
}

impl EngineSettings {
    /// The defaults for a server of that name.
    pub fn new(server_name: OwnedServerName) -> Self {
        Self {
            limits: AccountLimits::new(&server_name),
            server_name,
            registration: RegistrationSettings::default(),
            passwords: PasswordSettings::default(),
            login: LoginSettings::default(),
            tokens: TokenSettings::default(),
            appservices: Vec::new(),
            rooms: RoomSettings::default(),
            rate_limits: RateLimitSettings::default(),
            delayed_events: DelayedEventSettings::default(),
            server_notices: None,
            presence: PresenceSettings::default(),
            sync: SyncSettings::default(),
            user_directory: UserDirectorySettings::default(),
            turn: None,
        }
    }
}

/// A text that must not appear in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

/// Who may create an account.
#[derive(Clone, Debug, Default)]
pub struct RegistrationSettings {
    /// Who may register through the client-server API.
    pub mode: RegistrationMode,
    /// Tokens that let anyone who has one register as often as they like, beside those in the database.
    pub tokens: Vec<Secret>,
    /// With it, scripts create accounts through `/_synapse/admin/v1/register` in any mode.
    pub shared_secret: Option<Secret>,
    /// Whether anyone may have a guest account, which can do little and needs no proof of anything.
    pub guests: bool,
    /// What has to be agreed to, a document for each language.
    pub terms: Vec<Policy>,
}

/// A document that has to be agreed to before one gets an account, in one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What kind of document it is, the same in every language: `privacy_policy`.
    pub id: String,
    /// Its version; all languages have the same.
    pub version: String,
    /// The language, as in BCP 47: `en`.
    pub language: String,
    /// Its title.
    pub name: String,
    /// Where it can be read.
    pub url: Url,
}

/// How one can log in, beside by a password.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// Whether a user can have a token made that logs in another device of theirs, by giving their password again.
    pub by_token: bool,
    /// What tokens of another service are checked by, if one can log in by them.
    pub jwt: Option<JwtSettings>,
}

impl Default for LoginSettings {
    fn default() -> Self {
        Self {
            by_token: true,
            jwt: None,
        }
    }
}

/// What JSON Web Tokens are checked by (`org.matrix.login.jwt`).
#[derive(Clone, Debug)]
pub struct JwtSettings {
    /// The only algorithm that is taken: HS256, RS256, PS256, ES256, EdDSA, and those with 384 and 512 where they exist.
    pub algorithm: String,
    /// What signatures are verified by.
    pub key: JwtKey,
    /// The claim that holds the localpart of the user's ID.
    pub subject_claim: String,
    /// What `iss` has to be, if anything.
    pub issuer: Option<String>,
    /// Of which one has to be among `aud`. If there is none, no token with `aud` is taken.
    pub audiences: Vec<String>,
    /// Whether a user who has no account gets one.
    pub create_accounts: bool,
}

impl JwtSettings {
    /// The defaults, with that key.
    pub fn new(key: JwtKey) -> Self {
        Self {
            algorithm: "HS256".to_owned(),
            key,
            subject_claim: "sub".to_owned(),
            issuer: None,
            audiences: Vec::new(),
            create_accounts: true,
        }
    }
}

/// What signatures of JSON Web Tokens are verified by.
#[derive(Clone, Debug)]
pub enum JwtKey {
    /// What signer and verifier share, for algorithms that begin with HS.
    Secret(Secret),
    /// The signer's public key in PEM, for the others.
    PublicKey(String),
}

/// Who may register through the client-server API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMode {
    /// No one. Administrators create the accounts.
    #[default]
    Closed,
    /// Whoever has a registration token.
    Token,
    /// Anyone, machines included.
    Open,
}

/// How passwords are hashed, by argon2id, and what is demanded of them.
#[derive(Clone, Debug)]
pub struct PasswordSettings {
    /// Memory that one hash takes, in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub iterations: u32,
    /// Lanes of that memory.
    pub parallelism: u32,
    /// The fewest characters that a new password may have.
    pub minimum_length: u32,
}

impl Default for PasswordSettings {
    /// Memory, iterations and parallelism are what OWASP recommends for argon2id.
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            iterations: 2,
            parallelism: 1,
            minimum_length: 8,
        }
    }
}

/// How long logins last.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// Of an access token whose client also got a refresh token.
    pub access_token_lifetime: Duration,
    /// Of a refresh token that isn't used.
    pub refresh_token_lifetime: Duration,
    /// After which a device has to log in again, used or not; `None` is never.
    pub session_lifetime: Option<Duration>,
    /// Of the token by which one device logs another in (`m.login.token`).
    pub login_token_lifetime: Duration,
    /// Of the token by which a user proves who they are to a third party (OpenID).
    pub openid_token_lifetime: Duration,
    /// How long a user-interactive authentication may take.
    pub authentication_timeout: Duration,
    /// How many devices an account may have; 0 is as many as it likes.
    pub max_devices: u32,
}

impl Default for TokenSettings {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            access_token_lifetime: MINUTE * 60,
            refresh_token_lifetime: MINUTE * 60 * 24 * 90,
            session_lifetime: None,
            login_token_lifetime: MINUTE * 2,
            openid_token_lifetime: MINUTE * 60,
            authentication_timeout: MINUTE * 15,
            max_devices: 500,
        }
    }
}

/// Defaults and limits of rooms.
#[derive(Clone, Debug)]
pub struct RoomSettings {
    /// The version of a new room whose creator doesn't ask for another.
    pub default_version: RoomVersionId,
    /// How many rooms a user may be joined to; 0 is as many as they like.
    pub max_joined: u32,
    /// Whether a room that a user leaves, or is put out of, is forgotten at once.
    pub forget_on_leave: bool,
    /// Whether rooms of other servers are joined without waiting for who is in them.
    pub join_without_members: bool,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            default_version: RoomVersionId::V12,
            max_joined: 5_000,
            forget_on_leave: false,
            join_without_members: true,
        }
    }
}

/// How much an account may have. Where not said otherwise, 0 is as much as it likes.
#[derive(Clone, Debug)]
pub struct AccountLimits {
    /// Where users who have reached a limit are told more.
    pub info_uri: String,
    /// Aliases of one room, by whomever they were made.
    pub aliases_per_room: u32,
    /// Aliases that one user has made.
    pub aliases_per_user: u32,
    /// Pieces of account data, of all rooms.
    pub account_data: u32,
    /// Bytes of one piece of account data, 1 at least.
    pub account_data_size: u32,
    /// Stored filters. The oldest goes when there is one more.
    pub filters: u32,
    /// Bytes of a profile, 64 KiB at most.
    pub profile_size: u32,
    /// Pushers.
    pub pushers: u32,
}

impl AccountLimits {
    /// What the specification lets a profile have, in bytes.
    pub const LARGEST_PROFILE: u32 = 64 * 1024;

    /// The defaults for a server of that name.
    pub fn new(server_name: &ServerName) -> Self {
        Self {
            // Whom to ask stands there, if anybody does.
            info_uri: format!("https://{server_name}/.well-known/matrix/support"),
            aliases_per_room: 1_000,
            aliases_per_user: 1_000,
            account_data: 50_000,
            account_data_size: 256 * 1024,
            filters: 200,
            profile_size: Self::LARGEST_PROFILE,
            pushers: 100,
        }
    }

    /// Refuses one more of what there may be `most` of.
    pub(crate) fn check(
        &self,
        count: i64,
        most: u32,
        message: impl FnOnce() -> String,
    ) -> Result<(), EngineError> {
        if most == 0 || count < i64::from(most) {
            return Ok(());
        }
        Err(self.reached(message()))
    }

    /// Says that an account has as much of something as it may.
    pub(crate) fn reached(&self, message: String) -> EngineError {
        EngineError::user_limit(&self.info_uri, message)
    }
}

/// Which events may be sent later.
#[derive(Clone, Debug)]
pub struct DelayedEventSettings {
    /// The longest delay.
    pub max_delay: Duration,
    /// How many a user may have scheduled at once; with 0 nobody schedules any.
    pub max_scheduled: u32,
}

impl Default for DelayedEventSettings {
    fn default() -> Self {
        Self {
            max_delay: Duration::from_secs(60 * 60 * 24),
            max_scheduled: 100,
        }
    }
}

/// As whom the server writes to its users, and what the rooms look like in which it does.
#[derive(Clone, Debug)]
pub struct ServerNoticeSettings {
    /// The part of the user ID before the colon.
    pub localpart: String,
    /// The name that the user goes by.
    pub display_name: String,
    /// The picture of user and rooms.
    pub avatar_url: Option<OwnedMxcUri>,
    /// The name of the rooms.
    pub room_name: String,
    /// Their topic.
    pub room_topic: Option<String>,
}

impl ServerNoticeSettings {
    /// The defaults, for a user of that name.
    pub fn new(localpart: impl Into<String>) -> Self {
        Self {
            localpart: localpart.into(),
            display_name: "Server Notices".to_owned(),
            avatar_url: None,
            room_name: "Server Notices".to_owned(),
            room_topic: None,
        }
    }
}

/// The TURN servers that relay calls.
#[derive(Clone, Debug)]
pub struct TurnSettings {
    /// Their addresses, `turn:` or `turns:`.
    pub uris: Vec<String>,
    /// How clients show that they may use them.
    pub access: TurnAccess,
    /// How long credentials hold.
    pub lifetime: Duration,
    /// Whether calls of guests are relayed, too.
    pub guests: bool,
}

/// How clients show TURN servers that they may use them.
#[derive(Clone, Debug)]
pub enum TurnAccess {
    /// By names that this server makes up and proves by a secret that it shares with them.
    SharedSecret(Secret),
    /// By one name for all.
    Password {
        /// The name.
        username: String,
        /// Its password.
        password: Secret,
    },
}

/// How often something may be done before `M_LIMIT_EXCEEDED`.
#[derive(Clone, Debug)]
pub struct RateLimitSettings {
    /// Off only where something before this server limits, or in tests.
    pub enabled: bool,
    /// Attempts to log in, by address.
    pub login: RateLimit,
    /// Attempts to prove that one has an account, by the account that is tried; forgotten after a success.
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

impl Default for RateLimitSettings {
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

/// A bucket that starts full and is refilled steadily.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// How often it may be done in the long run.
    pub per_second: f64,
    /// How often it may be done at once.
    pub burst: u32,
}

impl RateLimit {
    /// `per_second` in the long run, `burst` at once.
    pub const fn new(per_second: f64, burst: u32) -> Self {
        Self { per_second, burst }
    }
}

/// Whether and when users count as online.
#[derive(Clone, Debug)]
pub struct PresenceSettings {
    /// Off, everyone is offline and nothing is sent about it.
    pub enabled: bool,
    /// A user who hasn't been active for that long becomes unavailable.
    pub unavailable_after: Duration,
    /// A user whose clients haven't been heard of for that long becomes offline.
    pub offline_after: Duration,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            unavailable_after: Duration::from_secs(5 * 60),
            offline_after: Duration::from_secs(30),
        }
    }
}

/// Whom users find by a search.
#[derive(Clone, Debug, Default)]
pub struct UserDirectorySettings {
    /// Whether all users of this server are found, or only those in a common or public room.
    pub all_users: bool,
}

/// Limits of /sync.
#[derive(Clone, Debug)]
pub struct SyncSettings {
    /// The longest that a request waits for news; a client that asks for more gets this.
    pub max_timeout: Duration,
    /// Events per room where a filter doesn't say.
    pub default_timeline_limit: u32,
    /// Events per room at most, whatever a filter says.
    pub max_timeline_limit: u32,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            max_timeout: Duration::from_secs(2 * 60),
            default_timeline_limit: 10,
            max_timeline_limit: 100,
        }
    }
}
