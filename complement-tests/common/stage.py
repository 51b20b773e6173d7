"""Collects the tests of the scenes, plays them one after the other, and reports."""

import time
import traceback
from collections.abc import Awaitable, Callable

Test = Callable[[], Awaitable[None]]

_tests: list[tuple[str, str, Test, str | None]] = []


def test(sentence: str, skip: str | None = None) -> Callable[[Test], Test]:
    """Registers a test under a sentence that says what it shows; `skip` is the reason for leaving it out."""

    def register(function: Test) -> Test:
        _tests.append((function.__module__, sentence, function, skip))
        return function

    return register


async def play(modules: list[str], wanted: list[str]) -> int:
    """Plays the tests of `modules` in that order; returns 0 if all passed, otherwise 1."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    chosen = [entry for module in modules for entry in _tests if entry[0] == module]
    if wanted:
        chosen = [entry for entry in chosen if any(part in entry[1] for part in wanted)]
    begin = time.monotonic()
    for _, sentence, function, skip in chosen:
        outcome = "skipped" if skip else await _play_one(sentence, function)
        if skip:
            print(f"- {sentence} (skipped: {skip})", flush=True)
        counts[outcome] += 1
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    print(f"{summary}, in {time.monotonic() - begin:.1f} s", flush=True)
    return 1 if counts["failed"] or not counts["passed"] else 0


async def _play_one(sentence: str, function: Test) -> str:
    begin = time.monotonic()
    try:
        await function()
    except Exception:  # whatever it was, the other tests are still to be played
        print(f"✖ {sentence}\n{traceback.format_exc()}", flush=True)
        return "failed"
    print(f"✔ {sentence} ({(time.monotonic() - begin) * 1000:.0f} ms)", flush=True)
    return "passed"
