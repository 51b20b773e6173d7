-- The one room in which the server writes to a user.
CREATE TABLE notice_rooms (
    user_nid BIGINT NOT NULL PRIMARY KEY,
    room_nid BIGINT NOT NULL
) {without_rowid};
CREATE UNIQUE INDEX notice_rooms_by_room ON notice_rooms (room_nid);
