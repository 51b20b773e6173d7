-- How it goes with other servers. Who has no row was never failing, or isn't known.
CREATE TABLE destinations (
    server_name TEXT NOT NULL PRIMARY KEY,
    -- When the failures began; NULL: it was reached when it was last tried.
    failing_since BIGINT,
    failures BIGINT NOT NULL,
    -- Not to be tried before, unless somebody waits for it.
    retry_at BIGINT,
    -- Not kept to the minute.
    last_success_at BIGINT,
    last_error TEXT
) {without_rowid};

-- Keys of other servers, checked, also those that they no longer use.
CREATE TABLE server_keys (
    server_name TEXT NOT NULL,
    -- With its algorithm.
    key_id TEXT NOT NULL,
    public_key {bytes} NOT NULL,
    -- Until when it signs, or signed.
    valid_until BIGINT NOT NULL,
    PRIMARY KEY (server_name, key_id)
) {without_rowid};

-- What other servers published last, as they signed it: what this server tells as a notary.
CREATE TABLE published_keys (
    server_name TEXT NOT NULL PRIMARY KEY,
    json TEXT NOT NULL,
    valid_until BIGINT NOT NULL,
    fetched_at BIGINT NOT NULL
) {without_rowid};

-- Rooms of which a server lacks something: it was not reached when that was to be sent. `position` is that of the newest
-- event that it must get even if it is no longer in the room, such as the one that put it out.
CREATE TABLE backlogs (
    server_name TEXT NOT NULL,
    room_nid BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (server_name, room_nid)
) {without_rowid};

-- Up to which position of the stream everything was sent or is in the backlogs, and which node sends until when.
CREATE TABLE sender (
    id BIGINT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL,
    node TEXT,
    lease_until BIGINT NOT NULL
);
INSERT INTO sender (id, position, node, lease_until)
    SELECT 1, position, NULL, 0 FROM stream WHERE id = 1;
