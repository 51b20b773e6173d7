"""Waiting with an end, and values that must be the same."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

POLL_INTERVAL = 0.015
DEFAULT_TIMEOUT = 12.0


async def until(what: str, probe: Callable[[], Any], timeout: float = DEFAULT_TIMEOUT) -> Any:
    """Returns the first true value of `probe`; raises with `what` in the message after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = probe()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s in vain until {what}")
        await asyncio.sleep(POLL_INTERVAL)


def same(actual: Any, expected: Any, what: str = "values") -> None:
    """Equality with both sides in the message."""
    assert actual == expected, f"{what} differ:\n  got      {actual!r}\n  expected {expected!r}"
