-- Events that stand in no room's timeline: those that came as state or to allow others, those that the room's rules
-- reject, and those that failed softly. Their numbers are of the stream. An event that comes into the timeline later is
-- in `events` too, under its number there; states that knew it before keep the one here.
CREATE TABLE outliers (
    position {position},
    room_nid BIGINT NOT NULL,
    event_id {bytes} NOT NULL UNIQUE,
    -- NULL: not a state event.
    slot_nid BIGINT,
    depth BIGINT NOT NULL,
    -- 'known': allowed by what allows it, and no more is known. 'soft_failed', 'rejected'.
    standing TEXT NOT NULL,
    -- The state after it; NULL if that isn't known.
    snapshot BIGINT,
    json TEXT NOT NULL
);
CREATE INDEX outliers_by_slot ON outliers (room_nid, slot_nid, position) WHERE slot_nid IS NOT NULL;

-- The room's current state after an event, where it is another than the state after the event in the room's graph: the
-- graph has several ends, whose states are resolved.
ALTER TABLE events ADD COLUMN current_snapshot BIGINT;

-- The place of the oldest event that was read from other servers into the past of a room: each gets one less.
INSERT INTO stream (id, position) VALUES (2, 0);

-- Invitations to rooms that this server is not in, and knocks on them: what their users are shown of the room. The
-- member event is an outlier.
CREATE TABLE remote_invites (
    room_nid BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    event_position BIGINT NOT NULL,
    -- JSON array of stripped state.
    room_state TEXT NOT NULL,
    -- JSON array: servers by which the room can be reached.
    via TEXT NOT NULL,
    PRIMARY KEY (room_nid, user_nid)
) {without_rowid};

-- What other servers sent, from before it is acknowledged until it is worked through.
CREATE TABLE inbox (
    nid {key},
    room_id TEXT NOT NULL,
    origin TEXT NOT NULL,
    event_id {bytes} NOT NULL,
    json TEXT NOT NULL,
    UNIQUE (room_id, event_id, origin)
);
CREATE INDEX inbox_by_room ON inbox (room_id, nid);
