"""The line between the servers is cut, and both go on without the other one."""

from collections.abc import AsyncGenerator

from common.waiting import same

from lib.world import SharedRoom, Side, enter, give_power, open_room, same_history, same_state, talk_to_each_other, while_apart

Scene = AsyncGenerator[None, None]
"""Where it yields, the line is cut, and where it yields again, the line is whole once more."""


async def agree(room: SharedRoom) -> None:
    await talk_to_each_other(room)
    await same_state(room)
    await same_history(room)


@while_apart("both write and set the same state while they are apart, and agree when they meet again")
async def _(side: Side, version: str) -> Scene:
    host, guest, friend = side.host, side.guest, side.friend
    room = await open_room(side, version)
    room_id = room.room_id
    await enter(side, friend, room_id)
    await give_power(side, room_id, {guest: 50})
    yield
    for n in range(5):
        await host.say(room_id, f"host {n}")
        await guest.say(room_id, f"guest {n}")
        await host.set(room_id, "m.room.topic", {"topic": f"of the host, {n}"})
        await guest.set(room_id, "m.room.topic", {"topic": f"of the guest, {n}"})
    await guest.set(room_id, "m.room.name", {"name": "of the guest"})
    await host.set(room_id, "m.room.avatar", {"url": "mxc://of.the/host"})
    await friend.act("leave", room_id)
    yield
    await agree(room)
    same(await host.read(room_id, "m.room.name"), {"name": "of the guest"})
    same(await guest.read(room_id, "m.room.avatar"), {"url": "mxc://of.the/host"})
    await host.finds(room_id, friend, "leave")


@while_apart("who lost their level while they were apart has set nothing")
async def _(side: Side, version: str) -> Scene:
    host, guest = side.host, side.guest
    room = await open_room(side, version)
    room_id = room.room_id
    await give_power(side, room_id, {guest: 50})
    await guest.sees(room_id, await host.set(room_id, "m.room.topic", {"topic": "before"}))
    yield
    levels = await host.read(room_id, "m.room.power_levels") or {}
    levels["users"].pop(guest.id)
    await host.set(room_id, "m.room.power_levels", levels)
    room.without.add(await guest.set(room_id, "m.room.topic", {"topic": "of the guest"}))
    await guest.say(room_id, "apart")
    yield
    await agree(room)
    same(await host.read(room_id, "m.room.topic"), {"topic": "before"})


@while_apart("who was banned while they were apart is out, and what they said meanwhile isn't shown")
async def _(side: Side, version: str) -> Scene:
    host, guest, friend = side.host, side.guest, side.friend
    room = await open_room(side, version)
    room_id = room.room_id
    await enter(side, friend, room_id)
    await guest.finds(room_id, friend, "join")
    yield
    await host.act("ban", room_id, friend, reason="apart")
    for n in range(3):
        room.without.add(await friend.say(room_id, f"unheard {n}"))
    await host.say(room_id, "without the friend")
    await guest.say(room_id, "heard")
    yield
    await agree(room)
    await friend.is_("ban", room_id)
    assert not room.without & set(host.recorder.ids(room_id)), "what somebody who is banned said is shown"


@while_apart("one shuts a room's door while the other one arranges it, and they agree on it", ["12"])
async def _(side: Side, version: str) -> Scene:
    host, guest = side.host, side.guest
    room = await open_room(side, version)
    room_id = room.room_id
    await enter(side, side.friend, room_id)
    await give_power(side, room_id, {guest: 50, side.friend: 50})
    yield
    await host.act("kick", room_id, side.friend)
    room.without.add(await side.friend.set(room_id, "m.room.name", {"name": "of the friend"}))
    await guest.set(room_id, "m.room.topic", {"topic": "of the guest"})
    await host.set(room_id, "m.room.join_rules", {"join_rule": "invite"})
    yield
    await agree(room)
    await host.finds(room_id, side.friend, "leave")


@while_apart("they part and meet many times", ["11"])
async def _(side: Side, version: str) -> Scene:
    host, guest = side.host, side.guest
    room = await open_room(side, version)
    await give_power(side, room.room_id, {guest: 50})
    for meeting in range(3):
        yield
        for person in (host, guest):
            await person.say(room.room_id, f"apart {meeting}")
            await person.set(room.room_id, "m.room.topic", {"topic": f"{person} {meeting}"})
        yield
        await talk_to_each_other(room)
    await agree(room)
