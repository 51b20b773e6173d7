-- The one stream: every durable change that a client can see takes its position from here, in commit order.
CREATE TABLE stream (
    id BIGINT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL
);
INSERT INTO stream (id, position) VALUES (1, 0);

CREATE TABLE rooms (
    nid {key},
    room_id TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    -- Whether it stands in the public room directory.
    published BOOLEAN NOT NULL
);

-- What changes with every event of a room, in a table of its own so that the rows stay small.
CREATE TABLE room_heads (
    room_nid BIGINT NOT NULL PRIMARY KEY,
    -- Counts the commits to this room. A writer that built on another revision than this one must rebuild.
    revision BIGINT NOT NULL,
    -- Position of the newest event of its timeline.
    last_position BIGINT NOT NULL,
    -- JSON array: positions of the newest events, which the next event names as its prev_events.
    extremities TEXT NOT NULL
) {without_rowid};

CREATE TABLE event_types (
    nid {key},
    name TEXT NOT NULL UNIQUE
);

-- A place in a room's state: event type and state key.
CREATE TABLE state_slots (
    nid {key},
    event_type TEXT NOT NULL,
    state_key TEXT NOT NULL,
    UNIQUE (event_type, state_key)
);

CREATE TABLE events (
    position {position},
    room_nid BIGINT NOT NULL,
    -- The 32 bytes of the reference hash, or the text of an id that is no hash.
    event_id {bytes} NOT NULL UNIQUE,
    type_nid BIGINT NOT NULL,
    -- NULL: not a state event.
    slot_nid BIGINT,
    sender_nid BIGINT NOT NULL,
    origin_server_ts BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    -- The state after this event: the snapshot of that position.
    snapshot BIGINT NOT NULL,
    -- The state event that this one took the place of.
    replaces BIGINT,
    -- The redaction that applies to this event; `json` is then the redacted form.
    redacted_by BIGINT,
    -- Who sent it, from which device with which transaction id; only for this server's users.
    device_nid BIGINT,
    transaction_id TEXT,
    -- The canonical JSON of the PDU.
    json TEXT NOT NULL
);
CREATE INDEX events_by_room ON events (room_nid, position);
CREATE INDEX events_by_slot ON events (room_nid, slot_nid, position) WHERE slot_nid IS NOT NULL;
CREATE UNIQUE INDEX events_by_transaction ON events (device_nid, transaction_id, room_nid, type_nid)
    WHERE transaction_id IS NOT NULL;

-- The state of a room after the event at `position`: that of `parent` with the deltas of this snapshot put over it.
-- `height` counts the changes since the room began; src/storage/src/state.rs says how it chooses the parent.
CREATE TABLE state_snapshots (
    position {position},
    parent BIGINT,
    height BIGINT NOT NULL
);
CREATE TABLE state_deltas (
    snapshot BIGINT NOT NULL,
    slot_nid BIGINT NOT NULL,
    event_position BIGINT NOT NULL,
    PRIMARY KEY (snapshot, slot_nid)
) {without_rowid};

-- The current membership of each user in each room.
CREATE TABLE memberships (
    user_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    -- 'join', 'invite', 'leave', 'ban' or 'knock'.
    membership TEXT NOT NULL,
    event_position BIGINT NOT NULL,
    forgotten BOOLEAN NOT NULL,
    PRIMARY KEY (user_nid, room_nid)
) {without_rowid};
CREATE INDEX memberships_by_room ON memberships (room_nid, membership);

CREATE TABLE room_aliases (
    alias TEXT NOT NULL PRIMARY KEY,
    room_nid BIGINT NOT NULL,
    creator_nid BIGINT NOT NULL,
    created_at BIGINT NOT NULL
) {without_rowid};
CREATE INDEX room_aliases_by_room ON room_aliases (room_nid);

-- The one direct chat of two people, for the operation that gives it; `low_nid` is the smaller number of the two.
CREATE TABLE direct_chats (
    low_nid BIGINT NOT NULL,
    high_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    PRIMARY KEY (low_nid, high_nid)
) {without_rowid};
CREATE UNIQUE INDEX direct_chats_by_room ON direct_chats (room_nid);
