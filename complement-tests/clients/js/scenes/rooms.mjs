// A direct chat and a group.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Preset } from "matrix-js-sdk";
import { barrier, alice1, alice2, bob1, bob2 } from "../lib/world.mjs";
import { refused, until } from "../lib/wait.mjs";

test("a direct chat is one for the invited person too, and for each one's other device", async () => {
    const { room_id: roomId } = await alice1.client.createRoom({
        preset: Preset.TrustedPrivateChat,
        is_direct: true,
        invite: [bob1.userId],
    });
    await alice1.client.setAccountData("m.direct", { [bob1.userId]: [roomId] });
    await until("alice's other device knows the direct chat", () =>
        alice2.client.getAccountData("m.direct")?.getContent()[bob1.userId]?.includes(roomId),
    );

    for (const device of [bob1, bob2]) {
        await device.is("invite", roomId);
        assert.equal(device.room(roomId).getDMInviter(), alice1.userId);
        const [invite] = device.recorder.parts(roomId);
        assert.equal(invite.section, "invite");
        const member = invite.invite_state.events.find((event) => event.state_key === bob1.userId);
        assert.equal(member.content.is_direct, true);
        assert.equal(member.content.membership, "invite");
        assert.equal(member.sender, alice1.userId);
    }

    await bob2.client.joinRoom(roomId);
    await bob2.client.setAccountData("m.direct", { [alice1.userId]: [roomId] });
    await bob1.is("join", roomId);
    await until("bob's other device knows the direct chat", () =>
        bob1.client.getAccountData("m.direct")?.getContent()[alice1.userId]?.includes(roomId),
    );
    // In a trusted private chat the invited person has as much power as the one who invites.
    await until("bob has power", () => alice1.member(roomId, bob1.userId)?.powerLevel >= 100);

    const hello = await bob1.say(roomId, "Hello Alice");
    for (const device of [alice1, alice2, bob2]) {
        assert.equal((await device.sees(roomId, hello)).getContent().body, "Hello Alice");
    }
    assert.deepEqual(
        (await alice1.client.getJoinedRoomMembers(roomId)).joined[bob1.userId] !== undefined,
        true,
    );
});

test("a group has its name, topic and power levels on all devices, and they are kept to", async () => {
    const { room_id: roomId } = await alice1.client.createRoom({
        preset: Preset.PrivateChat,
        name: "Tea club",
        topic: "Green or black",
        invite: [bob1.userId],
        power_level_content_override: { events: { "m.room.topic": 25 }, invite: 50 },
    });
    for (const device of [bob1, bob2]) {
        await device.is("invite", roomId);
        assert.equal(device.room(roomId).name, "Tea club");
    }
    await bob1.client.joinRoom(roomId);
    for (const device of [alice1, alice2, bob1, bob2]) {
        await device.is("join", roomId);
        await until(`${device.name} knows two members`, () => device.room(roomId).getJoinedMemberCount() === 2);
        assert.equal(device.room(roomId).name, "Tea club");
        assert.equal(device.state(roomId, "m.room.topic").getContent().topic, "Green or black");
        assert.equal(device.state(roomId, "m.room.power_levels").getContent().events["m.room.topic"], 25);
        assert.equal(device.state(roomId, "m.room.join_rules").getContent().join_rule, "invite");
    }

    await refused(bob1.client.setRoomTopic(roomId, "Coffee"), 403, "M_FORBIDDEN");
    await refused(bob1.client.invite(roomId, "@somebody:localhost"), 403, "M_FORBIDDEN");
    await alice1.client.setPowerLevel(roomId, bob1.userId, 25);
    await until("bob has power 25", () =>
        [bob1, bob2, alice2].every((device) => device.member(roomId, bob1.userId)?.powerLevel === 25),
    );
    await bob1.client.setRoomTopic(roomId, "White too");
    await until("all see the new topic", () =>
        [alice1, alice2, bob1, bob2].every(
            (device) => device.state(roomId, "m.room.topic").getContent().topic === "White too",
        ),
    );
    await refused(bob1.client.setRoomName(roomId, "Coffee club"), 403, "M_FORBIDDEN");
    await refused(bob1.client.setPowerLevel(roomId, bob1.userId, 100), 403, "M_FORBIDDEN");
    await alice2.client.setRoomName(roomId, "Tea and cake club");
    await until("all see the new name", () =>
        [alice1, alice2, bob1, bob2].every((device) => device.room(roomId).name === "Tea and cake club"),
    );
    await barrier(bob2, roomId, [alice1, alice2, bob1]);
});

test("who isn't in a room can neither read it nor write to it", async () => {
    const { room_id: roomId } = await alice1.client.createRoom({ preset: Preset.PrivateChat, name: "Diary" });
    await alice1.is("join", roomId);
    const secret = await alice1.say(roomId, "Dear diary");
    await refused(bob1.client.sendEvent(roomId, "m.room.message", { msgtype: "m.text", body: "hi" }), 403, "M_FORBIDDEN");
    await refused(bob1.client.joinRoom(roomId), 403, "M_FORBIDDEN");
    await refused(bob1.client.roomState(roomId), 403, "M_FORBIDDEN");
    await refused(bob1.client.createMessagesRequest(roomId, null, 10, "b"), 403, "M_FORBIDDEN");
    await refused(bob1.client.fetchRoomEvent(roomId, secret), 404, "M_NOT_FOUND");
});
