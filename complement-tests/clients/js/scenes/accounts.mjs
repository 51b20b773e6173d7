// Registration, login, devices.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Device } from "../lib/device.mjs";
import { deviates } from "../lib/env.mjs";
import { refused } from "../lib/wait.mjs";
import { alice1, alice2, anonymous, bob1, localpart, login, password } from "../lib/world.mjs";

test("a registered person has the name asked for, and each device its own token", async () => {
    for (const [device, name] of [
        [alice1, "alice"],
        [alice2, "alice"],
        [bob1, "bob"],
    ]) {
        assert.match(device.userId, new RegExp(`^@${localpart(name)}:.+`));
        const whoami = await device.client.whoami();
        assert.equal(whoami.user_id, device.userId);
        assert.equal(whoami.device_id, device.deviceId);
    }
    assert.equal(alice1.userId, alice2.userId);
    assert.notEqual(alice1.deviceId, alice2.deviceId);
    assert.notEqual(alice1.accessToken, alice2.accessToken);
});

test("a name that is taken or not allowed is refused before a password is wasted on it", async () => {
    const available = anonymous();
    assert.equal(await available.isUsernameAvailable(localpart("nobody-yet")), true);
    await refused(anonymous().registerRequest({ username: localpart("alice"), password: "long enough" }), 400, "M_USER_IN_USE");
    await refused(anonymous().registerRequest({ username: "no spaces here", password: "long enough" }), 400, "M_INVALID_USERNAME");
});

test("password login is offered, and a wrong password or an unknown person gets the same answer", async () => {
    const { flows } = await anonymous().loginFlows();
    assert.ok(flows.some(({ type }) => type === "m.login.password"));
    const wrong = await refused(login("alice", "thief", { password: "wrong" }), 403, "M_FORBIDDEN");
    const unknown = await refused(login("nobody-yet", "thief"), 403, "M_FORBIDDEN");
    assert.equal(wrong.data.error, unknown.data.error);
});

test("a person can log in by the full user id and may choose the id of the device", async () => {
    const session = await login("alice", "tablet", {
        identifier: { type: "m.id.user", user: alice1.userId },
        device_id: "TABLET",
    });
    assert.equal(session.device_id, "TABLET");
    const again = await login("alice", "ignored, the device has a name", { device_id: "TABLET" });
    assert.equal(again.device_id, "TABLET");
    const tablet = new Device("tablet", again);
    assert.equal((await tablet.client.getDevice("TABLET")).display_name, "tablet");
    if (!deviates("relogin-keeps-old-token")) {
        await refused(new Device("tablet", session).client.whoami(), 401, "M_UNKNOWN_TOKEN");
    }
    await tablet.client.logout();
});

test("the device list has both devices, and a new name for one is seen by the other", async () => {
    const names = async (device) => {
        const { devices } = await device.client.getDevices();
        return Object.fromEntries(devices.map(({ device_id, display_name }) => [device_id, display_name]));
    };
    assert.deepEqual(await names(alice1), { [alice1.deviceId]: "Alice's desk", [alice2.deviceId]: "Alice's phone" });
    await alice1.client.setDeviceDetails(alice2.deviceId, { display_name: "Alice's new phone" });
    assert.equal((await names(alice2))[alice2.deviceId], "Alice's new phone");
    await refused(bob1.client.getDevice(alice1.deviceId), 404, "M_NOT_FOUND");
    await refused(bob1.client.setDeviceDetails(alice1.deviceId, { display_name: "mine" }), 404, "M_NOT_FOUND");
});

test("a device is deleted only with the password, and its token dies with it", async () => {
    const lost = new Device("lost", await login("alice", "lost phone"));
    const challenge = await refused(alice1.client.deleteDevice(lost.deviceId), 401, undefined);
    assert.ok(challenge.data.flows.some(({ stages }) => stages.includes("m.login.password")));
    const auth = {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: alice1.userId },
        password: "wrong",
        session: challenge.data.session,
    };
    const second = await refused(alice1.client.deleteDevice(lost.deviceId, auth), 401, "M_FORBIDDEN");
    assert.equal(second.data.session, challenge.data.session);
    assert.equal((await lost.client.whoami()).device_id, lost.deviceId);
    await alice1.client.deleteDevice(lost.deviceId, { ...auth, password: password("alice") });
    await refused(lost.client.whoami(), 401, "M_UNKNOWN_TOKEN");
    await refused(alice1.client.getDevice(lost.deviceId), 404, "M_NOT_FOUND");
});
