// The books of the whole play: what must hold for each of the four devices from its first sync to its last.
import assert from "node:assert/strict";
import { test } from "node:test";
import { alice1, alice2, bob1, bob2 } from "../lib/world.mjs";

for (const get of [() => alice1, () => alice2, () => bob1, () => bob2]) {
    const whose = String(get).slice("() => ".length);

    test(`${whose} was never told the same event twice, and could work with every answer`, () => {
        const device = get();
        assert.ok(device.recorder.syncs().length > 20);
        assert.deepEqual(device.recorder.repeats(), []);
        assert.deepEqual(device.troubles, []);
    });

    test(`${whose} went on from the position that it was given, each time`, () => {
        const given = new Set([null, ...get().recorder.syncs().map((body) => body.next_batch)]);
        for (const { since } of get().recorder.requests) assert.ok(given.has(since), `asked with ${since}`);
    });
}
