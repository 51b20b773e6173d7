"""The people of the play, the servers they are on, and the rooms they make."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from common.recorder import Json
from common.stage import Test, test
from common.waiting import same, until

from .homeserver import Homeserver
from .person import PATIENCE, Person, Refused
from .relay import Relay

parley = Homeserver("Parley")
synapse = Homeserver("Synapse")

alice = Person(parley, "alice")
anton = Person(parley, "anton")
berta = Person(synapse, "berta")
bruno = Person(synapse, "bruno")
EVERYONE = (alice, anton, berta, bruno)


@dataclass
class Side:
    """Who is whose guest."""

    host: Person
    """Has the room made."""
    guest: Person
    """Is of the other server."""
    friend: Person
    """Another guest, of the same server as `guest`."""

    def __str__(self) -> str:
        return f"{self.guest.home} at {self.host.home}"


SIDES = [Side(alice, berta, bruno), Side(berta, alice, anton)]
"""Every test is played in both directions."""

VERSIONS = ["6", "10", "11", "12"]
"""Room versions that differ in something that matters between servers: 6 is the oldest with today's format of events, 10
has restricted joins and levels that are numbers, 11 another redaction, 12 other room ids and state resolution."""


Scene = Callable[..., Awaitable[None]]
Story = Callable[..., AsyncGenerator[None, None]]


def both_ways(sentence: str) -> Callable[[Scene], Scene]:
    """Registers a test that is given a side, for each of them."""

    def register(scene: Scene) -> Scene:
        for side in SIDES:
            _register(scene, f"{side}: {sentence}", partial(scene, side))
        return scene

    return register


def in_each_version(sentence: str) -> Callable[[Scene], Scene]:
    """Registers a test for each room version; it is given a side and the version, and both sides play at the same time."""

    def register(scene: Scene) -> Scene:
        for version in VERSIONS:
            both = partial(together, {str(side): partial(scene, side, version) for side in SIDES})
            _register(scene, f"room version {version}: {sentence}", both)
        return scene

    return register


def while_apart(sentence: str, versions: list[str] = VERSIONS) -> Callable[[Story], Story]:
    """Registers a test that is given a side and a room version. At its first `yield` it waits until the line between the
    servers is cut, at the next until it is whole again, and so on: so all versions and sides are apart at the same time."""

    def register(story: Story) -> Story:
        async def play() -> None:
            stories = {f"{side}, room version {v}": story(side, v) for side in SIDES for v in versions}
            is_cut = False
            while await _go_on(stories):
                is_cut = not is_cut
                act = Relay.cut if is_cut else Relay.connect
                await asyncio.gather(act(parley.line), act(synapse.line))

        _register(story, sentence, play)
        return story

    return register


async def _go_on(stories: dict[str, AsyncGenerator[None, None]]) -> bool:
    """Has each story go on to its next `yield`; whether they have one."""
    ended = []

    async def go_on(name: str) -> None:
        try:
            await anext(stories[name])
        except StopAsyncIteration:
            ended.append(name)

    try:
        await together({name: partial(go_on, name) for name in stories})
    except BaseException:
        await asyncio.gather(parley.line.connect(), synapse.line.connect())
        raise
    return not ended


async def together(scenes: dict[str, Callable[[], Awaitable[None]]]) -> None:
    """Plays scenes at the same time; tells of each that fails under its name."""

    async def play(name: str) -> None:
        try:
            await scenes[name]()
        except Exception as error:
            error.add_note(f"This was: {name}")
            raise

    outcomes = await asyncio.gather(*(play(name) for name in scenes), return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(scenes)} failed", failures)


def _register(scene: Callable[..., Any], sentence: str, play: Test) -> None:
    async def run() -> None:
        await play()

    run.__module__ = scene.__module__  # a test belongs to the module of its scene
    test(sentence)(run)


@dataclass
class SharedRoom:
    """A room that both servers are in to the end of the play."""

    room_id: str
    here: Person
    there: Person
    without: set[str]
    """Events that one of the servers is right not to show."""


shared: list[SharedRoom] = []
"""Rooms whose books are compared at the end."""


async def begin() -> None:
    await asyncio.gather(parley.line.connect(), synapse.line.connect())
    await asyncio.gather(*(person.begin() for person in EVERYONE))


async def end() -> None:
    await asyncio.gather(*(person.end() for person in EVERYONE))
    await asyncio.gather(parley.line.cut(), synapse.line.cut())


def keep(room_id: str, here: Person, there: Person) -> SharedRoom:
    """Has the books of a room compared at the end."""
    room = SharedRoom(room_id, here, there, set())
    shared.append(room)
    return room


async def open_room(side: Side, version: str = "11", **options: Any) -> SharedRoom:
    """A public room of the host in which the guest is; both know it."""
    room_id = await side.host.create(preset="public_chat", room_version=version, **options)
    await enter(side, side.guest, room_id)
    return keep(room_id, side.host, side.guest)


async def enter(side: Side, guest: Person, room_id: str) -> None:
    """Has a guest join a room of the host; both know it then."""
    await guest.join(room_id, side.host.home)
    await guest.is_("join", room_id)
    await side.host.finds(room_id, guest, "join")


async def give_power(side: Side, room_id: str, levels: dict[Person, int]) -> None:
    """Has the host give others levels, and waits until the guest's server knows."""
    content = await side.host.read(room_id, "m.room.power_levels") or {}
    content.setdefault("users", {}).update({person.id: level for person, level in levels.items()})
    event_id = await side.host.set(room_id, "m.room.power_levels", content)
    await side.guest.sees(room_id, event_id)


