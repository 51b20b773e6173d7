// One device of a person: an SDK client with its stored session, and the record of what the server told it.
import assert from "node:assert/strict";
// Stands in for the browser's disk, for the SDK as well as for its crypto; each device has its own databases in it.
import "fake-indexeddb/auto";
import { ClientEvent, ConnectionError, createClient, EventTimeline, IndexedDBStore, PendingEventOrdering, SyncState } from "matrix-js-sdk";
import { debug, serverUrl } from "./env.mjs";
import { Recorder } from "./recorder.mjs";
import { until } from "./wait.mjs";

const started = new Set();

/** All devices that sync at this moment. */
export const running = () => [...started];

export class Device {
    recorder = new Recorder();
    /** Errors that the SDK met while it worked on an answer of the server: there must be none. */
    troubles = [];
    client;
    #session;
    #startedWith = {};

    /** `session` is the server's answer to a registration or a login. */
    constructor(name, session) {
        this.name = name;
        this.#session = session;
        this.client = this.#newClient();
    }

    get userId() {
        return this.#session.user_id;
    }

    get deviceId() {
        return this.#session.device_id;
    }

    get accessToken() {
        return this.#session.access_token;
    }

    #newClient() {
        return createClient({
            baseUrl: serverUrl,
            userId: this.userId,
            deviceId: this.deviceId,
            accessToken: this.accessToken,
            store: new IndexedDBStore({ indexedDB, dbName: `store of ${this.deviceId}` }),
            timelineSupport: true,
            fetchFn: this.recorder.fetch,
            logger: this.#logger(),
        });
    }

    #logger() {
        const silent = () => {};
        const logger = {
            trace: silent,
            debug: debug ? (...text) => console.log(this.name, ...text) : silent,
            info: silent,
            warn: silent,
            error: (...text) => {
                const line = text.map(String).join(" ");
                if (debug) console.log(this.name, line);
                // Lost connections and refused requests are part of the play; what goes wrong inside an answer isn't.
                if (!/\/sync error|fetch failed|Error sending event/.test(line)) this.troubles.push(line);
            },
            getChild: () => logger,
        };
        return logger;
    }

    /** Starts to sync, from the stored position if there is one, and returns after the first answer. */
    async start(options = {}) {
        this.#startedWith = options;
        const { crypto = false, ...clientOptions } = options;
        // Without `disablePresence` each device would be online all the time, and the presence scene have nothing to see.
        const before = this.recorder.mark();
        this.client.on(ClientEvent.SyncUnexpectedError, (error) => this.troubles.push(String(error.stack)));
        await this.client.store.startup();
        if (crypto) await this.client.initRustCrypto({ cryptoDatabasePrefix: `keys of ${this.deviceId}` });
        await this.client.startClient({
            initialSyncLimit: 20,
            disablePresence: true,
            threadSupport: true,
            pendingEventOrdering: PendingEventOrdering.Detached,
            ...clientOptions,
        });
        started.add(this);
        await until(
            `${this.name} has synced for the first time`,
            () => this.recorder.mark() > before && this.client.getSyncState() === SyncState.Syncing,
        );
        return this;
    }

    /** Closes the app: what it knows is on its disk, nothing of it runs on. Returns the position that it has stored. */
    async stop() {
        await this.client.store.save(true);
        this.client.stopClient();
        const position = await this.client.store.getSavedSyncToken();
        await this.client.store.destroy();
        started.delete(this);
        return position;
    }

    /** Opens the app again: a new client with the old access token and the old position. */
    async resume() {
        this.client = this.#newClient();
        return this.start(this.#startedWith);
    }

    /** Stops without keeping anything, for a device that is logged out. */
    discard() {
        this.client.stopClient();
        started.delete(this);
    }

    /** The SDK waits some seconds before it looks whether a lost server is back; this makes it look now. */
    reconnect() {
        if ([SyncState.Reconnecting, SyncState.Error].includes(this.client.getSyncState())) this.client.retryImmediately();
    }

    room(roomId) {
        return this.client.getRoom(roomId);
    }

    membership(roomId) {
        return this.room(roomId)?.getMyMembership();
    }

    member(roomId, userId) {
        return this.room(roomId)?.getMember(userId);
    }

    state(roomId, type, key = "") {
        return this.room(roomId)?.getLiveTimeline().getState(EventTimeline.FORWARDS).getStateEvents(type, key);
    }

    event(roomId, eventId) {
        return this.room(roomId)?.findEventById(eventId);
    }

    /** Resolves with the event once this device has it. */
    sees(roomId, eventId) {
        return until(`${this.name} sees the event ${eventId}`, () => this.event(roomId, eventId));
    }

    /** Resolves once this device is a member in the way that it says. */
    async is(membership, roomId) {
        await until(`${this.name} has membership ${membership}`, () => this.membership(roomId) === membership);
    }

    /** Sends an event without a local echo; returns its id. */
    async put(roomId, type, txnId, content) {
        const path = `/rooms/${encodeURIComponent(roomId)}/send/${type}/${txnId}`;
        return (await this.client.http.authedRequest("PUT", path, undefined, content)).event_id;
    }

    /** Sends a text, again and again under the same transaction id while the server is away; returns the event's id. */
    async say(roomId, body, extra = {}) {
        const content = { msgtype: "m.text", body, ...extra };
        const txnId = this.client.makeTxnId();
        // The SDK fails over its own local echo in a thread when a sync brings the event before the answer to the request.
        if (extra["m.relates_to"]?.rel_type === "m.thread") return this.put(roomId, "m.room.message", txnId, content);
        try {
            return (await this.client.sendEvent(roomId, "m.room.message", content, txnId)).event_id;
        } catch (error) {
            if (!(error instanceof ConnectionError)) throw error;
        }
        const event = this.room(roomId).getPendingEvents().find((pending) => pending.getTxnId() === txnId);
        assert.ok(event, "the SDK keeps a message that it couldn't send");
        return until(`${this.name} could send '${body}' to the restarted server`, async () => {
            try {
                return (await this.client.resendEvent(event, this.room(roomId))).event_id;
            } catch (error) {
                if (!(error instanceof ConnectionError)) throw error;
                return undefined;
            }
        }, 40_000);
    }
}
