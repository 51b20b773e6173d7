-- How many aliases somebody has made.
CREATE INDEX room_aliases_by_creator ON room_aliases (creator_nid);
