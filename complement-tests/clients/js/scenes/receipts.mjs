// Who has read what, for others and for oneself, and what it does to the unread counts.
import assert from "node:assert/strict";
import { test } from "node:test";
import { NotificationCountType, ReceiptType } from "matrix-js-sdk";
import { without } from "../lib/env.mjs";
import { until } from "../lib/wait.mjs";
import { alice1, alice2, barrier, bob1, bob2, newGroup } from "../lib/world.mjs";

const counts = (device, roomId) => ({
    total: device.room(roomId).getRoomUnreadNotificationCount(NotificationCountType.Total),
    highlight: device.room(roomId).getRoomUnreadNotificationCount(NotificationCountType.Highlight),
});

const threadCount = (device, roomId, root) =>
    device.room(roomId).getThreadUnreadNotificationCount(root, NotificationCountType.Total);

/** All of `devices` come to these unread counts. */
async function unread(devices, roomId, total, highlight) {
    for (const device of devices) {
        const right = () => {
            const now = counts(device, roomId);
            return now.total === total && now.highlight === highlight;
        };
        await until(`${device.name} counts ${total} unread, ${highlight} of them highlighted`, right).catch((error) => {
            throw new Error(`${error.message}; it counts ${JSON.stringify(counts(device, roomId))}`);
        });
    }
}

test("a public receipt is seen by everybody", async () => {
    const roomId = await newGroup();
    const eventId = await alice1.say(roomId, "Read this");
    await bob1.client.sendReadReceipt(await bob1.sees(roomId, eventId));
    for (const device of [alice1, alice2, bob2]) {
        await until(`${device.name} knows that bob has read`, () =>
            device.recorder
                .receipts(roomId)
                .some((receipt) => receipt.eventId === eventId && receipt.userId === bob1.userId && receipt.type === "m.read"),
        );
        assert.equal(device.room(roomId).getEventReadUpTo(bob1.userId, true), eventId);
    }
    assert.ok(alice1.room(roomId).getUsersReadUpTo(alice1.event(roomId, eventId)).includes(bob1.userId));
});

test("a private receipt is seen by one's own devices and by nobody else", async () => {
    const roomId = await newGroup();
    const eventId = await bob1.say(roomId, "Has she read it?");
    await unread([alice1, alice2], roomId, 1, 0);
    await alice1.client.sendReadReceipt(await alice1.sees(roomId, eventId), ReceiptType.ReadPrivate);
    await until("alice's other device has the private receipt", () =>
        alice2.recorder
            .receipts(roomId)
            .some(({ eventId: id, type, userId }) => id === eventId && type === "m.read.private" && userId === alice1.userId),
    );
    await unread([alice1, alice2], roomId, 0, 0);

    await barrier(bob1, roomId, [bob1, bob2]);
    await barrier(alice1, roomId, [bob1, bob2]);
    for (const device of [bob1, bob2]) {
        const leaked = device.recorder.receipts(roomId).filter(({ userId, eventId: id }) => userId === alice1.userId && id === eventId);
        assert.deepEqual(leaked, [], `${device.name} must not learn of a private receipt`);
        assert.equal(JSON.stringify(device.recorder.parts(roomId)).includes("m.read.private"), false);
    }
});

test("unread counts go up by messages and mentions, down by receipts, the same on both devices", async () => {
    const roomId = await newGroup();
    await unread([alice1, alice2], roomId, 0, 0);
    const first = await bob1.say(roomId, "one");
    await bob2.say(roomId, "two");
    await unread([alice1, alice2], roomId, 2, 0);
    await bob1.say(roomId, "Alice, three", { "m.mentions": { user_ids: [alice1.userId] } });
    const last = await bob1.say(roomId, "four");
    await unread([alice1, alice2], roomId, 4, 1);
    await unread([bob1, bob2], roomId, 0, 0);

    // Edits, reactions and notices don't count.
    await bob1.say(roomId, "* four!", {
        "m.new_content": { msgtype: "m.text", body: "four!" },
        "m.relates_to": { rel_type: "m.replace", event_id: last },
    });
    await bob1.client.sendEvent(roomId, "m.reaction", { "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "1" } });
    await bob1.say(roomId, "a robot speaks", { msgtype: "m.notice" });
    const five = await bob1.say(roomId, "five");
    await unread([alice1, alice2], roomId, 5, 1);

    await alice2.client.sendReadReceipt(await alice2.sees(roomId, first));
    await unread([alice1, alice2], roomId, 4, 1);
    await alice1.client.sendReadReceipt(await alice1.sees(roomId, last), ReceiptType.ReadPrivate);
    await unread([alice1, alice2], roomId, 1, 0);
    await alice1.client.sendReadReceipt(await alice1.sees(roomId, five));
    await unread([alice1, alice2], roomId, 0, 0);
    await bob1.say(roomId, "six");
    await unread([alice1, alice2], roomId, 1, 0);
});

test("a thread is counted apart, and a receipt in it leaves the room's own count alone", { skip: without("threads") }, async () => {
    const roomId = await newGroup();
    const root = await alice1.say(roomId, "A long story");
    await bob1.sees(roomId, root);
    await bob1.say(roomId, "outside");
    const inside = await bob1.say(roomId, "inside", { "m.relates_to": { rel_type: "m.thread", event_id: root } });
    for (const device of [alice1, alice2]) {
        await until(`${device.name} counts the thread`, () => threadCount(device, roomId, root) === 1);
    }
    await unread([alice1, alice2], roomId, 1, 0);
    const reply = await until("alice has the reply in its thread", () => alice1.room(roomId).getThread(root)?.findEventById(inside));
    await alice1.client.sendReadReceipt(reply);
    for (const device of [alice1, alice2]) {
        await until(`${device.name} has read the thread`, () => threadCount(device, roomId, root) === 0);
    }
    await barrier(alice2, roomId, [alice1]);
    await until("bob gets the receipt with its thread", () =>
        bob1.recorder.receipts(roomId).some(({ eventId, threadId }) => eventId === inside && threadId === root),
    );
});

test("the fully-read marker is for one's own devices", async () => {
    const roomId = await newGroup();
    const eventId = await bob1.say(roomId, "Up to here");
    const event = await alice1.sees(roomId, eventId);
    await alice1.client.setRoomReadMarkers(roomId, eventId, event);
    await until("alice's other device has the marker", () =>
        alice2.room(roomId).getAccountData("m.fully_read")?.getContent().event_id === eventId,
    );
    await until("bob has the receipt that went with it", () => bob1.room(roomId).getEventReadUpTo(alice1.userId, true) === eventId);
    await unread([alice1, alice2], roomId, 0, 0);
    await barrier(alice1, roomId, [bob1]);
    assert.equal(bob1.room(roomId).getAccountData("m.fully_read"), undefined);
});