async def refused(asking: Any, status: int, *errcodes: str) -> None:
    """The request must be refused with this status and one of these codes."""
    try:
        said = await asking
    except Refused as no:
        assert no.status == status and no.errcode in errcodes, f"expected {status} {errcodes}, got {no}"
        return
    raise AssertionError(f"expected {status} {errcodes}, but the request was accepted: {said}")


async def talk_to_each_other(room: SharedRoom) -> None:
    """Both say something, and then see what the other one said: what came before has been told by then."""
    # Whoever has given the other one up for a while tries again when that one speaks.
    said = await room.here.say(room.room_id, f"do you hear me, {room.there}?")
    answered = await room.there.say(room.room_id, f"do you hear me, {room.here}?")
    await room.there.sees(room.room_id, said)
    await room.here.sees(room.room_id, answered)


def comparable(event: Json) -> Json:
    """An event without what servers add of their own."""
    wanted = ("event_id", "type", "sender", "state_key", "content", "origin_server_ts", "redacts")
    return {key: event[key] for key in wanted if key in event}


async def same_state(room: SharedRoom) -> None:
    """Both servers have, or come to, the same current state."""
    views: list[dict[tuple[str, str], Json]] = []

    async def agree() -> bool:
        states = await asyncio.gather(room.here.state(room.room_id), room.there.state(room.room_id))
        views[:] = [{(e["type"], e["state_key"]): comparable(e) for e in state} for state in states]
        return views[0] == views[1]

    try:
        await until("both have the same state", agree, PATIENCE)
    except TimeoutError as error:
        keys = sorted(key for key in views[0].keys() | views[1].keys() if views[0].get(key) != views[1].get(key))
        lines = [f"{key}\n    {view.get(key)}" for key in keys for view in views]
        raise AssertionError(f"the states of {room.room_id} differ:\n" + "\n".join(lines)) from error


async def same_history(room: SharedRoom) -> None:
    """Both servers have, or come to, the same events, each once."""
    views: list[dict[str, Json]] = []
    both = (room.here, room.there)

    async def agree() -> bool:
        views.clear()
        for person, events in zip(both, await asyncio.gather(*(p.history(room.room_id) for p in both)), strict=True):
            counts = Counter(event["event_id"] for event in events)
            same([event_id for event_id, count in counts.items() if count > 1], [], f"what {person} pages through twice")
            views.append({e["event_id"]: comparable(e) for e in events if e["event_id"] not in room.without})
        return views[0] == views[1]

    try:
        await until("both have the same history", agree, PATIENCE)
    except TimeoutError as error:
        ids = sorted(i for i in views[0].keys() | views[1].keys() if views[0].get(i) != views[1].get(i))
        lines = [f"{event_id}\n    {view.get(event_id)}" for event_id in ids[:20] for view in views]
        raise AssertionError(f"the histories of {room.room_id} differ in {len(ids)}:\n" + "\n".join(lines)) from error
