-- Events that are sent later (MSC4140).
CREATE TABLE delayed_events (
    nid {key},
    delay_id TEXT NOT NULL UNIQUE,
    user_nid BIGINT NOT NULL,
    -- The device that asked for it, with its transaction id if it gave one.
    device_nid BIGINT NOT NULL,
    transaction_id TEXT,
    room_nid BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    -- NULL: not a state event.
    state_key TEXT,
    -- JSON.
    content TEXT NOT NULL,
    -- Milliseconds.
    delay BIGINT NOT NULL,
    -- When the delay began, or began anew.
    started_at BIGINT NOT NULL,
    -- How far the stream had come when it was scheduled.
    position BIGINT NOT NULL,
    -- When a node is to send it, or to look whether the one that took it up has. NULL: it has an outcome.
    wake_at BIGINT
);
CREATE INDEX delayed_events_by_user ON delayed_events (user_nid);
CREATE INDEX delayed_events_by_time ON delayed_events (wake_at) WHERE wake_at IS NOT NULL;
CREATE UNIQUE INDEX delayed_events_by_transaction
    ON delayed_events (device_nid, transaction_id, room_nid, event_type) WHERE transaction_id IS NOT NULL;

-- What has become of them. A table of its own, as one outcome excludes another: an event is committed together with its
-- row here, and so can't be sent twice, nor be sent after it was cancelled.
CREATE TABLE delayed_outcomes (
    nid BIGINT NOT NULL PRIMARY KEY,
    finalised_at BIGINT NOT NULL,
    -- The event that was sent.
    event_id TEXT,
    -- JSON: why it could not be sent. With neither it was cancelled.
    error TEXT
) {without_rowid};
CREATE INDEX delayed_outcomes_by_time ON delayed_outcomes (finalised_at);
