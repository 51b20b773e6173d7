"""The people of the play: Alice and Bob, two devices each, all four syncing from the first scene to the last."""

import shutil
import tempfile
from secrets import token_hex
from typing import Any

from nio import RoomPreset

from common.waiting import until
from .device import FILTER, LAZY_FILTER, Device, RecordingClient, new_client, running
from .answers import ok

SEASON = token_hex(4)
"""Ends each name, so that the play can be given again on the same server."""

STORES = tempfile.mkdtemp(prefix="parley-nio-")
"""Holds a folder for each device."""

alice1: Device
alice2: Device
bob1: Device
bob2: Device


def localpart(name: str) -> str:
    return f"{name}-nio-{SEASON}"


def password(name: str) -> str:
    return f"{name} likes tea, not {SEASON}"


def anonymous(name: str) -> RecordingClient:
    """A client of this person that isn't logged in."""
    return new_client(localpart(name), tempfile.mkdtemp(dir=STORES))


async def register_interactively(name: str, device_name: str) -> RecordingClient:
    """Registers by looking at the flows first, then completing one of a single dummy stage."""
    client = anonymous(name)
    secret = password(name)
    challenge = ok(await client.register_interactive(localpart(name), secret, {"initial_device_display_name": device_name}))
    assert challenge.session, "the challenge must have a session"
    assert challenge.stages == ["m.login.dummy"], challenge.stages
    ok(await client.register(localpart(name), secret, device_name, challenge.session))
    return client


async def register_at_once(name: str, device_name: str) -> RecordingClient:
    """Registers as nio does by itself: with the dummy stage, without having asked for a session."""
    client = anonymous(name)
    ok(await client.register(localpart(name), password(name), device_name))
    return client


async def login(name: str, device_name: str) -> RecordingClient:
    """Logs in by password."""
    client = anonymous(name)
    ok(await client.login(password(name), device_name))
    return client


async def begin() -> None:
    global alice1, alice2, bob1, bob2
    alice1 = Device("alice1", await register_interactively("alice", "Alice's desk"))
    bob1 = Device("bob1", await register_at_once("bob", "Bob's desk"))
    alice2 = Device("alice2", await login("alice", "Alice's phone"))
    bob2 = Device("bob2", await login("bob", "Bob's phone"))
    # The play has inline and uploaded filters, and devices that load members lazily.
    uploaded = ok(await alice2.client.upload_filter(room=LAZY_FILTER["room"])).filter_id
    await alice1.start(FILTER)
    await alice2.start(uploaded)
    await bob1.start(FILTER)
    await bob2.start(LAZY_FILTER)


async def end() -> None:
    for device in list(running):
        await device.stop()
    shutil.rmtree(STORES, ignore_errors=True)


def everyone() -> list[Device]:
    return [alice1, alice2, bob1, bob2]


async def new_group(**options: Any) -> str:
    """A private room with both people in it, known to all four devices; returns its id."""
    created = ok(await alice1.client.room_create(preset=RoomPreset.private_chat, invite=[bob1.user_id], **options))
    room_id = created.room_id
    await bob1.be("invite", room_id)
    ok(await bob1.client.join(room_id))
    for device in everyone():
        await device.be("join", room_id)
    for device in (alice1, alice2):
        await until(f"{device.name} sees bob join", lambda device=device: joined(device, room_id, bob1.user_id))
    return room_id


def joined(device: Device, room_id: str, user_id: str) -> bool:
    """Whether, to this device's knowledge, this person is in the room."""
    room = device.client.rooms.get(room_id)
    return room is not None and user_id in room.users and not room.users[user_id].invited


async def barrier(sender: Device, room_id: str, devices: list[Device]) -> str:
    """Sends one more message and waits until `devices` have it: what was sent before and isn't there now
    wasn't delivered. Returns its event id."""
    event_id = await sender.say(room_id, "barrier")
    for device in devices:
        await device.sees(room_id, event_id)
    return event_id
