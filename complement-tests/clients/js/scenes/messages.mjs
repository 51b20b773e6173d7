// What people do with messages: send, answer, edit, react, take back; and what the sending device alone is told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStatus } from "matrix-js-sdk";
import { without } from "../lib/env.mjs";
import { wholeTimeline } from "../lib/gaps.mjs";
import { refused, until } from "../lib/wait.mjs";
import { alice1, alice2, barrier, bob1, bob2, newGroup } from "../lib/world.mjs";

const everyone = () => [alice1, alice2, bob1, bob2];

/** The reactions to an event that a device knows: `{key: [sender, …]}`. */
function reactions(device, roomId, eventId) {
    const relations = device.room(roomId).relations.getChildEventsForEvent(eventId, "m.annotation", "m.reaction");
    const senders = (relations?.getSortedAnnotationsByKey() ?? []).map(([key, events]) => [
        key,
        [...events].map((event) => event.getSender()).sort(),
    ]);
    return Object.fromEntries(senders.filter(([, list]) => list.length > 0));
}

test("the transaction id comes back to the device that sent, and to no other", async () => {
    const roomId = await newGroup();
    const eventId = await alice1.say(roomId, "Mine");
    for (const device of everyone()) await device.sees(roomId, eventId);
    await until("the sender has merged its local echo", () => alice1.event(roomId, eventId).status === null);

    const own = alice1.room(roomId).getLiveTimeline().getEvents();
    assert.equal(own.filter((event) => event.getContent().body === "Mine").length, 1, "the local echo must merge");
    for (const device of everyone()) {
        const raw = device.recorder.timeline(roomId).find((event) => event.event_id === eventId);
        assert.equal(raw.sender, alice1.userId);
        assert.ok(Math.abs(Date.now() - raw.origin_server_ts) < 60_000);
        if (device === alice1) {
            assert.equal(typeof raw.unsigned.transaction_id, "string");
            assert.equal(raw.unsigned.transaction_id, alice1.event(roomId, eventId).getTxnId());
        } else {
            assert.equal(raw.unsigned?.transaction_id, undefined, `${device.name} must not get the transaction id`);
        }
    }
});

test("a request repeated under its transaction id makes one event, and each device has its own ids", async () => {
    const roomId = await newGroup();
    const content = { msgtype: "m.text", body: "once" };
    const send = (device, txnId) => device.put(roomId, "m.room.message", txnId, content);
    const first = await send(alice1, "same");
    assert.equal(await send(alice1, "same"), first);
    const [third, fourth] = await Promise.all([send(alice1, "race"), send(alice1, "race")]);
    assert.equal(third, fourth);
    const other = await send(alice2, "same");
    assert.notEqual(other, first);
    await barrier(alice1, roomId, everyone());
    for (const device of everyone()) {
        const ids = device.recorder.timeline(roomId).filter((event) => event.content.body === "once");
        assert.deepEqual(
            ids.map((event) => event.event_id),
            [first, third, other],
        );
    }
});

test("messages of two people at once come in the same order to everybody", async () => {
    const roomId = await newGroup();
    const talk = async (device) => {
        const ids = [];
        for (let n = 0; n < 8; n++) ids.push(await device.say(roomId, `${device.name} ${n}`));
        return ids;
    };
    const spoken = await Promise.all(everyone().map(talk));
    await barrier(alice1, roomId, everyone());
    const heard = [];
    for (const device of everyone()) {
        const ids = (await wholeTimeline(device, roomId)).map((event) => event.event_id);
        heard.push(ids.filter((id) => spoken.flat().includes(id)));
    }
    assert.equal(heard[0].length, 32);
    for (const order of heard) assert.deepEqual(order, heard[0]);
    for (const own of spoken) {
        assert.deepEqual(heard[0].filter((id) => own.includes(id)), own, "each one's messages stay in their order");
    }
});

test("a reply names what it answers", async () => {
    const roomId = await newGroup();
    const question = await alice1.say(roomId, "Tea?");
    await bob1.sees(roomId, question);
    const answer = await bob1.say(roomId, "Please", { "m.relates_to": { "m.in_reply_to": { event_id: question } } });
    for (const device of everyone()) {
        const event = await device.sees(roomId, answer);
        assert.equal(event.replyEventId, question);
    }
});

