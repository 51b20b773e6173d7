// Two people with two devices each live through everything that people do in a chat, in the order
// of the scenes below. `PARLEY_URL` names the server, `PARLEY_RESTART` a command that restarts it.
import "./lib/node20.mjs";
import "./lib/quiet.mjs";
import { after, before } from "node:test";
import * as world from "./lib/world.mjs";

before(() => world.begin());
after(() => world.end());

await import("./scenes/accounts.mjs");
await import("./scenes/rooms.mjs");
await import("./scenes/messages.mjs");
await import("./scenes/presence.mjs");
await import("./scenes/receipts.mjs");
await import("./scenes/settings.mjs");
await import("./scenes/membership.mjs");
await import("./scenes/history.mjs");
await import("./scenes/encryption.mjs");
await import("./scenes/away.mjs");
await import("./scenes/books.mjs");
await import("./scenes/sessions.mjs");
