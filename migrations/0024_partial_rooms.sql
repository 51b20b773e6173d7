-- Rooms that this server came into without being told who is in them; that is asked for in the background.
CREATE TABLE partial_rooms (
    room_nid BIGINT NOT NULL PRIMARY KEY,
    -- Where the join stands, and the snapshot after it, which lacks members.
    join_position BIGINT NOT NULL,
    snapshot BIGINT NOT NULL,
    -- JSON array: the servers in the room at the join, that by which it was joined first.
    servers TEXT NOT NULL,
    -- How often the rest was asked for in vain, and before when nobody asks for it: somebody does, or it is waited.
    attempts BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    -- The position of the stream since which nothing is missing; NULL as long as something is.
    completed_position BIGINT
) {without_rowid};