test("an edit replaces the text everywhere, only its author can make one, and the original stays readable", async () => {
    const roomId = await newGroup();
    const original = await alice1.say(roomId, "Tee at five");
    await bob1.sees(roomId, original);
    const edit = (device, body) =>
        device.say(roomId, `* ${body}`, {
            "m.new_content": { msgtype: "m.text", body },
            "m.relates_to": { rel_type: "m.replace", event_id: original },
        });
    await edit(alice2, "Tea at five");
    const last = await edit(alice1, "Tea at six");
    for (const device of everyone()) {
        await until(`${device.name} shows the edit`, () => device.event(roomId, original)?.getContent().body === "Tea at six");
    }
    const bundled = await bob2.client.fetchRoomEvent(roomId, original);
    assert.equal(bundled.content.body, "Tee at five");
    assert.equal(bundled.unsigned["m.relations"]["m.replace"].event_id, last);
    const { events } = await bob2.client.relations(roomId, original, "m.replace", "m.room.message");
    assert.equal(events.length, 2);

    await edit(bob1, "Beer at six");
    await barrier(bob1, roomId, everyone());
    const still = await alice1.client.fetchRoomEvent(roomId, original);
    assert.equal(still.unsigned["m.relations"]["m.replace"].event_id, last);
    assert.equal(alice1.event(roomId, original).getContent().body, "Tea at six");
});

test("reactions add up, cannot be given twice, and go when they are redacted", async () => {
    const roomId = await newGroup();
    const cake = await alice1.say(roomId, "There is cake");
    await bob1.sees(roomId, cake);
    const react = async (device, key) => {
        const content = { "m.relates_to": { rel_type: "m.annotation", event_id: cake, key } };
        return (await device.client.sendEvent(roomId, "m.reaction", content)).event_id;
    };
    await react(alice2, "🎂");
    const applause = await react(bob1, "🎂");
    await react(bob1, "☕");
    const both = { "🎂": [alice1.userId, bob1.userId].sort(), "☕": [bob1.userId] };
    for (const device of everyone()) {
        await until(`${device.name} counts three reactions`, () => Object.values(reactions(device, roomId, cake)).flat().length === 3);
        assert.deepEqual(reactions(device, roomId, cake), both);
    }
    const again = { "m.relates_to": { rel_type: "m.annotation", event_id: cake, key: "☕" } };
    await refused(bob2.put(roomId, "m.reaction", "again", again), 400, "M_DUPLICATE_ANNOTATION");

    await bob2.client.redactEvent(roomId, applause);
    for (const device of everyone()) {
        await until(`${device.name} loses one reaction`, () => reactions(device, roomId, cake)["🎂"].length === 1);
    }
    await react(bob2, "🎂");
    for (const device of everyone()) {
        await until(`${device.name} has it again`, () => reactions(device, roomId, cake)["🎂"].length === 2);
    }
});

test("a redacted message has no content left for anybody, and only those with power redact others'", async () => {
    const roomId = await newGroup();
    const slip = await bob1.say(roomId, "My PIN is 1234");
    const keep = await alice1.say(roomId, "Hers");
    for (const device of everyone()) await device.sees(roomId, keep);
    await refused(bob1.client.redactEvent(roomId, keep), 403, "M_FORBIDDEN");

    const { event_id: redaction } = await alice2.client.redactEvent(roomId, slip, undefined, { reason: "secret" });
    for (const device of everyone()) {
        await until(`${device.name} sees the redaction`, () => device.event(roomId, slip).isRedacted());
        assert.deepEqual(device.event(roomId, slip).getContent(), {});
    }
    const raw = await bob2.client.fetchRoomEvent(roomId, slip);
    assert.deepEqual(raw.content, {});
    assert.equal(raw.unsigned.redacted_because.event_id, redaction);
    assert.equal(raw.unsigned.redacted_because.content.reason, "secret");
    const page = await alice1.client.createMessagesRequest(roomId, null, 50, "b");
    assert.deepEqual(page.chunk.find((event) => event.event_id === slip).content, {});
});

test("a thread has its own messages, and its root tells of them", { skip: without("threads") }, async () => {
    const roomId = await newGroup();
    const root = await alice1.say(roomId, "Which tea?");
    await bob1.sees(roomId, root);
    const inThread = (device, body) => device.say(roomId, body, { "m.relates_to": { rel_type: "m.thread", event_id: root } });
    await inThread(bob1, "Assam");
    const latest = await inThread(alice2, "Darjeeling");
    for (const device of everyone()) {
        await until(`${device.name} has the thread`, () => device.room(roomId).getThread(root)?.length === 2);
        await until(`${device.name} knows the latest`, () => device.room(roomId).getThread(root).replyToEvent?.getId() === latest);
    }
    const summary = (await bob2.client.fetchRoomEvent(roomId, root)).unsigned["m.relations"]["m.thread"];
    assert.equal(summary.count, 2);
    assert.equal(summary.latest_event.event_id, latest);
    assert.equal(summary.current_user_participated, true);
});

test("a message that is too large is refused, and the device can go on", async () => {
    const roomId = await newGroup();
    const body = "x".repeat(70_000);
    await refused(alice1.client.sendEvent(roomId, "m.room.message", { msgtype: "m.text", body }), 413, "M_TOO_LARGE");
    const [failed] = alice1.room(roomId).getPendingEvents();
    assert.equal(failed?.status, EventStatus.NOT_SENT);
    alice1.client.cancelPendingEvent(failed);
    await barrier(alice1, roomId, [bob1, bob2]);
});
