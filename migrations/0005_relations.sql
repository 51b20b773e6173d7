-- How events relate to others, in the words of their `m.relates_to`. An event relates to one other at most, and to none
-- once it is redacted.
CREATE TABLE relations (
    -- Of the event that relates.
    position {position},
    room_nid BIGINT NOT NULL,
    -- The id of the event that it relates to, as in `events`; whether there is one in this room isn't certain.
    target {bytes} NOT NULL,
    rel_type TEXT NOT NULL,
    sender_nid BIGINT NOT NULL,
    type_nid BIGINT NOT NULL,
    -- What an annotation says: an emoji, mostly.
    annotation TEXT
);
CREATE INDEX relations_by_target ON relations (target, room_nid, rel_type, position);
