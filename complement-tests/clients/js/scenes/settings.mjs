// What people set about themselves and for themselves: profile, tags, account data, muting, ignoring.
import assert from "node:assert/strict";
import { test } from "node:test";
import { NotificationCountType } from "matrix-js-sdk";
import { deviates } from "../lib/env.mjs";
import { refused, until } from "../lib/wait.mjs";
import { alice1, alice2, barrier, bob1, bob2, newGroup } from "../lib/world.mjs";

test("a new name and picture are seen by the members of all shared rooms", async () => {
    const rooms = [await newGroup(), await newGroup()];
    const picture = "mxc://localhost/teapot";
    await alice1.client.setDisplayName("Alice of the Teapots");
    await alice1.client.setAvatarUrl(picture);
    for (const device of [bob1, bob2, alice2]) {
        for (const roomId of rooms) {
            await until(`${device.name} sees alice's profile in ${roomId}`, () => {
                const member = device.member(roomId, alice1.userId);
                return member?.rawDisplayName === "Alice of the Teapots" && member.getMxcAvatarUrl() === picture;
            });
        }
    }
    assert.deepEqual(await bob1.client.getProfileInfo(alice1.userId), {
        displayname: "Alice of the Teapots",
        avatar_url: picture,
    });
    const path = `/profile/${encodeURIComponent(alice1.userId)}/displayname`;
    const forgery = bob1.client.http.authedRequest("PUT", path, undefined, { displayname: "Mallory" });
    await refused(forgery, deviates("foreign-profile-is-400") ? 400 : 403, "M_FORBIDDEN");
    const later = await alice1.client.createRoom({ invite: [bob1.userId] });
    await bob2.is("invite", later.room_id);
    assert.equal(bob2.member(later.room_id, alice1.userId).rawDisplayName, "Alice of the Teapots");
});

test("tags are on all of one's devices, and only there", async () => {
    const roomId = await newGroup();
    await alice1.client.setRoomTag(roomId, "m.favourite", { order: 0.25 });
    await alice2.client.setRoomTag(roomId, "u.tea", {});
    for (const device of [alice1, alice2]) {
        await until(`${device.name} has both tags`, () => Object.keys(device.room(roomId).tags).length === 2);
        assert.deepEqual(device.room(roomId).tags, { "m.favourite": { order: 0.25 }, "u.tea": {} });
    }
    await alice2.client.deleteRoomTag(roomId, "m.favourite");
    for (const device of [alice1, alice2]) {
        await until(`${device.name} has one tag left`, () => !device.room(roomId).tags["m.favourite"]);
    }
    await barrier(alice1, roomId, [bob1, bob2]);
    assert.deepEqual(bob1.room(roomId).tags, {});
    await refused(
        bob1.client.http.authedRequest("GET", `/user/${encodeURIComponent(alice1.userId)}/rooms/${encodeURIComponent(roomId)}/tags`),
        403,
        "M_FORBIDDEN",
    );
});

test("account data, global and of a room, reaches one's other devices in its latest state", async () => {
    const roomId = await newGroup();
    await alice1.client.setAccountData("org.example.tea", { cups: 1 });
    await alice2.client.setAccountData("org.example.tea", { cups: 2 });
    await alice2.client.setRoomAccountData(roomId, "org.example.seat", { row: 7 });
    for (const device of [alice1, alice2]) {
        await until(`${device.name} knows the cups`, () => device.client.getAccountData("org.example.tea")?.getContent().cups === 2);
        await until(`${device.name} knows the seat`, () => device.room(roomId).getAccountData("org.example.seat")?.getContent().row === 7);
    }
    assert.deepEqual(await alice1.client.getAccountDataFromServer("org.example.tea"), { cups: 2 });
    await barrier(alice1, roomId, [bob1]);
    assert.equal(bob1.client.getAccountData("org.example.tea"), undefined);
    assert.equal(bob1.room(roomId).getAccountData("org.example.seat"), undefined);
    assert.deepEqual(alice1.recorder.accountData("org.example.tea").at(-1).content, { cups: 2 });
});

test("a muted room counts nothing, on the other device as well", async () => {
    const roomId = await newGroup();
    const total = (device) => device.room(roomId).getRoomUnreadNotificationCount(NotificationCountType.Total);
    await alice1.client.setRoomMutePushRule("global", roomId, true);
    await until("alice's other device has the rule", () => alice2.client.pushRules?.global?.room?.some(({ rule_id }) => rule_id === roomId));
    await barrier(bob1, roomId, [alice1, alice2]);
    assert.deepEqual([total(alice1), total(alice2)], [0, 0]);
    await alice2.client.setRoomMutePushRule("global", roomId, false);
    await until("alice's first device has lost the rule", () => !alice1.client.pushRules.global.room.some(({ rule_id }) => rule_id === roomId));
    await barrier(bob1, roomId, [alice1, alice2]);
    for (const device of [alice1, alice2]) await until(`${device.name} counts again`, () => total(device) >= 1);
});

test("who is ignored isn't heard, until forgiven", async () => {
    const roomId = await newGroup();
    await alice1.client.setIgnoredUsers([bob1.userId]);
    await until("alice's other device ignores too", () => alice2.client.isUserIgnored(bob1.userId));
    const unheard = await bob1.say(roomId, "Can you hear me?");
    await barrier(alice1, roomId, [alice2, bob1]);
    for (const device of [alice1, alice2]) {
        assert.equal(device.recorder.timeline(roomId).some((event) => event.event_id === unheard), false);
    }
    await alice2.client.setIgnoredUsers([]);
    await until("alice's first device forgives too", () => !alice1.client.isUserIgnored(bob1.userId));
    await barrier(bob2, roomId, [alice1, alice2]);
});
