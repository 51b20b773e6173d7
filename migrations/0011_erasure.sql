-- Where the stream was when a user asked to be forgotten: who comes to a room later is shown nothing of what they wrote.
ALTER TABLE accounts ADD COLUMN erased_after BIGINT;
UPDATE accounts SET erased_after = (SELECT position FROM stream WHERE id = 1) WHERE erased;
CREATE INDEX accounts_erased ON accounts (user_nid) WHERE erased_after IS NOT NULL;
