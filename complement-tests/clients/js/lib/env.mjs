// What the tests are told from outside.
import { spawn } from "node:child_process";

/** Base URL of the server under test, without a slash at its end. */
export const serverUrl = (process.env.PARLEY_URL ?? "").replace(/\/+$/, "");
if (!serverUrl) throw new Error("PARLEY_URL must name the server to test, for example http://127.0.0.1:8008");

/** Shell command that restarts the server; it gets `TERM` or `KILL` as its last argument. */
export const restartCommand = process.env.PARLEY_RESTART ?? "";

/**
 * Assertions to leave out because the server under test is known to deviate from the
 * specification there: a comma-separated list of names, empty for Parley.
 */
const deviations = new Set((process.env.PARLEY_TEST_DEVIATIONS ?? "").split(",").filter(Boolean));
export const deviates = (name) => deviations.has(name);

/** Features that the server under test doesn't have yet: a comma-separated list of names. */
const missing = new Set((process.env.PARLEY_TEST_WITHOUT ?? "").split(",").filter(Boolean));
export const has = (feature) => !missing.has(feature);

/** The reason to skip a test that needs these features, or false if the server has them all. */
export function without(...features) {
    const lacking = features.filter((feature) => !has(feature));
    return lacking.length > 0 && `the server has no ${lacking.join(", ")} yet`;
}

/** Set PARLEY_TEST_DEBUG to see what the SDK logs. */
export const debug = Boolean(process.env.PARLEY_TEST_DEBUG);

/** Restarts the server by `signal` and returns when it answers again. */
export async function restartServer(signal) {
    const child = spawn("/bin/sh", ["-c", `${restartCommand} ${signal}`], { stdio: ["ignore", "inherit", "inherit"] });
    const code = await new Promise((resolve, reject) => child.on("error", reject).on("exit", resolve));
    if (code !== 0) throw new Error(`PARLEY_RESTART ${signal} ended with status ${code}`);
}
