// A chat that the server can't read: it only carries keys and ciphertext, each to the right device, once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Preset } from "matrix-js-sdk";
import { Device } from "../lib/device.mjs";
import { without } from "../lib/env.mjs";
import { until } from "../lib/wait.mjs";
import { login } from "../lib/world.mjs";

async function encrypting(name, deviceName) {
    const device = new Device(deviceName, await login(name, deviceName));
    return device.start({ crypto: true });
}

/** Resolves once the device shows this text in clear. */
async function reads(device, roomId, eventId, body) {
    await until(`${device.name} can read '${body}'`, () => device.event(roomId, eventId)?.getClearContent()?.body === body);
}

test("an encrypted chat is read by all devices, by one added later, and by one that was away", { skip: without("encryption") }, async () => {
    const alice = await encrypting("alice", "alice's safe");
    const bob = await encrypting("bob", "bob's safe");
    const away = await encrypting("bob", "bob's old phone");
    const { room_id: roomId } = await alice.client.createRoom({
        preset: Preset.PrivateChat,
        invite: [bob.userId],
        initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    });
    await bob.is("invite", roomId);
    await bob.client.joinRoom(roomId);
    for (const device of [alice, bob, away]) await device.is("join", roomId);
    await until("alice sees bob join", () => alice.member(roomId, bob.userId)?.membership === "join");

    const first = await alice.say(roomId, "for both devices");
    for (const device of [bob, away]) await reads(device, roomId, first, "for both devices");
    const [raw] = bob.recorder.timeline(roomId).filter((event) => event.event_id === first);
    assert.equal(raw.type, "m.room.encrypted");
    assert.equal(raw.content.body, undefined);
    const answer = await bob.say(roomId, "heard you");
    await reads(alice, roomId, answer, "heard you");

    await away.stop();
    const tablet = await encrypting("bob", "bob's tablet");
    const known = async () => (await alice.client.getCrypto().getUserDeviceInfo([bob.userId])).get(bob.userId);
    await until("alice is told of bob's new device", async () => (await known()).has(tablet.deviceId));
    assert.ok((await known()).has(away.deviceId));
    await alice.client.getCrypto().forceDiscardSession(roomId); // so that each device needs a new key
    const second = await alice.say(roomId, "for three devices");
    for (const device of [bob, tablet]) await reads(device, roomId, second, "for three devices");

    const mark = away.recorder.mark();
    await away.resume();
    await reads(away, roomId, second, "for three devices");
    const keys = away.recorder.toDevice("m.room.encrypted", mark);
    assert.equal(keys.length, 1, "the key that waited comes once");

    for (const device of [alice, bob, away, tablet]) {
        assert.deepEqual(device.troubles, []);
        await device.client.logout(true);
        device.discard();
    }
});
