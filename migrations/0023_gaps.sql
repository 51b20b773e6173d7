-- Whether some of what the event is built on isn't in this server's timeline of the room: what came before it may be
-- asked for. It stays so when that is read later, as that gets places before everything that was here.
ALTER TABLE events ADD COLUMN after_gap BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX events_after_gaps ON events (room_nid, position) WHERE after_gap;
