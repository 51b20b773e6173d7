-- Redactions of events that this server doesn't have. They apply when those come.
CREATE TABLE early_redactions (
    room_nid BIGINT NOT NULL,
    -- What is redacted.
    event_id {bytes} NOT NULL,
    -- Where the redaction stands.
    position BIGINT NOT NULL,
    PRIMARY KEY (room_nid, event_id, position)
) {without_rowid};
