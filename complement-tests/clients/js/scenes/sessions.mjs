// How sessions go on and how they end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "matrix-js-sdk";
import { deviates, serverUrl } from "../lib/env.mjs";
import { Device } from "../lib/device.mjs";
import { refused } from "../lib/wait.mjs";
import { alice1, alice2, anonymous, bob1, localpart, login, password, register } from "../lib/world.mjs";

const whoami = (accessToken) => createClient({ baseUrl: serverUrl, accessToken }).whoami();

test("a refresh token gives a new access token for the same device, once", async () => {
    const session = await login("alice", "refresher", { refresh_token: true });
    assert.ok(session.refresh_token, "the server must give a refresh token when asked for one");
    const next = await anonymous().refreshToken(session.refresh_token);
    assert.notEqual(next.access_token, session.access_token);
    assert.equal((await whoami(next.access_token)).device_id, session.device_id);
    if (!deviates("spent-refresh-token-is-403")) {
        await refused(anonymous().refreshToken(session.refresh_token), 401, "M_UNKNOWN_TOKEN");
    }
    await refused(anonymous().refreshToken("never-given-out"), 401, "M_UNKNOWN_TOKEN");

    const third = await anonymous().refreshToken(next.refresh_token ?? session.refresh_token);
    assert.equal((await whoami(third.access_token)).device_id, session.device_id);
    await new Device("refresher", { ...session, access_token: third.access_token }).client.logout();
    await refused(anonymous().refreshToken(third.refresh_token ?? session.refresh_token), 401, "M_UNKNOWN_TOKEN");
});

test("a login without asking for it gets no refresh token", async () => {
    const session = await login("alice", "plain");
    assert.equal(session.refresh_token, undefined);
    await new Device("plain", session).client.logout();
});

test("a new password ends the other sessions, and the old password's use", async () => {
    const first = new Device("carol1", await register("carol", "first"));
    const second = new Device("carol2", await login("carol", "second"));
    const challenge = await refused(first.client.setPassword(undefined, "better tea"), 401, undefined);
    const auth = {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: first.userId },
        password: password("carol"),
        session: challenge.data.session,
    };
    await first.client.setPassword(auth, "better tea", true);
    assert.equal((await first.client.whoami()).device_id, first.deviceId);
    await refused(second.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    await refused(login("carol", "thief"), 403, "M_FORBIDDEN");
    await login("carol", "third", { password: "better tea" });
});

test("who deactivates the account is out everywhere, and the name stays taken", async () => {
    const last = new Device("dave", await register("dave", "only"));
    const challenge = await refused(last.client.deactivateAccount(undefined, false), 401, undefined);
    const auth = {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: last.userId },
        password: password("dave"),
        session: challenge.data.session,
    };
    await last.client.deactivateAccount(auth, false);
    await refused(last.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    await refused(login("dave", "again"), 403, ["M_USER_DEACTIVATED", "M_FORBIDDEN"]);
    await refused(anonymous().registerRequest({ username: localpart("dave"), password: "long enough" }), 400, "M_USER_IN_USE");
});

test("logout ends one session at once, logout everywhere ends all", async () => {
    const spare = new Device("spare", await login("alice", "spare"));
    await spare.client.logout();
    await refused(spare.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    assert.equal((await alice1.client.whoami()).device_id, alice1.deviceId);
    await refused(whoami("never-given-out"), 401, "M_UNKNOWN_TOKEN");
    await refused(createClient({ baseUrl: serverUrl }).whoami(), 401, "M_MISSING_TOKEN");

    await alice1.client.http.authedRequest("POST", "/logout/all");
    for (const device of [alice1, alice2]) {
        device.discard();
        await refused(device.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    }
    assert.equal((await bob1.client.whoami()).device_id, bob1.deviceId);
    const again = await login("alice", "after all");
    assert.deepEqual(
        (await new Device("again", again).client.getDevices()).devices.map(({ device_id }) => device_id),
        [again.device_id],
    );
});
