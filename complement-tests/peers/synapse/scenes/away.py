"""One of the servers is gone for a while, and people of the other one go on."""

import asyncio
from secrets import token_hex

from common.stage import test

from lib.homeserver import Homeserver
from lib.person import Person
from lib.world import SIDES, Side, enter, give_power, open_room, parley, same_history, same_state, synapse, talk_to_each_other

MESSAGES = 60
"""More than a transaction holds."""


async def go_on(side: Side, room_id: str) -> None:
    """What the host does while the guest's server is gone."""
    host = side.host
    for n in range(MESSAGES):
        await host.say(room_id, f"while you were gone {n}")
        if n % 20 == 10:
            await host.set(room_id, "m.room.topic", {"topic": f"gone for {n}"})
    await host.act("kick", room_id, side.friend, reason="gone too long")


async def goes(side: Side, signal: str) -> None:
    server = side.guest.home
    rooms = [await open_room(side, version) for version in ("11", "12")]
    for room in rooms:
        await enter(side, side.friend, room.room_id)
        await give_power(side, room.room_id, {side.guest: 50})
    await server.stop(signal)
    try:
        for room in rooms:
            await go_on(side, room.room_id)
    finally:
        await server.start()
    for room in rooms:
        await talk_to_each_other(room)
        await same_state(room)
        await same_history(room)
        await side.host.finds(room.room_id, side.friend, "leave")


async def falls_in_the_middle(side: Side, signal: str) -> None:
    """The guest's server ends while both talk, and comes up again."""
    room = await open_room(side)
    done = asyncio.Event()

    async def speak(person: Person) -> None:
        rest, spoken = 5, 0
        while rest:
            await person.say(room.room_id, f"{person} {spoken}")
            spoken += 1
            rest -= done.is_set()

    speaking = [asyncio.create_task(speak(person)) for person in (side.host, side.guest)]
    await side.host.sees(room.room_id, await side.guest.say(room.room_id, f"ready {token_hex(2)}"))
    await side.guest.home.stop(signal)
    await side.guest.home.start()
    done.set()
    await asyncio.wait_for(asyncio.gather(*speaking), 40)
    await talk_to_each_other(room)
    await same_state(room)
    await same_history(room)


def register(server: Homeserver, signal: str) -> None:
    [side] = [side for side in SIDES if side.guest.home is server]

    @test(f"{server} is gone after SIG{signal}, the other server's people go on, and it catches up")
    async def _() -> None:
        await goes(side, signal)

    @test(f"{server} gets SIG{signal} while everybody talks, and nothing is lost or told twice")
    async def _() -> None:
        await falls_in_the_middle(side, signal)


register(synapse, "TERM")
register(parley, "TERM")
register(parley, "KILL")
