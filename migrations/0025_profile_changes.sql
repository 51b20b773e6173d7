-- How often a user's name or picture has changed, and which of the changes the user's rooms have been told of: where that is less,
-- they are told at the next start at the latest.
CREATE TABLE profile_changes (
    user_nid BIGINT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    told BIGINT NOT NULL
) {without_rowid};
CREATE INDEX untold_profile_changes ON profile_changes (user_nid) WHERE revision > told;
