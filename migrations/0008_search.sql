-- What can be searched for, by the words in it. The index follows the stream; `search_progress` says how far it has come.
CREATE TABLE search_progress (
    id BIGINT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL
);
INSERT INTO search_progress (id, position) VALUES (1, 0);

CREATE TABLE searchable (
    position {position},
    room_nid BIGINT NOT NULL,
    -- Which text of the event it is: 'body', 'name' or 'topic'.
    kind TEXT NOT NULL
);
{search_words};
