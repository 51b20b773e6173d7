-- The threads of a room, by what was said in them last.
CREATE INDEX relations_of_threads ON relations (room_nid, position) WHERE rel_type = 'm.thread';

-- What users have reported to the administrators: an event, a room, or a user.
CREATE TABLE reports (
    nid {key},
    reporter_nid BIGINT NOT NULL,
    -- 0: a user, of no room.
    room_nid BIGINT NOT NULL,
    -- NULL: no event but the room or user.
    event_position BIGINT,
    -- NULL: no user but an event or room.
    reported_user_nid BIGINT,
    reason TEXT,
    received_at BIGINT NOT NULL
);
