-- Whether the snapshot after the join has what it lacked, so that what was taken in since may have been judged again in part.
ALTER TABLE partial_rooms ADD COLUMN filled BOOLEAN NOT NULL DEFAULT FALSE;
