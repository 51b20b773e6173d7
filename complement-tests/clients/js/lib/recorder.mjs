// What the server really said to one device, before the SDK merges and deduplicates it.
import assert from "node:assert/strict";

export class Recorder {
    /** `{since, timeout, setPresence}` of each /sync request, in the order sent. */
    requests = [];
    /** Bodies of /sync by the token they were asked with: an answer that never reached the client is asked for again. */
    #answers = new Map();
    #received = 0;
    /** Bodies of /rooms/{roomId}/messages, in the order received. */
    pages = [];

    /** Give this to the SDK as its `fetchFn`. */
    fetch = async (resource, init) => {
        const url = new URL(resource);
        const isSync = url.pathname.endsWith("/sync");
        const isPage = url.pathname.endsWith("/messages");
        const since = url.searchParams.get("since");
        if (isSync) {
            this.requests.push({
                since,
                timeout: Number(url.searchParams.get("timeout")),
                setPresence: url.searchParams.get("set_presence") ?? "online",
            });
        }
        const response = await fetch(resource, init);
        if (!(isSync || isPage) || !response.ok) return response;
        const text = await response.text();
        const body = JSON.parse(text);
        if (isSync) this.#record(since, body);
        else this.pages.push(body);
        return new Response(text, { status: response.status, headers: response.headers });
    };

    #record(since, body) {
        const carriesEvents = Object.values(body.rooms?.join ?? {}).some((room) => room.timeline?.events?.length > 0);
        assert.ok(!(carriesEvents && body.next_batch === since), "a sync with events must move the token on");
        this.#answers.delete(since); // so that a repeated answer takes its place at the end
        this.#answers.set(since, { number: this.#received++, body });
    }

    /** The /sync bodies from a mark on, oldest first. */
    syncs(since = 0) {
        return [...this.#answers.values()].filter(({ number }) => number >= since).map(({ body }) => body);
    }

    /** A mark to hand to the functions below, so that they look only at what comes after it. */
    mark() {
        return this.#received;
    }

    /** This room's part of all answers, where it has one: `{section, ...part}`. */
    parts(roomId, since = 0) {
        return this.syncs(since).flatMap((body) =>
            ["invite", "join", "leave", "knock"]
                .filter((section) => body.rooms?.[section]?.[roomId])
                .map((section) => ({ section, ...body.rooms[section][roomId] })),
        );
    }

    /** Timeline events of this room, in the order in which they arrived. */
    timeline(roomId, since = 0) {
        return this.parts(roomId, since).flatMap((part) => part.timeline?.events ?? []);
    }

    /** Ephemeral events of this room (typing, receipts). */
    ephemeral(roomId, since = 0) {
        return this.parts(roomId, since).flatMap((part) => part.ephemeral?.events ?? []);
    }

    /** `{eventId, type, userId, threadId}` of each receipt that arrived for this room. */
    receipts(roomId, since = 0) {
        const found = [];
        for (const event of this.ephemeral(roomId, since).filter((event) => event.type === "m.receipt")) {
            for (const [eventId, types] of Object.entries(event.content)) {
                for (const [type, users] of Object.entries(types)) {
                    for (const [userId, data] of Object.entries(users)) {
                        found.push({ eventId, type, userId, threadId: data.thread_id });
                    }
                }
            }
        }
        return found;
    }

    /** To-device events of this type, in order. */
    toDevice(type, since = 0) {
        return this.syncs(since)
            .flatMap((body) => body.to_device?.events ?? [])
            .filter((event) => event.type === type);
    }

    /** Global account data events of this type, in order. */
    accountData(type, since = 0) {
        return this.syncs(since)
            .flatMap((body) => body.account_data?.events ?? [])
            .filter((event) => event.type === type);
    }

    /** Ids of events that came more than once, though the room wasn't left and joined again in between. */
    repeats() {
        const repeated = [];
        for (const roomId of new Set(this.syncs().flatMap((body) => Object.keys(body.rooms?.join ?? {})))) {
            let seen = new Set();
            for (const { section, timeline } of this.parts(roomId)) {
                for (const { event_id: eventId } of timeline?.events ?? []) {
                    if (seen.has(eventId)) repeated.push(eventId);
                    seen.add(eventId);
                }
                if (section === "leave") seen = new Set();
            }
        }
        return repeated;
    }
}
