-- How many users are joined to each room, so that lists of rooms needn't count.
ALTER TABLE room_heads ADD COLUMN joined BIGINT NOT NULL DEFAULT 0;
UPDATE room_heads SET joined = (
    SELECT COUNT(*) FROM memberships m WHERE m.room_nid = room_heads.room_nid AND m.membership = 'join'
);

-- The state events that say what a room looks like from outside (name, topic, who may join, ...), those in force: the
-- directory and the hierarchies of spaces tell of many rooms at once, without reading the state of each.
CREATE TABLE shown_state (
    room_nid BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    event_position BIGINT NOT NULL,
    PRIMARY KEY (room_nid, event_type)
) {without_rowid};
INSERT INTO shown_state (room_nid, event_type, event_position)
SELECT e.room_nid, l.event_type, MAX(e.position)
FROM events e JOIN state_slots l ON l.nid = e.slot_nid
WHERE l.state_key = '' AND l.event_type IN (
    'm.room.avatar', 'm.room.canonical_alias', 'm.room.create', 'm.room.encryption', 'm.room.guest_access',
    'm.room.history_visibility', 'm.room.join_rules', 'm.room.name', 'm.room.topic'
)
GROUP BY e.room_nid, l.event_type;

CREATE INDEX rooms_by_publication ON rooms (nid) WHERE published;

-- For finding what was said at a time.
CREATE INDEX events_by_time ON events (room_nid, origin_server_ts);
