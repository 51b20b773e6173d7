"""Typing, receipts and presence."""

from typing import Any

from common.recorder import Json
from common.waiting import until

from lib.person import PATIENCE, Person, path_of
from lib.world import Side, both_ways, open_room


@both_ways("each sees the other one type, and stop")
async def _(side: Side) -> None:
    room = await open_room(side)
    for typist, watcher in ((side.host, side.guest), (side.guest, side.host)):
        path = path_of("rooms", room.room_id, "typing", typist.id)
        for types in (True, False):
            await typist.put(path, {"typing": types} | ({"timeout": 30_000} if types else {}))

            def seen(typist: Person = typist, watcher: Person = watcher, types: bool = types) -> bool:
                told = watcher.recorder.ephemeral(room.room_id, "m.typing")
                return bool(told) and (typist.id in told[-1]["user_ids"]) == types

            await until(f"{watcher} sees that {typist} types: {types}", seen, PATIENCE)


@both_ways("each sees how far the other one has read, also in a thread")
async def _(side: Side) -> None:
    room = await open_room(side)
    room_id = room.room_id
    for reader, writer in ((side.host, side.guest), (side.guest, side.host)):
        root = await writer.say(room_id, "read me")
        await reader.sees(room_id, root)
        answer = await writer.say(room_id, "and me", **{"m.relates_to": {"rel_type": "m.thread", "event_id": root}})
        await reader.sees(room_id, answer)
        for event_id, thread in ((root, "main"), (answer, root)):
            body = {"thread_id": thread}
            await reader.post(path_of("rooms", room_id, "receipt", "m.read", event_id), body)
            wanted = (event_id, "m.read", reader.id, thread)

            def seen(writer: Person = writer, wanted: Any = wanted) -> bool:
                return wanted in writer.recorder.receipts(room_id)

            await until(f"{writer} sees the receipt {wanted}", seen, PATIENCE)
        # Private ones stay at home.
        await reader.post(path_of("rooms", room_id, "receipt", "m.read.private", answer), {})
        told = writer.recorder.receipts(room_id)
        assert not [kind for _, kind, user_id, _ in told if user_id == reader.id and kind != "m.read"]


@both_ways("each sees whether the other one is there, and what they say of it")
async def _(side: Side) -> None:
    await open_room(side)
    for person, watcher in ((side.host, side.guest), (side.guest, side.host)):
        for presence, message in (("online", f"Pouring for {watcher}"), ("unavailable", None), ("offline", None)):
            said: Json = {"presence": presence} | ({"status_msg": message} if message else {})
            await person.put(path_of("presence", person.id, "status"), said)

            def seen(person: Person = person, watcher: Person = watcher, said: Json = said) -> bool:
                told = watcher.recorder.presence(person.id) or {}
                return said.items() <= told.items()

            await until(f"{watcher} sees that {person} is {said}", seen, PATIENCE)
