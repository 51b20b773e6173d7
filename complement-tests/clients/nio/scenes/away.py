"""A device that was away, while the server restarted too, comes back with its old tokens and gets everything that
it missed, once; those that stayed lose nothing either."""

import asyncio
from dataclasses import dataclass, field

from nio import RoomPreset, ToDeviceMessage

from common.stage import test
from common.waiting import same, until
from lib.device import SYNC_LIMIT, Device
from lib.env import RESTART_COMMAND, has, restart_server
from lib.answers import ok
from lib.world import barrier, everyone, new_group
from scenes.settings import set_account_data

PAGE_SIZE = 15
MOOD = "org.example.mood"
WHISPER = "org.example.whisper"
WHISPERED = [0, 1, 2, 3] if has("to-device") else []
"""The to-device messages of a play, by their numbers."""


@dataclass
class Missed:
    """What alice's phone must find when it's back."""

    signal: str
    busy: str
    quiet: str
    story: list[str] = field(default_factory=list)
    calm: list[str] = field(default_factory=list)
    invitations: list[str] = field(default_factory=list)


async def restart_during_talk(signal: str, talker: Device, room_id: str) -> list[str]:
    """Restarts the server while `talker` goes on talking; returns the ids of all events acknowledged to it."""
    spoken: list[str] = []
    restarted = asyncio.Event()

    async def talk() -> None:
        rest = 3
        while rest:
            spoken.append(await talker.say(room_id, f"{signal} talk {len(spoken)}"))
            if restarted.is_set():
                rest -= 1

    talking = asyncio.create_task(talk())
    await until("the talk has begun", lambda: len(spoken) >= 3)
    await asyncio.wait_for(restart_server(signal), 40)
    restarted.set()
    await asyncio.wait_for(talking, 30)
    return spoken


async def live_on(missed: Missed) -> None:
    """Everything that one can miss happens, with a restart in its middle."""
    alice1, alice2, bob1, bob2 = everyone()
    signal, busy, quiet = missed.signal, missed.busy, missed.quiet

    async def whisper(n: int) -> None:
        if has("to-device"):
            ok(await bob1.client.to_device(ToDeviceMessage(WHISPER, alice2.user_id, alice2.device_id, {"n": n})))

    async def invite(device: Device) -> None:
        created = await device.client.room_create(
            preset=RoomPreset.trusted_private_chat, is_direct=True, invite=[alice2.user_id]
        )
        missed.invitations.append(ok(created).room_id)

    await whisper(0)
    await set_account_data(alice1, MOOD, {"signal": signal, "is": "before"})
    path = f"/_matrix/client/v3/user/{alice1.user_id}/rooms/{quiet}/tags/u.away"
    same(await alice1.request("PUT", path, {"order": 0.5}), (200, {}))
    for n in range(28):
        missed.story.append(await bob1.say(busy, f"before {n}"))
    await whisper(1)
    missed.calm.append(await bob1.say(quiet, "before"))
    await invite(bob1)

    missed.story += await restart_during_talk(signal, bob2, busy)

    for n in range(28):
        missed.story.append(await alice1.say(busy, f"after {n}"))
    await whisper(2)
    missed.calm.append(await bob2.say(quiet, "after"))
    missed.calm.append(await bob1.say(quiet, "long after"))
    ok(await alice1.client.room_put_state(busy, "m.room.name", {"name": f"Renamed after {signal}"}))
    await set_account_data(alice1, MOOD, {"signal": signal, "is": "after"})
    await invite(bob2)
    await bob2.sees(busy, missed.story[-1])
    ok(await bob2.client.update_receipt_marker(busy, missed.story[-1]))
    await whisper(3)


async def fill_gap(device: Device, room_id: str, token: str, known: str) -> list[str]:
    """Pages back until the event that was known before; returns the ids between, oldest first."""
    between: list[str] = []
    for _ in range(20):
        page = ok(await device.client.room_messages(room_id, token, limit=PAGE_SIZE))
        for event in page.chunk:
            if event.event_id == known:
                return between[::-1]
            between.append(event.event_id)
        assert page.end, "history ended before the last event that was known"
        token = page.end
    raise AssertionError("paged back 20 times without reaching the last event that was known")


