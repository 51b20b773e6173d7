-- When events were sent, for finding what was said at a time. The indexer fills it behind the stream, as it does what can
-- be searched for: `search_progress` says how far it has come. In the events' own table an index would be a page more to
-- write for every message of a room, while here it is one for many.
CREATE TABLE event_times (
    room_nid BIGINT NOT NULL,
    origin_server_ts BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (room_nid, origin_server_ts, position)
) {without_rowid};
INSERT INTO event_times (room_nid, origin_server_ts, position)
SELECT room_nid, origin_server_ts, position FROM events
WHERE position <= (SELECT position FROM search_progress WHERE id = 1);

DROP INDEX events_by_time;
