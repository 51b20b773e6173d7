-- room_nid 0: the account data of the user, of no room.
CREATE TABLE account_data (
    user_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    content TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (user_nid, room_nid, event_type)
) {without_rowid};
CREATE INDEX account_data_by_position ON account_data (position);

CREATE TABLE receipts (
    room_nid BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    -- 'm.read' or 'm.read.private'.
    receipt_type TEXT NOT NULL,
    -- '' without thread, else 'main' or the event id of the thread's root.
    thread TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_position BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (room_nid, user_nid, receipt_type, thread)
) {without_rowid};
CREATE INDEX receipts_by_position ON receipts (position);

-- How much of a room a user has not read, counted from the newest receipt to `counted_to`: a checkpoint, so that a
-- start need not evaluate push rules over everything since.
CREATE TABLE unread_counts (
    user_nid BIGINT NOT NULL,
    room_nid BIGINT NOT NULL,
    thread TEXT NOT NULL,
    read_to BIGINT NOT NULL,
    counted_to BIGINT NOT NULL,
    notifications BIGINT NOT NULL,
    highlights BIGINT NOT NULL,
    PRIMARY KEY (user_nid, room_nid, thread)
) {without_rowid};
