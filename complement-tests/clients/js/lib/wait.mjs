// Waiting with an end, and requests that must be refused.
import assert from "node:assert/strict";

const pollInterval = 15;
const defaultTimeout = 12_000;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resolves with the first truthy value of `probe`; rejects with `what` in the message after `timeout` milliseconds. */
export async function until(what, probe, timeout = defaultTimeout) {
    const deadline = Date.now() + timeout;
    for (;;) {
        const value = await probe();
        if (value) return value;
        if (Date.now() > deadline) throw new Error(`waited ${timeout} ms in vain until ${what}`);
        await sleep(pollInterval);
    }
}

/** Rejects with `what` in the message if `promise` takes longer than `timeout` milliseconds. */
export async function within(what, promise, timeout = defaultTimeout) {
    let timer;
    const alarm = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`waited ${timeout} ms in vain for ${what}`)), timeout);
    });
    try {
        return await Promise.race([promise, alarm]);
    } finally {
        clearTimeout(timer);
    }
}

/** The request must be answered with this status and error code (or one of several); returns the error. */
export async function refused(request, status, errcode) {
    let error;
    try {
        await request;
    } catch (caught) {
        error = caught;
    }
    assert.ok(error, `expected ${status} ${errcode}, but the request was accepted`);
    const { httpStatus, errcode: code } = error;
    const expected = [errcode].flat();
    assert.ok(httpStatus === status && expected.includes(code), `expected ${status} ${expected}, got: ${error}`);
    return error;
}
