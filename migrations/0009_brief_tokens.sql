-- By which one device logs another in, once. By their SHA-256, as all tokens.
CREATE TABLE login_tokens (
    token_hash {bytes} NOT NULL PRIMARY KEY,
    user_nid BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) {without_rowid};
CREATE INDEX login_tokens_by_expiry ON login_tokens (expires_at);

-- By which a user proves to a third party who they are.
CREATE TABLE openid_tokens (
    token_hash {bytes} NOT NULL PRIMARY KEY,
    user_nid BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) {without_rowid};
CREATE INDEX openid_tokens_by_expiry ON openid_tokens (expires_at);
