// Answers that leave out the older of the new messages, and what a client does about it: it pages back.
import assert from "node:assert/strict";

const pageSize = 15;

/** Pages back until an event turns up that was known before; returns the events between, oldest first. */
export async function fillGap(device, roomId, known) {
    const timeline = device.room(roomId).getLiveTimeline();
    const firstPage = device.recorder.pages.length;
    for (let pages = 0; pages < 20; pages++) {
        const more = await device.client.paginateEventTimeline(timeline, { backwards: true, limit: pageSize });
        const chunk = device.recorder.pages.slice(firstPage).flatMap((page) => page.chunk);
        const end = chunk.findIndex((event) => event.event_id === known);
        if (end >= 0) return chunk.slice(0, end).reverse();
        assert.ok(more, "history ended before the last event that was known");
    }
    throw new Error("paged back 20 times without reaching the last event that was known");
}

/**
 * All that a device was told of a room, oldest first. Who asks late, while others talk, gets the newest messages, and pages
 * back for those before them, as a client does whose reader scrolls up.
 */
export async function wholeTimeline(device, roomId) {
    const parts = device.recorder.parts(roomId);
    const eventsOf = (some) => some.flatMap((part) => part.timeline?.events ?? []);
    const gap = parts.findLastIndex((part) => part.timeline?.limited);
    const before = eventsOf(parts.slice(0, Math.max(gap, 0)));
    if (before.length === 0) return eventsOf(parts);
    return [...before, ...(await fillGap(device, roomId, before.at(-1).event_id)), ...eventsOf(parts.slice(gap))];
}
