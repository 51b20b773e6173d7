// Who types, and who is there.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SetPresence } from "matrix-js-sdk";
import { Device } from "../lib/device.mjs";
import { refused, until } from "../lib/wait.mjs";
import { alice1, alice2, barrier, bob1, bob2, login, newGroup } from "../lib/world.mjs";

const typing = (device, roomId, userId) => device.member(roomId, userId)?.typing === true;

test("typing is seen while it lasts, ends when it stops, and by itself when the time is over", async () => {
    const roomId = await newGroup();
    const alice = alice1.userId;
    await alice1.client.sendTyping(roomId, true, 20_000);
    for (const device of [bob1, bob2]) await until(`${device.name} sees alice type`, () => typing(device, roomId, alice));
    await bob2.client.sendTyping(roomId, true, 20_000);
    await until("both type", () => typing(bob1, roomId, alice) && typing(alice2, roomId, bob2.userId));

    await alice1.client.sendTyping(roomId, false);
    for (const device of [bob1, bob2]) await until(`${device.name} sees alice stop`, () => !typing(device, roomId, alice));
    assert.ok(typing(alice1, roomId, bob2.userId), "bob still types");
    await bob2.client.sendTyping(roomId, false);
    await until("nobody types", () => !typing(alice1, roomId, bob2.userId));

    const begin = Date.now();
    await alice2.client.sendTyping(roomId, true, 2_500);
    await until("bob sees alice type again", () => typing(bob1, roomId, alice));
    await until("alice's typing runs out", () => !typing(bob1, roomId, alice));
    assert.ok(Date.now() - begin >= 2_400, `typing ran out after ${Date.now() - begin} ms already`);
    await refused(bob1.client.sendTyping("!nowhere:localhost", true, 1000), 403, "M_FORBIDDEN");
});

test("typing ends with the message", async () => {
    const roomId = await newGroup();
    await alice1.client.sendTyping(roomId, true, 20_000);
    await until("bob sees alice type", () => typing(bob1, roomId, alice1.userId));
    await alice1.say(roomId, "What I typed");
    await alice1.client.sendTyping(roomId, false);
    await until("bob sees alice stop", () => !typing(bob1, roomId, alice1.userId));
    await barrier(alice1, roomId, [bob1]);
    const last = bob1.recorder.ephemeral(roomId).findLast((event) => event.type === "m.typing");
    assert.deepEqual(last.content.user_ids, []);
});

test("presence follows the person: online by syncing, away with a message, back, and gone", async () => {
    await newGroup();
    // All devices so far sync without being present.
    const watch = new Device("watch", await login("alice", "Alice's watch"));
    const seen = (device) => device.client.getUser(watch.userId);
    const before = await bob1.client.getPresence(watch.userId);
    assert.equal(before.presence, "offline");

    const is = async (presence, status) => {
        for (const device of [bob1, bob2, alice1]) {
            await until(`${device.name} sees alice ${presence} with status ${status}`, () => {
                const user = seen(device);
                return user?.presence === presence && (status === undefined || user.presenceStatusMsg === status);
            });
        }
        const answer = await bob2.client.getPresence(watch.userId);
        assert.equal(answer.presence, presence);
        if (status !== undefined) assert.equal(answer.status_msg, status);
    };

    await watch.start({ disablePresence: false });
    await is("online");
    assert.equal(seen(bob1).currentlyActive, true);

    const declare = async (presence, status) => {
        await watch.client.setSyncPresence(presence);
        // The sync under way must end first, so that none that says the old presence overtakes the new one.
        await watch.client.setAccountDataRaw("org.example.nudge", { presence, status });
        await until("the watch syncs with its new presence", () => watch.recorder.requests.at(-1).setPresence === presence);
        await watch.client.setPresence({ presence, status_msg: status });
        await is(presence, status);
    };
    await declare(SetPresence.Unavailable, "Boiling water");
    await declare(SetPresence.Online, "Tea is ready");
    await declare(SetPresence.Offline);

    await refused(
        bob1.client.http.authedRequest("PUT", `/presence/${encodeURIComponent(watch.userId)}/status`, undefined, { presence: "online" }),
        403,
        "M_FORBIDDEN",
    );
    await watch.client.logout(true);
    watch.discard();
});
