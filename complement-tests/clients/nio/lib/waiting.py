"""Waiting with an end, and answers that must be of one kind."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

from nio import DeleteDevicesAuthResponse, ErrorResponse, Response
from nio.responses import RegisterInteractiveResponse

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


def ok(response: Any) -> Any:
    """The request must have been accepted; returns the answer."""
    assert isinstance(response, Response), response
    assert not isinstance(response, (ErrorResponse, DeleteDevicesAuthResponse)), f"{response}"
    # Some of nio's checks of answers let errors pass; a challenge to register comes with 401.
    status = response.transport_response.status
    assert status < 400 or isinstance(response, RegisterInteractiveResponse), f"{status} {response}"
    return response


def refused(response: Any, status: int, *errcodes: str) -> Any:
    """The request must have been answered with this status and one of these error codes; returns the answer."""
    assert isinstance(response, ErrorResponse), f"expected {status} {errcodes}, but the request was accepted: {response}"
    got = (response.transport_response.status, response.status_code)
    assert got[0] == status and got[1] in errcodes, f"expected {status} {errcodes}, got {got}: {response}"
    return response


def same(actual: Any, expected: Any, what: str = "values") -> None:
    """Equality with both sides in the message."""
    assert actual == expected, f"{what} differ:\n  got      {actual!r}\n  expected {expected!r}"
