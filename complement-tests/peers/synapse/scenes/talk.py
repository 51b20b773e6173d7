"""What people say, and take back."""

import asyncio

from common.waiting import same, until

from lib.person import path_of
from lib.world import Side, both_ways, in_each_version, open_room, refused, same_history, same_state


@in_each_version("texts are edited, answered and redacted by either")
async def _(side: Side, version: str) -> None:
    host, guest = side.host, side.guest
    room = await open_room(side, version)
    room_id = room.room_id
    for speaker, hearer in ((host, guest), (guest, host)):
        said = await speaker.say(room_id, "Good mornign")
        await hearer.sees(room_id, said)
        new = {"msgtype": "m.text", "body": "Good morning"}
        relation = {"rel_type": "m.replace", "event_id": said}
        edit = await speaker.say(room_id, "* Good morning", **{"m.new_content": new, "m.relates_to": relation})
        await hearer.sees(room_id, edit)
        liked = {"m.relates_to": {"rel_type": "m.annotation", "event_id": said, "key": "🍵"}}
        reaction = await hearer.send(room_id, "m.reaction", liked)
        await speaker.sees(room_id, reaction)
        threaded = {"m.relates_to": {"rel_type": "m.thread", "event_id": said}}
        await speaker.sees(room_id, await hearer.say(room_id, "in a thread", **threaded))

        unwanted = await speaker.say(room_id, "what I never meant to say")
        await hearer.sees(room_id, unwanted)
        taken_back = await speaker.redact(room_id, unwanted, "regret")
        told = await hearer.sees(room_id, taken_back)
        same(told["content"].get("redacts", told.get("redacts")), unwanted)

        async def is_gone(hearer=hearer, unwanted=unwanted) -> bool:
            event = await hearer.get(path_of("rooms", room_id, "event", unwanted))
            return event["content"] == {}

        await until(f"{hearer} no longer reads what was taken back", is_gone)
    await same_history(room)


@both_ways("whoever has the level redacts what others said, and who hasn't doesn't")
async def _(side: Side) -> None:
    host, guest = side.host, side.guest
    room = await open_room(side)
    said = await host.say(room.room_id, "mine")
    await guest.sees(room.room_id, said)
    await refused(guest.redact(room.room_id, said, "envy"), 403, "M_FORBIDDEN")
    said = await guest.say(room.room_id, "rude")
    await host.sees(room.room_id, said)
    await guest.sees(room.room_id, await host.redact(room.room_id, said, "be polite"))
    await same_history(room)


@in_each_version("power is given and taken, and each server holds to it")
async def _(side: Side, version: str) -> None:
    host, guest = side.host, side.guest
    room = await open_room(side, version)
    room_id = room.room_id
    await refused(guest.set(room_id, "m.room.topic", {"topic": "mine"}), 403, "M_FORBIDDEN")
    levels = await host.read(room_id, "m.room.power_levels") or {}

    raised = levels | {"users": levels.get("users", {}) | {guest.id: 50}}
    await guest.sees(room_id, await host.set(room_id, "m.room.power_levels", raised))
    await host.sees(room_id, await guest.set(room_id, "m.room.topic", {"topic": "Biscuits"}))
    await refused(guest.set(room_id, "m.room.power_levels", levels | {"users_default": 100}), 403, "M_FORBIDDEN")

    await guest.sees(room_id, await host.set(room_id, "m.room.power_levels", levels))
    await refused(guest.set(room_id, "m.room.topic", {"topic": "Cake"}), 403, "M_FORBIDDEN")
    await same_state(room)
    same(await guest.read(room_id, "m.room.topic"), {"topic": "Biscuits"})


@both_ways("both write as fast as they can, and nothing is lost or told twice")
async def _(side: Side) -> None:
    room = await open_room(side)

    async def speak(person, count: int) -> list[str]:
        return [await person.say(room.room_id, f"{person} {n}") for n in range(count)]

    told = await asyncio.gather(speak(side.host, 40), speak(side.guest, 40))
    for event_id in told[0] + told[1]:
        for person in (side.host, side.guest):
            await person.sees(room.room_id, event_id)
    await same_history(room)
