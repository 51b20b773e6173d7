-- What can't be worked through yet, because what it is built on can't be had, is tried again later.
ALTER TABLE inbox ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0;
-- When it is to be tried, in milliseconds since the Unix epoch; 0: at once.
ALTER TABLE inbox ADD COLUMN retry_at BIGINT NOT NULL DEFAULT 0;
