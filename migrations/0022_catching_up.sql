-- Rooms of which a server lacks receipts: it was not reached when they were to be sent. `position` is that of the oldest
-- one that it lacks.
CREATE TABLE receipt_backlogs (
    server_name TEXT NOT NULL,
    room_nid BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (server_name, room_nid)
) {without_rowid};

-- Member events of other servers' users that this server has taken for all others in the room, until these are sent it or
-- it is in the backlogs. `origin` is the server that it was taken from.
CREATE TABLE passed_on (
    position {position},
    origin TEXT NOT NULL
);
