-- Where notifications of a user are pushed to.
CREATE TABLE pushers (
    nid {key},
    user_nid BIGINT NOT NULL,
    -- The device that made it; it goes with the device. 0: made by an application service.
    device_nid BIGINT NOT NULL,
    app_id TEXT NOT NULL,
    pushkey TEXT NOT NULL,
    -- JSON: the pusher as the client gave it.
    content TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (user_nid, app_id, pushkey)
);
CREATE INDEX pushers_by_key ON pushers (app_id, pushkey);
CREATE INDEX pushers_by_device ON pushers (device_nid);
