"""What the tests are told from outside."""

import asyncio
import os
import sys

SERVER_URL = os.environ.get("PARLEY_URL", "").rstrip("/")
"""Base URL of the server under test."""
if not SERVER_URL:
    sys.exit("PARLEY_URL must name the server to test, for example http://127.0.0.1:8008")

RESTART_COMMAND = os.environ.get("PARLEY_RESTART", "")
"""Shell command that restarts the server; it gets `TERM` or `KILL` as its last argument."""

_DEVIATIONS = {name for name in os.environ.get("PARLEY_TEST_DEVIATIONS", "").split(",") if name}


def deviates(name: str) -> bool:
    """Whether an assertion is to be left out because the server under test is known to deviate from the
    specification there; never so for Parley."""
    return name in _DEVIATIONS


_MISSING = {name for name in os.environ.get("PARLEY_TEST_WITHOUT", "").split(",") if name}


def has(feature: str) -> bool:
    """Whether the server under test has a feature."""
    return feature not in _MISSING


def without(*features: str) -> str | None:
    """The reason to skip a test that needs these features, or nothing if the server has them all."""
    lacking = [feature for feature in features if not has(feature)]
    return f"the server has no {', '.join(lacking)} yet" if lacking else None


async def restart_server(signal: str) -> None:
    """Restarts the server by `signal` and returns when it answers again."""
    process = await asyncio.create_subprocess_shell(f"{RESTART_COMMAND} {signal}")
    status = await process.wait()
    assert status == 0, f"PARLEY_RESTART {signal} ended with status {status}"
