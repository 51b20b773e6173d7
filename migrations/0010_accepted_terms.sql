-- Which documents a user agreed to when they registered.
CREATE TABLE accepted_terms (
    user_nid BIGINT NOT NULL,
    policy TEXT NOT NULL,
    version TEXT NOT NULL,
    accepted_at BIGINT NOT NULL,
    PRIMARY KEY (user_nid, policy, version)
) {without_rowid};
