// A device that was away, while the server restarted too, comes back with its old tokens and gets
// everything that it missed, once; those that stayed lose nothing either.
import assert from "node:assert/strict";
import { test } from "node:test";
import { NotificationCountType, Preset } from "matrix-js-sdk";
import { running } from "../lib/device.mjs";
import { has, restartCommand, restartServer } from "../lib/env.mjs";
import { fillGap, wholeTimeline } from "../lib/gaps.mjs";
import { until, within } from "../lib/wait.mjs";
import { alice1, alice2, barrier, bob1, bob2, newGroup } from "../lib/world.mjs";

const syncLimit = 20;

/** The to-device messages of a play, by their numbers. */
const whispered = has("to-device") ? [0, 1, 2, 3] : [];

/** Restarts the server while `talker` goes on talking; returns the ids of all events that were acknowledged to it. */
async function restartDuringTalk(signal, talker, roomId) {
    const spoken = [];
    let restarted = false;
    const talk = (async () => {
        for (let n = 0, rest = 3; rest > 0; n++) {
            spoken.push(await talker.say(roomId, `${signal} talk ${n}`));
            if (restarted) rest--;
        }
    })();
    await until("the talk has begun", () => spoken.length >= 3);
    const impatience = setInterval(() => running().forEach((device) => device.reconnect()), 100);
    try {
        await within(`the restart by ${signal}`, restartServer(signal), 40_000);
        restarted = true;
        await within("the talk to go on after the restart", talk, 30_000);
        for (const device of running()) {
            await until(`${device.name} syncs again`, () => device.client.getSyncState() === "SYNCING", 30_000);
        }
    } finally {
        clearInterval(impatience);
    }
    return spoken;
}

/** What one can miss: returns what alice's phone must find afterwards. */
async function liveOn(signal, busy, quiet) {
    const story = [];
    const calm = [];
    const say = async (list, device, roomId, body) => list.push(await device.say(roomId, body));
    const whisper = async (n) =>
        has("to-device") && bob1.client.sendToDevice("org.example.whisper", new Map([[alice2.userId, new Map([[alice2.deviceId, { n }]])]]));

    await whisper(0);
    await alice1.client.setAccountData("org.example.mood", { signal, is: "before" });
    await alice1.client.setRoomTag(quiet, "u.away", { order: 0.5 });
    for (let n = 0; n < 28; n++) await say(story, bob1, busy, `before ${n}`);
    await whisper(1);
    await say(calm, bob1, quiet, "before");
    const early = await bob1.client.createRoom({ preset: Preset.TrustedPrivateChat, is_direct: true, invite: [alice2.userId] });

    story.push(...(await restartDuringTalk(signal, bob2, busy)));

    for (let n = 0; n < 28; n++) await say(story, alice1, busy, `after ${n}`);
    await whisper(2);
    await say(calm, bob2, quiet, "after");
    await say(calm, bob1, quiet, `Alice, ${signal}`, {});
    await alice1.client.setRoomName(busy, `Renamed after ${signal}`);
    await alice1.client.setAccountData("org.example.mood", { signal, is: "after" });
    const late = await bob2.client.createRoom({ preset: Preset.TrustedPrivateChat, is_direct: true, invite: [alice2.userId] });
    await bob2.client.sendReadReceipt(await bob2.sees(busy, story.at(-1)));
    await whisper(3);
    return { story, calm, invitations: [early.room_id, late.room_id] };
}

const ids = (events) => events.map((event) => event.event_id);

for (const signal of ["TERM", "KILL"]) {
    const skip = restartCommand ? false : "PARLEY_RESTART isn't set";
    test(`a device that was away over a restart by SIG${signal} gets everything that it missed, once`, { skip }, async () => {
        const busy = await newGroup({ name: "Busy" });
        const quiet = await newGroup({ name: "Quiet" });
        await barrier(alice1, quiet, [alice2]);
        const known = await barrier(alice1, busy, [alice2, bob1, bob2]);
        const position = await alice2.stop();
        const mark = alice2.recorder.mark();
        const asked = alice2.recorder.requests.length;

        const { story, calm, invitations } = await liveOn(signal, busy, quiet);
        assert.ok(story.length > 50);
        assert.equal(new Set(story).size, story.length);
        await barrier(bob1, quiet, [alice1, bob1, bob2]);

        // Those that stayed have it all, in the order of the room, though the server went down under them.
        for (const device of [alice1, bob1, bob2]) {
            const heard = await wholeTimeline(device, busy);
            const heardOfStory = ids(heard).filter((id) => story.includes(id));
            assert.deepEqual(heardOfStory, story, `${device.name} must have the whole story in order`);
            const talk = heard.map((event) => event.content.body).filter((text) => text?.includes(`${signal} talk`));
            assert.equal(new Set(talk).size, talk.length, "what was sent again after the restart must not be there twice");
        }

        await alice2.resume();
        assert.equal(alice2.recorder.requests[asked].since, position, "the device must go on from its old position");
        const [back] = alice2.recorder.parts(busy, mark);
        assert.equal(back.timeline.limited, true);
        assert.ok(back.timeline.events.length <= syncLimit);

        const between = await fillGap(alice2, busy, known);
        const missed = [...ids(between), ...ids(back.timeline.events)];
        assert.equal(new Set(missed).size, missed.length, "the gap and the newest events must not overlap");
        assert.deepEqual(missed.filter((id) => story.includes(id)), story);
        const others = missed.filter((id) => !story.includes(id));
        assert.equal(others.length, 1, "besides the story there is the room's new name only");

        const [calmPart] = alice2.recorder.parts(quiet, mark);
        assert.equal(calmPart.timeline.limited ?? false, false);
        assert.deepEqual(ids(calmPart.timeline.events).slice(0, 3), calm);

        await restIsThere(mark, { signal, busy, quiet, story, calm, invitations });
        await barrier(bob1, busy, [alice2]);
        await barrier(bob1, quiet, [alice2]);
        assert.deepEqual(alice2.recorder.repeats(), [], "nothing comes again later");
        assert.equal(alice2.recorder.toDevice("org.example.whisper", mark).length, whispered.length);
        for (const roomId of invitations) await alice2.client.leave(roomId);
    });
}

/** What isn't a message: state, invitations, to-device messages, account data, tags, receipts, counts. */
async function restIsThere(mark, { signal, busy, quiet, story, calm, invitations }) {
    assert.equal(alice2.room(busy).name, `Renamed after ${signal}`);
    for (const roomId of invitations) {
        await alice2.is("invite", roomId);
        assert.equal(alice2.recorder.parts(roomId, mark).length, 1);
        assert.equal(alice2.room(roomId).getDMInviter(), bob1.userId);
    }
    await until("alice's phone has all whispers", () =>
        alice2.recorder.toDevice("org.example.whisper", mark).length >= whispered.length,
    );
    const whispers = alice2.recorder.toDevice("org.example.whisper", mark);
    assert.deepEqual(whispers.map((event) => event.content.n), whispered);
    assert.deepEqual(
        alice2.recorder.accountData("org.example.mood", mark).map((event) => event.content),
        [{ signal, is: "after" }],
    );
    assert.deepEqual(alice2.room(quiet).tags, { "u.away": { order: 0.5 } });
    assert.equal(alice2.room(busy).getEventReadUpTo(bob2.userId, true), story.at(-1));
    // Two from bob before the barrier that he sent after them, and nothing read since.
    assert.equal(alice2.room(quiet).getRoomUnreadNotificationCount(NotificationCountType.Total), calm.length + 1);
}
