"""Two people with two devices each live through everything that people do in a chat, in the order of the
scenes below. `PARLEY_URL` names the server, `PARLEY_RESTART` a command that restarts it. Names of tests, or parts
of them, may follow as arguments: then only those are played."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `common`

from common import stage
from lib import world
from scenes import accounts, away, books, encryption, history, membership, messages, presence, receipts, rooms, sessions, settings  # noqa: F401

ORDER = [accounts, rooms, messages, presence, receipts, settings, membership, history, encryption, away, books, sessions]


async def main() -> int:
    await world.begin()
    try:
        return await stage.play([module.__name__ for module in ORDER], sys.argv[1:])
    finally:
        await world.end()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
