// Coming, going, and being shown the door.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Preset } from "matrix-js-sdk";
import { without } from "../lib/env.mjs";
import { refused, until } from "../lib/wait.mjs";
import { alice1, alice2, barrier, bob1, bob2, newGroup } from "../lib/world.mjs";

/** The specification leaves open which code tells of a ban. */
const banned = ["M_FORBIDDEN", "M_BAD_STATE"];

const bobs = () => [bob1, bob2];

const seenByAlice = (roomId, membership) =>
    until(`alice's devices see bob's membership ${membership}`, () =>
        [alice1, alice2].every((device) => device.member(roomId, bob1.userId)?.membership === membership),
    );

/** The reason that came with the device's own last membership, as the server sent it. */
const reason = (device, roomId) =>
    device.recorder
        .timeline(roomId)
        .findLast((event) => event.type === "m.room.member" && event.state_key === device.userId)?.content.reason;

test("who is kicked hears no more, can't write, and hears again after a new invitation", async () => {
    const roomId = await newGroup();
    const other = await newGroup();
    await alice1.client.kick(roomId, bob1.userId, "too loud");
    for (const device of bobs()) {
        await device.is("leave", roomId);
        assert.equal(device.recorder.parts(roomId).at(-1).section, "leave");
        assert.equal(reason(device, roomId), "too loud");
    }
    await seenByAlice(roomId, "leave");
    await refused(bob1.client.sendEvent(roomId, "m.room.message", { msgtype: "m.text", body: "but" }), 403, "M_FORBIDDEN");
    await refused(bob2.client.joinRoom(roomId), 403, "M_FORBIDDEN");

    const unheard = await alice1.say(roomId, "At last, peace");
    await barrier(alice1, other, bobs());
    for (const device of bobs()) {
        assert.equal(device.recorder.timeline(roomId).some((event) => event.event_id === unheard), false);
    }
    await alice2.client.invite(roomId, bob1.userId);
    for (const device of bobs()) await device.is("invite", roomId);
    await bob2.client.joinRoom(roomId);
    for (const device of bobs()) await device.is("join", roomId);
    await barrier(alice1, roomId, bobs());
});

test("who is banned can neither join nor be invited before the ban is lifted", async () => {
    const roomId = await newGroup();
    await refused(bob1.client.ban(roomId, alice1.userId), 403, "M_FORBIDDEN");
    await alice2.client.ban(roomId, bob1.userId, "spam");
    for (const device of bobs()) {
        await device.is("ban", roomId);
        assert.equal(reason(device, roomId), "spam");
    }
    await seenByAlice(roomId, "ban");
    await refused(bob1.client.joinRoom(roomId), 403, banned);
    await refused(alice1.client.invite(roomId, bob1.userId), 403, banned);
    await alice1.client.unban(roomId, bob1.userId);
    await seenByAlice(roomId, "leave");
    await refused(bob1.client.joinRoom(roomId), 403, "M_FORBIDDEN");
    await alice1.client.invite(roomId, bob1.userId);
    for (const device of bobs()) await device.is("invite", roomId);
    await bob1.client.joinRoom(roomId);
    await seenByAlice(roomId, "join");
    await barrier(alice1, roomId, bobs());
});

test("who leaves is gone on all devices, and what is forgotten can't be read any more", async () => {
    const roomId = await newGroup();
    await bob1.client.leave(roomId);
    for (const device of bobs()) await device.is("leave", roomId);
    await seenByAlice(roomId, "leave");
    const { joined_rooms: joined } = await bob2.client.getJoinedRooms();
    assert.equal(joined.includes(roomId), false);
    const past = await bob2.client.createMessagesRequest(roomId, null, 5, "b");
    assert.ok(past.chunk.length > 0, "who has left may still read up to there");
    await bob2.client.forget(roomId);
    await refused(bob1.client.createMessagesRequest(roomId, null, 5, "b"), 403, "M_FORBIDDEN");
});

test("an invitation can be declined, and be taken back", async () => {
    const { room_id: roomId } = await alice1.client.createRoom({ preset: Preset.PrivateChat, invite: [bob1.userId] });
    for (const device of bobs()) await device.is("invite", roomId);
    await bob2.client.leave(roomId);
    for (const device of bobs()) await device.is("leave", roomId);
    await seenByAlice(roomId, "leave");
    await alice1.client.invite(roomId, bob1.userId, { reason: "please" });
    for (const device of bobs()) await device.is("invite", roomId);
    await alice2.client.kick(roomId, bob1.userId);
    for (const device of bobs()) await device.is("leave", roomId);
    await refused(bob1.client.joinRoom(roomId), 403, "M_FORBIDDEN");
});

test("one can ask to be let in, and the answer is an invitation", { skip: without("knocking") }, async () => {
    const { room_id: roomId } = await alice1.client.createRoom({
        preset: Preset.PrivateChat,
        name: "The tea room",
        initial_state: [{ type: "m.room.join_rules", state_key: "", content: { join_rule: "knock" } }],
    });
    await alice1.is("join", roomId);
    await bob1.client.knockRoom(roomId, { reason: "I smell tea" });
    for (const device of bobs()) await device.is("knock", roomId);
    await seenByAlice(roomId, "knock");
    assert.equal(alice2.member(roomId, bob1.userId).events.member.getContent().reason, "I smell tea");
    await alice2.client.invite(roomId, bob1.userId);
    for (const device of bobs()) await device.is("invite", roomId);
    await bob2.client.joinRoom(roomId);
    for (const device of bobs()) await device.is("join", roomId);
    await barrier(bob1, roomId, [alice1, alice2]);
});

test("anyone may join a public room by its alias, and it can be found", async () => {
    const alias = `tea-${roomSuffix()}`;
    const { room_id: roomId } = await alice1.client.createRoom({
        preset: Preset.PublicChat,
        visibility: "public",
        room_alias_name: alias,
        name: `Open tea ${alias}`,
    });
    const domain = alice1.userId.slice(alice1.userId.indexOf(":"));
    assert.equal((await bob1.client.getRoomIdForAlias(`#${alias}${domain}`)).room_id, roomId);
    const found = await bob1.client.publicRooms({ filter: { generic_search_term: alias } });
    assert.deepEqual(found.chunk.map(({ room_id }) => room_id), [roomId]);
    await bob1.client.joinRoom(`#${alias}${domain}`);
    for (const device of bobs()) await device.is("join", roomId);
    await barrier(bob2, roomId, [alice1, alice2]);
    await refused(bob1.client.deleteAlias(`#${alias}${domain}`), 403, "M_FORBIDDEN");
});

function roomSuffix() {
    return alice1.userId.slice(1, alice1.userId.indexOf(":"));
}
