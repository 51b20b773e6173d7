-- Words by which the users of this server are found, in lower case: of their names and localparts.
CREATE TABLE user_directory_words (
    user_nid BIGINT NOT NULL,
    word {bytewise} NOT NULL,
    PRIMARY KEY (user_nid, word)
) {without_rowid};
CREATE INDEX user_directory_by_word ON user_directory_words (word, user_nid);

-- Rooms that anyone may join or read: who is in one is found by everybody.
CREATE TABLE open_rooms (
    room_nid BIGINT NOT NULL PRIMARY KEY
) {without_rowid};
INSERT INTO open_rooms (room_nid)
SELECT DISTINCT e.room_nid
FROM events e JOIN state_slots s ON s.nid = e.slot_nid
WHERE s.state_key = ''
    AND ((s.event_type = 'm.room.join_rules' AND e.json LIKE '%"join_rule":"public"%')
        OR (s.event_type = 'm.room.history_visibility' AND e.json LIKE '%"history_visibility":"world_readable"%'))
    AND NOT EXISTS (
        SELECT 1 FROM events later
        WHERE later.room_nid = e.room_nid AND later.slot_nid = e.slot_nid AND later.position > e.position
    );
