-- Every user id this server has met, its own users and others.
CREATE TABLE users (
    nid {key},
    user_id TEXT NOT NULL UNIQUE
);

-- The people (and guests) who have an account here.
CREATE TABLE accounts (
    user_nid BIGINT NOT NULL PRIMARY KEY,
    -- PHC string of argon2id; NULL where the account has no password.
    password_hash TEXT,
    -- 'user', 'guest' or 'appservice'.
    kind TEXT NOT NULL,
    admin BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    deactivated_at BIGINT,
    locked_at BIGINT,
    suspended_at BIGINT,
    -- The user asked to be forgotten as far as possible.
    erased BOOLEAN NOT NULL,
    -- Deactivated, but not out of all rooms yet: to be taken up again at the next start.
    leaving BOOLEAN NOT NULL
) {without_rowid};

CREATE TABLE devices (
    nid {key},
    user_nid BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    display_name TEXT,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT,
    last_seen_address TEXT,
    UNIQUE (user_nid, device_id)
);

-- Tokens are kept as SHA-256, so that a copy of the database opens no account.
--
-- A refresh token is exchanged for a pair of tokens whose generation is one higher. When a token of that pair is first
-- used, everything of the device that is of a lower generation ends; until then the old refresh token can be used
-- again, so that a client that never got the answer isn't locked out.
CREATE TABLE access_tokens (
    token_hash {bytes} NOT NULL PRIMARY KEY,
    user_nid BIGINT NOT NULL,
    device_nid BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    -- False until the first use of a token that came by refreshing.
    confirmed BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    -- NULL: until logged out.
    expires_at BIGINT
) {without_rowid};
CREATE INDEX access_tokens_by_device ON access_tokens (device_nid);

CREATE TABLE refresh_tokens (
    token_hash {bytes} NOT NULL PRIMARY KEY,
    user_nid BIGINT NOT NULL,
    device_nid BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- When the device has to log in again, however often it refreshes; NULL: never.
    session_expires_at BIGINT
) {without_rowid};
CREATE INDEX refresh_tokens_by_device ON refresh_tokens (device_nid);

CREATE TABLE registration_tokens (
    token TEXT NOT NULL PRIMARY KEY,
    -- NULL: any number.
    uses_allowed BIGINT,
    uses_completed BIGINT NOT NULL,
    expires_at BIGINT
) {without_rowid};

-- User-interactive authentication in progress.
CREATE TABLE uia_sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    -- The operation that it was started for, and who by; a session serves no other.
    operation TEXT NOT NULL,
    user_nid BIGINT,
    -- JSON: stages done, with what each proved.
    completed TEXT NOT NULL,
    -- SHA-256 of the request without its `auth`; a session with stages done serves no other. Not the request itself,
    -- which may hold a password.
    request_hash {bytes} NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) {without_rowid};
CREATE INDEX uia_sessions_by_expiry ON uia_sessions (expires_at);

-- Challenges of the shared-secret registration that were handed out and not used yet.
CREATE TABLE registration_nonces (
    nonce TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
) {without_rowid};

CREATE TABLE filters (
    user_nid BIGINT NOT NULL,
    filter_id BIGINT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (user_nid, filter_id)
) {without_rowid};

-- A profile field (displayname, avatar_url, ...); the value is JSON.
CREATE TABLE profiles (
    user_nid BIGINT NOT NULL,
    field TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (user_nid, field)
) {without_rowid};

-- What outlives a restart of a presence that is otherwise kept in memory.
CREATE TABLE presence (
    user_nid BIGINT NOT NULL PRIMARY KEY,
    status_message TEXT,
    last_active_at BIGINT
) {without_rowid};

-- The ed25519 keys that this server signs with; the newest that has not expired is used.
CREATE TABLE signing_keys (
    key_id TEXT NOT NULL PRIMARY KEY,
    private_key {bytes} NOT NULL,
    created_at BIGINT NOT NULL,
    expired_at BIGINT
) {without_rowid};
