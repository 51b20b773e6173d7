// The people of the play: Alice and Bob, two devices each, all four syncing from the first scene to the last.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createClient, Preset } from "matrix-js-sdk";
import { serverUrl } from "./env.mjs";
import { Device, running } from "./device.mjs";
import { refused, until } from "./wait.mjs";

/** Ends each name, so that the play can be given again on the same server. */
const season = randomBytes(4).toString("hex");

export const password = (name) => `${name} likes tea, not ${season}`;
export const localpart = (name) => `${name}-js-${season}`;

export let alice1, alice2, bob1, bob2;

/** A client that isn't logged in. */
export const anonymous = () => createClient({ baseUrl: serverUrl });

/** Registers in the way of a client: ask, look at the flows offered, complete one of a single dummy stage. */
export async function register(name, deviceName) {
    const request = { username: localpart(name), password: password(name), initial_device_display_name: deviceName };
    const challenge = await refused(anonymous().registerRequest(request), 401, undefined);
    const { flows, session } = challenge.data;
    assert.ok(session, "the challenge must have a session");
    assert.ok(
        flows.some(({ stages }) => stages.length === 1 && stages[0] === "m.login.dummy"),
        `no flow of only m.login.dummy in ${JSON.stringify(flows)}`,
    );
    return anonymous().registerRequest({ ...request, auth: { type: "m.login.dummy", session } });
}

/** Logs in by password. */
export function login(name, deviceName, extra = {}) {
    return anonymous().loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: localpart(name) },
        password: password(name),
        initial_device_display_name: deviceName,
        ...extra,
    });
}

export async function begin() {
    alice1 = new Device("alice1", await register("alice", "Alice's desk"));
    bob1 = new Device("bob1", await register("bob", "Bob's desk"));
    alice2 = new Device("alice2", await login("alice", "Alice's phone"));
    bob2 = new Device("bob2", await login("bob", "Bob's phone"));
    // Phones of today load members lazily, desks don't: the play has both.
    await Promise.all([
        alice1.start(),
        bob1.start(),
        alice2.start({ lazyLoadMembers: true }),
        bob2.start({ lazyLoadMembers: true }),
    ]);
}

export async function end() {
    for (const device of running()) device.discard();
}

/** A private room with both people in it, known to all four devices. */
export async function newGroup(options = {}) {
    const { room_id: roomId } = await alice1.client.createRoom({
        preset: Preset.PrivateChat,
        invite: [bob1.userId],
        ...options,
    });
    await bob1.is("invite", roomId);
    await bob1.client.joinRoom(roomId);
    for (const device of [alice1, alice2, bob1, bob2]) await device.is("join", roomId);
    await until("alice's devices see bob join", () =>
        [alice1, alice2].every((device) => device.member(roomId, bob1.userId)?.membership === "join"),
    );
    return roomId;
}

/**
 * Sends one more message and waits until `devices` have it: what was sent before and isn't there now
 * wasn't delivered. Returns its event id.
 */
export async function barrier(sender, roomId, devices) {
    const eventId = await sender.say(roomId, "barrier");
    for (const device of devices) await device.sees(roomId, eventId);
    return eventId;
}
