"""The books of the whole play: what must hold for everything that happened in it."""

from common.stage import test
from common.waiting import same

from lib.world import EVERYONE, alice, anton, same_history, same_state, shared


@test("in every room of the play both servers have the same state, event by event")
async def _() -> None:
    assert shared
    for room in shared:
        await same_state(room)


@test("in every room of the play both servers have the same events, each once")
async def _() -> None:
    for room in shared:
        await same_history(room)


@test("nobody of Parley was told an event twice")
async def _() -> None:
    for person in (alice, anton):  # Synapse tells some of its people's joins twice, as it gets the state of a room in parts.
        same(person.recorder.repeats(), [], f"what {person} was told again")


@test("nobody's sync came to an end")
async def _() -> None:
    assert not [person for person in EVERYONE if person.has_ended()]
