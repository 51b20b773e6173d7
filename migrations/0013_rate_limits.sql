-- Users whose rate limits aren't the usual ones.
CREATE TABLE rate_limit_overrides (
    user_nid BIGINT NOT NULL PRIMARY KEY,
    -- 0: nothing that the user does is limited.
    per_second BIGINT NOT NULL,
    burst BIGINT NOT NULL
) {without_rowid};
