// Keeps the SDK's own log from the tests' report; must be imported before the SDK, which binds its loggers at import.
import { logger } from "matrix-js-sdk/lib/logger.js";
import { debug } from "./env.mjs";

if (!debug) {
    // Child loggers inherit the method factory, not the level.
    logger.methodFactory = () => () => {};
    logger.rebuild();
}
