// Paging back through what was said, on a device that wasn't there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Device } from "../lib/device.mjs";
import { alice1, bob1, bob2, login, newGroup } from "../lib/world.mjs";

const pageSize = 15;

/** Sends `count` texts by turns; returns their event ids in order. */
async function talk(roomId, count) {
    const ids = [];
    for (let n = 0; n < count; n++) ids.push(await [alice1, bob1, bob2][n % 3].say(roomId, `line ${n}`));
    return ids;
}

test("a new device pages back to the room's beginning and gets each event once, in order", async () => {
    const roomId = await newGroup({ name: "Chronicle" });
    const said = await talk(roomId, 50);
    const tablet = new Device("tablet", await login("bob", "Bob's tablet"));
    await tablet.start({ initialSyncLimit: 10 });
    await tablet.is("join", roomId);

    const [first] = tablet.recorder.parts(roomId);
    assert.equal(first.timeline.limited, true);
    assert.equal(first.timeline.events.length, 10);
    assert.deepEqual(first.timeline.events.map((event) => event.event_id), said.slice(-10));

    const room = tablet.room(roomId);
    const timeline = room.getLiveTimeline();
    let pages = 0;
    while (await tablet.client.paginateEventTimeline(timeline, { backwards: true, limit: pageSize })) {
        assert.ok(++pages < 12, "paging back doesn't come to an end");
    }
    assert.ok(pages >= 3, `only ${pages} pages`);
    for (const page of tablet.recorder.pages) assert.ok(page.chunk.length <= pageSize);
    assert.equal(tablet.recorder.pages.at(-1).end, undefined, "the last page has no token to go on");

    const raw = [...tablet.recorder.pages.flatMap((page) => page.chunk).reverse(), ...first.timeline.events];
    const ids = raw.map((event) => event.event_id);
    assert.equal(new Set(ids).size, ids.length, "no event may come twice");
    assert.equal(raw[0].type, "m.room.create");
    assert.deepEqual(ids.filter((id) => said.includes(id)), said);
    assert.deepEqual(timeline.getEvents().map((event) => event.getId()), ids);

    await tablet.client.logout(true);
    tablet.discard();
});

test("pages forwards and backwards from one token meet without a gap or an overlap", async () => {
    const roomId = await newGroup();
    const said = await talk(roomId, 30);
    const page = (from, dir, limit) => bob1.client.createMessagesRequest(roomId, from, limit, dir);
    const newest = await page(null, "b", 12);
    const older = await page(newest.end, "b", 8);
    const back = await page(newest.end, "f", 12);
    const ids = (answer) => answer.chunk.map((event) => event.event_id);
    assert.deepEqual(ids(newest), said.slice(-12).reverse());
    assert.deepEqual(ids(older), said.slice(-20, -12).reverse());
    assert.deepEqual(ids(back), said.slice(-12));
});

test("an event is shown in its surroundings, and by filter only what is asked for comes", async () => {
    const roomId = await newGroup();
    const said = await talk(roomId, 11);
    const context = await bob1.client.http.authedRequest(
        "GET",
        `/rooms/${encodeURIComponent(roomId)}/context/${encodeURIComponent(said[5])}`,
        { limit: 4 },
    );
    assert.equal(context.event.event_id, said[5]);
    assert.deepEqual(context.events_before.map((event) => event.event_id), [said[4], said[3]]);
    assert.deepEqual(context.events_after.map((event) => event.event_id), [said[6], said[7]]);

    const path = `/rooms/${encodeURIComponent(roomId)}/messages`;
    const filter = JSON.stringify({ types: ["m.room.message"], senders: [alice1.userId] });
    const hers = await bob1.client.http.authedRequest("GET", path, { dir: "b", limit: 50, filter });
    assert.deepEqual(
        hers.chunk.map((event) => event.event_id),
        said.filter((_, n) => n % 3 === 0).reverse(),
    );
});