async def whole_timeline(device: Device, room_id: str) -> list[str]:
    """The ids of all that a device which stayed was told of a room, oldest first.

    Who comes back late after a restart that others talk through gets the newest messages, and pages back for the rest.
    """
    known: list[str] = []
    for part in device.recorder.parts(room_id):
        timeline = part.get("timeline", {})
        if timeline.get("limited") and known:
            known += await fill_gap(device, room_id, timeline["prev_batch"], known[-1])
        known += [event["event_id"] for event in timeline.get("events", [])]
    return known


async def rest_is_there(device: Device, mark: int, missed: Missed) -> None:
    """What isn't a message: state, invitations, to-device messages, account data, tags, receipts, counts."""
    _, _, bob1, bob2 = everyone()
    recorder = device.recorder
    same(device.room(missed.busy).name, f"Renamed after {missed.signal}")
    for room_id in missed.invitations:
        await device.be("invite", room_id)
        same(len(recorder.parts(room_id, mark)), 1, "parts of an invitation")
        same(device.client.invited_rooms[room_id].inviter, bob1.user_id)
    await until("alice's phone has all whispers", lambda: len(recorder.to_device(WHISPER, mark)) >= len(WHISPERED))
    same([content["n"] for content in recorder.to_device(WHISPER, mark)], WHISPERED)
    same(recorder.account_data(MOOD, mark), [{"signal": missed.signal, "is": "after"}])
    same(device.room(missed.quiet).tags, {"u.away": {"order": 0.5}})
    assert (missed.story[-1], "m.read", bob2.user_id, "main") in recorder.receipts(missed.busy)
    # All of it is bob's, with the barrier that he sent after it, and nothing was read since.
    same(device.room(missed.quiet).unread_notifications, len(missed.calm) + 1)


async def come_back(signal: str) -> None:
    alice1, alice2, bob1, bob2 = everyone()
    missed = Missed(signal, busy=await new_group(name="Busy"), quiet=await new_group(name="Quiet"))
    await barrier(alice1, missed.quiet, [alice2])
    known = await barrier(alice1, missed.busy, everyone())
    position = await alice2.stop()
    mark, asked = alice2.recorder.mark(), len(alice2.recorder.asked)

    await live_on(missed)
    story = missed.story
    assert len(story) > 50
    same(len(set(story)), len(story), "numbers of different events and of events")
    await barrier(bob1, missed.quiet, [alice1, bob1, bob2])

    # Those that stayed have it all, in the order of the room, though the server went down under them.
    for device in (alice1, bob1, bob2):
        heard = await whole_timeline(device, missed.busy)
        same([event_id for event_id in heard if event_id in story], story, f"the story for {device.name} and as it was told")
    texts = [event["content"].get("body", "") for event in alice1.recorder.timeline(missed.busy)]
    talk = [text for text in texts if text.startswith(f"{signal} talk")]
    same(len(set(talk)), len(talk), "what was sent again after the restart")

    await alice2.resume()
    same(alice2.recorder.asked[asked], position, "positions")
    back = alice2.recorder.parts(missed.busy, mark)[0]["timeline"]
    same(back["limited"], True)
    assert len(back["events"]) <= SYNC_LIMIT
    between = await fill_gap(alice2, missed.busy, back["prev_batch"], known)
    everything = between + [event["event_id"] for event in back["events"]]
    same(len(set(everything)), len(everything), "gap and newest events together")
    same([event_id for event_id in everything if event_id in story], story)
    same(len([event_id for event_id in everything if event_id not in story]), 1, "the room's new name and")

    calm = alice2.recorder.parts(missed.quiet, mark)[0]["timeline"]
    same(calm.get("limited", False), False)
    same([event["event_id"] for event in calm["events"]][:3], missed.calm)

    await rest_is_there(alice2, mark, missed)
    await barrier(bob1, missed.busy, [alice2])
    await barrier(bob1, missed.quiet, [alice2])
    same(alice2.recorder.repeats(), [], "what came again later")
    same(len(alice2.recorder.to_device(WHISPER, mark)), len(WHISPERED), "whispers")
    for room_id in missed.invitations:
        ok(await alice2.client.room_leave(room_id))


def register(signal: str) -> None:
    skip = None if RESTART_COMMAND else "PARLEY_RESTART isn't set"

    @test(f"a device that was away over a restart by SIG{signal} gets everything that it missed, once", skip)
    async def _() -> None:
        await come_back(signal)


for each in ("TERM", "KILL"):
    register(each)
