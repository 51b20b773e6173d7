"""People of a Parley server and people of a Synapse server live together, in the order of the scenes below. `run` says
where the servers are. Names of tests, or parts of them, may follow as arguments: then only those are played."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # for `common`

from common import stage
from lib import world
from scenes import away, books, fleeting, forks, history, membership, rooms, strangers, talk

ORDER = [strangers, membership, talk, rooms, fleeting, history, forks, away, books]


async def main() -> int:
    await world.begin()
    try:
        return await stage.play([module.__name__ for module in ORDER], sys.argv[1:])
    finally:
        await world.end()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
