-- What was redacted by events of the past, which have no places in the stream: other nodes learn of it by these.
CREATE TABLE redacted_by_past (
    position BIGINT NOT NULL,
    -- The number of what is redacted, of each if it has two.
    target BIGINT NOT NULL,
    PRIMARY KEY (position, target)
) {without_rowid};
